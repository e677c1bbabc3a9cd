//! Sweep files and plans: where the settings of a sweep come from beside the command line. Every flag is a key without
//! its dashes, and a value in a file is checked as if it had been typed.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file_toml as toml;
use crate::calibrate::failure::{Category, Failed, Failure};
use crate::calibrate::workload::settings::{SUBJECTS, Settings, as_list, as_text};
use crate::calibrate::workload::{missing, redact};
use crate::model::byte_order_mark;
use crate::model::plan::{Plan, current_name};
use crate::store::{FolderError, PLAN, bounded, check_plan, read_own_plan};

/// Settings that say how a sweep runs on one machine, not what it measures.
const OF_ONE_MACHINE: [&str; 24] = [
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
    "pin",
    "memory",
    "max-cost",
    "until",
    "format",
    "quiet",
    "host",
    "on",
    "slurm",
    "max-mem",
    "patience",
    "detach",
    "cancel",
];

/// The settings of a sweep, from the command line and a file. The default is none: then the plan does not say how to
/// make the sweep again.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SweepSettings {
    /// All of them, with the values of variables.
    pub all: Settings,
    /// Those to record, without values that are kept out of plans.
    pub recorded: Settings,
    /// The saved plan, if one was given.
    pub saved: Option<Plan>,
}

impl SweepSettings {
    /// Merges typed settings with the sweep file that they name (`file`), or with the plan of the directory (`into`) if
    /// they do not say what to run.
    ///
    /// # Errors
    /// If a file cannot be read or is invalid, or a value is missing that plans do not contain.
    pub fn merged(typed: Settings) -> Result<Self, Failure> {
        let path = |key: &str| typed.get(key).and_then(Value::as_str).map(PathBuf::from);
        let has_subject = SUBJECTS.iter().any(|key| typed.contains_key(*key));
        let (file, saved) = match (path("file"), path("into")) {
            (Some(file), _) => read(&file)?,
            (None, Some(folder)) if !has_subject => of_folder(&folder)?,
            _ => return Ok(Self { recorded: redacted(without_values(typed.clone()))?, all: typed, saved: None }),
        };
        let all = overlaid(file.clone(), typed.clone());
        require_values(&all)?;
        if !SUBJECTS.iter().any(|key| all.contains_key(*key)) {
            let help = "set `task`, `command` or `image` in the file, or give one on the command line";
            return Err(Failure::usage("invalid sweep: no task, command or image given", help));
        }
        Ok(Self { all, recorded: redacted(overlaid(file, without_values(typed)))?, saved })
    }

    /// The settings that the plan keeps.
    pub(super) fn of_the_plan(&self) -> Settings {
        of_the_plan(self.recorded.clone())
    }

    /// The settings as a sweep file.
    ///
    /// # Errors
    /// If TOML cannot express them.
    pub fn to_toml(&self) -> Result<String, Failure> {
        // In TOML, everything after a table header belongs to the table.
        let (tables, plain): (Settings, Settings) =
            self.of_the_plan().into_iter().partition(|(_, value)| value.is_object());
        let all: Settings = plain.into_iter().chain(tables).collect();
        let text = ::toml::to_string(&all).map_err(Failure::host)?;
        Ok(format!(
            "# A sweep, for `highwater sweep --file`. Each key is a flag; paths are relative to the current \
             directory.\n{text}"
        ))
    }
}

/// Removes the values of variables, which may be secret, from the command line. A sweep file contains them anyway.
fn without_values(mut typed: Settings) -> Settings {
    if let Some(Value::Array(variables)) = typed.get_mut("env") {
        variables.iter_mut().for_each(|variable| *variable = variable_name(&as_text(variable)).into());
    }
    typed
}

/// Redacts the values of the arguments named by `redact`.
fn redacted(mut settings: Settings) -> Result<Settings, Failure> {
    let names = settings.get("redact").map(as_list).unwrap_or_default();
    if let Some(command) = settings.get_mut("command").filter(|_| !names.is_empty()) {
        *command = redact(&as_list(command), &names)?.into();
    }
    Ok(settings)
}

/// The name in `NAME=VALUE`.
fn variable_name(variable: &str) -> String {
    variable.split_once('=').map_or(variable, |(name, _)| name).to_owned()
}

/// Checks that every value that the plan omits is known.
fn require_values(settings: &Settings) -> Result<(), Failure> {
    let of = |key: &str| settings.get(key).map(as_list).unwrap_or_default();
    if let Some(name) = missing(&of("command"), &of("redact")) {
        let help = "give the command again with all of its arguments";
        let error =
            format!("the plan does not contain the value of the argument `{name}`, because --redact removed it");
        return Err(Failure::usage(error, help));
    }
    let unset = |variable: &String| !variable.contains('=') && std::env::var_os(variable).is_none();
    if let Some(name) = of("env").into_iter().find(unset) {
        let help = format!("set it in the environment, or give it again with --env {name}=VALUE");
        let error = format!("the variable {name} has no value: plans do not contain values of --env");
        return Err(Failure::usage(error, help));
    }
    Ok(())
}

/// The settings that the plan keeps.
fn of_the_plan(mut settings: Settings) -> Settings {
    // A cell that runs as a pod is another one than the same in a container; where jobs ran is beside the plan.
    let is_of_the_plan =
        |key: &str, value: &Value| !OF_ONE_MACHINE.contains(&key) || (key == "on" && value == "kubernetes");
    settings.retain(|key, value| is_of_the_plan(key, value));
    settings.sort_keys();
    settings
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
                let names: Vec<String> = own.iter().map(|variable| variable_name(&as_text(variable))).collect();
                let others = as_list(known).into_iter().filter(|variable| !names.contains(&variable_name(variable)));
                *known = others.map(Value::from).chain(own).collect();
            }
            (_, value) => {
                file.insert(key, value);
            }
        }
    }
    file
}

fn read(path: &Path) -> Result<(Settings, Option<Plan>), Failure> {
    let unread = |source| {
        let error = Failed::to(format!("read the sweep file {}", path.display()), source);
        Failure::new(Category::Usage, error, None)
    };
    let text = bounded::read_text(path).map_err(unread)?;
    let text = byte_order_mark::strip(&text);
    if text.trim_start().starts_with('{') {
        if let Err(error @ FolderError::NewerPlan { .. }) = check_plan(path, text) {
            return Err(error.into());
        }
        return of_plan(path, text);
    }
    toml::read(path, text).map_err(Failure::from).map(|settings| (settings, None))
}

fn of_folder(folder: &Path) -> Result<(Settings, Option<Plan>), Failure> {
    match read_own_plan(folder) {
        Ok(text) => of_plan(&folder.join(PLAN), &text),
        Err(FolderError::NoPlan(_)) => {
            let error =
                format!("no task, command or image given, and the directory {} has no {PLAN}", folder.display());
            let help = "give a task, a command or a sweep file (--file) as well: the directory has no sweep yet";
            Err(Failure::usage(error, help))
        }
        Err(error) => Err(error.into()),
    }
}

fn of_plan(path: &Path, text: &str) -> Result<(Settings, Option<Plan>), Failure> {
    let help = "name a plan.json that `highwater sweep` wrote, or a sweep file in TOML";
    let unusable =
        |error: serde_json::Error| Failure::usage(format!("{} is not a sweep plan: {error}", path.display()), help);
    let plan: Plan = serde_json::from_str(text).map_err(unusable)?;
    let settings = plan.sweep.iter().map(|(name, value)| (current_name(name).to_owned(), value.clone()));
    let mut settings = settings.collect();
    let base = path.parent().unwrap_or(Path::new(""));
    let here = std::env::current_dir().ok();
    change_paths(&mut settings, |path| {
        // In older plans, paths are relative to the directory in which the sweep was started.
        let found = Some(base.join(path)).filter(|found| found.exists());
        let found = found.unwrap_or_else(|| path.to_owned());
        // As it would be typed here: ambiguous names of cases are paths.
        let shorter = here.as_deref().and_then(|here| found.strip_prefix(here).ok()).map(Path::to_owned);
        shorter.filter(|shorter| !shorter.as_os_str().is_empty()).unwrap_or(found)
    });
    Ok((settings, Some(plan)))
}

/// Makes the paths of the task and of inputs absolute, so that the sweep can be resumed from anywhere.
pub(super) fn with_absolute_paths(mut settings: Settings) -> Settings {
    change_paths(&mut settings, |path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    settings
}

/// Changes the paths of the task, of what is read with it, and of the inputs. A plan contains only UTF-8: a path stays as it
/// is, relative, if the directory above it has another name.
fn change_paths(settings: &mut Settings, change: impl Fn(&Path) -> PathBuf) {
    let change =
        |path: &str| change(Path::new(path)).into_os_string().into_string().unwrap_or_else(|_| path.to_owned());
    let is_task = settings.contains_key("task");
    for name in ["task", "processing-container", "conf"] {
        if let Some(Value::String(path)) = settings.get_mut(name) {
            *path = change(path);
        }
    }
    if let Some(data) = settings.get_mut("data") {
        let changed = as_list(data).into_iter().map(|data| match data.split_once('=') {
            Some((channel, path)) => format!("{channel}={}", change(path)),
            None => data,
        });
        *data = changed.collect();
    }
    if let Some(inputs) = settings.get_mut("input") {
        let changed = as_list(inputs).into_iter().map(|input| {
            match input.split_once('=').filter(|(name, _)| is_task && !name.contains('/')) {
                Some((channel, path)) => format!("{channel}={}", change(path)),
                None => change(&input),
            }
        });
        *inputs = changed.collect();
    }
}
