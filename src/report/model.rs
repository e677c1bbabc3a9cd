//! The content of a report, before it is rendered.
//!
//! In JSON, a [`Report`] has the fields of these types in their order. Amounts are integers in bytes, times are
//! integers in microseconds, and unknown values are `null`. [`SCHEMA_VERSION`] grows when a field changes its meaning
//! or is removed; new fields may be added at any time.

mod need;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::comparison::Thresholds;
use crate::model::fit::{Censoring, Factor, FittedRule};
use crate::model::observation::{Breakdown, Host, Outcome, PeakSource};
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

pub use need::{FittedNeed, ResourceNeed};

/// The version of the JSON form of a [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// A report on recorded runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this JSON format.
    pub schema_version: u32,
    /// The program that made the report, with its version.
    pub made_by: String,
    /// One part per task, in the order of their first records.
    pub tasks: Vec<TaskReport>,
    /// Problems with the records.
    pub notes: Vec<String>,
}

/// A report on the runs of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskReport {
    /// The name of the task or program.
    pub name: String,
    /// Its image, if any.
    pub image: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// What to do about it, most important first.
    #[serde(default)]
    pub advice: Vec<Advice>,
    /// When and how the runs were made.
    #[serde(default)]
    pub provenance: Provenance,
    /// The predictor n, which is what the rule counts; `null` if inputs have no known size.
    pub predictor: Option<String>,
    /// The parameter that is n, instead of the size of the input: sizes are its values then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// The rule that the task declares; `null` if none.
    pub rule_in_use: Option<RuleInUse>,
    /// The rule fitted to the runs.
    pub fitted: Option<Fitted>,
    /// Why no rule was fitted.
    pub not_fitted: Option<String>,
    /// What to request of each resource, memory first.
    #[serde(default)]
    pub requests: Vec<ResourceNeed>,
    /// The input cases with their statistics, by size.
    pub cells: Vec<Cell>,
    /// All runs in the order of the records or, if `all_runs` is present, the run with the highest peak of each cell.
    pub runs: Vec<Run>,
    /// The number of runs, if there are too many to show each of them. All other numbers cover all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_runs: Option<usize>,
    /// Memory over time of one run.
    pub timeline: Option<Timeline>,
    /// How the peaks were measured.
    pub measured: Vec<Measured>,
    /// Where the peaks were measured.
    pub environments: Vec<Environment>,
    /// Warnings about these numbers.
    pub warnings: Vec<Warning>,
    /// The result of an earlier sweep of the same task.
    pub before: Option<Before>,
    /// Totals over all runs.
    #[serde(skip)]
    pub(crate) totals: Totals,
}

impl TaskReport {
    /// A value of n for people: bytes, or the value of the parameter.
    pub(crate) fn describe_n(&self, n: Bytes) -> String {
        match &self.parameter {
            Some(name) => format!("{name} = {}", n.0),
            None => n.to_string(),
        }
    }
}

/// Totals over all runs of a task, shown or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) runs: usize,
    /// The peaks of uncensored runs.
    pub(crate) plain: Extent,
    /// The peaks that are lower bounds.
    pub(crate) lower_bounds: Extent,
    /// Runs that had nothing to do.
    pub(crate) skipped: usize,
    /// Runs that succeeded, but have no peak.
    pub(crate) unmeasured: usize,
    /// The input sizes.
    pub(crate) sizes: Extent,
}

/// The smallest and the largest amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) count: usize,
    pub(crate) ends: Option<(Bytes, Bytes)>,
}

impl Extent {
    fn add(&mut self, bytes: Option<Bytes>) {
        let Some(bytes) = bytes else { return };
        self.count += 1;
        let (least, most) = self.ends.unwrap_or((bytes, bytes));
        self.ends = Some((least.min(bytes), most.max(bytes)));
    }
}

impl Totals {
    pub(crate) fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.sizes.add(run.n);
        if run.is_plain() {
            self.plain.add(run.peak);
        } else if run.is_lower_bound() {
            self.lower_bounds.add(run.peak);
        } else if matches!(run.outcome, Outcome::Skipped { .. }) {
            self.skipped += 1;
        } else if run.peak.is_none() && run.outcome.succeeded() {
            self.unmeasured += 1;
        }
    }

    /// The number of runs that failed or reached a limit.
    pub(crate) fn failed_or_limited(&self) -> usize {
        self.runs - self.plain.count - self.lower_bounds.count - self.skipped - self.unmeasured
    }
}

/// The verdict on a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// The rating of the declared rule.
    pub level: Level,
    /// The verdict in one sentence, with numbers.
    pub sentence: String,
}

/// Something to do about the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Advice {
    /// What to do, in a sentence.
    pub text: String,
    /// The command that does it. `RECORDS` stands for the records if their path is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// When and how runs were made, and of which inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    /// When the first of them started.
    pub first_started_at: Option<Timestamp>,
    /// When the last of them started.
    pub last_started_at: Option<Timestamp>,
    /// The command, quoted for a shell. Parts that differ between runs are `…`, or `{NAME}` for a parameter.
    pub command: Option<String>,
    /// The sizes of the inputs, by channel.
    pub inputs: Vec<ChannelInputs>,
    /// Whether they are runs of a task, which can declare a rule.
    pub is_task: bool,
}

/// The inputs of a channel in all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelInputs {
    /// The name of the channel.
    pub channel: String,
    /// Its directory, if it is known. Parts that differ between runs are `…`.
    pub path: Option<String>,
    /// The smallest number of files.
    pub fewest_files: u64,
    /// The largest number of files.
    pub most_files: u64,
    /// The smallest total size.
    pub smallest: Bytes,
    /// The largest total size.
    pub largest: Bytes,
}

/// How well the declared rule fits the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A run needs more than its limit.
    TooLow,
    /// All runs fit, but some only barely.
    Tight,
    /// All runs fit without much waste.
    Ok,
    /// All runs fit, with much waste.
    Wasteful,
    /// No rule is declared.
    Measured,
    /// There is too little data.
    TooLittle,
}

impl Level {
    /// The level in a word or two.
    pub const fn words(self) -> &'static str {
        match self {
            Self::TooLow => "too low",
            Self::Tight => "tight",
            Self::Ok => "ok",
            Self::Wasteful => "wasteful",
            Self::Measured => "measured",
            Self::TooLittle => "too little data",
        }
    }
}

/// The rule that a task declares, and its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleInUse {
    /// The rule as text, such as `max(16 MiB, 4*n)`.
    pub words: String,
    /// The Docker limit at some input sizes: the rule as a curve.
    pub curve: Vec<Point>,
    /// The thresholds for the ratios.
    pub thresholds: Thresholds,
    /// Its score on the runs.
    pub score: Score,
}

/// The score of a rule on runs whose need is known, or known to exceed the rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// The number of these runs.
    pub runs: usize,
    /// The number of runs that need more than the rule gives.
    pub too_low: usize,
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// The smallest limit / peak.
    pub smallest_ratio: f64,
    /// The largest limit / peak.
    pub largest_ratio: f64,
}

/// A point on a curve over the input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// The input size.
    pub n: Bytes,
    /// The memory.
    pub bytes: Bytes,
}

/// The rule fitted to the runs, and its score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fitted {
    /// The rule as text, such as `max(16 MiB, 3.1*n)`.
    pub words: String,
    /// Its score on the runs.
    pub score: Score,
    /// The rule and the evidence for it.
    #[serde(flatten)]
    pub found: Found,
}

/// The result of a fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// The fitted rule.
    pub rule: FittedRule,
    /// Whether it was fitted to lower bounds, because too few peaks are exact: it may be too low.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// What a typical run needs; the difference to `rule` is headroom.
    pub typical: FittedRule,
    /// The rule for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<FittedRule>,
    /// Its score on held-out inputs, to which it was not fitted.
    pub held_out: HeldOut,
    /// The number of runs that it was fitted to.
    #[serde(default)]
    pub runs: usize,
    /// The number of distinct input sizes that it was fitted to.
    pub inputs: usize,
    /// The smallest of them.
    pub smallest: Bytes,
    /// The largest of them.
    pub largest: Bytes,
    /// The limit is enough for inputs up to this size; `null` if that is not known.
    #[serde(default)]
    pub enough_for: Option<Bytes>,
    /// The need as base plus growth, such as `14 MiB + 3.02*n`, where that describes the runs better than the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need: Option<String>,
    /// The share of further inputs that fits at least, with 95 % confidence.
    pub surely_fit: f64,
    /// The number of additional distinct inputs needed for 95 % with 95 % confidence.
    pub more_needed: usize,
    /// Factors on the rule that cover the next input with a given probability.
    pub factors: Vec<Factor>,
    /// The indices in `runs` of outliers.
    pub outliers: Vec<usize>,
    /// Warnings about the rule.
    pub warnings: Vec<String>,
}

/// The score of a rule on inputs that it was not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldOut {
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// Failures per 1000 runs.
    pub failures_per_1000: f64,
    /// Unused reserved memory, as a share of the memory needed.
    pub waste_share: f64,
}

/// An input case with one combination of parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The name of the input case.
    pub case: String,
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// The input size.
    pub n: Option<Bytes>,
    /// The number of its runs.
    pub runs: usize,
    /// The number of runs that show what the case needs.
    pub plain: usize,
    /// Whether there are no such runs, and the peaks below are lower bounds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// The smallest of these peaks.
    pub least: Option<Bytes>,
    /// The median.
    pub median: Option<Bytes>,
    /// The largest.
    pub most: Option<Bytes>,
    /// The most memory that a run that succeeded had on one GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Bytes>,
    /// Whether runs may have had more on a GPU than was measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gpu_lower_bound: bool,
    /// The limit of the declared rule.
    pub predicted: Option<Bytes>,
    /// The limit of the fitted rule.
    pub fitted: Option<Bytes>,
    /// The smallest limit under which the task still succeeds, if it was searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Bytes>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The label of the run in the report: its case and number.
    pub label: String,
    /// The key of its cell in the sweep.
    pub cell: Option<String>,
    /// The name of the input case.
    pub case: String,
    /// The number of the run within its case, from 1.
    pub number: u32,
    /// The parameters of the cell.
    pub parameters: BTreeMap<String, String>,
    /// Whether its input is synthetic, derived from the given data.
    pub synthetic: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// The input size.
    pub n: Option<Bytes>,
    /// The peak memory usage.
    pub peak: Option<Bytes>,
    /// An upper bound of the peak, if the peak is within the error bound of the measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Bytes>,
    /// Whether it may have used more than was measured.
    pub lower_bound: bool,
    /// The upper bound of a lower bound, from a counter that covers more than the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bytes>,
    /// Whether a limit kept it from reaching its need.
    pub censoring: Censoring,
    /// How it ended.
    pub outcome: Outcome,
    /// The effective limit.
    pub limit: Option<Bytes>,
    /// The limit of the declared rule (for Docker).
    pub predicted: Option<Bytes>,
    /// The limit of the fitted rule.
    pub fitted: Option<Bytes>,
    /// The need of a typical run of this size, by the fitted rule.
    pub typical: Option<Bytes>,
    /// The breakdown of memory at the sample with the most in use.
    pub breakdown: Option<Breakdown>,
    /// The part of the peak that is missing from the breakdown, because it occurred between two samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_samples: Option<Bytes>,
    /// The highest swap usage.
    pub swap: Option<Bytes>,
    /// The wall time.
    pub wall_us: u64,
    /// The CPU time.
    pub cpu_us: Option<u64>,
    /// The most memory on one GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Bytes>,
    /// Whether it may have had more on a GPU than was measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gpu_lower_bound: bool,
    /// The source of the peak.
    pub source: Option<PeakSource>,
    /// The smallest limit under which the task still succeeds, if it was searched for after this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Bytes>,
    /// The notes in its record.
    pub warnings: Vec<String>,
}

impl Run {
    /// Whether the peak shows what the run needs.
    pub fn is_plain(&self) -> bool {
        self.peak.is_some() && self.censoring == Censoring::None && self.outcome.succeeded()
    }

    /// Whether the peak is a lower bound of the need, only because of how it was measured.
    pub fn is_lower_bound(&self) -> bool {
        self.peak.is_some() && self.censoring == Censoring::LowerBound && self.outcome.succeeded()
    }
}

/// Memory over time of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// The index of the run in `runs`.
    pub run: usize,
    /// The number of samples taken.
    pub taken: u64,
    /// The shown samples in order; thinning keeps the higher of two neighbours.
    pub samples: Vec<Breakdown>,
}

/// A method of measurement and its exactness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// The number of runs measured this way.
    pub runs: usize,
    /// The method.
    pub way: String,
    /// How far the peaks may be off.
    pub exactness: String,
    /// How to get exact peaks, unless they are.
    pub remedy: Option<String>,
}

/// Where runs were measured, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The number of runs measured there.
    pub runs: usize,
    /// The machine; `null` if unknown.
    pub host: Option<Host>,
    /// What ran the task: a process, or a container of an engine with its version.
    pub runner: String,
    /// The digest of the image.
    pub image_id: Option<String>,
    /// The version of highwater.
    pub tool_version: String,
}

/// A warning about the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// The text of the warning.
    pub text: String,
    /// The number of runs that have it; 0 if it is about all of them together.
    pub runs: usize,
}

/// An earlier sweep of the same task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Before {
    /// The number of its runs.
    pub runs: usize,
    /// The rule fitted to its runs.
    pub fitted: Option<FittedRule>,
    /// The rule as text.
    pub words: Option<String>,
    /// Its uncensored peaks by size.
    pub peaks: Vec<Point>,
    /// Every case of either sweep, by size.
    pub changes: Vec<Change>,
}

/// The change of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The name of the input case.
    pub case: String,
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// The input size.
    pub n: Option<Bytes>,
    /// The median peak of the earlier sweep; `null` if the case is new.
    pub old_median: Option<Bytes>,
    /// Whether that is a lower bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old_lower_bound: bool,
    /// The median peak of the later sweep; `null` if the case is gone.
    pub new_median: Option<Bytes>,
    /// Whether that is a lower bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_lower_bound: bool,
    /// new / old; `null` if one of them is a lower bound.
    pub ratio: Option<f64>,
}
