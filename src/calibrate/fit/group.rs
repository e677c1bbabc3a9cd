//! The runs of one task, ready to be fitted, and what is known about them beside their numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::fit::{Censoring, Measure, RunTable, SizedRun};
use crate::model::rule::Dialect;
use crate::model::units::Bytes;

use super::{FEWEST_INPUTS, Warning};

/// The runs of one task, with one choice of parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What the column `workflow` says, where there is one.
    pub workflow: Option<String>,
    /// The name of the task, where it has one.
    pub task: Option<String>,
    /// The parameters of the sweep.
    pub parameters: BTreeMap<String, String>,
    /// The runs.
    pub table: RunTable,
    /// What each predictor of the table measures.
    pub measures: Vec<Measure>,
    /// The line of each run in its table, from 1; the number of the record where it comes from records.
    pub lines: Vec<u64>,
    /// Whether the runs come from records.
    pub recorded: bool,
    /// What the task's own rules gave the runs, where they are recorded.
    pub declared: Option<Declared>,
    /// The runs that say nothing.
    pub left_out: LeftOut,
    /// What a person should know about these runs.
    pub warnings: Vec<Warning>,
}

impl Group {
    /// The runs with lower bounds as points, if too few peaks are exact to fit a rule to: what is fitted to them is a lower
    /// bound of the rule. `None` if there are enough, and lower bounds only push the rule up.
    pub(super) fn lower_bounds_as_points(&self) -> Option<RunTable> {
        let with = |censoring| self.table.runs.iter().filter(move |run| run.censoring == censoring);
        let exact: BTreeSet<&[Bytes]> = with(Censoring::None).map(|run| run.sizes.as_slice()).collect();
        if exact.len() >= FEWEST_INPUTS || with(Censoring::LowerBound).next().is_none() {
            return None;
        }
        let point = |run: &SizedRun| match run.censoring {
            Censoring::LowerBound => SizedRun { censoring: Censoring::None, ..run.clone() },
            Censoring::None | Censoring::LimitReached | Censoring::OomKilled => run.clone(),
        };
        Some(RunTable { runs: self.table.runs.iter().map(point).collect(), ..self.table.clone() })
    }

    /// Says what becomes of lower bounds, if there are any.
    pub(super) fn warn_of_lower_bounds(&mut self) {
        let runs = self.table.runs.iter().filter(|run| run.censoring == Censoring::LowerBound).count();
        let as_points = self.lower_bounds_as_points().is_some();
        self.warnings.extend((runs > 0).then_some(Warning::Sampled { runs, as_points }));
    }

    /// `workflow/task [PARAMETER=value]`, as far as they are known.
    pub fn name(&self) -> Option<String> {
        let name = match (&self.workflow, &self.task) {
            (Some(workflow), Some(task)) => Some(format!("{workflow}/{task}")),
            (Some(name), None) | (None, Some(name)) => Some(name.clone()),
            (None, None) => None,
        };
        if self.parameters.is_empty() {
            return name;
        }
        let parameters: Vec<String> = self.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let parameters = format!("[{}]", parameters.join(" "));
        Some(name.map_or_else(|| parameters.clone(), |name| format!("{name} {parameters}")))
    }
}

/// The rules that a task had when it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// In words, as the last run had them.
    pub words: String,
    /// The way they are written.
    pub dialect: Option<Dialect>,
    /// The template they come from.
    pub template: Option<String>,
    /// What Docker gave each run of the table; `None` is no limit.
    pub docker: Vec<Option<Bytes>>,
    /// What Kubernetes would have given each run.
    pub kubernetes: Vec<Option<Bytes>>,
}

/// How many runs say nothing about the need of the task, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// They failed, and not for lack of memory.
    pub failed: usize,
    /// They were ended because their time was over.
    pub timed_out: usize,
    /// They were interrupted.
    pub interrupted: usize,
    /// Their peak could not be measured.
    pub unmeasured: usize,
    /// The sizes of their inputs are not recorded.
    pub unsized_inputs: usize,
    /// No floor was searched for, where floors are fitted.
    pub without_floor: usize,
}

impl LeftOut {
    /// All of them.
    pub fn total(&self) -> usize {
        self.reasons().map(|(count, _)| count).sum()
    }

    /// How many for which reason, in words; only reasons that there are.
    pub fn reasons(&self) -> impl Iterator<Item = (usize, &'static str)> {
        [
            (self.failed, "failed"),
            (self.timed_out, "timed out"),
            (self.interrupted, "interrupted"),
            (self.unmeasured, "without a peak"),
            (self.unsized_inputs, "without input sizes"),
            (self.without_floor, "without a floor"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
    }
}
