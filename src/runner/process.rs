//! Runs a command of this machine in a cgroup of its own, or where none can be had, samples its processes.

pub(super) mod in_cgroup;
mod sampled;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::in_cgroup::{Above, InCgroup};
use self::sampled::{Family, Sampled};
use super::placement::{Entered, Obstacle, Placement};
use super::spawn::{Image, Join, SpawnError, Spawned, spawn};
use super::view::View;
use super::{End, FinishError, Finished, Runner, Running, Sample, StartError};
use crate::host::machine::{self, Machine};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{CgroupVersion, Cpu, CpuSource, RunnerKind};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// What to run, and with what around it.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program, looked up along the `PATH` of `env`, and its arguments.
    pub command: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it starts; here where there is none.
    pub working_directory: Option<PathBuf>,
    /// What it reads.
    pub stdin: Stdin,
    /// Where its output goes.
    pub stdout: Output,
    /// Where its errors go.
    pub stderr: Output,
    /// The memory it may have at most.
    pub limit: Option<Bytes>,
    /// The mount namespace that it runs in, where that is not ours.
    pub view: Option<Arc<View>>,
}

/// What a task reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// What we read.
    Inherit,
    /// Nothing.
    Null,
}

/// Where a task's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To where ours goes.
    Inherit,
    /// Nowhere.
    Null,
    /// To this file, made anew.
    File(PathBuf),
}

impl Launch {
    /// This command in our own environment, with our input and output and without a limit.
    pub fn new<T: Into<OsString>>(command: impl IntoIterator<Item = T>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: std::env::vars_os().collect(),
            working_directory: None,
            stdin: Stdin::Inherit,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            limit: None,
            view: None,
        }
    }
}

/// Runs one command as a process of this machine.
#[derive(Debug)]
pub struct ProcessRunner {
    roots: HostRoots,
    launch: Launch,
    /// The command laid out, once there was a run.
    image: Option<Image>,
    placement: Placement,
    only_in_cgroup: bool,
    noise: Bytes,
}

impl ProcessRunner {
    /// A runner of this command.
    pub fn new(machine: &Machine, launch: Launch) -> Self {
        Self {
            placement: Placement::new(machine),
            only_in_cgroup: false,
            roots: machine.roots.clone(),
            launch,
            image: None,
            noise: machine::noise(&machine.facts),
        }
    }

    /// Never uses a cgroup: every peak is a sampled lower bound.
    #[must_use]
    pub fn without_cgroup(self) -> Self {
        Self { placement: self.placement.none(), ..self }
    }

    /// Fails rather than to sample: every peak is the kernel's own.
    #[must_use]
    pub fn only_in_cgroup(mut self) -> Self {
        self.only_in_cgroup = true;
        self
    }

    fn start_image(&mut self, image: &Image) -> Result<ProcessRun, StartError> {
        while let Some(entered) = self.placement.enter() {
            match self.start_in(entered, image) {
                Ok(run) => return Ok(run),
                Err(SpawnError::Start(error)) => return Err(error),
                // Made, but not to be entered: a cgroup that is delegated to us while we are not below it.
                Err(SpawnError::Join(error)) => {
                    self.placement.refuse(Obstacle::Other(format!("a process may not enter it: {error}")));
                }
            }
        }
        self.start_sampled(image)
    }

    fn start_in(&self, mut entered: Entered, image: &Image) -> Result<ProcessRun, SpawnError> {
        let own = &entered.own;
        let above = Above::of(own.cgroup(), &mut entered.reader);
        if let Some(limit) = self.launch.limit {
            own.limit(limit)?;
        }
        let started = Instant::now();
        let spawned = match own.cgroup().version() {
            CgroupVersion::V1 => spawn(image, &self.launch, Join::Write(own.door()))?,
            CgroupVersion::V2 => match spawn(image, &self.launch, Join::CloneInto(own.door())) {
                // Before Linux 5.7, or where a seccomp filter does not know clone3.
                Err(SpawnError::Join(error)) if is_unknown_call(&error) => {
                    let door = std::fs::OpenOptions::new()
                        .write(true)
                        .open(own.cgroup().path.join("cgroup.procs"))
                        .map_err(SpawnError::Join)?;
                    spawn(image, &self.launch, Join::Write(door.as_fd()))?
                }
                result => result?,
            },
        };
        let way = Way::Cgroup(Box::new(InCgroup::new(entered, above, &self.roots, self.noise)));
        Ok(ProcessRun { spawned, started, way, highest: None, reaped: false })
    }

    fn start_sampled(&self, image: &Image) -> Result<ProcessRun, StartError> {
        let reason = self.placement.reason();
        let remedy = self.placement.remedy();
        if self.only_in_cgroup {
            return Err(StartError::NoCgroup { reason, remedy });
        }
        if let Some(limit) = self.launch.limit {
            return Err(StartError::NoLimit { limit, reason, remedy });
        }
        let family = Family::of_this_process(&self.roots)?;
        let started = Instant::now();
        match spawn(image, &self.launch, Join::Stay) {
            Ok(spawned) => {
                let way = Way::Sampled(Sampled::new(family, reason, remedy));
                Ok(ProcessRun { spawned, started, way, highest: None, reaped: false })
            }
            Err(SpawnError::Start(error)) => Err(error),
            Err(SpawnError::Join(source)) => Err(StartError::System { action: "make a process", source }),
        }
    }
}

impl Runner for ProcessRunner {
    fn start(&mut self) -> Result<Box<dyn Running>, StartError> {
        let image = match self.image.take() {
            Some(image) => image,
            None => Image::lay_out(&self.launch)?,
        };
        let run = self.start_image(&image);
        self.image = Some(image);
        Ok(Box::new(run?))
    }
}

fn is_unknown_call(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOSYS | Errno::E2BIG | Errno::EINVAL | Errno::EPERM)
    )
}

#[derive(Debug)]
enum Way {
    Cgroup(Box<InCgroup>),
    Sampled(Sampled),
}

/// What is known of a run when its first process has been waited for.
#[derive(Clone, Copy, Debug)]
struct Ended {
    end: End,
    rusage: Cpu,
    /// The highest usage sampled.
    highest: Option<Bytes>,
}

#[derive(Debug)]
struct ProcessRun {
    spawned: Spawned,
    started: Instant,
    way: Way,
    highest: Option<Bytes>,
    reaped: bool,
}

impl Running for ProcessRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Process
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.spawned.pidfd.as_fd()
    }

    fn settle(&mut self) {
        match &mut self.way {
            Way::Cgroup(run) => run.settle(self.spawned.pid),
            // Without a cgroup there is no telling later which processes belong to the run.
            Way::Sampled(_) => {}
        }
    }

    fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        let sample = match &mut self.way {
            Way::Cgroup(run) => run.sample(self.spawned.pid)?,
            Way::Sampled(run) => run.sample(self.spawned.pid)?,
        };
        if let Reading::Value(Sample { current, .. }) = sample {
            self.highest = self.highest.max(Some(current));
        }
        Ok(sample)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        match kill(Pid::from_raw(self.spawned.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Finished, FinishError> {
        if let Way::Cgroup(run) = &mut self.way {
            run.look_for_ended(self.spawned.pid);
        }
        let (end, rusage) = wait(self.spawned.pid)?;
        self.reaped = true;
        let ended = Ended { end, rusage, highest: self.highest };
        match &mut self.way {
            Way::Cgroup(run) => run.finish(ended),
            Way::Sampled(run) => run.finish(ended),
        }
    }
}

impl Drop for ProcessRun {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // Dropped without `finish`: nobody wants the numbers, but nothing may be left. The cgroup cleans up itself.
        let _ = self.signal(Signal::SIGKILL);
        let _ = wait(self.spawned.pid);
        match &mut self.way {
            Way::Cgroup(_) => {}
            Way::Sampled(run) => drop(run.kill_rest()),
        }
    }
}

/// Waits for the first process; with it comes the time it spent (`wait4(2)`).
fn wait(pid: i32) -> Result<(End, Cpu), FinishError> {
    let mut status = 0;
    // SAFETY: a rusage is numbers only, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers lead to variables of the right type that outlive the call.
        if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
            break;
        }
        let source = io::Error::last_os_error();
        if source.kind() != io::ErrorKind::Interrupted {
            return Err(FinishError::Wait { pid, source });
        }
    }
    let end = if libc::WIFSIGNALED(status) {
        End::Signalled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    };
    let time = |time: libc::timeval| {
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec).unwrap_or(0)
    };
    let cpu = Cpu { user_us: time(usage.ru_utime), system_us: time(usage.ru_stime), source: CpuSource::Rusage };
    Ok((end, cpu))
}
