//! Extracts from records what they show about the need of a task, and the measures of its input.

mod inputs;
mod need;
mod parameter;
mod runtime;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::model::fit::{Censoring, Measure, MeasureFilter, Resource, RunTable, SizedRun};
use crate::model::observation::Observation;
use crate::model::prediction::{ChannelPrediction, ChannelSize, Decider, Prediction, Sizes};
use crate::model::rule::RuleType;
use crate::model::task::ChannelKind;
use crate::model::units::Bytes;

use super::Warning;
use super::group::{Declared, Group, SkippedRuns};
use crate::calibrate::page_cache::{PageCache, cold_start, excesses};
use inputs::{Input, Inputs};
use need::{Need, SkipReason, cpu, floor, gpu, need, storage, time};
use parameter::{insert, numeric, value_of, whole};
use runtime::RuntimeLimits;

pub(in crate::calibrate) use self::need::cores;
pub use self::parameter::PredictorError;

/// The quantity to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metric {
    /// The peak, including memory that the kernel could have reclaimed.
    #[default]
    Peak,
    /// The minimum limit.
    Floor,
    /// The wall time.
    Time,
    /// The cores used on average.
    Cpu,
    /// The peak of the memory on one GPU.
    Gpu,
    /// The files left in outputs and in the writable layer of a container.
    Storage,
}

impl Metric {
    /// The resource that it is an amount of.
    pub const fn resource(self) -> Resource {
        match self {
            Self::Peak | Self::Floor => Resource::Memory,
            Self::Time => Resource::Time,
            Self::Cpu => Resource::Cpu,
            Self::Gpu => Resource::Gpu,
            Self::Storage => Resource::Storage,
        }
    }
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
    /// The parameter or channel to predict the need from.
    predictor: Option<String>,
    /// The measures of the input to choose from.
    filter: MeasureFilter,
    /// Whether runs whose inputs have no known size are kept.
    unsized_runs: bool,
    /// The parameters and channels of all records.
    known: BTreeSet<String>,
    /// A value of the parameter that is not a number.
    not_a_number: Option<String>,
    records: u64,
    tasks: Vec<TaskRuns>,
    /// The index in `tasks` by name and parameters.
    by_key: HashMap<(Option<String>, BTreeMap<String, String>), usize>,
}

impl Groups {
    /// Creates an empty collection.
    pub fn new(metric: Metric, pooled: bool) -> Self {
        Self {
            metric,
            pooled,
            predictor: None,
            filter: MeasureFilter::default(),
            unsized_runs: false,
            known: BTreeSet::new(),
            not_a_number: None,
            records: 0,
            tasks: Vec::new(),
            by_key: HashMap::new(),
        }
    }

    /// Predicts the need from a parameter or an input channel of this name, if one is given. Without it, a numeric
    /// parameter is the predictor of runs without inputs.
    #[must_use]
    pub fn with_predictor(self, name: Option<String>) -> Self {
        Self { predictor: name, ..self }
    }

    /// Chooses n only among these measures of the input.
    #[must_use]
    pub fn with_filter(self, filter: MeasureFilter) -> Self {
        Self { filter, ..self }
    }

    /// Keeps the runs whose inputs have no known size in [`Group::unsized_runs`], instead of skipping them.
    #[must_use]
    pub fn with_unsized_runs(self) -> Self {
        Self { unsized_runs: true, ..self }
    }

    /// Adds the next record, and returns the index of its group in the result.
    pub fn add(&mut self, observation: &Observation) -> usize {
        self.records += 1;
        let subject = &observation.subject;
        // The name of the task, or the program if it has none.
        let name = subject.name.clone().or_else(|| subject.command.first().cloned());
        let all = observation.sweep.as_ref().map(|sweep| &sweep.parameters);
        let value = self.predictor.as_ref().and_then(|predictor| all?.get(predictor));
        let n = value.and_then(|value| runtime::amount(observation, value).or_else(|| whole(value)));
        if let Some(value) = value.filter(|_| n.is_none()) {
            self.not_a_number.get_or_insert_with(|| value.clone());
        }
        if self.predictor.is_some() {
            let channels = channels(observation).into_iter().map(|(channel, _)| channel);
            let names = all.into_iter().flatten().map(|(name, _)| name.as_str()).chain(channels);
            names.for_each(|name| insert(&mut self.known, name));
        }
        let mut parameters = all.filter(|_| !self.pooled).cloned().unwrap_or_default();
        if let Some(predictor) = self.predictor.as_ref().filter(|_| value.is_some()) {
            parameters.remove(predictor);
        }
        let key = (name, parameters);
        let index = match self.by_key.get(&key) {
            Some(index) => *index,
            None => {
                let (name, parameters) = key.clone();
                let amounts = runtime::amounts(observation, &parameters);
                self.tasks.push(TaskRuns { name, parameters, amounts, metric: self.metric, ..TaskRuns::default() });
                self.by_key.insert(key, self.tasks.len() - 1);
                self.tasks.len() - 1
            }
        };
        let task = &mut self.tasks[index];
        if value.is_some() {
            task.parameter.clone_from(&self.predictor);
        }
        let is_named = |predictor: &str| channels(observation).iter().any(|(channel, _)| *channel == predictor);
        if value.is_none() && self.predictor.as_deref().is_some_and(|predictor| !is_named(predictor)) {
            task.skipped.unsized_inputs += 1;
        } else {
            task.add(self.records, observation, n, self.unsized_runs);
        }
        index
    }

    /// Checks the name of the predictor.
    ///
    /// # Errors
    /// If no parameter or channel has this name, or some values of the parameter are not numbers.
    pub fn check_predictor(&self) -> Result<(), PredictorError> {
        let Some(name) = self.predictor.clone() else { return Ok(()) };
        if let Some(value) = self.not_a_number.clone() {
            return Err(PredictorError::NotANumber { name, value });
        }
        if self.records > 0 && !self.known.contains(&name) {
            return Err(PredictorError::Unknown { name, known: self.known.iter().cloned().collect() });
        }
        Ok(())
    }

    /// The runs of each task.
    pub fn finish(self) -> Vec<Group> {
        self.finish_with_indices().0
    }

    /// The runs of each task, and the index in them of each index that [`Self::add`] returned.
    pub fn finish_with_indices(mut self) -> (Vec<Group>, Vec<usize>) {
        let indices = self.merge_by_parameter();
        let filter = MeasureFilter { channel: self.predictor, ..self.filter };
        (self.tasks.into_iter().map(|task| task.group(&filter)).collect(), indices)
    }

    /// Makes one task of those without inputs that differ in a numeric parameter only. Returns where each went.
    fn merge_by_parameter(&mut self) -> Vec<usize> {
        let mut by_name: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (index, task) in self.tasks.iter().enumerate().filter(|(_, task)| task.is_of_parameters()) {
            by_name.entry(task.name.clone()).or_default().push(index);
        }
        // The index of the task that each task joins.
        let mut joins: Vec<usize> = (0..self.tasks.len()).collect();
        for members in by_name.values() {
            let choices = members.iter().map(|index| (&self.tasks[*index].parameters, &self.tasks[*index].amounts));
            let Some(name) = numeric(&choices.collect::<Vec<_>>()) else { continue };
            let mut first: HashMap<BTreeMap<String, String>, usize> = HashMap::new();
            for index in members {
                let task = &mut self.tasks[*index];
                let n = value_of(&name, &task.parameters, &task.amounts).unwrap_or_default();
                task.parameters.remove(&name);
                task.parameter = Some(name.clone());
                task.runs.append(&mut task.without_input);
                task.runs.iter_mut().for_each(|run| run.n = n);
                task.skipped.unsized_inputs = 0;
                joins[*index] = *first.entry(task.parameters.clone()).or_insert(*index);
            }
        }
        self.join(&joins)
    }

    /// Joins tasks; returns the new index of each.
    fn join(&mut self, joins: &[usize]) -> Vec<usize> {
        let mut new = vec![0; joins.len()];
        let mut kept: Vec<TaskRuns> = Vec::new();
        for (index, task) in std::mem::take(&mut self.tasks).into_iter().enumerate() {
            if joins[index] == index {
                new[index] = kept.len();
                kept.push(task);
            } else {
                new[index] = new[joins[index]];
                kept[new[index]].join(task);
            }
        }
        self.tasks = kept;
        new
    }
}

/// The data of a task while its records are read.
#[derive(Debug, Default)]
struct TaskRuns {
    metric: Metric,
    name: Option<String>,
    parameters: BTreeMap<String, String>,
    /// The values of those parameters that set the limit of a runtime, as the runtime reads them.
    amounts: BTreeMap<String, Bytes>,
    /// The parameter that predicts the need, instead of the input.
    parameter: Option<String>,
    runs: Vec<Run>,
    /// Runs whose inputs have no known size, in case a parameter predicts the need.
    without_input: Vec<Run>,
    /// Runs whose inputs have no known size, if they are kept.
    unsized_runs: Vec<SizedRun>,
    inputs: Inputs,
    /// The index of each cell of a sweep, and of each command with its input of other runs, by their hash.
    cells: HashMap<u64, u32>,
    skipped: SkippedRuns,
    /// Number of runs with synthetic inputs.
    synthetic: usize,
    images: BTreeSet<String>,
    runtime: RuntimeLimits,
    /// The last prediction, and the last amount decided by the task's own `resources`.
    prediction: Option<Prediction>,
    resources: Option<Bytes>,
    /// What Docker and Kubernetes gave the runs; empty before the first prediction.
    docker: Vec<Option<Bytes>>,
    kubernetes: Vec<Option<Bytes>>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The record, counted from 1.
    line: u64,
    peak: Bytes,
    wall_us: u64,
    input: Input,
    /// The value of the parameter that predicts the need; 0 if none does.
    n: Bytes,
    censoring: Censoring,
    cell: u32,
    cache: PageCache,
    /// Whether other runs were on the same CPUs.
    is_disturbed: bool,
}

impl Run {
    /// The run as it is fitted.
    fn sized(&self, sizes: Vec<Bytes>) -> SizedRun {
        let wall_seconds = Some(self.wall_us as f64 / 1e6);
        SizedRun { sizes, peak: self.peak, censoring: self.censoring, wall_seconds }
    }
}

impl TaskRuns {
    /// Adds a record; `n` is the value of the parameter that predicts the need, if one does.
    fn add(&mut self, line: u64, observation: &Observation, n: Option<Bytes>, unsized_runs: bool) {
        let need = match self.metric {
            Metric::Peak => need(observation),
            Metric::Floor => floor(observation),
            Metric::Time => time(observation),
            Metric::Cpu => cpu(observation),
            Metric::Gpu => gpu(observation),
            Metric::Storage => storage(observation),
        };
        let count = match need {
            Ok(need) if n.is_some() || !channels(observation).is_empty() => {
                return self.keep(line, observation, &need, n);
            }
            Ok(need) => {
                if unsized_runs {
                    let Need { peak, censoring, wall_us } = need;
                    let wall_seconds = Some(wall_us as f64 / 1e6);
                    self.unsized_runs.push(SizedRun { sizes: Vec::new(), peak, censoring, wall_seconds });
                    return;
                }
                if !self.parameters.is_empty() {
                    let run = self.run(line, observation, &need, None);
                    self.without_input.push(run);
                }
                &mut self.skipped.unsized_inputs
            }
            Err(SkipReason::Failed) => &mut self.skipped.failed,
            Err(SkipReason::Skipped) => &mut self.skipped.without_work,
            Err(SkipReason::TimedOut) => &mut self.skipped.timed_out,
            Err(SkipReason::Interrupted) => &mut self.skipped.interrupted,
            Err(SkipReason::Unmeasured) => &mut self.skipped.unmeasured,
            Err(SkipReason::WithoutTime) => &mut self.skipped.without_time,
            Err(SkipReason::WithoutStorage) => &mut self.skipped.without_storage,
            Err(SkipReason::WithoutFloor) => &mut self.skipped.without_floor,
            Err(SkipReason::WithoutGpu) => &mut self.skipped.without_gpu,
        };
        *count += 1;
    }

    fn run(&mut self, line: u64, observation: &Observation, need: &Need, n: Option<Bytes>) -> Run {
        let input = self.inputs.add(observation);
        self.runtime.add(observation);
        let Need { peak, censoring, wall_us } = *need;
        let mut hasher = DefaultHasher::new();
        match &observation.sweep {
            Some(sweep) => sweep.cell.hash(&mut hasher),
            None => (&observation.subject.command, input).hash(&mut hasher),
        }
        let next = self.cells.len() as u32;
        let cell = *self.cells.entry(hasher.finish()).or_insert(next);
        let cache = PageCache::new(observation);
        let n = n.unwrap_or_default();
        let is_disturbed = observation.is_time_disturbed();
        Run { line, peak, wall_us, input, n, censoring, cell, cache, is_disturbed }
    }

    /// Whether memory is fitted, in which page cache and the limits of a runtime count.
    fn is_of_memory(&self) -> bool {
        self.metric.resource() == Resource::Memory
    }

    fn disturbed(&self) -> Option<Warning> {
        let runs = self.runs.iter().filter(|run| run.is_disturbed).count();
        (runs > 0 && matches!(self.metric, Metric::Time | Metric::Cpu))
            .then_some(Warning::TimesDisturbed { runs, of: self.runs.len() })
    }

    fn keep(&mut self, line: u64, observation: &Observation, need: &Need, n: Option<Bytes>) {
        let run = self.run(line, observation, need, n);
        self.runs.push(run);
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
        if !self.is_of_memory() {
            return None;
        }
        let plain = |place: &usize| self.runs[*place].censoring == Censoring::None;
        let mut by_cell: Vec<u32> = (0..self.runs.len()).filter(plain).map(|place| place as u32).collect();
        by_cell.sort_by_key(|place| self.runs[*place as usize].cell);
        let mut excess: BTreeMap<usize, Bytes> = BTreeMap::new();
        let cell = |place: u32| self.runs[place as usize].cell;
        for places in by_cell.chunk_by(|a, b| cell(*a) == cell(*b)) {
            let places = || places.iter().map(|place| *place as usize);
            let repeats: Vec<(Bytes, PageCache)> =
                places().map(|place| (self.runs[place].peak, self.runs[place].cache)).collect();
            excess.extend(places().zip(excesses(&repeats)).filter_map(|(place, bytes)| Some((place, bytes?))));
        }
        let most = *excess.values().max()?;
        let kept = |place: usize| !excess.contains_key(&place);
        retain(&mut self.runs, kept);
        retain(&mut self.docker, kept);
        retain(&mut self.kubernetes, kept);
        Some(Warning::PageCache { runs: excess.len(), most })
    }

    /// A warning about a run without a repeat that was probably a cold start.
    fn cold_start(&self, size: impl Fn(&Run) -> f64) -> Option<Warning> {
        if !self.is_of_memory() {
            return None;
        }
        let plain = || self.runs.iter().filter(|run| run.censoring == Censoring::None);
        let (place, file, others) = cold_start(plain().map(|run| (run.peak, run.cache, size(run))))?;
        let cold = plain().nth(place)?;
        let is_alone = plain().filter(|run| run.cell == cold.cell).count() == 1;
        is_alone.then_some(Warning::ColdStart { record: cold.line, file, others })
    }

    /// Whether it has no run with an input of known size, but parameters.
    fn is_of_parameters(&self) -> bool {
        self.runs.is_empty() && !self.without_input.is_empty()
    }

    /// Adds the runs of another choice of the parameter that predicts the need.
    fn join(&mut self, other: Self) {
        let mut cells = vec![0; other.cells.len()];
        for (hash, index) in other.cells {
            let next = self.cells.len() as u32;
            cells[index as usize] = *self.cells.entry(hash).or_insert(next);
        }
        self.runs.extend(other.runs.into_iter().map(|run| Run { cell: cells[run.cell as usize], ..run }));
        self.runs.sort_unstable_by_key(|run| run.line);
        let SkippedRuns {
            failed,
            without_work,
            timed_out,
            interrupted,
            unmeasured,
            unsized_inputs,
            without_time,
            without_floor,
            without_gpu,
            without_storage,
        } = other.skipped;
        self.skipped.failed += failed;
        self.skipped.without_work += without_work;
        self.skipped.timed_out += timed_out;
        self.skipped.interrupted += interrupted;
        self.skipped.unmeasured += unmeasured;
        self.skipped.unsized_inputs += unsized_inputs;
        self.skipped.without_time += without_time;
        self.skipped.without_floor += without_floor;
        self.skipped.without_gpu += without_gpu;
        self.skipped.without_storage += without_storage;
        self.unsized_runs.extend(other.unsized_runs);
        self.images.extend(other.images);
        self.runtime.join(other.runtime);
    }

    /// The runs of the task.
    fn group(mut self, filter: &MeasureFilter) -> Group {
        if let Some(name) = self.parameter.take() {
            return self.group_by_parameter(name);
        }
        let cached = self.remove_cached();
        let measures = self.inputs.measures(self.runs.iter().map(|run| run.input), filter);
        let sizes = |run: &Run| measures.iter().map(|(_, sources)| self.inputs.value(run.input, sources)).collect();
        let runs: Vec<SizedRun> = self.runs.iter().map(|run| run.sized(sizes(run))).collect();
        let measures: Vec<Measure> = measures.into_iter().map(|(measure, _)| measure).collect();
        let cold = self.cold_start(|run| self.inputs.all_bytes(run.input));
        let mut warnings: Vec<Warning> = cached.into_iter().chain(cold).collect();
        warnings.extend((self.synthetic > 0).then_some(Warning::Synthetic { runs: self.synthetic }));
        warnings.extend((self.images.len() > 1).then_some(Warning::SeveralImages { images: self.images.len() }));
        warnings.extend(self.disturbed());
        if self.is_of_memory() {
            warnings.extend(self.runtime.warning(None));
        }
        let declared = self.declared();
        let mut group = Group {
            resource: self.metric.resource(),
            task: self.name,
            parameters: self.parameters,
            parameter: None,
            table: RunTable { predictors: measures.iter().map(Measure::to_string).collect(), runs },
            measures,
            unsized_runs: self.unsized_runs,
            lines: self.runs.iter().map(|run| run.line).collect(),
            recorded: true,
            declared,
            skipped: self.skipped,
            warnings,
            workflow: None,
        };
        group.warn_of_lower_bounds();
        group
    }

    fn group_by_parameter(mut self, name: String) -> Group {
        (self.docker, self.kubernetes) = (Vec::new(), Vec::new());
        let cached = self.remove_cached();
        let cold = self.cold_start(|run| run.n.0 as f64);
        let limited = self.runtime.warning(Some(&name)).filter(|_| self.is_of_memory());
        let disturbed = self.disturbed();
        let runs = self.runs.iter().map(|run| run.sized(vec![run.n]));
        let mut group = Group {
            resource: self.metric.resource(),
            task: self.name,
            parameters: self.parameters,
            table: RunTable { predictors: vec![format!("parameter {name}")], runs: runs.collect() },
            parameter: Some(name),
            measures: Vec::new(),
            unsized_runs: Vec::new(),
            lines: self.runs.iter().map(|run| run.line).collect(),
            recorded: true,
            declared: None,
            skipped: self.skipped,
            warnings: cached.into_iter().chain(cold).chain(disturbed).chain(limited).collect(),
            workflow: None,
        };
        group.warn_of_lower_bounds();
        group
    }

    fn declared(&mut self) -> Option<Declared> {
        let last = self.prediction.take().filter(|_| self.is_of_memory())?;
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
