//! What a check needs before its first run: configuration, baseline, and records if given.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{SortedRuns, called, judge, judge_baseline};
use crate::calibrate::failure::{Category, Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::resolve::{limit, task};
use crate::calibrate::workload::variables;
use crate::model::check::baseline::{Baseline, BaselineHost};
use crate::model::check::config::{BASELINE, Config, FILE, TaskConfig, WorkloadSpec};
use crate::model::check::growth::{GrowthThresholds, ResourceThresholds};
use crate::model::check::report::Report;
use crate::model::document::Undefined;
use crate::model::fit::FittedRule;
use crate::model::spelling::{nearest, quote};
use crate::model::units::Bytes;
use crate::store::{Source, bounded};

/// Which files a check reads, and what overrides its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SetupOptions {
    /// The configuration file. Without it, all tasks of the records are checked with the default settings.
    pub config: PathBuf,
    /// The baseline instead of the configured one, relative to the current directory.
    pub baseline: Option<PathBuf>,
    /// Whether the baseline will be replaced, so that it may be unusable.
    pub update_baseline: bool,
    /// Whether the runs are compared with another revision, so that no baseline is read.
    pub against: bool,
    /// Records to judge: files, or directories of sweeps.
    pub records: Vec<PathBuf>,
    /// The only tasks to check; all if empty.
    pub tasks: Vec<String>,
    /// Runs per cell.
    pub runs: Option<u32>,
    /// How often to re-run a suspected regression.
    pub confirm: Option<u32>,
    /// Growth by less than this share is ignored.
    pub relative: Option<f64>,
    /// Growth by less than this amount is ignored.
    pub absolute: Option<Bytes>,
    /// Other resources to compare.
    pub growth: GrowthOptions,
}

impl Default for SetupOptions {
    /// The `highwater.toml` of the current directory.
    fn default() -> Self {
        Self {
            config: FILE.into(),
            baseline: None,
            update_baseline: false,
            against: false,
            records: Vec::new(),
            tasks: Vec::new(),
            runs: None,
            confirm: None,
            relative: None,
            absolute: None,
            growth: GrowthOptions::default(),
        }
    }
}

/// Everything known before the first run.
#[derive(Debug)]
pub struct Setup {
    /// The configuration, with tasks that only the baseline still has.
    pub config: Config,
    /// All configured tasks, including those not selected for this check.
    pub listed: BTreeSet<String>,
    /// The directory of the configuration file, in which its relative paths start.
    pub directory: PathBuf,
    /// The baseline file; if relative, it starts in that directory.
    pub baseline_path: PathBuf,
    /// The baseline, if there is one.
    pub baseline: Option<Baseline>,
    /// The runs to judge, if there are records.
    pub recorded: Option<SortedRuns>,
}

impl Setup {
    /// Reads the configuration, the baseline and the records.
    ///
    /// The working directory of the process stays as it is; [`super::Bench`] expects it to be [`Setup::directory`].
    ///
    /// ```no_run
    /// use highwater::Machine;
    /// use highwater::calibrate::check::{Bench, CheckOptions, Setup, SetupOptions};
    /// use highwater::calibrate::monitor::Never;
    ///
    /// let setup = Setup::read(&SetupOptions::default(), &())?;
    /// let machine = Machine::read(Default::default())?;
    /// let is_listed = |task: &str| setup.listed.contains(task);
    /// let mut bench = Bench::new(&setup.config, is_listed, &CheckOptions::default(), &machine, &())?;
    /// let judgement = bench.check(&setup.config, setup.baseline.as_ref(), &mut Never::new()?, |_| Ok(()))?;
    /// println!("{:?}", judgement.report.verdict);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A file is missing or invalid, no such task is configured, or the records have no runs of the tasks.
    pub fn read(options: &SetupOptions, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let sources = options.records.iter().map(|path| Source::open(path)).collect::<Result<Vec<_>, _>>()?;
        let mut recorded = None;
        let mut config = match read(&options.config)? {
            Some(text) => Config::parse(&options.config.display().to_string(), &text)?,
            None if sources.is_empty() => return Err(no_config(&options.config)),
            None => {
                let (config, runs) = all_recorded(&sources, options, feedback)?;
                recorded = Some(runs);
                config
            }
        };
        let directory = options.config.parent().filter(|directory| directory.is_dir());
        let directory = directory.map(Path::to_owned).unwrap_or_default();
        read_rule_files(&mut config, &directory)?;
        options.apply(&mut config)?;
        let listed: BTreeSet<String> = config.tasks.iter().map(|task| task.name.clone()).collect();
        let named = options.baseline.as_ref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let is_required = named.is_some() || config.baseline.is_some();
        let baseline_path = named.or_else(|| config.baseline.clone()).unwrap_or_else(|| BASELINE.into());
        let read = || baseline(&directory, &baseline_path, is_required && !options.update_baseline);
        let baseline = match if options.against { Ok(None) } else { read() } {
            Err(mut unusable) if options.update_baseline => {
                unusable.help = None;
                feedback.failed(unusable);
                feedback.note("replacing this unusable baseline; tasks that do not run now are lost");
                None
            }
            result => result?,
        };
        only(&mut config, &options.tasks)?;
        if options.tasks.is_empty() && !options.update_baseline {
            add_vanished(&mut config, baseline.as_ref());
        }
        let recorded = match recorded {
            None if sources.is_empty() => None,
            None => Some(checked(&config, sort(&directory, &config, &sources, feedback)?, feedback)?),
            Some(mut runs) => {
                runs.retain(&config);
                Some(checked(&config, runs, feedback)?)
            }
        };
        Ok(Self { config, listed, directory, baseline_path, baseline, recorded })
    }

    /// The baseline that these runs make, and their report beside it. It still covers what a baseline does not excuse:
    /// failed and missing runs, and limits.
    pub fn new_baseline(&self, runs: &SortedRuns) -> (Baseline, Report) {
        let before = judge(&self.config, self.baseline.as_ref(), runs).report;
        let mut old = self.baseline.clone();
        if let Some(old) = &mut old {
            // Tasks that are no longer configured leave the baseline.
            old.tasks.retain(|name, _| self.listed.contains(name));
        }
        let new = judge(&self.config, None, runs).report.baseline(old);
        let mut after = judge_baseline(&self.config, &new, runs);
        for (task, before) in after.tasks.iter_mut().zip(&before.tasks) {
            for cell in &mut task.cells {
                let same = before.cells.iter().find(|it| it.name == cell.name);
                cell.baseline = same.and_then(|it| it.baseline.clone());
            }
            task.baseline_rule.clone_from(&before.baseline_rule);
        }
        (new, after)
    }

    /// Refuses runs of a task on these hosts if the baseline was made on a different one.
    ///
    /// # Errors
    /// What differs.
    pub fn refuse_other_host(&self, task: &str, hosts: &[BaselineHost]) -> Result<(), Failure> {
        let Some(then) = self.baseline.as_ref().and_then(|baseline| baseline.tasks.get(task)) else { return Ok(()) };
        let mut differences = hosts.iter().map(|host| then.host.differences(host));
        let Some(differences) = differences.find(|differences| !differences.is_empty()) else { return Ok(()) };
        let error = format!("the baseline of {task} was made on a different host: {}", differences.join("; "));
        let help = "run the check on the baseline's host, or make a baseline for this host with --update-baseline; \
                    without --strict-host this is a warning";
        Err(Failure::new(Category::Host, error, Some(help.to_owned())))
    }
}

/// Thresholds for wall time and cores: giving one of them makes the check compare the resource.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct GrowthOptions {
    /// The relative threshold of wall time.
    pub time_relative: Option<f64>,
    /// The absolute threshold of wall time, in microseconds.
    pub time_absolute: Option<Bytes>,
    /// The relative threshold of cores.
    pub cpu_relative: Option<f64>,
    /// The absolute threshold of cores, in millionths of a core.
    pub cpu_absolute: Option<Bytes>,
}

impl GrowthOptions {
    fn apply(self, thresholds: &mut ResourceThresholds) {
        let apply = |thresholds: &mut Option<GrowthThresholds>, relative: Option<f64>, absolute: Option<Bytes>| {
            if relative.is_none() && absolute.is_none() {
                return;
            }
            let default = thresholds.unwrap_or_default();
            let (relative, absolute) = (relative.unwrap_or(default.relative), absolute.unwrap_or(default.absolute));
            *thresholds = Some(GrowthThresholds { relative, absolute });
        };
        apply(&mut thresholds.time, self.time_relative, self.time_absolute);
        apply(&mut thresholds.cpu, self.cpu_relative, self.cpu_absolute);
    }
}

impl SetupOptions {
    /// Overrides what the file says.
    fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        for task in &mut config.tasks {
            if let Some(runs) = self.runs {
                task.repeats.runs = runs;
                task.repeats.baseline_runs = runs;
            }
            task.repeats.confirm = self.confirm.unwrap_or(task.repeats.confirm);
            task.thresholds.relative = self.relative.unwrap_or(task.thresholds.relative);
            task.thresholds.absolute = self.absolute.unwrap_or(task.thresholds.absolute);
            self.growth.apply(&mut task.thresholds.resources);
            let sensible = task.thresholds.sensible();
            task.thresholds = sensible.map_err(|error| Failure::new(Category::Usage, error, None))?;
        }
        Ok(())
    }
}

/// Reads the rules that files have, whose paths are relative to the directory of the configuration.
fn read_rule_files(config: &mut Config, directory: &Path) -> Result<(), Failure> {
    for task in &mut config.tasks {
        let Some(file) = &task.rule_file else { continue };
        task.rule = Some(FittedRule::constant(limit(&file.below(directory), &task.name)?));
    }
    Ok(())
}

/// All tasks of the records, with default thresholds.
fn all_recorded(
    sources: &[Source],
    options: &SetupOptions,
    feedback: &dyn Feedback,
) -> Result<(Config, SortedRuns), Failure> {
    let mut config = Config::default();
    options.growth.apply(&mut config.thresholds.resources);
    let mut runs = SortedRuns::default();
    for source in sources {
        let unusable = source.each(|observation| {
            let name = called(&observation);
            if !config.tasks.iter().any(|task| task.name == name) {
                config.tasks.push(TaskConfig::of_records(name, config.thresholds, config.repeats));
            }
            runs.add_record(&config, &BTreeMap::new(), &observation);
        })?;
        unusable.iter().for_each(|line| feedback.note(&line.describe(source.path())));
    }
    config.tasks.sort_by(|a, b| a.name.cmp(&b.name));
    if config.tasks.is_empty() { Err(no_runs()) } else { Ok((config, runs)) }
}

/// Sorts the records by configured task.
fn sort(directory: &Path, config: &Config, sources: &[Source], feedback: &dyn Feedback) -> Result<SortedRuns, Failure> {
    let names = names(directory, config);
    let mut runs = SortedRuns::default();
    for source in sources {
        let unusable = source.each(|observation| runs.add_record(config, &names, &observation))?;
        unusable.iter().for_each(|line| feedback.note(&line.describe(source.path())));
    }
    let is_empty = runs.tasks().next().is_none() && runs.others().is_empty();
    if is_empty { Err(no_runs()) } else { Ok(runs) }
}

fn no_runs() -> Failure {
    let help = "name a file written by `highwater run --record` or `highwater check --record`".to_owned();
    Failure::new(Category::TooLittleData, "the records contain no runs", Some(help))
}

/// The content of a file, or `None` if it does not exist.
fn read(path: &Path) -> Result<Option<String>, Failure> {
    match bounded::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            let error = Failed::reading(path, source);
            Err(Failure::usage(error, "name a readable UTF-8 file"))
        }
    }
}

fn no_config(path: &Path) -> Failure {
    let error = Failed::reading(path, io::Error::from(Errno::ENOENT));
    Failure::usage(error, "create one with `highwater init task.json`, or check stored runs with --records FILE")
}

fn baseline(directory: &Path, path: &Path, is_required: bool) -> Result<Option<Baseline>, Failure> {
    match read(&directory.join(path))? {
        Some(text) => Baseline::parse(&path.display().to_string(), &text).map(Some).map_err(|error| {
            let help = error.remedy();
            Failure::usage(error, help)
        }),
        None if is_required => {
            let error = Failed::to(format!("read the baseline {}", path.display()), io::Error::from(Errno::ENOENT));
            Err(Failure::usage(error, "create it with `highwater check --update-baseline`, and commit it"))
        }
        None => Ok(None),
    }
}

fn only(config: &mut Config, names: &[String]) -> Result<(), Failure> {
    for name in names {
        let known = || config.tasks.iter().map(|task| task.name.as_str());
        if !known().any(|known| known == name) {
            let help = match nearest(name, known()) {
                Some(nearest) => format!("write `{nearest}`"),
                None => format!("expected one of: {}", known().collect::<Vec<_>>().join(", ")),
            };
            return Err(Failure::usage(format!("no task is called `{name}`"), help));
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
fn checked(config: &Config, runs: SortedRuns, feedback: &dyn Feedback) -> Result<SortedRuns, Failure> {
    let others = runs.others();
    let skipped = || {
        let runs = others.iter().map(|(name, count)| {
            let name = quote(name);
            if *count == 1 { format!("1 run of {name}") } else { format!("{count} runs of {name}") }
        });
        runs.collect::<Vec<_>>().join(", ")
    };
    if runs.tasks().next().is_none() {
        let checked = config.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>().join(", ");
        let help = "name records of a configured task; tasks match by name, bare commands by their arguments";
        return Err(Failure::usage(
            format!("the records belong to another task: found {}, expected runs of {checked}", skipped()),
            help,
        ));
    }
    if !others.is_empty() {
        feedback.note(&format!("skipped, because the task is not configured: {}", skipped()));
    }
    Ok(runs)
}

/// The names in task.json files, by which records are matched.
fn names(directory: &Path, config: &Config) -> BTreeMap<String, String> {
    let name = |config: &TaskConfig| {
        let WorkloadSpec::Task(path) = &config.workload else { return None };
        let set: Vec<String> = config.set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        // Without a readable task.json, records may still carry the configured name.
        let task = task(&directory.join(path), &variables(&set, Undefined::default()).ok()?).ok()?;
        Some((config.name.clone(), task.content.name))
    };
    config.tasks.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_start_in_the_directory_of_the_configuration_which_is_not_entered() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("highwater.toml");
        fs::write(&config, "baseline = \"ci.json\"\n[tasks.list]\ncommand = [\"ls\"]\n").unwrap();
        let options = SetupOptions { config, runs: Some(5), ..SetupOptions::default() };
        let missing = Setup::read(&options, &()).unwrap_err();
        assert_eq!(missing.to_string(), "failed to read the baseline ci.json");
        let update = SetupOptions { update_baseline: true, ..options.clone() };
        let (baseline, _) = Setup::read(&update, &()).unwrap().new_baseline(&SortedRuns::default());
        fs::write(folder.path().join("ci.json"), baseline.text().unwrap()).unwrap();
        let here = std::env::current_dir().unwrap();
        let setup = Setup::read(&options, &()).unwrap();
        assert_eq!((setup.directory.as_path(), setup.baseline), (folder.path(), Some(baseline)));
        assert_eq!((setup.config.tasks[0].repeats.runs, std::env::current_dir().unwrap()), (5, here));
    }

    #[test]
    fn an_unusable_baseline_is_refused_unless_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.json");
        fs::write(&path, "{").unwrap();
        let config = folder.path().join("highwater.toml");
        fs::write(&config, "[tasks.list]\ncommand = [\"ls\"]\n").unwrap();
        let options = SetupOptions { config, baseline: Some(path), ..SetupOptions::default() };
        assert_eq!(Setup::read(&options, &()).unwrap_err().category, Category::Usage);
        let replaced = Setup::read(&SetupOptions { update_baseline: true, ..options }, &()).unwrap();
        assert_eq!(replaced.baseline, None);
    }
}
