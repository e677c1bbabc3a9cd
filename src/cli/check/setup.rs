//! What a check needs before its first run: configuration, baseline, and records if given.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use highwater::calibrate::check::{SortedRuns, called};
use highwater::calibrate::resolve::task;
use highwater::model::check::baseline::Baseline;
use highwater::model::check::config::{BASELINE, Config, TaskConfig, WorkloadSpec};
use highwater::model::document::Variables;
use highwater::model::spelling::nearest;
use highwater::store::{Source, bounded};

use super::CheckArgs;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{output, output_file, records};

/// Everything known before the first run.
pub(super) struct Setup {
    /// The configuration, with tasks that only the baseline still has.
    pub(super) config: Config,
    /// All configured tasks, including those not selected for this check.
    pub(super) listed: BTreeSet<String>,
    pub(super) baseline_path: PathBuf,
    pub(super) baseline: Option<Baseline>,
    pub(super) recorded: Option<SortedRuns>,
}

impl Setup {
    /// Reads everything, and changes to the directory of the configuration file.
    pub(super) fn read(args: &CheckArgs) -> Result<Self, Failure> {
        let sources = args.records.iter().map(|path| records::open(path)).collect::<Result<Vec<Source>, Failure>>()?;
        // These paths are relative to the current directory, all others to that of the configuration.
        let named = args.baseline.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let mut recorded = None;
        let mut config = match read(&args.config)? {
            Some(text) => {
                Config::parse(&args.config.display().to_string(), &text).map_err(|flawed| Failure::flawed(&flawed))?
            }
            None if sources.is_empty() => return Err(no_config(&args.config)),
            None => {
                let (config, runs) = whatever_is_recorded(&sources)?;
                recorded = Some(runs);
                config
            }
        };
        move_to(&args.config)?;
        options(&mut config, args)?;
        let listed: BTreeSet<String> = config.tasks.iter().map(|task| task.name.clone()).collect();
        let explicit = named.is_some() || config.baseline.is_some();
        let baseline_path = named.or_else(|| config.baseline.clone()).unwrap_or_else(|| BASELINE.into());
        let baseline = if args.update_baseline {
            output_file::check_writable(&baseline_path)?;
            replaced_baseline(&baseline_path)
        } else {
            baseline(&baseline_path, explicit)?
        };
        only(&mut config, &args.task)?;
        if args.task.is_empty() && !args.update_baseline {
            add_vanished(&mut config, baseline.as_ref());
        }
        let recorded = match recorded {
            None if sources.is_empty() => None,
            None => Some(checked(&config, sort(&config, &sources)?)?),
            Some(mut runs) => {
                runs.retain(&config);
                Some(checked(&config, runs)?)
            }
        };
        Ok(Self { config, listed, baseline_path, baseline, recorded })
    }

    /// Writes the baseline and returns whether it changed.
    pub(super) fn write_baseline(&self, baseline: &Baseline) -> Result<bool, Failure> {
        let text = baseline.text().map_err(|error| Failure::new(Exit::Host, &error, None))?;
        if bounded::read_text(&self.baseline_path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        output_file::write(&self.baseline_path, text.as_bytes())?;
        Ok(true)
    }
}

/// All tasks of the records, with default thresholds.
fn whatever_is_recorded(sources: &[Source]) -> Result<(Config, SortedRuns), Failure> {
    let mut config = Config::default();
    let mut runs = SortedRuns::default();
    for source in sources {
        records::each(source, |observation| {
            let name = called(&observation);
            if !config.tasks.iter().any(|task| task.name == name) {
                config.tasks.push(TaskConfig::of_records(name, config.thresholds, config.repeats));
            }
            runs.add_record(&config, &BTreeMap::new(), &observation);
        })?;
    }
    config.tasks.sort_by(|a, b| a.name.cmp(&b.name));
    if config.tasks.is_empty() { Err(no_runs()) } else { Ok((config, runs)) }
}

/// Sorts the records by configured task.
fn sort(config: &Config, sources: &[Source]) -> Result<SortedRuns, Failure> {
    let names = names(config);
    let mut runs = SortedRuns::default();
    for source in sources {
        records::each(source, |observation| runs.add_record(config, &names, &observation))?;
    }
    let is_empty = runs.tasks().next().is_none() && runs.others().is_empty();
    if is_empty { Err(no_runs()) } else { Ok(runs) }
}

fn no_runs() -> Failure {
    let help = "name a file written by `highwater run --record` or `highwater check --record`".to_owned();
    Failure::new(Exit::TooLittleData, &NoRuns, Some(help))
}

/// The content of a file, or `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    match bounded::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let help = "name a readable UTF-8 file".to_owned();
            Err(Failure::new(Exit::Usage, Unreadable::new("read", path, error), Some(help)))
        }
    }
}

fn no_config(path: &Path) -> Failure {
    let error = Unreadable::new("read", path, io::Error::from_raw_os_error(nix::libc::ENOENT));
    let help = "create one with `highwater init task.json`, or check stored runs with --records FILE".to_owned();
    Failure::new(Exit::Usage, &error, Some(help))
}

fn move_to(config: &Path) -> Result<(), Failure> {
    match config.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && folder.is_dir() => std::env::set_current_dir(folder)
            .map_err(|error| Failure::new(Exit::Host, Unreadable::new("enter", folder, error), None)),
        Some(_) | None => Ok(()),
    }
}

/// Command-line options override the file.
fn options(config: &mut Config, args: &CheckArgs) -> Result<(), Failure> {
    for task in &mut config.tasks {
        if let Some(runs) = args.runs {
            task.repeats.runs = runs;
            task.repeats.baseline_runs = runs;
        }
        task.repeats.confirm = args.confirm.unwrap_or(task.repeats.confirm);
        task.thresholds.relative = args.relative.unwrap_or(task.thresholds.relative);
        task.thresholds.absolute = args.absolute.unwrap_or(task.thresholds.absolute);
        task.thresholds = task.thresholds.sensible().map_err(|error| Failure::new(Exit::Usage, error, None))?;
    }
    Ok(())
}

fn baseline(path: &Path, required: bool) -> Result<Option<Baseline>, Failure> {
    let name = path.display().to_string();
    match read(path)? {
        Some(text) => Baseline::parse(&name, &text)
            .map(Some)
            .map_err(|error| Failure::new(Exit::Usage, &error, Some(error.remedy().to_owned()))),
        None if required => {
            let error = Unreadable::new("read the baseline", path, io::Error::from_raw_os_error(nix::libc::ENOENT));
            let help = "create it with `highwater check --update-baseline`, and commit it".to_owned();
            Err(Failure::new(Exit::Usage, &error, Some(help)))
        }
        None => Ok(None),
    }
}

/// The baseline that is about to be replaced; `None` if it is unusable.
fn replaced_baseline(path: &Path) -> Option<Baseline> {
    baseline(path, false).unwrap_or_else(|failure| {
        failure.without_help().warn();
        output::say("highwater: replacing this unusable baseline; tasks that do not run now are lost");
        None
    })
}

fn only(config: &mut Config, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let known = || config.tasks.iter().map(|task| task.name.as_str());
        if !known().any(|known| known == name) {
            let help = match nearest(name, known()) {
                Some(nearest) => format!("write `{nearest}`"),
                None => format!("expected one of: {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(Failure::new(Exit::Usage, &NoTask { name: name.clone() }, Some(help)));
        }
    }
    if !names.is_empty() {
        config.tasks.retain(|task| names.contains(&task.name));
    }
    Ok(())
}

/// Adds the tasks that only the baseline has: all of their cells have vanished.
fn add_vanished(config: &mut Config, baseline: Option<&Baseline>) {
    let known: BTreeSet<String> = config.tasks.iter().map(|task| task.name.clone()).collect();
    let names = baseline.iter().flat_map(|baseline| baseline.tasks.keys()).filter(|name| !known.contains(*name));
    let vanished = names.map(|name| TaskConfig::of_records(name.clone(), config.thresholds, config.repeats));
    config.tasks.extend(vanished.collect::<Vec<_>>());
}

/// Reports runs of tasks that are not checked, and fails if there are no others.
fn checked(config: &Config, runs: SortedRuns) -> Result<SortedRuns, Failure> {
    let others = runs.others();
    let skipped = || {
        let runs = others.iter().map(|(name, count)| {
            let name = highwater::model::spelling::quote(name);
            if *count == 1 { format!("1 run of {name}") } else { format!("{count} runs of {name}") }
        });
        runs.collect::<Vec<_>>().join(", ")
    };
    if runs.tasks().next().is_none() {
        let checked = config.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
        let help = "name records of a configured task; tasks match by name, bare commands by their arguments";
        return Err(Failure::new(Exit::Usage, &OtherTask { found: skipped(), checked }, Some(help.to_owned())));
    }
    if !others.is_empty() {
        output::say(&format!("highwater: skipped, because the task is not configured: {}", skipped()));
    }
    Ok(runs)
}

/// The names in task.json files, by which records are matched.
fn names(config: &Config) -> BTreeMap<String, String> {
    let name = |config: &TaskConfig| {
        let WorkloadSpec::Task(path) = &config.workload else { return None };
        let mut variables = Variables::with_env(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        );
        for (key, value) in &config.set {
            variables.set(&format!("{key}={value}")).ok()?;
        }
        // Without a readable task.json, records may still carry the configured name.
        Some((config.name.clone(), task(path, &variables).ok()?.content.name))
    };
    config.tasks.iter().filter_map(name).collect()
}

/// A file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {what} {path}")]
struct Unreadable {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Unreadable {
    fn new(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}

/// The configuration has no such task.
#[derive(Debug, thiserror::Error)]
#[error("no task is called `{name}`")]
struct NoTask {
    name: String,
}

/// The records belong to other tasks.
#[derive(Debug, thiserror::Error)]
#[error("the records belong to another task: found {found}, expected runs of {checked}")]
struct OtherTask {
    found: String,
    checked: String,
}

/// The records are empty.
#[derive(Debug, thiserror::Error)]
#[error("the records contain no runs")]
struct NoRuns;
