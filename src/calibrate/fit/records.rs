//! Extracts from records what they show about the need of a task, and the measures of its input.

mod inputs;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::fit::{Censoring, Measure, RunTable, SizedRun};
use crate::model::observation::{Exactness, Observation, Outcome};
use crate::model::prediction::{ChannelPrediction, ChannelSize, Decider, Prediction, Sizes};
use crate::model::reading::Reading;
use crate::model::rule::RuleType;
use crate::model::task::ChannelKind;
use crate::model::units::Bytes;

use super::Warning;
use super::group::{Declared, Group, SkippedRuns};
use crate::calibrate::page_cache::{CachedPeak, excesses};
use inputs::{Input, Inputs};

/// The quantity to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// The peak, including memory that the kernel could have reclaimed.
    #[default]
    Peak,
    /// The minimum limit.
    Floor,
}

/// Groups records by task, in the order of their first run.
///
/// Each choice of parameters is a task of its own unless they are `pooled`. Runs that show nothing about the need are
/// counted in [`Group::skipped`].
pub fn groups<'a>(observations: impl IntoIterator<Item = &'a Observation>, metric: Metric, pooled: bool) -> Vec<Group> {
    let mut groups = Groups::new(metric, pooled);
    for observation in observations {
        groups.add(observation);
    }
    groups.finish()
}

/// Groups records one by one, like [`groups`]. Stores only what fitting needs, so that a million runs fit in memory.
#[derive(Debug)]
pub struct Groups {
    metric: Metric,
    pooled: bool,
    records: u64,
    tasks: Vec<TaskRuns>,
    /// The index in `tasks` by name and parameters.
    by_key: HashMap<(Option<String>, BTreeMap<String, String>), usize>,
}

impl Groups {
    /// Creates an empty collection.
    pub fn new(metric: Metric, pooled: bool) -> Self {
        Self { metric, pooled, records: 0, tasks: Vec::new(), by_key: HashMap::new() }
    }

    /// Adds the next record, and returns the index of its group in the result.
    pub fn add(&mut self, observation: &Observation) -> usize {
        self.records += 1;
        let subject = &observation.subject;
        // The name of the task, or the program if it has none.
        let name = subject.name.clone().or_else(|| subject.command.first().cloned());
        let parameters = observation.sweep.as_ref().map(|sweep| sweep.parameters.clone()).filter(|_| !self.pooled);
        let key = (name, parameters.unwrap_or_default());
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => {
                let (name, parameters) = key.clone();
                self.tasks.push(TaskRuns { name, parameters, ..TaskRuns::default() });
                self.by_key.insert(key, self.tasks.len() - 1);
                self.tasks.len() - 1
            }
        };
        self.tasks[index].add(self.records, observation, self.metric);
        index
    }

    /// The runs of each task.
    pub fn finish(self) -> Vec<Group> {
        self.tasks.into_iter().map(TaskRuns::group).collect()
    }
}

/// What a run shows about the need.
struct Need {
    peak: Bytes,
    censoring: Censoring,
}

/// The data of a task while its records are read.
#[derive(Debug, Default)]
struct TaskRuns {
    name: Option<String>,
    parameters: BTreeMap<String, String>,
    runs: Vec<Run>,
    /// The record of each run, counted from 1.
    lines: Vec<u64>,
    inputs: Inputs,
    /// The index of each cell of a sweep, and of each input of other runs.
    cells: HashMap<Repeated, u32>,
    skipped: SkippedRuns,
    /// Number of runs with synthetic inputs.
    synthetic: usize,
    images: BTreeSet<String>,
    /// The last prediction, and the last amount decided by the task's own `resources`.
    prediction: Option<Prediction>,
    resources: Option<Bytes>,
    /// What Docker and Kubernetes gave the runs; empty before the first prediction.
    docker: Vec<Option<Bytes>>,
    kubernetes: Vec<Option<Bytes>>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    peak: Bytes,
    wall_us: u64,
    input: Input,
    censoring: Censoring,
    cell: u32,
    cached: CachedPeak,
}

/// What repeats have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Repeated {
    Cell(String),
    Input(Vec<String>, Input),
}

impl TaskRuns {
    fn add(&mut self, line: u64, observation: &Observation, metric: Metric) {
        let need = match metric {
            Metric::Peak => need(observation),
            Metric::Floor => floor(observation),
        };
        let count = match need {
            Ok(_) if channels(observation).is_empty() => &mut self.skipped.unsized_inputs,
            Ok(need) => return self.keep(line, observation, &need),
            Err(SkipReason::Failed) => &mut self.skipped.failed,
            Err(SkipReason::TimedOut) => &mut self.skipped.timed_out,
            Err(SkipReason::Interrupted) => &mut self.skipped.interrupted,
            Err(SkipReason::Unmeasured) => &mut self.skipped.unmeasured,
            Err(SkipReason::WithoutFloor) => &mut self.skipped.without_floor,
        };
        *count += 1;
    }

    fn keep(&mut self, line: u64, observation: &Observation, need: &Need) {
        let input = self.inputs.add(observation);
        let Need { peak, censoring } = *need;
        let repeated = match &observation.sweep {
            Some(sweep) => Repeated::Cell(sweep.cell.clone()),
            None => Repeated::Input(observation.subject.command.clone(), input),
        };
        let next = self.cells.len() as u32;
        let cell = *self.cells.entry(repeated).or_insert(next);
        let cached = CachedPeak::new(observation, peak);
        self.runs.push(Run { peak, wall_us: observation.wall_us, input, censoring, cell, cached });
        self.lines.push(line);
        self.synthetic += usize::from(observation.sweep.as_ref().is_some_and(|sweep| sweep.synthetic));
        if let Some(image) = observation.container.as_ref().and_then(|container| container.image_id.as_ref())
            && !self.images.contains(image)
        {
            self.images.insert(image.clone());
        }
        if let Some(prediction) = &observation.prediction {
            // Runs before the first prediction have no value.
            self.docker.resize(self.runs.len() - 1, None);
            self.kubernetes.resize(self.runs.len() - 1, None);
            self.docker.push(prediction.docker.limit.as_ref().map(|limit| limit.bytes));
            self.kubernetes.push(prediction.kubernetes.limit.as_ref().map(|limit| limit.bytes));
            if let Some(limit) = &prediction.docker.limit
                && limit.decided_by == Decider::Resources
            {
                self.resources = Some(limit.bytes);
            }
            if self.prediction.as_ref() != Some(prediction) {
                self.prediction = Some(prediction.clone());
            }
        }
    }

    /// Removes runs that peaked above their repeats by page cache, which is not needed. Returns a warning about them.
    fn remove_cached(&mut self) -> Option<Warning> {
        self.docker.resize(self.runs.len(), None);
        self.kubernetes.resize(self.runs.len(), None);
        let mut by_cell: Vec<Vec<usize>> = vec![Vec::new(); self.cells.len()];
        for (place, run) in self.runs.iter().enumerate().filter(|(_, run)| run.censoring == Censoring::None) {
            by_cell[run.cell as usize].push(place);
        }
        let mut excess = vec![None; self.runs.len()];
        for places in by_cell.iter().filter(|places| places.len() > 1) {
            let repeats: Vec<CachedPeak> = places.iter().map(|place| self.runs[*place].cached).collect();
            places.iter().zip(excesses(&repeats)).for_each(|(place, bytes)| excess[*place] = bytes);
        }
        let most = excess.iter().copied().flatten().max()?;
        let kept = |place: usize| excess[place].is_none();
        retain(&mut self.runs, kept);
        retain(&mut self.lines, kept);
        retain(&mut self.docker, kept);
        retain(&mut self.kubernetes, kept);
        Some(Warning::PageCache { runs: excess.iter().flatten().count(), most })
    }

    fn group(mut self) -> Group {
        let cached = self.remove_cached();
        let measures = self.inputs.measures(self.runs.iter().map(|run| run.input));
        let runs = self.runs.iter().map(|run| SizedRun {
            sizes: measures.iter().map(|(_, sources)| self.inputs.value(run.input, sources)).collect(),
            peak: run.peak,
            censoring: run.censoring,
            wall_seconds: Some(run.wall_us as f64 / 1e6),
        });
        let runs: Vec<SizedRun> = runs.collect();
        let measures: Vec<Measure> = measures.into_iter().map(|(measure, _)| measure).collect();
        let mut warnings: Vec<Warning> = cached.into_iter().collect();
        warnings.extend((self.synthetic > 0).then_some(Warning::Synthetic { runs: self.synthetic }));
        warnings.extend((self.images.len() > 1).then_some(Warning::SeveralImages { images: self.images.len() }));
        let declared = self.declared();
        let mut group = Group {
            task: self.name,
            parameters: self.parameters,
            table: RunTable { predictors: measures.iter().map(Measure::to_string).collect(), runs },
            measures,
            lines: self.lines,
            recorded: true,
            declared,
            skipped: self.skipped,
            warnings,
            workflow: None,
        };
        group.warn_of_lower_bounds();
        group
    }

    fn declared(&mut self) -> Option<Declared> {
        let last = self.prediction.take()?;
        self.docker.resize(self.runs.len(), None);
        self.kubernetes.resize(self.runs.len(), None);
        let rules: Vec<_> = last
            .channels
            .iter()
            .filter(|channel| channel.kind == ChannelKind::Input)
            .filter_map(|channel| Some((channel, &channel.rule.as_ref()?.scale_rule)))
            .filter(|(_, rule)| rule.applies_to == RuleType::Limit)
            .collect();
        let floor = self.resources.map(|bytes| bytes.to_string());
        let named = rules.len() > 1;
        let growth = rules.iter().map(|(channel, rule)| match named {
            true => format!("{} of {}", rule.formula.expression(), channel.name),
            false => rule.formula.expression(),
        });
        let parts: Vec<String> = floor.into_iter().chain(growth).collect();
        let words = match parts.as_slice() {
            [only] => only.clone(),
            several => format!("max({})", several.join(", ")),
        };
        let any = last.channels.iter().find_map(|channel| channel.rule.as_ref());
        Some(Declared {
            words,
            dialect: any.map(|rule| rule.scale_rule.formula.dialect()),
            template: last.task.template.clone(),
            docker: std::mem::take(&mut self.docker),
            kubernetes: std::mem::take(&mut self.kubernetes),
        })
    }
}

fn retain<T>(values: &mut Vec<T>, kept: impl Fn(usize) -> bool) {
    let mut place = 0;
    values.retain(|_| {
        place += 1;
        kept(place - 1)
    });
}

/// Why a run is skipped.
enum SkipReason {
    Failed,
    TimedOut,
    Interrupted,
    Unmeasured,
    WithoutFloor,
}

/// The record of the last run of a search contains the result; the others are intermediate steps.
fn floor(observation: &Observation) -> Result<Need, SkipReason> {
    let floor = observation.floor.as_ref().ok_or(SkipReason::WithoutFloor)?;
    Ok(Need { peak: floor.bytes, censoring: Censoring::None })
}

fn need(observation: &Observation) -> Result<Need, SkipReason> {
    let kills = match observation.events {
        Reading::Value(events) => events.oom_kills.value().is_some_and(|kills| kills > 0),
        Reading::Unsupported | Reading::Gone => false,
    };
    let killed = match observation.outcome {
        Outcome::OomKilled => true,
        // A task that loses a process to an OOM kill often exits with a status of its own.
        Outcome::Exited { status } => status != 0 && observation.censored && kills,
        Outcome::Signalled { .. } => observation.censored && kills,
        Outcome::TimedOut { .. } | Outcome::Interrupted { .. } | Outcome::EngineLost => false,
    };
    let peak = observation.peak.as_ref().value();
    if killed {
        // It needed more than its limit; its counter may stop short of the limit.
        let limit = observation.limit.own.value().flatten();
        let bound = peak.map(|peak| peak.bytes).max(limit).ok_or(SkipReason::Unmeasured)?;
        return Ok(Need { peak: bound, censoring: Censoring::OomKilled });
    }
    match observation.outcome {
        Outcome::Exited { status: 0 } => {}
        Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::OomKilled => return Err(SkipReason::Failed),
        Outcome::TimedOut { .. } => return Err(SkipReason::TimedOut),
        Outcome::Interrupted { .. } | Outcome::EngineLost => return Err(SkipReason::Interrupted),
    }
    let peak = peak.filter(|peak| peak.bytes > Bytes::ZERO).ok_or(SkipReason::Unmeasured)?;
    let censoring = match (observation.censored, &peak.exactness) {
        (true, _) => Censoring::LimitReached,
        (false, Exactness::LowerBound { .. }) => Censoring::LowerBound,
        (false, Exactness::Exact { .. }) => Censoring::None,
    };
    Ok(Need { peak: peak.bytes, censoring })
}

/// The input channels whose sizes are known, with their sizes.
fn channels(observation: &Observation) -> Vec<(&str, &Sizes)> {
    if !observation.inputs.is_empty() {
        return observation.inputs.iter().map(|input| (input.channel.as_str(), &input.all)).collect();
    }
    let inputs = predicted(observation).filter(|channel| channel.kind == ChannelKind::Input);
    let known = inputs.filter_map(|channel| match &channel.size {
        ChannelSize::Known { all, .. } => Some((channel.name.as_str(), all)),
        ChannelSize::Unknown { .. } | ChannelSize::NotSurveyed => None,
    });
    known.collect()
}

fn predicted(observation: &Observation) -> impl Iterator<Item = &ChannelPrediction> {
    observation.prediction.iter().flat_map(|prediction| &prediction.channels)
}
