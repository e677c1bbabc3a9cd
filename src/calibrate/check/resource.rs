//! Compares wall time and cores with the baseline, if they have thresholds.
//!
//! The comparison is that of memory: beyond both thresholds, in each round, and beyond what the scatter of the task's runs
//! explains. That scatter is the noise model: it is measured over the runs of the baseline and the current ones.

use std::collections::BTreeMap;

use super::cells::{CellRuns, TaskRuns};
use super::growth::{self, Change, Pair, Rounds, Scatter};
use super::reference::Reference;
use super::{Judge, runs_words};
use crate::model::check::baseline::BaselineCell;
use crate::model::check::growth::GrowthThresholds;
use crate::model::check::report::{Finding, Level, Reason, ResourceCell, ResourceSamples, Sample, Samples};
use crate::model::check::thresholds::{Reaction, Tolerance};
use crate::model::fit::Resource;

impl CellRuns {
    fn samples_of(&self, resource: Resource) -> Option<Samples> {
        Samples::new(self.resources.get(&resource)?.concat())
    }
}

impl TaskRuns {
    fn scatter_of(&self, resource: Resource, then: &[Samples]) -> Scatter {
        let now: Vec<Samples> = self.cells.values().filter_map(|cell| cell.samples_of(resource)).collect();
        Scatter::pooled(now.iter().chain(then).map(|samples| samples.peaks.as_slice()))
    }
}

/// The amounts of a resource in a cell of the baseline.
fn then_of(resource: Resource, then: &BaselineCell) -> Option<Samples> {
    then.resources.get(&resource)?.counted(resource)
}

impl Judge<'_> {
    /// The amounts of a cell that are compared.
    pub(super) fn resource_cells(
        &self,
        runs: Option<&CellRuns>,
        then: Option<&BaselineCell>,
    ) -> BTreeMap<Resource, ResourceCell> {
        let cell = |(resource, _): (Resource, GrowthThresholds)| {
            let now = runs.and_then(|runs| runs.samples_of(resource));
            let now = now.map(|samples| ResourceSamples::new(resource, &samples));
            let baseline = then.and_then(|then| then.resources.get(&resource)).cloned();
            (resource, ResourceCell { now, baseline })
        };
        self.thresholds.resources.compared().map(cell).collect()
    }

    /// Compares all resources that have thresholds.
    pub(super) fn resources(&mut self) {
        let Some(then) = self.then.filter(|_| !self.is_same_runs()) else { return };
        for (resource, thresholds) in self.thresholds.resources.compared() {
            let name = resource.name();
            let known: BTreeMap<&String, Samples> =
                then.cells.iter().filter_map(|(cell, then)| Some((cell, then_of(resource, then)?))).collect();
            if known.is_empty() {
                self.without_reference(resource);
                continue;
            }
            let differences = self.host.as_ref().map(|now| then.host.differences(now)).unwrap_or_default();
            if !differences.is_empty() {
                let message = format!(
                    "the {name} was not compared, because the baseline was made on a different host: {}",
                    differences.join("; ")
                );
                let remedy = "compare with a revision, which is measured on the same machine (`--against`), or make a \
                              baseline for this host";
                self.report_of(resource, Level::Warning, Reason::OtherHost, None, message, remedy.to_owned());
                continue;
            }
            let earlier: Vec<Samples> = known.values().cloned().collect();
            let scatter = self.runs.scatter_of(resource, &earlier);
            let tolerance = thresholds.tolerance();
            let mut pairs = Vec::new();
            for (cell, runs) in &self.runs.cells {
                let (Some(now), Some(before)) = (runs.samples_of(resource), known.get(cell)) else {
                    self.without_amounts(resource, cell, runs, then.cells.contains_key(cell));
                    continue;
                };
                let has_same_input =
                    then.cells.get(cell).is_some_and(|it| it.sizes.is_empty() || it.sizes == runs.sizes);
                if !has_same_input || !self.has_enough(resource, cell, &now, before) {
                    continue;
                }
                let rounds = runs.resources.get(&resource).map_or(&[][..], Vec::as_slice);
                self.compare_amounts(resource, cell, before, rounds, &tolerance, scatter);
                pairs.push((cell.clone(), Pair { then: before, now: Rounds::lowest_case(rounds) }));
            }
            let (cells, pairs): (Vec<String>, Vec<Pair<'_>>) = pairs.into_iter().unzip();
            let together = growth::growth_together(&pairs, thresholds.relative, &tolerance, scatter);
            let is_told = |it: &Finding| it.resource == resource && it.reason == Reason::Growth;
            if let Some(growth) = together {
                if !self.findings.iter().any(is_told) {
                    let message = format!(
                        "the {name} {} by {:.1} % on average over {} cells, more than the measured scatter of \
                         their runs explains",
                        has(resource, "grown"),
                        100.0 * growth,
                        pairs.len()
                    );
                    let remedy = self.slower_remedy(resource);
                    self.report_of(resource, Level::Failure, Reason::Growth, None, message, remedy);
                }
                self.suspects.extend(cells);
            }
        }
    }

    fn report_of(
        &mut self,
        resource: Resource,
        level: Level,
        reason: Reason,
        cell: Option<&str>,
        message: String,
        remedy: String,
    ) {
        let cell = cell.map(str::to_owned);
        self.findings.push(Finding { level, reason, resource, cell, message, remedy, stderr: None });
    }

    /// Reports that the baseline does not have the resource, as a task without a baseline.
    fn without_reference(&mut self, resource: Resource) {
        let (name, reference) = (resource.name(), self.reference.name());
        let message = format!("growth of {name} was not checked: no cell has it in {reference}");
        let update = format!(
            "recreate it with `highwater check --update-baseline` and the same thresholds, or leave out those of {resource}"
        );
        let level = match self.thresholds.no_baseline {
            Reaction::Fail => Level::TooLittleData,
            Reaction::Warn => Level::Warning,
            Reaction::Ignore => return,
        };
        self.report_of(resource, level, Reason::NoBaseline, None, message, update);
    }

    /// Reports a cell whose amounts are missing, unless the comparison of memory has reported it.
    fn without_amounts(&mut self, resource: Resource, cell: &str, runs: &CellRuns, is_known: bool) {
        if !is_known || !runs.failed.is_empty() {
            return;
        }
        let name = resource.name();
        let (whose, remedy) = match runs.samples_of(resource) {
            Some(_) => (
                format!("the runs of {}", self.reference.name()),
                "recreate the baseline: `highwater check --update-baseline`",
            ),
            None => ("the current runs".to_owned(), "run the check where it can be measured"),
        };
        let message = format!("growth of {name} was not checked: {whose} do not have it");
        self.report_of(resource, Level::TooLittleData, Reason::TooFewSamples, Some(cell), message, remedy.to_owned());
    }

    fn has_enough(&mut self, resource: Resource, cell: &str, now: &Samples, then: &Samples) -> bool {
        let least = self.thresholds.min_samples;
        let (whose, have) = match () {
            () if now.peaks.len() < least => ("now".to_owned(), now.peaks.len()),
            () if then.peaks.len() < least => (format!("in {}", self.reference.name()), then.peaks.len()),
            () => return true,
        };
        // Memory has as many, and says so.
        let is_told = |it: &Finding| it.reason == Reason::TooFewSamples && it.cell.as_deref() == Some(cell);
        if !self.findings.iter().any(is_told) {
            let message =
                format!("{} {whose} with a known {}, expected at least {least}", runs_words(have), resource.name());
            let remedy = "raise `runs`, or lower `min-samples`".to_owned();
            self.report_of(resource, Level::TooLittleData, Reason::TooFewSamples, Some(cell), message, remedy);
        }
        false
    }

    fn compare_amounts(
        &mut self,
        resource: Resource,
        cell: &str,
        then: &Samples,
        rounds: &[Vec<Sample>],
        tolerance: &Tolerance,
        scatter: Scatter,
    ) {
        let name = resource.name();
        let lowest = Rounds::lowest_case(rounds);
        let Some(now) = lowest.median() else { return };
        let (from, to) = (resource.describe(then.median), resource.describe(now));
        let change = now.ratio(then.median).map_or(0.0, |ratio| 100.0 * (ratio - 1.0));
        let sign = if change < 0.0 { '−' } else { '+' };
        let runs: usize = rounds.iter().map(Vec::len).sum();
        let message = |verb: &str| {
            format!(
                "the {name} {verb} from {from} to {to} ({sign}{:.1} %); by the scatter measured over the task's runs, noise \
                 explains up to {:.1} % between {} and {runs} runs",
                change.abs(),
                100.0 * scatter.noise(then, &lowest),
                then.peaks.len()
            )
        };
        match growth::change(then, rounds, tolerance, scatter) {
            Change::Grown => {
                self.suspects.push(cell.to_owned());
                let remedy = self.slower_remedy(resource);
                let message = message(&has(resource, "grown"));
                self.report_of(resource, Level::Failure, Reason::Growth, Some(cell), message, remedy);
            }
            // Fewer cores may be those of a slower task.
            Change::Shrunk if resource == Resource::Cpu => {}
            Change::Shrunk => {
                let remedy = match self.reference {
                    Reference::Revision(_) => "limits derived from it can be lowered",
                    Reference::Baseline | Reference::SameRuns => {
                        "commit a new baseline to keep the gain: `highwater check --update-baseline`"
                    }
                };
                let message = message(&has(resource, "shrunk"));
                self.report_of(resource, Level::Notice, Reason::NeedsLess, Some(cell), message, remedy.to_owned());
            }
            // Amounts are exact.
            Change::NotVerified | Change::None => {}
        }
    }

    fn slower_remedy(&self, resource: Resource) -> String {
        let what = match resource {
            Resource::Time => "check what makes the change slower, and that nothing else ran on the machine",
            Resource::Memory | Resource::Cpu | Resource::Gpu | Resource::Storage => {
                "check what the change computes in addition"
            }
        };
        self.reference.or_update(what, "if it is intended, ")
    }
}

/// `has grown`, or `have grown` of cores.
fn has(resource: Resource, participle: &str) -> String {
    match resource {
        Resource::Cpu => format!("have {participle}"),
        Resource::Memory | Resource::Time | Resource::Gpu | Resource::Storage => format!("has {participle}"),
    }
}
