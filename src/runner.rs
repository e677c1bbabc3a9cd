//! Starts tasks, each where its memory can be told from everybody else's, and leaves the host as it was.

mod cache;
pub mod container;
pub mod engine;
mod maker;
pub mod originals;
mod own_cgroup;
pub mod patience;
pub mod placement;
pub mod probe;
pub mod process;
mod reaper;
mod spawn;
pub mod staging;
pub mod view;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

pub use self::reaper::wait_for_retired;

use self::container::ContainerError;
use self::patience::Patience;
use crate::host::HostError;
use crate::host::memory::Split;
use crate::host::processes::LargestProcesses;
use crate::model::observation::{Container, Cpu, Events, Io, Limits, Logs, Peak, Pressure, RunnerKind, Survivor};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// Knows how to start one task, as often as it is asked.
pub trait Runner {
    /// Starts the task.
    ///
    /// # Errors
    /// If it cannot be started; nothing is left behind then. An engine that does not answer whether it was started is not an
    /// error: the run is over then, and its end reports it.
    fn start(&mut self, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError>;
}

/// A task under way. Dropping it ends the task and cleans up, too, but tells nothing.
pub trait Running {
    /// What runs it.
    fn kind(&self) -> RunnerKind;

    /// When the first process was made.
    fn started(&self) -> Instant;

    /// Whether a signal of the terminal, such as that of Ctrl-C, reaches the task by itself.
    fn shares_terminal(&self) -> bool {
        true
    }

    /// Readable once the task's first process has ended.
    fn ended(&self) -> BorrowedFd<'_>;

    /// Reads how much memory is in use now where that costs next to nothing, so that it can be asked for often.
    /// `Unsupported` where only [`Self::sample`] can tell.
    ///
    /// # Errors
    /// If the kernel does not answer as it documents.
    fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        Ok(Reading::Unsupported)
    }

    /// A file that becomes readable when usage exceeds `usage`, which saves polling. `None` if the kernel does not notify.
    fn notify_above(&mut self, _usage: Bytes) -> Option<OwnedFd> {
        None
    }

    /// Reads the largest processes of the run, at most `most`. Costs a file for each process of the run.
    fn largest_processes(&mut self, _most: usize) -> LargestProcesses {
        LargestProcesses::default()
    }

    /// Reads the memory in use now, and what it consists of.
    ///
    /// # Errors
    /// If the kernel does not answer as it documents.
    fn sample(&mut self) -> Result<Reading<Sample>, HostError>;

    /// Sends a signal to the first process. That it has ended meanwhile, or may not be signalled, is no error: whether
    /// it ends is what counts.
    ///
    /// # Errors
    /// Where the signal cannot be sent.
    fn signal(&mut self, signal: Signal) -> io::Result<()>;

    /// Kills what is left of the task, reads the peak and cleans up. Called when the first process has ended, or has
    /// survived SIGKILL for a second; takes 2 s at most for what does not end, and names that as survivors.
    ///
    /// # Errors
    /// Where something could not be read or removed.
    fn finish(self: Box<Self>, patience: &mut Patience<'_>) -> Result<Finished, FinishError>;
}

/// The memory in use at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// All of it, in bytes.
    pub current: Bytes,
    /// What it consists of.
    pub split: Reading<Split>,
}

/// What is known once a task has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// How its first process ended.
    pub end: End,
    /// The high-water mark.
    pub peak: Reading<Peak>,
    /// What was still charged when all processes had ended: page cache and kernel memory.
    pub last: Reading<Sample>,
    /// The most that was swapped out (`memory.swap.peak`).
    pub swap_peak: Reading<Bytes>,
    /// The limits that were in force.
    pub limit: Limits,
    /// Whether a limit above the task's own was felt while it ran.
    pub held_back_from_above: bool,
    /// How often the limit was felt.
    pub events: Reading<Events>,
    /// Time on CPUs.
    pub cpu: Reading<Cpu>,
    /// Bytes from and to block devices.
    pub io: Reading<Io>,
    /// The most processes and threads at one time.
    pub pids_peak: Reading<u64>,
    /// Time spent waiting for memory.
    pub pressure: Reading<Pressure>,
    /// Processes that had to be killed after the first one had ended.
    pub leftover_processes: Reading<u64>,
    /// Processes that SIGKILL did not end in time.
    pub survivors: Vec<Survivor>,
    /// What went wrong beside the peak: numbers that could not be read, a cgroup that could not be removed.
    pub problems: Vec<String>,
    /// What only a container's engine knows.
    pub contained: Option<Contained>,
}

/// What a container's engine tells of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Contained {
    /// The container.
    pub container: Container,
    /// Where its output was kept.
    pub logs: Option<Logs>,
    /// From the start to the end of its first process by the engine's clock.
    pub wall: Option<Duration>,
    /// Whether the engine was told that the kernel killed a process of it for lack of memory.
    pub oom_killed: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// Nobody knows: whoever ran it went away.
    Lost,
    /// Not at all: it has survived SIGKILL, and nobody waits for it any longer.
    StillRunning,
}

/// Why a task could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to run.
    #[error("failed to start a task: the command is empty")]
    NoCommand,
    /// The program does not exist.
    #[error("failed to start `{program}`: {}", if *.interpreter { "the program exists, but its interpreter or loader does not" } else { "no such program" })]
    NotFound {
        /// As it was given.
        program: String,
        /// Whether the file exists and it is its interpreter that does not.
        interpreter: bool,
    },
    /// The program exists, but cannot be run.
    #[error("failed to start `{program}`: it is not executable")]
    NotExecutable {
        /// As it was given.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An argument, a variable or a path has a zero byte in it.
    #[error("failed to start `{program}`: {what} contains a NUL byte")]
    ZeroByte {
        /// As it was given.
        program: String,
        /// Which text it is.
        what: String,
    },
    /// The working directory cannot be entered.
    #[error("failed to enter the working directory {path}")]
    WorkingDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file for the output cannot be made.
    #[error("failed to create {path} for the output of the task")]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A limit was asked for, and there is no cgroup to set it on.
    #[error("failed to limit the task to {limit}: {reason}")]
    NoLimit {
        /// The limit.
        limit: Bytes,
        /// Why no cgroup can be had.
        reason: String,
        /// What would help.
        remedy: String,
    },
    /// Only an exact peak would do, and there is no cgroup to read it from.
    #[error("failed to create a cgroup for the task: {reason}")]
    NoCgroup {
        /// Why no cgroup can be had.
        reason: String,
        /// What would help.
        remedy: String,
    },
    /// The cgroup could not be set up.
    #[error("failed to {action} {path}")]
    Cgroup {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system would not make a process.
    #[error("failed to {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The container could not be made or started.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The machine could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Why a task could not be finished as it should.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The first process could not be waited for.
    #[error("failed to wait for process {pid}")]
    Wait {
        /// Its number.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cgroup could not be emptied or removed.
    #[error("failed to {action} {path}")]
    Cgroup {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The machine could not be read.
    #[error(transparent)]
    Host(#[from] HostError),
}
