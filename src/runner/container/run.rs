//! One container under way, from its start to its removal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::ContainerState;
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder, WaitContainerOptionsBuilder};
use futures_util::StreamExt;
use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use tokio::sync::oneshot;

use super::leaf::Leaf;
use super::logs::Forwarding;
use super::parent::Parent;
use super::{ContainerRunner, Way, noise, remove};
use crate::host::memory::MemoryReader;
use crate::host::processes::LargestProcesses;
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Container, Events, Exactness, Limits, Logs, Peak, PeakSource, RunnerKind};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::engine::Engine;
use crate::runner::own_cgroup::largest_in;
use crate::runner::probe::{self, Report};
use crate::runner::process::in_cgroup::{Above, Problems, unless_reset};
use crate::runner::{Contained, End, FinishError, Finished, Running, Sample, StartError};

/// How long the rest of the output may take once the container has ended.
const LAST_OUTPUT: Duration = Duration::from_secs(5);
/// How long the engine may take for a signal or for tidying up, before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a container ended.
#[derive(Debug)]
struct Ended {
    /// Its status, or why nobody knows it.
    status: Result<i64, String>,
    state: Option<ContainerState>,
}

pub(super) struct ContainerRun {
    engine: Engine,
    roots: HostRoots,
    id: String,
    facts: Container,
    logs: Option<Logs>,
    stop_signal: Option<String>,
    own_limit: Option<Bytes>,
    noise: Bytes,
    way: Way,
    started: Instant,
    /// The cgroups above the container's, where they are known.
    above: Option<Above>,
    parent: Option<Parent>,
    leaf: Option<Leaf>,
    reader: Option<MemoryReader>,
    /// The most seen in use, and the highest value that the counter of the peak was seen at.
    highest: Option<Bytes>,
    highest_counter: Option<Bytes>,
    forwarding: Forwarding,
    ended: OwnedFd,
    outcome: Option<oneshot::Receiver<Ended>>,
    removed: bool,
}

impl ContainerRun {
    pub(super) fn new(
        runner: &ContainerRunner,
        id: &str,
        parent: Option<Parent>,
        way: Way,
        mut forwarding: Forwarding,
    ) -> Result<Self, StartError> {
        let engine = runner.engine.clone();
        let (ended, told) = pipe2(OFlag::O_CLOEXEC)
            .map_err(|errno| StartError::System { action: "make a pipe", source: errno.into() })?;
        let (sender, outcome) = oneshot::channel();
        engine.spawn(follow(engine.docker.clone(), id.to_owned(), forwarding.closed.take(), told, sender));
        let leaf = if parent.is_none() { find_leaf(runner, id) } else { None };
        let mut reader = match (&parent, &leaf) {
            (Some(parent), _) => Some(parent.reader()),
            (None, Some(leaf)) => Some(MemoryReader::new(&leaf.cgroup)),
            (None, None) => None,
        };
        // The cgroup around it has no limit; the container's own is known.
        let cgroup = parent.as_ref().map(Parent::cgroup).or(leaf.as_ref().map(|leaf| &leaf.cgroup));
        let above = reader.as_mut().zip(cgroup).map(|(reader, cgroup)| Above::of(cgroup, reader));
        Ok(Self {
            engine,
            roots: runner.machine.roots.clone(),
            id: id.to_owned(),
            facts: runner.container(),
            logs: runner.launch.logs.clone(),
            stop_signal: runner.image.stop_signal.clone(),
            own_limit: runner.launch.limit,
            noise: noise(&runner.machine, &runner.engine),
            way,
            started: Instant::now(),
            above,
            parent,
            leaf,
            reader,
            highest: None,
            highest_counter: None,
            forwarding,
            ended,
            outcome: Some(outcome),
            removed: false,
        })
    }
}

/// The container's cgroup, where its first process is one of this machine's and still there.
fn find_leaf(runner: &ContainerRunner, id: &str) -> Option<Leaf> {
    if !runner.engine.facts.seems_local() {
        return None;
    }
    let inspected = runner.engine.docker.inspect_container(id, None::<InspectContainerOptions>);
    let state = runner.engine.block_on(inspected).ok()?.state?;
    Leaf::find(&runner.machine, id, state.pid?)
}

/// Waits for the end, then for the last output, then asks how it was. `told` is closed when all is known.
async fn follow(
    docker: Docker,
    id: String,
    closed: Option<oneshot::Receiver<()>>,
    told: OwnedFd,
    sender: oneshot::Sender<Ended>,
) {
    let status = wait(&docker, &id).await;
    if let (Ok(_), Some(closed)) = (&status, closed) {
        // Closed or not: what has not come by then does not come.
        let _ = tokio::time::timeout(LAST_OUTPUT, closed).await;
    }
    let state = match &status {
        Ok(_) => {
            docker.inspect_container(&id, None::<InspectContainerOptions>).await.ok().and_then(|found| found.state)
        }
        Err(_) => None,
    };
    // Nobody listens where the run was given up.
    let _ = sender.send(Ended { status, state });
    drop(told);
}

async fn wait(docker: &Docker, id: &str) -> Result<i64, String> {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let patient = docker.clone().with_timeout(Duration::from_secs(u64::from(u32::MAX)));
    let mut answers = std::pin::pin!(patient.wait_container(id, Some(options)));
    match answers.next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        // Any status but 0 is an error to the client.
        Some(Err(bollard::errors::Error::DockerContainerWaitError { code, error })) if error.is_empty() => Ok(code),
        Some(Err(bollard::errors::Error::DockerContainerWaitError { error, .. })) => Err(error),
        Some(Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })) => {
            Err("somebody else removed the container".to_owned())
        }
        Some(Err(error)) => Err(format!("the connection to the engine broke ({})", one_line(&error))),
        None => Err("the connection to the engine was closed".to_owned()),
    }
}

impl Running for ContainerRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Container
    }

    fn started(&self) -> Instant {
        self.started
    }

    /// There is nothing to be made ready: what outlives a killed highwater is found by its label.
    fn shares_terminal(&self) -> bool {
        false
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        let Some(reader) = &mut self.reader else { return Ok(Reading::Unsupported) };
        let current = reader.current()?;
        self.highest_counter = self.highest_counter.max(reader.peak()?.value());
        self.highest = self.highest.max(current.value());
        Ok(current)
    }

    fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        let current = self.usage()?;
        let Some(reader) = &mut self.reader else { return Ok(Reading::Unsupported) };
        let split = reader.split()?;
        Ok(current.map(|current| Sample { current, split }))
    }

    fn largest_processes(&mut self, most: usize) -> LargestProcesses {
        let cgroup = self.parent.as_ref().map(Parent::cgroup).or(self.leaf.as_ref().map(|leaf| &leaf.cgroup));
        cgroup.map(|cgroup| largest_in(&self.roots, cgroup, most)).unwrap_or_default()
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // An image can name the signal it wants to be asked to end with, as `docker stop` sends it.
        let name = match (&self.stop_signal, signal) {
            (Some(own), Signal::SIGTERM) => own.as_str(),
            _ => signal.as_str(),
        };
        let options = KillContainerOptionsBuilder::default().signal(name).build();
        let sent =
            async { tokio::time::timeout(PATIENCE, self.engine.docker.kill_container(&self.id, Some(options))).await };
        match self.engine.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            // It has ended meanwhile; or the engine is gone, which the wait for the end tells.
            Ok(Err(error)) => {
                tracing::debug!("{name} was not sent: {}", one_line(&error));
                Ok(())
            }
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the engine does not answer")),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<Finished, FinishError> {
        let ended = match self.outcome.take().map(|outcome| self.engine.block_on(outcome)) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) | None => Ended { status: Err("nobody waited for it".to_owned()), state: None },
        };
        let mut notes = Vec::new();
        let report = self.report(&ended, &mut notes);
        let finished = self.read(&ended, report, &mut notes)?;
        let oom_killed = self.was_oom_killed(&ended, &finished);
        self.tidy_up(&ended, &mut notes)?;
        let state = ended.state;
        Ok(Finished {
            contained: Some(Contained {
                container: self.facts.clone(),
                logs: self.logs.clone(),
                wall: state.as_ref().and_then(wall),
                oom_killed,
            }),
            problems: notes,
            ..finished
        })
    }
}

impl ContainerRun {
    /// What the probe has written down.
    fn report(&self, ended: &Ended, notes: &mut Vec<String>) -> Option<Report> {
        if self.way != Way::Probe || ended.status.is_err() {
            return None;
        }
        let read = self.engine.block_on(self.engine.file_of_container(&self.id, probe::RESULT));
        let report = read
            .map_err(|error| one_line(&error))
            .and_then(|text| Report::parse(&text).map_err(|error| one_line(&error)));
        match report {
            Ok(report) if report.end.is_none() => {
                notes.push("the probe was killed together with the task, before it could read the peak".to_owned());
                Some(report)
            }
            Ok(report) => Some(report),
            Err(reason) => {
                notes.push(format!("the probe left no result: {reason}"));
                None
            }
        }
    }

    fn read(
        &mut self,
        ended: &Ended,
        report: Option<Report>,
        notes: &mut Vec<String>,
    ) -> Result<Finished, FinishError> {
        let end = match (&ended.status, report.as_ref().and_then(|report| report.end)) {
            (Err(reason), _) => {
                notes.push(reason.clone());
                End::Lost
            }
            (Ok(_), Some(end)) => end,
            (Ok(status), None) => End::Exited(i32::try_from(*status).unwrap_or(i32::MAX)),
        };
        let mut problems = Problems::default();
        let last = problems.read(self.sample());
        let last_of_leaf = self.leaf.as_ref().and_then(Leaf::last);
        self.highest_counter = self.highest_counter.max(last_of_leaf.and_then(|last| last.peak));
        let peak = self.peak(end, report.as_ref(), notes)?;
        let mut finished = Finished {
            end,
            peak,
            last,
            swap_peak: Reading::Unsupported,
            limit: self.limits(report.as_ref()),
            held_back_from_above: self.above.as_mut().is_some_and(Above::held_back),
            events: last_of_leaf.map_or(Reading::Unsupported, |last| last.events),
            cpu: Reading::Unsupported,
            io: Reading::Unsupported,
            pids_peak: Reading::Unsupported,
            pressure: Reading::Unsupported,
            leftover_processes: Reading::Unsupported,
            survivors: Vec::new(),
            problems: Vec::new(),
            contained: None,
        };
        if let (Some(reader), Some(_)) = (&mut self.reader, &self.parent) {
            finished.swap_peak = problems.read(reader.swap_peak());
            finished.events = problems.read(reader.events()).map(seen_from_above);
            finished.cpu = problems.read(reader.cpu());
            finished.io = problems.read(reader.io());
            finished.pids_peak = problems.read(reader.pids_peak());
            finished.pressure = problems.read(reader.pressure());
        }
        if let Some(report) = report {
            report.fill(&mut finished);
        }
        notes.append(&mut problems.0);
        Ok(finished)
    }

    fn limits(&self, report: Option<&Report>) -> Limits {
        let own = match report.map(|report| report.limit) {
            Some(limit @ Reading::Value(_)) => limit,
            Some(Reading::Unsupported | Reading::Gone) | None => Reading::Value(self.own_limit),
        };
        let effective = self.above.as_ref().map_or(own, |above| above.lowest_with(own));
        Limits { own, effective, copied_from: None }
    }

    fn peak(&mut self, end: End, report: Option<&Report>, notes: &mut Vec<String>) -> Result<Reading<Peak>, HostError> {
        let lower =
            |reason: &str, remedy: &str| Exactness::LowerBound { reason: reason.to_owned(), remedy: remedy.to_owned() };
        let lost = "the run was not seen to its end";
        if let (Some(parent), Some(reader)) = (&self.parent, &mut self.reader) {
            if parent.was_used()? {
                let file = Some(reader.peak_file().to_owned());
                if let Reading::Value(counter) = reader.peak()? {
                    let exactness = match end {
                        End::Lost | End::StillRunning => lower(lost, "run it again"),
                        End::Exited(_) | End::Signalled(_) => Exactness::Exact { noise_bytes: self.noise },
                    };
                    let seen = self.highest_counter.max(self.highest);
                    let (bytes, exactness) = unless_reset(counter, seen, self.noise, exactness);
                    return Ok(Reading::Value(Peak {
                        bytes,
                        source: PeakSource::ParentCgroup,
                        file,
                        exactness,
                        upper_bound: None,
                    }));
                }
            } else {
                notes.push(
                    "the engine made the container in a cgroup that is not to be seen from here: it runs elsewhere \
                     (use --probe always)"
                        .to_owned(),
                );
                return Ok(Reading::Unsupported);
            }
        }
        if let Some((report, (bytes, file))) = report.and_then(|report| Some((report, report.peak()?))) {
            // The probe has measured what it adds itself.
            let exactness = Exactness::Exact { noise_bytes: Bytes(self.noise.0.saturating_add(report.own.0)) };
            return Ok(Reading::Value(Peak {
                bytes,
                source: PeakSource::Probe,
                file: Some(file),
                exactness,
                upper_bound: None,
            }));
        }
        let (reason, remedy) = match &self.way {
            Way::Leaf { reason, remedy } => (reason.as_str(), remedy.as_str()),
            Way::Probe => ("the probe could not read the peak", "measure from outside with --probe never"),
            Way::Parent => (
                "this kernel keeps no peak for cgroup v2 (memory.peak came with Linux 5.19)",
                "use Linux 5.19 or newer",
            ),
        };
        let peak = match (self.highest_counter.filter(|_| self.leaf.is_some()), self.highest) {
            (Some(bytes), _) => (bytes, PeakSource::ContainerCgroup),
            (None, Some(bytes)) => (bytes, PeakSource::PolledCgroup),
            (None, None) if self.leaf.is_some() => return Ok(Reading::Gone),
            (None, None) => {
                notes.push(format!("there is no peak, because {reason}: {remedy}"));
                return Ok(Reading::Unsupported);
            }
        };
        let (bytes, source) = peak;
        Ok(Reading::Value(Peak { bytes, source, file: None, exactness: lower(reason, remedy), upper_bound: None }))
    }

    /// Whether the engine, or else the kernel, has told us that memory ran out.
    fn was_oom_killed(&self, ended: &Ended, finished: &Finished) -> bool {
        let told = ended.state.as_ref().and_then(|state| state.oom_killed).unwrap_or(false);
        let at_limit = || match (self.own_limit, finished.peak.as_ref().value()) {
            (Some(limit), Some(peak)) => peak.bytes.saturating_add(self.noise) >= limit,
            _ => false,
        };
        told || at_limit() && self.parent.as_ref().is_some_and(Parent::ran_out)
    }

    /// Leaves nothing behind. An engine that is lost cannot remove its container; what runs in it is killed.
    fn tidy_up(&mut self, ended: &Ended, notes: &mut Vec<String>) -> Result<(), FinishError> {
        self.removed = true;
        let removing = async { tokio::time::timeout(PATIENCE, remove(&self.engine, &self.id)).await };
        let removed = match self.engine.block_on(removing) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(one_line(&error)),
            Err(_) => Err("the engine does not answer".to_owned()),
        };
        if let Err(reason) = removed {
            notes.push(format!(
                "the container {} could not be removed: {reason}; `highwater clean` removes it later",
                &self.id[..self.id.len().min(12)]
            ));
        }
        if let Some(parent) = self.parent.take() {
            parent.remove()?;
        }
        if ended.status.is_ok()
            && let Some(unwritten) = self.forwarding.finish()
        {
            notes.push(unwritten.to_string());
        }
        Ok(())
    }
}

impl Drop for ContainerRun {
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let removing = async { tokio::time::timeout(PATIENCE, remove(&self.engine, &self.id)).await };
        if !matches!(self.engine.block_on(removing), Ok(Ok(()))) {
            tracing::warn!("the container {} could not be removed", self.id);
        }
    }
}

/// v1 counts how often a limit was felt where the limit is, in the container's own cgroup: from above nothing is seen.
fn seen_from_above(events: Events) -> Events {
    match events.ooms {
        Reading::Value(_) => events,
        Reading::Unsupported | Reading::Gone => {
            Events { limit_hits: events.ooms, ooms: events.ooms, oom_kills: events.ooms }
        }
    }
}

/// From the start to the end, by the engine's clock.
fn wall(state: &ContainerState) -> Option<Duration> {
    let time = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let (started, finished) = (time(&state.started_at)?, time(&state.finished_at)?);
    Duration::try_from(finished.duration_since(started)).ok()
}
