//! A process between highwater and the task: it is the parent of the task's first process and, as child subreaper, of
//! every process of the task whose own parent has ended.
//!
//! That has three benefits, also beside other runs of the same highwater: All processes of the task can be found and
//! waited for, in whatever session or cgroup they are. Their page faults add up to what the run's cgroup must have
//! counted, which shows whether one of them was elsewhere. And if highwater is killed, the reaper ends the task and
//! removes its cgroup.
//!
//! A reaper whose run has left nothing behind is kept for the next one.

mod child;
mod wire;

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub(super) use self::wire::Request;
use self::wire::{Report, order, receive_started, send_order, send_start};
use super::patience::Patience;
use super::spawn::SpawnError;
use super::{End, StartError};
use crate::host::HostRoots;
use crate::host::processes::descendants;
use crate::model::observation::{Cpu, CpuSource};
use crate::model::units::Bytes;

/// How long the reaper may take to answer. It never blocks, but may have to wait for a CPU.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval at which to check whether highwater was asked to stop while a task is being started.
const STARTING_PAUSE: Duration = Duration::from_millis(200);

/// How long an exiting program waits for processes that are about to end.
const LONGEST_RETIREMENT: Duration = Duration::from_millis(500);

/// The name of the process. It does not begin with that of highwater, so that killing all highwater processes by name
/// leaves the reapers to clean up.
pub(super) const NAME: &CStr = c"hw-reaper";

/// The parent of a run's processes. Dropping it keeps it for another run, or dismisses it; it does not clean up after
/// the task then.
#[derive(Debug)]
pub(super) struct Reaper {
    /// Its process number.
    pub(super) pid: i32,
    /// Closed by the kernel if highwater is killed, which the reaper notices.
    line: Arc<UnixStream>,
    state: State,
}

/// A reaper without a run.
#[derive(Debug)]
struct Idle {
    pid: i32,
    line: Arc<UnixStream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has no children.
    Idle,
    Busy,
    /// It stays until the survivors of SIGKILL are gone, and then removes the cgroup.
    Stays,
}

/// What the reaper has recorded of a run so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reaped {
    /// How the task's first process ended, and its CPU time including that of the descendants it waited for.
    pub(super) first: Option<(End, Cpu)>,
    /// Whether processes of the task are still running.
    pub(super) has_more: bool,
    /// Page faults of all processes that have ended (`ru_minflt` and `ru_majflt` of `wait4(2)`). Those of a process
    /// whose parent ignores SIGCHLD are lost.
    pub(super) faults: u64,
    /// The largest resident set of one process (`ru_maxrss`). Linux carries it over fork and exec.
    pub(super) largest_rss: Bytes,
    /// The cgroup that a process ended in, if not the run's own. Only on v2: v1 shows an ended process in the root
    /// cgroup.
    pub(super) ended_in: Option<String>,
}

impl From<Report> for Reaped {
    fn from(report: Report) -> Self {
        let first = report
            .first
            .map(|(status, user_us, system_us)| (end(status), Cpu { user_us, system_us, source: CpuSource::Rusage }));
        Self {
            first,
            has_more: report.has_more,
            faults: report.faults,
            largest_rss: Bytes(report.largest_rss),
            ended_in: report.ended_in,
        }
    }
}

/// A task that has been started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) reaper: Reaper,
    /// Readable once its first process has ended.
    pub(super) pidfd: OwnedFd,
    /// Whether the reaper has reported the end of the first process, which it does unasked.
    is_end_reported: bool,
}

impl Started {
    /// What the reaper has recorded so far.
    ///
    /// # Errors
    /// If it does not answer: it was killed or stopped.
    pub(super) fn report(&mut self) -> io::Result<Reaped> {
        let is_answer = self.is_end_reported || !is_readable(self.pidfd.as_fd());
        if is_answer {
            send_order(&self.reaper.line, order::REPORT)?;
        }
        loop {
            let report = self.reaper.receive()?;
            self.is_end_reported |= !report.is_answer;
            if report.is_answer == is_answer {
                self.reaper.state = if report.has_more { State::Busy } else { State::Idle };
                return Ok(report.into());
            }
        }
    }
}

impl Reaper {
    /// Makes a reaper start the task.
    pub(super) fn start(request: Request<'_>, patience: &mut Patience<'_>) -> Result<Started, SpawnError> {
        let failed = |action| move |source| StartError::System { action, source };
        let mut reaper = loop {
            let (reaper, is_new) = match lock(&IDLE).pop() {
                Some(Idle { pid, line }) => (Self { pid, line, state: State::Busy }, false),
                None => (Self::fork()?, true),
            };
            match send_start(&reaper.line, request) {
                Ok(()) => break reaper,
                // It was killed while idle.
                Err(error) if !is_new && error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => return Err(failed("start the task: its parent process does not listen")(error).into()),
            }
        };
        reaper.wait_for_start(patience).map_err(failed("start the task"))?;
        let started = receive_started(&reaper.line).map_err(|error| {
            // If there is a task nevertheless, its parent ends it.
            reaper.state = State::Stays;
            failed("communicate with the parent process of the task")(error)
        })?;
        match started {
            Ok(pidfd) => Ok(Started { reaper, pidfd, is_end_reported: false }),
            Err(failure) => {
                reaper.state = State::Idle;
                Err(failure.explain(request.image))
            }
        }
    }

    fn fork() -> Result<Self, StartError> {
        let failed = |action| move |source| StartError::System { action, source };
        collect_retired();
        // If the reaper is killed, the orphans of the task become children of this process.
        // SAFETY: takes numbers and no pointer.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
        let (line, other_end) = UnixStream::pair().map_err(failed("create a socket"))?;
        let mut before = SigSet::empty();
        // No handler of ours may run in the reaper. It stays in our process group: with a parent in another group the
        // kernel would send SIGHUP to the whole group when a task ends while some other process is stopped. Signals to
        // the group must not end it.
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))
            .map_err(|errno| failed("block signals")(errno.into()))?;
        // SAFETY: the C library keeps its allocator usable in the child of a fork; the child takes no other lock, and
        // leaves only through `_exit`.
        let pid = match unsafe { libc::fork() } {
            0 => {
                drop(line);
                // A panic must not continue with the parent's code.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| child::run(other_end)));
                leave()
            }
            pid => pid,
        };
        let error = io::Error::last_os_error();
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        if pid < 0 {
            return Err(failed("create a process")(error));
        }
        drop(other_end);
        let _ = line.set_read_timeout(Some(ANSWER_TIMEOUT));
        Ok(Self { pid, line: Arc::new(line), state: State::Busy })
    }

    /// Waits until the task has started or failed to. Its program may lie on a file server that does not answer.
    fn wait_for_start(&self, patience: &mut Patience<'_>) -> io::Result<()> {
        loop {
            let mut files = vec![PollFd::new(self.line.as_fd(), PollFlags::POLLIN)];
            files.extend(patience.requested().map(|requested| PollFd::new(requested, PollFlags::POLLIN)));
            let pause = PollTimeout::try_from(STARTING_PAUSE).unwrap_or(PollTimeout::MAX);
            let ready = match poll(&mut files, pause) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let is_ready = |index: usize| files.get(index).is_some_and(|file| file.any().unwrap_or(false));
            let (has_answered, is_requested) = (is_ready(0), is_ready(1));
            if has_answered {
                return Ok(());
            }
            if ready == 0 {
                // An earlier task may have stopped it.
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGCONT);
            }
            if is_requested {
                patience.note();
            }
            // After one request the program is still loaded, which takes a moment, and then ended like a running task.
            if patience.left(STARTING_PAUSE).is_zero() {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted before its program was loaded"));
            }
        }
    }

    fn receive(&self) -> io::Result<Report> {
        let is_late = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        match Report::receive(&self.line) {
            // A task can stop its parent, and the machine may be very busy.
            Err(error) if is_late(&error) => {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGCONT);
                Report::receive(&self.line)
            }
            result => result,
        }
    }

    /// Makes it stay until the survivors of SIGKILL are gone; it then removes the cgroup.
    pub(super) fn stay(&mut self) {
        self.state = State::Stays;
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        match self.state {
            State::Idle => lock(&IDLE).push(Idle { pid: self.pid, line: Arc::clone(&self.line) }),
            State::Busy => dismiss(self.pid, &self.line),
            // It sees the end of the stream, as if highwater had been killed.
            State::Stays => drop(self.line.shutdown(std::net::Shutdown::Both)),
        }
    }
}

fn dismiss(pid: i32, line: &UnixStream) {
    let _ = send_order(line, order::END);
    lock(&RETIRED).push(pid);
    collect_retired();
}

/// Kills the processes of a task whose reaper was killed: children of this process that are not below another reaper
/// and were started after the run was (in ticks since boot).
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

/// Dismisses the reapers of earlier runs and waits a moment for them, so that they do not outlive a program that is
/// about to exit.
pub fn wait_for_retired() {
    for Idle { pid, line } in std::mem::take(&mut *lock(&IDLE)) {
        dismiss(pid, &line);
    }
    let deadline = Instant::now() + LONGEST_RETIREMENT;
    loop {
        collect_retired();
        if lock(&RETIRED).is_empty() || Instant::now() > deadline {
            return;
        }
        thread::sleep(Duration::from_micros(100));
    }
}

static IDLE: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

/// Reapers that have been dismissed but not waited for, because their end takes too long.
static RETIRED: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect_retired() {
    lock(&RETIRED)
        .retain(|pid| matches!(waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive)));
}

/// Whether a file is readable.
fn is_readable(file: std::os::fd::BorrowedFd<'_>) -> bool {
    let mut files = [PollFd::new(file, PollFlags::POLLIN)];
    poll(&mut files, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn end(status: i32) -> End {
    if libc::WIFSIGNALED(status) {
        End::Signalled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    }
}

fn leave() -> ! {
    // SAFETY: ends this process; nothing of the parent is flushed or dropped twice.
    unsafe { libc::_exit(0) }
}
