//! Groups records into the cells of the checked tasks.

use std::collections::BTreeMap;

use super::amount::amount;
use super::growth::Scatter;
use crate::model::check::baseline::{BaselineHost, BaselineTask, words};
use crate::model::check::config::{Config, InputConfig, ONLY_CELL, TaskConfig, WorkloadSpec};
use crate::model::check::report::{Allowed, AllowedBy, Sample, Samples};
use crate::model::fit::{FittedRule, Resource};
use crate::model::observation::{Exactness, Observation, Outcome, Peak, PeakSource};
use crate::model::prediction::{ChannelPrediction, Decider};
use crate::model::reading::Reading;
use crate::model::rule::{Formula, Mode, RuleType};
use crate::model::task::ChannelKind;
use crate::model::units::Bytes;

/// The runs of a task, by cell.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskRuns {
    /// The hosts they ran on, each once, that of the first run first. Whether peaks are exact there is not recorded.
    pub(super) hosts: Vec<BaselineHost>,
    pub(super) cells: BTreeMap<String, CellRuns>,
    /// Number of runs.
    pub(super) count: usize,
}

/// The runs of a cell.
#[derive(Clone, Debug, Default)]
pub(super) struct CellRuns {
    /// The sizes of its input, by predictor.
    pub(super) sizes: BTreeMap<String, Bytes>,
    /// Peaks of uncensored runs, batch by batch.
    pub(super) rounds: Vec<Vec<Sample>>,
    /// Runs that failed.
    pub(super) failed: Vec<Failed>,
    /// The last lines of stderr of the first of them, if known.
    pub(super) stderr: Option<String>,
    /// Number of censored runs.
    pub(super) censored: usize,
    /// The most memory that the processes of a censored run were seen to hold.
    pub(super) censored_at_least: Option<Bytes>,
    /// Number of successful runs whose peak could not be read.
    pub(super) unmeasured: usize,
    /// Why the first lower bound is one.
    pub(super) inexact: Option<Inexact>,
    /// The error bound of the peaks.
    pub(super) error_bound: Bytes,
    /// What the runs used of other resources that are compared, batch by batch.
    pub(super) resources: BTreeMap<Resource, Vec<Vec<Sample>>>,
    /// The smallest allowance from the task's own limits and rules.
    declared: Option<Allowed>,
    /// The rule for the limit that the task declares, with its channel; absent if several inputs have one.
    pub(super) rule: Option<(String, Formula)>,
}

/// Why a peak is a lower bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inexact {
    /// The obstacle to an exact peak.
    pub(super) reason: String,
    /// How to make it exact.
    pub(super) remedy: String,
}

/// A run that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    outcome: Outcome,
    peak: Option<Bytes>,
}

impl Failed {
    pub(super) fn words(self) -> String {
        let in_use = self.peak.filter(|_| self.outcome == Outcome::OomKilled);
        let in_use = in_use.map(|peak| format!(" with {peak} in use")).unwrap_or_default();
        format!("{}{in_use}", self.outcome.words())
    }

    pub(super) fn remedy(self) -> &'static str {
        match self.outcome {
            Outcome::Exited { .. } | Outcome::Skipped { .. } | Outcome::Signalled { .. } => {
                "make the task succeed first (`highwater run` shows its output); a failed run does not show the need"
            }
            Outcome::OomKilled => "raise its limit, or use a smaller input",
            Outcome::TimedOut { .. } => "raise `timeout` in highwater.toml",
            Outcome::Interrupted { .. } | Outcome::EngineLost | Outcome::Lost => "run the check again",
        }
    }
}

impl TaskRuns {
    pub(super) fn add(&mut self, task: &TaskConfig, round: usize, observation: &Observation, stderr: Option<&str>) {
        self.count += 1;
        let host = BaselineHost::from_observation(observation, false);
        if !self.hosts.contains(&host) {
            self.hosts.push(host);
        }
        let cell = cell_name(task, observation);
        match self.cells.get_mut(&cell) {
            Some(runs) => runs.add(task, round, observation, stderr),
            None => self.cells.entry(cell).or_default().add(task, round, observation, stderr),
        }
    }

    /// The error bound of the peaks.
    pub(super) fn error_bound(&self) -> Bytes {
        self.cells.values().map(|runs| runs.error_bound).max().unwrap_or(Bytes::ZERO)
    }

    /// The scatter of repeated runs, now and in the baseline.
    pub(super) fn scatter(&self, then: Option<&BaselineTask>) -> Scatter {
        let now: Vec<Samples> = self.cells.values().filter_map(CellRuns::samples).collect();
        let then = then.iter().flat_map(|then| then.cells.values()).map(|cell| cell.samples.peaks.as_slice());
        Scatter::pooled(now.iter().map(|samples| samples.peaks.as_slice()).chain(then))
    }

    /// The host of the first run.
    pub(super) fn host(&self) -> Option<BaselineHost> {
        let exact = self.cells.values().filter_map(CellRuns::samples).all(|samples| samples.is_exact());
        self.hosts.first().map(|host| BaselineHost { exact, ..host.clone() })
    }
}

impl CellRuns {
    fn add(&mut self, task: &TaskConfig, round: usize, observation: &Observation, stderr: Option<&str>) {
        if self.sizes.is_empty() {
            self.sizes = sizes(observation);
            self.rule = rule(observation);
        }
        if self.rounds.len() <= round {
            self.rounds.resize(round + 1, Vec::new());
        }
        if let Some(declared) = declared(observation)
            && self.declared.as_ref().is_none_or(|known| declared.bytes < known.bytes)
        {
            self.declared = Some(declared);
        }
        let peak = peak(observation);
        match observation.outcome {
            Outcome::Exited { status: 0 } => {}
            // It had nothing to do, which says nothing about its need.
            Outcome::Skipped { .. } => return,
            // How it would have ended is unknown, and it is not the task's fault.
            Outcome::Interrupted { .. } | Outcome::EngineLost | Outcome::Lost => return,
            outcome @ (Outcome::Exited { .. }
            | Outcome::Signalled { .. }
            | Outcome::OomKilled
            | Outcome::TimedOut { .. }) => {
                if self.failed.is_empty() {
                    self.stderr = stderr.map(str::to_owned);
                }
                self.failed.push(Failed { outcome, peak: peak.map(|peak| peak.bytes) });
                return;
            }
        }
        for (resource, _) in task.thresholds.resources.compared() {
            let rounds = self.resources.entry(resource).or_default();
            rounds.resize(rounds.len().max(round + 1), Vec::new());
            // A run that was held back, by others or by a limit, does not show what it takes alone.
            let is_own = !observation.is_time_disturbed() && !observation.censored;
            rounds[round].extend(amount(resource, observation).filter(|_| is_own).map(Sample::exact));
        }
        let Some(peak) = peak else {
            self.unmeasured += 1;
            return;
        };
        if observation.censored {
            self.censored += 1;
            // What its processes held they did need, whatever a limit kept from them.
            if peak.source == PeakSource::SampledProcesses {
                self.censored_at_least = self.censored_at_least.max(Some(peak.bytes));
            }
            return;
        }
        let sample = Sample::from(peak);
        match &peak.exactness {
            Exactness::Exact { error_bound_bytes } => self.error_bound = self.error_bound.max(*error_bound_bytes),
            Exactness::LowerBound { reason, remedy } if !sample.is_exact() => {
                self.inexact.get_or_insert_with(|| Inexact {
                    reason: reason.clone(),
                    remedy: format!("to get exact peaks: {remedy}"),
                });
            }
            Exactness::LowerBound { .. } => {}
        }
        self.rounds[round].push(sample);
    }

    pub(super) fn peaks(&self) -> Vec<Sample> {
        self.rounds.concat()
    }

    pub(super) fn samples(&self) -> Option<Samples> {
        Samples::new(self.peaks())
    }

    /// The limit in the task's resources, where no rule asks for more.
    pub(super) fn limit_of_resources(&self) -> Option<Bytes> {
        self.declared.as_ref().filter(|allowed| allowed.by == AllowedBy::Limit).map(|allowed| allowed.bytes)
    }

    /// The smallest of its allowances: its budget, the task's limits and rules, the rule in highwater.toml.
    pub(super) fn allowed(&self, task: &TaskConfig, cell: &str) -> Option<Allowed> {
        let budget = task.budget_of(cell).map(|bytes| Allowed { bytes, by: AllowedBy::Budget });
        let n = self.sizes.iter().find(|(name, _)| is_sum(name)).map(|(_, n)| *n);
        // A constant needs no size.
        let n = |rule: &FittedRule| n.or(Some(Bytes::ZERO).filter(|_| rule.coefficient == 0.0));
        let rule = task.rule.as_ref().and_then(|rule| Some((rule, n(rule)?)));
        let rule = rule.map(|(rule, n)| {
            let by = AllowedBy::Rule { rule: words(rule) };
            Allowed { bytes: rule.limit(n), by }
        });
        [budget, self.declared.clone(), rule].into_iter().flatten().min_by_key(|allowed| allowed.bytes)
    }
}

pub(super) fn is_sum(name: &str) -> bool {
    name.ends_with(".sum")
}

fn peak(observation: &Observation) -> Option<&Peak> {
    match &observation.peak {
        Reading::Value(peak) => Some(peak),
        Reading::Unsupported | Reading::Gone => None,
    }
}

/// What the platform gives the task by its own limits and rules, as passed to Docker: without a margin.
fn declared(observation: &Observation) -> Option<Allowed> {
    let prediction = observation.prediction.as_ref()?;
    let limit = prediction.docker.limit.as_ref()?;
    let by = match &limit.decided_by {
        Decider::Resources => AllowedBy::Limit,
        Decider::Rule { channel } => {
            let rule = prediction.channels.iter().find(|of| of.name == *channel).and_then(|of| of.rule.as_ref());
            let rule = rule.map_or_else(|| format!("of {channel}"), |rule| rule.scale_rule.formula.canonical());
            AllowedBy::Rule { rule }
        }
    };
    Some(Allowed { bytes: limit.bytes, by })
}

/// The only rule for the limit, and its channel.
fn rule(observation: &Observation) -> Option<(String, Formula)> {
    let inputs = observation.prediction.iter().flat_map(|prediction| &prediction.channels);
    let inputs = inputs.filter(|channel| channel.kind == ChannelKind::Input);
    let rules = inputs.filter_map(|channel| Some((channel, &channel.rule.as_ref()?.scale_rule)));
    let mut rules = rules.filter(|(_, rule)| rule.applies_to == RuleType::Limit);
    let (channel, rule) = rules.next()?;
    rules.next().is_none().then(|| (channel.name.clone(), rule.formula.clone()))
}

/// The sizes by every possible predictor.
fn sizes(observation: &Observation) -> BTreeMap<String, Bytes> {
    let mut sizes = BTreeMap::new();
    for input in &observation.inputs {
        let mut add = |mode: Mode| sizes.insert(format!("{}.{mode}", input.channel), input.all.n(mode));
        add(Mode::Sum);
        if input.all.largest_file.is_some() {
            add(Mode::MaxFileSize);
        }
        if input.all.largest_item.is_some() {
            add(Mode::MaxItemSum);
        }
    }
    let channels = observation.prediction.iter().flat_map(|prediction| &prediction.channels);
    let of_rule = |channel: &ChannelPrediction| channel.rule.as_ref().and_then(|rule| rule.n);
    for channel in channels.filter(|channel| channel.kind == ChannelKind::Input) {
        sizes.extend(of_rule(channel).map(|n| (format!("{}.rule", channel.name), n)));
    }
    sizes
}

/// The name of the cell that a run belongs to.
pub fn cell_name(task: &TaskConfig, observation: &Observation) -> String {
    if let Some(sweep) = &observation.sweep {
        if task.inputs.iter().any(|input| input.name == sweep.case) {
            return sweep.case.clone();
        }
        let parameters = sweep.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        let case = Some(sweep.case.clone()).filter(|case| !case.is_empty());
        let parts: Vec<String> = case.into_iter().chain(parameters).collect();
        return if parts.is_empty() { ONLY_CELL.to_owned() } else { parts.join(", ") };
    }
    let command = &observation.subject.command;
    if let WorkloadSpec::Command(words) | WorkloadSpec::Image(_, words) = &task.workload
        && let Some(input) = task.inputs.iter().find(|input| input.words(words) == *command)
    {
        return input.name.clone();
    }
    let sums: Vec<String> = observation
        .inputs
        .iter()
        .filter(|input| input.all.files > 0)
        .map(|input| format!("{}={}", input.channel, input.all.sum.0))
        .collect();
    match (sums.as_slice(), task.inputs.is_empty(), &task.workload) {
        ([_, ..], _, _) => sums.join(", "),
        ([], true, WorkloadSpec::Command(words)) if words.is_empty() && command.len() > 1 => command[1..].join(" "),
        ([], _, _) => ONLY_CELL.to_owned(),
    }
}

impl InputConfig {
    /// The words of a command with its placeholders replaced for this input.
    pub fn words(&self, command: &[String]) -> Vec<String> {
        let path = self.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let filled = |word: &String| {
            let word = path.iter().fold(word.clone(), |word, path| word.replace("{input}", path));
            self.parameters.iter().fold(word, |word, (name, value)| word.replace(&format!("{{{name}}}"), value))
        };
        command.iter().map(filled).collect()
    }
}

/// Finds the task of a record. `names` maps the name of a checked task to the name in its task.json.
pub(super) fn task_of<'a>(
    config: &'a Config,
    names: &BTreeMap<String, String>,
    observation: &Observation,
) -> Option<&'a TaskConfig> {
    config.tasks.iter().find(|task| is_of(task, names.get(&task.name), observation))
}

/// The task name in a record: its name, or the program.
pub fn called(observation: &Observation) -> String {
    let subject = &observation.subject;
    let program = || subject.command.first().map(|word| word.rsplit('/').next().unwrap_or(word).to_owned());
    let image = || observation.container.as_ref().map(|container| container.image.clone());
    subject.name.clone().or_else(program).or_else(image).unwrap_or_else(|| "nameless".to_owned())
}

fn is_of(task: &TaskConfig, name: Option<&String>, observation: &Observation) -> bool {
    let subject = &observation.subject;
    if subject.name.as_ref() == Some(&task.name) || (name.is_some() && subject.name.as_ref() == name) {
        return true;
    }
    if subject.name.is_some() {
        return false;
    }
    match &task.workload {
        WorkloadSpec::Task(_) => false,
        WorkloadSpec::Command(words) if words.is_empty() => called(observation) == task.name,
        WorkloadSpec::Command(words) => fits(words, &subject.command),
        WorkloadSpec::Image(image, _) => {
            observation.container.as_ref().is_some_and(|container| container.image == *image)
        }
    }
}

/// Whether a command matches these words, with anything in place of the placeholders.
fn fits(words: &[String], command: &[String]) -> bool {
    let fits = |(word, found): (&String, &String)| match (word.find('{'), word.rfind('}')) {
        (Some(open), Some(close)) if open < close => {
            found.len() >= word.len() - (close - open + 1)
                && found.starts_with(&word[..open])
                && found.ends_with(&word[close + 1..])
        }
        (_, _) => word == found,
    };
    words.len() == command.len() && words.iter().zip(command).all(fits)
}

/// What has changed between two inputs, by predictor.
pub(super) fn differences(then: &BTreeMap<String, Bytes>, now: &BTreeMap<String, Bytes>) -> String {
    let amount =
        |bytes: Option<&Bytes>| bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} bytes", bytes.0));
    let names: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let other = names.into_iter().filter(|name| then.get(*name) != now.get(*name));
    let told = other.map(|name| format!("{name} was {}, is {}", amount(then.get(name)), amount(now.get(name))));
    told.collect::<Vec<_>>().join("; ")
}
