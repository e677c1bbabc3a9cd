//! The configuration of a check: `highwater.toml`.
//!
//! | key | content |
//! | --- | --- |
//! | `baseline` | the baseline file; default `highwater-baseline.json` |
//! | `setup` | a command that is run before the first run, such as a build |
//! | `runs`, `baseline-runs`, `confirm`, `timeout` | the number and time-out of runs; also per task |
//! | `[thresholds]` | `relative`, `absolute`, `min-samples`, `horizon`, `wasteful`, `vanished`, `new`, `no-baseline`, `not-verified`; also per task |
//! | `[thresholds.time]`, `[thresholds.cpu]` | `relative` and `absolute` of wall time and cores, which are compared only if the table exists |
//! | `[tasks.NAME]` | one of `task`, `command` and `image`, and its settings |
//! | `[[tasks.NAME.inputs]]` | the cells: `name` and inputs |

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use super::growth::{GrowthThresholds, ResourceThresholds};
use super::thresholds::{Reaction, Repeats, ThresholdError, Thresholds};
use crate::model::byte_order_mark;
use crate::model::fit::FittedRule;
use crate::model::located::{Fields, Format, Read, Reader, Value, toml};
use crate::model::problem::{Flawed, Problem, line_column, one_line};
use crate::model::quantity::QuantityError;
use crate::model::rule_file::RuleFile;
use crate::model::scalar;
use crate::model::task::Placed;
use crate::model::units::Bytes;

/// The name of the file.
pub const FILE: &str = "highwater.toml";
/// The default baseline file.
pub const BASELINE: &str = "highwater-baseline.json";
/// The name of the cell of a task without inputs.
pub const ONLY_CELL: &str = "default";

/// The configuration of a check.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The baseline file, if given.
    pub baseline: Option<PathBuf>,
    /// The command to run before the first run, in the directory of the file; empty for none.
    pub setup: Vec<String>,
    /// The thresholds for records of tasks that are not listed.
    pub thresholds: Thresholds,
    /// The number of runs of such tasks.
    pub repeats: Repeats,
    /// In the order of the file.
    pub tasks: Vec<TaskConfig>,
}

/// A task to check.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskConfig {
    /// Its name in the file, the baseline and the report.
    pub name: String,
    /// The line where its table begins, counted from 1.
    pub line: Option<usize>,
    /// What to run.
    pub workload: WorkloadSpec,
    /// How to run it.
    pub runner: RunnerChoice,
    /// The image's document, for a task that refers to its template by name.
    pub processing_container: Option<PathBuf>,
    /// Variables that Jinja in the task sees as `custom.KEY`.
    pub set: BTreeMap<String, String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Mounts of a container, as `SOURCE:TARGET[:ro]`.
    pub mount: Vec<String>,
    /// Further options of `highwater run`, such as `--network=none`.
    pub options: Vec<String>,
    /// The budget of each of its cells.
    pub budget: Option<Bytes>,
    /// The limit for an input of n bytes.
    pub rule: Option<FittedRule>,
    /// The file whose limit is the rule, read along with the configuration.
    pub rule_file: Option<RuleFile>,
    /// The time-out of a run.
    pub timeout: Option<Duration>,
    /// The number of runs.
    pub repeats: Repeats,
    /// Its thresholds.
    pub thresholds: Thresholds,
    /// Its cells; an empty list means one cell without settings.
    pub inputs: Vec<InputConfig>,
}

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkloadSpec {
    /// A task.json.
    Task(PathBuf),
    /// A command, which may contain `{input}` and `{PARAMETER}`.
    Command(Vec<String>),
    /// An image, and its command if not the image's own.
    Image(String, Vec<String>),
}

/// How to run a task.json.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunnerChoice {
    /// In its image.
    #[default]
    Container,
    /// As a process of this machine.
    Process,
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputConfig {
    /// Its name, unique in the task.
    pub name: String,
    /// The value of `{input}`.
    pub path: Option<PathBuf>,
    /// Replacements for the directories of channels.
    pub channels: BTreeMap<String, PathBuf>,
    /// The values of `{PARAMETER}`.
    pub parameters: BTreeMap<String, String>,
    /// As in the task, for this cell.
    pub set: BTreeMap<String, String>,
    /// As in the task, for this cell.
    pub env: BTreeMap<String, String>,
    /// The budget of this cell.
    pub budget: Option<Bytes>,
    /// The size of an input that is not a file: the n of rules.
    pub size: Option<Bytes>,
    /// The line where its table begins, counted from 1.
    pub line: Option<usize>,
}

impl TaskConfig {
    /// A task known only by its name: its records are judged with the given thresholds.
    pub fn of_records(name: String, thresholds: Thresholds, repeats: Repeats) -> Self {
        Self {
            name,
            line: None,
            workload: WorkloadSpec::Command(Vec::new()),
            runner: RunnerChoice::default(),
            processing_container: None,
            set: BTreeMap::new(),
            env: BTreeMap::new(),
            mount: Vec::new(),
            options: Vec::new(),
            budget: None,
            rule: None,
            rule_file: None,
            timeout: None,
            repeats,
            thresholds,
            inputs: Vec::new(),
        }
    }

    /// The cells to run.
    pub fn cells(&self) -> Vec<InputConfig> {
        match self.inputs.as_slice() {
            [] => vec![InputConfig { name: ONLY_CELL.to_owned(), ..InputConfig::default() }],
            cells => cells.to_vec(),
        }
    }

    /// The place of a cell in the file; those that are not in the file come last.
    pub fn place_of(&self, cell: &str) -> usize {
        self.inputs.iter().position(|input| input.name == cell).unwrap_or(self.inputs.len())
    }

    /// The configured budget of a cell: its own, or the task's.
    pub fn budget_of(&self, cell: &str) -> Option<Bytes> {
        let own = self.inputs.iter().find(|input| input.name == cell).and_then(|input| input.budget);
        own.or(self.budget)
    }
}

impl Config {
    /// Parses the content of a file; `name` identifies it in errors.
    ///
    /// # Errors
    /// All problems of the file.
    pub fn parse(name: &str, text: &str) -> Result<Self, Flawed> {
        let text = byte_order_mark::strip(text);
        let flawed = |problems| Flawed::new(name, text, problems);
        let root = toml::parse(text).map_err(flawed)?;
        let mut reader = Reader::new(Format::Toml, text);
        let config = config(&mut reader, &root);
        match (config, reader.finish()) {
            (Ok(config), (_, true)) => Ok(config),
            (_, (problems, _)) => Err(flawed(problems)),
        }
    }
}

const ROOT: [&str; 8] = ["baseline", "setup", "timeout", "thresholds", "tasks", "runs", "baseline-runs", "confirm"];

fn config(reader: &mut Reader<'_>, root: &Value<'_>) -> Read<Config> {
    let root = reader.object(FILE, root, Some(&ROOT))?;
    let repeats = repeats(reader, &root, Repeats::default());
    let timeout = root.take(reader, "timeout", duration);
    let thresholds = thresholds(reader, &root, Thresholds::default(), &repeats);
    let setup = root.take(reader, "setup", command).unwrap_or_default();
    let baseline = root.take(reader, "baseline", Reader::text).map(|text| PathBuf::from(text.value));
    let tables = root.optional(reader, "tasks", |reader, _, value| {
        Ok(reader.object("tasks", value, None)?.all().collect::<Vec<_>>())
    })?;
    let Some(mut tables) = tables else {
        let help = "add `[tasks.NAME]` with `task = \"task.json\"` or `command = [\"./program\", \"{input}\"]`";
        return reader.report(Problem::error("missing-field", "no task defined").at(root.span.clone()).help(help));
    };
    tables.sort_by_key(|(_, value)| value.span.start);
    let defaults = Defaults { thresholds, repeats, timeout };
    let tasks: Vec<_> = tables.into_iter().map(|(name, value)| task(reader, name, value, defaults)).collect();
    Ok(Config { baseline, setup, thresholds, repeats, tasks: tasks.into_iter().collect::<Read<_>>()? })
}

#[derive(Clone, Copy)]
struct Defaults {
    thresholds: Thresholds,
    repeats: Repeats,
    timeout: Option<Duration>,
}

/// An amount of memory that `parse` reads.
fn amount<T>(
    parse: impl Fn(&str) -> Result<T, QuantityError>,
) -> impl Fn(&mut Reader<'_>, &str, &Value<'_>) -> Read<T> {
    move |reader, what, value| {
        let text = reader.written(what, value)?;
        parse(&text.value).or_else(|error| reader.report_within(&text, [error.into()]))
    }
}

fn duration(reader: &mut Reader<'_>, what: &str, value: &Value<'_>) -> Read<Duration> {
    reader.parsed(what, value, scalar::duration)
}

fn repeats(reader: &mut Reader<'_>, fields: &Fields<'_>, default: Repeats) -> Repeats {
    let mut count =
        |name: &str, range| fields.take(reader, name, |reader, what, value| reader.count(what, value, range));
    let runs = count("runs", 1..=1000);
    let baseline_runs = count("baseline-runs", 1..=1000);
    Repeats {
        runs: runs.unwrap_or(default.runs),
        baseline_runs: baseline_runs
            .unwrap_or_else(|| runs.map_or(default.baseline_runs, |runs| runs.saturating_mul(2))),
        confirm: count("confirm", 0..=20).unwrap_or(default.confirm),
    }
}

const THRESHOLDS: [&str; 11] = [
    "relative",
    "absolute",
    "min-samples",
    "horizon",
    "wasteful",
    "vanished",
    "new",
    "no-baseline",
    "not-verified",
    "time",
    "cpu",
];

/// The table of a resource other than memory: it is compared if there is one.
fn growth(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    name: &str,
    inherited: Option<GrowthThresholds>,
    absolute: fn(&str) -> Result<Bytes, String>,
) -> Option<GrowthThresholds> {
    let path = fields.name(name);
    let Some(table) = fields.take(reader, name, |reader, _, value| {
        reader.object("a table of thresholds", value, Some(&["relative", "absolute"]))
    }) else {
        return inherited;
    };
    let table = table.below(path);
    let default = inherited.unwrap_or_default();
    let parsed = |parse: fn(&str) -> Result<Bytes, String>| {
        move |reader: &mut Reader<'_>, what: &str, value: &Value<'_>| reader.parsed(what, value, parse)
    };
    let share =
        |reader: &mut Reader<'_>, what: &str, value: &Value<'_>| reader.parsed(what, value, scalar::relative_share);
    Some(GrowthThresholds {
        relative: table.take(reader, "relative", share).unwrap_or(default.relative),
        absolute: table.take(reader, "absolute", parsed(absolute)).unwrap_or(default.absolute),
    })
}

fn thresholds(reader: &mut Reader<'_>, parent: &Fields<'_>, default: Thresholds, repeats: &Repeats) -> Thresholds {
    let mut thresholds = default;
    let mut place = parent.span.clone();
    let path = parent.name("thresholds");
    if let Some(fields) = parent.take(reader, "thresholds", |reader, _, value| {
        reader.object("the table `thresholds`", value, Some(&THRESHOLDS))
    }) {
        let fields = fields.below(path);
        let share =
            |reader: &mut Reader<'_>, what: &str, value: &Value<'_>| reader.parsed(what, value, scalar::relative_share);
        let reaction =
            |reader: &mut Reader<'_>, what: &str, value: &Value<'_>| reader.name_of(what, value, &Reaction::NAMES);
        let samples = |reader: &mut Reader<'_>, what: &str, value: &Value<'_>| reader.count(what, value, 0..=1000);
        place = fields.span.clone();
        thresholds = Thresholds {
            relative: fields.take(reader, "relative", share).unwrap_or(default.relative),
            absolute: fields.take(reader, "absolute", amount(scalar::positive_amount)).unwrap_or(default.absolute),
            min_samples: fields.take(reader, "min-samples", samples).map_or(default.min_samples, |it| it as usize),
            horizon: fields.take(reader, "horizon", Reader::number).unwrap_or(default.horizon),
            wasteful: fields.take(reader, "wasteful", Reader::number).unwrap_or(default.wasteful),
            vanished: fields.take(reader, "vanished", reaction).unwrap_or(default.vanished),
            new: fields.take(reader, "new", reaction).unwrap_or(default.new),
            no_baseline: fields.take(reader, "no-baseline", reaction).unwrap_or(default.no_baseline),
            not_verified: fields.take(reader, "not-verified", reaction).unwrap_or(default.not_verified),
            resources: ResourceThresholds {
                time: growth(reader, &fields, "time", default.resources.time, scalar::microseconds),
                cpu: growth(reader, &fields, "cpu", default.resources.cpu, scalar::cores),
            },
        };
        if let Err(error) = thresholds.sensible() {
            senseless(reader, error, fields.place(error.name()).unwrap_or(place));
            return default;
        }
    }
    // What is inherited has been checked where it is set.
    let has_own = ["thresholds", "runs"].iter().any(|name| parent.find(name).is_some());
    if has_own && thresholds.min_samples > repeats.runs as usize {
        let error = ThresholdError::Runs { min_samples: thresholds.min_samples, runs: repeats.runs };
        senseless(reader, error, place);
    }
    thresholds
}

fn senseless(reader: &mut Reader<'_>, error: ThresholdError, place: Range<usize>) {
    let help = match error {
        ThresholdError::Runs { .. } => "raise `runs`, or lower `thresholds.min-samples`",
        ThresholdError::Relative(_) => "write a share such as \"3%\" or 0.03",
        ThresholdError::Absolute
        | ThresholdError::Samples(_)
        | ThresholdError::Horizon(_)
        | ThresholdError::Wasteful(_) => "remove it to use the default",
    };
    reader.warn(Problem::error("bad-threshold", error.to_string()).at(place).help(help));
}

const TASK: [&str; 17] = [
    "task",
    "command",
    "image",
    "runner",
    "processing-container",
    "set",
    "env",
    "mount",
    "options",
    "budget",
    "rule",
    "timeout",
    "thresholds",
    "inputs",
    "runs",
    "baseline-runs",
    "confirm",
];

fn task(reader: &mut Reader<'_>, name: &str, value: &Value<'_>, defaults: Defaults) -> Read<TaskConfig> {
    let path = format!("tasks.{name}");
    let fields = reader.object("a task", value, Some(&TASK))?.below(path);
    let repeats = repeats(reader, &fields, defaults.repeats);
    let thresholds = thresholds(reader, &fields, defaults.thresholds, &repeats);
    let workload = workload(reader, &fields, name);
    let inputs = fields.take(reader, "inputs", |reader, what, value| {
        reader.each(what, value, &format!("tables: [[{what}]]"), |reader, value| {
            input(reader, what, value, workload.as_ref().ok())
        })
    });
    let inputs = inputs.unwrap_or_default();
    reader.no_duplicates("duplicate", "the input", inputs.iter().map(|(name, _)| name));
    let (rule, rule_file) = fields.take(reader, "rule", rule).unwrap_or_default();
    Ok(TaskConfig {
        line: line_column(reader.source(), fields.span.start).map(|(line, _)| line),
        runner: runner(reader, &fields, workload.as_ref().ok()),
        processing_container: fields.take(reader, "processing-container", Reader::text).map(|text| text.value.into()),
        set: fields.take(reader, "set", Reader::entries).unwrap_or_default(),
        env: fields.take(reader, "env", Reader::entries).unwrap_or_default(),
        mount: fields.take(reader, "mount", Reader::words).unwrap_or_default(),
        options: fields.take(reader, "options", Reader::words).unwrap_or_default(),
        budget: fields.take(reader, "budget", amount(scalar::positive_amount)),
        rule,
        rule_file,
        timeout: fields.take(reader, "timeout", duration).or(defaults.timeout),
        name: name.to_owned(),
        workload: workload?,
        repeats,
        thresholds,
        inputs: inputs.into_iter().map(|(_, input)| input).collect(),
    })
}

fn command(reader: &mut Reader<'_>, what: &str, value: &Value<'_>) -> Read<Vec<String>> {
    let words = reader.words(what, value)?;
    if words.is_empty() {
        let problem = Problem::error("empty", "the command has no program").at(value.span.clone());
        return reader.report(problem.help("write an array of arguments, such as [\"./segment\", \"{input}\"]"));
    }
    Ok(words)
}

fn workload(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Read<WorkloadSpec> {
    let task = fields.optional(reader, "task", Reader::text);
    let command = fields.optional(reader, "command", command);
    let image = fields.optional(reader, "image", Reader::text);
    match (task?, command?, image?) {
        (Some(file), None, None) => Ok(WorkloadSpec::Task(file.value.into())),
        (None, Some(words), None) => Ok(WorkloadSpec::Command(words)),
        (None, command, Some(image)) => Ok(WorkloadSpec::Image(image.value, command.unwrap_or_default())),
        (Some(_), _, _) => {
            let problem =
                Problem::error("conflict", format!("the task {name} has several of `task`, `command` and `image`"));
            let other = fields.place("command").or(fields.place("image")).unwrap_or(fields.span.clone());
            reader.report(problem.at(other).help("keep one of `task`, `command` and `image`"))
        }
        (None, None, None) => {
            let problem =
                Problem::error("missing-field", format!("the task {name} has no `task`, `command` or `image`"));
            let help = "add `task = \"task.json\"`, `command = [\"./program\", \"{input}\"]` or `image = \"NAME\"`";
            reader.report(problem.at(fields.span.clone()).help(help))
        }
    }
}

fn runner(reader: &mut Reader<'_>, fields: &Fields<'_>, workload: Option<&WorkloadSpec>) -> RunnerChoice {
    let runner = fields.take(reader, "runner", |reader, what, value| {
        if !matches!(workload, Some(WorkloadSpec::Task(_)) | None) {
            let message = "`runner` is for `task`: a command runs as a process, an image as a container";
            return reader.report(Problem::error("conflict", message).at(value.span.clone()).help("remove it"));
        }
        reader.name_of(what, value, &[("container", RunnerChoice::Container), ("process", RunnerChoice::Process)])
    });
    runner.unwrap_or_default()
}

/// A rule, or the file that has it.
type RuleOrFile = (Option<FittedRule>, Option<RuleFile>);

fn rule(reader: &mut Reader<'_>, what: &str, value: &Value<'_>) -> Read<RuleOrFile> {
    let text = reader.text(what, value)?;
    if let Some(file) = RuleFile::parse(&text.value) {
        return Ok((None, Some(file)));
    }
    text.value.parse().map(|rule| (Some(rule), None)).or_else(|error| {
        let problem = Problem::error("bad-rule", one_line(&error)).at(text.span);
        reader.report(problem.help(
            "write a rule such as `max(512MiB, 1.5*n)`, `2*n**2` or `1GiB` (n is the input size in bytes), or name a file: `SomeOperator.py`, `task_type_registry.xml`",
        ))
    })
}

const INPUT: [&str; 8] = ["name", "path", "channels", "parameters", "set", "env", "budget", "size"];

fn input(
    reader: &mut Reader<'_>,
    path: &str,
    value: &Value<'_>,
    workload: Option<&WorkloadSpec>,
) -> Read<(Placed<String>, InputConfig)> {
    let fields = reader.object("an input", value, Some(&INPUT))?.below(path);
    let name = fields.optional(reader, "name", Reader::text)?;
    let path = fields.optional(reader, "path", Reader::text)?;
    let channels = fields.take(reader, "channels", Reader::entries).unwrap_or_default();
    match (workload, &path) {
        (Some(WorkloadSpec::Task(_)), Some(path)) => {
            let problem = Problem::error("conflict", "`path` requires a command with {input}").at(path.span.clone());
            reader.warn(problem.help("write `channels = { CHANNEL = \"DIR\" }`"));
        }
        (Some(WorkloadSpec::Command(_) | WorkloadSpec::Image(..)), _) if !channels.is_empty() => {
            let problem = Problem::error("conflict", "`channels` requires a task.json").at(value.span.clone());
            reader.warn(problem.help("write `path = \"DIR\"`, and `{input}` in the command"));
        }
        (_, _) => {}
    }
    let Some(name) = name.or_else(|| path.clone()) else {
        let problem = Problem::error("missing-field", "an input has neither `name` nor `path`");
        let help = "add `name = \"small\"`, the name in the baseline and the report";
        return reader.report(problem.at(value.span.clone()).help(help));
    };
    let input = InputConfig {
        name: name.value.clone(),
        path: path.map(|path| path.value.into()),
        channels: channels.into_iter().map(|(name, directory)| (name, directory.into())).collect(),
        parameters: fields.take(reader, "parameters", Reader::entries).unwrap_or_default(),
        set: fields.take(reader, "set", Reader::entries).unwrap_or_default(),
        env: fields.take(reader, "env", Reader::entries).unwrap_or_default(),
        budget: fields.take(reader, "budget", amount(scalar::positive_amount)),
        size: fields.take(reader, "size", amount(scalar::amount)),
        line: line_column(reader.source(), fields.span.start).map(|(line, _)| line),
    };
    Ok((name, input))
}

#[cfg(test)]
mod tests;
