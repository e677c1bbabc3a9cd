//! From records, and the rule that was fitted to them, to a report.

mod cells;
mod compared;
mod environment;
mod rules;
mod run;
mod timeline;
mod warnings;

use std::collections::BTreeMap;

use super::model::{
    Environment, Fitted, Found, Measured, Report, Run, SCHEMA_VERSION, TaskReport, Timeline, Totals, Warning,
};
use super::{verdict, words};
use crate::model::fit::Censoring;
use crate::model::observation::{Observation, Series};
use crate::model::units::Bytes;

use cells::{CellKey, Peaks, finish_cells, standing};
use compared::compared;
use environment::{environment, image, measured};
use rules::{InUse, Scores};
use run::{label, run};
use timeline::{thinned, timeline};
use warnings::{WARNINGS, warn, warnings};

/// More samples than this are thinned before they are shown.
pub const TIMELINE_SAMPLES: usize = 400;

/// The runs of one task, and what was made of them.
#[derive(Clone, Debug, Default)]
pub struct Material<'a> {
    /// The name of the task, or of the program.
    pub name: String,
    /// The runs, in the order of the records.
    pub observations: Vec<&'a Observation>,
    /// The size of the input of each.
    pub sizes: Vec<Option<Bytes>>,
    /// What the peak of each says about its need; what the record itself tells where there is none.
    pub censoring: Vec<Option<Censoring>>,
    /// What the sizes are: the name of what the rule counts.
    pub predictor: Option<String>,
    /// What fitting found, or why it found nothing.
    pub found: Option<Result<Found, String>>,
    /// What n of that rule is, where it is not what the sizes are.
    pub other_measure: Option<String>,
    /// The run whose memory over time is shown; the one with the highest peak where nothing is said.
    pub timeline: Option<usize>,
    /// All samples of that run, where the record has not all of them.
    pub series: Option<Series>,
    /// An earlier sweep of the same task.
    pub before: Option<Box<Self>>,
}

impl Material<'_> {
    /// What the runs are called in the report, in the order of the records.
    pub fn labels(&self) -> Vec<String> {
        Builder::of(self, Shown::All).kept.into_iter().map(|(_, run)| run.label).collect()
    }

    /// The place of the run with this name.
    pub fn find(&self, label: &str) -> Option<usize> {
        self.labels().iter().position(|known| known == label)
    }

    /// The place of the run whose memory over time is shown.
    pub fn shown_over_time(&self) -> Option<usize> {
        let with_series = self.observations.iter().enumerate().filter(|(_, one)| one.series.samples.len() > 1);
        let peak = |observation: &Observation| observation.peak.as_ref().value().map(|peak| peak.bytes);
        let highest = with_series.max_by_key(|(place, one)| (peak(one), std::cmp::Reverse(*place)));
        self.timeline.or(highest.map(|(place, _)| place))
    }
}

/// Puts a report together, a part for each task.
pub fn report(materials: &[Material<'_>], notes: Vec<String>) -> Report {
    Report::new(materials.iter().map(task).collect(), notes)
}

impl Report {
    /// A report of some tasks.
    pub fn new(tasks: Vec<TaskReport>, notes: Vec<String>) -> Self {
        let made_by = format!("highwater {}", env!("CARGO_PKG_VERSION"));
        Self { schema_version: SCHEMA_VERSION, made_by, tasks, notes }
    }
}

fn task(material: &Material<'_>) -> TaskReport {
    let before = material.before.as_deref().map(|before| Builder::of(before, Shown::All));
    let report = Builder::of(material, Shown::All).finish(before);
    TaskReport { timeline: timeline(material), ..report }
}

/// More runs than this are not shown one by one: a report shows their cells.
pub const MOST_RUNS: usize = 10_000;

/// Which runs a report shows. Its numbers are those of all runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Every one.
    All,
    /// Of each cell the one with the highest peak.
    HighestOfCells,
}

/// What is known of a task before its runs are read.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The name of the task, or of the program.
    pub name: String,
    /// What the sizes are: the name of what the rule counts.
    pub predictor: Option<String>,
    /// What fitting found, or why it found nothing.
    pub found: Option<Result<Found, String>>,
    /// What n of that rule is, where it is not what the sizes are.
    pub other_measure: Option<String>,
}

/// Puts the part of a task together, run by run.
#[derive(Debug)]
pub struct Builder {
    head: Head,
    shown: Shown,
    /// The runs that are shown, each with its index among all.
    kept: Vec<(usize, Run)>,
    totals: Totals,
    /// How many runs each case with its parameters has, to number those that are of no sweep.
    counted: BTreeMap<CaseKey, u32>,
    cells: BTreeMap<CellKey, Peaks>,
    image: Option<String>,
    by_fitted: Scores,
    in_use: InUse,
    measured: Vec<Measured>,
    environments: Vec<Environment>,
    counts: [usize; 6],
    warnings: Vec<(String, Warning)>,
    outliers: Vec<usize>,
    over_time: Option<OverTime>,
}

type CaseKey = (String, BTreeMap<String, String>);
/// The run whose memory over time is shown.
#[derive(Debug)]
struct OverTime {
    /// Its index among all.
    index: usize,
    run: Run,
    series: Series,
    /// Whether it was chosen by its label.
    is_wanted: bool,
}

impl Builder {
    /// Starts with no run.
    pub fn new(head: Head, shown: Shown) -> Self {
        Self {
            head,
            shown,
            kept: Vec::new(),
            totals: Totals::default(),
            counted: BTreeMap::new(),
            cells: BTreeMap::new(),
            image: None,
            by_fitted: Scores::default(),
            in_use: InUse::default(),
            measured: Vec::new(),
            environments: Vec::new(),
            counts: [0; 6],
            warnings: Vec::new(),
            outliers: Vec::new(),
            over_time: None,
        }
    }

    fn of(material: &Material<'_>, shown: Shown) -> Self {
        let head = Head {
            name: material.name.clone(),
            predictor: material.predictor.clone(),
            found: material.found.clone(),
            other_measure: material.other_measure.clone(),
        };
        let mut builder = Self::new(head, shown);
        for (place, observation) in material.observations.iter().enumerate() {
            let n = material.sizes.get(place).copied().flatten();
            let censoring = material.censoring.get(place).copied().flatten();
            builder.add(observation, n, censoring);
        }
        builder
    }

    /// Takes the next run: the size of its input, and what its peak says about its need if the record does not tell.
    pub fn add(&mut self, observation: &Observation, n: Option<Bytes>, censoring: Option<Censoring>) {
        let run = self.count(observation, n, censoring);
        self.keep(run);
    }

    /// Takes the next run as [`Builder::add`] does. If its memory is the one to show over time, its samples are kept: the
    /// run with the label `wanted`, else the one with the highest peak. `is_outlier` says whether it lies far from the
    /// others.
    pub fn add_with_series(
        &mut self,
        observation: &Observation,
        n: Option<Bytes>,
        censoring: Option<Censoring>,
        is_outlier: bool,
        wanted: Option<&str>,
    ) {
        let run = self.count(observation, n, censoring);
        let index = self.totals.runs - 1;
        if is_outlier {
            self.outliers.push(index);
        }
        let is_wanted = wanted == Some(run.label.as_str());
        let is_higher = observation.series.samples.len() > 1
            && self.over_time.as_ref().is_none_or(|known| run.peak > known.run.peak);
        if !self.has_wanted() && (is_wanted || is_higher) {
            self.over_time = Some(OverTime { index, run: run.clone(), series: observation.series.clone(), is_wanted });
        }
        self.keep(run);
    }

    /// Counts the next run in all numbers.
    fn count(&mut self, observation: &Observation, n: Option<Bytes>, censoring: Option<Censoring>) -> Run {
        let run = self.run(observation, n, censoring);
        self.totals.add(&run);
        self.by_fitted.add(&run, run.fitted);
        self.in_use.add(observation, &run);
        if self.image.is_none() {
            self.image = image(observation);
        }
        measured(&mut self.measured, observation);
        environment(&mut self.environments, observation);
        warn(&mut self.warnings, &run);
        for (count, (is, _)) in self.counts.iter_mut().zip(WARNINGS) {
            *count += usize::from(is(&run));
        }
        run
    }

    /// Keeps the run that was just counted, if it is to be shown.
    fn keep(&mut self, run: Run) {
        let index = self.totals.runs - 1;
        let cell = self.cells.entry((run.n, run.case.clone(), run.parameters.clone())).or_default();
        cell.add(&run);
        match (self.shown, cell.highest) {
            (Shown::HighestOfCells, Some(highest)) => {
                if standing(&run) > standing(&self.kept[highest].1) {
                    self.kept[highest] = (index, run);
                }
            }
            (Shown::HighestOfCells, None) | (Shown::All, _) => {
                cell.highest = Some(self.kept.len());
                self.kept.push((index, run));
            }
        }
    }

    /// Whether the run that was chosen by its label was added.
    pub fn has_wanted(&self) -> bool {
        self.over_time.as_ref().is_some_and(|known| known.is_wanted)
    }

    /// What the runs that are shown are called.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(|(_, run)| run.label.as_str())
    }

    /// The samples of the run whose memory over time is shown, to be replaced by all of them if there are more.
    pub fn series_mut(&mut self) -> Option<&mut Series> {
        self.over_time.as_mut().map(|shown| &mut shown.series)
    }

    fn found(&self) -> Option<&Found> {
        self.head.found.as_ref().and_then(|found| found.as_ref().ok())
    }

    fn run(&mut self, observation: &Observation, n: Option<Bytes>, censoring: Option<Censoring>) -> Run {
        let mut run = run(observation, n);
        run.censoring = censoring.unwrap_or(run.censoring);
        run.fitted = n.zip(self.found()).map(|(n, found)| found.rule.limit(n));
        run.typical = n.zip(self.found()).map(|(n, found)| found.typical.limit(n));
        let count = self.counted.entry((run.case.clone(), run.parameters.clone())).or_default();
        *count += 1;
        if observation.sweep.is_none() {
            run.number = *count;
        }
        run.label = label(&run);
        run
    }

    /// The part of the task, with an earlier sweep of it.
    pub fn finish(mut self, before: Option<Self>) -> TaskReport {
        let counts = std::mem::take(&mut self.counts);
        let warnings = warnings(counts, std::mem::take(&mut self.warnings), self.found());
        let cells = finish_cells(std::mem::take(&mut self.cells));
        let timeline = self.over_time.take().map(|over_time| self.timeline(over_time));
        let all_runs = (self.shown == Shown::HighestOfCells).then_some(self.totals.runs);
        self.kept.sort_by_key(|(index, _)| *index);
        if let Some(Ok(found)) = &mut self.head.found
            && all_runs.is_some()
        {
            let of_run = |index: &usize| self.kept.binary_search_by_key(index, |(index, _)| *index).ok();
            found.outliers = self.outliers.iter().filter_map(of_run).collect();
        }
        let Head { name, predictor, found, .. } = self.head;
        let (found, not_fitted) = match found {
            Some(Ok(found)) => (Some(found), None),
            Some(Err(reason)) => (None, Some(reason)),
            None => (None, None),
        };
        let fitted = found.map(|found| Fitted {
            words: format!("{}{}", if found.lower_bound { "at least " } else { "" }, words::rule(&found.rule)),
            score: self.by_fitted.finish(),
            found,
        });
        let timeline = timeline.flatten().map(|(index, timeline)| {
            let run = self.kept.binary_search_by_key(&index, |(index, _)| *index).unwrap_or_default();
            Timeline { run, ..timeline }
        });
        let mut report = TaskReport {
            name,
            image: self.image,
            verdict: verdict::none(),
            predictor,
            rule_in_use: self.in_use.finish(),
            fitted,
            not_fitted,
            timeline,
            measured: self.measured,
            environments: self.environments,
            warnings,
            before: before.map(|before| compared(before, &cells)),
            cells,
            all_runs,
            runs: self.kept.into_iter().map(|(_, run)| run).collect(),
            totals: self.totals,
        };
        report.verdict = verdict::of(&report);
        report
    }

    /// Memory over time with the index of its run among all, which is shown, too.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::model::Cell;

    fn built(shown: Shown) -> TaskReport {
        let records = include_str!("../../fixtures/records/segment/observations.jsonl");
        let mut builder = Builder::new(Head::default(), shown);
        for line in records.lines() {
            let observation: Observation = serde_json::from_str(line).unwrap();
            let n = observation.inputs.first().map(|input| input.all.sum);
            builder.add_with_series(&observation, n, None, false, None);
        }
        builder.finish(None)
    }

    #[test]
    fn a_report_on_cells_differs_only_in_the_runs_it_shows() {
        let (all, of_cells) = (built(Shown::All), built(Shown::HighestOfCells));
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
