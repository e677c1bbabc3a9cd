//! Assembles a report from records and the rule fitted to them.

mod cells;
mod compared;
mod environment;
mod provenance;
mod rules;
mod run;
mod warnings;

use std::collections::BTreeMap;

use super::model::{
    Environment, Fitted, FittedNeed, Found, Measured, Report, ResourceNeed, Run, SCHEMA_VERSION, TaskReport, Timeline,
    Totals, Warning,
};
use super::{advice, verdict};
use crate::model::fit::{Censoring, FittedRule, Resource};
use crate::model::observation::{Observation, Series};
use crate::model::units::Bytes;

use cells::{CellKey, Peaks, finish_cells, standing};
use compared::compared;
use environment::{environment, image, measured};
use provenance::Origin;
use rules::{InUse, Scores};
use run::{label, run, thinned};
use warnings::{Note, WARNINGS, warn, warnings};

/// Series with more samples are thinned.
pub const TIMELINE_SAMPLES: usize = 400;

impl Report {
    /// A report on these tasks.
    pub fn new(tasks: Vec<TaskReport>, notes: Vec<String>) -> Self {
        let made_by = format!("highwater {}", env!("CARGO_PKG_VERSION"));
        let mut report = Self { schema_version: SCHEMA_VERSION, made_by, tasks, notes };
        advice::name_tasks(&mut report);
        report
    }
}

/// Reports with more runs show only cells.
pub const MOST_RUNS: usize = 10_000;

/// Which runs a report shows. Its numbers cover all runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownRuns {
    /// All runs.
    All,
    /// The run with the highest peak of each cell.
    HighestOfCells,
}

/// What is known about a task before its runs are read.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The name of the task or program.
    pub name: String,
    /// What the sizes measure: the name of the predictor.
    pub predictor: Option<String>,
    /// The parameter that is n, if one is.
    pub parameter: Option<String>,
    /// The fit, or why it failed.
    pub found: Option<Result<Found, String>>,
    /// What the rule's n measures, if not the same as the sizes.
    pub other_measure: Option<String>,
    /// What it needs of resources other than memory.
    pub needs: Vec<ResourceNeed>,
    /// The rule to judge instead of those that the task had when it ran.
    pub judged: Option<JudgedRule>,
    /// Whether no rule is judged, not even those that the task had when it ran.
    pub is_unjudged: bool,
}

/// A rule to judge instead of those that the task had when it ran.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedRule {
    /// The rule.
    pub rule: FittedRule,
    /// The rule for people.
    pub words: String,
    /// The file that has it and into which `fit --write` can write another one, if any.
    pub file: Option<String>,
}

impl JudgedRule {
    /// The limit of a run; `None` if it depends on an unknown size.
    fn limit(&self, n: Option<Bytes>) -> Option<Bytes> {
        let is_constant = self.rule.coefficient == 0.0;
        n.or(Some(Bytes::ZERO).filter(|_| is_constant)).map(|n| self.rule.limit(n))
    }
}

/// A rule for people; `parameter` is its n, if not the size of the input.
fn rule_words(rule: &FittedRule, parameter: Option<&String>) -> String {
    if parameter.is_some() { rule.over_a_parameter() } else { rule.readable() }
}

/// What the fit says about a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// The input size.
    pub n: Option<Bytes>,
    /// What the peak says about the need; if `None`, the record decides.
    pub censoring: Option<Censoring>,
    /// The rank of the run among the outliers; `None` if it is not one.
    pub outlier: Option<usize>,
}

/// Builds the part of one task, run by run.
#[derive(Debug)]
pub struct Builder {
    head: Head,
    shown: ShownRuns,
    /// The label of the run to show over time; by default, the one with the highest peak.
    wanted: Option<String>,
    /// The shown runs, each with its index among all runs.
    kept: Vec<(usize, Run)>,
    totals: Totals,
    /// The number of runs of each case and parameters, to number runs that do not belong to a sweep.
    counted: BTreeMap<CaseKey, u32>,
    cells: BTreeMap<CellKey, Peaks>,
    image: Option<String>,
    by_fitted: Scores,
    in_use: InUse,
    measured: Vec<Measured>,
    environments: Vec<Environment>,
    origin: Origin,
    counts: [usize; 6],
    warnings: Vec<(Note, Warning)>,
    /// The indices of the outliers among all runs, by rank.
    outliers: BTreeMap<usize, usize>,
    over_time: Option<OverTime>,
}

type CaseKey = (String, BTreeMap<String, String>);
/// The run that is shown over time.
#[derive(Debug)]
struct OverTime {
    /// Its index among all runs.
    index: usize,
    run: Run,
    series: Series,
    /// Whether its label was requested.
    is_wanted: bool,
}

impl Builder {
    /// A builder without runs.
    pub fn new(head: Head, shown: ShownRuns, wanted: Option<String>) -> Self {
        let in_use = InUse::new(head.judged.clone(), head.is_unjudged);
        Self {
            head,
            shown,
            wanted,
            kept: Vec::new(),
            totals: Totals::default(),
            counted: BTreeMap::new(),
            cells: BTreeMap::new(),
            image: None,
            by_fitted: Scores::default(),
            in_use,
            measured: Vec::new(),
            environments: Vec::new(),
            origin: Origin::default(),
            counts: [0; 6],
            warnings: Vec::new(),
            outliers: BTreeMap::new(),
            over_time: None,
        }
    }

    /// Adds a run. Keeps its samples if it may be the one to show over time.
    pub fn add(&mut self, observation: &Observation, judged: Judged) {
        let run = self.count(observation, judged);
        let index = self.totals.runs - 1;
        self.outliers.extend(judged.outlier.map(|rank| (rank, index)));
        let is_wanted = self.wanted.as_ref() == Some(&run.label);
        let is_higher = observation.series.samples.len() > 1
            && self.over_time.as_ref().is_none_or(|known| run.peak > known.run.peak);
        if !self.has_wanted() && (is_wanted || is_higher) {
            self.over_time = Some(OverTime { index, run: run.clone(), series: observation.series.clone(), is_wanted });
        }
        self.keep(run);
    }

    /// Adds the run to all numbers.
    fn count(&mut self, observation: &Observation, judged: Judged) -> Run {
        let run = self.run(observation, judged);
        self.totals.add(&run);
        self.by_fitted.add(&run, run.fitted);
        self.in_use.add(observation, &run);
        if self.image.is_none() {
            self.image = image(observation);
        }
        measured(&mut self.measured, observation);
        environment(&mut self.environments, observation);
        self.origin.add(observation);
        warn(&mut self.warnings, observation);
        for (count, (is, _)) in self.counts.iter_mut().zip(WARNINGS) {
            *count += usize::from(is(&run));
        }
        run
    }

    /// Keeps the run that was just added, if it is to be shown.
    fn keep(&mut self, run: Run) {
        let index = self.totals.runs - 1;
        let cell = self.cells.entry((run.n, run.case.clone(), run.parameters.clone())).or_default();
        cell.add(&run);
        match (self.shown, cell.highest) {
            (ShownRuns::HighestOfCells, Some(highest)) => {
                if standing(&run) > standing(&self.kept[highest].1) {
                    self.kept[highest] = (index, run);
                }
            }
            (ShownRuns::HighestOfCells, None) | (ShownRuns::All, _) => {
                cell.highest = Some(self.kept.len());
                self.kept.push((index, run));
            }
        }
    }

    /// Whether the requested run was added.
    pub fn has_wanted(&self) -> bool {
        self.over_time.as_ref().is_some_and(|known| known.is_wanted)
    }

    /// The labels of the shown runs.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|(_, run)| run.label.as_str())
    }

    /// The samples of the run that is shown over time, to be replaced by its full series.
    pub fn series_mut(&mut self) -> Option<&mut Series> {
        self.over_time.as_mut().map(|shown| &mut shown.series)
    }

    fn found(&self) -> Option<&Found> {
        self.head.found.as_ref().and_then(|found| found.as_ref().ok())
    }

    fn run(&mut self, observation: &Observation, Judged { n, censoring, .. }: Judged) -> Run {
        let mut run = run(observation, n);
        run.censoring = censoring.unwrap_or(run.censoring);
        run.fitted = n.zip(self.found()).map(|(n, found)| found.rule.limit(n));
        if let Some(judged) = &self.head.judged {
            run.predicted = judged.limit(n);
        }
        if self.head.is_unjudged {
            run.predicted = None;
        }
        run.typical = n.zip(self.found()).map(|(n, found)| found.typical.limit(n));
        let count = self.counted.entry((run.case.clone(), run.parameters.clone())).or_default();
        *count += 1;
        if observation.sweep.is_none() {
            run.number = *count;
        }
        run.label = label(&run);
        run
    }

    /// The finished part of the task, compared with an earlier sweep.
    pub fn finish(mut self, before: Option<Self>) -> TaskReport {
        let counts = std::mem::take(&mut self.counts);
        let warnings = warnings(counts, std::mem::take(&mut self.warnings), self.found());
        let cells = finish_cells(std::mem::take(&mut self.cells));
        let timeline = self.over_time.take().map(|over_time| self.timeline(over_time));
        let all_runs = (self.shown == ShownRuns::HighestOfCells).then_some(self.totals.runs);
        self.kept.sort_by_key(|(index, _)| *index);
        if let Some(Ok(found)) = &mut self.head.found {
            let of_run = |index: &usize| self.kept.binary_search_by_key(index, |(index, _)| *index).ok();
            found.outliers = self.outliers.values().filter_map(of_run).collect();
        }
        let Head { name, predictor, parameter, found, needs, judged, .. } = self.head;
        let (found, not_fitted) = match found {
            Some(Ok(found)) => (Some(found), None),
            Some(Err(reason)) => (None, Some(reason)),
            None => (None, None),
        };
        let memory = memory_need(found.as_ref(), not_fitted.clone(), predictor.as_deref(), parameter.as_ref());
        let requests = std::iter::once(memory).chain(needs).collect();
        let fitted = found.map(|found| Fitted {
            words: {
                let words = rule_words(&found.rule, parameter.as_ref());
                format!("{}{words}", if found.lower_bound { "at least " } else { "" })
            },
            score: self.by_fitted.finish(),
            found,
        });
        let timeline = timeline.flatten().map(|(index, timeline)| {
            let run = self.kept.binary_search_by_key(&index, |(index, _)| *index).unwrap_or_default();
            Timeline { run, ..timeline }
        });
        let compared = before.map(|before| compared(before, &cells, parameter.as_deref()));
        let mut report = TaskReport {
            name,
            image: self.image,
            verdict: verdict::none(),
            advice: Vec::new(),
            provenance: self.origin.finish(),
            predictor,
            parameter,
            rule_in_use: self.in_use.finish(),
            fitted,
            not_fitted,
            requests,
            timeline,
            measured: self.measured,
            environments: self.environments,
            warnings,
            before: compared,
            cells,
            all_runs,
            runs: self.kept.into_iter().map(|(_, run)| run).collect(),
            totals: self.totals,
        };
        report.verdict = verdict::judge(&report);
        let file = judged.as_ref().and_then(|judged| judged.file.as_deref());
        report.advice = advice::advise(&report, file);
        report
    }

    /// The run over time, and its index among all runs. The run itself is shown, too.
    fn timeline(&mut self, over_time: OverTime) -> Option<(usize, Timeline)> {
        let OverTime { index, run, series, .. } = over_time;
        if series.samples.len() < 2 {
            return None;
        }
        if !self.kept.iter().any(|(known, _)| *known == index) {
            self.kept.push((index, run));
        }
        let samples = thinned(&series.samples, TIMELINE_SAMPLES);
        Some((index, Timeline { run: 0, taken: series.taken, samples }))
    }
}

/// What to request of memory, by the rule of the report.
fn memory_need(
    found: Option<&Found>,
    not_fitted: Option<String>,
    predictor: Option<&str>,
    parameter: Option<&String>,
) -> ResourceNeed {
    let fitted = found.map(|found| {
        let request = found.request.unwrap_or(found.typical);
        let amount = |rule: FittedRule| rule.limit(found.largest).0 as f64;
        FittedNeed {
            n: found.largest,
            request: amount(request).min(amount(found.rule)),
            limit: amount(found.rule),
            request_rule: rule_words(&request, parameter),
            limit_rule: rule_words(&found.rule, parameter),
            predictor: predictor.filter(|_| found.rule.exponent > 0).map(str::to_owned),
            lower_bound: found.lower_bound,
            enough_for: found.enough_for,
            smallest: found.smallest,
            inputs: found.inputs,
            runs: found.runs,
            timed_out: 0,
            held_out: found.held_out,
            surely_fit: found.surely_fit,
            warnings: found.warnings.clone(),
        }
    });
    let resource = Resource::Memory;
    ResourceNeed { resource, unit: resource.unit().to_owned(), fitted, not_fitted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Cell;

    fn built(shown: ShownRuns) -> TaskReport {
        let records = include_str!("../../fixtures/records/segment/observations.jsonl");
        let mut builder = Builder::new(Head::default(), shown, None);
        for line in records.lines() {
            let observation: Observation = serde_json::from_str(line).unwrap();
            let n = observation.inputs.first().map(|input| input.all.sum);
            builder.add(&observation, Judged { n, ..Judged::default() });
        }
        builder.finish(None)
    }

    #[test]
    fn a_report_on_cells_differs_only_in_the_runs_it_shows() {
        let (all, of_cells) = (built(ShownRuns::All), built(ShownRuns::HighestOfCells));
        assert_eq!((all.runs.len(), all.all_runs, of_cells.all_runs), (30, None, Some(30)));
        let (Some(over_time), Some(same)) = (&all.timeline, &of_cells.timeline) else { panic!("no timeline") };
        assert_eq!(of_cells.runs[same.run], all.runs[over_time.run]);
        let most = |cell: &Cell| {
            all.runs.iter().filter(|run| run.case == cell.case && run.is_plain()).map(|run| run.peak).max()
        };
        for (cell, run) in of_cells.cells.iter().zip(&of_cells.runs) {
            assert_eq!((cell.n, most(cell).unwrap()), (run.n, run.peak));
        }
        let (runs, timeline) = (of_cells.runs.clone(), of_cells.timeline.clone());
        assert_eq!(TaskReport { runs, timeline, all_runs: Some(30), ..all }, of_cells);
    }
}
