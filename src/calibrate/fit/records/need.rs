//! What a run shows about the need of its task.

use crate::model::fit::Censoring;
use crate::model::observation::{Exactness, Observation, Outcome, RunnerKind, Warning};
use crate::model::units::Bytes;

/// What a run shows about the need.
pub(super) struct Need {
    pub(super) peak: Bytes,
    pub(super) censoring: Censoring,
    /// The weight of the run.
    pub(super) wall_us: u64,
}

/// Why a run is skipped.
pub(super) enum SkipReason {
    Failed,
    Skipped,
    TimedOut,
    Interrupted,
    Unmeasured,
    WithoutTime,
    WithoutFloor,
    WithoutGpu,
    WithoutStorage,
}

/// The record of the last run of a search contains the result; the others are intermediate steps.
pub(super) fn floor(observation: &Observation) -> Result<Need, SkipReason> {
    let floor = observation.floor.as_ref().ok_or(SkipReason::WithoutFloor)?;
    Ok(Need { peak: floor.bytes, censoring: Censoring::None, wall_us: observation.wall_us })
}

/// What the peak of a run shows.
pub(super) fn need(observation: &Observation) -> Result<Need, SkipReason> {
    let kills = observation.events.as_ref().value().and_then(|events| events.oom_kills.value());
    // Another program's record does not count kills, but it has the status that they lead to.
    let kills = kills.is_some_and(|kills| kills > 0) || observation.warnings.contains(&Warning::ProbablyOomKilled);
    // A task that loses a process to an OOM kill often exits with a status of its own.
    let has_an_end = matches!(observation.outcome, Outcome::Exited { .. } | Outcome::Signalled { .. });
    let killed = observation.outcome == Outcome::OomKilled
        || has_an_end && observation.outcome.has_failed() && observation.censored && kills;
    let peak = observation.peak.as_ref().value();
    if killed {
        // It needed more than its limit; its counter may stop short of the limit.
        let limit = observation.limit.own.value().flatten();
        let bound = peak.map(|peak| peak.bytes).max(limit).ok_or(SkipReason::Unmeasured)?;
        return Ok(Need { peak: bound, censoring: Censoring::OomKilled, wall_us: observation.wall_us });
    }
    succeeded(observation)?;
    let peak = peak.filter(|peak| peak.bytes > Bytes::ZERO).ok_or(SkipReason::Unmeasured)?;
    let censoring = match (observation.censored, &peak.exactness) {
        (true, _) => Censoring::LimitReached,
        (false, Exactness::LowerBound { .. }) => Censoring::LowerBound,
        (false, Exactness::Exact { .. }) => Censoring::None,
    };
    Ok(Need { peak: peak.bytes, censoring, wall_us: observation.wall_us })
}

/// The wall time of a run, in microseconds; a run that timed out needs more than it had.
pub(super) fn time(observation: &Observation) -> Result<Need, SkipReason> {
    let (us, censoring) = match observation.outcome {
        Outcome::TimedOut { after_us } => (after_us, Censoring::OomKilled),
        _ => {
            succeeded(observation)?;
            (observation.wall_us, Censoring::None)
        }
    };
    measured(Bytes(us), censoring, 1_000_000)
}

/// The cores that a run used on average, in millionths.
pub(super) fn cpu(observation: &Observation) -> Result<Need, SkipReason> {
    succeeded(observation)?;
    let cores = cores(observation).ok_or(SkipReason::WithoutTime)?;
    measured(cores, Censoring::None, observation.wall_us)
}

/// CPU time by wall time, in millionths of a core.
pub(in crate::calibrate) fn cores(observation: &Observation) -> Option<Bytes> {
    let cpu = observation.cpu.as_ref().value()?;
    let used_us = u128::from(cpu.user_us) + u128::from(cpu.system_us);
    let millionths = (used_us * 1_000_000).checked_div(u128::from(observation.wall_us))?;
    Some(Bytes(u64::try_from(millionths).unwrap_or(u64::MAX)))
}

/// The files that a run left in its outputs and in the writable layer of its container.
pub(super) fn storage(observation: &Observation) -> Result<Need, SkipReason> {
    succeeded(observation)?;
    let storage = observation.storage.ok_or(SkipReason::WithoutStorage)?;
    let peak = storage.total().filter(|bytes| *bytes > Bytes::ZERO).ok_or(SkipReason::WithoutStorage)?;
    let is_part = observation.runner == RunnerKind::Container && storage.writable_layer_bytes.value().is_none();
    let censoring = if is_part { Censoring::LowerBound } else { Censoring::None };
    Ok(Need { peak, censoring, wall_us: observation.wall_us })
}

/// The most memory of a run on one GPU. A run without any shows nothing about what others need.
pub(super) fn gpu(observation: &Observation) -> Result<Need, SkipReason> {
    succeeded(observation)?;
    let (peak, is_lower_bound) =
        observation.gpu_peak().filter(|(peak, _)| *peak > Bytes::ZERO).ok_or(SkipReason::WithoutGpu)?;
    let censoring = if is_lower_bound { Censoring::LowerBound } else { Censoring::None };
    Ok(Need { peak, censoring, wall_us: observation.wall_us })
}

/// Rules are judged by limit / used, so what is too short to be measured shows nothing.
fn measured(peak: Bytes, censoring: Censoring, wall_us: u64) -> Result<Need, SkipReason> {
    if peak == Bytes::ZERO { Err(SkipReason::WithoutTime) } else { Ok(Need { peak, censoring, wall_us }) }
}

fn succeeded(observation: &Observation) -> Result<(), SkipReason> {
    match observation.outcome {
        Outcome::Exited { status: 0 } => Ok(()),
        Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::OomKilled => Err(SkipReason::Failed),
        Outcome::Skipped { .. } => Err(SkipReason::Skipped),
        Outcome::TimedOut { .. } => Err(SkipReason::TimedOut),
        Outcome::Interrupted { .. } | Outcome::EngineLost | Outcome::Lost => Err(SkipReason::Interrupted),
    }
}
