//! A running container, from its creation to its removal.

mod follow;
mod layer;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::signal::Signal;
use bollard::models::ContainerStateStatusEnum;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    StartContainerOptions, UploadToContainerOptionsBuilder,
};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::sync::oneshot;
use tokio::time::timeout;

use self::follow::{ContainerEnd, INSPECT, LOOKING, Reported, follow, seen_from_above, wall};
use super::container_cgroup::{ContainerCgroup, throttling};
use super::enclosing_cgroup::EnclosingCgroup;
use super::logs::{self, Forwarding};
use super::owner::Claim;
use super::{
    ContainerError, ContainerRunner, PeakMethod, Stopped, engine_error, error_bound, remove, request, requirements,
    step,
};
use crate::host::cgroup::Cgroup;
use crate::host::memory::MemoryReader;
use crate::host::processes::{FindProcesses, LargestProcesses};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{
    Container, Exactness, Limits, Logs, Peak, PeakSource, RunnerKind, Throttling, Warning,
};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::engine::Engine;
use crate::runner::engine::client::{BRISK, CallError, SLOW, checked_id, is_refusal};
use crate::runner::patience::Patience;
use crate::runner::probe::{self, Report};
use crate::runner::process::in_cgroup::{Above, Problems, unless_reset};
use crate::runner::run_cgroup::{Members, kill_all, largest_in};
use crate::runner::{Contained, End, FinishError, Finished, Running, Sample, StartError};

/// How long the engine may take to report the end of a container that was killed.
const REPORT_END: Duration = Duration::from_secs(10);
pub(super) struct ContainerRun {
    engine: Engine,
    roots: HostRoots,
    claim: Claim,
    /// Known once the engine has created the container.
    id: Option<String>,
    facts: Container,
    logs: Option<Logs>,
    stop_signal: Option<String>,
    own_limit: Option<Bytes>,
    /// What its resources mean for the peak.
    resource_notes: Vec<Warning>,
    error_bound: Bytes,
    peak_method: PeakMethod,
    started: Instant,
    /// Whether the engine was asked to create the container, and to start it.
    was_created: bool,
    was_started: bool,
    /// Whether the probe was copied into it.
    has_probe: bool,
    /// The cgroups above the container's, if known.
    above: Option<Above>,
    enclosing: Option<EnclosingCgroup>,
    container_cgroup: Option<ContainerCgroup>,
    reader: Option<MemoryReader>,
    /// The highest usage sampled, and the highest value seen of the peak counter.
    highest: Option<Bytes>,
    highest_counter: Option<Bytes>,
    /// How much its CPU limit had held it back at the last sample: the engine removes the counter with the container.
    throttling: Option<Throttling>,
    forwarding: Option<Forwarding>,
    ended: OwnedFd,
    /// Closed once the end is known, which makes `ended` readable.
    end_signal: Option<OwnedFd>,
    outcome: Option<oneshot::Receiver<ContainerEnd>>,
    reported: Reported,
    removed: bool,
}

impl ContainerRun {
    /// A run whose container has not been created.
    pub(super) fn new(
        runner: &ContainerRunner,
        enclosing: Option<EnclosingCgroup>,
        peak_method: PeakMethod,
    ) -> Result<Self, StartError> {
        let (ended, end_signal) = pipe2(OFlag::O_CLOEXEC)
            .map_err(|errno| StartError::System { action: "create a pipe", source: errno.into() })?;
        Ok(Self {
            engine: runner.engine.clone(),
            roots: runner.machine.roots.clone(),
            claim: Claim::new(runner.launch.name.as_deref(), runner.image.id.as_deref()),
            id: None,
            facts: runner.container(),
            logs: runner.launch.logs.clone(),
            stop_signal: runner.image.stop_signal.clone(),
            own_limit: runner.launch.limit,
            resource_notes: requirements::notes(runner.launch.limit, &runner.launch.resources),
            error_bound: error_bound(&runner.machine, &runner.engine),
            peak_method,
            started: Instant::now(),
            was_created: false,
            was_started: false,
            has_probe: false,
            above: None,
            enclosing,
            container_cgroup: None,
            reader: None,
            highest: None,
            highest_counter: None,
            throttling: None,
            forwarding: None,
            ended,
            end_signal: Some(end_signal),
            outcome: None,
            reported: Reported::default(),
            removed: false,
        })
    }

    /// Creates and starts the container.
    pub(super) fn begin(&mut self, runner: &ContainerRunner, patience: &mut Patience<'_>) -> Result<(), Stopped> {
        let engine = self.engine.clone();
        let docker = &engine.docker;
        let with_probe = self.peak_method == PeakMethod::Probe;
        let for_engine = self.enclosing.as_ref().map(EnclosingCgroup::for_engine);
        let body = request::body(&runner.launch, &self.claim, &runner.image, for_engine, with_probe);
        let options = CreateContainerOptionsBuilder::default().name(self.claim.name()).build();
        let action = "create the container";
        let creating = docker.create_container(Some(options), body);
        self.was_created = true;
        let mut was_refused = false;
        let created = step(&engine, patience, (action, SLOW), creating, |error| {
            was_refused = is_refusal(error);
            runner.explain_create(error)
        });
        self.was_created = !was_refused;
        let id = checked_id(action, created?.id)?;
        self.id = Some(id.clone());
        still_wanted(patience)?;

        if with_probe || runner.needs_program {
            let archive = probe::archive().map_err(|reason| ContainerError::NoProbe { reason: reason.to_owned() })?;
            let options = UploadToContainerOptionsBuilder::default().path("/").build();
            let action = "copy the probe into the container";
            let uploading = docker.upload_to_container(&id, Some(options), bollard::body_full(archive.into()));
            step(&engine, patience, (action, BRISK), uploading, |error| engine_error(action, error))?;
            self.has_probe = true;
            still_wanted(patience)?;
        }

        let options = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let action = "attach to the container";
        let allowance = logs::allowance();
        let bounded = allowance.apply(docker);
        let attaching = bounded.attach_container(&id, Some(options));
        let attached =
            step(&engine, patience, (action, BRISK), attaching, |error| runner.explain_start(action, error))?;
        self.forwarding = Some(Forwarding::start(&engine.threads, attached.output, Some(allowance), &runner.launch)?);
        still_wanted(patience)?;

        if let (Some(enclosing), Some(_)) = (&mut self.enclosing, runner.launch.limit) {
            enclosing.watch_limit(&engine, &id);
        }
        let action = "start the container";
        let starting = docker.start_container(&id, None::<StartContainerOptions>);
        self.was_started = true;
        self.started = Instant::now();
        step(&engine, patience, (action, SLOW), starting, |error| runner.explain_start(action, error))?;
        self.started = Instant::now();
        self.follow(runner, patience);
        Ok(())
    }

    /// Follows the started container to its end.
    fn follow(&mut self, runner: &ContainerRunner, patience: &mut Patience<'_>) {
        let (Some(id), Some(forwarding)) = (self.id.clone(), &mut self.forwarding) else { return };
        let output = (forwarding.closed.take(), Arc::clone(&forwarding.is_last));
        if self.enclosing.is_none() && self.engine.facts.seems_local() {
            let inspecting = self.engine.docker.inspect_container(&id, None::<InspectContainerOptions>);
            let inspected = self.engine.call(patience, LOOKING, INSPECT, inspecting);
            let pid = inspected.ok().and_then(|found| found.state).and_then(|state| state.pid);
            self.container_cgroup = pid.and_then(|pid| ContainerCgroup::find(&runner.machine, &id, pid));
        }
        self.open_reader();
        // Our cgroup around it has no limit; the container's own limit is known.
        let cgroup = self.cgroup().cloned();
        self.above = self.reader.as_mut().zip(cgroup.as_ref()).map(|(reader, cgroup)| Above::read(cgroup, reader));
        let (sender, outcome) = oneshot::channel();
        self.outcome = Some(outcome);
        let reported = Arc::clone(&self.reported);
        self.engine.spawn(follow(
            self.engine.docker.clone(),
            id,
            cgroup,
            output,
            reported,
            (self.end_signal.take(), sender),
        ));
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.enclosing
            .as_ref()
            .map(EnclosingCgroup::cgroup)
            .or(self.container_cgroup.as_ref().map(|container_cgroup| &container_cgroup.cgroup))
    }

    fn open_reader(&mut self) {
        self.reader = match (&self.enclosing, &self.container_cgroup) {
            (Some(enclosing), _) => Some(enclosing.reader()),
            (None, Some(container_cgroup)) => Some(MemoryReader::new(&container_cgroup.cgroup)),
            (None, None) => None,
        };
    }

    /// Ends a run that was not started, or of which the engine did not report whether it was.
    pub(super) fn give_up(&mut self) {
        self.end_signal = None;
        if self.was_started {
            self.open_reader();
        }
    }

    /// Removes the container of a run that cannot be started.
    pub(super) fn discard(mut self, patience: &mut Patience<'_>) {
        if let Some(reason) = self.remove(patience) {
            tracing::warn!("{reason}");
        }
    }
}

/// Returns early if highwater was asked to stop.
fn still_wanted(patience: &Patience<'_>) -> Result<(), Stopped> {
    if patience.was_requested() { Err(Stopped::GivenUp) } else { Ok(()) }
}

impl Running for ContainerRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Container
    }

    fn started(&self) -> Instant {
        self.started
    }

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
        self.throttling = throttling(self.enclosing.as_ref(), self.container_cgroup.as_ref()).or(self.throttling);
        let Some(reader) = &mut self.reader else { return Ok(Reading::Unsupported) };
        let split = reader.split()?;
        Ok(current.map(|current| Sample { current, split }))
    }

    fn largest_processes(&mut self, most: usize) -> LargestProcesses {
        self.cgroup().map(|cgroup| largest_in(&self.roots, cgroup, most)).unwrap_or_default()
    }

    fn find_processes(&self) -> Option<Box<dyn FindProcesses>> {
        let cgroup = Some(self.cgroup()?.path.clone());
        Some(Box::new(Members { roots: self.roots.clone(), cgroup, ancestor: None }))
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        // An image can name its stop signal, which `docker stop` sends.
        let name = match (&self.stop_signal, signal) {
            (Some(own), Signal::SIGTERM) => own.clone(),
            _ => signal.to_string(),
        };
        let Some(id) = self.id.clone() else { return Ok(()) };
        let options = KillContainerOptionsBuilder::default().signal(&name).build();
        let docker = self.engine.docker.clone();
        // Do not wait for the answer: what counts is whether the task ends, and the engine may hang.
        self.engine.spawn(async move {
            match timeout(BRISK, docker.kill_container(&id, Some(options))).await {
                Ok(Ok(())) => {}
                // The task has ended meanwhile, or the engine is gone, which the wait for the end reports.
                Ok(Err(error)) => tracing::debug!("failed to send {signal}: {}", one_line(&error)),
                Err(_) => tracing::debug!("failed to send {signal}: the engine does not respond"),
            }
        });
        Ok(())
    }

    fn finish(mut self: Box<Self>, patience: &mut Patience<'_>) -> Result<Finished, FinishError> {
        let mut notes = std::mem::take(&mut self.resource_notes);
        let ended = self.end(patience);
        let report = self.report(&ended, patience, &mut notes);
        let writable_layer = self.writable_layer(&ended, patience);
        let finished = Finished { writable_layer, ..self.read(&ended, report, &mut notes)? };
        let oom_killed = self.was_oom_killed(&ended, &finished);
        self.tidy_up(&ended, patience, &mut notes)?;
        let unanswered = patience.unanswered().to_vec();
        if !unanswered.is_empty() {
            notes.push(Warning::EngineUnanswered { requests: unanswered.clone() });
        }
        let state = ended.state;
        Ok(Finished {
            contained: Some(Contained {
                container: Container { unanswered, ..self.facts.clone() },
                logs: self.logs.clone(),
                wall: state
                    .as_ref()
                    .and_then(wall)
                    .or_else(|| self.reported.get().map(|(_, at)| at.saturating_duration_since(self.started))),
                oom_killed,
                timed_out: None,
                pod: None,
            }),
            problems: notes,
            ..finished
        })
    }
}

impl ContainerRun {
    /// How the container ended, as far as the engine reports it in time.
    fn end(&mut self, patience: &mut Patience<'_>) -> ContainerEnd {
        let Some(mut outcome) = self.outcome.take() else {
            let reason = if self.was_started {
                "the engine did not report whether the container ran"
            } else {
                "the container was not started"
            };
            return ContainerEnd { status: Err(reason.to_owned()), state: None, unanswered: None };
        };
        let ended = match outcome.try_recv() {
            Ok(ended) => ended,
            Err(_) => {
                // The engine was asked to kill it and has not reported its end: kill what runs in its cgroup.
                if let Some(cgroup) = self.cgroup() {
                    let _ = kill_all(cgroup);
                }
                // Half of the time is left for the other requests to the engine.
                let most = patience.left(REPORT_END * 2) / 2;
                match self.engine.wait(patience, most, outcome) {
                    Some(Ok(ended)) => ended,
                    Some(Err(_)) | None => match self.reported.get() {
                        Some((status, _)) => {
                            ContainerEnd { status: Ok(*status), state: None, unanswered: Some(LOOKING) }
                        }
                        None => ContainerEnd::unreported(),
                    },
                }
            }
        };
        if let Some(unanswered) = ended.unanswered {
            patience.note_unanswered(unanswered);
        }
        if ended.status.is_err() && ended.unanswered.is_some() {
            self.end_by_state(patience).unwrap_or(ended)
        } else {
            ended
        }
    }

    /// The end according to the state of the container, for an engine that has not reported it by itself.
    fn end_by_state(&self, patience: &mut Patience<'_>) -> Option<ContainerEnd> {
        let id = self.id.as_deref()?;
        let inspecting = self.engine.docker.inspect_container(id, None::<InspectContainerOptions>);
        let state = self.engine.call(patience, LOOKING, INSPECT, inspecting).ok()?.state?;
        let has_exited =
            matches!(state.status, Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD));
        let status = state.exit_code.filter(|_| has_exited)?;
        Some(ContainerEnd { status: Ok(status), state: Some(state), unanswered: None })
    }

    /// The result file written by the probe.
    fn report(&self, ended: &ContainerEnd, patience: &mut Patience<'_>, notes: &mut Vec<Warning>) -> Option<Report> {
        let id = self.id.as_deref()?;
        if self.peak_method != PeakMethod::Probe || ended.status.is_err() {
            return None;
        }
        let read = self.engine.file_of_container(patience, id, probe::RESULT);
        let report = read
            .map_err(|error| one_line(&error))
            .and_then(|text| Report::parse(&text).map_err(|error| one_line(&error)));
        match report {
            Ok(report) if report.end.is_none() => {
                notes.push(Warning::ProbeKilled);
                Some(report)
            }
            Ok(report) => Some(report),
            Err(reason) => {
                notes.push(Warning::NoProbeResult { reason });
                None
            }
        }
    }

    fn read(
        &mut self,
        ended: &ContainerEnd,
        report: Option<Report>,
        notes: &mut Vec<Warning>,
    ) -> Result<Finished, FinishError> {
        let end = match (&ended.status, report.as_ref().and_then(|report| report.end)) {
            (Err(reason), _) => {
                notes.push(Warning::EndUnknown { reason: reason.clone() });
                End::Lost
            }
            (Ok(_), Some(end)) => end,
            (Ok(status), None) => End::Exited(i32::try_from(*status).unwrap_or(i32::MAX)),
        };
        let mut problems = Problems::default();
        let last = problems.read(self.sample());
        let last_of_container = self.container_cgroup.as_ref().and_then(ContainerCgroup::last);
        self.highest_counter = self.highest_counter.max(last_of_container.and_then(|last| last.peak));
        let peak = self.peak(end, report.as_ref(), notes)?;
        let mut finished = Finished {
            last,
            limit: self.limits(report.as_ref()),
            held_back_from_above: self.above.as_mut().is_some_and(Above::held_back),
            events: last_of_container.map_or(Reading::Unsupported, |last| last.events),
            throttling: self.throttling.into(),
            ..Finished::new(end, peak)
        };
        if let (Some(reader), Some(_)) = (&mut self.reader, &self.enclosing) {
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
        let known = |limit: Option<Reading<Option<Bytes>>>| match limit {
            Some(limit @ Reading::Value(_)) => limit,
            Some(Reading::Unsupported | Reading::Gone) | None => Reading::Value(self.own_limit),
        };
        let own = known(report.map(|report| report.own_limit));
        let lowest = known(report.map(|report| report.limit));
        let effective = self.above.as_ref().map_or(lowest, |above| above.lowest_with(lowest));
        Limits { own, effective, copied_from: None }
    }

    fn peak(
        &mut self,
        end: End,
        report: Option<&Report>,
        notes: &mut Vec<Warning>,
    ) -> Result<Reading<Peak>, HostError> {
        if !self.was_started {
            return Ok(Reading::Gone);
        }
        let lower =
            |reason: &str, remedy: &str| Exactness::LowerBound { reason: reason.to_owned(), remedy: remedy.to_owned() };
        let lost = "the end of the run was not observed";
        if let (Some(enclosing), Some(reader)) = (&self.enclosing, &mut self.reader) {
            if enclosing.was_used()? {
                let file = Some(reader.peak_file().to_owned());
                if let Reading::Value(counter) = reader.peak()? {
                    let exactness = match end {
                        End::Lost | End::StillRunning => lower(lost, "run the task again"),
                        End::Exited(_) | End::Signalled(_) => Exactness::Exact { error_bound_bytes: self.error_bound },
                    };
                    let seen = self.highest_counter.max(self.highest);
                    let (bytes, exactness) = unless_reset(counter, seen, self.error_bound, exactness);
                    return Ok(Reading::Value(Peak {
                        bytes,
                        source: PeakSource::ParentCgroup,
                        file,
                        exactness,
                        upper_bound: None,
                    }));
                }
            } else if end == End::Lost {
                return Ok(Reading::Gone);
            } else {
                notes.push(Warning::CgroupElsewhere);
                return Ok(Reading::Unsupported);
            }
        }
        if let Some((report, (bytes, file))) = report.and_then(|report| Some((report, report.peak()?))) {
            // The probe reports its own memory, which is in the peak.
            let exactness =
                Exactness::Exact { error_bound_bytes: Bytes(self.error_bound.0.saturating_add(report.own.0)) };
            return Ok(Reading::Value(Peak {
                bytes,
                source: PeakSource::Probe,
                file: Some(file),
                exactness,
                upper_bound: None,
            }));
        }
        let (reason, remedy) = match &self.peak_method {
            PeakMethod::ContainerCgroup { reason, remedy } => (reason.as_str(), remedy.as_str()),
            PeakMethod::Probe => ("the probe could not read the peak", "measure from outside with --probe never"),
            PeakMethod::EnclosingCgroup => (
                "this kernel does not record peaks for cgroup v2 (memory.peak needs Linux 5.19)",
                "use Linux 5.19 or newer",
            ),
        };
        let peak = match (self.highest_counter.filter(|_| self.container_cgroup.is_some()), self.highest) {
            (Some(bytes), _) => (bytes, PeakSource::ContainerCgroup),
            (None, Some(bytes)) => (bytes, PeakSource::PolledCgroup),
            (None, None) if self.container_cgroup.is_some() => return Ok(Reading::Gone),
            (None, None) => {
                notes.push(Warning::NoPeak { reason: reason.to_owned(), remedy: remedy.to_owned() });
                return Ok(Reading::Unsupported);
            }
        };
        let (bytes, source) = peak;
        Ok(Reading::Value(Peak { bytes, source, file: None, exactness: lower(reason, remedy), upper_bound: None }))
    }

    /// Whether the engine, or else the kernel, reports that memory ran out.
    fn was_oom_killed(&self, ended: &ContainerEnd, finished: &Finished) -> bool {
        let reported = ended.state.as_ref().and_then(|state| state.oom_killed).unwrap_or(false);
        let at_limit = || match (self.own_limit, finished.peak.as_ref().value()) {
            (Some(limit), Some(peak)) => peak.bytes.saturating_add(self.error_bound) >= limit,
            _ => false,
        };
        reported || at_limit() && self.enclosing.as_ref().is_some_and(EnclosingCgroup::ran_out)
    }

    /// Removes everything. An engine that no longer answers cannot remove its container; its processes are killed.
    fn tidy_up(
        &mut self,
        ended: &ContainerEnd,
        patience: &mut Patience<'_>,
        notes: &mut Vec<Warning>,
    ) -> Result<(), FinishError> {
        notes.extend(self.remove(patience));
        if let Some(enclosing) = self.enclosing.take() {
            enclosing.remove()?;
        }
        if ended.status.is_ok()
            && let Some(forwarding) = &mut self.forwarding
            && let Some(unwritten) = forwarding.finish(&self.engine.threads, patience)
        {
            notes.push(Warning::OutputLost { reason: unwritten.to_string() });
        }
        Ok(())
    }

    /// Removes the container if there may be one; returns why it could not.
    fn remove(&mut self, patience: &mut Patience<'_>) -> Option<Warning> {
        self.removed = true;
        // An engine that has not returned an id may have created the container; only a unique name surely belongs to it.
        let by_name = self.claim.unique_name().filter(|_| self.was_created);
        let id = self.id.as_deref().or(by_name)?;
        let removing = remove(&self.engine.docker, id);
        let reason = match self.engine.call(patience, "remove the container", BRISK, removing) {
            Ok(()) => return None,
            Err(CallError::Refused(error)) => one_line(&error),
            Err(CallError::Unanswered) => "the engine does not respond".to_owned(),
        };
        Some(Warning::ContainerNotRemoved { container: self.claim.name().to_owned(), reason })
    }
}

impl Drop for ContainerRun {
    fn drop(&mut self) {
        if !self.removed
            && let Some(warning) = self.remove(&mut Patience::new(None))
        {
            tracing::warn!("{warning}");
        }
    }
}
