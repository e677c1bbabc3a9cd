//! Evaluates fitting itself: calibrates on a few runs of a task, tests on the others, and compares with hindsight.

use serde::Serialize;

use crate::model::fit::{Censoring, RunTable};
use crate::model::units::Bytes;

use super::holdout::scrambled;
use super::{FitOptions, fit, oracle, waste};

/// Which runs to calibrate on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Random ones, shuffled for each seed.
    #[default]
    Shuffled,
    /// Those with the smallest inputs, so that all tests are extrapolations.
    SmallFirst,
}

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Which runs to calibrate on.
    pub order: Order,
    /// Number of runs to calibrate on.
    pub calibrate_on: usize,
    /// Number of repetitions with other runs.
    pub seeds: u64,
    /// The highest exponent of the oracle's rule.
    pub oracle_exponent: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { order: Order::Shuffled, calibrate_on: 20, seeds: 10, oracle_exponent: 2 }
    }
}

/// The performance of the rules for one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TaskScore {
    /// Waste on the test runs of all seeds: byte-seconds, microseconds of time, or microseconds of one core.
    pub waste: f64,
    /// The least waste of any rule chosen in hindsight.
    pub oracle: f64,
    /// The geometric mean over the seeds of waste / oracle.
    pub ratio: f64,
    /// Test runs of all seeds.
    pub runs: usize,
    /// Number of them that failed on the first try.
    pub failures: usize,
    /// Test runs outside of the calibrated sizes.
    pub outside: usize,
    /// Seeds whose test runs are outside of the calibrated sizes …
    pub seeds_outside: u64,
    /// … and the number of them that the fit warned about.
    pub seeds_warned: u64,
}

impl TaskScore {
    /// Failures on the first try per 1000 test runs.
    pub fn failures_per_1000(&self) -> f64 {
        1000.0 * self.failures as f64 / self.runs.max(1) as f64
    }
}

/// The combined scores of several tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of tasks.
    pub tasks: usize,
    /// Total waste divided by total waste in hindsight: large tasks dominate.
    pub total_ratio: f64,
    /// The geometric mean of the tasks' ratios: every task has the same weight.
    pub typical_ratio: f64,
    /// The arithmetic mean of the tasks' ratios: bad tasks dominate.
    pub mean_ratio: f64,
    /// Failures per 1000 test runs of all tasks.
    pub failures_per_1000: f64,
    /// The mean of the tasks' failures per 1000.
    pub mean_failures_per_1000: f64,
}

impl Evaluation {
    /// Combines the scores of tasks.
    pub fn from_scores<'a>(scores: impl IntoIterator<Item = &'a TaskScore>) -> Self {
        let mut sum = Self::default();
        let (mut waste, mut oracle, mut runs, mut failures) = (0.0, 0.0, 0, 0);
        for score in scores {
            sum.tasks += 1;
            waste += score.waste;
            oracle += score.oracle;
            runs += score.runs;
            failures += score.failures;
            sum.typical_ratio += score.ratio.ln();
            sum.mean_ratio += score.waste / score.oracle;
            sum.mean_failures_per_1000 += score.failures_per_1000();
        }
        let tasks = sum.tasks.max(1) as f64;
        Self {
            total_ratio: waste / oracle,
            typical_ratio: (sum.typical_ratio / tasks).exp(),
            mean_ratio: sum.mean_ratio / tasks,
            failures_per_1000: 1000.0 * failures as f64 / runs.max(1) as f64,
            mean_failures_per_1000: sum.mean_failures_per_1000 / tasks,
            ..sum
        }
    }
}

/// Evaluates fitting on the runs of one task. `None` if there are too few, or nothing to waste.
pub fn evaluate(table: &RunTable, options: &FitOptions, protocol: &Protocol) -> Option<TaskScore> {
    if table.runs.len() <= protocol.calibrate_on {
        return None;
    }
    let seeds = match protocol.order {
        Order::Shuffled => protocol.seeds,
        Order::SmallFirst => 1,
    };
    let mut score = TaskScore::default();
    let mut logarithms = 0.0;
    for seed in 0..seeds {
        let (known, test) = divided(table, protocol, seed);
        let (waste, oracle) = try_one(&known, &test, options, protocol, &mut score)?;
        score.waste += waste;
        score.oracle += oracle;
        logarithms += (waste / oracle).ln();
    }
    score.ratio = (logarithms / seeds as f64).exp();
    Some(score)
}

fn divided(table: &RunTable, protocol: &Protocol, seed: u64) -> (RunTable, RunTable) {
    let mut places: Vec<usize> = (0..table.runs.len()).collect();
    match protocol.order {
        Order::Shuffled => places.sort_by_key(|place| scrambled(seed << 32 | *place as u64)),
        Order::SmallFirst => places.sort_by_key(|place| table.runs[*place].sizes.first().copied()),
    }
    let (known, test) = places.split_at(protocol.calibrate_on);
    let part = |places: &[usize]| RunTable {
        predictors: table.predictors.clone(),
        runs: places.iter().map(|place| table.runs[*place].clone()).collect(),
    };
    (part(known), part(test))
}

/// Waste and oracle of one split; adds the counts to the score.
fn try_one(
    known: &RunTable,
    test: &RunTable,
    options: &FitOptions,
    protocol: &Protocol,
    score: &mut TaskScore,
) -> Option<(f64, f64)> {
    let fitted = fit(known, options).ok()?;
    let predictor = known.predictors.iter().position(|name| *name == fitted.predictor)?;
    let mut wasted = 0.0;
    let mut outside = 0;
    let sizes: Vec<Bytes> = test.runs.iter().filter_map(|run| run.sizes.get(predictor).copied()).collect();
    for (run, &n) in test.runs.iter().zip(&sizes).filter(|(run, _)| run.censoring == Censoring::None) {
        let limit = fitted.rule.limit(n);
        wasted += waste(limit.0 as f64, run.peak.0 as f64, run.wall_seconds.unwrap_or(1.0));
        score.runs += 1;
        score.failures += usize::from(limit < run.peak);
        outside += usize::from(n < fitted.inputs.smallest || n > fitted.inputs.largest);
    }
    score.outside += outside;
    score.seeds_outside += u64::from(outside > 0);
    score.seeds_warned += u64::from(fitted.extrapolated(sizes).is_some());
    let hindsight = oracle(test, predictor, protocol.oracle_exponent);
    (hindsight > 0.0).then_some((wasted, hindsight))
}
