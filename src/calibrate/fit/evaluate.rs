//! How good is fitting itself? Calibrate on a few runs of a task, test on the others, compare with hindsight.

use serde::Serialize;

use crate::model::fit::{Censoring, RunTable};
use crate::model::units::Bytes;

use super::holdout::scrambled;
use super::{FitOptions, fit, oracle, waste};

/// Which runs are calibrated on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Any: shuffled anew for each seed.
    #[default]
    Shuffled,
    /// The smallest inputs: everything tested is extrapolated.
    SmallFirst,
}

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Protocol {
    /// Which runs are calibrated on.
    pub order: Order,
    /// How many.
    pub calibrate_on: usize,
    /// How often, with other runs.
    pub seeds: u64,
    /// The highest exponent of the rule of hindsight.
    pub oracle_exponent: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { order: Order::Shuffled, calibrate_on: 20, seeds: 10, oracle_exponent: 2 }
    }
}

/// How the rules for one task did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct TaskScore {
    /// Waste on the test runs, in byte-seconds, all seeds together.
    pub waste: f64,
    /// The least that any rule chosen in hindsight would have wasted.
    pub oracle: f64,
    /// The geometric mean over the seeds of waste / oracle.
    pub ratio: f64,
    /// Test runs, all seeds together.
    pub runs: usize,
    /// Of these, so many failed at first.
    pub failures: usize,
    /// Test runs outside of the sizes that were calibrated on.
    pub outside: usize,
    /// Seeds whose test runs leave the sizes that were calibrated on …
    pub seeds_outside: u64,
    /// … and how many of them the fit warned about.
    pub seeds_warned: u64,
}

impl TaskScore {
    /// Of 1000 test runs, so many failed at first.
    pub fn failures_per_1000(&self) -> f64 {
        1000.0 * self.failures as f64 / self.runs.max(1) as f64
    }
}

/// The scores of several tasks in few numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many tasks.
    pub tasks: usize,
    /// All waste over all waste of hindsight: large tasks decide.
    pub total_ratio: f64,
    /// The geometric mean of the tasks' ratios: every task counts the same.
    pub typical_ratio: f64,
    /// The arithmetic mean of the tasks' ratios: bad tasks decide.
    pub mean_ratio: f64,
    /// Failures per 1000 test runs of all tasks.
    pub failures_per_1000: f64,
    /// The mean over the tasks of their failures per 1000.
    pub mean_failures_per_1000: f64,
}

impl Evaluation {
    /// Puts the scores of tasks together.
    pub fn of<'a>(scores: impl IntoIterator<Item = &'a TaskScore>) -> Self {
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

/// Evaluates fitting on the runs of one task. `None` where there are not enough of them, or nothing to waste.
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

/// Waste and oracle of one division; what can be counted goes into the score.
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
