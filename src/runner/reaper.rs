//! A process between highwater and the task: it is the parent of the task's first process and, as child subreaper, of
//! every process of the task whose own parent has ended.
//!
//! That gives each run three things, also beside other runs of the same highwater. All processes of the task can be found
//! and waited for, whatever session or cgroup they are in. Their page faults add up to what the run's cgroup must have
//! counted, which shows whether one of them was elsewhere. And should highwater be killed, the reaper ends the task and
//! removes its cgroup.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::own_cgroup::try_to_destroy;
use super::spawn::{Failure, Image, Join, SpawnError, Spawned, Stdio, spawn};
use super::{End, StartError};
use crate::host::HostRoots;
use crate::host::cgroup::Cgroup;
use crate::host::processes::{Family, descendants};
use crate::model::observation::{CgroupVersion, Cpu, CpuSource};
use crate::model::units::Bytes;

/// How long the reaper may take to answer. It does nothing that waits, but may have to wait for a CPU.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks whether highwater is to end while a task is being started.
const STARTING_PAUSE: Duration = Duration::from_millis(200);

/// How long a program that ends waits for processes that are about to end.
const LONGEST_RETIREMENT: Duration = Duration::from_millis(500);

/// How long a cgroup may stay busy although nothing is left that may be killed.
const LONGEST_CLEANUP: Duration = Duration::from_secs(60);

/// The first pause between two attempts to end what a killed highwater has left; each further one is twice as long,
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The name of the process. Not one that begins with that of highwater: whoever kills all highwaters by their name leaves
/// the reapers to clean up.
const NAME: &CStr = c"hw-reaper";

/// What highwater asks of the reaper, a byte each. The end of the stream means that highwater is gone.
mod order {
    /// Begin to wait for processes: highwater has a descriptor of the first one.
    pub(super) const BEGIN: u8 = b'b';
    /// Report.
    pub(super) const REPORT: u8 = b'r';
    /// End.
    pub(super) const END: u8 = b'.';
}

/// The first byte of what the reaper says after it has tried to start the task.
mod answer {
    pub(super) const STARTED: u8 = 1;
    pub(super) const FAILED: u8 = 0;
}

/// The parent of a run's processes. Dropping it dismisses it; what is left of the task then is no longer its business.
#[derive(Debug)]
pub(super) struct Reaper {
    /// Its process number.
    pub(super) pid: i32,
    /// Closed by the kernel, should highwater be killed: that is what the reaper listens for.
    line: UnixStream,
    /// Whether it is to stay until the processes that survived SIGKILL are gone, and to remove the cgroup then.
    stays: bool,
}

/// What the reaper has seen of a run so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reaped {
    /// How the task's first process ended, and its time on CPUs with that of the descendants it waited for.
    pub(super) first: Option<(End, Cpu)>,
    /// Whether processes of the task are still running.
    pub(super) has_more: bool,
    /// Page faults of all processes that have ended (`ru_minflt` and `ru_majflt` of `wait4(2)`). Those of a process whose
    /// parent ignores SIGCHLD are lost.
    pub(super) faults: u64,
    /// The largest resident set of one process (`ru_maxrss`). Linux carries it over fork and exec.
    pub(super) largest_rss: Bytes,
    /// The cgroup that a process ended in, if not in the run's own. Only v2 tells: on v1 an ended process is shown in
    /// the root cgroup.
    pub(super) ended_in: Option<String>,
}

/// A task that has been started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) reaper: Reaper,
    /// Readable once its first process has ended.
    pub(super) pidfd: OwnedFd,
}

impl Reaper {
    /// Forks a reaper, which starts the task. `own` is the run's cgroup, if it has one.
    pub(super) fn start(
        image: &Image,
        stdio: &Stdio,
        join: Join<'_>,
        own: Option<&Cgroup>,
    ) -> Result<Started, SpawnError> {
        let failed = |action| move |source| StartError::System { action, source };
        collect_retired();
        // Should the reaper be killed, the orphans of the task come to this process.
        // SAFETY: takes numbers and no pointer.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        let (line, other_end) = UnixStream::pair().map_err(failed("make a socket"))?;
        let mut before = SigSet::empty();
        // None of our handlers may run in the reaper, and nothing sent to our process group may end it.
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))
            .map_err(|errno| failed("block signals")(errno.into()))?;
        // SAFETY: the C library makes its allocator usable in the child of a fork; the child takes no other lock, and
        // leaves by `_exit` alone.
        let pid = match unsafe { libc::fork() } {
            0 => {
                drop(line);
                let duty = Duty { line: other_end, own };
                // A panic must not lead back into what the parent does.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| duty.serve(image, stdio, join)));
                leave()
            }
            pid => pid,
        };
        let error = io::Error::last_os_error();
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        if pid < 0 {
            return Err(failed("make a process")(error).into());
        }
        drop(other_end);
        let mut reaper = Self { pid, line, stays: false };
        reaper.wait_for_start().map_err(failed("start the task"))?;
        let mut word = [0; 1 + Failure::LENGTH];
        reaper.line.read_exact(&mut word).map_err(failed("start the task: its parent process has ended"))?;
        let [answer, rest @ ..] = word;
        if answer == answer::FAILED {
            return Err(Failure::decode(rest).explain(image));
        }
        let [a, b, c, d, _] = rest;
        let pid = i32::from_ne_bytes([a, b, c, d]);
        // The reaper waits for nobody before it is told to, so that the number is still that of the task.
        let pidfd = open_pidfd(pid).map_err(failed("open a descriptor of the new process"))?;
        reaper.line.write_all(&[order::BEGIN]).map_err(failed("start the task: its parent process has ended"))?;
        let _ = reaper.line.set_read_timeout(Some(ANSWER_TIMEOUT));
        Ok(Started { reaper, pidfd })
    }

    /// Waits until the task has been started, or could not be. Its program may lie on a file server that does not answer.
    fn wait_for_start(&self) -> io::Result<()> {
        loop {
            let mut files = [PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
            let pause = PollTimeout::try_from(STARTING_PAUSE).unwrap_or(PollTimeout::MAX);
            match poll(&mut files, pause) {
                Ok(0) if is_to_end() => {
                    let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
                    return Err(io::Error::new(
                        io::ErrorKind::Interrupted,
                        "interrupted before its program was loaded",
                    ));
                }
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// What it has seen so far.
    ///
    /// # Errors
    /// Where it does not answer: it was killed, or stopped.
    pub(super) fn report(&mut self) -> io::Result<Reaped> {
        self.line.write_all(&[order::REPORT])?;
        let mut numbers = [0; Numbers::LENGTH];
        let is_late = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        match self.line.read_exact(&mut numbers) {
            // A task can stop its parent; and this machine may be very busy.
            Err(error) if is_late(&error) => {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGCONT);
                self.line.read_exact(&mut numbers)?;
            }
            result => result?,
        }
        let numbers = Numbers::decode(&numbers);
        let mut ended_in = vec![0; numbers.ended_in_length];
        self.line.read_exact(&mut ended_in)?;
        Ok(Reaped {
            first: numbers.first.map(|(status, user_us, system_us)| {
                (end(status), Cpu { user_us, system_us, source: CpuSource::Rusage })
            }),
            has_more: numbers.has_more,
            faults: numbers.faults,
            largest_rss: Bytes(numbers.largest_rss),
            ended_in: (!ended_in.is_empty()).then(|| String::from_utf8_lossy(&ended_in).into_owned()),
        })
    }

    /// Has it stay until the processes that survived SIGKILL are gone; it removes the cgroup then.
    pub(super) fn stay(&mut self) {
        self.stays = true;
    }
}

/// Kills the processes of a task whose reaper was killed: what has come to this process since the run was started (in ticks
/// since the machine was) and is not below another reaper.
pub(super) fn kill_orphans(roots: &HostRoots, started: u64) {
    let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let mut orphans = HashSet::new();
    for process in descendants(roots, own).unwrap_or_default() {
        let is_orphan =
            process.parent == own && process.identity.started >= started && process.name.as_bytes() != NAME.to_bytes();
        if is_orphan || orphans.contains(&process.parent) {
            orphans.insert(process.identity.pid);
            let _ = kill(Pid::from_raw(process.identity.pid), Signal::SIGKILL);
            let _ = waitpid(Pid::from_raw(process.identity.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if self.stays {
            // It hears the end of the stream, as if highwater had been killed.
            let _ = self.line.shutdown(std::net::Shutdown::Both);
        } else {
            let _ = self.line.write_all(&[order::END]);
            retire(self.pid);
        }
    }
}

/// Whether a signal to end is waiting to be taken.
fn is_to_end() -> bool {
    // SAFETY: a set of signals is bits, for which zero is valid; the calls only write to it and read it.
    unsafe {
        let mut pending: libc::sigset_t = std::mem::zeroed();
        let ending = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
        libc::sigpending(&raw mut pending) == 0
            && ending.iter().any(|signal| libc::sigismember(&raw const pending, *signal) == 1)
    }
}

/// Waits a moment for the processes that have watched over earlier runs and are about to end: for a program that is about
/// to end itself, so that they do not outlive it.
pub fn wait_for_retired() {
    let deadline = Instant::now() + LONGEST_RETIREMENT;
    loop {
        collect_retired();
        let is_empty = RETIRED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty();
        if is_empty || Instant::now() > deadline {
            return;
        }
        thread::sleep(Duration::from_micros(100));
    }
}

/// Reapers that have been dismissed and not yet waited for: their end takes longer than there is time to wait.
static RETIRED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn retire(pid: i32) {
    RETIRED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(pid);
    collect_retired();
}

fn collect_retired() {
    let mut retired = RETIRED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    retired.retain(|pid| {
        matches!(waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG)), Ok(nix::sys::wait::WaitStatus::StillAlive))
    });
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let pidfd = i32::try_from(pidfd).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
    if pidfd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, with O_CLOEXEC, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

fn end(status: i32) -> End {
    if libc::WIFSIGNALED(status) {
        End::Signalled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

/// The numbers of a report, as they go over the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    /// Wait status, and microseconds on CPUs in user and in kernel mode.
    first: Option<(i32, u64, u64)>,
    has_more: bool,
    faults: u64,
    /// Bytes.
    largest_rss: u64,
    ended_in_length: usize,
}

impl Numbers {
    const LENGTH: usize = size_of::<[u64; 8]>();

    fn encode(&self) -> [u8; Self::LENGTH] {
        let (status, user, system) = self.first.unwrap_or_default();
        let words = [
            u64::from(self.first.is_some()),
            u64::from(status.cast_unsigned()),
            user,
            system,
            u64::from(self.has_more),
            self.faults,
            self.largest_rss,
            self.ended_in_length as u64,
        ];
        let mut bytes = [0; Self::LENGTH];
        for (into, word) in bytes.chunks_exact_mut(size_of::<u64>()).zip(words) {
            into.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(size_of::<u64>())) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        let [ended, status, user, system, has_more, faults, largest_rss, ended_in_length] = words;
        Self {
            first: (ended != 0).then_some(((status as u32).cast_signed(), user, system)),
            has_more: has_more != 0,
            faults,
            largest_rss,
            ended_in_length: ended_in_length as usize,
        }
    }
}

/// The life of the reaper, in the forked process.
struct Duty<'a> {
    line: UnixStream,
    own: Option<&'a Cgroup>,
}

impl Duty<'_> {
    fn serve(mut self, image: &Image, stdio: &Stdio, join: Join<'_>) {
        // SAFETY: takes numbers and a text that is valid for ever.
        unsafe {
            libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_NAME, NAME.as_ptr(), 0, 0, 0);
        }
        let mut word = [answer::FAILED; 1 + Failure::LENGTH];
        let first = match spawn(image, stdio, join) {
            Ok(spawned) => {
                word[0] = answer::STARTED;
                word[1..5].copy_from_slice(&spawned.pid.to_ne_bytes());
                spawned
            }
            Err(failure) => {
                word[1..].copy_from_slice(&failure.encode());
                let _ = self.line.write_all(&word);
                return;
            }
        };
        if self.line.write_all(&word).is_ok() {
            detach(&self.line);
            let mut seen = Seen::new(&first, self.own);
            if self.listen(&mut seen).is_ok() {
                return;
            }
        }
        self.end_everything();
    }

    /// Answers until it is dismissed; an error is the end of the line, and of highwater.
    fn listen(&mut self, seen: &mut Seen) -> io::Result<()> {
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let mut has_begun = false;
        loop {
            let mut files = [
                PollFd::new(self.line.as_fd(), PollFlags::POLLIN),
                PollFd::new(signals.as_fd(), if has_begun { PollFlags::POLLIN } else { PollFlags::empty() }),
            ];
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [asked, ended] = files.map(|file| file.any().unwrap_or(false));
            if has_begun && ended {
                while let Ok(Some(_)) = signals.read_signal() {}
                seen.take();
            }
            if !asked {
                continue;
            }
            let mut word = [0];
            self.line.read_exact(&mut word)?;
            match word[0] {
                order::BEGIN => {
                    has_begun = true;
                    seen.take();
                }
                order::REPORT => {
                    seen.take();
                    self.line.write_all(&seen.numbers.encode())?;
                    self.line.write_all(seen.ended_in.as_deref().unwrap_or_default().as_bytes())?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// Ends what there still is of the task and removes its cgroup. A process in an uninterruptible wait dies when that
    /// ends, however long that takes.
    fn end_everything(&self) {
        let roots = HostRoots::default();
        let me = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let mut pause = FIRST_PAUSE;
        let begun = Instant::now();
        loop {
            let is_removed = self.own.is_none_or(try_to_destroy);
            let Family { mut task, .. } = Family::new(descendants(&roots, me).unwrap_or_default());
            // One of another user's, as of a set-user-ID program, goes on for as long as it likes.
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

/// What has been seen of the children.
struct Seen {
    first: i32,
    /// Page faults of the first process that were not those of its program.
    faults_before: u64,
    /// What the line for the memory controller in `/proc/PID/cgroup` begins with inside of the run's cgroup (v2).
    own: Option<String>,
    numbers: Numbers,
    ended_in: Option<String>,
}

impl Seen {
    fn new(first: &Spawned, own: Option<&Cgroup>) -> Self {
        let own = own.filter(|own| own.version() == CgroupVersion::V2).map(|own| own.name_in_proc());
        Self { first: first.pid, faults_before: first.faults, own, numbers: Numbers::default(), ended_in: None }
    }

    /// Waits for every child that has ended.
    fn take(&mut self) {
        while let Some(pid) = ended_child() {
            self.look_at(pid);
            let mut status = 0;
            // SAFETY: a rusage is numbers only, for which zero is valid.
            let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
            // SAFETY: both pointers lead to variables of the right type that outlive the call.
            if unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } != pid {
                break;
            }
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            let time = |time: libc::timeval| count(time.tv_sec) * 1_000_000 + count(time.tv_usec);
            let before = if pid == self.first { self.faults_before } else { 0 };
            self.numbers.faults += (count(usage.ru_minflt) + count(usage.ru_majflt)).saturating_sub(before);
            self.numbers.largest_rss = self.numbers.largest_rss.max(count(usage.ru_maxrss) * 1024);
            if pid == self.first {
                self.numbers.first = Some((status, time(usage.ru_utime), time(usage.ru_stime)));
            }
        }
        // Whoever lost its parent is our child, so that where we have none there is no process of the task.
        // SAFETY: asks only whether there is a child; no memory is involved.
        let any = unsafe {
            libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
        };
        self.numbers.has_more = any == 0;
    }

    /// Looks where a process was when it ended, before it is waited for.
    fn look_at(&mut self, pid: i32) {
        let (Some(own), None) = (&self.own, &self.ended_in) else { return };
        let mut text = [0; 4096];
        let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
        let Ok(length) = File::open(path).and_then(|mut file| file.read(&mut text)) else { return };
        let text = String::from_utf8_lossy(&text[..length]);
        let Some(place) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return };
        let is_within =
            place.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ' ']));
        if !is_within {
            self.numbers.ended_in_length = place.len();
            self.ended_in = Some(place.to_owned());
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

fn leave() -> ! {
    // SAFETY: ends this process; nothing of the parent's is flushed or dropped twice.
    unsafe { libc::_exit(0) }
}

/// The descriptors of this process.
fn open_files() -> Vec<i32> {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Leaves the terminal with its process group, and lets go of everybody's files: a reader at the other end of
/// highwater's stdout must not wait for the reaper. The task has been started, and stays where highwater is.
fn detach(line: &UnixStream) {
    let line = line.as_raw_fd();
    // SAFETY: system calls on numbers; the files that are closed are not used by this process any more.
    unsafe {
        libc::setsid();
        for file in 0..line {
            libc::close(file);
        }
        if libc::syscall(libc::SYS_close_range, line + 1, u32::MAX, 0) != 0 {
            // Before Linux 5.9, or where a filter of system calls does not know it.
            for file in open_files().into_iter().filter(|file| *file > line) {
                libc::close(file);
            }
        }
        libc::chdir(c"/".as_ptr());
    }
}
