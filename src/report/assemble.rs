//! From records, and the rule that was fitted to them, to a report.

use std::collections::BTreeMap;

use super::model::{
    Before, Cell, Change, Environment, Fitted, Found, Measured, Point, Report, RuleInUse, Run, SCHEMA_VERSION, Score,
    TaskReport, Timeline, Warning,
};
use super::{verdict, words};
use crate::model::comparison::Thresholds;
use crate::model::fit::Censoring;
use crate::model::observation::{Breakdown, Container, Exactness, Observation, Outcome, RunnerKind, Series};
use crate::model::prediction::{Decider, RulePrediction};
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
        runs(self, None).into_iter().map(|run| run.label).collect()
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

    fn size(&self, place: usize) -> Option<Bytes> {
        self.sizes.get(place).copied().flatten()
    }
}

/// Puts a report together, a part for each task.
pub fn report(materials: &[Material<'_>], notes: Vec<String>) -> Report {
    Report {
        schema_version: SCHEMA_VERSION,
        made_by: format!("highwater {}", env!("CARGO_PKG_VERSION")),
        tasks: materials.iter().map(task).collect(),
        notes,
    }
}

fn task(material: &Material<'_>) -> TaskReport {
    let (found, not_fitted) = match &material.found {
        Some(Ok(found)) => (Some(found), None),
        Some(Err(reason)) => (None, Some(reason.clone())),
        None => (None, None),
    };
    let runs = runs(material, found);
    let cells = cells(&runs);
    let fitted = found.map(|found| Fitted {
        words: format!("{}{}", if found.lower_bound { "at least " } else { "" }, words::rule(&found.rule)),
        score: score(&runs, |run| run.fitted),
        found: found.clone(),
    });
    let rule_in_use = rule_in_use(material, &runs);
    let image = material.observations.iter().find_map(|observation| image(observation));
    let mut report = TaskReport {
        name: material.name.clone(),
        image,
        verdict: verdict::none(),
        predictor: material.predictor.clone(),
        rule_in_use,
        fitted,
        not_fitted,
        timeline: timeline(material),
        measured: measured(&material.observations),
        environments: environments(&material.observations),
        warnings: warnings(&runs, found),
        before: material.before.as_deref().map(|before| compared(before, &cells)),
        cells,
        runs,
    };
    report.verdict = verdict::of(&report);
    report
}

fn image(observation: &Observation) -> Option<String> {
    let container = observation.container.as_ref().map(|container| container.image.clone());
    container.or_else(|| observation.prediction.as_ref()?.task.image.clone())
}

fn runs(material: &Material<'_>, found: Option<&Found>) -> Vec<Run> {
    let mut counted: BTreeMap<(String, Vec<(String, String)>), u32> = BTreeMap::new();
    let each = material.observations.iter().enumerate().map(|(place, observation)| {
        let n = material.size(place);
        let mut run = run(observation, n);
        let key = (run.case.clone(), run.parameters.clone().into_iter().collect());
        let count = counted.entry(key).or_default();
        *count += 1;
        if observation.sweep.is_none() {
            run.number = *count;
        }
        run.label = label(&run);
        run.censoring = material.censoring.get(place).copied().flatten().unwrap_or(run.censoring);
        run.fitted = n.zip(found).map(|(n, found)| found.rule.limit(n));
        run.typical = n.zip(found).map(|(n, found)| found.typical.limit(n));
        run
    });
    each.collect()
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

fn cells(runs: &[Run]) -> Vec<Cell> {
    let mut groups: BTreeMap<CellKey<'_>, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        groups.entry((run.n, &run.case, &run.parameters)).or_default().push(run);
    }
    let cells = groups.into_iter().map(|((n, case, parameters), runs)| {
        let peaks = |is: fn(&Run) -> bool| -> Vec<Bytes> {
            runs.iter().filter(|run| is(run)).filter_map(|run| run.peak).collect()
        };
        let plain = peaks(Run::is_plain);
        let lower_bounds = if plain.is_empty() { peaks(Run::is_lower_bound) } else { Vec::new() };
        let (count, lower_bound) = (plain.len(), !lower_bounds.is_empty());
        let mut peaks = if lower_bound { lower_bounds } else { plain };
        peaks.sort_unstable();
        Cell {
            case: case.clone(),
            parameters: parameters.clone(),
            n,
            runs: runs.len(),
            plain: count,
            lower_bound,
            least: peaks.first().copied(),
            median: median(&peaks),
            most: peaks.last().copied(),
            predicted: runs.iter().filter_map(|run| run.predicted).max(),
            fitted: runs.iter().find_map(|run| run.fitted),
            floor: runs.iter().rev().find_map(|run| run.floor),
        }
    });
    cells.collect()
}

type CellKey<'a> = (Option<Bytes>, &'a String, &'a BTreeMap<String, String>);

/// The middle one; between the two middle ones where their number is even.
fn median(sorted: &[Bytes]) -> Option<Bytes> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { *sorted.get(sorted.len() / 2 - 1)? } else { upper };
    Some(Bytes(lower.0 + (upper.0 - lower.0) / 2))
}

/// How a rule does on the runs that can tell.
fn score(runs: &[Run], given: impl Fn(&Run) -> Option<Bytes>) -> Score {
    let mut score = Score { smallest_ratio: f64::INFINITY, ..Score::default() };
    let mut sum = 0.0;
    for run in runs {
        let (Some(given), Some(peak)) = (given(run), run.peak) else { continue };
        let too_low = match run.censoring {
            Censoring::None if run.is_plain() => given < peak,
            Censoring::OomKilled if given <= peak => true,
            Censoring::LowerBound if given < peak => true,
            Censoring::None | Censoring::OomKilled | Censoring::LimitReached | Censoring::LowerBound => continue,
        };
        let ratio = given.ratio(peak).unwrap_or(1.0);
        score.runs += 1;
        score.too_low += usize::from(too_low);
        score.smallest_ratio = score.smallest_ratio.min(ratio);
        score.largest_ratio = score.largest_ratio.max(ratio);
        sum += ratio;
    }
    if score.runs == 0 {
        return Score::default();
    }
    Score { mean_ratio: sum / score.runs as f64, ..score }
}

fn rule_in_use(material: &Material<'_>, runs: &[Run]) -> Option<RuleInUse> {
    let score = score(runs, |run| run.predicted);
    let mut rules: Vec<(String, &RulePrediction)> = Vec::new();
    let mut floor = None;
    let predictions = material.observations.iter().filter_map(|observation| observation.prediction.as_ref());
    for prediction in predictions {
        let limit = prediction.docker.limit.as_ref()?;
        if limit.decided_by == Decider::Resources {
            floor = floor.max(Some(limit.bytes));
        }
        for channel in &prediction.channels {
            let Some(rule) = &channel.rule else { continue };
            let known = rules.iter().any(|(name, old)| *name == channel.name && old.scale_rule == rule.scale_rule);
            if rule.scale_rule.applies_to == RuleType::Limit && !known {
                rules.push((channel.name.clone(), rule));
            }
        }
    }
    if floor.is_none() && rules.is_empty() {
        return None;
    }
    let formula = match rules.as_slice() {
        [(channel, rule)] if counts_the_same(material, channel) => Some(&rule.scale_rule.formula),
        _ => None,
    };
    let value = |n: Bytes| Some(formula?.evaluate(n).ok()?.max(floor.unwrap_or_default()));
    let given = || runs.iter().filter_map(|run| Some((run.n?, run.predicted?)));
    let is_one = given().all(|(n, bytes)| value(n) == Some(bytes));
    let changed = if formula.is_some() && !is_one { ", changed between runs" } else { "" };
    Some(RuleInUse {
        words: in_words(floor, &rules) + changed,
        curve: curve(given().collect(), |n| value(n).filter(|_| is_one)),
        thresholds: Thresholds::default(),
        score,
    })
}

fn in_words(floor: Option<Bytes>, rules: &[(String, &RulePrediction)]) -> String {
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

/// Whether the rule of this channel counts, for every run, what n is.
fn counts_the_same(material: &Material<'_>, channel: &str) -> bool {
    material.observations.iter().enumerate().all(|(place, observation)| {
        let Some(prediction) = &observation.prediction else { return true };
        let mut channels = prediction.channels.iter().filter(|one| one.name == channel);
        channels.any(|one| one.rule.as_ref().is_some_and(|rule| rule.n.is_some() && rule.n == material.size(place)))
    })
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

fn measured(observations: &[&Observation]) -> Vec<Measured> {
    let mut ways: Vec<Measured> = Vec::new();
    for observation in observations {
        let (way, exactness, remedy) = match &observation.peak {
            Reading::Value(peak) => {
                let (exactness, remedy) = match &peak.exactness {
                    Exactness::Exact { noise_bytes } => (format!("exact: at most {noise_bytes} too high"), None),
                    Exactness::LowerBound { reason, remedy } => {
                        (format!("a lower bound: {reason}"), Some(remedy.clone()))
                    }
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
    ways
}

fn environments(observations: &[&Observation]) -> Vec<Environment> {
    let mut environments: Vec<Environment> = Vec::new();
    for observation in observations {
        let container = observation.container.as_ref();
        let environment = Environment {
            runs: 1,
            host: observation.host.as_ref().value().cloned(),
            runner: runner(observation.runner, container),
            image_id: container.and_then(|container| container.image_id.clone()),
            tool_version: observation.tool_version.clone(),
        };
        match environments.iter_mut().find(|known| Environment { runs: 1, ..(*known).clone() } == environment) {
            Some(known) => known.runs += 1,
            None => environments.push(environment),
        }
    }
    environments
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

fn warnings(runs: &[Run], found: Option<&Found>) -> Vec<Warning> {
    let mut warnings: Vec<(String, Warning)> = Vec::new();
    for text in runs.iter().flat_map(|run| &run.warnings) {
        // Those that differ in their numbers alone are told once.
        let kind: String = text.chars().filter(|char| !char.is_ascii_digit() && *char != '.').collect();
        match warnings.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, warning)) => warning.runs += 1,
            None => warnings.push((kind, Warning { text: text.clone(), runs: 1 })),
        }
    }
    let of_all = |text: String| Warning { text, runs: 0 };
    let mut all: Vec<Warning> = found.iter().flat_map(|found| &found.warnings).cloned().map(of_all).collect();
    let some = |count: usize, text: &str| (count > 0).then(|| Warning { text: text.to_owned(), runs: count });
    let with = |is: fn(&Run) -> bool| runs.iter().filter(|run| is(run)).count();
    all.extend(some(
        with(|run| run.censoring == Censoring::OomKilled),
        "killed for memory: the need is more than the peak",
    ));
    all.extend(some(
        with(|run| run.censoring == Censoring::LimitReached),
        "reached a limit: the peak is not the need, and no rule was fitted to it",
    ));
    all.extend(some(
        with(|run| !run.outcome.succeeded() && run.censoring == Censoring::None),
        "failed for another reason than memory: the peak is not the need",
    ));
    all.extend(some(with(|run| run.lower_bound), "measured as a lower bound: the task may use more than was seen"));
    all.extend(some(with(|run| run.peak.is_none()), "without a peak"));
    all.extend(some(with(|run| run.synthetic), "on inputs made up from the data at hand"));
    all.extend(warnings.into_iter().map(|(_, warning)| warning));
    all
}

fn compared(before: &Material<'_>, cells: &[Cell]) -> Before {
    let found = before.found.as_ref().and_then(|found| found.as_ref().ok());
    let old_runs = runs(before, found);
    let old_cells = self::cells(&old_runs);
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
    let plain = old_runs.iter().filter(|run| run.is_plain());
    Before {
        runs: old_runs.len(),
        // A rule that counts something else is no curve over these sizes.
        fitted: found.filter(|_| before.other_measure.is_none()).map(|found| found.rule),
        words: found.map(|found| {
            let measure = before.other_measure.as_ref().map(|measure| format!(" where n is {measure}"));
            words::rule(&found.rule) + &measure.unwrap_or_default()
        }),
        peaks: plain.filter_map(|run| Some(Point { n: run.n?, bytes: run.peak? })).collect(),
        changes,
    }
}
