//! Decides which run is next: the plan minus what is recorded.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Adaptive, Job};
use crate::calibrate::cells::Spread;
use crate::model::observation::Outcome;
use crate::model::plan::{Order, in_order};
use crate::model::units::Bytes;
use crate::store::Recorded;

/// The number of runs per cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repetitions {
    /// The minimum.
    pub least: u32,
    /// The maximum, used as long as the spread exceeds the precision.
    pub most: u32,
    /// A sufficient robust standard deviation of the peaks, as a share of their median.
    pub precision: f64,
}

/// Which recorded runs to repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// Those that were interrupted.
    #[default]
    Interrupted,
    /// Those, and those that failed because they ran out of memory.
    OutOfMemory,
    /// Those, and all that did not succeed.
    Failed,
    /// None.
    Never,
}

impl Retry {
    fn wants(self, outcome: Outcome, censored: bool) -> bool {
        let interrupted = match outcome {
            Outcome::Interrupted { .. } | Outcome::EngineLost | Outcome::Lost => true,
            Outcome::Exited { .. }
            | Outcome::Skipped { .. }
            | Outcome::Signalled { .. }
            | Outcome::OomKilled
            | Outcome::TimedOut { .. } => false,
        };
        match self {
            Self::Interrupted => interrupted,
            Self::OutOfMemory => interrupted || lacked_memory(outcome, censored),
            Self::Failed => interrupted || outcome.has_failed(),
            Self::Never => false,
        }
    }
}

/// Looks no more than this number of runs ahead for the sizes that tell most.
const AHEAD: usize = 100;

/// Whether a run failed because it ran out of memory. A task that loses a process to that often exits with a status of
/// its own.
pub(super) fn lacked_memory(outcome: Outcome, censored: bool) -> bool {
    outcome == Outcome::OomKilled || censored && outcome.has_failed()
}

/// The known runs of a cell.
#[derive(Clone, Debug, Default)]
struct CellRuns {
    /// The last record of each run that counts as done.
    made: Vec<(u32, Outcome, Option<Bytes>)>,
    /// Number of runs in progress.
    under_way: u32,
    /// Number of remaining runs.
    to_come: u32,
}

impl CellRuns {
    fn has(&self, run: u32) -> bool {
        self.made.iter().any(|(made, ..)| *made == run)
    }

    fn add(&mut self, run: u32, outcome: Outcome, peak: Option<Bytes>) {
        self.forget(run);
        self.made.push((run, outcome, peak));
    }

    fn forget(&mut self, run: u32) {
        self.made.retain(|(made, ..)| *made != run);
    }

    /// The peaks of the runs that succeeded.
    fn peaks(&self) -> impl Iterator<Item = Bytes> {
        self.made.iter().filter(|(_, outcome, _)| outcome.succeeded()).filter_map(|(.., peak)| *peak)
    }
}

/// The remaining runs.
#[derive(Clone, Debug)]
pub struct Schedule {
    runs: Repetitions,
    order: Order,
    cells: Vec<CellRuns>,
    pending: VecDeque<Job>,
    recorded: usize,
    ended: usize,
    /// Which sizes tell most, if not all of them are wanted.
    adaptive: Option<Adaptive>,
}

impl Schedule {
    /// Creates a schedule of the runs of the cells with these keys that are not recorded yet, or are to be repeated.
    pub fn new(keys: &[&str], runs: Repetitions, order: Order, retry: Retry, recorded: &[Recorded]) -> Self {
        let places: HashMap<&str, usize> = keys.iter().copied().zip(0..).collect();
        let mut cells = vec![CellRuns::default(); keys.len()];
        for one in recorded {
            let Some(cell) = places.get(&*one.cell).and_then(|place| cells.get_mut(*place)) else { continue };
            if retry.wants(one.outcome, one.censored) {
                cell.forget(one.run);
            } else {
                cell.add(one.run, one.outcome, one.peak.value());
            }
        }
        let recorded = cells.iter().map(|cell| cell.made.len()).sum();
        let all = in_order(order, keys.len(), runs.least).into_iter().map(|(cell, run)| Job { cell, run });
        let pending: VecDeque<Job> = all.filter(|job| !cells[job.cell].has(job.run)).collect();
        for job in &pending {
            cells[job.cell].to_come += 1;
        }
        let mut schedule = Self { runs, order, cells, pending, recorded, ended: 0, adaptive: None };
        for cell in 0..keys.len() {
            schedule.ask_for_more(cell);
        }
        schedule
    }

    /// Takes runs in the order in which their sizes tell most, and no more once the memory is known.
    #[must_use]
    pub fn until(mut self, mut adaptive: Adaptive) -> Self {
        // Runs that were recorded before count as if they had been made now.
        let made = |cell: usize| self.cells.get(cell)?.peaks().max();
        let mut recorded: Vec<usize> = (0..self.cells.len()).filter(|cell| made(*cell).is_some()).collect();
        while let Some(cell) = adaptive.next(recorded.iter().copied()) {
            recorded.retain(|other| *other != cell);
            adaptive.learn(cell, made(cell).unwrap_or_default().0 as f64);
        }
        recorded.into_iter().for_each(|cell| adaptive.learn(cell, made(cell).unwrap_or_default().0 as f64));
        self.adaptive = Some(adaptive);
        self
    }

    /// Whether the runs that are left are not needed.
    pub fn is_known(&self) -> bool {
        let pending = || self.pending.iter().map(|job| job.cell);
        self.adaptive.as_ref().is_some_and(|adaptive| adaptive.is_known() && adaptive.next(pending()).is_none())
    }

    /// The cell of the next run. Where sizes are chosen, it is one that can be paid for, if there is any.
    pub fn next_cell(&self, can_pay: impl Fn(usize) -> bool) -> Option<usize> {
        let mut pending = self.pending.iter().map(|job| job.cell);
        match &self.adaptive {
            Some(adaptive) => adaptive.next(pending.clone().filter(|cell| can_pay(*cell))).or(adaptive.next(pending)),
            None => pending.next(),
        }
    }

    /// Whether the sizes are chosen as the sweep goes on.
    pub(super) fn is_adaptive(&self) -> bool {
        self.adaptive.is_some()
    }

    /// The cells of the runs that are to come, one for each run: all that remain, or those that make the memory known if
    /// every size is as predicted.
    pub fn to_come(&self) -> Vec<usize> {
        match &self.adaptive {
            Some(adaptive) => self.in_turn(adaptive.clone()),
            None => self.pending.iter().map(|job| job.cell).collect(),
        }
    }

    /// The number of sizes that would be measured next in this time, in the order in which they tell most; `None` without
    /// such an order, if all that remain would be measured, and if the time of a run is unknown.
    pub fn further_sizes(&self, most: Duration, time: impl Fn(usize) -> Option<Duration>) -> Option<usize> {
        let mut adaptive = self.adaptive.as_ref()?.without_end();
        let (mut left, mut sizes) = (most, 0);
        for cell in self.in_turn(adaptive.clone()) {
            let Some(rest) = left.checked_sub(time(cell)?) else { return Some(sizes) };
            left = rest;
            sizes += usize::from(!adaptive.has_started(cell));
            adaptive.starts(cell);
        }
        None
    }

    /// The cells of the remaining runs, in turn, as long as the memory is not known.
    fn in_turn(&self, mut adaptive: Adaptive) -> Vec<usize> {
        let under_way = self.cells.iter().enumerate().filter(|(_, cell)| cell.under_way > 0);
        under_way.for_each(|(cell, _)| adaptive.assume(cell));
        let mut pending: Vec<usize> = self.pending.iter().map(|job| job.cell).collect();
        let mut cells = Vec::new();
        while cells.len() < AHEAD
            && let Some(cell) = adaptive.next(pending.iter().copied())
            && let Some(place) = pending.iter().position(|other| *other == cell)
        {
            cells.push(pending.remove(place));
            adaptive.assume(cell);
        }
        if cells.len() == AHEAD {
            cells.append(&mut pending);
        }
        cells
    }

    /// Takes the next run whose cell is admitted; `can_pay` is as for [`next_cell`](Self::next_cell).
    pub fn take(&mut self, can_pay: impl Fn(usize) -> bool, mut admits: impl FnMut(usize) -> bool) -> Option<Job> {
        let wanted = match &self.adaptive {
            Some(_) => Some(self.next_cell(can_pay)?),
            None => None,
        };
        let is_next = |job: &Job| wanted.is_none_or(|cell| cell == job.cell) && admits(job.cell);
        let place = self.pending.iter().position(is_next)?;
        let job = self.pending.remove(place)?;
        if let Some(adaptive) = &mut self.adaptive {
            adaptive.starts(job.cell);
        }
        self.cells[job.cell].under_way += 1;
        self.cells[job.cell].to_come -= 1;
        Some(job)
    }

    /// Puts back a run that did not start.
    pub fn put_back(&mut self, job: Job) {
        self.cells[job.cell].under_way -= 1;
        self.cells[job.cell].to_come += 1;
        self.pending.push_front(job);
    }

    /// Adds the result of a run.
    pub fn ended(&mut self, job: Job, outcome: Outcome, peak: Option<Bytes>) {
        self.ended += 1;
        // An interrupted run is repeated another time.
        if Retry::Interrupted.wants(outcome, false) {
            return self.put_back(job);
        }
        if let (Some(adaptive), Some(peak)) = (&mut self.adaptive, peak.filter(|_| outcome.succeeded())) {
            adaptive.learn(job.cell, peak.0 as f64);
        }
        let cell = &mut self.cells[job.cell];
        cell.under_way -= 1;
        cell.add(job.run, outcome, peak);
        self.ask_for_more(job.cell);
    }

    /// Adds a run if those of a cell are too far apart.
    fn ask_for_more(&mut self, cell: usize) {
        let known = &self.cells[cell];
        let made = u32::try_from(known.made.len()).unwrap_or(u32::MAX);
        if known.under_way > 0 || made < self.runs.least || made >= self.runs.most || self.has_more_of(cell) {
            return;
        }
        // A task without anything to do will have nothing to do again.
        if known.made.iter().all(|(_, outcome, _)| matches!(outcome, Outcome::Skipped { .. })) {
            return;
        }
        let peaks: Vec<f64> = known.peaks().map(|peak| peak.0 as f64).collect();
        let spread = Spread::new(&peaks).and_then(|spread| spread.relative());
        if spread.is_some_and(|spread| spread <= self.runs.precision) {
            return;
        }
        let Some(run) = (1..=self.runs.most).find(|run| !known.has(*run)) else { return };
        let job = Job { cell, run };
        self.cells[cell].to_come += 1;
        match self.order {
            Order::AsGiven => self.pending.push_front(job),
            Order::Interleaved | Order::Shuffled(_) => self.pending.push_back(job),
        }
    }

    /// Whether runs of a cell remain.
    pub fn has_more_of(&self, cell: usize) -> bool {
        self.left_of(cell) > 0
    }

    /// Number of remaining runs of a cell.
    pub fn left_of(&self, cell: usize) -> usize {
        self.cells.get(cell).map_or(0, |cell| cell.to_come as usize)
    }

    /// Number of remaining runs.
    pub fn left(&self) -> usize {
        self.pending.len()
    }

    /// The remaining runs, in order.
    pub fn pending(&self) -> impl Iterator<Item = Job> {
        self.pending.iter().copied()
    }

    /// Number of runs of the plan that were recorded before.
    pub fn recorded(&self) -> usize {
        self.recorded
    }

    /// Number of runs that have ended since.
    pub fn ended_now(&self) -> usize {
        self.ended
    }

    /// Number of runs of a cell that count as done.
    pub fn made(&self, cell: usize) -> usize {
        self.cells.get(cell).map_or(0, |cell| cell.made.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::reading::Reading;
    use crate::model::timestamp::Timestamp;

    const FINE: Outcome = Outcome::Exited { status: 0 };

    fn runs(least: u32, most: u32) -> Repetitions {
        Repetitions { least, most, precision: 0.02 }
    }

    fn recorded(cell: &str, run: u32, outcome: Outcome) -> Recorded {
        let peak = Reading::Value(Bytes(100));
        let (started_at, wall_us) = (Timestamp::UNIX_EPOCH, 1);
        Recorded { cell: cell.into(), run, outcome, peak, censored: false, started_at, wall_us, has_floor: false }
    }

    fn jobs(schedule: &Schedule) -> Vec<(usize, u32)> {
        schedule.pending().map(|job| (job.cell, job.run)).collect()
    }

    #[test]
    fn what_is_recorded_is_not_run_again() {
        let record = [recorded("a", 1, FINE), recorded("b", 2, FINE), recorded("other", 1, FINE)];
        let schedule = Schedule::new(&["a", "b"], runs(2, 2), Order::AsGiven, Retry::default(), &record);
        assert_eq!(jobs(&schedule), [(0, 2), (1, 1)]);
        assert_eq!((schedule.recorded(), schedule.left()), (2, 2));
    }

    #[test]
    fn what_is_tried_again_is_a_choice() {
        let failed = Outcome::Exited { status: 1 };
        let record =
            [recorded("a", 1, Outcome::Interrupted { signal: 2 }), recorded("a", 2, failed), recorded("a", 3, FINE)];
        let of = |retry| jobs(&Schedule::new(&["a"], runs(3, 3), Order::AsGiven, retry, &record));
        assert_eq!(of(Retry::Interrupted), [(0, 1)]);
        assert_eq!(of(Retry::Failed), [(0, 1), (0, 2)]);
        assert_eq!(of(Retry::Never), []);
        let again = [record.as_slice(), &[recorded("a", 1, FINE)]].concat();
        assert_eq!(jobs(&Schedule::new(&["a"], runs(3, 3), Order::AsGiven, Retry::Interrupted, &again)), []);
    }

    #[test]
    fn runs_go_on_until_their_spread_is_small() {
        let mut schedule = Schedule::new(&["a"], runs(2, 10), Order::AsGiven, Retry::default(), &[]);
        let mut made = 0;
        let peaks = [100, 200, 100, 101, 100, 100, 100];
        while let Some(job) = schedule.take(|_| true, |_| true) {
            schedule.ended(job, FINE, Some(Bytes(peaks[made])));
            made += 1;
        }
        assert_eq!(made, 3, "one odd run of three does not move the middle");
        let mut schedule = Schedule::new(&["a"], runs(2, 5), Order::AsGiven, Retry::default(), &[]);
        let mut made = 0;
        while let Some(job) = schedule.take(|_| true, |_| true) {
            made += 1;
            schedule.ended(job, FINE, Some(Bytes(100 * made)));
        }
        assert_eq!(made, 5, "it ends all the same");
    }

    /// A schedule of 12 sizes after 3 runs with proportional peaks, and the cells of the pending runs.
    fn three_of_twelve(until: Option<f64>) -> Schedule {
        let sizes: Vec<(f64, usize)> = (0..12_i32).map(|power| (1e6 * 2.0_f64.powi(power), 0)).collect();
        let keys: Vec<String> = (0..12).map(|cell| cell.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let schedule = Schedule::new(&keys, runs(2, 2), Order::AsGiven, Retry::default(), &[]);
        let mut schedule = schedule.until(Adaptive::new(until, sizes.clone()));
        for _ in 0..6 {
            let job = schedule.take(|_| true, |_| true).unwrap();
            schedule.ended(job, FINE, Some(Bytes(20_000_000 + sizes[job.cell].0 as u64)));
        }
        schedule
    }

    #[test]
    fn only_the_runs_that_will_be_made_are_to_come() {
        assert_eq!(three_of_twelve(Some(0.1)).to_come().len(), 4, "two sizes that are as predicted");
        assert_eq!(three_of_twelve(None).to_come().len(), 18, "without an end, all");
    }

    #[test]
    fn a_further_hour_is_good_for_the_sizes_that_tell_most() {
        let minutes = |minutes: u64| move |_| Some(Duration::from_secs(60 * minutes));
        let hour = Duration::from_secs(3600);
        for schedule in [three_of_twelve(Some(0.1)), three_of_twelve(None)] {
            assert_eq!(schedule.further_sizes(hour, minutes(7)), Some(4), "eight runs, two of each size");
            assert_eq!(schedule.further_sizes(hour, minutes(61)), Some(0));
            assert_eq!(schedule.further_sizes(hour, minutes(2)), None, "all of them");
            assert_eq!(schedule.further_sizes(hour, |_| None), None, "no run is known");
        }
    }

    #[test]
    fn a_run_that_did_not_begin_or_end_is_still_to_come() {
        let mut schedule = Schedule::new(&["a"], runs(2, 2), Order::AsGiven, Retry::default(), &[]);
        let job = schedule.take(|_| true, |_| true).unwrap();
        schedule.put_back(job);
        assert_eq!(jobs(&schedule), [(0, 1), (0, 2)]);
        assert_eq!(schedule.take(|_| true, |_| false), None);
    }
}
