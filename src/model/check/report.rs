//! What a check found.
//!
//! As JSON a [`Report`] has the fields of the types here; amounts are whole numbers of bytes. [`SCHEMA_VERSION`] grows
//! when a field changes its meaning or goes away; new fields may come at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, BaselineCell, BaselineHost, BaselineRule, BaselineTask};
use crate::model::observation::{Exactness, Peak};
use crate::model::units::Bytes;

/// The version of the JSON form of a [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`] of the program that made it.
    pub schema_version: u32,
    /// Which version of highwater made it.
    pub tool_version: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// The tasks in the order of their names.
    pub tasks: Vec<TaskReport>,
}

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Passed,
    /// Peaks are lower bounds that show neither that the task stays within what it may use nor that it does not.
    NotVerified,
    /// There are too few runs to tell.
    TooLittleData,
    /// Something needs more than it may.
    Failed,
    /// A run of a task failed.
    TaskFailed,
}

/// What was found about a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Its cells by the size of their inputs, then by name; those that vanished among them.
    pub cells: Vec<CellReport>,
    /// Where it ran now; nothing where it did not.
    pub host: Option<BaselineHost>,
    /// The rule that its runs call for now, where there are enough sizes.
    pub rule: Option<BaselineRule>,
    /// The rule that they called for then.
    pub baseline_rule: Option<BaselineRule>,
    /// What is to be said about it, the worst first.
    pub findings: Vec<Finding>,
    /// Where its table begins in highwater.toml: the line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

/// One input with one choice of parameters, and what its runs came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellReport {
    /// Its name, which its task has only once.
    pub name: String,
    /// The sizes of its input by what they can be measured by.
    pub sizes: BTreeMap<String, Bytes>,
    /// Its runs now; nothing where nobody ran it.
    pub now: Option<Samples>,
    /// Its runs then; nothing where it is new.
    pub baseline: Option<Samples>,
    /// What it may use at most, and who says so.
    pub allowed: Option<Allowed>,
    /// How many of its runs failed.
    pub failed_runs: usize,
    /// The worst that was found about it.
    pub level: Option<Level>,
}

impl CellReport {
    /// How much more it needs than then, as a share: 0.05 is 5 % more. With a lower bound now it is at least this.
    pub fn change(&self) -> Option<f64> {
        let (now, then) = (self.now.as_ref()?, self.baseline.as_ref()?);
        Some(now.median.ratio(then.is_exact().then_some(then.median)?)? - 1.0)
    }
}

/// The peak of a run: what the task needed at least, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// The peak.
    pub bytes: Bytes,
    /// What the peak cannot exceed: itself if it is exact, `None` if it is a lower bound without an upper one.
    pub at_most: Option<Bytes>,
}

impl Sample {
    /// A peak that is exact.
    pub const fn exact(bytes: Bytes) -> Self {
        Self { bytes, at_most: Some(bytes) }
    }

    /// A peak that is a lower bound.
    pub fn lower_bound(bytes: Bytes, at_most: Option<Bytes>) -> Self {
        // Counters are read one after the other, and charged in batches.
        Self { bytes, at_most: at_most.map(|most| most.max(bytes)) }
    }

    /// Whether the task needed this and no more.
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
    /// What each of the peaks cannot exceed: itself if it is exact, `null` if it is a lower bound without an upper one.
    /// Empty if all are exact.
    #[serde(rename = "at_most_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub at_most: Vec<Option<Bytes>>,
}

impl Samples {
    /// What peaks come to; nothing where there are none.
    pub fn of(mut samples: Vec<Sample>) -> Option<Self> {
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
        Self::of(self.at_most.iter().map(|most| most.map(Sample::exact)).collect::<Option<_>>()?)
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

/// The middle of sorted amounts, the mean of two middle ones rounded down.
fn middle(sorted: &[Bytes]) -> Option<Bytes> {
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = sorted.get(sorted.len() / 2 - 1)?;
    Some(Bytes(lower.0 + (upper.0 - lower.0) / 2))
}

/// The least of what a cell may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// How much.
    pub bytes: Bytes,
    /// Who says so.
    pub by: AllowedBy,
}

/// Who says what a cell may use.
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

/// Something that is to be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is, for scripts.
    pub reason: Reason,
    /// The cell that it is about; nothing where it is about the task.
    pub cell: Option<String>,
    /// What it is: a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Notice,
    /// Worth a look; `--deny warnings` makes it a failure.
    Warning,
    /// A lower bound cannot tell.
    NotVerified,
    /// There is too little data to tell.
    TooLittleData,
    /// The check fails.
    Failure,
    /// The task failed.
    TaskFailure,
}

impl Level {
    /// What a report comes to that has nothing worse than this.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Notice | Self::Warning => Verdict::Passed,
            Self::NotVerified => Verdict::NotVerified,
            Self::TooLittleData => Verdict::TooLittleData,
            Self::Failure => Verdict::Failed,
            Self::TaskFailure => Verdict::TaskFailed,
        }
    }

    /// In a word, for a table.
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

/// What there can be to say.
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
    /// Nobody ran a cell of the baseline.
    VanishedCell,
    /// Too few runs.
    TooFewSamples,
    /// There is nothing to compare with.
    NoBaseline,
    /// The peak is a lower bound within what the cell may use: the task may need more.
    NotVerified,
    /// Peaks are lower bounds that do not show whether the task needs more than in the baseline.
    GrowthNotVerified,
    /// A run was held back by a limit: its peak is not its need.
    Censored,
    /// The peak is a lower bound.
    LowerBound,
    /// A cell that the baseline does not have.
    NewCell,
    /// The input of a cell is not the one of the baseline.
    InputChanged,
    /// The baseline was measured on another host.
    OtherHost,
    /// A rule could be fitted then and cannot now.
    NoRule,
    /// Runs of something else.
    OtherTask,
    /// It needs less than the baseline says.
    NeedsLess,
    /// It is allowed much more than it needs.
    LimitWasteful,
}

impl Reason {
    /// The name that scripts look for.
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
    /// A report of these tasks, with the verdict that their findings come to.
    pub fn new(tasks: Vec<TaskReport>) -> Self {
        let worst = tasks.iter().flat_map(|task| &task.findings).map(|finding| finding.level).max();
        Self {
            schema_version: SCHEMA_VERSION,
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            verdict: worst.map_or(Verdict::Passed, Level::verdict),
            tasks,
        }
    }

    /// The baseline that later checks compare with: these tasks as they are now, and the others of the old one.
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

    /// How many findings are as bad as this.
    pub fn count(&self, level: Level) -> usize {
        self.findings().filter(|(_, finding)| finding.level == level).count()
    }

    /// The verdict in a sentence.
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
        let samples = Samples::of([5, 1, 4, 2].map(|peak| Sample::exact(Bytes(peak))).to_vec()).unwrap();
        assert_eq!((samples.median, samples.spread, samples.highest()), (Bytes(3), Bytes(1), Bytes(5)));
        assert_eq!(Samples::of(vec![Sample::exact(Bytes(7))]).unwrap().spread, Bytes::ZERO);
        assert_eq!(Samples::of(Vec::new()), None);
    }

    #[test]
    fn samples_know_what_they_are() {
        let at_least = |bytes: u64, most: Option<u64>| Sample::lower_bound(Bytes::mib(bytes), most.map(Bytes::mib));
        let words = |samples: &[Sample]| Samples::of(samples.to_vec()).unwrap().words();
        assert_eq!(words(&[Sample::exact(Bytes::mib(7))]), "7 MiB");
        assert_eq!(words(&[at_least(7, Some(9))]), "at least 7 MiB and at most 9 MiB");
        assert_eq!(words(&[at_least(7, Some(9)), at_least(8, None), Sample::exact(Bytes::mib(9))]), "at least 8 MiB");
        // A bound below what was seen bounds nothing more.
        assert!(at_least(7, Some(6)).is_exact());
    }

    #[test]
    fn reasons_have_the_name_that_json_has() {
        for reason in [Reason::AboveLimit, Reason::RuleUncovered, Reason::GrowthNotVerified, Reason::LimitWasteful] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.name()));
        }
    }
}
