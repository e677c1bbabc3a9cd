//! `highwater predict`: evaluates a task's rules on its inputs without running it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use highwater::calibrate::workload::{pod_of_task, survey};
use highwater::model::prediction::{
    ChannelPrediction, ChannelSize, KubernetesAmount, Prediction, RulePrediction, Sizes,
};
use highwater::model::rule::Mode;
use highwater::model::units::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::engine::EngineArgs;
use super::exit::Exit;
use super::failure::{self, Failure};
use super::feedback::Terminal;
use super::output::OutputArg;
use super::problems::Located;
use super::run::Format;
use super::table::{paragraph, table};
use super::task::{Deny, TargetArg, TaskArgs};

const EXAMPLES: &str = "\
Examples:
  highwater predict task.json
  highwater predict task.json --processing-container processing-container.json
  highwater predict task.json --data scans=/data/scans
                                              the input is on a volume of a cluster there
  highwater predict task.json --set patient=0042 --target kubernetes
  highwater predict task.json --format json | jq .kubernetes.limit.written
  highwater predict task.json --emit pod | kubectl create -f -

Docker gets the largest of resources.limits.memory and the rules of type `limit`. Kubernetes gets 1.1 times as much, \
written with one decimal of a binary unit, and a request computed the same way from resources.requests.memory and the \
rules of type `request`.

Exit status: 0 done, 2 invalid file, or missing input without which a rule has no value, 3 --strict was given and \
part of an input cannot be read.";

/// Evaluate the scale rules of a task on its inputs, and show the resulting limits and requests; run nothing.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct PredictArgs {
    /// The task.json; `-` for stdin. Relative paths in it are resolved against the current directory.
    #[arg(value_name = "TASK")]
    task: PathBuf,
    #[command(flatten)]
    of: TaskArgs,
    #[command(flatten)]
    engine: EngineArgs,
    /// Platform whose limits, requests and warnings to show. JSON always contains both.
    #[arg(long, value_enum, default_value_t = TargetArg::Both)]
    target: TargetArg,
    /// Fail on warnings, too.
    #[arg(long, value_enum, value_name = "WHAT")]
    deny: Option<Deny>,
    /// Fail if a file or directory of an input cannot be read, instead of counting the others.
    #[arg(long)]
    strict: bool,
    /// Output format: tables, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
    /// Print this instead: the pod that the task would run as, with the predicted limit and request, as JSON.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "format")]
    emit: Option<Emit>,
}

/// What is printed instead of the prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Emit {
    /// A pod of Kubernetes, for `kubectl create -f -`.
    Pod,
}

pub(crate) fn run(args: &PredictArgs) -> Result<Exit, Failure> {
    args.output.check()?;
    let mut resolution = args.of.resolve(&args.task, &args.engine)?;
    let prediction = survey(&resolution.task, args.strict, &Terminal::default())?;
    resolution.lint(Some(&prediction), args.target.platform());
    let warnings = resolution.warnings();
    match args.format {
        Format::Table if args.emit == Some(Emit::Pod) => {
            warnings.iter().for_each(failure::report_problems);
            args.output.json(&pod_of_task(&resolution.task, &prediction).map_err(Failure::from)?)?;
        }
        Format::Table => {
            warnings.iter().for_each(failure::report_problems);
            args.output.text(&render(&prediction, args.target))?;
        }
        Format::Json => {
            let warnings = warnings.iter().flat_map(Located::all).collect();
            args.output.json(&Predicted { prediction: &prediction, warnings })?;
        }
    }
    let denied = args.deny == Some(Deny::Warnings) && !warnings.is_empty();
    Ok(if denied || !prediction.complete { Exit::Usage } else { Exit::Done })
}

/// The amounts that the scale rules of a task predict.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Prediction")]
pub(crate) struct Predicted<'a> {
    #[serde(flatten)]
    prediction: &'a Prediction,
    /// Warnings about the task, its template and its inputs.
    warnings: Vec<Located>,
}

fn render(prediction: &Prediction, target: TargetArg) -> String {
    let mut text = heading(prediction);
    if !prediction.channels.is_empty() {
        let header = ["Channel", ">Files", ">Sum", ">Largest file", ">Items", ">Largest item"];
        text.push_str(&table(&header, prediction.channels.iter().map(channel).collect()));
        for line in prediction.channels.iter().flat_map(left_out) {
            text.push_str(&paragraph(&line));
        }
        text.push('\n');
    }
    let rules: Vec<_> = prediction.channels.iter().filter_map(|of| Some((of, of.rule.as_ref()?))).collect();
    if !rules.is_empty() {
        let rows = rules.iter().map(|(channel, rule)| rule_row(channel, rule)).collect();
        text.push_str(&table(&["Rule of", "Rule", "Type", "Mode", ">Files", ">n", ">Value"], rows));
        for (channel, rule) in rules {
            if let Some(note) = rule_note(rule) {
                text.push_str(&paragraph(&format!("{}: {note}", channel.name)));
            }
        }
        text.push('\n');
    }
    text.push_str(&table(
        &["Setting", ">Amount", ">Margin", ">Written", ">In effect", "Decided by"],
        amounts(prediction, target),
    ));
    if !prediction.complete {
        text.push_str(&paragraph("A rule has no value, so these amounts are lower bounds."));
    }
    text
}

fn heading(prediction: &Prediction) -> String {
    let task = &prediction.task;
    let template = task.template.as_ref().map(|template| format!(": template {template}")).unwrap_or_default();
    let image = task.image.as_ref().map(|image| format!(" of {image}")).unwrap_or_default();
    paragraph(&format!("{}{template}{image}", task.name)) + "\n"
}

fn channel(channel: &ChannelPrediction) -> Vec<String> {
    let dashes = |what: &str| vec![what.to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()];
    let cells = match &channel.size {
        ChannelSize::Known { all, .. } => sizes(all),
        ChannelSize::Unknown { .. } => dashes("unknown"),
        ChannelSize::NotSurveyed => dashes(&channel.kind.to_string()),
    };
    std::iter::once(channel.name.clone()).chain(cells).collect()
}

fn sizes(sizes: &Sizes) -> Vec<String> {
    let named = |named: &Option<highwater::model::prediction::Named>| {
        named.as_ref().map_or("-".to_owned(), |named| named.bytes.to_string())
    };
    vec![
        sizes.files.to_string(),
        sizes.sum.to_string(),
        named(&sizes.largest_file),
        sizes.items.to_string(),
        named(&sizes.largest_item),
    ]
}

/// Notes on skipped files, one line per reason, or on an unknown size.
fn left_out(channel: &ChannelPrediction) -> Vec<String> {
    match &channel.size {
        ChannelSize::Known { excluded: left_out, .. } => left_out
            .iter()
            .map(|left_out| {
                let first = left_out.first.as_ref().map(|path| format!(", first {path}")).unwrap_or_default();
                let why = if left_out.trouble { "the sizes may be too small" } else { "as the Task API specifies" };
                format!("{}: skipped {} {}{first}: {why}", channel.name, left_out.count, left_out.reason)
            })
            .collect(),
        ChannelSize::Unknown { reason } => vec![format!("{}: {reason}", channel.name)],
        ChannelSize::NotSurveyed => Vec::new(),
    }
}

fn rule_row(channel: &ChannelPrediction, rule: &RulePrediction) -> Vec<String> {
    let bytes = |bytes: Option<Bytes>| bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
    // A target_dir within each item has other files than the one directly in the channel.
    let in_items = rule.scale_rule.mode == Mode::MaxItemSum && rule.scale_rule.target_dir.is_some();
    let files = rule.selected.as_ref().filter(|_| !in_items);
    vec![
        channel.name.clone(),
        rule.scale_rule.formula.canonical(),
        rule.scale_rule.applies_to.to_string(),
        rule.scale_rule.mode.to_string(),
        files.map_or("-".to_owned(), |selected| selected.files.to_string()),
        bytes(rule.n),
        bytes(rule.value),
    ]
}

/// Why a rule has no value, or an unexpected one.
fn rule_note(rule: &RulePrediction) -> Option<String> {
    let no_items = |selected: &Sizes| selected.files > 0 && selected.largest_item.is_none();
    match &rule.problem {
        Some(problem) => Some(problem.clone()),
        None if rule.scale_rule.mode == Mode::MaxItemSum && rule.selected.as_ref().is_some_and(no_items) => Some(
            "n is 0: the counted files are in no item; only directories directly in the channel are items".to_owned(),
        ),
        None => None,
    }
}

fn amounts(prediction: &Prediction, target: TargetArg) -> Vec<Vec<String>> {
    let dash = || "-".to_owned();
    let docker = match &prediction.docker.limit {
        Some(limit) => {
            let bytes = limit.bytes.to_string();
            vec![bytes.clone(), dash(), dash(), bytes, limit.decided_by.to_string()]
        }
        None => vec![dash(), dash(), dash(), "not set".to_owned(), dash()],
    };
    let kubernetes = |amount: &Option<KubernetesAmount>, unset: &str| match amount {
        Some(amount) => vec![
            amount.asked.to_string(),
            format!("+ {}", amount.margin),
            amount.written.clone(),
            amount.bytes.to_string(),
            amount.decided_by.to_string(),
        ],
        None => vec![dash(), dash(), dash(), "not set".to_owned(), unset.to_owned()],
    };
    let limit = kubernetes(&prediction.kubernetes.limit, "-");
    let unset = if prediction.kubernetes.limit.is_some() { "same as the limit" } else { "-" };
    let request = kubernetes(&prediction.kubernetes.request, unset);
    let named = |name: &str, cells: Vec<String>| std::iter::once(name.to_owned()).chain(cells).collect();
    let docker = named("Docker limit", docker);
    let pods = vec![named("Kubernetes limit", limit), named("Kubernetes request", request)];
    match target {
        TargetArg::Docker => vec![docker],
        TargetArg::Kubernetes => pods,
        TargetArg::Both => std::iter::once(docker).chain(pods).collect(),
    }
}
