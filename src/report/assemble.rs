//! From records, and the rule that was fitted to them, to a report.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{
    Before, Cell, Change, Environment, Fitted, Found, Measured, Point, Report, RuleInUse, Run, SCHEMA_VERSION, Score,
    Seen, TaskReport, Timeline, Warning,
};
use super::{verdict, words};
use crate::model::comparison::Thresholds;
use crate::model::fit::Censoring;
use crate::model::observation::{Breakdown, Container, Exactness, Observation, Outcome, RunnerKind, Series};
use crate::model::prediction::{ChannelPrediction, Decider, RulePrediction};
use crate::model::reading::Reading;
use crate::model::rule::RuleType;
use crate::model::units::Bytes;

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
    /// The runs that are shown, each with its place among all.
    kept: Vec<(usize, Run)>,
    seen: Seen,
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
type CellKey = (Option<Bytes>, String, BTreeMap<String, String>);

/// The peaks of a cell.
#[derive(Debug, Default)]
struct Peaks {
    runs: usize,
    plain: Vec<Bytes>,
    lower_bounds: Vec<Bytes>,
    predicted: Option<Bytes>,
    fitted: Option<Bytes>,
    floor: Option<Bytes>,
    /// The place in `kept` of the run that stands for all.
    highest: Option<usize>,
}

/// The run whose memory over time is shown.
#[derive(Debug)]
struct OverTime {
    place: usize,
    run: Run,
    series: Series,
    /// Whether somebody asked for it by its name.
    is_wanted: bool,
}

impl Builder {
    /// Starts with no run.
    pub fn new(head: Head, shown: Shown) -> Self {
        Self {
            head,
            shown,
            kept: Vec::new(),
            seen: Seen::default(),
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
        let run = self.run(observation, n, censoring);
        let place = self.seen.runs;
        self.seen.add(&run);
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
        let cell = self.cells.entry((n, run.case.clone(), run.parameters.clone())).or_default();
        cell.add(&run);
        match (self.shown, cell.highest) {
            (Shown::HighestOfCells, Some(highest)) => {
                if standing(&run) > standing(&self.kept[highest].1) {
                    self.kept[highest] = (place, run);
                }
            }
            (Shown::HighestOfCells, None) | (Shown::All, _) => {
                cell.highest = Some(self.kept.len());
                self.kept.push((place, run));
            }
        }
    }

    /// Takes the next run as [`Builder::add`] does. If its memory is the one to show over time, its samples are kept: the
    /// run that is called `wanted`, else the one with the highest peak. `is_outlier` says whether it lies far from where
    /// the others are.
    pub fn add_with_series(
        &mut self,
        observation: &Observation,
        n: Option<Bytes>,
        censoring: Option<Censoring>,
        is_outlier: bool,
        wanted: Option<&str>,
    ) {
        let place = self.seen.runs;
        if is_outlier {
            self.outliers.push(place);
        }
        self.add(observation, n, censoring);
        let peak = observation.peak.as_ref().value().map(|peak| peak.bytes);
        let is_higher = self.over_time.as_ref().is_none_or(|known| !known.is_wanted && peak > known.run.peak);
        let has_samples = observation.series.samples.len() > 1;
        if wanted.is_none() && !(is_higher && has_samples) {
            return;
        }
        // The number of a run that is of no sweep was counted when it was added.
        let mut run = self.run_uncounted(observation, n, censoring);
        if observation.sweep.is_none() {
            run.number = self.counted.get(&(run.case.clone(), run.parameters.clone())).copied().unwrap_or(1);
        }
        run.label = label(&run);
        let is_wanted = wanted == Some(run.label.as_str());
        let known_is_wanted = self.over_time.as_ref().is_some_and(|known| known.is_wanted);
        if !known_is_wanted && (is_wanted || (is_higher && has_samples)) {
            self.over_time = Some(OverTime { place, run, series: observation.series.clone(), is_wanted });
        }
    }

    /// Whether the run that was asked for by its name is among those that were added.
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
        let mut run = self.run_uncounted(observation, n, censoring);
        let count = self.counted.entry((run.case.clone(), run.parameters.clone())).or_default();
        *count += 1;
        if observation.sweep.is_none() {
            run.number = *count;
        }
        run.label = label(&run);
        run
    }

    fn run_uncounted(&self, observation: &Observation, n: Option<Bytes>, censoring: Option<Censoring>) -> Run {
        let mut run = run(observation, n);
        run.censoring = censoring.unwrap_or(run.censoring);
        run.fitted = n.zip(self.found()).map(|(n, found)| found.rule.limit(n));
        run.typical = n.zip(self.found()).map(|(n, found)| found.typical.limit(n));
        run
    }

    /// The part of the task, with an earlier sweep of it.
    pub fn finish(mut self, before: Option<Self>) -> TaskReport {
        let counts = std::mem::take(&mut self.counts);
        let warnings = warnings(counts, std::mem::take(&mut self.warnings), self.found());
        let cells = finish_cells(std::mem::take(&mut self.cells));
        let timeline = self.over_time.take().map(|over_time| self.timeline(over_time));
        let all_runs = (self.shown == Shown::HighestOfCells).then_some(self.seen.runs);
        self.kept.sort_by_key(|(place, _)| *place);
        if let Some(Ok(found)) = &mut self.head.found
            && all_runs.is_some()
        {
            let of_run = |place: &usize| self.kept.binary_search_by_key(place, |(place, _)| *place).ok();
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
        let timeline = timeline.flatten().map(|(place, timeline)| {
            let run = self.kept.binary_search_by_key(&place, |(place, _)| *place).unwrap_or_default();
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
            seen: self.seen,
        };
        report.verdict = verdict::of(&report);
        report
    }

    /// Takes the run whose memory over time is shown among those that are, with its place among all.
    fn timeline(&mut self, over_time: OverTime) -> Option<(usize, Timeline)> {
        let OverTime { place, run, series, .. } = over_time;
        if series.samples.len() < 2 {
            return None;
        }
        if !self.kept.iter().any(|(known, _)| *known == place) {
            self.kept.push((place, run));
        }
        let samples = thinned(&series.samples, TIMELINE_SAMPLES);
        Some((place, Timeline { run: 0, taken: series.taken, samples }))
    }
}

/// How well a run stands for its cell: what shows its need before the others, then the highest peak.
fn standing(run: &Run) -> (bool, bool, Option<Bytes>) {
    (run.is_plain(), run.is_lower_bound(), run.peak)
}

fn image(observation: &Observation) -> Option<String> {
    let container = observation.container.as_ref().map(|container| container.image.clone());
    container.or_else(|| observation.prediction.as_ref()?.task.image.clone())
}

fn label(run: &Run) -> String {
    let parameters: String = run.parameters.iter().map(|(name, value)| format!(", {name}={value}")).collect();
    format!("{}{parameters} #{}", run.case, run.number)
}

fn run(observation: &Observation, n: Option<Bytes>) -> Run {
    let sweep = observation.sweep.as_ref();
    let peak = observation.peak.as_ref().value();
    let lower_bound = peak.is_some_and(|peak| matches!(peak.exactness, Exactness::LowerBound { .. }));
    let swap = observation.swap.peak.or(observation.swap.highest_sampled);
    let limit = observation.prediction.as_ref().and_then(|prediction| prediction.docker.limit.as_ref());
    Run {
        label: String::new(),
        cell: sweep.map(|sweep| sweep.cell.clone()),
        case: sweep.map_or_else(|| n.map_or_else(|| "runs".to_owned(), |n| n.to_string()), |sweep| sweep.case.clone()),
        number: sweep.map_or(1, |sweep| sweep.run),
        parameters: sweep.map(|sweep| sweep.parameters.clone()).unwrap_or_default(),
        synthetic: sweep.is_some_and(|sweep| sweep.synthetic),
        started_at: observation.started_at,
        n,
        peak: peak.map(|peak| peak.bytes),
        below: peak
            .map(|peak| peak.exactness.noise())
            .filter(|noise| !lower_bound && peak.is_some_and(|peak| peak.bytes <= *noise)),
        lower_bound,
        at_most: peak.and_then(|peak| peak.upper_bound.as_ref()).map(|most| most.bytes).filter(|_| lower_bound),
        censoring: match censoring(observation) {
            Censoring::None if lower_bound => Censoring::LowerBound,
            censoring => censoring,
        },
        outcome: observation.outcome,
        limit: observation.limit.effective.value().flatten(),
        predicted: limit.map(|limit| limit.bytes),
        fitted: None,
        typical: None,
        breakdown: observation.breakdown.value(),
        between_samples: observation.between_samples(),
        swap: swap.value(),
        wall_us: observation.wall_us,
        cpu_us: observation.cpu.value().map(|cpu| cpu.user_us.saturating_add(cpu.system_us)),
        source: peak.map(|peak| peak.source),
        floor: observation.floor.as_ref().map(|floor| floor.bytes),
        warnings: observation.warnings.clone(),
    }
}

fn censoring(observation: &Observation) -> Censoring {
    match (observation.outcome, observation.censored) {
        (Outcome::OomKilled, _) => Censoring::OomKilled,
        (_, false) => Censoring::None,
        (Outcome::Exited { status: 0 }, true) => Censoring::LimitReached,
        // It reached its limit and failed: that it needs more is the likely reason, but nobody says so.
        (_, true) => Censoring::LimitReached,
    }
}

impl Peaks {
    fn add(&mut self, run: &Run) {
        self.runs += 1;
        if run.is_plain() {
            self.plain.extend(run.peak);
        } else if run.is_lower_bound() {
            self.lower_bounds.extend(run.peak);
        }
        self.predicted = self.predicted.max(run.predicted);
        self.fitted = self.fitted.or(run.fitted);
        self.floor = run.floor.or(self.floor);
    }
}

fn finish_cells(cells: BTreeMap<CellKey, Peaks>) -> Vec<Cell> {
    let cells = cells.into_iter().map(|((n, case, parameters), of)| {
        let (count, lower_bound) = (of.plain.len(), of.plain.is_empty() && !of.lower_bounds.is_empty());
        let mut peaks = if lower_bound { of.lower_bounds } else { of.plain };
        peaks.sort_unstable();
        Cell {
            case,
            parameters,
            n,
            runs: of.runs,
            plain: count,
            lower_bound,
            least: peaks.first().copied(),
            median: median(&peaks),
            most: peaks.last().copied(),
            predicted: of.predicted,
            fitted: of.fitted,
            floor: of.floor,
        }
    });
    cells.collect()
}

/// The middle one; between the two middle ones where their number is even.
fn median(sorted: &[Bytes]) -> Option<Bytes> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { *sorted.get(sorted.len() / 2 - 1)? } else { upper };
    Some(Bytes(lower.0 + (upper.0 - lower.0) / 2))
}

/// How a rule does on the runs that can tell.
#[derive(Debug, Default)]
struct Scores {
    score: Score,
    sum: f64,
}

impl Scores {
    fn add(&mut self, run: &Run, given: Option<Bytes>) {
        let (Some(given), Some(peak)) = (given, run.peak) else { return };
        let too_low = match run.censoring {
            Censoring::None if run.is_plain() => given < peak,
            Censoring::OomKilled if given <= peak => true,
            Censoring::LowerBound if given < peak => true,
            Censoring::None | Censoring::OomKilled | Censoring::LimitReached | Censoring::LowerBound => return,
        };
        let ratio = given.ratio(peak).unwrap_or(1.0);
        let score = &mut self.score;
        let smallest = if score.runs == 0 { f64::INFINITY } else { score.smallest_ratio };
        score.runs += 1;
        score.too_low += usize::from(too_low);
        score.smallest_ratio = smallest.min(ratio);
        score.largest_ratio = score.largest_ratio.max(ratio);
        self.sum += ratio;
    }

    fn finish(self) -> Score {
        if self.score.runs == 0 {
            return Score::default();
        }
        Score { mean_ratio: self.sum / self.score.runs as f64, ..self.score }
    }
}

/// The rules that the task had when it ran.
#[derive(Debug, Default)]
struct InUse {
    scores: Scores,
    /// Whether a run has predictions that ask for nothing.
    is_unlimited: bool,
    floor: Option<Bytes>,
    rules: Vec<(String, RulePrediction)>,
    /// The channels whose rule counts, for every run, what n is; `None` before the first prediction.
    counted: Option<BTreeSet<String>>,
    /// What inputs were given, by their size.
    given: BTreeMap<Bytes, Bytes>,
    /// Whether inputs of one size were given different amounts.
    differs: bool,
}

impl InUse {
    fn add(&mut self, observation: &Observation, run: &Run) {
        self.scores.add(run, run.predicted);
        let Some(prediction) = &observation.prediction else { return };
        if let Some((n, bytes)) = run.n.zip(run.predicted) {
            self.differs |= self.given.insert(n, bytes).is_some_and(|before| before != bytes);
        }
        let counts_n = |channel: &&ChannelPrediction| {
            channel.rule.as_ref().is_some_and(|rule| rule.n.is_some() && rule.n == run.n)
        };
        let counting = || prediction.channels.iter().filter(counts_n).map(|channel| &channel.name);
        match &mut self.counted {
            Some(counted) => counted.retain(|name| counting().any(|other| other == name)),
            None => self.counted = Some(counting().cloned().collect()),
        }
        let Some(limit) = &prediction.docker.limit else {
            self.is_unlimited = true;
            return;
        };
        if limit.decided_by == Decider::Resources {
            self.floor = self.floor.max(Some(limit.bytes));
        }
        for channel in &prediction.channels {
            let Some(rule) = &channel.rule else { continue };
            let is_known =
                |(name, old): &(String, RulePrediction)| *name == channel.name && old.scale_rule == rule.scale_rule;
            if rule.scale_rule.applies_to == RuleType::Limit && !self.rules.iter().any(is_known) {
                self.rules.push((channel.name.clone(), rule.clone()));
            }
        }
    }

    fn finish(self) -> Option<RuleInUse> {
        let Self { floor, rules, given, .. } = self;
        if self.is_unlimited || (floor.is_none() && rules.is_empty()) {
            return None;
        }
        let formula = match rules.as_slice() {
            [(channel, rule)] if self.counted.is_none_or(|counted| counted.contains(channel)) => {
                Some(&rule.scale_rule.formula)
            }
            _ => None,
        };
        let value = |n: Bytes| Some(formula?.evaluate(n).ok()?.max(floor.unwrap_or_default()));
        let is_one = !self.differs && given.iter().all(|(n, bytes)| value(*n) == Some(*bytes));
        let changed = if formula.is_some() && !is_one { ", changed between runs" } else { "" };
        Some(RuleInUse {
            words: in_words(floor, &rules) + changed,
            curve: curve(given, |n| value(n).filter(|_| is_one)),
            thresholds: Thresholds::default(),
            score: self.scores.finish(),
        })
    }
}

fn in_words(floor: Option<Bytes>, rules: &[(String, RulePrediction)]) -> String {
    let one = rules.len() == 1;
    let of = |name: &String| if one { String::new() } else { format!(" of {name}") };
    let mut parts: Vec<String> = floor.iter().map(Bytes::to_string).collect();
    parts.extend(rules.iter().map(|(name, rule)| rule.scale_rule.formula.expression() + &of(name)));
    match parts.as_slice() {
        [only] => only.clone(),
        several => format!("max({})", several.join(", ")),
    }
}

/// The rule itself where it can be computed for other sizes; else what the runs were given, by size.
fn curve(given: BTreeMap<Bytes, Bytes>, value: impl Fn(Bytes) -> Option<Bytes>) -> Vec<Point> {
    let (Some((&smallest, _)), Some((&largest, _))) = (given.first_key_value(), given.last_key_value()) else {
        return Vec::new();
    };
    let steps = 64;
    let between = (0..=steps).map(|step| {
        let along = u128::from(largest.0 - smallest.0) * step / steps;
        Bytes(smallest.0 + along as u64)
    });
    let computed: Vec<Point> = between.filter_map(|n| Some(Point { n, bytes: value(n)? })).collect();
    if computed.len() > 1 { computed } else { given.into_iter().map(|(n, bytes)| Point { n, bytes }).collect() }
}

fn timeline(material: &Material<'_>) -> Option<Timeline> {
    let run = material.shown_over_time()?;
    let series = material.series.as_ref().unwrap_or(&material.observations.get(run)?.series);
    (series.samples.len() > 1).then(|| Timeline {
        run,
        taken: series.taken,
        samples: thinned(&series.samples, TIMELINE_SAMPLES),
    })
}

/// At most so many samples: of neighbours the one with the most memory in use. The first and the last stay.
fn thinned(samples: &[Breakdown], most: usize) -> Vec<Breakdown> {
    if samples.len() <= most {
        return samples.to_vec();
    }
    let Some(((first, last), inner)) = samples.split_first().and_then(|(first, rest)| {
        let (last, inner) = rest.split_last()?;
        Some(((first, last), inner))
    }) else {
        return samples.to_vec();
    };
    let width = inner.len().div_ceil(most.saturating_sub(2).max(1));
    let highest = |window: &[Breakdown]| window.iter().copied().max_by_key(|sample| sample.current);
    let inner = inner.chunks(width).filter_map(highest);
    std::iter::once(*first).chain(inner).chain([*last]).collect()
}

fn measured(ways: &mut Vec<Measured>, observation: &Observation) {
    let (way, exactness, remedy) = match &observation.peak {
        Reading::Value(peak) => {
            let (exactness, remedy) = match &peak.exactness {
                Exactness::Exact { noise_bytes } => (format!("exact: at most {noise_bytes} too high"), None),
                Exactness::LowerBound { reason, remedy } => (format!("a lower bound: {reason}"), Some(remedy.clone())),
            };
            (peak.source.words().to_owned(), exactness, remedy)
        }
        Reading::Unsupported => ("not at all".to_owned(), "this machine cannot measure it".to_owned(), None),
        Reading::Gone => ("not at all".to_owned(), "the cgroup was gone before it could be read".to_owned(), None),
    };
    match ways.iter_mut().find(|known| known.way == way && known.exactness == exactness) {
        Some(known) => known.runs += 1,
        None => ways.push(Measured { runs: 1, way, exactness, remedy }),
    }
}

fn environment(environments: &mut Vec<Environment>, observation: &Observation) {
    let container = observation.container.as_ref();
    let environment = Environment {
        runs: 1,
        host: observation.host.as_ref().value().cloned(),
        runner: runner(observation.runner, container),
        image_id: container.and_then(|container| container.image_id.clone()),
        tool_version: observation.tool_version.clone(),
    };
    let is_same = |known: &&mut Environment| {
        known.host == environment.host
            && known.runner == environment.runner
            && known.image_id == environment.image_id
            && known.tool_version == environment.tool_version
    };
    match environments.iter_mut().find(is_same) {
        Some(known) => known.runs += 1,
        None => environments.push(environment),
    }
}

fn runner(kind: RunnerKind, container: Option<&Container>) -> String {
    match (kind, container) {
        (_, Some(container)) => {
            let engine = &container.engine;
            let version = engine.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            format!("a container of {}{version}", engine.name)
        }
        (RunnerKind::Process, None) => "a process".to_owned(),
        (RunnerKind::Container, None) => "a container".to_owned(),
        (RunnerKind::Imported, None) => "another program".to_owned(),
    }
}

/// Adds the warnings of a run: those that differ in their numbers alone are one.
fn warn(warnings: &mut Vec<(String, Warning)>, run: &Run) {
    for text in &run.warnings {
        let kind: String = text.chars().filter(|char| !char.is_ascii_digit() && *char != '.').collect();
        match warnings.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, warning)) => warning.runs += 1,
            None => warnings.push((kind, Warning { text: text.clone(), runs: 1 })),
        }
    }
}

/// Which runs to warn of, and what to say.
type Caution = (fn(&Run) -> bool, &'static str);

const WARNINGS: [Caution; 6] = [
    (|run| run.censoring == Censoring::OomKilled, "killed for memory: the need is more than the peak"),
    (
        |run| run.censoring == Censoring::LimitReached,
        "reached a limit: the peak is not the need, and no rule was fitted to it",
    ),
    (
        |run| !run.outcome.succeeded() && run.censoring == Censoring::None,
        "failed for another reason than memory: the peak is not the need",
    ),
    (|run| run.lower_bound, "measured as a lower bound: the task may use more than was seen"),
    (|run| run.peak.is_none(), "without a peak"),
    (|run| run.synthetic, "on inputs made up from the data at hand"),
];

fn warnings(counts: [usize; 6], of_runs: Vec<(String, Warning)>, found: Option<&Found>) -> Vec<Warning> {
    let of_all = |text: String| Warning { text, runs: 0 };
    let mut all: Vec<Warning> = found.iter().flat_map(|found| &found.warnings).cloned().map(of_all).collect();
    let counted = counts.into_iter().zip(WARNINGS).filter(|(runs, _)| *runs > 0);
    all.extend(counted.map(|(runs, (_, text))| Warning { text: text.to_owned(), runs }));
    all.extend(of_runs.into_iter().map(|(_, warning)| warning));
    all
}

fn compared(before: Builder, cells: &[Cell]) -> Before {
    let Builder { head, mut kept, cells: old, seen, .. } = before;
    kept.sort_by_key(|(place, _)| *place);
    let found = head.found.as_ref().and_then(|found| found.as_ref().ok());
    let old_cells = finish_cells(old);
    let key = |cell: &Cell| (cell.case.clone(), cell.parameters.clone());
    let mut by_key: BTreeMap<_, (Option<&Cell>, Option<&Cell>)> = BTreeMap::new();
    for cell in &old_cells {
        by_key.entry(key(cell)).or_default().0 = Some(cell);
    }
    for cell in cells {
        by_key.entry(key(cell)).or_default().1 = Some(cell);
    }
    let mut changes: Vec<Change> = by_key
        .into_iter()
        .map(|((case, parameters), (old, new))| {
            let old_median = old.and_then(|cell| cell.median);
            let new_median = new.and_then(|cell| cell.median);
            let is_lower = |cell: Option<&Cell>| cell.is_some_and(|cell| cell.lower_bound);
            let (old_lower_bound, new_lower_bound) = (is_lower(old), is_lower(new));
            let ratio = new_median.zip(old_median).filter(|_| !old_lower_bound && !new_lower_bound);
            let ratio = ratio.and_then(|(new, old)| new.ratio(old));
            let n = new.or(old).and_then(|cell| cell.n);
            Change { case, parameters, n, old_median, old_lower_bound, new_median, new_lower_bound, ratio }
        })
        .collect();
    changes.sort_by_key(|change| change.n);
    let plain = kept.iter().map(|(_, run)| run).filter(|run| run.is_plain());
    Before {
        runs: seen.runs,
        // A rule that counts something else is no curve over these sizes.
        fitted: found.filter(|_| head.other_measure.is_none()).map(|found| found.rule),
        words: found.map(|found| {
            let measure = head.other_measure.as_ref().map(|measure| format!(" where n is {measure}"));
            words::rule(&found.rule) + &measure.unwrap_or_default()
        }),
        peaks: plain.filter_map(|run| Some(Point { n: run.n?, bytes: run.peak? })).collect(),
        changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
