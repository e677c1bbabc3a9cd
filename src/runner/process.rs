//! Runs a command of this machine in a cgroup of its own, or samples its processes if that is impossible.

pub(super) mod in_cgroup;
mod lookout;
mod sampled;
mod step;
mod surrounding;

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::kill;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};

use self::in_cgroup::{Above, InCgroup};
use self::lookout::Lookout;
use self::sampled::Sampled;
use self::step::{StepError, Steps};
use self::surrounding::Surrounding;
use super::engine::client::started_since;
use super::patience::Patience;
use super::placement::{Obstacle, PlacedCgroup, Placement};
use super::reaper::{Reaped, Reaper, Request, Started, kill_orphans};
use super::run_cgroup::{LONGEST_ENDING, Members, largest_in};
use super::spawn::{Image, Join, SpawnError, Stdio};
use super::{End, FinishError, Finished, Runner, Running, Sample, StartError, reaper};
use crate::host::machine::{self, Machine};
use crate::host::processes::{
    Family, FindProcesses, LargestProcesses, Process, command_line, descendants, is_ending, largest_processes,
    offspring,
};
use crate::host::{HostError, HostRoots};
use crate::model::handoff::Recipient;
use crate::model::observation::{CgroupVersion, Cpu, RunnerKind, Survivor, Warning};
use crate::model::reading::Reading;
use crate::model::signal::Signal;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

pub use super::launch::{Launch, Output, Stdin};

/// How long killing the remaining processes of a task may take. A process of another user, such as a set-user-ID
/// program, cannot be killed at all, and one in an uninterruptible wait dies when the wait ends.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How often to search for orphans of a task: killing one may orphan others.
const ORPHANS_ATTEMPTS: usize = 4;

/// Runs one command as a process of this machine.
#[derive(Debug)]
pub struct ProcessRunner {
    roots: HostRoots,
    launch: Launch,
    /// The prepared command, once there was a run.
    image: Option<Image>,
    placement: Placement,
    /// The way to start runs in steps of the batch job, or why there is none; `None` outside of a job.
    steps: Option<Result<Steps, String>>,
    only_in_cgroup: bool,
    error_bound: Bytes,
    /// The kernel release.
    kernel: String,
    /// Online CPUs.
    cpus: u32,
}

impl ProcessRunner {
    /// Creates a runner for this command.
    pub fn new(machine: &Machine, launch: Launch) -> Self {
        Self {
            placement: Placement::new(machine),
            steps: Steps::find(&machine.roots, machine::error_bound(&machine.facts)),
            only_in_cgroup: false,
            roots: machine.roots.clone(),
            launch,
            image: None,
            error_bound: machine::error_bound(&machine.facts),
            kernel: machine.facts.kernel.clone(),
            cpus: machine.facts.cpus,
        }
    }

    /// Never uses a cgroup: every peak is a sampled lower bound.
    #[must_use]
    pub fn without_cgroup(self) -> Self {
        Self { placement: self.placement.none(), steps: None, ..self }
    }

    /// Fails instead of sampling: every peak is the kernel's own.
    #[must_use]
    pub fn only_in_cgroup(mut self) -> Self {
        self.only_in_cgroup = true;
        self
    }

    fn start_image(&mut self, image: &Image, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        while let Some(entered) = self.placement.enter() {
            match self.start_in(entered, image, patience) {
                Ok(run) => return Ok(Box::new(run)),
                Err(SpawnError::Start(error)) => return Err(error),
                // Created but not joinable: a cgroup that is delegated to us although we are outside of it.
                Err(SpawnError::Join(error)) => {
                    self.placement.refuse(Obstacle::Other(format!("a process cannot enter it: {error}")));
                }
            }
        }
        if let (Some(Ok(steps)), None) = (&self.steps, self.launch.limit) {
            match steps.start(image, &Stdio::open(&self.launch)?, &self.command(), patience) {
                Ok(run) => return Ok(Box::new(run)),
                Err(StepError::Start(error)) => return Err(error),
                Err(StepError::Refused(reason)) => {
                    tracing::info!("the run is not in a step of the job: {reason}");
                    self.steps = Some(Err(reason));
                }
            }
        }
        Ok(Box::new(self.start_sampled(image, patience)?))
    }

    /// Why runs are sampled, and what would make their peaks exact.
    fn obstacle(&self) -> (String, String) {
        let reason = self.placement.reason();
        match &self.steps {
            None => (reason, self.placement.remedy()),
            Some(Ok(_)) => {
                let reason = format!("{reason}, and a limit of its own cannot be set on a step of the job");
                (reason, "remove --limit, or set it on the job, with `--mem` of sbatch".to_owned())
            }
            Some(Err(why)) => {
                let reason = format!("{reason}, and no step of the job can be started: {why}");
                (reason, "make `srun --overlap true` work in the job".to_owned())
            }
        }
    }

    fn command(&self) -> Vec<String> {
        self.launch.command.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    fn start_in(
        &self,
        mut entered: PlacedCgroup,
        image: &Image,
        patience: &mut Patience<'_>,
    ) -> Result<ProcessRun, SpawnError> {
        let own = &entered.own;
        let above = Above::read(own.cgroup(), &mut entered.reader);
        if let Some(limit) = self.launch.limit {
            own.limit(entered.copied_limit.map_or(limit, |copied| copied.min(limit)))?;
        }
        let stdio = Stdio::open(&self.launch)?;
        let started = Instant::now();
        let (own_cgroup, oom_score) = (Some(own.cgroup()), above.oom_score());
        let mut start =
            |join| Reaper::start(Request { image, stdio: &stdio, join, own: own_cgroup, oom_score }, patience);
        let task = match own.cgroup().version() {
            CgroupVersion::V1 => start(Join::Write(own.procs()))?,
            CgroupVersion::V2 => match start(Join::CloneInto(own.procs())) {
                // Before Linux 5.7, or if a seccomp filter does not know clone3.
                Err(SpawnError::Join(error)) if is_unknown_call(&error) => {
                    let procs = std::fs::OpenOptions::new()
                        .write(true)
                        .open(own.cgroup().path.join("cgroup.procs"))
                        .map_err(SpawnError::Join)?;
                    start(Join::Write(procs.as_fd()))?
                }
                result => result?,
            },
        };
        let measurement =
            Measurement::Cgroup(Box::new(InCgroup::new(entered, above, self.error_bound, &self.kernel, self.cpus)));
        Ok(self.run(task, started, measurement))
    }

    fn start_sampled(&self, image: &Image, patience: &mut Patience<'_>) -> Result<ProcessRun, StartError> {
        let (reason, remedy) = self.obstacle();
        if self.only_in_cgroup {
            return Err(StartError::NoCgroup { reason, remedy });
        }
        if let Some(limit) = self.launch.limit {
            return Err(StartError::NoLimit { limit, reason, remedy });
        }
        let surrounding = Surrounding::find(&self.roots, self.error_bound);
        let stdio = Stdio::open(&self.launch)?;
        let started = Instant::now();
        let oom_score = surrounding.as_ref().map_or(0, Surrounding::oom_score);
        match Reaper::start(Request { image, stdio: &stdio, join: Join::Stay, own: None, oom_score }, patience) {
            Ok(task) => {
                let sampled = Sampled::new(&self.roots, task.reaper.pid, surrounding, reason, remedy);
                Ok(self.run(task, started, Measurement::Sampled(Box::new(sampled))))
            }
            Err(SpawnError::Start(error)) => Err(error),
            Err(SpawnError::Join(source)) => Err(StartError::System { action: "create a process", source }),
        }
    }

    fn run(&self, task: Started, started: Instant, measurement: Measurement) -> ProcessRun {
        let lookout = Lookout::new(&self.roots, task.reaper.pid, started, &self.command());
        ProcessRun { task, started, started_at: Timestamp::now(), measurement, lookout, highest: None, finished: false }
    }
}

impl Runner for ProcessRunner {
    fn start(&mut self, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        let image = match self.image.take() {
            Some(image) => image,
            None => Image::lay_out(&self.launch)?,
        };
        let run = self.start_image(&image, patience);
        self.image = Some(image);
        run
    }
}

/// Starts and ends a step of the Slurm job that this process is part of. Returns the error bound of peaks in steps, or why
/// there are none; `None` outside of a job.
pub fn try_step(machine: &Machine) -> Option<Result<Bytes, String>> {
    let steps = Steps::find(&machine.roots, machine::error_bound(&machine.facts))?;
    Some(steps.and_then(|steps| steps.try_out()))
}

fn is_unknown_call(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOSYS | Errno::E2BIG | Errno::EINVAL | Errno::EPERM)
    )
}

#[derive(Debug)]
enum Measurement {
    Cgroup(Box<InCgroup>),
    Sampled(Box<Sampled>),
}

/// Result of waiting for the main process.
#[derive(Clone, Copy, Debug)]
struct WaitResult {
    end: End,
    rusage: Reading<Cpu>,
    /// The highest usage sampled.
    highest: Option<Bytes>,
    /// The largest resident set of a process, including mapped files (`ru_maxrss`). A process inherits the value of the
    /// program that executed it: the first one, that of highwater itself.
    largest_rss: Option<Bytes>,
}

#[derive(Debug)]
struct ProcessRun {
    task: Started,
    started: Instant,
    started_at: Timestamp,
    measurement: Measurement,
    lookout: Lookout,
    highest: Option<Bytes>,
    finished: bool,
}

impl ProcessRun {
    /// Kills the remaining processes of a task whose reaper was killed, and in turn the orphans that each leaves.
    fn kill_orphans(&self) {
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
        let ticks =
            sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u32::try_from(ticks).ok()).unwrap_or(100);
        // One tick less, to include processes started in the same tick.
        let started = since.saturating_sub(self.started.elapsed()).as_secs_f64() * f64::from(ticks) - 1.0;
        for _ in 0..ORPHANS_ATTEMPTS {
            kill_orphans(&self.lookout.roots, started as u64);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the remaining processes of the task, inside its cgroup and outside, and records what was there.
    fn end_rest(&mut self) -> Rest {
        let mut rest = Rest::default();
        let deadline = Instant::now() + KILL_TIMEOUT;
        if let Measurement::Cgroup(run) = &self.measurement {
            match run.kill_all() {
                Ok(killed) => rest.killed = Reading::Value(killed),
                Err(problem) => rest.problems.extend(problem),
            }
        } else {
            rest.killed = Reading::Value(0);
        }
        let mut killed = HashSet::new();
        loop {
            match self.task.report() {
                Ok(reaped) => {
                    let has_more = reaped.has_more;
                    rest.reaped = Some(reaped);
                    if !has_more {
                        break;
                    }
                }
                Err(error) => {
                    rest.problems.push(Warning::ReaperLost { reason: error.to_string() });
                    rest.reaped = None;
                    self.kill_orphans();
                    break;
                }
            }
            let family = Family::new(descendants(&self.lookout.roots, self.task.reaper.pid).unwrap_or_default());
            // Processes that have just ended are in the next report; the monitor of a container stays.
            let is_all = family.task.is_empty() && !family.monitors.is_empty() && family.monitors == rest.monitors;
            rest.monitors = family.monitors;
            if is_all {
                break;
            }
            if let Measurement::Cgroup(run) = &self.measurement
                && let Some(own) = run.cgroup()
            {
                self.lookout.found_outside(&family.task, own);
            }
            rest.survivors = family.task;
            let is_ending = |process: &Process| is_ending(&self.lookout.roots, process.identity.pid);
            if Instant::now() > deadline
                && (Instant::now() > deadline + LONGEST_ENDING || !rest.survivors.iter().any(is_ending))
            {
                break;
            }
            for process in &rest.survivors {
                killed.insert(process.identity);
                let _ = kill(Pid::from_raw(process.identity.pid), nix::sys::signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(1));
            rest.survivors.clear();
        }
        rest.killed = rest.killed.map(|before| before + killed.len() as u64);
        if !rest.survivors.is_empty() {
            // The survivors are named, which is more useful than the error that emptying the cgroup took too long.
            rest.problems.clear();
        }
        rest
    }
}

/// What was left of a task when its first process had ended.
#[derive(Debug)]
struct Rest {
    killed: Reading<u64>,
    /// The report of the reaper, unless it was killed.
    reaped: Option<Reaped>,
    /// Still there after SIGKILL.
    survivors: Vec<Process>,
    /// Container monitors that the task has left running.
    monitors: Vec<Process>,
    problems: Vec<Warning>,
}

impl Default for Rest {
    fn default() -> Self {
        let (survivors, monitors, problems) = (Vec::new(), Vec::new(), Vec::new());
        Self { killed: Reading::Unsupported, reaped: None, survivors, monitors, problems }
    }
}

impl Running for ProcessRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Process
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.task.pidfd.as_fd()
    }

    fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        let usage = match &mut self.measurement {
            Measurement::Cgroup(run) => {
                self.lookout.look_in_time(run.cgroup());
                run.usage()?
            }
            Measurement::Sampled(_) => Reading::Unsupported,
        };
        self.highest = self.highest.max(usage.value());
        Ok(usage)
    }

    fn notify_above(&mut self, usage: Bytes) -> Option<OwnedFd> {
        match &self.measurement {
            Measurement::Cgroup(run) => run.notify_above(usage),
            Measurement::Sampled(_) => None,
        }
    }

    fn largest_processes(&mut self, most: usize) -> LargestProcesses {
        let roots = &self.lookout.roots;
        let mut found = match &self.measurement {
            Measurement::Cgroup(run) => run.cgroup().map(|own| largest_in(roots, own, most)).unwrap_or_default(),
            Measurement::Sampled(_) => {
                let pids = offspring(roots, self.task.reaper.pid).unwrap_or_default();
                let found = largest_processes(roots, &pids, most);
                // The private memory of a single process is a lower bound, too.
                self.highest = self.highest.max(found.largest.first().map(|process| process.anon));
                found
            }
        };
        // A process that has not executed its program yet has the name of its parent.
        found.largest.retain(|process| process.name.as_bytes() != reaper::NAME.to_bytes());
        found
    }

    fn find_processes(&self) -> Option<Box<dyn FindProcesses>> {
        let cgroup = match &self.measurement {
            Measurement::Cgroup(run) => run.cgroup().map(|own| own.path.clone()),
            Measurement::Sampled(_) => None,
        };
        Some(Box::new(Members { roots: self.lookout.roots.clone(), cgroup, ancestor: Some(self.task.reaper.pid) }))
    }

    fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        let sample = match &mut self.measurement {
            Measurement::Cgroup(run) => {
                self.lookout.look_in_time(run.cgroup());
                run.sample()?
            }
            Measurement::Sampled(run) => {
                self.lookout.look_in_time(None);
                run.sample()?
            }
        };
        if let Reading::Value(Sample { current, .. }) = sample {
            self.highest = self.highest.max(Some(current));
        }
        Ok(sample)
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        send(self.task.pidfd.as_fd(), signal)
    }

    fn finish(mut self: Box<Self>, _: &mut Patience<'_>) -> Result<Finished, FinishError> {
        self.finished = true;
        let rest = self.end_rest();
        if !rest.survivors.is_empty() {
            self.task.reaper.stay();
        }
        let (end, rusage) = match rest.reaped.as_ref().and_then(|reaped| reaped.first) {
            Some((end, rusage)) => (end, Reading::Value(rusage)),
            None if rest.survivors.is_empty() => (End::Lost, Reading::Unsupported),
            None => (End::StillRunning, Reading::Unsupported),
        };
        let largest_rss = rest.reaped.as_ref().map(|reaped| reaped.largest_rss);
        let ended = WaitResult { end, rusage, highest: self.highest, largest_rss };
        let mut finished = match &mut self.measurement {
            Measurement::Cgroup(run) => run.finish(ended, &rest, &self.lookout),
            Measurement::Sampled(run) => run.finish(ended, &self.lookout),
        }?;
        finished.leftover_processes = rest.killed;
        finished.survivors = rest.survivors.iter().map(survivor).collect();
        finished.problems.splice(0..0, rest.problems);
        finished.problems.extend(rest.monitors.iter().map(|monitor| left_running(&self.lookout.roots, monitor)));
        if self.lookout.daemon().is_some_and(|daemon| daemon.to == Recipient::Engine) {
            let started = self.started_at.as_second();
            let containers = started_since(started).into_iter();
            finished.problems.extend(containers.map(|container| Warning::ContainerStarted { container }));
        }
        if let Some(handoff) = self.lookout.other_machine() {
            finished.problems.push(Warning::OtherMachine { client: handoff.client.clone() });
        }
        Ok(finished)
    }
}

impl Drop for ProcessRun {
    fn drop(&mut self) {
        if !self.finished {
            // Dropped without `finish`: the results are not wanted, but nothing may be left behind. The cgroup cleans
            // up itself.
            let _ = self.signal(Signal::SIGKILL);
            if !self.end_rest().survivors.is_empty() {
                self.task.reaper.stay();
            }
        }
    }
}

/// Sends a signal to the process behind a descriptor. A process that has ended or may not be signalled is not an error.
fn send(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    // SAFETY: takes numbers; a null pointer selects the default information about the sender.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.0, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match Errno::result(sent) {
        // A set-user-ID program may not be signalled; if it does not end, it is reported as a survivor.
        Ok(_) | Err(Errno::ESRCH | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn survivor(process: &Process) -> Survivor {
    Survivor { pid: process.identity.pid, name: Some(process.name.clone()), state: Some(process.state) }
}

/// Names a container that the task has started without a daemon and left running.
fn left_running(roots: &HostRoots, monitor: &Process) -> Warning {
    let pid = monitor.identity.pid;
    let words = command_line(roots, pid);
    let value = |option: &str| words.iter().skip_while(|word| *word != option).nth(1).cloned();
    Warning::ContainerLeftRunning { name: value("-n").or_else(|| value("-c")), pid }
}
