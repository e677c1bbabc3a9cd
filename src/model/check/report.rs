//! The report of a check.
//!
//! As JSON a [`Report`] has the fields of the types here; amounts are whole numbers of bytes. [`SCHEMA_VERSION`]
//! increases when a field changes its meaning or is removed; new fields may be added at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, BaselineCell, BaselineHost, BaselineRule, BaselineTask};
use crate::model::observation::{Exactness, Peak};
use crate::model::units::Bytes;

/// The version of the JSON form of a [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// The report of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema_version: u32,
    /// The version of highwater that wrote it.
    pub tool_version: String,
    /// The overall result.
    pub verdict: Verdict,
    /// The tasks, in alphabetical order.
    pub tasks: Vec<TaskReport>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No findings against it.
    Passed,
    /// Peaks are lower bounds that show neither that the task stays within its allowance nor that it does not.
    NotVerified,
    /// There are too few runs.
    TooLittleData,
    /// A task needs more than it may.
    Failed,
    /// A run of a task failed.
    TaskFailed,
}

/// The findings about a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Its cells by the size of their inputs, then by name, including those that vanished.
    pub cells: Vec<CellReport>,
    /// The host of the current runs; absent if it did not run.
    pub host: Option<BaselineHost>,
    /// The rule fitted to the current runs, if there are enough sizes.
    pub rule: Option<BaselineRule>,
    /// The rule of the baseline.
    pub baseline_rule: Option<BaselineRule>,
    /// Its findings, worst first.
    pub findings: Vec<Finding>,
    /// The line of highwater.toml where its table begins, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// One input with one choice of parameters, and the statistics of its runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Its name, unique in the task.
    pub name: String,
    /// The sizes of its input, by predictor.
    pub sizes: BTreeMap<String, Bytes>,
    /// Its current runs; absent if it was not run.
    pub now: Option<Samples>,
    /// Its runs in the baseline; absent if it is new.
    pub baseline: Option<Samples>,
    /// Its allowance, and where it comes from.
    pub allowed: Option<Allowed>,
    /// Number of failed runs.
    pub failed_runs: usize,
    /// The level of its worst finding.
    pub level: Option<Level>,
}

impl CellReport {
    /// Its growth over the baseline as a share: 0.05 is 5 % more. If the current peak is a lower bound, at least this.
    pub fn change(&self) -> Option<f64> {
        let (now, then) = (self.now.as_ref()?, self.baseline.as_ref()?);
        Some(now.median.ratio(then.is_exact().then_some(then.median)?)? - 1.0)
    }
}

/// The peak of a run: the need of the task is at least and at most this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// The peak.
    pub bytes: Bytes,
    /// An upper bound of the need: the peak itself if it is exact, `None` if it is a lower bound without an upper one.
    pub at_most: Option<Bytes>,
}

impl Sample {
    /// A sample with an exact peak.
    pub const fn exact(bytes: Bytes) -> Self {
        Self { bytes, at_most: Some(bytes) }
    }

    /// A sample with a peak that is a lower bound.
    pub fn lower_bound(bytes: Bytes, at_most: Option<Bytes>) -> Self {
        // Counters are read one after the other, and charged in batches.
        Self { bytes, at_most: at_most.map(|most| most.max(bytes)) }
    }

    /// Whether the peak is exactly the need of the task.
    pub fn is_exact(&self) -> bool {
        self.at_most == Some(self.bytes)
    }
}

impl From<&Peak> for Sample {
    fn from(peak: &Peak) -> Self {
        match peak.exactness {
            Exactness::Exact { .. } => Self::exact(peak.bytes),
            Exactness::LowerBound { .. } => {
                Self::lower_bound(peak.bytes, peak.upper_bound.as_ref().map(|most| most.bytes))
            }
        }
    }
}

/// Peaks of a cell and what they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The middle one.
    #[serde(rename = "median_bytes")]
    pub median: Bytes,
    /// The median distance from the median.
    #[serde(rename = "spread_bytes")]
    pub spread: Bytes,
    /// The peaks in ascending order.
    #[serde(rename = "samples_bytes")]
    pub peaks: Vec<Bytes>,
    /// An upper bound of each peak: itself if it is exact, `null` if it is a lower bound without an upper one. Empty if
    /// all are exact.
    #[serde(rename = "at_most_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub at_most: Vec<Option<Bytes>>,
}

impl Samples {
    /// The statistics of the samples; `None` without samples.
    pub fn new(mut samples: Vec<Sample>) -> Option<Self> {
        samples.sort_unstable();
        let peaks: Vec<Bytes> = samples.iter().map(|sample| sample.bytes).collect();
        let median = middle(&peaks)?;
        let mut distances: Vec<Bytes> = peaks.iter().map(|peak| Bytes(peak.0.abs_diff(median.0))).collect();
        distances.sort_unstable();
        let exact = samples.iter().all(Sample::is_exact);
        let at_most = if exact { Vec::new() } else { samples.iter().map(|sample| sample.at_most).collect() };
        Some(Self { median, spread: middle(&distances)?, peaks, at_most })
    }

    /// The samples, in ascending order.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.peaks.iter().enumerate().map(|(place, bytes)| Sample {
            bytes: *bytes,
            at_most: self.at_most.get(place).copied().unwrap_or(Some(*bytes)),
        })
    }

    /// The highest peak.
    pub fn highest(&self) -> Bytes {
        self.peaks.last().copied().unwrap_or(self.median)
    }

    /// Whether all peaks are exact.
    pub fn is_exact(&self) -> bool {
        self.at_most.is_empty()
    }

    /// The same samples as if each was exact.
    pub fn lowest_case(&self) -> Self {
        Self { at_most: Vec::new(), ..self.clone() }
    }

    /// The same samples as if each was exact and as high as it can be; `None` if nothing bounds one of them.
    pub fn highest_case(&self) -> Option<Self> {
        if self.is_exact() {
            return Some(self.clone());
        }
        Self::new(self.at_most.iter().map(|most| most.map(Sample::exact)).collect::<Option<_>>()?)
    }

    /// The median in words: `200 MiB`, `at least 200 MiB`, or `at least 200 MiB and at most 240 MiB`.
    pub fn words(&self) -> String {
        match self.highest_case() {
            Some(_) if self.is_exact() => self.median.to_string(),
            Some(most) => format!("at least {} and at most {}", self.median, most.median),
            None => format!("at least {}", self.median),
        }
    }
}

/// The median of sorted amounts; the mean of two middle ones is rounded down.
fn middle(sorted: &[Bytes]) -> Option<Bytes> {
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = sorted.get(sorted.len() / 2 - 1)?;
    Some(Bytes(lower.0 + (upper.0 - lower.0) / 2))
}

/// The smallest allowance of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The amount.
    pub bytes: Bytes,
    /// Where it comes from.
    pub by: AllowedBy,
}

/// The source of an allowance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum AllowedBy {
    /// `budget` in highwater.toml.
    Budget,
    /// `resources` of the task.
    Limit,
    /// A scale rule of the task, or `rule` in highwater.toml.
    Rule {
        /// The rule in words.
        rule: String,
    },
}

/// A finding of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its severity.
    pub level: Level,
    /// A stable code for scripts.
    pub reason: Reason,
    /// The cell; absent if the finding is about the task.
    pub cell: Option<String>,
    /// What was found: a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// For information.
    Notice,
    /// Worth attention; `--deny warnings` turns it into a failure.
    Warning,
    /// A lower bound cannot decide.
    NotVerified,
    /// There is too little data to decide.
    TooLittleData,
    /// The check fails.
    Failure,
    /// The task failed.
    TaskFailure,
}

impl Level {
    /// The verdict of a report whose worst finding has this level.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Notice | Self::Warning => Verdict::Passed,
            Self::NotVerified => Verdict::NotVerified,
            Self::TooLittleData => Verdict::TooLittleData,
            Self::Failure => Verdict::Failed,
            Self::TaskFailure => Verdict::TaskFailed,
        }
    }

    /// A short label for a table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Notice => "note",
            Self::Warning => "warning",
            Self::NotVerified => "not verified",
            Self::TooLittleData => "too little data",
            Self::Failure => "failed",
            Self::TaskFailure => "task failed",
        }
    }
}

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A run of the task failed.
    RunFailed,
    /// The peak is above the limit in the task's resources.
    AboveLimit,
    /// The peak is above the budget.
    AboveBudget,
    /// The peak is above what a rule gives its input.
    RuleUncovered,
    /// The peak has grown over the baseline.
    Growth,
    /// The fitted rule has changed, so that larger inputs need more.
    RuleChanged,
    /// A cell of the baseline was not run.
    VanishedCell,
    /// Too few runs.
    TooFewSamples,
    /// There is no reference to compare with.
    NoBaseline,
    /// The peak is a lower bound within the allowance: the task may need more.
    NotVerified,
    /// Peaks are lower bounds that do not show whether the task needs more than in the baseline.
    GrowthNotVerified,
    /// A limit held a run back: its peak is not its need.
    Censored,
    /// The peak is a lower bound.
    LowerBound,
    /// A cell that the baseline does not have.
    NewCell,
    /// The input of a cell is not the one of the baseline.
    InputChanged,
    /// The baseline was measured on another host.
    OtherHost,
    /// The baseline has a fitted rule, but the current runs do not allow one.
    NoRule,
    /// The runs belong to something else.
    OtherTask,
    /// It needs less than in the baseline.
    NeedsLess,
    /// Its limit is much higher than its need.
    LimitWasteful,
}

impl Reason {
    /// The stable code for scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RunFailed => "run-failed",
            Self::AboveLimit => "above-limit",
            Self::AboveBudget => "above-budget",
            Self::RuleUncovered => "rule-uncovered",
            Self::Growth => "growth",
            Self::RuleChanged => "rule-changed",
            Self::VanishedCell => "vanished-cell",
            Self::TooFewSamples => "too-few-samples",
            Self::NoBaseline => "no-baseline",
            Self::NotVerified => "not-verified",
            Self::GrowthNotVerified => "growth-not-verified",
            Self::Censored => "censored",
            Self::LowerBound => "lower-bound",
            Self::NewCell => "new-cell",
            Self::InputChanged => "input-changed",
            Self::OtherHost => "other-host",
            Self::NoRule => "no-rule",
            Self::OtherTask => "other-task",
            Self::NeedsLess => "needs-less",
            Self::LimitWasteful => "limit-wasteful",
        }
    }
}

impl Report {
    /// Creates a report of these tasks; its verdict follows from their findings.
    pub fn new(tasks: Vec<TaskReport>) -> Self {
        let worst = tasks.iter().flat_map(|task| &task.findings).map(|finding| finding.level).max();
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            verdict: worst.map_or(Verdict::Passed, Level::verdict),
            tasks,
        }
    }

    /// The baseline for later checks: these tasks with their current runs, and the other tasks of the old one.
    pub fn baseline(&self, old: Option<Baseline>) -> Baseline {
        let mut baseline = Baseline { tasks: old.map(|old| old.tasks).unwrap_or_default(), ..Baseline::empty() };
        for task in &self.tasks {
            let Some(host) = task.host.clone() else { continue };
            let cell = |cell: &CellReport| {
                let samples = cell.now.clone()?;
                Some((cell.name.clone(), BaselineCell { sizes: cell.sizes.clone(), samples }))
            };
            let cells = task.cells.iter().filter_map(cell).collect();
            baseline.tasks.insert(task.name.clone(), BaselineTask { host, rule: task.rule.clone(), cells });
        }
        baseline
    }

    /// All findings, each with its task.
    pub fn findings(&self) -> impl Iterator<Item = (&TaskReport, &Finding)> {
        self.tasks.iter().flat_map(|task| task.findings.iter().map(move |finding| (task, finding)))
    }

    /// Number of findings with this level.
    pub fn count(&self, level: Level) -> usize {
        self.findings().filter(|(_, finding)| finding.level == level).count()
    }

    /// The verdict as a sentence.
    pub fn sentence(&self) -> String {
        let cells: usize = self.tasks.iter().map(|task| task.cells.len()).sum();
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let scope = format!("{} of {}", plural(cells, "cell"), plural(self.tasks.len(), "task"));
        let failures = self.count(Level::Failure) + self.count(Level::TaskFailure);
        match self.verdict {
            Verdict::Passed => match self.count(Level::Warning) {
                0 => format!("passed: {scope}"),
                warnings => format!("passed with {}: {scope}", plural(warnings, "warning")),
            },
            Verdict::NotVerified => format!("not verified because peaks are lower bounds: {scope}"),
            Verdict::TooLittleData => format!("too little data: {scope}"),
            Verdict::Failed => format!("failed for {}: {scope}", plural(failures, "reason")),
            Verdict::TaskFailed => format!("failed because the task failed: {scope}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_to_a_middle_and_a_spread_without_fractions() {
        let samples = Samples::new([5, 1, 4, 2].map(|peak| Sample::exact(Bytes(peak))).to_vec()).unwrap();
        assert_eq!((samples.median, samples.spread, samples.highest()), (Bytes(3), Bytes(1), Bytes(5)));
        assert_eq!(Samples::new(vec![Sample::exact(Bytes(7))]).unwrap().spread, Bytes::ZERO);
        assert_eq!(Samples::new(Vec::new()), None);
    }

    #[test]
    fn samples_know_what_they_are() {
        let at_least = |bytes: u64, most: Option<u64>| Sample::lower_bound(Bytes::mib(bytes), most.map(Bytes::mib));
        let words = |samples: &[Sample]| Samples::new(samples.to_vec()).unwrap().words();
        assert_eq!(words(&[Sample::exact(Bytes::mib(7))]), "7 MiB");
        assert_eq!(words(&[at_least(7, Some(9))]), "at least 7 MiB and at most 9 MiB");
        assert_eq!(words(&[at_least(7, Some(9)), at_least(8, None), Sample::exact(Bytes::mib(9))]), "at least 8 MiB");
        // An upper bound below the peak is raised to it.
        assert!(at_least(7, Some(6)).is_exact());
    }

    #[test]
    fn reasons_have_the_name_that_json_has() {
        for reason in [Reason::AboveLimit, Reason::RuleUncovered, Reason::GrowthNotVerified, Reason::LimitWasteful] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.name()));
        }
    }
}
