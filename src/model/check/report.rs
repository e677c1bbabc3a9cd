//! The report of a check.
//!
//! As JSON a [`Report`] has the fields of the types here; amounts are whole numbers of bytes. [`SCHEMA_VERSION`]
//! increases when a field changes its meaning or is removed; new fields may be added at any time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, BaselineCell, BaselineHost, BaselineRule, BaselineTask};
use crate::model::fit::Resource;
use crate::model::units::Bytes;

pub use super::resource_samples::{ResourceCell, ResourceSamples};
pub use super::samples::{Sample, Samples};

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
    /// The revision that the working tree was compared with, instead of a baseline: its runs are `baseline` in the cells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// The tasks, in the order of the configuration file.
    pub tasks: Vec<TaskReport>,
}

/// A revision of the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Against {
    /// Its name, as given.
    pub revision: String,
    /// The id of its commit.
    pub commit: String,
}

impl Against {
    /// Its name for users: `main (1a2b3c4d)`.
    pub fn name(&self) -> String {
        if self.is_id() { self.short().to_owned() } else { format!("{} ({})", self.revision, self.short()) }
    }

    /// Its name where there is little room: `main`, or `1a2b3c4d` if it was given as an id.
    pub fn title(&self) -> &str {
        if self.is_id() { self.short() } else { &self.revision }
    }

    fn is_id(&self) -> bool {
        self.commit.starts_with(&self.revision)
    }

    fn short(&self) -> &str {
        self.commit.get(..8).unwrap_or(&self.commit)
    }
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
    /// Its cells in the order of the configuration file; then those it does not name, such as vanished ones, by the size
    /// of their inputs and by name.
    pub cells: Vec<CellReport>,
    /// The host of the current runs; absent if it did not run.
    pub host: Option<BaselineHost>,
    /// The rule fitted to the current runs, if there are enough sizes.
    pub rule: Option<BaselineRule>,
    /// The rule of the baseline.
    pub baseline_rule: Option<BaselineRule>,
    /// Up to which size the rule that it declares is enough, if the current runs show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enough_for: Option<RuleReach>,
    /// Its findings, worst first.
    pub findings: Vec<Finding>,
    /// The line of highwater.toml where its table begins, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl TaskReport {
    /// The line of highwater.toml that a finding is about: that of its cell, or else of the task.
    pub fn line_of(&self, finding: &Finding) -> Option<usize> {
        let cell = self.cells.iter().find(|cell| Some(&cell.name) == finding.cell.as_ref());
        cell.and_then(|cell| cell.line).or(self.line)
    }
}

/// The size of input up to which the declared rule of a task is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReach {
    /// The rule in words.
    pub rule: String,
    /// What n is.
    pub predictor: String,
    /// Inputs up to this size fit into the limit.
    pub limit: Bytes,
    /// The largest input measured.
    pub largest: Bytes,
    /// Whether the limit is enough for all sizes that can be judged: up to 4 times the largest one measured.
    pub all_judged: bool,
}

impl RuleReach {
    /// A sentence without a full stop.
    pub fn sentence(&self) -> String {
        let Self { rule, predictor, limit, largest, all_judged } = self;
        let beyond = match all_judged {
            true => ", 4 times the largest measured, or more".to_owned(),
            false if limit > largest => format!("; the largest measured is {largest}"),
            false => String::new(),
        };
        format!("the rule {rule}, where n is {predictor}, is enough for inputs up to {limit}{beyond}")
    }
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
    /// Other resources that are compared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<Resource, ResourceCell>,
    /// Its allowance, and where it comes from.
    pub allowed: Option<Allowed>,
    /// Number of failed runs.
    pub failed_runs: usize,
    /// The level of its worst finding.
    pub level: Option<Level>,
    /// The line of highwater.toml where its own table begins, counted from 1; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl CellReport {
    /// Its growth over the baseline as a share: 0.05 is 5 % more. If the current peak is a lower bound, at least this.
    pub fn change(&self) -> Option<f64> {
        let (now, then) = (self.now.as_ref()?, self.baseline.as_ref()?);
        Some(now.median.ratio(then.is_exact().then_some(then.median)?)? - 1.0)
    }
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
    /// The resource, if not memory.
    #[serde(default, skip_serializing_if = "is_memory")]
    pub resource: Resource,
    /// The cell; absent if the finding is about the task.
    pub cell: Option<String>,
    /// What was found: a sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The last lines that a failed run wrote to stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
}

impl Finding {
    /// The code of its reason for people and programs, with the resource unless that is memory: `growth`, `time-growth`.
    pub fn code(&self) -> String {
        match self.resource {
            Resource::Memory => self.reason.name().to_owned(),
            resource => format!("{resource}-{}", self.reason.name()),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_memory(resource: &Resource) -> bool {
    *resource == Resource::Memory
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
            against: None,
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
                let now = |(resource, cell): (&Resource, &ResourceCell)| Some((*resource, cell.now.clone()?));
                let resources = cell.resources.iter().filter_map(now).collect();
                Some((cell.name.clone(), BaselineCell { sizes: cell.sizes.clone(), samples, resources }))
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

    /// What the cells are compared with, as the title of a column.
    pub fn reference(&self) -> &str {
        self.against.as_ref().map_or("baseline", Against::title)
    }

    /// The verdict as a sentence.
    pub fn sentence(&self) -> String {
        let cells: usize = self.tasks.iter().map(|task| task.cells.len()).sum();
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let against = self.against.as_ref().map_or_else(String::new, |it| format!(", compared with {}", it.name()));
        let scope = format!("{} of {}{against}", plural(cells, "cell"), plural(self.tasks.len(), "task"));
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
    fn a_revision_is_named_once() {
        let against = |revision: &str| Against { revision: revision.to_owned(), commit: "1a2b3c4d5e6f".to_owned() };
        assert_eq!((against("main").name(), against("main").title()), ("main (1a2b3c4d)".to_owned(), "main"));
        let id = against("1a2b3c4d5e6f");
        assert_eq!((id.name(), id.title()), ("1a2b3c4d".to_owned(), "1a2b3c4d"));
    }

    #[test]
    fn reasons_have_the_name_that_json_has() {
        for reason in [Reason::AboveLimit, Reason::RuleUncovered, Reason::GrowthNotVerified, Reason::LimitWasteful] {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.name()));
        }
    }
}
