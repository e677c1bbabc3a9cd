//! The search for the minimum limit, on synthetic tasks: the criteria for success, and what is recorded.

use std::collections::VecDeque;
use std::time::Duration;

use highwater::calibrate::floor::{
    End, FloorError, Ran, SearchError, SearchLimits, SearchResult, Success, Trial, TryResult, find,
};
use highwater::model::observation::{Exactness, Observation, Outcome};
use highwater::model::reading::Reading;
use highwater::model::signal::Signal;
use highwater::model::units::Bytes;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// How a synthetic task ends under a limit, and after how many microseconds.
type Behaviour = dyn Fn(Option<Bytes>) -> (Outcome, u64, u64);

/// A synthetic task, and the records of its runs.
struct MadeUp<'a> {
    peak: u64,
    /// Its outcome, its time in microseconds, and its number of killed processes.
    behaviour: &'a Behaviour,
    kept: Vec<Observation>,
    timeouts: Vec<Option<Duration>>,
    not_started_below: Bytes,
    limits_ignored: bool,
    /// Whether a part of the task is elsewhere.
    escapes: bool,
    /// The number of runs after which a signal arrives.
    signalled_after: usize,
}

impl<'a> MadeUp<'a> {
    fn new(peak_mib: u64, behaviour: &'a Behaviour) -> Self {
        Self {
            peak: peak_mib * MIB,
            behaviour,
            kept: Vec::new(),
            timeouts: Vec::new(),
            not_started_below: Bytes::ZERO,
            limits_ignored: false,
            escapes: false,
            signalled_after: usize::MAX,
        }
    }

    fn find(&mut self, success: Success) -> Result<SearchResult, SearchError<String>> {
        let terms =
            SearchLimits { precision: 0.02, confirm: 3, least: Bytes::mib(1), most: Bytes::mib(64 << 10), tries: 64 };
        find(self, terms, success)
    }
}

impl Trial for MadeUp<'_> {
    type Error = String;

    fn run(&mut self, limit: Option<Bytes>, timeout: Option<Duration>) -> Result<Ran, String> {
        self.timeouts.push(timeout);
        if limit.is_some_and(|limit| limit < self.not_started_below) {
            return Ok(Ran::NotStarted("not enough to start".to_owned()));
        }
        let (outcome, wall_us, kills) = (self.behaviour)(limit);
        let in_force = if self.limits_ignored { None } else { limit };
        let peak = limit.map_or(self.peak, |limit| limit.0.min(self.peak));
        let mut run = observation(outcome, wall_us, kills, peak, in_force);
        if let (Reading::Value(peak), true) = (&mut run.peak, self.escapes) {
            peak.exactness = Exactness::LowerBound { reason: "it left".to_owned(), remedy: "keep it".to_owned() };
        }
        Ok(Ran::Observed(Box::new(run)))
    }

    fn keep(&mut self, observation: &Observation) -> Result<(), String> {
        self.kept.push(observation.clone());
        Ok(())
    }

    fn ended_by(&mut self) -> Option<Signal> {
        (self.timeouts.len() >= self.signalled_after).then_some(Signal::SIGINT)
    }
}

fn observation(outcome: Outcome, wall_us: u64, kills: u64, peak: u64, limit: Option<Bytes>) -> Observation {
    let json = json!({
        "schema_version": 1, "tool_version": "0.1.0", "started_at": "2026-01-01T00:00:00Z",
        "subject": {"command": ["made-up"]}, "runner": "process", "outcome": outcome, "wall_us": wall_us,
        "peak": {"bytes": peak, "source": "own-cgroup", "exactness": {"kind": "exact", "noise_bytes": 0}},
        "breakdown": "gone", "swap": {"peak": "unsupported", "highest_sampled": 0},
        "limit": {"own": limit, "effective": limit}, "censored": limit.is_some_and(|limit| limit.0 <= peak),
        "events": {"limit_hits": 0, "ooms": "unsupported", "oom_kills": kills}, "cpu": "unsupported",
        "io": "unsupported", "pids_peak": "unsupported", "pressure": "unsupported", "leftover_processes": 0,
        "series": {"taken": 0, "samples": []},
        "host": {"kernel": "6.1", "architecture": "x86_64", "cpus": 2, "page_bytes": 4096,
                 "memory_bytes": "unsupported", "swap_bytes": 0, "cgroup": "v2"}
    });
    serde_json::from_value(json).unwrap()
}

const FINE: Outcome = Outcome::Exited { status: 0 };

fn enough(limit: Option<Bytes>, mib: u64) -> bool {
    limit.is_none_or(|limit| limit >= Bytes::mib(mib))
}

#[track_caller]
fn assert_floor(found: &SearchResult, mib: u64) {
    let floor = found.floor().unwrap_or_else(|| panic!("{found:?}"));
    let need = Bytes::mib(mib);
    assert!(floor >= need && floor.0 as f64 <= need.0 as f64 * 1.03, "{floor} for {need}");
}

#[test]
fn a_signal_that_met_a_run_at_its_end_ends_the_search() {
    let mut task = MadeUp::new(500, &|_| (FINE, 1000, 0));
    task.signalled_after = 3;
    let found = task.find(Success::default()).unwrap();
    assert_eq!((found.end, task.timeouts.len()), (End::Interrupted { signal: Signal::SIGINT.0 }, 3));
    task.signalled_after = 1;
    assert!(matches!(task.find(Success::default()), Err(SearchError::Floor(FloorError::Interrupted(_)))));
}

#[test]
fn page_cache_is_squeezed_out_down_to_what_the_task_needs() {
    let mut task =
        MadeUp::new(500, &|limit| if enough(limit, 100) { (FINE, 1000, 0) } else { (Outcome::OomKilled, 1000, 1) });
    let found = task.find(Success::default()).unwrap();
    assert_floor(&found, 100);
    assert_eq!((found.end, found.confirmed, found.contradictions), (End::Settled, 3, 0));
    assert_eq!(found.unlimited.len(), 1);
}

#[test]
fn every_run_is_kept_and_the_last_one_has_the_floor() {
    let mut task =
        MadeUp::new(500, &|limit| if enough(limit, 100) { (FINE, 1000, 0) } else { (Outcome::OomKilled, 1000, 1) });
    let found = task.find(Success::default()).unwrap();
    let (last, others) = task.kept.split_last().unwrap();
    assert_eq!(others.len(), found.tries.len());
    assert!(others.iter().all(|run| run.floor.is_none()));
    let floor = last.floor.as_ref().unwrap();
    assert_eq!((Some(floor.bytes), floor.not_enough, floor.confirmed), (found.floor(), found.not_enough, 3));
    assert_eq!(floor.peak, Some(Bytes::mib(500)));
    assert_eq!(last.limit.own.value(), Some(Some(floor.bytes)), "it is in the record of a run under it");
    assert_eq!(last.outcome, FINE);
}

#[test]
fn time_counts_where_it_is_bounded() {
    // Below 200 MiB it gets slow, below 100 MiB it fails.
    let slow: &Behaviour = &|limit| match limit {
        limit if !enough(limit, 100) => (Outcome::OomKilled, 1_000_000, 1),
        limit if !enough(limit, 200) => (FINE, 3_000_000, 0),
        _ => (FINE, 1_000_000, 0),
    };
    assert_floor(&MadeUp::new(500, slow).find(Success::default()).unwrap(), 100);
    let bounded = |slowdown| Success { slowdown: Some(slowdown), ..Success::default() };
    let mut task = MadeUp::new(500, slow);
    let found = task.find(bounded(1.2)).unwrap();
    assert_floor(&found, 200);
    assert_eq!(found.unlimited.len(), 3, "their median is what tries are held against");
    assert!(found.tries.iter().any(|one| one.result == TryResult::TooSlow), "{found:?}");
    assert_floor(&MadeUp::new(500, slow).find(bounded(3.0)).unwrap(), 100);
}

#[test]
fn a_try_is_not_waited_for_for_ever() {
    let mut task = MadeUp::new(500, &|limit| match limit {
        limit if enough(limit, 100) => (FINE, 1_000_000, 0),
        _ => (Outcome::TimedOut { after_us: 20_000_000 }, 20_000_000, 0),
    });
    let found = task.find(Success::default()).unwrap();
    assert_floor(&found, 100);
    assert_eq!(task.timeouts[0], None, "without a limit it has all the time it wants");
    assert!(task.timeouts[1..].iter().all(|timeout| *timeout == Some(Duration::from_secs(20))), "{:?}", task.timeouts);
}

#[test]
fn a_child_that_is_killed_is_no_success_unless_that_is_allowed() {
    let task: &Behaviour = &|limit| (FINE, 1000, u64::from(!enough(limit, 100)));
    let found = MadeUp::new(500, task).find(Success::default()).unwrap();
    assert_floor(&found, 100);
    assert!(found.tries.iter().any(|one| one.result == TryResult::ChildOomKilled), "{found:?}");
    let allowed = Success { oom_of_children: true, ..Success::default() };
    assert_eq!(MadeUp::new(500, task).find(allowed).unwrap().floor(), Some(Bytes::mib(1)));
}

#[test]
fn any_other_end_than_success_is_not_enough() {
    for outcome in [Outcome::Exited { status: 1 }, Outcome::Signalled { signal: 6 }, Outcome::OomKilled] {
        let behaviour = move |limit| if enough(limit, 100) { (FINE, 1000, 0) } else { (outcome, 1000, 0) };
        assert_floor(&MadeUp::new(500, &behaviour).find(Success::default()).unwrap(), 100);
    }
}

#[test]
fn a_limit_too_low_to_start_under_is_not_enough() {
    let mut task = MadeUp::new(500, &|_| (FINE, 1000, 0));
    task.not_started_below = Bytes::mib(20);
    let found = task.find(Success::default()).unwrap();
    assert_floor(&found, 20);
    assert!(found.tries.iter().any(|one| matches!(&one.result, TryResult::NotStarted(_))), "{found:?}");
    assert!(task.kept.last().unwrap().floor.is_some());
}

#[test]
fn a_task_that_fails_without_a_limit_has_no_floor() {
    let mut task = MadeUp::new(500, &|_| (Outcome::Exited { status: 3 }, 1000, 0));
    let Err(SearchError::Floor(FloorError::TaskFailed(run))) = task.find(Success::default()) else { panic!() };
    assert_eq!(run.outcome, Outcome::Exited { status: 3 });
    assert_eq!(task.kept, [*run]);
}

#[test]
fn an_interruption_keeps_what_was_found_so_far() {
    for outcome in [Outcome::Interrupted { signal: 2 }, Outcome::EngineLost] {
        // At the third try, between 62.5 and 125 MiB.
        let behaviour = move |limit: Option<Bytes>| match limit {
            Some(limit) if limit < Bytes::mib(70) => (Outcome::OomKilled, 1000, 1),
            Some(limit) if limit < Bytes::mib(120) => (outcome, 1000, 0),
            _ => (FINE, 1000, 0),
        };
        let mut task = MadeUp::new(500, &behaviour);
        let found = task.find(Success::default()).unwrap();
        assert_eq!((found.floor(), found.enough), (None, Some(Bytes::mib(125))));
        assert_eq!(found.not_enough, Some(Bytes(125 * MIB / 2)));
        assert_ne!(found.end, End::Settled);
        assert_eq!(task.kept.last().unwrap().outcome, outcome);
        assert_eq!(task.kept.last().unwrap().floor, None);
    }
}

#[test]
fn a_limit_that_is_not_kept_is_no_limit() {
    let mut task = MadeUp::new(500, &|_| (FINE, 1000, 0));
    task.limits_ignored = true;
    let Err(SearchError::Floor(error @ FloorError::NotKept { .. })) = task.find(Success::default()) else { panic!() };
    assert_eq!(error.to_string(), "failed to limit the task to 250 MiB: its cgroup has no limit");
}

#[test]
fn a_task_that_leaves_its_cgroup_has_no_floor() {
    let mut task = MadeUp::new(500, &|_| (FINE, 1000, 0));
    task.escapes = true;
    let Err(SearchError::Floor(error @ FloorError::Escaped { .. })) = task.find(Success::default()) else { panic!() };
    assert_eq!(error.to_string(), "failed to limit all of the task to 250 MiB: it left");
}

#[test]
fn tries_that_contradict_each_other_are_told_and_the_safe_side_taken() {
    // 125 MiB are enough once, and then never again.
    let answers = std::cell::RefCell::new(VecDeque::from([true, true, false]));
    let behaviour = move |limit: Option<Bytes>| {
        let fine = match limit {
            Some(limit) if limit <= Bytes::mib(130) => answers.borrow_mut().pop_front().unwrap_or(false),
            _ => true,
        };
        if fine { (FINE, 1000, 0) } else { (Outcome::OomKilled, 1000, 1) }
    };
    let found = MadeUp::new(500, &behaviour).find(Success::default()).unwrap();
    assert_eq!(found.end, End::Settled);
    assert!(found.floor() > Some(Bytes::mib(130)) && found.floor() > found.not_enough, "{found:?}");
    assert!(found.contradictions > 0, "{found:?}");
}
