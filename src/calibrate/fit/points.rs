//! Converts runs to points, one per distinct input.

use std::collections::BTreeMap;

use crate::model::fit::{Censoring, RunTable};
use crate::model::units::Bytes;
use crate::stats::summary::distinct;

/// The longest time of a run, in seconds, so that no sum of wastes overflows.
const LONGEST: f64 = 1e12;

/// A peak of 0 counts as 1 byte: costs are relative to the peaks, and every process needs memory.
pub(super) fn peak(bytes: Bytes) -> f64 {
    bytes.0.max(1) as f64
}

/// All runs of one input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// The index of the input, the same for all predictors.
    pub(super) input: usize,
    /// The size of the input, in bytes.
    pub(super) n: f64,
    /// The largest peak of its runs, in bytes.
    pub(super) peak: f64,
    /// The total time of its runs in seconds; their number if times are unknown.
    pub(super) wall: f64,
}

/// The runs of a task by one predictor.
#[derive(Clone, Debug)]
pub(super) struct Points {
    /// Runs whose peak is their need, sorted by size.
    pub(super) uncensored: Vec<Point>,
    /// Runs that were killed for memory: they need more than their peak.
    pub(super) killed: Vec<Point>,
    /// Runs whose peak was sampled: they need at least their peak.
    pub(super) sampled: Vec<Point>,
}

impl Points {
    /// Pools the repeats of each input to their maximum: a repeat is not a new input.
    ///
    /// Inputs differ if any size differs. So a predictor that cannot distinguish two inputs still has to cover both of
    /// their peaks, and all predictors are judged on the same points.
    pub(super) fn by_predictor(table: &RunTable, predictor: usize) -> Self {
        let timed = is_timed(table);
        let mut uncensored: BTreeMap<&[Bytes], Point> = BTreeMap::new();
        let mut killed = Vec::new();
        let mut sampled = Vec::new();
        for run in &table.runs {
            let Some(n) = run.sizes.get(predictor).copied() else { continue };
            let wall = run.wall_seconds.filter(|_| timed).unwrap_or(1.0).clamp(0.0, LONGEST);
            let point = Point { input: 0, n: n.0 as f64, peak: peak(run.peak), wall };
            match run.censoring {
                Censoring::None => {
                    uncensored
                        .entry(&run.sizes)
                        .and_modify(|pooled| {
                            pooled.peak = pooled.peak.max(point.peak);
                            pooled.wall += wall;
                        })
                        .or_insert(point);
                }
                Censoring::LimitReached => {}
                Censoring::OomKilled => killed.push(point),
                Censoring::LowerBound => sampled.push(point),
            }
        }
        let mut uncensored: Vec<Point> =
            uncensored.into_values().enumerate().map(|(input, point)| Point { input, ..point }).collect();
        uncensored.sort_by(|a, b| a.n.total_cmp(&b.n));
        Self { uncensored, killed, sampled }
    }

    /// The distinct sizes, in ascending order.
    pub(super) fn sizes(&self) -> Vec<f64> {
        distinct(self.uncensored.iter().map(|point| point.n).collect())
    }

    /// Number of distinct sizes.
    pub(super) fn distinct_sizes(&self) -> usize {
        self.sizes().len()
    }
}

/// Whether every uncensored run has a time, so that waste can be weighted by it. Bounds waste nothing.
pub(super) fn is_timed(table: &RunTable) -> bool {
    let uncensored = || table.runs.iter().filter(|run| run.censoring == Censoring::None);
    uncensored().all(|run| run.wall_seconds.is_some()) && uncensored().any(|run| run.wall_seconds > Some(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fit::SizedRun;

    fn run(n: u64, peak: u64, censoring: Censoring) -> SizedRun {
        SizedRun { sizes: vec![Bytes(n)], peak: Bytes(peak), censoring, wall_seconds: Some(2.0) }
    }

    #[test]
    fn repeats_pool_to_their_maximum() {
        let runs = vec![run(7, 10, Censoring::None), run(3, 4, Censoring::None), run(7, 12, Censoring::None)];
        let points = Points::by_predictor(&RunTable { predictors: vec!["n".into()], runs }, 0);
        let pooled = [(0, 3.0, 4.0, 2.0), (1, 7.0, 12.0, 4.0)];
        assert_eq!(points.uncensored, pooled.map(|(input, n, peak, wall)| Point { input, n, peak, wall }));
    }

    #[test]
    fn inputs_that_differ_by_another_measure_are_not_pooled() {
        let runs = [(5, 9, 20), (8, 5, 40), (5, 7, 10)]
            .map(|(n, other, peak)| SizedRun { sizes: vec![Bytes(n), Bytes(other)], ..run(n, peak, Censoring::None) });
        let table = RunTable { predictors: vec!["n".into(), "other".into()], runs: runs.to_vec() };
        let [points, others] = [0, 1].map(|predictor| Points::by_predictor(&table, predictor));
        let seen =
            |points: &Points| points.uncensored.iter().map(|point| (point.input, point.peak)).collect::<Vec<_>>();
        assert_eq!(seen(&points), [(0, 10.0), (1, 20.0), (2, 40.0)]);
        assert_eq!(seen(&others), [(2, 40.0), (0, 10.0), (1, 20.0)]);
        assert_eq!((points.distinct_sizes(), others.distinct_sizes()), (2, 3));
    }

    #[test]
    fn censored_runs_are_no_points() {
        let runs = vec![run(7, 10, Censoring::LimitReached), run(3, 4, Censoring::OomKilled)];
        let points = Points::by_predictor(&RunTable { predictors: vec!["n".into()], runs }, 0);
        assert!(points.uncensored.is_empty());
        assert_eq!(points.killed.len(), 1);
    }

    #[test]
    fn a_peak_of_zero_counts_as_a_byte() {
        let points =
            Points::by_predictor(&RunTable { predictors: vec!["n".into()], runs: vec![run(7, 0, Censoring::None)] }, 0);
        assert_eq!(points.uncensored[0].peak, 1.0);
    }

    #[test]
    fn one_unknown_time_makes_all_runs_equal() {
        let mut runs = vec![run(7, 10, Censoring::None), run(3, 4, Censoring::None)];
        runs[1].wall_seconds = None;
        let points = Points::by_predictor(&RunTable { predictors: vec!["n".into()], runs }, 0);
        assert!(points.uncensored.iter().all(|point| point.wall == 1.0));
    }
}
