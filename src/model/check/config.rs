//! What is checked: `highwater.toml`.
//!
//! | key | holds |
//! | --- | --- |
//! | `baseline` | the file of the baseline; `highwater-baseline.json` where nothing is said |
//! | `runs`, `baseline-runs`, `confirm`, `timeout` | how often and how long a task is run; also in a task |
//! | `[thresholds]` | `relative`, `absolute`, `min-samples`, `horizon`, `wasteful`, `vanished`, `new`, `no-baseline`, `not-verified`; also in a task |
//! | `[tasks.NAME]` | one of `task`, `command` and `image`, and what belongs to it |
//! | `[[tasks.NAME.inputs]]` | the cells: `name`, and what is put in |

mod toml;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::terms::{Repeats, TermError, Terms};
use crate::model::byte_order_mark;
use crate::model::fit::FittedRule;
use crate::model::problem::{Flawed, Problem, line_column};
use crate::model::units::Bytes;

use self::toml::{Place, Reader, Table};

/// The name of the file.
pub const FILE: &str = "highwater.toml";
/// The file of the baseline where nothing else is said.
pub const BASELINE: &str = "highwater-baseline.json";
/// The name of the only cell of a task without inputs.
pub const ONLY_CELL: &str = "default";

/// What is checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The file of the baseline, where it is named.
    pub baseline: Option<PathBuf>,
    /// On which terms records of tasks are judged that are not listed.
    pub terms: Terms,
    /// How often such tasks are run.
    pub repeats: Repeats,
    /// In the order they are written down.
    pub tasks: Vec<TaskConfig>,
}

/// One task that is checked.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskConfig {
    /// Its name in the file, the baseline and the report.
    pub name: String,
    /// The line its table begins in, from 1.
    pub line: Option<usize>,
    /// What is run.
    pub what: What,
    /// What it runs in.
    pub runner: RunnerChoice,
    /// The image's document, for a task that calls its template by name.
    pub processing_container: Option<PathBuf>,
    /// Variables that Jinja in the task finds as `custom.KEY`.
    pub set: BTreeMap<String, String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// What a container sees, as `SOURCE:TARGET[:ro]`.
    pub mount: Vec<String>,
    /// Further options, as `highwater run` takes them: `--network=none`.
    pub options: Vec<String>,
    /// What any of its cells may use.
    pub budget: Option<Bytes>,
    /// What an input of n bytes may use.
    pub rule: Option<FittedRule>,
    /// How long a run may take.
    pub timeout: Option<Duration>,
    /// How often it is run.
    pub repeats: Repeats,
    /// On which terms it is judged.
    pub terms: Terms,
    /// Its cells; none is one without anything of its own.
    pub inputs: Vec<InputConfig>,
}

/// What is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A task.json.
    Task(PathBuf),
    /// A command, with `{input}` and `{PARAMETER}` in it.
    Command(Vec<String>),
    /// An image, with a command of its own where there is one.
    Image(String, Vec<String>),
}

/// What a task.json runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunnerChoice {
    /// Its image.
    #[default]
    Container,
    /// A process of this machine.
    Process,
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputConfig {
    /// Its name, which the task has only once.
    pub name: String,
    /// What `{input}` stands for.
    pub path: Option<PathBuf>,
    /// Folders by the channel that they take the place of.
    pub channels: BTreeMap<String, PathBuf>,
    /// What `{PARAMETER}` stands for.
    pub parameters: BTreeMap<String, String>,
    /// As in the task, for this cell.
    pub set: BTreeMap<String, String>,
    /// As in the task, for this cell.
    pub env: BTreeMap<String, String>,
    /// What this cell may use.
    pub budget: Option<Bytes>,
    /// The size of an input that is no file: the n of rules.
    pub size: Option<Bytes>,
}

impl TaskConfig {
    /// A task of which nothing is known but its name: records of it are judged on the given terms.
    pub fn of_records(name: String, terms: Terms, repeats: Repeats) -> Self {
        Self {
            name,
            line: None,
            what: What::Command(Vec::new()),
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
            terms,
            inputs: Vec::new(),
        }
    }

    /// The cells that are run.
    pub fn cells(&self) -> Vec<InputConfig> {
        match self.inputs.as_slice() {
            [] => vec![InputConfig { name: ONLY_CELL.to_owned(), ..InputConfig::default() }],
            cells => cells.to_vec(),
        }
    }

    /// What a cell may use by what is written down here: its own budget, or the task's.
    pub fn budget_of(&self, cell: &str) -> Option<Bytes> {
        let own = self.inputs.iter().find(|input| input.name == cell).and_then(|input| input.budget);
        own.or(self.budget)
    }
}

impl Config {
    /// Reads the text of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
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
    let terms = thresholds(reader, &mut root, Terms::default(), &repeats);
    let baseline = reader.text(&mut root, "baseline").map(|(text, _)| PathBuf::from(text));
    let mut tasks = Vec::new();
    let place = root.place.clone();
    match reader.table(&mut root, "tasks") {
        Some(table) => {
            for (name, table) in reader.tables(table) {
                tasks.extend(task(reader, name, table, Defaults { terms, repeats, timeout }));
            }
        }
        None if !root.has_problem_with("tasks") => {
            let help = "add `[tasks.NAME]` with `task = \"task.json\"` or `command = [\"./program\", \"{input}\"]`";
            reader.tell(Problem::error("missing-field", "no task defined").at(place).help(help));
        }
        None => {}
    }
    reader.unknown(root, &["baseline", "timeout", "thresholds", "tasks"], &REPEATS);
    Config { baseline, terms, repeats, tasks }
}

#[derive(Clone, Copy)]
struct Defaults {
    terms: Terms,
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

fn thresholds(reader: &mut Reader<'_>, parent: &mut Table, default: Terms, repeats: &Repeats) -> Terms {
    let mut terms = default;
    let mut place = parent.place.clone();
    if let Some(mut table) = reader.table(parent, "thresholds") {
        place = table.place.clone();
        let relative = reader.share(&mut table, "relative");
        let absolute = reader.bytes(&mut table, "absolute");
        let samples = reader.count(&mut table, "min-samples", 0..=1000);
        let horizon = reader.number(&mut table, "horizon");
        let wasteful = reader.number(&mut table, "wasteful");
        terms.relative = relative.as_ref().map_or(terms.relative, |relative| relative.0);
        terms.absolute = absolute.as_ref().map_or(terms.absolute, |absolute| absolute.0);
        terms.min_samples = samples.map_or(terms.min_samples, |samples| samples as usize);
        terms.horizon = horizon.as_ref().map_or(terms.horizon, |horizon| horizon.0);
        terms.wasteful = wasteful.as_ref().map_or(terms.wasteful, |wasteful| wasteful.0);
        terms.vanished = reader.reaction(&mut table, "vanished").unwrap_or(terms.vanished);
        terms.new = reader.reaction(&mut table, "new").unwrap_or(terms.new);
        terms.no_baseline = reader.reaction(&mut table, "no-baseline").unwrap_or(terms.no_baseline);
        terms.not_verified = reader.reaction(&mut table, "not-verified").unwrap_or(terms.not_verified);
        let places =
            [relative.map(|it| it.1), absolute.map(|it| it.1), horizon.map(|it| it.1), wasteful.map(|it| it.1)];
        let reactions = ["vanished", "new", "no-baseline", "not-verified"];
        reader.unknown(table, &["relative", "absolute", "min-samples", "horizon", "wasteful"], &reactions);
        if let Err(error) = terms.sensible() {
            let [relative, absolute, horizon, wasteful] = places;
            let of = match error {
                TermError::Relative(_) => relative,
                TermError::Absolute => absolute,
                TermError::Horizon(_) => horizon,
                TermError::Wasteful(_) => wasteful,
                TermError::Samples(_) | TermError::Runs { .. } => None,
            };
            senseless(reader, error, of.unwrap_or_else(|| place.clone()));
            return default;
        }
    }
    if terms.min_samples > repeats.runs as usize {
        let error = TermError::Runs { min_samples: terms.min_samples, runs: repeats.runs };
        senseless(reader, error, place);
    }
    terms
}

fn senseless(reader: &mut Reader<'_>, error: TermError, place: Place) {
    let help = match error {
        TermError::Runs { .. } => "raise `runs`, or lower `thresholds.min-samples`",
        TermError::Relative(_) => "write a share such as \"3%\" or 0.03",
        TermError::Absolute | TermError::Samples(_) | TermError::Horizon(_) | TermError::Wasteful(_) => {
            "remove it to use the default"
        }
    };
    reader.tell(Problem::error("bad-threshold", error.to_string()).at(place).help(help));
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
    let terms = thresholds(reader, &mut table, defaults.terms, &repeats);
    let what = what(reader, &mut table, &name);
    let inputs = inputs(reader, &mut table, what.as_ref());
    let config = TaskConfig {
        line,
        runner: runner(reader, &mut table, what.as_ref()),
        processing_container: reader.text(&mut table, "processing-container").map(|(text, _)| text.into()),
        set: reader.words(&mut table, "set"),
        env: reader.words(&mut table, "env"),
        mount: reader.list(&mut table, "mount").map(|(list, _)| list).unwrap_or_default(),
        options: reader.list(&mut table, "options").map(|(list, _)| list).unwrap_or_default(),
        budget: reader.bytes(&mut table, "budget").map(|(bytes, _)| bytes),
        rule: rule(reader, &mut table),
        timeout: reader.duration(&mut table, "timeout").or(defaults.timeout),
        what: what.unwrap_or(What::Command(Vec::new())),
        name,
        repeats,
        terms,
        inputs,
    };
    reader.unknown(table, &TASK, &REPEATS);
    Some(config)
}

fn what(reader: &mut Reader<'_>, table: &mut Table, name: &str) -> Option<What> {
    let place = table.place.clone();
    let task = reader.text(table, "task");
    let command = reader.list(table, "command");
    let image = reader.text(table, "image");
    if let Some((words, place)) = &command
        && words.is_empty()
    {
        let problem = Problem::error("empty", "the command has no program").at(place.clone());
        reader.tell(problem.help("write an array of arguments, such as [\"./segment\", \"{input}\"]"));
        return None;
    }
    match (task, command, image) {
        (Some((file, _)), None, None) => Some(What::Task(file.into())),
        (None, Some((words, _)), None) => Some(What::Command(words)),
        (None, command, Some((image, _))) => Some(What::Image(image, command.map(|it| it.0).unwrap_or_default())),
        (Some(_), command, image) => {
            let other = command.map(|it| it.1).or(image.map(|it| it.1)).unwrap_or(place);
            let problem =
                Problem::error("conflict", format!("the task {name} has several of `task`, `command` and `image`"));
            reader.tell(problem.at(other).help("keep one of `task`, `command` and `image`"));
            None
        }
        (None, None, None) => {
            if !["task", "command", "image"].iter().any(|key| table.has_problem_with(key)) {
                let problem =
                    Problem::error("missing-field", format!("the task {name} has no `task`, `command` or `image`"));
                let help = "add `task = \"task.json\"`, `command = [\"./program\", \"{input}\"]` or `image = \"NAME\"`";
                reader.tell(problem.at(place).help(help));
            }
            None
        }
    }
}

fn runner(reader: &mut Reader<'_>, table: &mut Table, what: Option<&What>) -> RunnerChoice {
    let Some((text, place)) = reader.text(table, "runner") else { return RunnerChoice::default() };
    if !matches!(what, Some(What::Task(_)) | None) {
        let problem =
            Problem::error("conflict", "`runner` is for `task`: a command runs as a process, an image as a container");
        reader.tell(problem.at(place).help("remove it"));
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
            reader.tell(
                problem.help("write `max(512MiB, 1.5*n)`, `2*n**2` or `1GiB`, where n is the input size in bytes"),
            );
            None
        }
    }
}

const INPUT: [&str; 8] = ["name", "path", "channels", "parameters", "set", "env", "budget", "size"];

fn inputs(reader: &mut Reader<'_>, table: &mut Table, what: Option<&What>) -> Vec<InputConfig> {
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
            reader.tell(problem.help("add `name = \"small\"`, the name in the baseline and the report"));
            reader.unknown(table, &INPUT, &[]);
            continue;
        };
        if inputs.iter().any(|input| input.name == name) {
            let problem = Problem::error("duplicate", format!("two inputs are named {name}")).at(name_place);
            reader.tell(problem.help("give each its own name"));
        }
        let of_channels = |key: &str| format!("`{key}` requires a command with {{input}}");
        match (what, &path) {
            (Some(What::Task(_)), Some((_, place))) => {
                let problem = Problem::error("conflict", of_channels("path")).at(place.clone());
                reader.tell(problem.help("write `channels = { CHANNEL = \"DIR\" }`"));
            }
            (Some(What::Command(_) | What::Image(..)), _) if !channels.is_empty() => {
                let problem = Problem::error("conflict", "`channels` requires a task.json").at(place);
                reader.tell(problem.help("write `path = \"DIR\"`, and `{input}` in the command"));
            }
            (_, _) => {}
        }
        inputs.push(InputConfig {
            name,
            path: path.map(|(path, _)| path.into()),
            channels: channels.into_iter().map(|(name, folder)| (name, folder.into())).collect(),
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
