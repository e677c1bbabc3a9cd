//! The runs of one task, ready for fitting, with their metadata.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::fit::{Censoring, Form, Measure, Resource, RunTable, SizedRun};
use crate::model::rule::Dialect;
use crate::model::units::Bytes;
use crate::stats::summary::distinct;

use super::{FEWEST_INPUTS, FitOptions, MoreSizes, Warning};

/// The runs of one task, with one choice of parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// The resource whose amounts are the peaks of the table.
    pub resource: Resource,
    /// The value of the column `workflow`, if present.
    pub workflow: Option<String>,
    /// The name of the task, if known.
    pub task: Option<String>,
    /// The parameters of the sweep.
    pub parameters: BTreeMap<String, String>,
    /// The parameter that is n in the rule, instead of the size of the input.
    pub parameter: Option<String>,
    /// The runs.
    pub table: RunTable,
    /// The measure of each predictor of the table.
    pub measures: Vec<Measure>,
    /// The runs whose inputs have no known size, if [`Groups::with_unsized_runs`](super::Groups::with_unsized_runs) kept
    /// them.
    pub unsized_runs: Vec<SizedRun>,
    /// The line of each run in its table, counted from 1; the number of the record if it comes from records.
    pub lines: Vec<u64>,
    /// Whether the runs come from records.
    pub recorded: bool,
    /// What the task's own rules gave the runs, if recorded.
    pub declared: Option<Declared>,
    /// The runs that were skipped.
    pub skipped: SkippedRuns,
    /// Warnings about these runs.
    pub warnings: Vec<Warning>,
}

impl Group {
    /// The options for its fit: where a parameter predicts the need, no platform takes the rule, so that it describes the
    /// need by a sum.
    pub(super) fn fit_options(&self, options: &FitOptions) -> FitOptions {
        let form = if self.parameter.is_some() { Form::Sum } else { options.form };
        FitOptions { form, ..*options }
    }

    /// A value of n for people: bytes, or the value of the parameter.
    pub fn describe_n(&self, n: Bytes) -> String {
        if self.parameter.is_some() { n.0.to_string() } else { n.to_string() }
    }

    /// The highest exponent of a rule for it.
    ///
    /// More input keeps cores busy for longer, but does not add any; a parameter such as the number of threads does.
    pub fn max_exponent(&self, options: &FitOptions) -> u32 {
        if self.resource == Resource::Cpu && self.parameter.is_none() { 0 } else { options.max_exponent }
    }

    /// The runs of a table with their wall times as the amounts to fit. Runs without a time are skipped.
    #[must_use]
    pub fn over_time(mut self) -> Self {
        let (resource, before) = (Resource::Time, self.table.runs.len());
        let kept =
            |run: &SizedRun| run.wall_seconds.is_some_and(|wall| wall >= 1e-6) && run.censoring != Censoring::OomKilled;
        let lines =
            self.table.runs.iter().zip(&self.lines).filter(|(run, _)| kept(run)).map(|(_, line)| *line).collect();
        self.table.runs.retain(kept);
        for run in &mut self.table.runs {
            run.peak = Bytes((run.wall_seconds.unwrap_or_default() * 1e6).round() as u64);
            (run.wall_seconds, run.censoring) = (Some(1.0), Censoring::None);
        }
        let skipped = SkippedRuns { without_time: before - self.table.runs.len(), ..self.skipped };
        Self { resource, lines, skipped, warnings: Vec::new(), declared: None, ..self }
    }

    /// A warning for people, with values of the parameter instead of sizes.
    pub fn describe_warning(&self, warning: &Warning) -> String {
        match (&self.parameter, warning) {
            (Some(name), Warning::FewInputs { measure: Some(MoreSizes { sizes, from, to }), .. }) => format!(
                "few values: measure {sizes} more of {name} between {} and {} before relying on the result",
                from.0, to.0
            ),
            (Some(name), Warning::Extrapolated { n, .. } | Warning::NotEnough { n, .. }) => {
                format!("{name} = {} was not measured; the result is extrapolated", n.0)
            }
            (Some(name), Warning::WideGap { from, to, factor }) => format!(
                "no value of {name} between {} and {} was measured, and the forms that describe the others differ by up \
                 to {factor:.1} times there: measure one or two values in between",
                from.0, to.0
            ),
            (_, Warning::RaisedByKills { bound }) if self.resource == Resource::Time => {
                format!("a run timed out after {}; the rule was raised above that", self.resource.describe(*bound))
            }
            _ => warning.to_string(),
        }
    }

    /// The runs with lower bounds as points, if too few peaks are exact to fit a rule: the fitted rule is a lower bound
    /// then. `None` if there are enough, and lower bounds only push the rule up.
    pub(super) fn lower_bounds_as_points(&self) -> Option<RunTable> {
        let with = |censoring| self.table.runs.iter().filter(move |run| run.censoring == censoring);
        let sizes =
            |place: usize| with(Censoring::None).filter_map(move |run| run.sizes.get(place)).map(|n| n.0 as f64);
        let exact = (0..self.table.predictors.len()).map(|place| distinct(sizes(place).collect()).len()).max();
        if exact >= Some(FEWEST_INPUTS) || with(Censoring::LowerBound).next().is_none() {
            return None;
        }
        let point = |run: &SizedRun| match run.censoring {
            Censoring::LowerBound => SizedRun { censoring: Censoring::None, ..run.clone() },
            Censoring::None | Censoring::LimitReached | Censoring::OomKilled => run.clone(),
        };
        Some(RunTable { runs: self.table.runs.iter().map(point).collect(), ..self.table.clone() })
    }

    /// Warns about the use of lower bounds, if there are any.
    pub(super) fn warn_of_lower_bounds(&mut self) {
        let runs = self.table.runs.iter().filter(|run| run.censoring == Censoring::LowerBound).count();
        let as_points = self.lower_bounds_as_points().is_some();
        self.warnings.extend((runs > 0).then_some(Warning::Sampled { runs, as_points }));
    }

    /// `workflow/task [PARAMETER=value]`, as far as known.
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

/// The rules of a task at the time of its runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// In words, as of the last run.
    pub words: String,
    /// Their dialect.
    pub dialect: Option<Dialect>,
    /// The template that contains them.
    pub template: Option<String>,
    /// What Docker gave each run of the table; `None` means no limit.
    pub docker: Vec<Option<Bytes>>,
    /// What Kubernetes would have given each run.
    pub kubernetes: Vec<Option<Bytes>>,
}

/// Numbers of skipped runs, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SkippedRuns {
    /// They failed, but not for lack of memory.
    pub failed: usize,
    /// They had nothing to do.
    pub without_work: usize,
    /// They timed out.
    pub timed_out: usize,
    /// They were interrupted.
    pub interrupted: usize,
    /// Their peak could not be measured.
    pub unmeasured: usize,
    /// The sizes of their inputs are not recorded.
    pub unsized_inputs: usize,
    /// They have no wall time or CPU time, one of 0, or were killed before their end.
    pub without_time: usize,
    /// The minimum limit is fitted, and they are not the result of a search for it.
    pub without_floor: usize,
    /// GPU memory is fitted, and they used none.
    #[serde(skip_serializing_if = "is_zero")]
    pub without_gpu: usize,
    /// Storage is fitted, and they wrote nothing or the record does not have it.
    #[serde(skip_serializing_if = "is_zero")]
    pub without_storage: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl SkippedRuns {
    /// Total number.
    pub fn total(&self) -> usize {
        self.reasons().map(|(count, _)| count).sum()
    }

    /// Whether no run was skipped.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// The number and description of each reason that occurs.
    pub fn reasons(&self) -> impl Iterator<Item = (usize, &'static str)> {
        [
            (self.failed, "failed"),
            (self.without_work, "without anything to do"),
            (self.timed_out, "timed out"),
            (self.interrupted, "interrupted"),
            (self.unmeasured, "without a peak"),
            (self.unsized_inputs, "without input sizes"),
            (self.without_time, "without a time or CPU time, or killed"),
            (self.without_floor, "without a floor"),
            (self.without_gpu, "without GPU memory"),
            (self.without_storage, "without a size of what they wrote"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
    }
}
