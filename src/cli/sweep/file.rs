//! Sweep files: a TOML form of the command line. Every flag is a key without its dashes, and a value in a file is
//! checked as if it had been typed.

mod toml;

use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, parser::ValueSource};
use highwater::model::byte_order_mark;
use highwater::model::plan::{Plan, current_name};
use highwater::store::{FolderError, PLAN, bounded, check_plan, read_own_plan};
use serde_json::{Map, Value};

use super::args::SweepArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::records;
use crate::cli::run::redact::{missing, redact};

/// Settings by flag name.
pub(super) type Settings = Map<String, Value>;

/// Settings that say how a sweep runs on one machine, not what it measures.
const OF_ONE_MACHINE: [&str; 16] = [
    "file",
    "into",
    "save-plan",
    "dry-run",
    "retry",
    "cell",
    "cell-index",
    "record",
    "keep-outputs",
    "staging",
    "jobs",
    "memory",
    "max-cost",
    "format",
    "quiet",
    "host",
];

/// The subject: setting one of these replaces the others.
const SUBJECTS: [&str; 3] = ["task", "command", "image"];

/// The merged settings.
pub(super) struct MergedSettings {
    pub(super) args: SweepArgs,
    pub(super) settings: Settings,
    /// The saved plan, if one was given.
    pub(super) saved: Option<Plan>,
}

/// Merges the command line with a sweep file or the plan of a directory; `None` if neither was given.
pub(super) fn merged_settings() -> Result<Option<MergedSettings>, Failure> {
    let matches = crate::cli::Cli::command().get_matches();
    let Some(given) = matches.subcommand_matches("sweep") else { return Ok(None) };
    let command = command();
    let typed = typed(&command, given)?;
    let path = |key: &str| typed.get(key).and_then(Value::as_str).map(PathBuf::from);
    let has_subject = SUBJECTS.iter().any(|key| typed.contains_key(*key));
    let (file, saved) = match (path("file"), path("into")) {
        (Some(file), _) => read(&command, &file)?,
        (None, Some(folder)) if !has_subject => of_folder(&folder)?,
        _ => return Ok(None),
    };
    let all = overlaid(file.clone(), typed.clone());
    require_values(&all)?;
    let args = parsed(&command, &all)?;
    Ok(Some(MergedSettings { args, settings: redacted(overlaid(file, without_values(typed)))?, saved }))
}

/// The settings of the command line alone.
pub(super) fn typed_settings() -> Result<Settings, Failure> {
    let matches = crate::cli::Cli::command().get_matches();
    let Some(given) = matches.subcommand_matches("sweep") else { return Ok(Map::new()) };
    redacted(without_values(typed(&command(), given)?))
}

/// Removes the values of variables, which may be secret, from the command line. A sweep file contains them anyway.
fn without_values(mut typed: Settings) -> Settings {
    if let Some(Value::Array(variables)) = typed.get_mut("env") {
        variables.iter_mut().for_each(|variable| *variable = variable_name(&text(variable)).into());
    }
    typed
}

/// Redacts the values of the arguments named by `redact`.
fn redacted(mut settings: Settings) -> Result<Settings, Failure> {
    let names = settings.get("redact").map(list).unwrap_or_default();
    if let Some(command) = settings.get_mut("command").filter(|_| !names.is_empty()) {
        *command = redact(&list(command), &names)?.into();
    }
    Ok(settings)
}

/// The name in `NAME=VALUE`.
fn variable_name(variable: &str) -> String {
    variable.split_once('=').map_or(variable, |(name, _)| name).to_owned()
}

/// Checks that every value that the plan omits is known.
fn require_values(settings: &Settings) -> Result<(), Failure> {
    let of = |key: &str| settings.get(key).map(list).unwrap_or_default();
    if let Some(name) = missing(&of("command"), &of("redact")) {
        let help = "give the command again with all of its arguments";
        return Err(Failure::new(Exit::Usage, &Redacted(name.to_owned()), Some(help.to_owned())));
    }
    let unset = |variable: &String| !variable.contains('=') && std::env::var_os(variable).is_none();
    if let Some(name) = of("env").into_iter().find(unset) {
        let help = format!("set it in the environment, or give it again with --env {name}=VALUE");
        return Err(Failure::new(Exit::Usage, &NoValue(name), Some(help)));
    }
    Ok(())
}

/// The settings that the plan keeps.
pub(super) fn of_the_plan(mut settings: Settings) -> Settings {
    settings.retain(|key, _| !OF_ONE_MACHINE.contains(&key.as_str()));
    settings.sort_keys();
    settings
}

/// The settings as a sweep file.
pub(super) fn to_toml(settings: &Settings) -> Result<String, Failure> {
    let settings = of_the_plan(settings.clone());
    // In TOML, everything after a table header belongs to the table.
    let (tables, plain): (Settings, Settings) = settings.into_iter().partition(|(_, value)| value.is_object());
    let all: Settings = plain.into_iter().chain(tables).collect();
    let text = ::toml::to_string(&all).map_err(|error| Failure::new(Exit::Host, &error, None))?;
    Ok(format!(
        "# A sweep, for `highwater sweep --file`. Each key is a flag; paths are relative to the current \
         directory.\n{text}"
    ))
}

fn command() -> Command {
    SweepArgs::augment_args(Command::new("sweep").no_binary_name(false).disable_help_flag(true))
}

fn key(arg: &Arg) -> &str {
    arg.get_long().unwrap_or(arg.get_id().as_str())
}

fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
        || arg.get_value_delimiter().is_some()
        || arg.get_num_args().is_some_and(|count| count.max_values() > 1)
}

fn typed(command: &Command, given: &ArgMatches) -> Result<Settings, Failure> {
    let mut settings = Map::new();
    for arg in command.get_arguments() {
        let id = arg.get_id().as_str();
        if given.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            settings.insert(key(arg).to_owned(), Value::Bool(true));
            continue;
        }
        let mut texts = Vec::new();
        for raw in given.get_raw(id).into_iter().flatten() {
            let text = raw.to_str().ok_or_else(|| {
                let error = NotText { flag: key(arg).to_owned(), value: raw.to_string_lossy().into_owned() };
                Failure::new(Exit::Usage, &error, Some("rename it; a plan can contain only UTF-8".to_owned()))
            })?;
            texts.push(text.to_owned());
        }
        settings.insert(key(arg).to_owned(), value_of(arg, texts));
    }
    Ok(settings)
}

/// Values as in a sweep file: parameters by name, numbers as numbers.
fn value_of(arg: &Arg, texts: Vec<String>) -> Value {
    match key(arg) {
        "param" => {
            let mut table = Map::new();
            for text in texts {
                let Some((name, values)) = text.split_once('=') else { continue };
                let values = split(values).into_iter().map(|value| plain(&value));
                let known = table.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(known) = known {
                    known.extend(values);
                }
            }
            Value::Object(table)
        }
        "scan" => {
            let pairs = texts.iter().filter_map(|text| text.split_once('='));
            Value::Object(pairs.map(|(name, range)| (name.to_owned(), Value::from(range))).collect())
        }
        "command" => texts.into_iter().map(Value::from).collect(),
        _ if is_list(arg) => texts.iter().map(|text| plain(text)).collect(),
        _ => texts.last().map_or(Value::Null, |text| plain(text)),
    }
}

/// Splits `a,b\,c` into its values.
pub(super) fn split(values: &str) -> Vec<String> {
    if values.is_empty() {
        return Vec::new();
    }
    let mut all = vec![String::new()];
    let mut chars = values.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, all.last_mut()) {
            ('\\', Some(last)) if chars.peek() == Some(&',') => {
                last.push(',');
                chars.next();
            }
            (',', _) => all.push(String::new()),
            (char, Some(last)) => last.push(char),
            (_, None) => {}
        }
    }
    all
}

fn plain(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => Value::from(number),
        _ => Value::from(text),
    }
}

/// Overrides the settings of a file with the command line.
fn overlaid(mut file: Settings, typed: Settings) -> Settings {
    let replaces = |keys: &[&str]| keys.iter().any(|key| typed.contains_key(*key));
    let exclusive: [&[&str]; 2] = [&SUBJECTS, &["runs", "min-runs", "max-runs"]];
    for keys in exclusive {
        // With an image, a command gives only its arguments and replaces nothing else.
        let only_arguments = keys == SUBJECTS && !replaces(&["task", "image"]) && file.contains_key("image");
        if replaces(keys) && !only_arguments {
            file.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
    for (key, value) in typed {
        match (file.get_mut(&key), value) {
            // Replace variables of the same name, and keep the others.
            (Some(Value::Object(table)), Value::Object(own)) => table.extend(own),
            (Some(known), Value::Array(own)) if key == "env" => {
                let names: Vec<String> = own.iter().map(|variable| variable_name(&text(variable))).collect();
                let others = list(known).into_iter().filter(|variable| !names.contains(&variable_name(variable)));
                *known = others.map(Value::from).chain(own).collect();
            }
            (_, value) => {
                file.insert(key, value);
            }
        }
    }
    file
}

fn read(command: &Command, path: &Path) -> Result<(Settings, Option<Plan>), Failure> {
    let text = bounded::read_text(path).map_err(|source| {
        let error = Unread { path: path.to_owned(), source };
        Failure::new(Exit::Usage, &error, None)
    })?;
    let text = byte_order_mark::strip(&text);
    if text.trim_start().starts_with('{') {
        if let Err(error @ FolderError::NewerPlan { .. }) = check_plan(path, text) {
            return Err(records::unusable_folder(&error));
        }
        return of_plan(&path.display().to_string(), text);
    }
    toml::read(command, path, text).map(|settings| (settings, None))
}

fn of_folder(folder: &Path) -> Result<(Settings, Option<Plan>), Failure> {
    match read_own_plan(folder) {
        Ok(text) => of_plan(&folder.join(PLAN).display().to_string(), &text),
        Err(FolderError::NoPlan(_)) => {
            let error = NothingToDo(folder.to_owned());
            let help = "give a task, a command or a sweep file (--file) as well: the directory has no sweep yet";
            Err(Failure::new(Exit::Usage, &error, Some(help.to_owned())))
        }
        Err(error) => Err(records::unusable_folder(&error)),
    }
}

fn of_plan(name: &str, text: &str) -> Result<(Settings, Option<Plan>), Failure> {
    let unusable = |source| Failure::new(Exit::Usage, &NotAPlan { name: name.to_owned(), source }, None);
    let plan: Plan = serde_json::from_str(text).map_err(unusable)?;
    let settings = plan.sweep.iter().map(|(name, value)| (current_name(name).to_owned(), value.clone()));
    Ok((settings.collect(), Some(plan)))
}

/// The settings as command-line arguments.
fn words(command: &Command, settings: &Settings) -> Vec<String> {
    let mut words = vec!["sweep".to_owned()];
    let mut last = Vec::new();
    for (name, value) in settings {
        let arg = command.get_arguments().find(|arg| key(arg) == name);
        match (name.as_str(), value) {
            ("task", value) => words.push(text(value)),
            ("command", value) => last.extend(list(value)),
            (name, Value::Bool(true)) => words.push(format!("--{name}")),
            (_, Value::Bool(false)) => {}
            (name, Value::Object(table)) => words.extend(table.iter().map(|(of, value)| {
                let escaped = |text: String| text.replace(',', "\\,");
                let values: Vec<String> = match value {
                    Value::Array(_) => list(value).into_iter().map(escaped).collect(),
                    single if name == "param" => vec![escaped(text(single))],
                    single => vec![text(single)],
                };
                format!("--{name}={of}={}", values.join(","))
            })),
            (name, Value::Array(_)) => match arg.and_then(Arg::get_value_delimiter) {
                Some(between) => words.push(format!("--{name}={}", list(value).join(&between.to_string()))),
                None => words.extend(list(value).into_iter().map(|value| format!("--{name}={value}"))),
            },
            (name, value) => words.push(format!("--{name}={}", text(value))),
        }
    }
    if !last.is_empty() {
        words.push("--".to_owned());
        words.extend(last);
    }
    words
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().map(text).collect(),
        single => vec![text(single)],
    }
}

fn parsed(command: &Command, settings: &Settings) -> Result<SweepArgs, Failure> {
    if !SUBJECTS.iter().any(|key| settings.contains_key(*key)) {
        let error = Refused("no task, command or image given".to_owned());
        let help = "set `task`, `command` or `image` in the file, or give one on the command line";
        return Err(Failure::new(Exit::Usage, &error, Some(help.to_owned())));
    }
    let matches = command.clone().try_get_matches_from(words(command, settings));
    let args = matches.and_then(|matches| SweepArgs::from_arg_matches(&matches));
    args.map_err(|error| Failure::new(Exit::Usage, &Refused(first_line(&error)), None))
}

/// The first line of a clap error.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// Checks one setting by itself.
fn wrong(command: &Command, name: &str, value: &Value) -> Option<String> {
    let value = match name {
        // The value may still be given on the command line.
        "env" => list(value).into_iter().map(|variable| variable_name(&variable) + "=").collect(),
        _ => value.clone(),
    };
    let alone: Settings = [("into".to_owned(), Value::from("folder")), (name.to_owned(), value)].into_iter().collect();
    let error = command.clone().try_get_matches_from(words(command, &alone)).err()?;
    match error.kind() {
        // These errors say that other arguments are missing.
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => None,
        _ => Some(first_line(&error)),
    }
}

/// File and command line do not make a valid sweep.
#[derive(Debug, thiserror::Error)]
#[error("invalid sweep: {0}")]
struct Refused(String);

/// The plan lacks the value of an argument.
#[derive(Debug, thiserror::Error)]
#[error("the plan does not contain the value of the argument `{0}`, because --redact removed it")]
struct Redacted(String);

/// The plan lacks the value of a variable.
#[derive(Debug, thiserror::Error)]
#[error("the variable {0} has no value: plans do not contain values of --env")]
struct NoValue(String);

/// A setting cannot be saved.
#[derive(Debug, thiserror::Error)]
#[error("the value of --{flag} is not valid UTF-8: {value}")]
struct NotText {
    flag: String,
    value: String,
}

/// A sweep file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the sweep file {path}")]
struct Unread {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The directory has no sweep, and no subject was given.
#[derive(Debug, thiserror::Error)]
#[error("no task, command or image given, and the directory {0} has no {PLAN}")]
struct NothingToDo(PathBuf);

/// A plan cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{name} is not a sweep plan")]
struct NotAPlan {
    name: String,
    #[source]
    source: serde_json::Error,
}
