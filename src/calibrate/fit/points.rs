//! From runs to points: one for each distinct size of input.

use std::collections::BTreeMap;

use crate::model::fit::{Censoring, RunTable};

/// No run takes longer, in seconds; so that no sum of wastes leaves the range of numbers.
const LONGEST: f64 = 1e12;

/// All runs of one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// The size of the input, in bytes.
    pub(super) n: f64,
    /// The largest peak of its runs, in bytes.
    pub(super) peak: f64,
    /// The seconds of its runs together; their number where times are unknown.
    pub(super) wall: f64,
}

/// The runs of a task by one predictor.
#[derive(Clone, Debug)]
pub(super) struct Points {
    /// By size, ascending; runs whose peak is their need.
    pub(super) plain: Vec<Point>,
    /// Runs that were killed for memory: they need more than this.
    pub(super) killed: Vec<Point>,
    /// Runs whose peak was sampled: they need this or more.
    pub(super) sampled: Vec<Point>,
}

impl Points {
    /// Pools the repeats of each input to their maximum: a repeat is no new input.
    pub(super) fn by(table: &RunTable, predictor: usize) -> Self {
        let timed = is_timed(table);
        let mut plain: BTreeMap<u64, Point> = BTreeMap::new();
        let mut killed = Vec::new();
        let mut sampled = Vec::new();
        for run in &table.runs {
            let Some(n) = run.sizes.get(predictor).copied() else { continue };
            let wall = run.wall_seconds.filter(|_| timed).unwrap_or(1.0).clamp(0.0, LONGEST);
            let point = Point { n: n.0 as f64, peak: run.peak.0 as f64, wall };
            match run.censoring {
                Censoring::None => {
                    plain
                        .entry(n.0)
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
        Self { plain: plain.into_values().collect(), killed, sampled }
    }
}

/// Whether every run tells its time, so that waste can be weighed with it.
pub(super) fn is_timed(table: &RunTable) -> bool {
    table.runs.iter().all(|run| run.wall_seconds.is_some()) && table.runs.iter().any(|run| run.wall_seconds > Some(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fit::SizedRun;
    use crate::model::units::Bytes;

    fn run(n: u64, peak: u64, censoring: Censoring) -> SizedRun {
        SizedRun { sizes: vec![Bytes(n)], peak: Bytes(peak), censoring, wall_seconds: Some(2.0) }
    }

    #[test]
    fn repeats_pool_to_their_maximum() {
        let runs = vec![run(7, 10, Censoring::None), run(3, 4, Censoring::None), run(7, 12, Censoring::None)];
        let points = Points::by(&RunTable { predictors: vec!["n".into()], runs }, 0);
        assert_eq!(points.plain, [Point { n: 3.0, peak: 4.0, wall: 2.0 }, Point { n: 7.0, peak: 12.0, wall: 4.0 }]);
    }

    #[test]
    fn censored_runs_are_no_points() {
        let runs = vec![run(7, 10, Censoring::LimitReached), run(3, 4, Censoring::OomKilled)];
        let points = Points::by(&RunTable { predictors: vec!["n".into()], runs }, 0);
        assert!(points.plain.is_empty());
        assert_eq!(points.killed.len(), 1);
    }

    #[test]
    fn one_unknown_time_makes_all_runs_equal() {
        let mut runs = vec![run(7, 10, Censoring::None), run(3, 4, Censoring::None)];
        runs[1].wall_seconds = None;
        let points = Points::by(&RunTable { predictors: vec!["n".into()], runs }, 0);
        assert!(points.plain.iter().all(|point| point.wall == 1.0));
    }
}
