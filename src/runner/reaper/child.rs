//! The reaper's own process.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::NAME;
use super::wire::{Order, Report, Task, send_started};
use crate::host::HostRoots;
use crate::host::cgroup::Cgroup;
use crate::host::processes::{Family, descendants};
use crate::model::observation::CgroupVersion;
use crate::runner::run_cgroup::try_to_destroy;
use crate::runner::spawn::{Failure, Spawned, spawn};

/// How long to retry if a cgroup stays busy although nothing is left that may be killed.
const LONGEST_CLEANUP: Duration = Duration::from_secs(60);

/// The first pause between two attempts to clean up after a killed highwater; each further one is twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Turns this process into a reaper, until highwater dismisses it or is gone.
pub(super) fn run(line: UnixStream) {
    // SAFETY: takes numbers and a static string.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
    }
    // It must not hold files of highwater, such as the lock of a sweep or the connection to another reaper.
    close_files(|file| file != line.as_raw_fd() && is_own(file));
    let mut reaper = ReaperProcess { line, task: None };
    if reaper.listen().is_err() {
        reaper.end_everything();
    }
}

struct ReaperProcess {
    line: UnixStream,
    task: Option<(Option<Cgroup>, Children)>,
}

impl ReaperProcess {
    /// Serves orders until dismissed; an error means that the connection, and so highwater, is gone.
    fn listen(&mut self) -> io::Result<()> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        loop {
            let mut files = [self.line.as_fd(), signals.as_fd()].map(|file| PollFd::new(file, PollFlags::POLLIN));
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [is_asked, has_ended] = files.map(|file| file.any().unwrap_or(false));
            if has_ended {
                while let Ok(Some(_)) = signals.read_signal() {}
                self.take()?;
            }
            if !is_asked {
                continue;
            }
            let order = match Order::receive(&self.line) {
                // The files received for the task are closed with this process.
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                    return send_started(&self.line, Err(Failure::from(Errno::EMFILE)));
                }
                order => order?,
            };
            match order {
                Order::Start(task) => self.start(task)?,
                Order::Report => {
                    self.take()?;
                    let report = self.task.as_ref().map(|(_, children)| children.report.clone()).unwrap_or_default();
                    Report { is_answer: true, ..report }.send(&self.line)?;
                }
                Order::End => return Ok(()),
            }
        }
    }

    fn start(&mut self, mut task: Task) -> io::Result<()> {
        self.task = None;
        match spawn(&task.setup()) {
            Ok(spawned) => {
                let own = task.own.take();
                let children = Children::new(&spawned, own.as_ref());
                self.task = Some((own, children));
                send_started(&self.line, Ok(spawned.pidfd.as_fd()))
            }
            Err(failure) => send_started(&self.line, Err(failure)),
        }
    }

    /// Waits for every child that has ended; reports it if one was the first process of the task.
    fn take(&mut self) -> io::Result<()> {
        let Some((_, children)) = &mut self.task else { return Ok(()) };
        let was_running = children.report.first.is_none();
        children.take();
        if was_running && children.report.first.is_some() { children.report.send(&self.line) } else { Ok(()) }
    }

    /// Kills the remaining processes of the task and removes its cgroup. A process in an uninterruptible wait dies when
    /// the wait ends, however long that takes.
    fn end_everything(&self) {
        // A reader of what was highwater's stdout must not wait for this process.
        close_files(|file| file != self.line.as_raw_fd());
        // SAFETY: takes a static string.
        unsafe { libc::chdir(c"/".as_ptr()) };
        let roots = HostRoots::default();
        let own = self.task.as_ref().and_then(|(own, _)| own.as_ref());
        let me = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let mut pause = FIRST_PAUSE;
        let begun = Instant::now();
        loop {
            let is_removed = own.is_none_or(try_to_destroy);
            let Family { mut task, .. } = Family::new(descendants(&roots, me).unwrap_or_default());
            // A process of another user, such as a set-user-ID program, runs on for as long as it likes.
            task.retain(|process| kill(Pid::from_raw(process.identity.pid), Signal::SIGKILL).is_ok());
            while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG))
                && status.pid().is_some()
            {}
            if task.is_empty() && (is_removed || begun.elapsed() > LONGEST_CLEANUP) {
                return;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The children of a reaper: the first process of the task, and its orphans.
struct Children {
    first: i32,
    /// Page faults of the first process before it executed its program.
    faults_before: u64,
    /// The prefix of the memory controller's line in `/proc/PID/cgroup` inside the run's cgroup (v2).
    own: Option<String>,
    report: Report,
}

impl Children {
    fn new(first: &Spawned, own: Option<&Cgroup>) -> Self {
        let own = own.filter(|own| own.version() == CgroupVersion::V2).map(|own| own.name_in_proc());
        Self { first: first.pid, faults_before: first.faults, own, report: Report::default() }
    }

    /// Waits for every child that has ended.
    fn take(&mut self) {
        while let Some(pid) = ended_child() {
            self.look_at(pid);
            let mut status = 0;
            // SAFETY: a rusage is numbers only, for which zero is valid.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers refer to variables of the right type that outlive the call.
            if unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } != pid {
                break;
            }
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            let time = |time: libc::timeval| count(time.tv_sec) * 1_000_000 + count(time.tv_usec);
            let before = if pid == self.first { self.faults_before } else { 0 };
            self.report.faults += (count(usage.ru_minflt) + count(usage.ru_majflt)).saturating_sub(before);
            self.report.largest_rss = self.report.largest_rss.max(count(usage.ru_maxrss) * 1024);
            if pid == self.first {
                self.report.first = Some((status, time(usage.ru_utime), time(usage.ru_stime)));
            }
        }
        // Orphans become our children, so if there is no child, no process of the task is left.
        // SAFETY: only asks whether there is a child; no memory is involved.
        let any = unsafe {
            libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
        };
        self.report.has_more = any == 0;
    }

    /// Reads the cgroup of a process that has ended, before it is waited for.
    fn look_at(&mut self, pid: i32) {
        let (Some(own), None) = (&self.own, &self.report.ended_in) else { return };
        let mut text = [0; 4096];
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let Ok(length) = File::open(path).and_then(|mut file| file.read(&mut text)) else { return };
        let text = String::from_utf8_lossy(&text[..length]);
        let Some(cgroup) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return };
        let is_within =
            cgroup.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ' ']));
        if !is_within {
            self.report.ended_in = Some(cgroup.to_owned());
        }
    }
}

/// A child that has ended and was not waited for.
fn ended_child() -> Option<i32> {
    // SAFETY: a siginfo is numbers, for which zero is valid; the call only writes to it.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        (libc::waitid(libc::P_ALL, 0, &raw mut info, options) == 0 && info.si_pid() != 0).then(|| info.si_pid())
    }
}

/// Whether a file is closed on exec.
fn is_own(file: RawFd) -> bool {
    // SAFETY: asks about a number.
    let flags = unsafe { libc::fcntl(file, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC != 0
}

/// Closes the open files that match.
fn close_files(is_to_go: impl Fn(RawFd) -> bool) {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let files: Vec<RawFd> = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for file in files.into_iter().filter(|file| is_to_go(*file)) {
        // SAFETY: nothing in this process uses the file any more.
        unsafe { libc::close(file) };
    }
}
