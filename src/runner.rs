//! Starts tasks so that the memory of each can be measured separately, and leaves the host as it was.

#[cfg(feature = "containers")]
mod cache;
mod cgroup_owner;
pub mod container;
pub mod engine;
mod launch;
#[doc(hidden)]
pub mod originals;
#[doc(hidden)]
pub mod patience;
#[doc(hidden)]
pub mod placement;
pub mod pod;
#[doc(hidden)]
pub mod probe;
pub mod process;
#[cfg(feature = "containers")]
pub mod production;
mod reaper;
#[cfg(feature = "containers")]
pub mod reports;
mod run_cgroup;
pub mod slurm;
mod spawn;
#[doc(hidden)]
pub mod staging;
pub(crate) mod tail;
#[cfg(feature = "containers")]
mod threads;
#[doc(hidden)]
pub mod view;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;

pub(crate) use self::cgroup_owner::CgroupOwner;
pub use self::reaper::wait_for_retired;

use self::container::ContainerError;
use self::patience::Patience;
use self::pod::PodError;
use crate::host::HostError;
use crate::host::memory::Split;
use crate::host::processes::{FindProcesses, LargestProcesses};
use crate::model::observation::{
    Container, Cpu, Events, Io, Limits, Logs, Peak, PodFacts, Pressure, RunnerKind, Survivor, Throttling, Warning,
};
use crate::model::reading::Reading;
use crate::model::signal::Signal;
use crate::model::units::Bytes;

/// Starts a task, any number of times.
pub trait Runner {
    /// Starts the task.
    ///
    /// # Errors
    /// If the task cannot be started; nothing is left behind then. It is not an error if an engine does not answer
    /// whether the task was started: the run is over, and its end reports it.
    fn start(&mut self, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError>;
}

/// A running task. Dropping it ends the task and cleans up without reporting anything.
pub trait Running {
    /// The kind of runner.
    fn kind(&self) -> RunnerKind;

    /// When the first process was created.
    fn started(&self) -> Instant;

    /// Whether signals from the terminal, such as Ctrl-C, reach the task directly.
    fn shares_terminal(&self) -> bool {
        true
    }

    /// Readable once the task's first process has ended.
    fn ended(&self) -> BorrowedFd<'_>;

    /// Reads the memory in use, if that is cheap enough to do often. `Unsupported` if only [`Self::sample`] can read
    /// it.
    ///
    /// # Errors
    /// If a kernel file has an unexpected format.
    fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        Ok(Reading::Unsupported)
    }

    /// A file that becomes readable when usage exceeds `usage`, which saves polling. `None` if the kernel does not notify.
    fn notify_above(&mut self, _usage: Bytes) -> Option<OwnedFd> {
        None
    }

    /// Reads the largest processes of the run, at most `most`. Costs one file per process of the run.
    fn largest_processes(&mut self, _most: usize) -> LargestProcesses {
        LargestProcesses::default()
    }

    /// Finds the processes of the run, if they are processes of this machine.
    fn find_processes(&self) -> Option<Box<dyn FindProcesses>> {
        None
    }

    /// Reads the memory in use and its composition.
    ///
    /// # Errors
    /// If a kernel file has an unexpected format.
    fn sample(&mut self) -> Result<Reading<Sample>, HostError>;

    /// Sends a signal to the first process. A process that has ended or may not be signalled is not an error: only
    /// whether the task ends matters.
    ///
    /// # Errors
    /// If the signal cannot be sent.
    fn signal(&mut self, signal: Signal) -> io::Result<()>;

    /// Kills the remaining processes, reads the peak and cleans up. Called when the first process has ended, or has
    /// survived SIGKILL for a second. Waits at most 2 s for processes that do not end, and reports them as survivors.
    ///
    /// # Errors
    /// If something cannot be read or removed.
    fn finish(self: Box<Self>, patience: &mut Patience<'_>) -> Result<Finished, FinishError>;
}

/// The memory in use at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Total, in bytes.
    pub current: Bytes,
    /// Its composition.
    pub split: Reading<Split>,
}

/// The measurements of a task that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// How its first process ended.
    pub end: End,
    /// The high-water mark.
    pub peak: Reading<Peak>,
    /// What was still charged after all processes had ended: page cache and kernel memory.
    pub last: Reading<Sample>,
    /// Peak swap usage (`memory.swap.peak`).
    pub swap_peak: Reading<Bytes>,
    /// The limits in force.
    pub limit: Limits,
    /// Whether a limit of a cgroup above the task's own was reached while it ran.
    pub held_back_from_above: bool,
    /// How often the limit was reached.
    pub events: Reading<Events>,
    /// CPU time.
    pub cpu: Reading<Cpu>,
    /// How much its CPU limit held it back.
    pub throttling: Reading<Throttling>,
    /// Bytes read from and written to block devices.
    pub io: Reading<Io>,
    /// The size of the writable layer of a container at its end.
    pub writable_layer: Reading<Bytes>,
    /// The largest number of processes and threads at one time.
    pub pids_peak: Reading<u64>,
    /// Time spent waiting for memory.
    pub pressure: Reading<Pressure>,
    /// Processes that had to be killed after the first one had ended.
    pub leftover_processes: Reading<u64>,
    /// Processes that SIGKILL did not end in time.
    pub survivors: Vec<Survivor>,
    /// Problems other than with the peak: values that could not be read, a cgroup that could not be removed.
    pub problems: Vec<Warning>,
    /// What only a container engine reports.
    pub contained: Option<Contained>,
}

impl Finished {
    /// The end and the peak; nothing else is available.
    pub(crate) fn new(end: End, peak: Reading<Peak>) -> Self {
        Self {
            end,
            peak,
            last: Reading::Unsupported,
            swap_peak: Reading::Unsupported,
            limit: Limits::UNSUPPORTED,
            held_back_from_above: false,
            events: Reading::Unsupported,
            cpu: Reading::Unsupported,
            throttling: Reading::Unsupported,
            io: Reading::Unsupported,
            writable_layer: Reading::Unsupported,
            pids_peak: Reading::Unsupported,
            pressure: Reading::Unsupported,
            leftover_processes: Reading::Unsupported,
            survivors: Vec::new(),
            problems: Vec::new(),
            contained: None,
        }
    }
}

/// What a container engine reports about a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Contained {
    /// The container.
    pub container: Container,
    /// Where its output was stored.
    pub logs: Option<Logs>,
    /// From the start to the end of its first process by the engine's clock.
    pub wall: Option<Duration>,
    /// Whether the kernel notified the engine of an OOM kill in the container.
    pub oom_killed: bool,
    /// The time it had, if a probe in it ended it for that.
    pub timed_out: Option<Duration>,
    /// The pod, if it was one.
    pub pod: Option<PodFacts>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(i32),
    /// It was killed by this signal.
    Signalled(i32),
    /// Unknown: its parent or engine went away.
    Lost,
    /// It has not ended: it survived SIGKILL and is no longer waited for.
    StillRunning,
}

/// Why a task could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The command is empty.
    #[error("failed to start a task: the command is empty")]
    NoCommand,
    /// The program does not exist.
    #[error("failed to start `{program}`: {}", if *.interpreter { "the program exists, but its interpreter or loader does not" } else { "no such program" })]
    NotFound {
        /// As given.
        program: String,
        /// Whether the file exists but its interpreter does not.
        interpreter: bool,
    },
    /// The program exists but cannot be executed.
    #[error("failed to start `{program}`: it is not executable")]
    NotExecutable {
        /// As given.
        program: String,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// An argument, a variable or a path contains a zero byte.
    #[error("failed to start `{program}`: {what} contains a NUL byte")]
    ZeroByte {
        /// As given.
        program: String,
        /// The string that contains it.
        what: String,
    },
    /// The working directory cannot be entered.
    #[error("failed to enter the working directory {path}")]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// An output file cannot be created.
    #[error("failed to create {path} for the output of the task")]
    Output {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// A limit was requested, but there is no cgroup to set it on.
    #[error("failed to limit the task to {limit}: {reason}")]
    NoLimit {
        /// The limit.
        limit: Bytes,
        /// Why no cgroup is available.
        reason: String,
        /// How to fix it.
        remedy: String,
    },
    /// An exact peak is required, but there is no cgroup to read it from.
    #[error("failed to create a cgroup for the task: {reason}")]
    NoCgroup {
        /// Why no cgroup is available.
        reason: String,
        /// How to fix it.
        remedy: String,
    },
    /// The cgroup could not be set up.
    #[error("failed to {action} {path}")]
    Cgroup {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// A process could not be created.
    #[error("failed to {action}")]
    System {
        /// The operation that failed.
        action: &'static str,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The container could not be created or started.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The pod could not be created or started.
    #[error(transparent)]
    Pod(PodError),
    /// The state of the host could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Why a task could not be finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FinishError {
    /// The first process could not be waited for.
    #[error("failed to wait for process {pid}")]
    Wait {
        /// Its pid.
        pid: i32,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be emptied or removed.
    #[error("failed to {action} {path}")]
    Cgroup {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The state of the host could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Makes a program start with no signal blocked.
pub fn unblock_signals_in(command: &mut std::process::Command) {
    // SAFETY: between fork and exec there is only one system call.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, || {
            SigSet::empty().thread_set_mask().map_err(io::Error::from)
        });
    }
}
