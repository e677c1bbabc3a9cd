//! Searches for the minimum limit under which a task still succeeds.
//!
//! A peak is not a need: page cache fills whatever memory there is, and the kernel reclaims it when memory gets scarce.
//! What a task needs shows only under a limit. So it is run under varying limits, enforced by the kernel, until a
//! passing and a failing one are close together.

mod search;
mod trial;

use std::time::Duration;

pub use self::search::{Search, SearchLimits, Step, Verdict};
pub use self::trial::{limits_of, no_limits, not_run};
use crate::model::observation::{Exactness, Floor, Observation, Outcome, Peak, PeakSource, micros};
use crate::model::reading::Reading;
use crate::model::runtime::RuntimeLimit;
use crate::model::signal::Signal;
use crate::model::units::Bytes;

/// Without an explicit time-out a try may take this many times as long as a run without a limit, plus [`GRACE`]. A task
/// that thrashes hardly makes progress, and nothing else would ever end it.
const PATIENCE: f64 = 10.0;
/// How long starting a task may take beside its own time.
const GRACE: Duration = Duration::from_secs(10);
/// A delay of this much never counts as too slow.
const JITTER: Duration = Duration::from_millis(50);
/// The number of runs without a limit if time counts: tries are compared with their median.
const TIMED_RUNS: usize = 3;

/// The criteria for success.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Success {
    /// How many times as long as without a limit a try may take, plus 50 ms.
    pub slowdown: Option<f64>,
    /// Whether a run may succeed although the kernel OOM-killed one of its processes.
    pub oom_of_children: bool,
}

/// Runs the task of a search.
pub trait Trial {
    /// Why a run was not possible.
    type Error;

    /// Runs the task once, under this limit and for at most this time.
    ///
    /// # Errors
    /// If further tries are pointless. A task that does not start under a limit is not an error.
    fn run(&mut self, limit: Option<Bytes>, timeout: Option<Duration>) -> Result<Ran, Self::Error>;

    /// Records a run.
    ///
    /// # Errors
    /// If it cannot be recorded, which ends the search.
    fn keep(&mut self, observation: &Observation) -> Result<(), Self::Error>;

    /// The signal that asked to end, also if a run had just ended by itself and keeps its outcome.
    fn ended_by(&mut self) -> Option<Signal> {
        None
    }

    /// Receives the progress of the search before every try.
    fn next(&mut self, _search: &Search, _limit: Bytes, _runs: &[Try]) {}
}

/// The outcome of starting the task.
#[derive(Clone, Debug, PartialEq)]
pub enum Ran {
    /// It ran.
    Observed(Box<Observation>),
    /// It could not be started under the limit, for this reason.
    NotStarted(String),
}

/// One run under a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Try {
    /// The limit.
    pub limit: Bytes,
    /// The result.
    pub result: TryResult,
    /// Its peak; absent if it was not started.
    pub peak: Option<Bytes>,
    /// How long it took, in microseconds.
    pub wall_us: Option<u64>,
    /// The limits by which runtimes of the task sized themselves.
    pub runtime_limits: Vec<RuntimeLimit>,
}

/// The result of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryResult {
    /// It succeeded.
    Enough,
    /// The kernel killed it for lack of memory.
    OomKilled,
    /// It exited with success, but the kernel OOM-killed one of its processes.
    ChildOomKilled,
    /// It failed with this status.
    Failed(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It exceeded the allowed slowdown.
    TooSlow,
    /// It was stopped because it took far longer than without a limit.
    TimedOut,
    /// It could not be started, for this reason.
    NotStarted(String),
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A minimum limit was found.
    Settled,
    /// The tries contradict each other too often, or no limit was enough.
    GaveUp,
    /// It was interrupted.
    Interrupted {
        /// The signal.
        signal: i32,
    },
    /// The container engine disappeared.
    EngineLost,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchResult {
    /// How it ended.
    pub end: End,
    /// The runs without a limit: one, or more if time counts.
    pub unlimited: Vec<Observation>,
    /// The runs under limits, in order.
    pub tries: Vec<Try>,
    /// The lowest limit known to be enough: the result, once the search has settled.
    pub enough: Option<Bytes>,
    /// The highest limit below it that was not enough.
    pub not_enough: Option<Bytes>,
    /// Number of runs that succeeded under `enough`.
    pub confirmed: u32,
    /// Number of tries that succeeded under a limit no higher than `not_enough`: memory is not the only factor.
    pub contradictions: u32,
}

/// Why a search ended without a result.
#[derive(Debug)]
pub enum SearchError<E> {
    /// A run was not possible.
    Trial(E),
    /// A run showed that there is no minimum limit to find.
    Floor(FloorError),
}

/// Why there is no minimum limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// The task does not succeed without a limit either.
    #[error("failed to find the minimum limit: the task fails even without one")]
    TaskFailed(Box<Observation>),
    /// The run without a limit was interrupted.
    #[error("interrupted during the run without a limit")]
    Interrupted(Box<Observation>),
    /// The run without a limit has no peak.
    #[error("failed to find the minimum limit: the run without a limit has no peak to start from")]
    NoPeak,
    /// The limit was not in force.
    #[error("failed to limit the task to {limit}: its cgroup has {}", .kept.map_or("no limit".to_owned(), |kept| format!("a limit of {kept}")))]
    NotKept {
        /// The requested limit.
        limit: Bytes,
        /// The limit in force.
        kept: Option<Bytes>,
    },
    /// A part of the task was not under the limit.
    #[error("failed to limit all of the task to {limit}: {reason}")]
    Escaped {
        /// The requested limit.
        limit: Bytes,
        /// Why its peak is a lower bound.
        reason: String,
        /// How to keep all of it under the limit.
        remedy: String,
    },
}

impl<E> From<FloorError> for SearchError<E> {
    fn from(error: FloorError) -> Self {
        Self::Floor(error)
    }
}

/// Searches for the minimum limit under which the task succeeds: first without a limit, then below its peak.
///
/// # Errors
/// If the task cannot be run or fails without a limit, or if a limit is not in force.
pub fn find<T: Trial>(
    trial: &mut T,
    limits: SearchLimits,
    success: Success,
) -> Result<SearchResult, SearchError<T::Error>> {
    let unlimited = without_limit(trial, success)?;
    let peak = unlimited.iter().filter_map(peak_of).max().ok_or(FloorError::NoPeak)?;
    let mut walls: Vec<u64> = unlimited.iter().map(|run| run.wall_us).collect();
    walls.sort_unstable();
    let wall_us = walls[walls.len() / 2];
    let mut search = Search::new(limits, peak);
    let mut tries: Vec<Try> = Vec::new();
    let end = loop {
        let limit = match search.next() {
            Step::Try(limit) => limit,
            Step::Settled => break End::Settled,
            Step::GaveUp => break End::GaveUp,
        };
        if let Some(signal) = trial.ended_by() {
            break End::Interrupted { signal: signal.0 };
        }
        trial.next(&search, limit, &tries);
        let mut observation =
            match trial.run(Some(limit), Some(patience(success, wall_us))).map_err(SearchError::Trial)? {
                Ran::NotStarted(reason) => {
                    search.record(limit, Verdict::NotEnough);
                    let result = TryResult::NotStarted(reason);
                    tries.push(Try { limit, result, peak: None, wall_us: None, runtime_limits: Vec::new() });
                    continue;
                }
                Ran::Observed(observation) => observation,
            };
        let result = match judge(&observation, success, Some(wall_us)) {
            Judgement::Result(result) => result,
            Judgement::Ended(end) => {
                trial.keep(&observation).map_err(SearchError::Trial)?;
                break end;
            }
        };
        if let Err(error) = is_kept(&observation, limit) {
            trial.keep(&observation).map_err(SearchError::Trial)?;
            return Err(error.into());
        }
        search.record(limit, verdict(&result, &observation));
        if search.next() == Step::Settled {
            observation.floor = floor(&search, limits, success, peak);
        }
        trial.keep(&observation).map_err(SearchError::Trial)?;
        let (peak, wall_us) = (peak_of(&observation), Some(observation.wall_us));
        let runtime_limits = observation.runtime_limits().cloned().collect();
        tries.push(Try { limit, result, peak, wall_us, runtime_limits });
    };
    Ok(SearchResult {
        end,
        unlimited,
        tries,
        enough: search.enough(),
        not_enough: search.not_enough(),
        confirmed: search.enough().map_or(0, |enough| search.times_enough(enough)),
        contradictions: search.not_enough().map_or(0, |not_enough| search.times_enough_below(not_enough)),
    })
}

fn without_limit<T: Trial>(trial: &mut T, success: Success) -> Result<Vec<Observation>, SearchError<T::Error>> {
    let mut runs = Vec::new();
    for _ in 0..success.slowdown.map_or(1, |_| TIMED_RUNS) {
        let Ran::Observed(run) = trial.run(None, None).map_err(SearchError::Trial)? else {
            return Err(FloorError::NoPeak.into());
        };
        trial.keep(&run).map_err(SearchError::Trial)?;
        match judge(&run, success, None) {
            Judgement::Result(TryResult::Enough) if trial.ended_by().is_some() => {
                return Err(FloorError::Interrupted(run).into());
            }
            Judgement::Result(TryResult::Enough) => runs.push(*run),
            Judgement::Result(_) => return Err(FloorError::TaskFailed(run).into()),
            Judgement::Ended(_) => return Err(FloorError::Interrupted(run).into()),
        }
    }
    Ok(runs)
}

fn peak_of(observation: &Observation) -> Option<Bytes> {
    observation.peak.as_ref().value().map(|peak| peak.bytes)
}

/// The time-out of a try. If its time counts it includes a reserve, because an engine's overhead is not the task's.
fn patience(success: Success, wall_us: u64) -> Duration {
    let wall = Duration::from_micros(wall_us);
    wall.mul_f64(success.slowdown.map_or(PATIENCE, |slowdown| slowdown.max(1.0) * 1.25)) + GRACE
}

enum Judgement {
    Result(TryResult),
    /// How it would have ended is unknown.
    Ended(End),
}

/// The result of a run, given the time in microseconds that the slowdown refers to.
fn judge(run: &Observation, success: Success, wall_us: Option<u64>) -> Judgement {
    let kills = run.events.value().and_then(|events| events.oom_kills.value()).unwrap_or_default();
    let bound = success.slowdown.zip(wall_us).map(|(slowdown, wall)| slowdown * wall as f64 + micros(JITTER) as f64);
    let too_slow = bound.is_some_and(|bound| run.wall_us as f64 > bound);
    if run.has_lost_engine() {
        return Judgement::Ended(End::EngineLost);
    }
    Judgement::Result(match run.outcome {
        Outcome::Interrupted { signal } => return Judgement::Ended(End::Interrupted { signal }),
        Outcome::EngineLost | Outcome::Lost => return Judgement::Ended(End::EngineLost),
        Outcome::Exited { status: 0 } if kills > 0 && !success.oom_of_children => TryResult::ChildOomKilled,
        Outcome::Exited { status: 0 } if too_slow => TryResult::TooSlow,
        Outcome::Exited { status: 0 } => TryResult::Enough,
        Outcome::Exited { status } | Outcome::Skipped { status } => TryResult::Failed(status),
        Outcome::Signalled { signal } => TryResult::Signalled(signal),
        Outcome::OomKilled => TryResult::OomKilled,
        Outcome::TimedOut { .. } => TryResult::TimedOut,
    })
}

fn verdict(result: &TryResult, run: &Observation) -> Verdict {
    match result {
        TryResult::Enough => Verdict::Enough { used: if run.censored { None } else { exact_peak(run) } },
        TryResult::TooSlow => Verdict::TooSlow,
        TryResult::OomKilled
        | TryResult::ChildOomKilled
        | TryResult::Failed(_)
        | TryResult::Signalled(_)
        | TryResult::TimedOut
        | TryResult::NotStarted(_) => Verdict::NotEnough,
    }
}

fn exact_peak(run: &Observation) -> Option<Bytes> {
    let peak = run.peak.as_ref().value()?;
    match peak.exactness {
        Exactness::Exact { .. } => Some(peak.bytes),
        Exactness::LowerBound { .. } => None,
    }
}

/// Checks that the whole run was under the requested limit.
fn is_kept(run: &Observation, limit: Bytes) -> Result<(), FloorError> {
    if let Reading::Value(Peak { source: PeakSource::OwnCgroup, exactness, .. }) = &run.peak
        && let Exactness::LowerBound { reason, remedy } = exactness
    {
        return Err(FloorError::Escaped { limit, reason: reason.clone(), remedy: remedy.clone() });
    }
    match run.limit.own {
        Reading::Value(None) => Err(FloorError::NotKept { limit, kept: None }),
        Reading::Value(Some(kept)) if kept > limit => Err(FloorError::NotKept { limit, kept: Some(kept) }),
        Reading::Value(Some(_)) | Reading::Unsupported | Reading::Gone => Ok(()),
    }
}

fn floor(search: &Search, limits: SearchLimits, success: Success, peak: Bytes) -> Option<Floor> {
    let bytes = search.enough()?;
    Some(Floor {
        bytes,
        not_enough: search.not_enough(),
        precision: limits.precision,
        confirmed: search.times_enough(bytes),
        peak: Some(peak),
        slowdown: success.slowdown,
    })
}

impl SearchResult {
    /// The minimum limit; `None` if the search did not settle.
    pub fn floor(&self) -> Option<Bytes> {
        match self.end {
            End::Settled => self.enough,
            End::GaveUp | End::Interrupted { .. } | End::EngineLost => None,
        }
    }

    /// The limits by which runtimes of the task sized themselves where the lowest limit was enough.
    pub fn runtime_limits(&self) -> &[RuntimeLimit] {
        let is_it = |one: &&Try| Some(one.limit) == self.enough && one.result == TryResult::Enough;
        self.tries.iter().rev().find(is_it).map_or(&[], |one| &one.runtime_limits)
    }

    /// The run without a limit that had the highest peak.
    pub fn highest(&self) -> Option<&Observation> {
        self.unlimited.iter().max_by_key(|run| peak_of(run))
    }
}
