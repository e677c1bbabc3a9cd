//! What a report says, before it is laid out.
//!
//! As JSON a [`Report`] has the fields of the types here, in their order; amounts are whole numbers of bytes, times whole
//! numbers of microseconds, what is not known is `null`. [`SCHEMA_VERSION`] grows when a field changes its meaning or
//! goes away; new fields may come at any time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::comparison::Thresholds;
use crate::model::fit::{Censoring, FittedRule};
use crate::model::observation::{Breakdown, Host, Outcome, PeakSource};
use crate::model::units::Bytes;

/// The version of the JSON form of a [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// What recorded runs show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this form of JSON.
    pub schema_version: u32,
    /// The program that made it, with its version.
    pub made_by: String,
    /// One part for each task, in the order in which they were recorded.
    pub tasks: Vec<TaskReport>,
    /// What was wrong with the records.
    pub notes: Vec<String>,
}

/// What the runs of one task show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskReport {
    /// The name of the task, or of the program.
    pub name: String,
    /// Its image, where it has one.
    pub image: Option<String>,
    /// What a person should take away.
    pub verdict: Verdict,
    /// What n is: the name of what the rule counts; `null` where inputs have no known size.
    pub predictor: Option<String>,
    /// The rule that the task declares; `null` where it declares none.
    pub rule_in_use: Option<RuleInUse>,
    /// The rule that the runs call for.
    pub fitted: Option<Fitted>,
    /// Why none was fitted.
    pub not_fitted: Option<String>,
    /// The input cases with their statistics, by size.
    pub cells: Vec<Cell>,
    /// Every run, in the order of the records. If `all_runs` is there, only the run with the highest peak of each cell.
    pub runs: Vec<Run>,
    /// The number of runs, if there are too many to show each of them. All other numbers are those of all runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_runs: Option<usize>,
    /// Memory over time of one run.
    pub timeline: Option<Timeline>,
    /// How the peaks were measured.
    pub measured: Vec<Measured>,
    /// Where they were measured.
    pub environments: Vec<Environment>,
    /// What a person should know about these numbers.
    pub warnings: Vec<Warning>,
    /// What the same task showed in an earlier sweep.
    pub before: Option<Before>,
    /// What all runs come to.
    #[serde(skip)]
    pub(crate) totals: Totals,
}

/// What all runs of a task come to, whether or not they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) runs: usize,
    /// The peaks of runs whose need they are.
    pub(crate) plain: Extent,
    /// The peaks that are lower bounds.
    pub(crate) lower_bounds: Extent,
    /// The sizes of inputs.
    pub(crate) sizes: Extent,
}

/// The smallest and the largest of some amounts.
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
        }
    }
}

impl TaskReport {
    /// Whether floors were looked for.
    pub(crate) fn has_floors(&self) -> bool {
        self.cells.iter().any(|cell| cell.floor.is_some())
    }
}

/// The one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// How good the declared rule is.
    pub level: Level,
    /// The same, in words and with numbers.
    pub sentence: String,
}

/// How good the declared rule is for the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// A run needs more than it is given.
    TooLow,
    /// All runs fit, some of them hardly.
    Tight,
    /// All runs fit, and not much is left over.
    Ok,
    /// All runs fit, and much is left over.
    Wasteful,
    /// Nothing is declared to judge.
    Measured,
    /// There is not enough to say anything.
    TooLittle,
}

impl Level {
    /// In a word or two.
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

/// The rule that a task declares, and how it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleInUse {
    /// In words, such as `max(16 MiB, 4*n)`.
    pub words: String,
    /// What Docker is told for inputs of some sizes, by size: the rule as a curve.
    pub curve: Vec<Point>,
    /// What the ratios are judged by.
    pub thresholds: Thresholds,
    /// How it does on the runs.
    pub score: Score,
}

/// How a rule does on runs whose need is known, or known to be above what the rule gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Score {
    /// How many of these there are.
    pub runs: usize,
    /// How many of them need more than they are given.
    pub too_low: usize,
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// The smallest limit / peak.
    pub smallest_ratio: f64,
    /// The largest limit / peak.
    pub largest_ratio: f64,
}

/// A place on a curve over the size of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// The size of the input.
    pub n: Bytes,
    /// The memory.
    pub bytes: Bytes,
}

/// The rule that the runs call for, and how it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fitted {
    /// In words, such as `max(16 MiB, 3.1*n)`.
    pub words: String,
    /// How it does on the runs.
    pub score: Score,
    /// The rule and what speaks for it.
    #[serde(flatten)]
    pub found: Found,
}

/// What fitting found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// What to give.
    pub rule: FittedRule,
    /// Whether it was fitted to lower bounds, because too few peaks are exact: it may be too low.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// What a typical run needs; the difference to `rule` is head-room.
    pub typical: FittedRule,
    /// How it does on inputs that it had not seen.
    pub held_out: HeldOut,
    /// Distinct sizes of inputs that it was fitted to.
    pub inputs: usize,
    /// The smallest of them.
    pub smallest: Bytes,
    /// The largest of them.
    pub largest: Bytes,
    /// At least this share of further inputs fits, with 95 % confidence.
    pub surely_fit: f64,
    /// So many more distinct inputs are needed for 95 % with 95 % confidence.
    pub more_needed: usize,
    /// What to multiply the rule with, to cover the next input with a probability.
    pub factors: Vec<Factor>,
    /// The places in `runs` of those that lie far from where the others are.
    pub outliers: Vec<usize>,
    /// What a person should know about it.
    pub warnings: Vec<String>,
}

/// How a rule does on inputs that it was not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldOut {
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// Of 1000 runs, so many failed at first.
    pub failures_per_1000: f64,
    /// Memory reserved for nothing, as a share of the memory needed.
    pub waste_share: f64,
}

/// A factor on the rule that covers the next input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Factor {
    /// The probability that the next input fits.
    pub content: f64,
    /// What to multiply the rule with; `null` where there are too few inputs.
    pub factor: Option<f64>,
}

/// An input case with one choice of parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// The input case, in words.
    pub case: String,
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// The size of the input.
    pub n: Option<Bytes>,
    /// All of its runs.
    pub runs: usize,
    /// Those that say what the case needs.
    pub plain: usize,
    /// Whether there are none of these, and the peaks below are lower bounds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// The smallest peak of these.
    pub least: Option<Bytes>,
    /// The middle one.
    pub median: Option<Bytes>,
    /// The largest.
    pub most: Option<Bytes>,
    /// What the declared rule gives.
    pub predicted: Option<Bytes>,
    /// What the fitted rule gives.
    pub fitted: Option<Bytes>,
    /// The smallest limit under which it still succeeds, where that was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Bytes>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// What it is called in the report: the case and its number in it.
    pub label: String,
    /// The key of its cell in the sweep.
    pub cell: Option<String>,
    /// The input case, in words.
    pub case: String,
    /// Which run of the case it is, from 1.
    pub number: u32,
    /// The parameters of the cell.
    pub parameters: BTreeMap<String, String>,
    /// Whether its input was made up from the data at hand.
    pub synthetic: bool,
    /// When it was started.
    pub started_at: Timestamp,
    /// The size of its input.
    pub n: Option<Bytes>,
    /// The most memory it used.
    pub peak: Option<Bytes>,
    /// What the peak is below, where it is no more than an exact one can be too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Bytes>,
    /// Whether it may have used more than was seen.
    pub lower_bound: bool,
    /// What a lower bound cannot exceed, if a counter that covers the task and more shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bytes>,
    /// Whether a limit kept it from what it wanted.
    pub censoring: Censoring,
    /// How it ended.
    pub outcome: Outcome,
    /// The limit that was in force.
    pub limit: Option<Bytes>,
    /// What the declared rule gives (Docker's limit).
    pub predicted: Option<Bytes>,
    /// What the fitted rule gives.
    pub fitted: Option<Bytes>,
    /// What a typical run of this size needs, by the fitted rule.
    pub typical: Option<Bytes>,
    /// What the memory consisted of when the most was seen in use.
    pub breakdown: Option<Breakdown>,
    /// How much of the peak is not in the breakdown, because it was in use between two samples only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_samples: Option<Bytes>,
    /// The most that was swapped out.
    pub swap: Option<Bytes>,
    /// How long it took.
    pub wall_us: u64,
    /// Time on CPUs.
    pub cpu_us: Option<u64>,
    /// How the peak was read.
    pub source: Option<PeakSource>,
    /// The smallest limit under which the task still succeeds, where that was looked for after this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Bytes>,
    /// Notes of its record.
    pub warnings: Vec<String>,
}

impl Run {
    /// Whether the peak is what the run needs.
    pub fn is_plain(&self) -> bool {
        self.peak.is_some() && self.censoring == Censoring::None && self.outcome.succeeded()
    }

    /// Whether the peak is a lower bound of what the run needs, and nothing but the way of measuring made it one.
    pub fn is_lower_bound(&self) -> bool {
        self.peak.is_some() && self.censoring == Censoring::LowerBound && self.outcome.succeeded()
    }
}

/// Memory over time of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeline {
    /// The place of the run in `runs`.
    pub run: usize,
    /// How many samples were taken.
    pub taken: u64,
    /// Those that are shown, in order; thinning keeps the higher one of neighbours.
    pub samples: Vec<Breakdown>,
}

/// A way of measuring, and how exact it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// How many runs were measured so.
    pub runs: usize,
    /// The way, in words.
    pub way: String,
    /// How far the peaks may be from the truth, in words.
    pub exactness: String,
    /// What would make them exact, where they are not.
    pub remedy: Option<String>,
}

/// Where runs were measured, and by what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// How many runs were measured there.
    pub runs: usize,
    /// The machine; `null` where nobody knows.
    pub host: Option<Host>,
    /// What ran the task: a process, or a container of an engine with its version.
    pub runner: String,
    /// The digest of the image.
    pub image_id: Option<String>,
    /// The version of highwater.
    pub tool_version: String,
}

/// What a person should know about the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// What.
    pub text: String,
    /// How many runs say so; 0 where it is about all of them together.
    pub runs: usize,
}

/// An earlier sweep of the same task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Before {
    /// How many runs it has.
    pub runs: usize,
    /// The rule that its runs call for.
    pub fitted: Option<FittedRule>,
    /// The same in words.
    pub words: Option<String>,
    /// Its plain peaks by size.
    pub peaks: Vec<Point>,
    /// Every case of either sweep, by size.
    pub changes: Vec<Change>,
}

/// How a case changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The input case, in words.
    pub case: String,
    /// The parameters.
    pub parameters: BTreeMap<String, String>,
    /// The size of the input.
    pub n: Option<Bytes>,
    /// The median peak of the earlier sweep; `null` where the case is new.
    pub old_median: Option<Bytes>,
    /// Whether that is a lower bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old_lower_bound: bool,
    /// The median peak of the later one; `null` where the case is gone.
    pub new_median: Option<Bytes>,
    /// Whether that is a lower bound.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_lower_bound: bool,
    /// new / old; `null` where one of them is a lower bound.
    pub ratio: Option<f64>,
}
