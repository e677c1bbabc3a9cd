//! A run in a step of a Slurm job.
//!
//! On cgroup v2 the processes of a job cannot create cgroups of their own, but Slurm creates one for every step, and
//! `srun` starts a step within the job in about a tenth of a second. Its first process is the probe, which receives the
//! files and the command of the task over a socket and keeps the step, and with it the counters, until they are read.

mod srun;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::sched_setaffinity;
use nix::unistd::Pid;

use self::srun::Srun;
use super::in_cgroup::{Above, Departure, Problems, unless_reset};
use super::lookout::Lookout;
use crate::host::cgroup::{Cgroup, memory_cgroup};
use crate::host::cpus::throttling_in;
use crate::host::memory::MemoryReader;
use crate::host::processes::{FindProcesses, LargestProcesses};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Exactness, Limits, Peak, PeakSource, RunnerKind, Survivor, Warning};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::signal::Signal;
use crate::model::units::Bytes;
use crate::runner::launch::{Launch, Output, Stdin};
use crate::runner::patience::Patience;
use crate::runner::probe::Report;
use crate::runner::run_cgroup::{Members, largest_in};
use crate::runner::spawn::{Failure, Image, SpawnError, Stdio};
use crate::runner::{End, FinishError, Finished, Running, Sample, StartError};

/// How long the probe may take to report the end of a task that has ended or was killed.
const REPORT_END: Duration = Duration::from_secs(10);

/// Longer than any result.
const LONGEST_REPORT: u64 = 1 << 16;

/// Starts runs in steps of the job that this process belongs to.
#[derive(Clone, Debug)]
pub(in crate::runner) struct Steps {
    roots: HostRoots,
    /// The program `srun`.
    program: PathBuf,
    error_bound: Bytes,
}

/// Why a run is not in a step.
pub(super) enum StepError {
    /// There is no step for it.
    Refused(String),
    /// Its command is at fault.
    Start(StartError),
}

impl Steps {
    /// Checks whether this process is part of a Slurm job that could start steps. `None` outside of a job.
    pub(in crate::runner) fn find(roots: &HostRoots, error_bound: Bytes) -> Option<Result<Self, String>> {
        let job = std::env::var("SLURM_JOB_ID").ok()?;
        let own = memory_cgroup(roots, "self").ok()?;
        // The shell that `salloc` starts has the variable, but is not part of the job.
        let is_job = |cgroup: Cgroup| cgroup.path.file_name().is_some_and(|name| *name == *format!("job_{job}"));
        own.ancestry().any(is_job).then(|| {
            srun::available()?;
            let program = srun::program().ok_or("there is no `srun` in PATH")?;
            Ok(Self { roots: roots.clone(), program, error_bound })
        })
    }

    /// Starts a step with a command that does nothing; returns the error bound of peaks.
    pub(super) fn try_out(&self) -> Result<Bytes, String> {
        let launch = Launch { stdin: Stdin::Null, stdout: Output::Null, stderr: Output::Null, ..Launch::new(["true"]) };
        let start = || {
            let stdio = Stdio::open(&launch).map_err(StepError::Start)?;
            self.start(&Image::lay_out(&launch).map_err(StepError::Start)?, &stdio, &[], &mut Patience::new(None))
        };
        match start() {
            Ok(run) => Ok(self.error_bound.saturating_add(run.charged_before)),
            Err(StepError::Refused(reason)) => Err(reason),
            Err(StepError::Start(error)) => Err(one_line(&error)),
        }
    }

    /// Starts the task as the first process of a new step.
    pub(super) fn start(
        &self,
        image: &Image,
        stdio: &Stdio,
        command: &[String],
        patience: &mut Patience<'_>,
    ) -> Result<StepRun, StepError> {
        let refused = StepError::Refused;
        let (srun, mut line, pid) = match Srun::start(&self.program, patience) {
            Ok(started) => started,
            // Nothing else is to be tried.
            Err(_) if patience.left(Duration::MAX).is_zero() => {
                let source = io::ErrorKind::TimedOut.into();
                return Err(StepError::Start(StartError::System { action: "start a step of the job", source }));
            }
            Err(reason) => return Err(refused(reason)),
        };
        let cgroup = self.own_cgroup(pid).map_err(refused)?;
        let mut reader = MemoryReader::new(&cgroup);
        let value = |reading: Result<Reading<Bytes>, HostError>| reading.ok().and_then(Reading::value);
        let (Some(peak_before), Some(charged_before)) = (value(reader.peak()), value(reader.current())) else {
            return Err(refused(format!("the kernel keeps no peak in {}", cgroup.path.display())));
        };
        let above = Above::read(&cgroup, &mut reader);
        // The task inherits them.
        let pinned =
            image.cpus().and_then(|cpus| cpus.map_or(Ok(()), |cpus| sched_setaffinity(Pid::from_raw(pid), &cpus)));
        pinned.map_err(|errno| {
            StepError::Start(StartError::System { action: "keep the task on its CPUs", source: errno.into() })
        })?;
        let started = Instant::now();
        srun::send(&line, image, stdio, above.oom_score()).map_err(|error| refused(one_line(&error)))?;
        let text = started_or_failed(&mut line, patience).map_err(|source| match source.kind() {
            // Nothing else is to be tried.
            io::ErrorKind::TimedOut => StepError::Start(StartError::System { action: "start the task", source }),
            _ => refused(one_line(&source)),
        })?;
        if let Some(failure) = failure_in(&text) {
            return Err(match failure.explain(image) {
                SpawnError::Start(error) => StepError::Start(error),
                SpawnError::Join(error) => refused(one_line(&error)),
            });
        }
        let lookout = Lookout::new(&self.roots, pid, started, command);
        let error_bound = self.error_bound;
        let (highest, highest_counter) = (None, None);
        let run = StepRun {
            srun,
            line,
            is_closed: false,
            pid,
            text,
            cgroup,
            reader,
            above,
            error_bound,
            peak_before,
            charged_before,
            started,
            lookout,
            highest,
            highest_counter,
        };
        Ok(run)
    }

    /// The cgroup of the probe, which must be there for the run alone.
    fn own_cgroup(&self, pid: i32) -> Result<Cgroup, String> {
        let cgroup = memory_cgroup(&self.roots, &pid.to_string()).map_err(|error| one_line(&error))?;
        let list = std::fs::read_to_string(cgroup.path.join("cgroup.procs"));
        if list.is_ok_and(|list| list.lines().eq([pid.to_string()])) {
            Ok(cgroup)
        } else {
            Err(format!("the step has no memory cgroup of its own: it is in {}", cgroup.path.display()))
        }
    }
}

/// Reads until the probe has started the task or failed to.
fn started_or_failed(line: &mut UnixStream, patience: &mut Patience<'_>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let is_over = |text: &[u8]| text.ends_with(b"\nstarted 1\n") || failure_in(text).is_some();
    while !is_over(&text) {
        srun::wait_for(line.as_fd(), Duration::from_secs(1), patience);
        if patience.left(Duration::MAX).is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "interrupted before its program was loaded"));
        }
        // The end of the task may follow at once, and has to stay readable.
        if read_more(line, 1, &mut text)? == Some(0) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the step ended before the task had started"));
        }
    }
    Ok(text)
}

/// Appends what has come, at most `most` bytes; `Some(0)` at the end, `None` if nothing has come.
fn read_more(line: &mut UnixStream, most: u64, text: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let before = text.len();
    match line.take(most).read_to_end(text) {
        Ok(length) => Ok(Some(length)),
        Err(_) if text.len() > before => Ok(Some(text.len() - before)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The failure in a last line `failed STEP ERRNO`.
fn failure_in(text: &[u8]) -> Option<Failure> {
    let text = str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let (step, errno) = text.lines().last()?.strip_prefix("failed ")?.split_once(' ')?;
    let [a, b, c, d] = errno.parse::<i32>().ok()?.to_ne_bytes();
    Some(Failure::decode([step.parse().ok()?, a, b, c, d]))
}

/// A task in a step. Dropping it ends the step.
#[derive(Debug)]
pub(super) struct StepRun {
    srun: Srun,
    /// The connection to the probe, which ends the step when it is closed.
    line: UnixStream,
    /// Whether the probe has closed it.
    is_closed: bool,
    /// The pid of the probe.
    pid: i32,
    /// The result so far.
    text: Vec<u8>,
    cgroup: Cgroup,
    reader: MemoryReader,
    above: Above,
    error_bound: Bytes,
    /// The peak before the task was started,
    peak_before: Bytes,
    /// and what was charged then: the probe, and what Slurm left behind.
    charged_before: Bytes,
    started: Instant,
    lookout: Lookout,
    highest: Option<Bytes>,
    /// The highest value seen of the peak counter.
    highest_counter: Option<Bytes>,
}

impl StepRun {
    fn read(&mut self) -> Result<Reading<Sample>, HostError> {
        let current = self.reader.current()?;
        self.highest_counter = self.highest_counter.max(self.reader.peak()?.value());
        let split = self.reader.split()?;
        self.highest = self.highest.max(current.value());
        Ok(current.map(|current| Sample { current, split }))
    }

    /// Reads the rest of the result. `None` if the probe was killed, or does not answer.
    fn report(&mut self, patience: &mut Patience<'_>) -> Result<Option<Report>, Warning> {
        let until = Instant::now() + REPORT_END;
        loop {
            let report =
                Report::parse(&self.text).map_err(|error| Warning::NoProbeResult { reason: one_line(&error) })?;
            if report.end.is_some() {
                return Ok(Some(report));
            }
            let left = until.saturating_duration_since(Instant::now());
            srun::wait_for(self.line.as_fd(), left, patience);
            match read_more(&mut self.line, LONGEST_REPORT, &mut self.text) {
                Ok(None) if left.is_zero() => return Ok(None),
                Ok(Some(0)) | Err(_) => {
                    self.is_closed = true;
                    return Ok(None);
                }
                Ok(_) => {}
            }
        }
    }

    /// The exactness of the kernel's counter, which counts what the probe itself used, `own`, as well. Nothing can leave the cgroups of a job without privileges.
    fn exactness(&self, counter: Bytes, own: Bytes) -> Exactness {
        if let Some(Departure { reason, remedy }) = Departure::seen(&self.lookout) {
            return Exactness::LowerBound { reason, remedy };
        }
        // The step was not empty before the task: what was there counts as an error. A counter that has not risen says
        // only that the task stayed below it.
        let before = if counter > self.peak_before { self.charged_before } else { counter };
        Exactness::Exact { error_bound_bytes: self.error_bound.saturating_add(before).saturating_add(own) }
    }

    fn peak(&mut self, report: Option<&Report>, problems: &mut Problems) -> Reading<Peak> {
        let peak = |bytes, file, exactness| {
            Reading::Value(Peak {
                bytes,
                source: PeakSource::OwnCgroup,
                file: Some(file),
                exactness,
                upper_bound: None,
            })
        };
        let file = self.reader.peak_file().to_owned();
        let Some(report) = report else {
            let reason = "the step was killed before its peak could be read".to_owned();
            let remedy = "run the task again; see the notes".to_owned();
            let bytes = self.highest.max(self.highest_counter);
            return bytes.map_or(Reading::Gone, |bytes| peak(bytes, file, Exactness::LowerBound { reason, remedy }));
        };
        let counter = problems.read(self.reader.peak()).value().or(report.peak().map(|(bytes, _)| bytes));
        let Some(counter) = counter else { return Reading::Gone };
        let seen = self.highest_counter.max(self.highest);
        let (bytes, exactness) = unless_reset(counter, seen, self.error_bound, self.exactness(counter, report.own));
        peak(bytes, file, exactness)
    }

    /// The processes of the step that are still there, without the probe.
    fn survivors(&self) -> Vec<Survivor> {
        let list = std::fs::read_to_string(self.cgroup.path.join("cgroup.procs")).unwrap_or_default();
        let pids = list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != self.pid);
        pids.map(|pid| Survivor { pid, name: None, state: None }).collect()
    }
}

impl Running for StepRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Process
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn shares_terminal(&self) -> bool {
        false
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        self.lookout.look_in_time(Some(&self.cgroup));
        let usage = self.reader.current()?;
        self.highest = self.highest.max(usage.value());
        Ok(usage)
    }

    fn notify_above(&mut self, usage: Bytes) -> Option<OwnedFd> {
        self.reader.notify_above(usage)
    }

    fn largest_processes(&mut self, most: usize) -> LargestProcesses {
        largest_in(&self.lookout.roots, &self.cgroup, most)
    }

    fn find_processes(&self) -> Option<Box<dyn FindProcesses>> {
        let (roots, cgroup) = (self.lookout.roots.clone(), Some(self.cgroup.path.clone()));
        Some(Box::new(Members { roots, cgroup, ancestor: None }))
    }

    fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        self.lookout.look_in_time(Some(&self.cgroup));
        self.read()
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let byte = u8::try_from(signal.0).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        match self.line.write(&[byte]) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            // It has ended.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>, patience: &mut Patience<'_>) -> Result<Finished, FinishError> {
        let mut problems = Problems::default();
        let report = self.report(patience).unwrap_or_else(|problem| {
            problems.0.push(problem);
            None
        });
        let last = problems.read(self.read());
        let peak = self.peak(report.as_ref(), &mut problems);
        let survivors = self.survivors();
        let end = match report.as_ref().and_then(|report| report.end) {
            Some(end) => end,
            None if !self.is_closed => End::StillRunning,
            // Only SIGKILL ends the probe, and it takes the task along.
            None => {
                problems.0.push(Warning::ProbeKilled);
                End::Signalled(libc::SIGKILL)
            }
        };
        let own_limit = problems.read(self.reader.limit());
        let mut finished = Finished {
            writable_layer: Reading::Unsupported,
            end,
            peak,
            last,
            swap_peak: problems.read(self.reader.swap_peak()),
            limit: Limits { own: own_limit, effective: self.above.lowest_with(own_limit), copied_from: None },
            held_back_from_above: self.above.held_back(),
            events: problems.read(self.reader.events()),
            cpu: problems.read(self.reader.cpu()),
            throttling: throttling_in(&self.cgroup.path).into(),
            io: problems.read(self.reader.io()),
            pids_peak: problems.read(self.reader.pids_peak()),
            pressure: problems.read(self.reader.pressure()),
            leftover_processes: Reading::Unsupported,
            survivors,
            problems: problems.0,
            contained: None,
        };
        if let Some(report) = &report {
            report.fill(&mut finished);
        }
        if let Some(handoff) = self.lookout.other_machine() {
            finished.problems.push(Warning::OtherMachine { client: handoff.client.clone() });
        }
        Ok(finished)
    }
}

impl Drop for StepRun {
    fn drop(&mut self) {
        // An error means that it is closed.
        let _ = self.line.shutdown(Shutdown::Both);
        self.srun.wait();
    }
}
