//! The configuration of a check: `highwater.toml`.
//!
//! | key | content |
//! | --- | --- |
//! | `baseline` | the baseline file; default `highwater-baseline.json` |
//! | `runs`, `baseline-runs`, `confirm`, `timeout` | the number and time-out of runs; also per task |
//! | `[thresholds]` | `relative`, `absolute`, `min-samples`, `horizon`, `wasteful`, `vanished`, `new`, `no-baseline`, `not-verified`; also per task |
//! | `[tasks.NAME]` | one of `task`, `command` and `image`, and its settings |
//! | `[[tasks.NAME.inputs]]` | the cells: `name` and inputs |

mod toml;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::thresholds::{Repeats, ThresholdError, Thresholds};
use crate::model::byte_order_mark;
use crate::model::fit::FittedRule;
use crate::model::problem::{Flawed, Problem, line_column};
use crate::model::units::Bytes;

use self::toml::{Place, Reader, Table};

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
        let mut reader = Reader::new(text);
        let config = reader.root().map(|table| config(&mut reader, table));
        match (config, reader.finish()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(Flawed { name: name.to_owned(), text: text.to_owned(), problems }),
        }
    }
}

const REPEATS: [&str; 3] = ["runs", "baseline-runs", "confirm"];

fn config(reader: &mut Reader<'_>, table: Table) -> Config {
    let mut root = table;
    let repeats = repeats(reader, &mut root, Repeats::default());
    let timeout = reader.duration(&mut root, "timeout");
    let thresholds = thresholds(reader, &mut root, Thresholds::default(), &repeats);
    let baseline = reader.text(&mut root, "baseline").map(|(text, _)| PathBuf::from(text));
    let mut tasks = Vec::new();
    let place = root.place.clone();
    match reader.table(&mut root, "tasks") {
        Some(table) => {
            for (name, table) in reader.tables(table) {
                tasks.extend(task(reader, name, table, Defaults { thresholds, repeats, timeout }));
            }
        }
        None if !root.has_problem_with("tasks") => {
            let help = "add `[tasks.NAME]` with `task = \"task.json\"` or `command = [\"./program\", \"{input}\"]`";
            reader.report(Problem::error("missing-field", "no task defined").at(place).help(help));
        }
        None => {}
    }
    reader.unknown(root, &["baseline", "timeout", "thresholds", "tasks"], &REPEATS);
    Config { baseline, thresholds, repeats, tasks }
}

#[derive(Clone, Copy)]
struct Defaults {
    thresholds: Thresholds,
    repeats: Repeats,
    timeout: Option<Duration>,
}

fn repeats(reader: &mut Reader<'_>, table: &mut Table, default: Repeats) -> Repeats {
    let runs = reader.count(table, "runs", 1..=1000);
    let baseline_runs = reader.count(table, "baseline-runs", 1..=1000);
    let confirm = reader.count(table, "confirm", 0..=20);
    Repeats {
        runs: runs.unwrap_or(default.runs),
        baseline_runs: baseline_runs
            .unwrap_or_else(|| runs.map_or(default.baseline_runs, |runs| runs.saturating_mul(2))),
        confirm: confirm.unwrap_or(default.confirm),
    }
}

fn thresholds(reader: &mut Reader<'_>, parent: &mut Table, default: Thresholds, repeats: &Repeats) -> Thresholds {
    let mut thresholds = default;
    let mut place = parent.place.clone();
    if let Some(mut table) = reader.table(parent, "thresholds") {
        place = table.place.clone();
        let relative = reader.share(&mut table, "relative");
        let absolute = reader.bytes(&mut table, "absolute");
        let samples = reader.count(&mut table, "min-samples", 0..=1000);
        let horizon = reader.number(&mut table, "horizon");
        let wasteful = reader.number(&mut table, "wasteful");
        thresholds.relative = relative.as_ref().map_or(thresholds.relative, |relative| relative.0);
        thresholds.absolute = absolute.as_ref().map_or(thresholds.absolute, |absolute| absolute.0);
        thresholds.min_samples = samples.map_or(thresholds.min_samples, |samples| samples as usize);
        thresholds.horizon = horizon.as_ref().map_or(thresholds.horizon, |horizon| horizon.0);
        thresholds.wasteful = wasteful.as_ref().map_or(thresholds.wasteful, |wasteful| wasteful.0);
        thresholds.vanished = reader.reaction(&mut table, "vanished").unwrap_or(thresholds.vanished);
        thresholds.new = reader.reaction(&mut table, "new").unwrap_or(thresholds.new);
        thresholds.no_baseline = reader.reaction(&mut table, "no-baseline").unwrap_or(thresholds.no_baseline);
        thresholds.not_verified = reader.reaction(&mut table, "not-verified").unwrap_or(thresholds.not_verified);
        let places =
            [relative.map(|it| it.1), absolute.map(|it| it.1), horizon.map(|it| it.1), wasteful.map(|it| it.1)];
        let reactions = ["vanished", "new", "no-baseline", "not-verified"];
        reader.unknown(table, &["relative", "absolute", "min-samples", "horizon", "wasteful"], &reactions);
        if let Err(error) = thresholds.sensible() {
            let [relative, absolute, horizon, wasteful] = places;
            let of = match error {
                ThresholdError::Relative(_) => relative,
                ThresholdError::Absolute => absolute,
                ThresholdError::Horizon(_) => horizon,
                ThresholdError::Wasteful(_) => wasteful,
                ThresholdError::Samples(_) | ThresholdError::Runs { .. } => None,
            };
            senseless(reader, error, of.unwrap_or_else(|| place.clone()));
            return default;
        }
    }
    if thresholds.min_samples > repeats.runs as usize {
        let error = ThresholdError::Runs { min_samples: thresholds.min_samples, runs: repeats.runs };
        senseless(reader, error, place);
    }
    thresholds
}

fn senseless(reader: &mut Reader<'_>, error: ThresholdError, place: Place) {
    let help = match error {
        ThresholdError::Runs { .. } => "raise `runs`, or lower `thresholds.min-samples`",
        ThresholdError::Relative(_) => "write a share such as \"3%\" or 0.03",
        ThresholdError::Absolute
        | ThresholdError::Samples(_)
        | ThresholdError::Horizon(_)
        | ThresholdError::Wasteful(_) => "remove it to use the default",
    };
    reader.report(Problem::error("bad-threshold", error.to_string()).at(place).help(help));
}

const TASK: [&str; 14] = [
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
];

fn task(reader: &mut Reader<'_>, name: String, mut table: Table, defaults: Defaults) -> Option<TaskConfig> {
    let place = table.place.clone();
    let line = line_column(reader.source(), place.start).map(|(line, _)| line);
    let repeats = repeats(reader, &mut table, defaults.repeats);
    let thresholds = thresholds(reader, &mut table, defaults.thresholds, &repeats);
    let workload = workload(reader, &mut table, &name);
    let inputs = inputs(reader, &mut table, workload.as_ref());
    let config = TaskConfig {
        line,
        runner: runner(reader, &mut table, workload.as_ref()),
        processing_container: reader.text(&mut table, "processing-container").map(|(text, _)| text.into()),
        set: reader.words(&mut table, "set"),
        env: reader.words(&mut table, "env"),
        mount: reader.list(&mut table, "mount").map(|(list, _)| list).unwrap_or_default(),
        options: reader.list(&mut table, "options").map(|(list, _)| list).unwrap_or_default(),
        budget: reader.bytes(&mut table, "budget").map(|(bytes, _)| bytes),
        rule: rule(reader, &mut table),
        timeout: reader.duration(&mut table, "timeout").or(defaults.timeout),
        workload: workload.unwrap_or(WorkloadSpec::Command(Vec::new())),
        name,
        repeats,
        thresholds,
        inputs,
    };
    reader.unknown(table, &TASK, &REPEATS);
    Some(config)
}

fn workload(reader: &mut Reader<'_>, table: &mut Table, name: &str) -> Option<WorkloadSpec> {
    let place = table.place.clone();
    let task = reader.text(table, "task");
    let command = reader.list(table, "command");
    let image = reader.text(table, "image");
    if let Some((words, place)) = &command
        && words.is_empty()
    {
        let problem = Problem::error("empty", "the command has no program").at(place.clone());
        reader.report(problem.help("write an array of arguments, such as [\"./segment\", \"{input}\"]"));
        return None;
    }
    match (task, command, image) {
        (Some((file, _)), None, None) => Some(WorkloadSpec::Task(file.into())),
        (None, Some((words, _)), None) => Some(WorkloadSpec::Command(words)),
        (None, command, Some((image, _))) => {
            Some(WorkloadSpec::Image(image, command.map(|it| it.0).unwrap_or_default()))
        }
        (Some(_), command, image) => {
            let other = command.map(|it| it.1).or(image.map(|it| it.1)).unwrap_or(place);
            let problem =
                Problem::error("conflict", format!("the task {name} has several of `task`, `command` and `image`"));
            reader.report(problem.at(other).help("keep one of `task`, `command` and `image`"));
            None
        }
        (None, None, None) => {
            if !["task", "command", "image"].iter().any(|key| table.has_problem_with(key)) {
                let problem =
                    Problem::error("missing-field", format!("the task {name} has no `task`, `command` or `image`"));
                let help = "add `task = \"task.json\"`, `command = [\"./program\", \"{input}\"]` or `image = \"NAME\"`";
                reader.report(problem.at(place).help(help));
            }
            None
        }
    }
}

fn runner(reader: &mut Reader<'_>, table: &mut Table, workload: Option<&WorkloadSpec>) -> RunnerChoice {
    let Some((text, place)) = reader.text(table, "runner") else { return RunnerChoice::default() };
    if !matches!(workload, Some(WorkloadSpec::Task(_)) | None) {
        let problem =
            Problem::error("conflict", "`runner` is for `task`: a command runs as a process, an image as a container");
        reader.report(problem.at(place).help("remove it"));
        return RunnerChoice::default();
    }
    match text.as_str() {
        "container" => RunnerChoice::Container,
        "process" => RunnerChoice::Process,
        other => {
            reader.unknown_name("runner", other, place, &["container", "process"]);
            RunnerChoice::default()
        }
    }
}

fn rule(reader: &mut Reader<'_>, table: &mut Table) -> Option<FittedRule> {
    let (text, place) = reader.text(table, "rule")?;
    match text.parse() {
        Ok(rule) => Some(rule),
        Err(error) => {
            let problem = Problem::error("bad-rule", crate::model::problem::one_line(&error)).at(place);
            reader.report(
                problem.help("write `max(512MiB, 1.5*n)`, `2*n**2` or `1GiB`, where n is the input size in bytes"),
            );
            None
        }
    }
}

const INPUT: [&str; 8] = ["name", "path", "channels", "parameters", "set", "env", "budget", "size"];

fn inputs(reader: &mut Reader<'_>, table: &mut Table, workload: Option<&WorkloadSpec>) -> Vec<InputConfig> {
    let mut inputs: Vec<InputConfig> = Vec::new();
    for mut table in reader.list_of_tables(table, "inputs") {
        let place = table.place.clone();
        let name = reader.text(&mut table, "name");
        let path = reader.text(&mut table, "path");
        let channels = reader.words(&mut table, "channels");
        let given = name.clone().or_else(|| path.clone()).map(|(name, _)| name);
        let name_place = name.map_or_else(|| place.clone(), |(_, place)| place);
        let Some(name) = given else {
            let problem = Problem::error("missing-field", "an input has neither `name` nor `path`").at(place);
            reader.report(problem.help("add `name = \"small\"`, the name in the baseline and the report"));
            reader.unknown(table, &INPUT, &[]);
            continue;
        };
        if inputs.iter().any(|input| input.name == name) {
            let problem = Problem::error("duplicate", format!("two inputs are named {name}")).at(name_place);
            reader.report(problem.help("give each its own name"));
        }
        let of_channels = |key: &str| format!("`{key}` requires a command with {{input}}");
        match (workload, &path) {
            (Some(WorkloadSpec::Task(_)), Some((_, place))) => {
                let problem = Problem::error("conflict", of_channels("path")).at(place.clone());
                reader.report(problem.help("write `channels = { CHANNEL = \"DIR\" }`"));
            }
            (Some(WorkloadSpec::Command(_) | WorkloadSpec::Image(..)), _) if !channels.is_empty() => {
                let problem = Problem::error("conflict", "`channels` requires a task.json").at(place);
                reader.report(problem.help("write `path = \"DIR\"`, and `{input}` in the command"));
            }
            (_, _) => {}
        }
        inputs.push(InputConfig {
            name,
            path: path.map(|(path, _)| path.into()),
            channels: channels.into_iter().map(|(name, directory)| (name, directory.into())).collect(),
            parameters: reader.words(&mut table, "parameters"),
            set: reader.words(&mut table, "set"),
            env: reader.words(&mut table, "env"),
            budget: reader.bytes(&mut table, "budget").map(|(bytes, _)| bytes),
            size: reader.bytes(&mut table, "size").map(|(bytes, _)| bytes),
        });
        reader.unknown(table, &INPUT, &[]);
    }
    inputs
}

#[cfg(test)]
mod tests;
