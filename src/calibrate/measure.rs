//! Runs a task once and assembles the record of the run.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nix::libc;

use super::monitor::{Cancel, Observer, Stop, WatchOptions, Watched, breakdown, watch};
#[cfg(feature = "gpu")]
use crate::host::gpu::GpuWatch;
use crate::model::observation::{
    Breakdown, Conditions, Events, Exactness, Host, InputSizes, Observation, Outcome, Peak, RunnerKind, SCHEMA_VERSION,
    Storage, Subject, Survivor, Swap, SweepRun, Warning, micros,
};
use crate::model::prediction::{ChannelSize, Prediction};
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::runner::patience::Patience;
use crate::runner::{End, FinishError, Finished, Runner, StartError};

/// How much longer than its time-out a run may take to start.
const START: Duration = Duration::from_secs(10);

/// Why a run has no observation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The task could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The task could not be watched.
    #[error("failed to watch the task")]
    Watch(#[source] io::Error),
    /// The task could not be finished.
    #[error(transparent)]
    Finish(#[from] FinishError),
}

/// The context of a run: known before it starts, and part of its record.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RunContext {
    /// What to run.
    pub subject: Subject,
    /// Its place in a sweep.
    pub sweep: Option<SweepRun>,
    /// The sizes of its inputs.
    pub inputs: Vec<InputSizes>,
    /// The prediction of its rules.
    pub prediction: Option<Prediction>,
    /// The CPUs that it has, and what else its time depends on, as far as they are known before it starts.
    pub conditions: Option<Conditions>,
    /// Further warnings for its record.
    pub notes: Vec<Warning>,
}

impl RunContext {
    /// A single run, with the inputs whose sizes its prediction used.
    pub fn one_run(subject: Subject, prediction: Option<Prediction>) -> Self {
        let channels = prediction.iter().flat_map(|prediction| &prediction.channels);
        let inputs = channels.filter_map(|channel| match &channel.size {
            ChannelSize::Known { all, .. } => {
                Some(InputSizes { channel: channel.name.clone(), all: all.clone(), by_extension: BTreeMap::new() })
            }
            ChannelSize::Unknown { .. } | ChannelSize::NotSurveyed => None,
        });
        Self { subject, inputs: inputs.collect(), prediction, ..Self::default() }
    }
}

/// Starts the task, watches it until it ends and cleans up.
///
/// # Errors
/// If it cannot be started, watched or cleaned up after. A task that fails is an observation.
pub fn measure(
    runner: &mut dyn Runner,
    context: RunContext,
    host: Host,
    options: &WatchOptions,
    cancel: Option<&mut dyn Cancel>,
    observer: &mut dyn Observer,
) -> Result<Observation, MeasureError> {
    #[cfg(feature = "gpu")]
    let mut gpu = GpuWatch::begin();
    let started_at = Timestamp::now();
    let mut patience = Patience::new(cancel);
    // The time that the start takes is not the task's own.
    patience.limit_start(options.timeout.map(|timeout| timeout.saturating_add(options.kill_after.max(START))));
    let mut run = runner.start(&mut patience)?;
    patience.limit_start(None);
    let kind = run.kind();
    #[cfg(feature = "gpu")]
    gpu.follow(run.find_processes(), kind);
    let watched = watch(&mut *run, options, &mut patience, observer).map_err(MeasureError::Watch)?;
    let finished = run.finish(&mut patience)?;
    let missed = missed_samples(&watched, options);
    #[cfg_attr(not(feature = "gpu"), expect(unused_mut, reason = "GPUs are added to it"))]
    let mut observation = observation(context, (kind, started_at), Reading::Value(host), watched, (finished, missed));
    #[cfg(feature = "gpu")]
    {
        let (gpus, warning) = gpu.end();
        observation.gpu = gpus;
        observation.warnings.extend(warning);
    }
    let outcome = match observation.outcome {
        Outcome::Exited { status } if options.skip_status == Some(status) => Outcome::Skipped { status },
        outcome => outcome,
    };
    Ok(Observation { outcome, batch: crate::host::batch::current(), ..observation })
}

/// The record of a run that has ended. `missed` is a warning about its samples.
pub(super) fn observation(
    context: RunContext,
    (runner, started_at): (RunnerKind, Timestamp),
    host: Reading<Host>,
    watched: Watched,
    (finished, missed): (Finished, Option<Warning>),
) -> Observation {
    let outcome = outcome(&watched, &finished);
    let breakdown = fullest(&watched, &finished);
    // The list of processes is only meaningful if it was read near the highest usage.
    let belong = breakdown.is_some_and(|fullest| watched.processes_at.0 >= fullest.current.0 / 20 * 19);
    let largest_processes = if belong { watched.largest_processes.clone() } else { Vec::new() };
    let contained = finished.contained.clone();
    let mut observation = Observation {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        subject: context.subject,
        sweep: context.sweep,
        inputs: context.inputs,
        prediction: context.prediction,
        runner,
        outcome,
        wall_us: micros(contained.as_ref().and_then(|contained| contained.wall).unwrap_or(watched.wall)),
        censored: is_censored(outcome, &finished),
        peak: finished.peak.map(|peak| so_far(peak, &finished.survivors)),
        breakdown: breakdown.map_or(Reading::Gone, Reading::Value),
        largest_processes,
        swap: Swap {
            peak: finished.swap_peak,
            highest_sampled: watched.swap.map_or(Reading::Unsupported, Reading::Value),
        },
        limit: finished.limit,
        events: finished.events,
        cpu: finished.cpu,
        conditions: match (context.conditions, finished.throttling) {
            (None, Reading::Unsupported | Reading::Gone) => None,
            (known, throttling) => Some(Conditions { throttling, ..known.unwrap_or(Conditions::UNKNOWN) }),
        },
        io: finished.io,
        storage: finished
            .writable_layer
            .value()
            .map(|bytes| Storage { writable_layer_bytes: Reading::Value(bytes), ..Storage::UNREAD }),
        pids_peak: finished.pids_peak,
        pressure: finished.pressure,
        leftover_processes: finished.leftover_processes,
        survivors: finished.survivors,
        series: watched.series,
        host,
        batch: None,
        logs: contained.as_ref().and_then(|contained| contained.logs.clone()),
        container: contained.as_ref().map(|contained| contained.container.clone()),
        pod: contained.as_ref().and_then(|contained| contained.pod.clone()),
        gpu: Vec::new(),
        floor: None,
        cache: None,
        warnings: Vec::new(),
    };
    observation.warnings = warnings(&observation, watched.unread);
    observation.warnings.extend(missed);
    observation.warnings.extend(watched.hugetlb.map(|(bytes, process)| Warning::HugePages { bytes, process }));
    if contained.is_some_and(|contained| contained.oom_killed)
        && kills(observation.events) == 0
        && observation.outcome != Outcome::OomKilled
    {
        observation.warnings.push(Warning::OomKillReported);
        observation.events = with_a_kill(observation.events);
    }
    observation.warnings.extend(finished.problems);
    observation.warnings.extend(context.notes);
    observation
}

fn outcome(watched: &Watched, finished: &Finished) -> Outcome {
    let contained = finished.contained.as_ref();
    if finished.end == End::Lost && contained.is_some_and(|contained| !contained.container.unanswered.is_empty()) {
        return Outcome::EngineLost;
    }
    // An engine that hangs does not report the end of a task, which may then be stopped although it has ended.
    let wall = contained.and_then(|contained| contained.wall);
    let ended_by_itself = wall.zip(watched.asked_at).is_some_and(|(wall, asked_at)| wall < asked_at);
    match watched.stop.filter(|_| !ended_by_itself) {
        Some(Stop::Interrupted(signal)) => return Outcome::Interrupted { signal: signal.0 },
        Some(Stop::TimedOut(after)) => return Outcome::TimedOut { after_us: micros(after) },
        None => {}
    }
    if let Some(after) = contained.and_then(|contained| contained.timed_out) {
        return Outcome::TimedOut { after_us: micros(after) };
    }
    let oom_killed = was_oom_killed(finished);
    match finished.end {
        // A shell reports an OOM-killed child as status 128 + 9.
        End::Signalled(libc::SIGKILL) | End::Exited(137) if oom_killed => Outcome::OomKilled,
        End::Exited(status) => Outcome::Exited { status },
        End::Signalled(signal) => Outcome::Signalled { signal },
        End::Lost if contained.is_some_and(|contained| contained.pod.is_some()) => Outcome::Lost,
        End::Lost => Outcome::EngineLost,
        // Only a run that was stopped is finished before its end, and its outcome is handled above.
        End::StillRunning => Outcome::Signalled { signal: libc::SIGKILL },
    }
}

/// The peak is a lower bound while a process of the task is still running.
fn so_far(peak: Peak, survivors: &[Survivor]) -> Peak {
    match (&peak.exactness, survivors.first()) {
        (Exactness::Exact { .. }, Some(survivor)) => Peak {
            exactness: Exactness::LowerBound {
                reason: format!("{survivor} survived SIGKILL and may still allocate memory"),
                remedy: "a task whose processes can be killed; see the notes".to_owned(),
            },
            ..peak
        },
        (Exactness::Exact { .. } | Exactness::LowerBound { .. }, _) => peak,
    }
}

/// Whether the kernel OOM-killed a process of the task, according to its counter or to the engine.
fn was_oom_killed(finished: &Finished) -> bool {
    kills(finished.events) > 0 || finished.contained.as_ref().is_some_and(|contained| contained.oom_killed)
}

fn kills(events: Reading<Events>) -> u64 {
    events.value().and_then(|events| events.oom_kills.value()).unwrap_or_default()
}

/// The kill was only reported by the engine or by a notification of the kernel, not counted: there was at least one.
fn with_a_kill(events: Reading<Events>) -> Reading<Events> {
    let unknown = Reading::Unsupported;
    let events = events.value().unwrap_or(Events { limit_hits: unknown, ooms: unknown, oom_kills: unknown });
    Reading::Value(Events { oom_kills: Reading::Value(1), ..events })
}

/// Whether a limit kept the peak from being the need.
fn is_censored(outcome: Outcome, finished: &Finished) -> bool {
    let held_back = match (finished.limit.own, finished.events) {
        (Reading::Value(Some(limit)), events) => {
            match (events.value().and_then(|events: Events| events.limit_hits.value()), finished.peak.as_ref().value())
            {
                (Some(1..), _) => true,
                (Some(0), Some(peak)) => peak.bytes >= limit,
                // No counter: a charge that does not fit leaves the peak short of the limit by up to one charge.
                (None, Some(peak)) => peak.bytes.saturating_add(peak.exactness.error_bound()) >= limit,
                (_, None) => false,
            }
        }
        _ => false,
    };
    outcome == Outcome::OomKilled || was_oom_killed(finished) || held_back || finished.held_back_from_above
}

/// The highest usage seen: a sample, or what was still charged at the end.
fn fullest(watched: &Watched, finished: &Finished) -> Option<Breakdown> {
    let last = finished.last.value().map(|last| breakdown(&last, watched.wall));
    match (watched.highest, last) {
        (Some(highest), Some(last)) if last.current > highest.current => Some(last),
        (highest, last) => highest.or(last),
    }
}

/// Warns if more than half of the samples of an explicit interval are missing.
fn missed_samples(watched: &Watched, options: &WatchOptions) -> Option<Warning> {
    let interval = options.interval?;
    let mean = watched.wall / watched.attempts.max(1);
    // A run of a few intervals is too short to judge.
    let missed = mean > interval * 2 && watched.wall > interval * 10;
    missed.then(|| Warning::MissedSamples { mean_us: micros(mean), requested_us: micros(interval) })
}

fn warnings(observation: &Observation, unread: Option<String>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let (Some(missing_bytes), Reading::Value(peak)) = (observation.between_samples(), &observation.peak)
        && missing_bytes.saturating_sub(peak.exactness.error_bound()).0 > peak.bytes.0 / 20
    {
        warnings.push(Warning::PeakBetweenSamples { missing_bytes, peak_bytes: peak.bytes });
    }
    if let Reading::Value(processes @ 1..) = observation.leftover_processes {
        warnings.push(Warning::LeftoverProcesses { processes });
    }
    warnings.extend(observation.survivors.iter().cloned().map(Warning::SurvivedKill));
    let kills = kills(observation.events);
    if kills > 0 && observation.outcome != Outcome::OomKilled {
        // Without a cgroup of its own, the task shares the counter with others.
        let shared_cgroup = observation.limit.own == Reading::Unsupported;
        warnings.push(Warning::OomKills { kills, shared_cgroup });
    }
    if let Reading::Value(bytes @ Bytes(1..)) = observation.swap.peak.or(observation.swap.highest_sampled) {
        warnings.push(Warning::SwappedOut { bytes });
    }
    warnings.extend(unread.map(|reason| Warning::UnreadSamples { reason }));
    warnings
}

#[cfg(test)]
mod tests;
