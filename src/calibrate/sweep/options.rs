//! What a sweep is to do.

use std::path::PathBuf;
use std::time::Duration;

use super::{Budget, Repetitions, Retry, Until};
use crate::calibrate::argument;
use crate::calibrate::failure::Failure;
use crate::calibrate::workload::settings::{self, Reader, SUBJECTS, SettingError, Settings};
use crate::calibrate::workload::{CacheState, Spec, UseCgroup};
use crate::model::plan::{Count, Order, Pick};
use crate::model::scalar;
use crate::model::units::Bytes;
use crate::runner::container::{Cpus, MemorySwap};

/// The default of [`SweepOptions::precision`].
const PRECISION: f64 = 0.02;

/// The default of [`SweepOptions::kill_after`].
const KILL_AFTER: Duration = Duration::from_secs(10);

/// The default of [`SweepOptions::patience`].
const PATIENCE: Duration = Duration::from_secs(60);

/// The most runs of a cell.
const MOST_RUNS: u32 = 100_000;

/// The names of the settings of a sweep beside those of what it runs.
pub const NAMES: [&str; 44] = [
    "into",
    "retry",
    "cell",
    "cell-index",
    "record",
    "keep-outputs",
    "input",
    "items",
    "pick",
    "grow",
    "size",
    "staging",
    "param",
    "scan",
    "pair",
    "runs",
    "min-runs",
    "max-runs",
    "precision",
    "warmup",
    "order",
    "floor",
    "slowdown",
    "cache",
    "setup",
    "prepare",
    "conclude",
    "cleanup",
    "limit",
    "timeout",
    "kill-after",
    "jobs",
    "pin",
    "memory",
    "max-cost",
    "until",
    "sample-interval",
    "cgroup",
    "on",
    "slurm",
    "max-mem",
    "patience",
    "detach",
    "cancel",
];

/// What a sweep is to do. Each field is the setting of the same name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SweepOptions {
    /// What to run.
    pub spec: Spec,
    /// The directory for plan and records; by default it is named after the task.
    pub into: Option<PathBuf>,
    /// Which recorded runs to repeat.
    pub retry: Retry,
    /// Keys, or their beginnings, of the only cells to run.
    pub cell: Vec<String>,
    /// Ranges of indices, from first to last, of the only cells to run.
    pub cell_index: Vec<(usize, usize)>,
    /// The file for the records of single cells.
    pub record: Option<PathBuf>,
    /// Whether to keep the outputs of each run.
    pub keep_outputs: bool,
    /// Directories of input channels, as `CHANNEL=DIR` or `DIR`.
    pub input: Vec<String>,
    /// The number of items of each subset.
    pub items: Vec<Count>,
    /// Which items come first.
    pub pick: Option<Pick>,
    /// Multiples of the number of items.
    pub grow: Vec<f64>,
    /// Sizes of files to create, in bytes.
    pub size: Vec<Bytes>,
    /// The directory for staged inputs.
    pub staging: Option<PathBuf>,
    /// Parameters and their values.
    pub param: Vec<(String, Vec<String>)>,
    /// Numeric parameters and their values.
    pub scan: Vec<(String, Vec<String>)>,
    /// Whether parameters are combined in pairs, not all with all.
    pub pair: bool,
    /// Runs per cell, unless a minimum or maximum is given.
    pub runs: u32,
    /// The minimum number of runs per cell.
    pub min_runs: Option<u32>,
    /// The maximum number of runs per cell.
    pub max_runs: Option<u32>,
    /// The sufficient spread of the peaks, as a share of their median.
    pub precision: f64,
    /// Unrecorded runs before the first run of each cell.
    pub warmup: u32,
    /// The order of runs.
    pub order: Order,
    /// The precision to which the smallest working limit of each cell is found, if at all.
    pub floor: Option<f64>,
    /// How much slower a run under a limit may be, as a factor.
    pub slowdown: Option<f64>,
    /// The page cache before each run.
    pub cache: CacheState,
    /// A shell command before the first run of each cell.
    pub setup: Option<String>,
    /// A shell command before each run.
    pub prepare: Option<String>,
    /// A shell command after each run.
    pub conclude: Option<String>,
    /// A shell command after the last run of each cell.
    pub cleanup: Option<String>,
    /// The memory limit of each run.
    pub limit: Option<Bytes>,
    /// When a run is ended.
    pub timeout: Option<Duration>,
    /// How long a run has after the first signal.
    pub kill_after: Duration,
    /// The most runs at a time.
    pub jobs: u32,
    /// Whether each run gets CPUs of its own.
    pub pin: bool,
    /// The numbers of CPUs, as a parameter of the cells. A single number for containers is among their resources.
    pub cpus: Vec<Cpus>,
    /// Memory that concurrent runs may use together.
    pub memory: Option<Bytes>,
    /// The most that the sweep may cost.
    pub max_cost: Option<Budget>,
    /// Measure the sizes that tell most first, and stop early.
    pub until: Option<Until>,
    /// The time between samples.
    pub sample_interval: Option<Duration>,
    /// Whether to measure in a cgroup.
    pub cgroup: UseCgroup,
    /// Where the cells run; by default where the sweep in the directory began, else on this machine.
    pub on: Option<On>,
    /// Options for `sbatch`.
    pub slurm: Vec<String>,
    /// The most memory to request for a job.
    pub max_mem: Option<Bytes>,
    /// How long to wait for the records of a job that has ended.
    pub patience: Duration,
    /// Whether to end once the jobs are submitted.
    pub detach: bool,
    /// Whether to cancel the jobs.
    pub cancel: bool,
}

/// Where the cells of a sweep run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum On {
    /// On this machine.
    Local,
    /// On the nodes of a cluster, as job arrays of Slurm.
    Slurm,
    /// As pods of a Kubernetes cluster.
    Kubernetes,
}

impl SweepOptions {
    /// A sweep of this with default options.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            into: None,
            retry: Retry::Interrupted,
            cell: Vec::new(),
            cell_index: Vec::new(),
            record: None,
            keep_outputs: false,
            input: Vec::new(),
            items: Vec::new(),
            pick: None,
            grow: Vec::new(),
            size: Vec::new(),
            staging: None,
            param: Vec::new(),
            scan: Vec::new(),
            pair: false,
            runs: 1,
            min_runs: None,
            max_runs: None,
            precision: PRECISION,
            warmup: 0,
            order: Order::AsGiven,
            floor: None,
            slowdown: None,
            cache: CacheState::AsIs,
            setup: None,
            prepare: None,
            conclude: None,
            cleanup: None,
            limit: None,
            timeout: None,
            kill_after: KILL_AFTER,
            jobs: 1,
            pin: false,
            cpus: Vec::new(),
            memory: None,
            max_cost: None,
            until: None,
            sample_interval: None,
            cgroup: UseCgroup::Auto,
            on: None,
            slurm: Vec::new(),
            max_mem: None,
            patience: PATIENCE,
            detach: false,
            cancel: false,
        }
    }

    /// The sweep that these settings describe.
    ///
    /// # Errors
    /// If a value is invalid, or settings contradict each other.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingError> {
        let Some((spec, cpus)) = spec(settings)? else {
            return Err(SettingError::new("", "no task, command or image given"));
        };
        let options = Self { cpus, ..Self::new(spec).with(Reader(settings))? };
        let part = options.cpus.iter().find(|cpus| cpus.nano % 1_000_000_000 > 0);
        if let (Some(part), false) = (part, options.spec.is_in_container()) {
            let expected = "a process on this machine gets whole CPUs, such as 2";
            return Err(SettingError::invalid("cpus", &part.to_string(), expected));
        }
        let both = |one: &str, other: &str| settings.contains_key(one) && settings.contains_key(other);
        for (one, other) in [("runs", "min-runs"), ("runs", "max-runs"), ("floor", "limit"), ("cell", "cell-index")] {
            if both(one, other) {
                return Err(SettingError::new(other, format!("`{other}` cannot be used with `{one}`")));
            }
        }
        for cells in ["cell", "cell-index"] {
            if both(cells, "into") {
                return Err(SettingError::new(cells, format!("`{cells}` cannot be used with `into`")));
            }
        }
        match (options.spec.container.resources.memory_swap, options.limit) {
            (Some(_), None) => return Err(SettingError::new("memory-swap", "`memory-swap` needs `limit`")),
            (Some(MemorySwap::Total(total)), Some(limit)) if total < limit => {
                let message =
                    format!("`memory-swap` is {total}, less than `limit`, {limit}: it limits memory and swap together");
                return Err(SettingError::new("memory-swap", message));
            }
            (Some(_), Some(_)) | (None, _) => {}
        }
        if options.slowdown.is_some() && options.floor.is_none() {
            return Err(SettingError::new("slowdown", "`slowdown` needs `floor`"));
        }
        Ok(options)
    }

    /// Checks a single setting by itself.
    ///
    /// # Errors
    /// If its value is invalid.
    pub fn check_setting(name: &str, value: &serde_json::Value) -> Result<(), SettingError> {
        let mut value = value.clone();
        if let serde_json::Value::Array(variables) = &mut value
            && name == "env"
        {
            // The value may still be given on the command line.
            for variable in variables.iter_mut().filter(|variable| !settings::as_text(variable).contains('=')) {
                *variable = format!("{}=", settings::as_text(variable)).into();
            }
        }
        let mut alone = Settings::from_iter([(name.to_owned(), value)]);
        if !SUBJECTS.contains(&name) {
            alone.insert("command".to_owned(), "true".into());
        }
        match spec(&alone)? {
            Some((spec, _)) => Self::new(spec).with(Reader(&alone)).map(drop),
            None => Ok(()),
        }
    }

    fn with(self, read: Reader<'_>) -> Result<Self, SettingError> {
        Ok(Self {
            into: read.path("into")?,
            retry: read
                .choice(
                    "retry",
                    &[
                        ("interrupted", Retry::Interrupted),
                        ("oom", Retry::OutOfMemory),
                        ("failed", Retry::Failed),
                        ("never", Retry::Never),
                    ],
                )?
                .unwrap_or(self.retry),
            cell: read.list("cell")?,
            cell_index: read.each("cell-index", argument::indices)?,
            record: read.path("record")?,
            keep_outputs: read.flag("keep-outputs")?,
            input: read.list("input")?,
            items: read.each("items", str::parse::<Count>)?,
            pick: read.parsed("pick", str::parse::<Pick>)?.or(self.pick),
            grow: read.each("grow", argument::growth)?,
            size: read.each("size", scalar::amount)?,
            staging: read.path("staging")?,
            param: parameters(read)?,
            scan: scans(read)?,
            pair: read.flag("pair")?,
            runs: read.number("runs", 1..=MOST_RUNS)?.unwrap_or(self.runs),
            min_runs: read.number("min-runs", 1..=MOST_RUNS)?,
            max_runs: read.number("max-runs", 1..=MOST_RUNS)?,
            precision: read.parsed("precision", scalar::small_share)?.unwrap_or(self.precision),
            warmup: read.number("warmup", 0..=u32::MAX)?.unwrap_or(self.warmup),
            order: read.parsed("order", str::parse::<Order>)?.unwrap_or(self.order),
            floor: floor(read)?,
            slowdown: read.parsed("slowdown", argument::times)?,
            cache: read
                .choice(
                    "cache",
                    &[("cold", CacheState::Cold), ("warm", CacheState::Warm), ("as-is", CacheState::AsIs)],
                )?
                .unwrap_or_default(),
            setup: read.text("setup")?,
            prepare: read.text("prepare")?,
            conclude: read.text("conclude")?,
            cleanup: read.text("cleanup")?,
            limit: read.parsed("limit", scalar::limit)?,
            timeout: read.parsed("timeout", scalar::duration)?,
            kill_after: read.parsed("kill-after", scalar::duration)?.unwrap_or(self.kill_after),
            jobs: read.number("jobs", 1..=1024)?.unwrap_or(self.jobs),
            pin: read.flag("pin")?,
            cpus: self.cpus,
            memory: read.parsed("memory", scalar::limit)?,
            max_cost: read.parsed("max-cost", str::parse)?,
            until: read.parsed("until", str::parse)?,
            sample_interval: read.parsed("sample-interval", argument::sample_interval)?,
            cgroup: read
                .choice(
                    "cgroup",
                    &[("auto", UseCgroup::Auto), ("always", UseCgroup::Always), ("never", UseCgroup::Never)],
                )?
                .unwrap_or_default(),
            on: read.choice("on", &[("local", On::Local), ("slurm", On::Slurm), ("kubernetes", On::Kubernetes)])?,
            slurm: words(read, "slurm")?,
            max_mem: read.parsed("max-mem", scalar::limit)?,
            patience: read.parsed("patience", scalar::duration)?.unwrap_or(self.patience),
            detach: read.flag("detach")?,
            cancel: read.flag("cancel")?,
            spec: self.spec,
        })
    }

    /// Whether only some cells are requested.
    pub(super) fn is_of_cells(&self) -> bool {
        !self.cell.is_empty() || !self.cell_index.is_empty()
    }

    /// The most that the sweep may cost. Only one of --max-cost and --until may limit it.
    ///
    /// # Errors
    /// If both do.
    pub(super) fn budget(&self) -> Result<Option<Budget>, Failure> {
        match (self.max_cost, self.until) {
            (Some(_), Some(Until::Cost(_))) => {
                Err(Failure::usage("both `max-cost` and `until` limit the cost", "remove one of them"))
            }
            (None, Some(Until::Cost(budget))) => Ok(Some(budget)),
            (max_cost, _) => Ok(max_cost),
        }
    }

    /// The numbers of runs.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(super) fn repetitions(&self) -> Result<Repetitions, Failure> {
        let precision = self.precision;
        Ok(match (self.min_runs, self.max_runs) {
            (Some(least), Some(most)) if least > most => {
                let error = format!("`min-runs` is {least}, which is greater than `max-runs`, {most}");
                return Err(Failure::usage(error, "raise `max-runs`, or remove it"));
            }
            (None, None) => Repetitions { least: self.runs, most: self.runs, precision },
            (least, most) => {
                let least = least.unwrap_or(3).min(most.unwrap_or(u32::MAX));
                Repetitions { least, most: most.unwrap_or(least + 10).max(least), precision }
            }
        })
    }
}

/// What is run, and the numbers of CPUs that are a parameter of the cells: all but a single one for containers.
fn spec(settings: &Settings) -> Result<Option<(Spec, Vec<Cpus>)>, SettingError> {
    let mut cpus = Reader(settings).each("cpus", str::parse::<Cpus>)?;
    let others = settings.iter().filter(|(name, _)| *name != "cpus");
    let others = others.map(|(name, value)| (name.clone(), value.clone())).collect();
    let Some(mut spec) = Spec::from_settings(&others)? else { return Ok(None) };
    if spec.is_in_container() && cpus.len() == 1 {
        spec.container.resources.cpus = cpus.pop();
    }
    Ok(Some((spec, cpus)))
}

/// The words of a text, quoted as in a shell.
fn words(read: Reader<'_>, name: &str) -> Result<Vec<String>, SettingError> {
    let Some(text) = read.text(name)? else { return Ok(Vec::new()) };
    let expected =
        "expected options as in a shell, such as \"--partition=main --time=2:00:00\", with every quote closed";
    shlex::split(&text).ok_or_else(|| SettingError::invalid(name, &text, expected))
}

/// A table of parameters, each with an array of values or a text such as `1,2`; or texts as they are typed.
fn parameters(read: Reader<'_>) -> Result<Vec<(String, Vec<String>)>, SettingError> {
    let expected = "expected a table such as { threads = [1, 2] }, or strings such as \"threads=1,2\"";
    let invalid = |found: &str| SettingError::invalid("param", found, expected);
    match read.0.get("param") {
        Some(serde_json::Value::Object(table)) => table
            .iter()
            .map(|(name, value)| {
                argument::parameter(&format!("{name}=")).map_err(|_| invalid(name))?;
                Ok((name.clone(), settings::as_list(value)))
            })
            .collect(),
        Some(value) => {
            let words = settings::as_list(value).into_iter();
            words.map(|word| argument::parameter(&word).map_err(|_| invalid(&word))).collect()
        }
        None => Ok(Vec::new()),
    }
}

/// A table of ranges, each as `MIN:MAX:STEP`; or texts as they are typed.
fn scans(read: Reader<'_>) -> Result<Vec<(String, Vec<String>)>, SettingError> {
    let words = match read.0.get("scan") {
        Some(serde_json::Value::Object(table)) => {
            table.iter().map(|(name, value)| format!("{name}={}", settings::as_text(value))).collect()
        }
        Some(value) => settings::as_list(value),
        None => Vec::new(),
    };
    let scan = |word: &String| {
        argument::scan(word).map_err(|error| match word.contains('=') {
            true => SettingError::invalid("scan", word, error),
            false => SettingError::invalid("scan", word, "expected a table such as { level = \"1:9:2\" }"),
        })
    };
    words.iter().map(scan).collect()
}

/// The precision of the floor: a share, or true for the default.
fn floor(read: Reader<'_>) -> Result<Option<f64>, SettingError> {
    match read.0.get("floor") {
        Some(serde_json::Value::Bool(wanted)) => Ok(wanted.then_some(PRECISION)),
        _ => read.parsed("floor", scalar::small_share),
    }
}
