//! Runs from records: what of an observation speaks about the need of the task, and by what its input can be measured.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::fit::{Censoring, Measure, RunTable, SizedRun};
use crate::model::observation::{Exactness, InputSizes, Observation, Outcome};
use crate::model::prediction::{ChannelPrediction, ChannelSize, Decider, Sizes};
use crate::model::reading::Reading;
use crate::model::rule::{Mode, RuleType};
use crate::model::task::ChannelKind;
use crate::model::units::Bytes;

use super::Warning;
use super::group::{Declared, Group, LeftOut};

/// Files of more extensions than this are not looked at each for itself.
const MOST_EXTENSIONS: usize = 6;
const MODES: [Mode; 3] = [Mode::Sum, Mode::MaxFileSize, Mode::MaxItemSum];

/// What of a run is fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum On {
    /// The most memory it used, with what the kernel could have taken back.
    #[default]
    Peak,
    /// The smallest limit that was found to be enough.
    Floor,
}

/// Sorts records into the runs of each task, in the order of their first run.
///
/// Each choice of parameters is a task of its own unless they are `pooled`. Runs that say nothing about the need are
/// counted in [`Group::left_out`].
pub fn groups(observations: &[Observation], on: On, pooled: bool) -> Vec<Group> {
    let mut tasks: Vec<Gathered<'_>> = Vec::new();
    for (place, observation) in observations.iter().enumerate() {
        let name = name(observation);
        let parameters = observation.sweep.as_ref().map(|sweep| sweep.parameters.clone()).filter(|_| !pooled);
        let parameters = parameters.unwrap_or_default();
        let known = tasks.iter_mut().position(|task| task.name == name && task.parameters == parameters);
        let known = known.unwrap_or_else(|| {
            tasks.push(Gathered { name, parameters, ..Gathered::default() });
            tasks.len() - 1
        });
        tasks[known].add(place, observation, on);
    }
    tasks.into_iter().map(Gathered::group).collect()
}

/// The task's name; the program where it has none.
fn name(observation: &Observation) -> Option<String> {
    let subject = &observation.subject;
    subject.name.clone().or_else(|| subject.command.first().cloned())
}

/// What a run says about the need.
struct Said {
    peak: Bytes,
    censoring: Censoring,
}

#[derive(Default)]
struct Gathered<'a> {
    name: Option<String>,
    parameters: BTreeMap<String, String>,
    runs: Vec<(usize, &'a Observation, Said)>,
    left_out: LeftOut,
}

impl<'a> Gathered<'a> {
    fn add(&mut self, place: usize, observation: &'a Observation, on: On) {
        let said = match on {
            On::Peak => said(observation),
            On::Floor => floor(observation),
        };
        let count = match said {
            Ok(_) if channels(observation).is_empty() => &mut self.left_out.unsized_inputs,
            Ok(said) => return self.runs.push((place, observation, said)),
            Err(Silent::Failed) => &mut self.left_out.failed,
            Err(Silent::TimedOut) => &mut self.left_out.timed_out,
            Err(Silent::Interrupted) => &mut self.left_out.interrupted,
            Err(Silent::Unmeasured) => &mut self.left_out.unmeasured,
            Err(Silent::WithoutFloor) => &mut self.left_out.without_floor,
        };
        *count += 1;
    }

    fn group(self) -> Group {
        let observations: Vec<&Observation> = self.runs.iter().map(|(_, observation, _)| *observation).collect();
        let (measures, columns) = measured(&observations);
        let runs = self.runs.iter().enumerate().map(|(row, (_, observation, said))| SizedRun {
            sizes: columns.iter().map(|column| column[row]).collect(),
            peak: said.peak,
            censoring: said.censoring,
            wall_seconds: Some(observation.wall_us as f64 / 1e6),
        });
        let table = RunTable { predictors: measures.iter().map(Measure::to_string).collect(), runs: runs.collect() };
        let mut warnings = Vec::new();
        warnings.extend(made_up(&observations));
        warnings.extend(images(&observations));
        let mut group = Group {
            task: self.name,
            parameters: self.parameters,
            measures,
            lines: self.runs.iter().map(|(place, _, _)| *place as u64 + 1).collect(),
            recorded: true,
            declared: declared(&observations),
            left_out: self.left_out,
            warnings,
            table,
            workflow: None,
        };
        group.warn_of_lower_bounds();
        group
    }
}

/// Why a run says nothing.
enum Silent {
    Failed,
    TimedOut,
    Interrupted,
    Unmeasured,
    WithoutFloor,
}

/// The record of the last run of a search has what was found; the others are steps on the way.
fn floor(observation: &Observation) -> Result<Said, Silent> {
    let floor = observation.floor.as_ref().ok_or(Silent::WithoutFloor)?;
    Ok(Said { peak: floor.bytes, censoring: Censoring::None })
}

fn said(observation: &Observation) -> Result<Said, Silent> {
    let kills = match observation.events {
        Reading::Value(events) => events.oom_kills.value().is_some_and(|kills| kills > 0),
        Reading::Unsupported | Reading::Gone => false,
    };
    let killed = match observation.outcome {
        Outcome::OomKilled => true,
        // A task that loses a process for lack of memory often ends with a status of its own.
        Outcome::Exited { status } => status != 0 && observation.censored && kills,
        Outcome::Signalled { .. } => observation.censored && kills,
        Outcome::TimedOut { .. } | Outcome::Interrupted { .. } | Outcome::EngineLost => false,
    };
    let peak = observation.peak.as_ref().value();
    if killed {
        // It wanted more than it was allowed; its counter may stop short of the limit.
        let limit = observation.limit.own.value().flatten();
        let bound = peak.map(|peak| peak.bytes).max(limit).ok_or(Silent::Unmeasured)?;
        return Ok(Said { peak: bound, censoring: Censoring::OomKilled });
    }
    match observation.outcome {
        Outcome::Exited { status: 0 } => {}
        Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::OomKilled => return Err(Silent::Failed),
        Outcome::TimedOut { .. } => return Err(Silent::TimedOut),
        Outcome::Interrupted { .. } | Outcome::EngineLost => return Err(Silent::Interrupted),
    }
    let peak = peak.filter(|peak| peak.bytes > Bytes::ZERO).ok_or(Silent::Unmeasured)?;
    let censoring = match (observation.censored, &peak.exactness) {
        (true, _) => Censoring::LimitReached,
        (false, Exactness::LowerBound { .. }) => Censoring::LowerBound,
        (false, Exactness::Exact { .. }) => Censoring::None,
    };
    Ok(Said { peak: peak.bytes, censoring })
}

/// The input channels whose sizes are known, and these.
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

/// The measures that every run can be given a size by, the preferred first, and the sizes, a column for each of them.
fn measured(observations: &[&Observation]) -> (Vec<Measure>, Vec<Vec<Bytes>>) {
    let mut kept: Vec<(Measure, Vec<Bytes>)> = Vec::new();
    for measure in candidates(observations) {
        let column: Option<Vec<Bytes>> = observations.iter().map(|run| size(run, &measure)).collect();
        // What says the same as another one, as the largest of one file, is no candidate of its own.
        if let Some(column) = column
            && kept.iter().all(|(_, known)| *known != column)
        {
            kept.push((measure, column));
        }
    }
    kept.into_iter().unzip()
}

fn candidates(observations: &[&Observation]) -> Vec<Measure> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in observations.iter().flat_map(|run| channels(run)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut candidates: Vec<Measure> = Vec::new();
    let mut consider = |measure: Measure| {
        if !candidates.contains(&measure) {
            candidates.push(measure);
        }
    };
    // What the rule of today counts comes first: where nothing is better, it stays.
    for name in &names {
        for rule in observations.iter().filter_map(|run| rule_of(run, name)) {
            consider(Measure::counted_by(&rule.scale_rule, *name, rule.scale_rule.mode));
        }
    }
    for name in &names {
        MODES.into_iter().for_each(|mode| consider(Measure::all(*name, mode)));
    }
    for name in &names {
        for rule in observations.iter().filter_map(|run| rule_of(run, name)) {
            MODES.into_iter().for_each(|mode| consider(Measure::counted_by(&rule.scale_rule, *name, mode)));
        }
        for extension in extensions(observations, name) {
            let glob = Some(format!("*.{extension}"));
            let of = |mode| Measure { target_glob: glob.clone(), ..Measure::all(*name, mode) };
            MODES.into_iter().for_each(|mode| consider(of(mode)));
        }
    }
    candidates
}

fn rule_of<'a>(run: &'a Observation, channel: &str) -> Option<&'a crate::model::prediction::RulePrediction> {
    predicted(run).find(|one| one.kind == ChannelKind::Input && one.name == channel)?.rule.as_ref()
}

/// The extensions that most bytes have.
fn extensions(observations: &[&Observation], channel: &str) -> Vec<String> {
    let mut bytes: BTreeMap<&str, Bytes> = BTreeMap::new();
    for input in observations.iter().flat_map(|run| &run.inputs).filter(|input| input.channel == channel) {
        for (extension, sizes) in &input.by_extension {
            let sum = bytes.entry(extension).or_default();
            *sum = sum.saturating_add(sizes.sum);
        }
    }
    let mut most: Vec<(&str, Bytes)> = bytes.into_iter().filter(|(name, _)| is_plain(name)).collect();
    most.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    most.into_iter().take(MOST_EXTENSIONS).map(|(extension, _)| extension.to_owned()).collect()
}

/// Whether a pattern with these characters means these characters.
fn is_plain(extension: &str) -> bool {
    !extension.is_empty() && !extension.contains(['*', '?', '[', ']', '/', '\\'])
}

fn size(run: &Observation, measure: &Measure) -> Option<Bytes> {
    let channel = measure.channel.as_deref()?;
    if !measure.is_narrowed() {
        return channels(run).into_iter().find(|(name, _)| *name == channel).map(|(_, all)| all.n(measure.mode));
    }
    if let Some(rule) = rule_of(run, channel)
        && Measure::counted_by(&rule.scale_rule, channel, measure.mode) == *measure
        && let Some(selected) = &rule.selected
    {
        return Some(selected.n(measure.mode));
    }
    let input = run.inputs.iter().find(|input| input.channel == channel)?;
    extension(measure).and_then(|extension| by_extension(input, extension)).map(|sizes| sizes.n(measure.mode))
}

/// The extension that a measure looks at, where it looks at one and at nothing else.
fn extension(measure: &Measure) -> Option<&str> {
    let alone = measure.target_dir.is_none() && measure.target_regex.is_none();
    measure.target_glob.as_deref().filter(|_| alone)?.strip_prefix("*.").filter(|extension| is_plain(extension))
}

fn by_extension(input: &InputSizes, extension: &str) -> Option<Sizes> {
    match input.by_extension.get(extension) {
        Some(sizes) => Some(sizes.clone()),
        // Nobody told the extensions apart.
        None if input.by_extension.is_empty() && input.all.files > 0 => None,
        None => Some(Sizes::default()),
    }
}

fn made_up(observations: &[&Observation]) -> Option<Warning> {
    let runs = observations.iter().filter(|run| run.sweep.as_ref().is_some_and(|sweep| sweep.synthetic)).count();
    (runs > 0).then_some(Warning::Synthetic { runs })
}

fn images(observations: &[&Observation]) -> Option<Warning> {
    let container = |run: &&Observation| run.container.as_ref().and_then(|container| container.image_id.clone());
    let images: BTreeSet<String> = observations.iter().filter_map(container).collect();
    (images.len() > 1).then_some(Warning::SeveralImages { images: images.len() })
}

fn declared(observations: &[&Observation]) -> Option<Declared> {
    let last = observations.iter().rev().find_map(|run| run.prediction.as_ref())?;
    let rules: Vec<_> = last
        .channels
        .iter()
        .filter(|channel| channel.kind == ChannelKind::Input)
        .filter_map(|channel| Some((channel, &channel.rule.as_ref()?.scale_rule)))
        .filter(|(_, rule)| rule.applies_to == RuleType::Limit)
        .collect();
    let floor =
        observations.iter().rev().filter_map(|run| run.prediction.as_ref()?.docker.limit.as_ref()).find_map(|limit| {
            match limit.decided_by {
                Decider::Resources => Some(limit.bytes.to_string()),
                Decider::Rule { .. } => None,
            }
        });
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
    let of = |limit: fn(&crate::model::prediction::Prediction) -> Option<Bytes>| {
        observations.iter().map(|run| run.prediction.as_ref().and_then(limit)).collect()
    };
    let docker: Vec<Option<Bytes>> = of(|prediction| prediction.docker.limit.as_ref().map(|limit| limit.bytes));
    let any = last.channels.iter().find_map(|channel| channel.rule.as_ref());
    Some(Declared {
        words,
        dialect: any.map(|rule| rule.scale_rule.formula.dialect()),
        template: last.task.template.clone(),
        kubernetes: of(|prediction| prediction.kubernetes.limit.as_ref().map(|limit| limit.bytes)),
        docker,
    })
}
