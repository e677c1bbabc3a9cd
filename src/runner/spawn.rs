//! Creates the first process of a task inside its cgroup, so that its program is charged there from the first
//! instruction.

mod clone;
mod words;

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, pipe2};

pub(super) use self::words::{Group, Words};
use super::StartError;
use super::launch::{Launch, Output, Stdin};
use super::view::{View, enter_namespaces};
use crate::directory::create_file;
use crate::host::cpus::CpuList;

/// How the new process gets into its cgroup.
#[derive(Clone, Copy, Debug)]
pub(super) enum Join<'fd> {
    /// It stays in its parent's.
    Stay,
    /// The kernel creates it there: the directory of a v2 cgroup (`CLONE_INTO_CGROUP`, Linux 5.7+).
    CloneInto(BorrowedFd<'fd>),
    /// It writes `0` to this `tasks` or `cgroup.procs` before it executes the program.
    Write(BorrowedFd<'fd>),
}

/// A new process.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: i32,
    /// Readable once it has ended (`pidfd_open(2)`).
    pub(super) pidfd: OwnedFd,
    /// Page faults that the process caused in its parent's memory before it executed the program.
    pub(super) faults: u64,
}

/// Why a process could not be created.
#[derive(Debug)]
pub(super) enum SpawnError {
    /// The cgroup could not be joined: another one may work.
    Join(io::Error),
    /// The command is at fault, or the system.
    Start(StartError),
}

impl From<StartError> for SpawnError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// Everything the child needs, prepared before it exists: between clone and exec it must not allocate.
#[derive(Debug)]
pub(super) struct Image {
    program: String,
    working_directory: Option<PathBuf>,
    words: Words,
    view: Option<Arc<View>>,
}

impl Image {
    /// Prepares the command: candidates along `PATH` as `execvp(3)` tries them, arguments, environment.
    pub(super) fn lay_out(launch: &Launch) -> Result<Self, StartError> {
        let first = launch.command.first().ok_or(StartError::NoCommand)?;
        if first.is_empty() {
            return Err(StartError::NoCommand);
        }
        let program = first.to_string_lossy().into_owned();
        let mut words = Words::default();
        let mut push = |group, what: &str, text: &OsStr| {
            let zero_byte = || StartError::ZeroByte { program: program.clone(), what: what.to_owned() };
            words.push(group, text).map_err(|_| zero_byte())
        };
        if first.as_bytes().contains(&b'/') {
            push(Group::Candidates, "its name", first)?;
        } else {
            let path = launch.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
            for folder in std::env::split_paths(&path.unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin")))
            {
                push(Group::Candidates, "its path", folder.join(first).as_os_str())?;
            }
        }
        for argument in &launch.command {
            push(Group::Arguments, "an argument", argument)?;
        }
        for (name, value) in &launch.env {
            let mut pair = name.clone();
            pair.push("=");
            pair.push(value);
            push(Group::Environment, &format!("the variable {}", name.to_string_lossy()), &pair)?;
        }
        let working_directory = match (&launch.working_directory, &launch.view) {
            (None, None) => None,
            (Some(path), None) => Some(path.clone()),
            // A process that enters a view starts at its root.
            (path, Some(_)) => {
                let here = std::env::current_dir()
                    .map_err(|source| StartError::System { action: "find the current directory", source })?;
                Some(path.as_ref().map_or_else(|| here.clone(), |path| here.join(path)))
            }
        };
        if let Some(path) = &working_directory {
            push(Group::WorkingDirectory, "the working directory", path.as_os_str())?;
        }
        if let Some(cpus) = &launch.cpus {
            push(Group::Cpus, "its CPUs", OsStr::new(&cpus.to_string()))?;
        }
        Ok(Self { program, working_directory, words, view: launch.view.clone() })
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    /// The CPUs that the task may use, unless it has ours.
    pub(super) fn cpus(&self) -> Result<Option<CpuSet>, Errno> {
        let [.., cpus] = self.words.groups();
        cpu_set(&cpus)
    }

    /// The namespaces that the task enters: mount, then user.
    pub(super) fn namespaces(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.view.as_ref().map_or([None, None], |view| view.namespaces())
    }
}

/// The stdio files of a task, unless inherited.
#[derive(Debug)]
pub(super) struct Stdio([Option<File>; 3]);

impl Stdio {
    /// Opens them.
    pub(super) fn open(launch: &Launch) -> Result<Self, StartError> {
        let stdin = match launch.stdin {
            Stdin::Inherit => None,
            Stdin::Null => Some(open_null()?),
        };
        Ok(Self([stdin, open_output(&launch.stdout)?, open_output(&launch.stderr)?]))
    }

    pub(super) fn files(&self) -> [Option<BorrowedFd<'_>>; 3] {
        self.0.each_ref().map(|file| file.as_ref().map(AsFd::as_fd))
    }
}

/// What is needed to create a process.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) words: &'a Words,
    pub(super) stdio: [Option<BorrowedFd<'a>>; 3],
    pub(super) join: Join<'a>,
    /// Mount, then user.
    pub(super) namespaces: [Option<BorrowedFd<'a>>; 2],
    /// Added to its OOM score (`/proc/PID/oom_score_adj`).
    pub(super) oom_score: u32,
}

/// The CPUs of a list, of which there is at most one.
fn cpu_set(lists: &[&CStr]) -> Result<Option<CpuSet>, Errno> {
    let Some(list) = lists.first() else { return Ok(None) };
    let cpus = list.to_str().ok().and_then(|list| list.parse::<CpuList>().ok());
    cpus.and_then(|cpus| cpus.to_set()).map(Some).ok_or(Errno::EINVAL)
}

/// Starts the program; returns once it is executed, or has failed to.
pub(super) fn spawn(setup: &Setup<'_>) -> Result<Spawned, Failure> {
    let [candidates, arguments, environment, working_directory, cpus] = setup.words.groups();
    let argv = pointers(&arguments);
    let envp = pointers(&environment);
    let mut script = vec![c"/bin/sh".as_ptr(), std::ptr::null()];
    script.extend(argv.iter().skip(1));
    let join = setup.join;
    let cpus = cpu_set(&cpus).map_err(|errno| Failure { step: Step::Cpus, errno })?;
    let mut plan = Plan {
        candidates: &candidates,
        working_directory: working_directory.first().copied(),
        argv: &argv,
        envp: &envp,
        script: &mut script,
        stdio: setup.stdio.map(|file| file.map(|file| file.as_raw_fd())),
        join: match join {
            Join::Write(file) => Some(file.as_raw_fd()),
            Join::Stay | Join::CloneInto(_) => None,
        },
        namespaces: setup.namespaces,
        oom_score: oom_score(setup.oom_score),
        cpus,
        pipe: None,
        failure: None,
        faults: None,
        parent: std::process::id(),
    };
    let into = match join {
        Join::CloneInto(folder) => Some(folder),
        Join::Stay | Join::Write(_) => None,
    };
    let spawned = clone::start(into, &mut plan).map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32));
        // A shortage of memory or pids is not related to the cgroup.
        let is_shortage = matches!(errno, Errno::EAGAIN | Errno::ENOMEM);
        Failure { step: if into.is_some() && !is_shortage { Step::Join } else { Step::Clone }, errno }
    })?;
    match plan.failure() {
        None => Ok(Spawned { faults: plan.faults().unwrap_or(spawned.faults), ..spawned }),
        Some(failure) => {
            reap(spawned.pid);
            Err(failure)
        }
    }
}

/// The OOM score of a child that gets this much more than this process; `None` if that changes nothing.
fn oom_score(more: u32) -> Option<CString> {
    const MAX: i64 = 1000;
    if more == 0 {
        return None;
    }
    let own: i64 = std::fs::read_to_string("/proc/self/oom_score_adj").ok()?.trim().parse().ok()?;
    let score = own.saturating_add(more.into()).min(MAX);
    if score > own { CString::new(score.to_string()).ok() } else { None }
}

/// The steps of the child: only system calls, no allocation, no lock. It may share its memory with the parent, which
/// waits.
pub(super) struct Plan<'a> {
    candidates: &'a [&'a CStr],
    working_directory: Option<&'a CStr>,
    argv: &'a [*const libc::c_char],
    envp: &'a [*const libc::c_char],
    /// `/bin/sh FILE ARGUMENTS…`, for a script without `#!`; FILE is filled in when it is known.
    script: &'a mut Vec<*const libc::c_char>,
    stdio: [Option<RawFd>; 3],
    join: Option<RawFd>,
    namespaces: [Option<BorrowedFd<'a>>; 2],
    oom_score: Option<CString>,
    cpus: Option<CpuSet>,
    /// The pipe on which the child reports a failure if it has memory of its own.
    pipe: Option<RawFd>,
    failure: Option<Failure>,
    /// How many page faults the child has caused, if it shares our memory.
    faults: Option<i64>,
    parent: u32,
}

impl Plan<'_> {
    /// The failure reported by the child.
    fn failure(&self) -> Option<Failure> {
        // SAFETY: a valid, aligned field of our own; volatile, because the child writes to it behind the compiler's
        // back.
        unsafe { std::ptr::read_volatile(&raw const self.failure) }
    }

    /// The page faults of the child before it executed the program.
    fn faults(&self) -> Option<u64> {
        // SAFETY: as for `failure`.
        u64::try_from(unsafe { std::ptr::read_volatile(&raw const self.faults) }?).ok()
    }

    /// Starts a child that has memory of its own, and waits for its report until it executes the program.
    pub(super) fn with_pipe(&mut self, start: impl FnOnce(&mut Self) -> io::Result<Spawned>) -> io::Result<Spawned> {
        let (heard, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        self.pipe = Some(pipe.as_raw_fd());
        let spawned = start(self)?;
        drop(pipe);
        let mut report = [0; Failure::LENGTH];
        match File::from(heard).read_exact(&mut report) {
            Ok(()) => self.failure = Some(Failure::decode(report)),
            // No report: exec closed the pipe.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => {
                kill_and_reap(spawned.pid);
                return Err(error);
            }
        }
        Ok(spawned)
    }

    pub(super) fn become_program(&mut self) -> ! {
        let failure = match self.try_to() {
            Ok(never) => match never {},
            Err(failure) => failure,
        };
        // SAFETY: the field is ours to write, and the calls are system calls on values of our own.
        unsafe {
            std::ptr::write_volatile(&raw mut self.failure, Some(failure));
            if let Some(pipe) = self.pipe {
                let failure = failure.encode();
                libc::write(pipe, failure.as_ptr().cast(), failure.len());
            }
            libc::_exit(127)
        }
    }

    fn try_to(&mut self) -> Result<Infallible, Failure> {
        // SAFETY: system calls with pointers into memory that was prepared before the clone and is not moved.
        unsafe {
            if let Some(file) = self.join {
                check(libc::write(file, c"0".as_ptr().cast(), 1) as i32, Step::Join)?;
            }
            // Before requesting the parent-death signal, because entering a user namespace may reset that.
            enter_namespaces(self.namespaces).map_err(|errno| Failure { step: Step::View, errno })?;
            // After joining the cgroup, because entering a cpuset resets it.
            if let Some(cpus) = &self.cpus {
                sched_setaffinity(Pid::from_raw(0), cpus).map_err(|errno| Failure { step: Step::Cpus, errno })?;
            }
            // If the reaper is killed, the first process dies with it.
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), Step::System)?;
            if libc::getppid() as u32 != self.parent {
                libc::_exit(127);
            }
            if let Some(score) = &self.oom_score {
                // A machine that forbids it runs the task nevertheless.
                let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
                libc::write(file, score.as_ptr().cast(), score.count_bytes());
                libc::close(file);
            }
            for (target, file) in (0..).zip(self.stdio) {
                if let Some(file) = file {
                    check(libc::dup2(file, target), Step::System)?;
                }
            }
            // Rust ignores SIGPIPE, and highwater blocks the signals it waits for; the task starts with the defaults.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()), Step::System)?;
            if let Some(path) = self.working_directory {
                check(libc::chdir(path.as_ptr()), Step::WorkingDirectory)?;
            }
        }
        Err(self.exec())
    }

    /// Tries the candidates in order. As with `execvp(3)`, a candidate that may not be executed is the result only if
    /// there is no other one.
    fn exec(&mut self) -> Failure {
        // SAFETY: the call only writes to a variable of the right type, and the field is ours to write.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            if libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0 {
                std::ptr::write_volatile(&raw mut self.faults, Some(usage.ru_minflt + usage.ru_majflt));
            }
        }
        let mut refused = None;
        for candidate in self.candidates {
            // SAFETY: all three are terminated as execve(2) requires.
            unsafe { libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
            match Errno::last() {
                Errno::ENOEXEC => {
                    self.script[1] = candidate.as_ptr();
                    // SAFETY: as above.
                    unsafe { libc::execve(self.script[0], self.script.as_ptr(), self.envp.as_ptr()) };
                    return Failure { step: Step::Exec, errno: Errno::ENOEXEC };
                }
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                Errno::EACCES => refused = Some(Errno::EACCES),
                errno => return Failure { step: Step::Exec, errno },
            }
        }
        Failure { step: Step::Exec, errno: refused.unwrap_or(Errno::ENOENT) }
    }
}

fn check(result: i32, step: Step) -> Result<(), Failure> {
    if result < 0 { Err(Failure { step, errno: Errno::last() }) } else { Ok(()) }
}

/// The step at which the child failed.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join,
    Clone,
    View,
    System,
    WorkingDirectory,
    Exec,
    Cpus,
}

/// Why there is no task: reported by the child before it exits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    step: Step,
    errno: Errno,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self { step: Step::System, errno }
    }
}

impl Failure {
    pub(super) const LENGTH: usize = 5;

    pub(super) fn encode(self) -> [u8; Self::LENGTH] {
        let [a, b, c, d] = (self.errno as i32).to_ne_bytes();
        [self.step as u8, a, b, c, d]
    }

    pub(super) fn decode([step, errno @ ..]: [u8; Self::LENGTH]) -> Self {
        use Step::{Clone, Cpus, Exec, Join, System, View, WorkingDirectory};
        let step = [Join, Clone, View, System, WorkingDirectory, Exec, Cpus]
            .into_iter()
            .find(|known| *known as u8 == step)
            .unwrap_or(System);
        Self { step, errno: Errno::from_raw(i32::from_ne_bytes(errno)) }
    }

    pub(super) fn explain(self, image: &Image) -> SpawnError {
        let program = image.program.clone();
        let source = io::Error::from(self.errno);
        SpawnError::Start(match (self.step, &image.working_directory) {
            (Step::Join, _) => return SpawnError::Join(source),
            (Step::Clone, _) => StartError::System { action: "create a process", source },
            (Step::View, _) => StartError::System { action: "enter the task's mount namespace", source },
            (Step::Cpus, _) => StartError::System { action: "keep the task on its CPUs", source },
            (Step::WorkingDirectory, Some(path)) => StartError::WorkingDirectory { path: path.clone(), source },
            (Step::System | Step::WorkingDirectory, _) => {
                StartError::System { action: "prepare the new process", source }
            }
            (Step::Exec, _) if self.errno == Errno::ENOENT => {
                let from = image.working_directory.as_deref().unwrap_or(Path::new(""));
                let there = |path: &CStr| from.join(OsStr::from_bytes(path.to_bytes())).exists();
                let [candidates, ..] = image.words.groups();
                StartError::NotFound { program, interpreter: candidates.into_iter().any(there) }
            }
            (Step::Exec, _) => StartError::NotExecutable { program, source },
        })
    }
}

/// Waits for a child that failed before it executed a program.
fn reap(pid: i32) {
    let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), None);
}

fn kill_and_reap(pid: i32) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    reap(pid);
}

fn pointers(texts: &[&CStr]) -> Vec<*const libc::c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

fn open_null() -> Result<File, StartError> {
    File::open("/dev/null").map_err(|source| StartError::System { action: "open /dev/null", source })
}

fn open_output(output: &Output) -> Result<Option<File>, StartError> {
    match output {
        Output::Inherit => Ok(None),
        Output::File(path) => {
            create_file(path).map(Some).map_err(|source| StartError::Output { path: path.clone(), source })
        }
        Output::Open(fd) => fd
            .try_clone()
            .map(|fd| Some(File::from(fd)))
            .map_err(|source| StartError::System { action: "duplicate a file descriptor", source }),
        Output::Null => File::options()
            .write(true)
            .open("/dev/null")
            .map(Some)
            .map_err(|source| StartError::System { action: "open /dev/null", source }),
    }
}
