//! Admits runs only if there is enough memory, so that they never compete for that of the host, and budget for them.

use std::str::FromStr;
use std::time::Duration;

use super::forecast::{Expected, Forecast, PastRun};
use super::schedule::Schedule;
use crate::model::scalar::{amount, duration};
use crate::model::units::Bytes;

/// The total budget of a sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// The sum of the times of all runs.
    Time(Duration),
    /// The sum of peak times time, in byte-seconds.
    Memory(f64),
}

impl FromStr for Budget {
    type Err = String;

    /// `2h`, or `10GiBh` (memory for an hour).
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(memory) = text.strip_suffix('h')
            && let Ok(bytes) = amount(memory)
            && memory.contains(|char: char| char.is_ascii_alphabetic())
        {
            return Ok(Self::Memory(bytes.0 as f64 * 3600.0));
        }
        let expected = |_| "expected a time such as 2h, or memory times time such as 10GiBh".to_owned();
        duration(text).map(Self::Time).map_err(expected)
    }
}

/// Admits runs.
pub struct Admission<'a> {
    forecast: Forecast,
    /// The memory that all runs together may use.
    capacity: Option<Bytes>,
    /// The memory available on the host now.
    available: Box<dyn Fn() -> Option<Bytes> + 'a>,
    /// The cells of the runs in progress with their expected memory at the start.
    running: Vec<(usize, Option<Bytes>)>,
    budget: Option<Budget>,
    spent: (Duration, f64),
    /// Whether a cluster schedules the runs, so that memory on this machine does not matter.
    is_elsewhere: bool,
}

impl<'a> Admission<'a> {
    /// Creates it from a forecast, the memory for all runs, and a function that returns what is available on the host.
    pub fn new(
        forecast: Forecast,
        capacity: Option<Bytes>,
        available: impl Fn() -> Option<Bytes> + 'a,
        budget: Option<Budget>,
    ) -> Self {
        Self {
            forecast,
            capacity,
            available: Box::new(available),
            running: Vec::new(),
            budget,
            spent: (Duration::ZERO, 0.0),
            is_elsewhere: false,
        }
    }

    /// Admits every run, because the cluster that it goes to has an admission control of its own.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        Self { is_elsewhere: true, ..self }
    }

    /// Whether a run of this cell may start beside those in progress. A single run is always admitted; a cell without a
    /// forecast only runs alone.
    pub fn admits(&self, cell: usize) -> bool {
        if self.running.is_empty() || self.is_elsewhere {
            return true;
        }
        let Some(need) = self.forecast.expected(cell).memory else { return false };
        let Some(used) = self.running.iter().map(|(_, need)| *need).sum::<Option<Bytes>>() else { return false };
        let fits = |capacity: Bytes| used.saturating_add(need) <= capacity;
        self.capacity.is_some_and(fits) && (self.available)().is_none_or(|available| need <= available)
    }

    /// A run of this cell starts.
    pub(super) fn enter(&mut self, cell: usize) {
        self.running.push((cell, self.forecast.expected(cell).memory));
    }

    /// A run of this cell has ended.
    pub(super) fn leave(&mut self, cell: usize) {
        if let Some(place) = self.running.iter().position(|(running, _)| *running == cell) {
            self.running.swap_remove(place);
        }
    }

    /// Adds a run of this cell to the forecast.
    pub(super) fn learn(&mut self, cell: usize, run: PastRun) {
        self.forecast.learn(cell, run);
    }

    /// Charges a run to the budget.
    pub(super) fn pay(&mut self, peak: Bytes, wall: Duration) {
        self.spent.0 += wall;
        self.spent.1 += peak.0 as f64 * wall.as_secs_f64();
    }

    /// Whether the next run would exceed the budget.
    pub(super) fn is_spent(&self, schedule: &Schedule) -> bool {
        schedule.next_cell(|cell| self.can_pay(cell)).is_some_and(|next| !self.can_pay(next))
    }

    /// Whether the budget is enough for a run of this cell.
    pub(super) fn can_pay(&self, cell: usize) -> bool {
        self.affordable([cell]) > 0
    }

    /// Whether the budget may end the sweep.
    pub(super) fn has_budget(&self) -> bool {
        self.budget.is_some()
    }

    /// The number of runs of these cells, in order, that the budget is enough for.
    pub(super) fn affordable(&self, cells: impl IntoIterator<Item = usize>) -> usize {
        let time = |expected: &Expected| expected.time.unwrap_or_default();
        let area = |expected: &Expected| expected.memory.unwrap_or(Bytes::ZERO).0 as f64 * time(expected).as_secs_f64();
        let cost = |cell: usize| {
            let expected = self.forecast.expected(cell);
            (time(&expected), area(&expected))
        };
        let add = |sum: (Duration, f64), cost: (Duration, f64)| (sum.0 + cost.0, sum.1 + cost.1);
        // The runs in progress will also be charged.
        let mut spent = self.running.iter().map(|(cell, _)| cost(*cell)).fold(self.spent, add);
        let is_affordable = |cell: &usize| {
            spent = add(spent, cost(*cell));
            match self.budget {
                None => true,
                Some(Budget::Time(most)) => spent.0 <= most,
                Some(Budget::Memory(most)) => spent.1 <= most,
            }
        };
        cells.into_iter().take_while(is_affordable).count()
    }

    /// The memory that all runs together may use.
    pub(super) fn capacity(&self) -> Option<Bytes> {
        self.capacity
    }

    /// The forecast.
    pub fn forecast(&self) -> &Forecast {
        &self.forecast
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::sweep::ForecastCell;

    fn admission(known: &[Option<u64>], capacity: u64, available: u64) -> Admission<'static> {
        let cells = known.iter().map(|need| ForecastCell { n: 1.0, group: 0, predicted: need.map(Bytes) });
        Admission::new(Forecast::new(cells, None), Some(Bytes(capacity)), move || Some(Bytes(available)), None)
    }

    #[test]
    fn no_more_runs_begin_than_there_is_memory_for() {
        let mut admission = admission(&[Some(40), Some(40), Some(40)], 100, 100);
        for cell in 0..2 {
            assert!(admission.admits(cell));
            admission.enter(cell);
        }
        assert!(!admission.admits(2));
        admission.leave(0);
        assert!(admission.admits(2));
    }

    #[test]
    fn one_alone_always_may_and_the_unknown_only_alone() {
        let mut alone = admission(&[Some(1000), Some(1)], 100, 100);
        assert!(alone.admits(0));
        alone.enter(0);
        assert!(!alone.admits(1));
        let mut unknown = admission(&[None, Some(1)], 100, 100);
        assert!(unknown.admits(0) && unknown.admits(1));
        unknown.enter(1);
        assert!(!unknown.admits(0));
        unknown.leave(1);
        unknown.enter(0);
        assert!(!unknown.admits(1));
    }

    #[test]
    fn what_others_use_of_the_host_counts() {
        let mut admission = admission(&[Some(40), Some(40)], 100, 30);
        admission.enter(0);
        assert!(!admission.admits(1));
    }

    #[test]
    fn costs_are_times_or_memory_by_time() {
        assert_eq!("90m".parse(), Ok(Budget::Time(Duration::from_secs(5400))));
        assert_eq!("2GiBh".parse(), Ok(Budget::Memory(7200.0 * f64::from(1 << 30))));
        assert!("2".parse::<Budget>().is_err() && "GiBh".parse::<Budget>().is_err());
    }
}
