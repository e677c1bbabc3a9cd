//! The runs given to a command: highwater records, or a CSV table.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::failure::Failed;
use highwater::calibrate::fit::{Group, Groups, Metric, parse_csv};
use highwater::model::byte_order_mark;
use highwater::model::fit::{MeasureFilter, Resource};
use highwater::model::problem::{Flawed, Problem};
use highwater::model::rule::Mode;
use highwater::model::timestamp::Timestamp;
use highwater::store::import::{About, Origin, import};
use highwater::store::{ReadError, Source, table};

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::{output, records};

/// Which runs to read.
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// Records of `run --record` or `sweep` (a file or a directory), or a CSV table; - for stdin.
    #[arg(value_name = "RECORDS|FILE.csv")]
    pub(crate) file: PathBuf,
    /// Use only the runs of this task.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// Fit one rule to the runs of all parameters of a sweep, instead of one rule per choice of parameters.
    #[arg(long)]
    pool_parameters: bool,
    /// Quantity to fit.
    #[arg(long, value_enum, default_value_t = OnArg::Peak)]
    pub(super) on: OnArg,
    /// The opened file: a pipe can be read only once, but each quantity is fitted in a pass of its own.
    #[arg(skip)]
    opened: OnceCell<Runs>,
}

/// What n is in the rule.
#[derive(Debug, Default, PartialEq, Args)]
pub(crate) struct PredictorArgs {
    /// Predict the need from this parameter of a sweep, such as n of `-P n=1,2,4`, or from this input channel only.
    ///
    /// Values of a parameter have to be whole numbers or amounts such as 512Mi. Without inputs, a numeric parameter is
    /// the predictor by default. A rule of the Task API cannot be written from a parameter.
    #[arg(long, value_name = "NAME")]
    predictor: Option<String>,
    /// How n combines the sizes of the files, instead of the way that predicts best: sum, max_file_size or max_item_sum.
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// Glob of the files that n counts, such as '*.nii.gz'. Records have the sizes of each extension, and those that the
    /// task's own rule counts.
    #[arg(long, value_name = "GLOB")]
    glob: Option<String>,
    /// Regex of the files that n counts, as in the task's own rule.
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
}

impl PredictorArgs {
    fn filter(&self) -> MeasureFilter {
        MeasureFilter { channel: None, mode: self.mode, glob: self.glob.clone(), regex: self.regex.clone() }
    }

    fn check(&self, groups: &[Group]) -> Result<(), Failure> {
        let has_none = |group: &Group| group.recorded && group.parameter.is_none() && group.measures.is_empty();
        match groups
            .iter()
            .find(|group| self.filter().chooses_files() && !group.table.runs.is_empty() && has_none(group))
        {
            None => Ok(()),
            Some(group) => {
                let name = group.name().map_or_else(String::new, |name| format!("{name}: "));
                let error = format!("{name}the records have no size of the input by this --mode, --glob and --regex");
                let help = "records have the sizes of each channel and extension (--glob '*.EXT'), and of the files that \
                            the task's own rule counts";
                Err(Failure::new(Exit::Usage, error, Some(help.to_owned())))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnArg {
    /// Peak memory, including what the kernel could have reclaimed.
    #[value(alias = "memory")]
    Peak,
    /// Minimum memory limit, found by `highwater floor`.
    Floor,
    /// Wall time. A time-out wastes all of it, so --objective is safe by default.
    Time,
    /// Cores: CPU time divided by wall time, over whole runs.
    Cpu,
    /// Memory on the GPU on which a run had most.
    Gpu,
    /// Files in the outputs and in the writable layer of the container, at the end of the run.
    Storage,
    /// Peak memory, time, cores and, if recorded, storage and GPU memory, one after the other (with `fit`).
    All,
}

impl OnArg {
    pub(super) const fn metric(self) -> Metric {
        match self {
            Self::Peak | Self::All => Metric::Peak,
            Self::Floor => Metric::Floor,
            Self::Time => Metric::Time,
            Self::Cpu => Metric::Cpu,
            Self::Gpu => Metric::Gpu,
            Self::Storage => Metric::Storage,
        }
    }
}

impl RunsArgs {
    /// The resources to fit, memory first; GPU memory and storage only if any run has them.
    pub(super) fn metrics(&self, predictor: &PredictorArgs) -> Vec<Metric> {
        match self.on {
            OnArg::All => {
                let others = [Metric::Storage, Metric::Gpu].into_iter().filter(|metric| self.has(*metric, predictor));
                [Metric::Peak, Metric::Time, Metric::Cpu].into_iter().chain(others).collect()
            }
            one => vec![one.metric()],
        }
    }

    /// Whether memory is what is fitted, and nothing else.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self.on, OnArg::Peak | OnArg::Floor)
    }

    /// The resource whose rules are tested.
    ///
    /// # Errors
    /// With --on all.
    pub(crate) fn one_resource(&self) -> Result<Resource, Failure> {
        match self.on {
            OnArg::All => Err(Failure::new(
                Exit::Usage,
                "--on all is for `highwater fit`",
                Some("choose --on peak, floor, time, cpu, gpu or storage".to_owned()),
            )),
            one => Ok(one.metric().resource()),
        }
    }

    /// Reads the runs, grouped by task, and reports skipped ones.
    pub(crate) fn read(&self, predictor: &PredictorArgs) -> Result<Vec<Group>, Failure> {
        self.read_metric(self.on.metric(), predictor)
    }

    /// Whether any run has this quantity.
    pub(super) fn has(&self, metric: Metric, predictor: &PredictorArgs) -> bool {
        self.groups(metric, predictor).is_ok_and(|groups| groups.iter().any(|group| !group.table.runs.is_empty()))
    }

    /// Reads the runs for one of the quantities.
    pub(super) fn read_metric(&self, metric: Metric, predictor: &PredictorArgs) -> Result<Vec<Group>, Failure> {
        let groups = self.groups(metric, predictor)?;
        predictor.check(&groups)?;
        let groups = match &self.task {
            Some(wanted) => named(groups, wanted)?,
            None => groups,
        };
        for group in &groups {
            let reasons: Vec<String> =
                group.skipped.reasons().map(|(count, reason)| format!("{count} {reason}")).collect();
            if !reasons.is_empty() {
                let name = group.name().map_or_else(String::new, |name| format!("{name}: "));
                let runs =
                    if group.skipped.total() == 1 { "1 run" } else { &format!("{} runs", group.skipped.total()) };
                output::say(&crate::cli::table::printable(&format!("{name}skipped {runs}: {}", reasons.join(", "))));
            }
        }
        let can_pool = groups.iter().any(|group| !group.parameters.is_empty() && group.parameter.is_none());
        if !self.pool_parameters && can_pool && groups.len() > 1 {
            let count = groups.len();
            output::say(&format!(
                "fitting a rule to each of {count} parameter combinations; --pool-parameters fits one to all"
            ));
        }
        Ok(groups)
    }

    /// Reads the runs of all tasks of a workflow, also from more files, and those whose inputs have no known size.
    pub(super) fn read_all(&self, more: &[PathBuf]) -> Result<Vec<Group>, Failure> {
        let mut groups = Groups::new(self.on.metric(), true).with_unsized_runs();
        let mut of_tables = Vec::new();
        for path in std::iter::once(&self.file).chain(more) {
            of_tables.extend(Runs::open(path)?.add(&mut groups, true)?);
        }
        not_empty(groups.finish().into_iter().chain(of_tables).collect())
    }

    fn opened(&self) -> Result<&Runs, Failure> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let opened = Runs::open(&self.file)?;
        Ok(self.opened.get_or_init(|| opened))
    }

    fn groups(&self, metric: Metric, predictor: &PredictorArgs) -> Result<Vec<Group>, Failure> {
        let mut groups = Groups::new(metric, self.pool_parameters)
            .with_predictor(predictor.predictor.clone())
            .with_filter(predictor.filter());
        let of_table = self.opened()?.add(&mut groups, *predictor == PredictorArgs::default())?;
        if !of_table.is_empty() {
            return match metric {
                Metric::Peak | Metric::Floor => Ok(of_table),
                Metric::Time => Ok(of_table.into_iter().map(Group::over_time).collect()),
                Metric::Cpu | Metric::Gpu | Metric::Storage => {
                    let missing = match metric {
                        Metric::Gpu => "GPU memory",
                        Metric::Storage => "storage",
                        Metric::Peak | Metric::Floor | Metric::Time | Metric::Cpu => "CPU time",
                    };
                    let error = format!("{}: a table of runs has no {missing}", name(&self.file));
                    let on = metric.resource();
                    let help = format!("fit --on {on} needs records of `highwater run --record` or `highwater sweep`");
                    Err(Failure::new(Exit::Usage, error, Some(help)))
                }
            };
        }
        groups.check_predictor().map_err(|error| Failure::new(Exit::Usage, error, None))?;
        not_empty(groups.finish())
    }
}

/// Refuses records and tables without any run.
fn not_empty(groups: Vec<Group>) -> Result<Vec<Group>, Failure> {
    if groups.is_empty() {
        let help = "record some: highwater run -r 3 --record runs.jsonl -- COMMAND".to_owned();
        return Err(Failure::new(Exit::TooLittleData, "the records contain no runs", Some(help)));
    }
    Ok(groups)
}

/// An opened file of runs, which can be read more than once.
#[derive(Debug)]
enum Runs {
    /// JSON Lines.
    Records(Source),
    /// A CSV table.
    Table { name: String, text: String },
}

impl Runs {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = name(path);
        let unreadable = |source| {
            let help =
                "give records of `highwater run --record`, a directory written by `highwater sweep`, or a CSV file";
            Failure::new(Exit::Usage, Failed::reading(Path::new(&name), source), Some(help.to_owned()))
        };
        let opened = if path == Path::new("-") { Source::stdin() } else { Source::open(path) };
        let mut source = match opened {
            Err(ReadError::Unreadable { source, .. }) => return Err(unreadable(source)),
            opened => opened.map_err(records::unreadable)?,
        };
        if path.is_dir() || source.begins_as_records().map_err(unreadable)? {
            return Ok(Self::Records(source.rereadable().map_err(records::unreadable)?));
        }
        let bytes = source.read_all().map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|error| no_text(&name, &error))?;
        Ok(Self::Table { name, text })
    }

    /// Adds the runs to the groups, or returns the groups of a table that has fewer columns than records have.
    fn add(&self, groups: &mut Groups, may_be_table: bool) -> Result<Vec<Group>, Failure> {
        let (name, text) = match self {
            Self::Records(source) => {
                records::each(source, |observation| {
                    groups.add(&observation);
                })?;
                return Ok(Vec::new());
            }
            Self::Table { name, text } => (name, byte_order_mark::strip(text)),
        };
        if table::is_export(text) {
            let about = About { name, task: None, written_at: Timestamp::now() };
            let exported = import(text, Some(Origin::Highwater), &about).map_err(|flawed| Failure::flawed(&flawed))?;
            exported.observations.iter().for_each(|observation| {
                groups.add(observation);
            });
            return Ok(Vec::new());
        }
        // Records to which nothing was appended yet.
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        if !may_be_table {
            let error = "--predictor, --mode, --glob and --regex need records, or a table of `highwater export`";
            let help = "keep only the column input_bytes.NAME of this predictor in the table".to_owned();
            return Err(Failure::new(Exit::Usage, error, Some(help)));
        }
        parse_csv(name, text).map_err(|flawed| Failure::flawed(&flawed))
    }
}

/// The name of a file in messages.
fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

fn named(groups: Vec<Group>, wanted: &str) -> Result<Vec<Group>, Failure> {
    let known: Vec<String> = groups.iter().filter_map(Group::name).collect();
    let is_meant = |group: &Group| group.name().as_deref() == Some(wanted) || group.task.as_deref() == Some(wanted);
    let found: Vec<Group> = groups.into_iter().filter(is_meant).collect();
    if found.is_empty() {
        let error = format!("no runs of task `{wanted}`, expected one of `{}`", known.join("`, `"));
        return Err(Failure::new(Exit::Usage, error, None));
    }
    Ok(found)
}

fn no_text(name: &str, error: &std::string::FromUtf8Error) -> Failure {
    let start = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let marked = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
    let problem = Problem::error("not-utf-8", "invalid UTF-8").at(marked).label("expected UTF-8");
    Failure::flawed(&Flawed { name: name.to_owned(), text, problems: vec![problem] })
}
