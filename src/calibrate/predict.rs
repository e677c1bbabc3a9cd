//! Evaluates the rules of a task on its inputs.

use std::path::Path;

use crate::calibrate::resolve::followed;
use crate::model::prediction::{
    ChannelPrediction, ChannelSize, Demand, DockerPrediction, Excluded, KubernetesPrediction, Named, Prediction,
    RulePrediction, SCHEMA_VERSION, Sizes, TaskName, docker, kubernetes,
};
use crate::model::problem::one_line;
use crate::model::rule::{EvalError, Mode, RuleType, ScaleRule};
use crate::model::selection::{Selection, SelectionError};
use crate::model::task::{Channel, ChannelKind, Task};
use crate::model::units::Bytes;
use crate::tree::{self, Listing, Options, Reason, Survey, Totals, TreeError};

/// Why a prediction failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PredictError {
    /// The survey of a channel was cancelled, or is incomplete but must not be.
    #[error("failed to determine the size of the channel {channel}")]
    Survey {
        /// The channel.
        channel: String,
        /// The reason.
        #[source]
        source: TreeError,
    },
    /// A rule that was not read from a document has invalid patterns.
    #[error("failed to read the scale rule of the channel {channel}")]
    Selection {
        /// The channel.
        channel: String,
        /// The reason.
        #[source]
        source: SelectionError,
    },
}

/// Measures the sizes of all inputs and evaluates their rules. A channel that cannot be read has no size, its rule no
/// value, and the prediction is incomplete.
///
/// # Errors
/// If a survey was cancelled, or is strict and skipped something.
pub fn predict(task: &Task, options: &Options<'_>) -> Result<Prediction, PredictError> {
    predict_with(task, &|channel| survey(channel, options))
}

/// Like [`predict`], with given listings for inputs that need not exist; other channels are surveyed.
///
/// # Errors
/// As for [`predict`].
pub fn predict_listed<'a>(
    task: &Task,
    listing: &dyn Fn(&Channel) -> Option<&'a Listing>,
) -> Result<Prediction, PredictError> {
    predict_with(task, &|channel| match listing(channel) {
        Some(listing) => listed(channel, listing),
        None => survey(channel, &Options::default()),
    })
}

fn predict_with(
    task: &Task,
    survey: &dyn Fn(&Channel) -> Result<Surveyed, PredictError>,
) -> Result<Prediction, PredictError> {
    let channels: Vec<Predicted> =
        task.channels.iter().map(|channel| self::channel(channel, survey)).collect::<Result<_, _>>()?;
    let complete = channels.iter().all(|predicted| predicted.complete);
    let channels: Vec<ChannelPrediction> = channels.into_iter().map(|predicted| predicted.channel).collect();
    let demand = |base: Option<Bytes>, of: RuleType| Demand {
        base,
        rules: channels.iter().filter_map(|channel| asked(channel, of)).collect(),
    };
    let limit = demand(task.resources.limits.memory(), RuleType::Limit);
    let request = demand(task.resources.requests.memory(), RuleType::Request);
    Ok(Prediction {
        schema_version: SCHEMA_VERSION,
        task: TaskName {
            name: task.name.clone(),
            image: task.image.clone(),
            template: task.template.clone(),
            digest: task.digest(),
        },
        docker: DockerPrediction { limit: docker(&limit) },
        kubernetes: KubernetesPrediction { limit: kubernetes(&limit), request: kubernetes(&request) },
        channels,
        complete,
    })
}

/// What the rule of a channel requests. The rules of outputs are never applied.
fn asked(channel: &ChannelPrediction, of: RuleType) -> Option<(&str, Bytes)> {
    let rule = channel.rule.as_ref().filter(|rule| rule.scale_rule.applies_to == of)?;
    (channel.kind == ChannelKind::Input).then_some((channel.name.as_str(), rule.value?))
}

struct Predicted {
    channel: ChannelPrediction,
    /// Whether the amount that the rule requests is known.
    complete: bool,
}

fn channel(
    channel: &Channel,
    survey: &dyn Fn(&Channel) -> Result<Surveyed, PredictError>,
) -> Result<Predicted, PredictError> {
    let surveyed = match channel.kind {
        ChannelKind::Input => survey(channel)?,
        ChannelKind::Output => Surveyed { size: ChannelSize::NotSurveyed, selected: None },
    };
    let mut complete = true;
    let rule = channel.rule.as_ref().map(|rule| match channel.kind {
        ChannelKind::Input => {
            let (predicted, known) = evaluate(rule, surveyed.selected);
            complete = known;
            predicted
        }
        ChannelKind::Output => RulePrediction {
            problem: Some("ignored: only inputs have scale rules".to_owned()),
            ..RulePrediction::without_value(rule.clone())
        },
    });
    let host_path = channel.host_path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let (name, kind) = (channel.name.clone(), channel.kind);
    Ok(Predicted { channel: ChannelPrediction { name, kind, host_path, size: surveyed.size, rule }, complete })
}

/// The value of a rule, and whether what it requests is known: a negative value requests nothing.
fn evaluate(scale_rule: &ScaleRule, selected: Option<Sizes>) -> (RulePrediction, bool) {
    let n = selected.as_ref().map(|sizes| sizes.n(scale_rule.mode));
    let scale_rule = scale_rule.clone();
    let result = n.map(|n| scale_rule.formula.evaluate(n));
    let (value, problem, known) = match result {
        Some(Ok(value)) => (Some(value), None, true),
        Some(Err(error @ EvalError::Negative { .. })) => (None, Some(error.to_string()), true),
        Some(Err(error @ EvalError::Overflow { .. })) => (None, Some(error.to_string()), false),
        None => (None, Some("the size of the channel is unknown".to_owned()), false),
    };
    (RulePrediction { scale_rule, selected, n, value, problem }, known)
}

struct Surveyed {
    size: ChannelSize,
    /// The size that the rule counts.
    selected: Option<Sizes>,
}

fn survey(channel: &Channel, options: &Options<'_>) -> Result<Surveyed, PredictError> {
    let unknown = |reason: String| Surveyed { size: ChannelSize::Unknown { reason }, selected: None };
    let Some(path) = &channel.host_path else {
        return Ok(unknown("it is on a volume of a cluster".to_owned()));
    };
    let mut selections = vec![selection(channel, None)?];
    if let Some(rule) = &channel.rule {
        selections.push(selection(channel, Some(rule))?);
    }
    match tree::survey(&followed(path), &selections, options) {
        Ok(survey) => {
            let selected = survey.totals.get(1).map(sizes);
            Ok(Surveyed { size: known(&survey), selected })
        }
        Err(source @ (TreeError::Cancelled | TreeError::Incomplete(_))) => {
            Err(PredictError::Survey { channel: channel.name.clone(), source })
        }
        Err(
            error @ (TreeError::Missing { .. }
            | TreeError::NotADirectory { .. }
            | TreeError::Link { .. }
            | TreeError::Outside { .. }
            | TreeError::Unreadable { .. }
            | TreeError::UnreadableFile { .. }
            | TreeError::Regex { .. }
            | TreeError::Overflow { .. }),
        ) => Ok(unknown(one_line(&error))),
    }
}

fn listed(channel: &Channel, listing: &Listing) -> Result<Surveyed, PredictError> {
    let failed = |source| PredictError::Survey { channel: channel.name.clone(), source };
    let all = listing.sizes(None).map_err(failed)?;
    let selected = match &channel.rule {
        Some(rule) => Some(listing.sizes(Some(&selection(channel, Some(rule))?)).map_err(failed)?),
        None => None,
    };
    Ok(Surveyed { size: ChannelSize::Known { all, excluded: Vec::new() }, selected })
}

fn selection(channel: &Channel, rule: Option<&ScaleRule>) -> Result<Selection, PredictError> {
    let selection = match rule {
        None => Selection::compile(None, None, None),
        Some(rule) => {
            Selection::compile(rule.target_dir.as_deref(), rule.target_glob.as_deref(), rule.target_regex.as_deref())
        }
    };
    let asks_for_items = rule.is_none_or(|rule| rule.mode == Mode::MaxItemSum || rule.target_dir.is_none());
    match selection {
        Ok(selection) if asks_for_items => Ok(selection),
        Ok(selection) => Ok(selection.without_items()),
        Err(source) => Err(PredictError::Selection { channel: channel.name.clone(), source }),
    }
}

fn known(survey: &Survey) -> ChannelSize {
    let excluded = survey.excluded.counts.iter().map(|(reason, count)| Excluded {
        reason: name(*reason),
        count: *count,
        trouble: reason.is_trouble(),
        first: survey
            .excluded
            .named
            .iter()
            .find(|omission| omission.reason == *reason)
            .map(|omission| omission.path.to_string_lossy().into_owned()),
    });
    let mut excluded: Vec<Excluded> = excluded.collect();
    excluded.sort_by(|a, b| a.reason.cmp(&b.reason));
    ChannelSize::Known { all: survey.totals.first().map(sizes).unwrap_or_default(), excluded }
}

/// The name of a reason in records.
fn name(reason: Reason) -> String {
    serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

fn sizes(totals: &Totals) -> Sizes {
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    Sizes {
        files: totals.files,
        sum: totals.sum,
        largest_file: totals.largest_file.as_ref().map(|file| Named { path: shown(&file.path), bytes: file.size }),
        items: totals.items,
        largest_item: totals.largest_item().map(|item| Named { path: shown(&item.name), bytes: item.sum }),
    }
}
