//! Evaluates a rule on recorded runs.

use serde::Serialize;

use crate::model::fit::{Censoring, FittedRule, RunTable, SizedRun};
use crate::model::units::Bytes;

use super::waste::waste;

/// Byte-seconds in a gigabyte-hour.
pub(super) const GIGABYTE_HOUR: f64 = 1e9 * 3600.0;

/// How a rule would have performed on recorded runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Backtest {
    /// Number of runs that decide: uncensored ones, and those killed for memory if the rule gives no more than they
    /// had.
    pub runs: usize,
    /// Number of runs that do not decide: their peak is a bound below the rule, or they reached their limit.
    pub undecided: usize,
    /// Unused reserved memory, in GB·h (10⁹ bytes); `None` if times are unknown.
    pub waste_gbh: Option<f64>,
    /// Number of runs that fail on the first try.
    pub failures: usize,
    /// Failures per 1000 runs.
    pub failures_per_1000: f64,
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// The smallest limit / peak: below 1 if a run fails.
    pub smallest_ratio: f64,
    /// The largest limit / peak.
    pub largest_ratio: f64,
    /// Number of runs whose input is outside of `covered`; 0 without it.
    pub outside: usize,
}

/// Evaluates a rule on every run of a table, with the sizes of this predictor.
///
/// `covered` is the range of sizes that the rule was calibrated on.
pub fn backtest(table: &RunTable, predictor: usize, rule: &FittedRule, covered: Option<(Bytes, Bytes)>) -> Backtest {
    let size = |run: &SizedRun| run.sizes.get(predictor).copied();
    let mut result = backtest_by(table, |_, run| size(run).map(|n| rule.limit(n)));
    let sizes = table.runs.iter().filter_map(size);
    result.outside = sizes.filter(|n| covered.is_some_and(|(smallest, largest)| *n < smallest || *n > largest)).count();
    result
}

/// Evaluates any function that gives each run of a table a limit. Runs without a limit are skipped.
pub fn backtest_by(table: &RunTable, limit: impl Fn(usize, &SizedRun) -> Option<Bytes>) -> Backtest {
    let mut result = Backtest { smallest_ratio: f64::INFINITY, ..Backtest::default() };
    let (mut wasted, mut timed, mut ratios) = (0.0, true, 0.0);
    for (place, run) in table.runs.iter().enumerate() {
        let Some(limit) = limit(place, run) else { continue };
        let fails = match run.censoring {
            Censoring::None | Censoring::LowerBound => limit < run.peak,
            Censoring::OomKilled => limit <= run.peak,
            Censoring::LimitReached => false,
        };
        if run.censoring != Censoring::None && !fails {
            result.undecided += 1;
            continue;
        }
        let ratio = limit.0 as f64 / run.peak.0.max(1) as f64;
        result.runs += 1;
        result.failures += usize::from(fails);
        result.smallest_ratio = result.smallest_ratio.min(ratio);
        result.largest_ratio = result.largest_ratio.max(ratio);
        ratios += ratio;
        match run.wall_seconds {
            Some(wall) => wasted += waste(limit.0 as f64, run.peak.0 as f64, wall),
            None => timed = false,
        }
    }
    let runs = result.runs.max(1) as f64;
    result.waste_gbh = timed.then_some(wasted / GIGABYTE_HOUR);
    result.failures_per_1000 = 1000.0 * result.failures as f64 / runs;
    result.mean_ratio = ratios / runs;
    if result.runs == 0 {
        result.smallest_ratio = 0.0;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u64, peak: u64, censoring: Censoring, wall_seconds: Option<f64>) -> SizedRun {
        SizedRun { sizes: vec![Bytes(n)], peak: Bytes(peak), censoring, wall_seconds }
    }

    #[test]
    fn failures_and_waste_are_counted_per_run() {
        let runs = vec![
            run(10, 100, Censoring::None, Some(3600.0)),
            run(10, 300, Censoring::None, Some(3600.0)),
            run(99, 250, Censoring::OomKilled, Some(3600.0)),
            run(10, 200, Censoring::OomKilled, Some(1.0)),
            run(10, 200, Censoring::LimitReached, Some(1.0)),
        ];
        let table = RunTable { predictors: vec!["n".into()], runs };
        let result = backtest(&table, 0, &FittedRule::constant(Bytes(250)), Some((Bytes(10), Bytes(20))));
        assert_eq!((result.runs, result.failures, result.undecided, result.outside), (3, 2, 2, 1));
        assert!((result.waste_gbh.unwrap() * 1e9 - (150.0 + 450.0)).abs() < 1e-6, "{result:?}");
        assert_eq!(result.largest_ratio, 2.5);
    }

    #[test]
    fn unknown_times_leave_the_waste_unknown() {
        let runs = vec![run(10, 100, Censoring::None, None)];
        let table = RunTable { predictors: vec!["n".into()], runs };
        assert_eq!(backtest(&table, 0, &FittedRule::constant(Bytes(250)), None).waste_gbh, None);
    }
}
