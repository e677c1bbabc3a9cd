//! `highwater fit`: finds the rule for recorded runs.

mod resource;
mod runs;
mod table;
mod workflow;
mod write;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use highwater::calibrate::fit::{
    Calibration, CalibrationOptions, FitOptions, Group, Objective, Target, TooLittle, Warning, calibrate,
    check_document,
};
use highwater::model::document::Source;
use highwater::model::fit::{Documented, FittedRule, Form, Resource};
use highwater::model::rule::{Dialect, Mode};
use highwater::model::scalar::small_share;
use highwater::model::units::Bytes;
use highwater::report::emit::{Consumer, emit};
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::output;
use super::rule::RuleArg;
use super::run::Format;
use super::table::printable;
use super::task::TemplateArgs;

pub(crate) use self::runs::{PredictorArgs, RunsArgs};
pub(crate) use self::table::backtest_row;

const EXAMPLES: &str = "\
Examples:
  highwater fit records/                      fit a rule to a sweep, compare with today's rule
  highwater fit runs.csv                      fit a rule to a table
  highwater fit records/ --write processing-container.json --dry-run
                                              show what --write would change: only the rule
  highwater fit records/ --write SegmentOperator.py
                                              set ram_mem_mb and ram_mem_mb_lmt of an operator
  highwater fit --objective safe records/     at most 1 % failures instead of the least waste
  highwater fit --failures 0.5% records/      a failure rate of your choice
  highwater fit --against 'max(4Gi, 2*n)' runs.csv
                                              compare with this rule
  highwater fit --dialect scale-factor --target kubernetes records/
                                              an integer factor, without the margin that the
                                              platform adds
  highwater fit --for-size 20Gi records/      the amount for an input of 20 GiB
  highwater fit --emit snakemake records/     the rule in the syntax of Snakemake
  highwater fit --mode max_item_sum --to processing-container --target-dir scans records/
                                              a document for a program that was an operator
  highwater fit --emit slurm --for-size 20Gi records/
                                              one amount, for systems that cannot scale
  highwater fit --on all records/             peak memory, wall time and cores of the same runs
  highwater fit --on time --emit slurm records/
                                              #SBATCH --time for the largest input
  highwater fit --on storage --emit kubernetes records/
                                              ephemeral-storage: files in outputs and the writable layer
  highwater fit --predictor n records/        the need over parameter n of a sweep
  highwater fit --all trace.jsonl --emit nextflow -o memory.config
                                              all processes of a workflow, from an imported trace
  highwater fit --all records/ --write task_type_registry.xml
                                              the memory of PLATO's containers
  highwater fit --format json records/ | jq '.[] | {task, base_bytes, coefficient, exponent}'
                                              the rule of each task, for scripts

Records contain input sizes by channel, mode and extension; the best predictor is used. Runs that failed, timed out or \
were interrupted carry no information and are skipped; runs that were killed for memory push the rule up. With --on time, \
those that timed out do.

A table has one line per run after a header with these columns:
  input_bytes                 size of the input
  input_bytes.NAME            the same by another measure; the one that predicts best is used
  peak_bytes                  peak memory of the run
  wall_seconds                duration of the run (optional: weights the waste; --on time
                              needs it)
  censored                    limit: the peak reached a limit; oom: the run was killed for memory;
                              lower-bound: the peak was sampled (optional)
  workflow, task              each task is fitted separately (optional)

Exit status: 0 a rule was found, 2 invalid file, 5 too little data.";

/// Find the rule that fits recorded runs: max(base, a·n^k), with the headroom they support.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    runs: RunsArgs,
    /// More records or tables, with --all.
    #[arg(value_name = "RECORDS", requires = "all")]
    more: Vec<PathBuf>,
    /// Fit a limit for each task of a workflow; tasks with too little data are left alone.
    ///
    /// Without sizes of inputs, as in traces of Nextflow and benchmarks of Snakemake, the limit of a task is a constant.
    /// Runs with different parameters count as one task. With --emit nextflow or snakemake, all limits are in one
    /// configuration.
    #[arg(long, conflicts_with_all = [
        "task", "pool_parameters", "predictor", "mode", "glob", "regex", "against", "dialect", "target", "for_size",
        "target_dir",
    ])]
    all: bool,
    #[command(flatten)]
    predictor: PredictorArgs,
    #[command(flatten)]
    options: OptionArgs,
    /// Rule in use today, such as 'max(4Gi, 2*n)', 4Gi, SomeOperator.py or task_type_registry.xml::NAME [default: the rules
    /// recorded with the runs].
    ///
    /// It is shown beside the new rule, on the same runs.
    #[arg(long, value_name = "RULE")]
    against: Option<RuleArg>,
    /// Dialect of the rule.
    ///
    /// By default, the dialect of the --write file, else that of the recorded rules, else complexity.
    #[arg(long, value_enum)]
    dialect: Option<DialectArg>,
    /// Platform that will run the task. Kubernetes gives 1.1 times the rule; that margin is not added twice.
    #[arg(long, value_enum, default_value_t = TargetArg::Docker)]
    target: TargetArg,
    /// Also show the amount for an input of this size, and warn if it lies outside the measured range. Can be repeated.
    #[arg(long, value_name = "QUANTITY")]
    for_size: Vec<Bytes>,
    /// Write the rule and the resources to this processing-container.json or task.json, or to an operator in a Python
    /// file, and show the difference.
    ///
    /// Nothing else in the file changes: order, indentation, Jinja and unknown fields stay. Of an operator of Kaapana,
    /// ram_mem_mb and ram_mem_mb_lmt change, in the call of the base class or of the operator; FILE.py::NAME is the
    /// operator of this class or variable. With --all, PLATO's task_type_registry.xml: each container gets the largest
    /// need of its tasks; its memory is lowered only if the needs of all of them are known.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Write or emit the rule even if it needs so much memory per byte of input that n is hardly the cause.
    #[arg(long)]
    force: bool,
    /// Only show what --write would change.
    #[arg(long, requires = "write")]
    dry_run: bool,
    /// Template to change in a processing-container.json that has several.
    #[arg(long, value_name = "IDENTIFIER", requires = "write")]
    template: Option<String>,
    /// Input channel of the rule (required if the records are ambiguous).
    #[arg(long, value_name = "NAME", requires = "write")]
    channel: Option<String>,
    /// Remove the rules of other input channels: the platform takes the largest of all.
    #[arg(long, requires = "write")]
    drop_other_rules: bool,
    #[command(flatten)]
    variables: TemplateArgs,
    /// Print the rule in the syntax of another program, instead of the table.
    ///
    /// Programs that cannot scale with the input get the amount for the largest input measured, or for --for-size. Of a
    /// resource other than memory (--on), each gets what it has a setting for, as listed here.
    #[arg(long, visible_alias = "to", value_enum, value_name = "NAME", conflicts_with_all = ["write", "format"])]
    emit: Option<EmitArg>,
    /// With --to processing-container: count only this directory of each item, and the largest of the items.
    ///
    /// This is how a rule counts the batch that an operator of Kaapana reads; DIR is its OPERATOR_IN_DIR.
    #[arg(long, value_name = "DIR", requires = "emit")]
    target_dir: Option<String>,
    /// File for the configuration of --all --emit; the table goes to stdout then.
    #[arg(short, long, value_name = "FILE", requires_all = ["all", "emit"])]
    output: Option<PathBuf>,
    /// Output format.
    ///
    /// The JSON is an array with an object for each task, also if there is only one; with --on all, an object with such an
    /// array for each resource.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The objective of a fit, shared by all commands that fit.
#[derive(Debug, Args)]
pub(crate) struct OptionArgs {
    /// Objective of the fit [default: waste; safe for wall time].
    #[arg(long, value_enum)]
    objective: Option<ObjectiveArg>,
    /// Share of runs that may fail and be retried with twice as much, such as 1% [default: 5%, or 1% if safe].
    ///
    /// It sets the price of a failure. Few runs cannot guarantee a low failure rate: see headroom in the result.
    #[arg(long, value_name = "SHARE", value_parser = small_share)]
    failures: Option<f64>,
    /// Form of the rule.
    #[arg(long, value_enum, default_value_t = FormArg::Max)]
    form: FormArg,
}

impl OptionArgs {
    pub(crate) fn fit_options(&self) -> FitOptions {
        self.fit_options_for(Resource::Memory)
    }

    /// The options for a resource: a time-out wastes all that ran, so time has more headroom by default.
    pub(crate) fn fit_options_for(&self, resource: Resource) -> FitOptions {
        let objective = match (self.objective, resource) {
            (Some(ObjectiveArg::Waste), _)
            | (None, Resource::Memory | Resource::Cpu | Resource::Gpu | Resource::Storage) => Objective::Waste,
            (Some(ObjectiveArg::Safe), _) | (None, Resource::Time) => Objective::Safe,
        };
        let mut options = FitOptions::new(objective);
        options.form = match self.form {
            FormArg::Max => Form::Max,
            FormArg::Sum => Form::Sum,
        };
        options.failures = self.failures.unwrap_or(options.failures);
        options
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ObjectiveArg {
    /// Least memory reserved in vain, failed attempts included.
    Waste,
    /// Hardly any failures.
    Safe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormArg {
    /// The larger of base and growth, as in the Task API.
    Max,
    /// Base plus growth.
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DialectArg {
    /// Any expression, such as 1.5*n**2.
    Complexity,
    /// An integer that n is multiplied by.
    ScaleFactor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TargetArg {
    Docker,
    Kubernetes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EmitArg {
    /// scale_rule and resources, as JSON.
    TaskApi,
    /// A processing-container.json with one template, to complete by hand.
    ProcessingContainer,
    /// Arguments of a KaapanaBaseOperator: ram_mem_mb and ram_mem_mb_lmt; execution_timeout for time, gpu_mem_mb for GPU
    /// memory.
    KaapanaOperator,
    /// Element resourceRequirements in PLATO's registry of task types, with cpu for cores.
    Plato,
    /// Resources of a container, as YAML: memory, cpu, ephemeral-storage for storage; activeDeadlineSeconds of its pod for
    /// time.
    Kubernetes,
    /// Directives of a process: memory with a closure, time, cpus for cores, disk for storage.
    Nextflow,
    /// Resources of a rule: functions for mem_mb, runtime for time, disk_mb for storage; threads for cores.
    Snakemake,
    /// Options in a batch script: --mem, --time, --cpus-per-task for cores, --tmp for storage.
    Slurm,
    /// Option --memory of docker run.
    Docker,
}

impl EmitArg {
    fn consumer(self) -> Consumer {
        match self {
            Self::TaskApi => Consumer::TaskApi,
            Self::ProcessingContainer => Consumer::ProcessingContainer,
            Self::KaapanaOperator => Consumer::KaapanaOperator,
            Self::Plato => Consumer::Plato,
            Self::Kubernetes => Consumer::Kubernetes,
            Self::Nextflow => Consumer::Nextflow,
            Self::Snakemake => Consumer::Snakemake,
            Self::Slurm => Consumer::Slurm,
            Self::Docker => Consumer::Docker,
        }
    }
}

impl FitArgs {
    fn calibration_options(
        &self,
        group: &Group,
        file: Option<&write::File>,
        against: Option<FittedRule>,
    ) -> CalibrationOptions<'_> {
        let asked = self.dialect.map(|dialect| match dialect {
            DialectArg::Complexity => Dialect::Complexity,
            DialectArg::ScaleFactor => Dialect::ScaleFactor,
        });
        let recorded = || group.declared.as_ref().and_then(|declared| declared.dialect);
        CalibrationOptions {
            fit: self.options.fit_options(),
            dialect: asked
                .or_else(|| file.and_then(write::File::dialect))
                .or_else(recorded)
                .unwrap_or(Dialect::Complexity),
            target: match self.target {
                TargetArg::Docker => Target::Docker,
                TargetArg::Kubernetes => Target::Kubernetes,
            },
            against,
            for_sizes: &self.for_size,
        }
    }
}

pub(crate) fn run(args: &FitArgs) -> Result<Exit, Failure> {
    if !args.runs.is_of_memory() {
        return resource::run(args);
    }
    if args.all {
        return workflow::run(args);
    }
    let file = args.write.as_deref().map(|path| write::File::read(path, args)).transpose()?;
    let against = match &args.against {
        Some(rule) => Some(rule.read()?),
        None => file.as_ref().and_then(write::File::limit),
    };
    let groups = args.runs.read(&args.predictor)?;
    let results = fitted(&groups, |group| calibrate(group, &args.calibration_options(group, file.as_ref(), against)))?;
    if args.emit.is_some() || args.write.is_some() {
        check_emitted(&results, args.force)?;
    }
    if let Some(consumer) = args.emit {
        output::text(&emitted(only_one(&results)?, consumer.consumer(), args.target_dir.as_deref())?)?;
        return Ok(Exit::Done);
    }
    match args.format {
        Format::Json => output::json(&json(&results)?)?,
        Format::Table => output::text(&table::render(&results, against.as_ref()))?,
    }
    if let Some(file) = &file {
        let fitted = only_one(&results)?;
        let diff = file.write(args, fitted)?;
        match args.format {
            Format::Json => output::say_lines(&diff),
            Format::Table => output::text(&format!("\n{diff}"))?,
        }
    }
    Ok(Exit::Done)
}

/// Fits each task, and reports those with too little data.
fn fitted<T>(groups: &[Group], fit: impl Fn(&Group) -> Result<T, TooLittle>) -> Result<Vec<(&Group, T)>, Failure> {
    let mut results = Vec::new();
    let mut lacking = Vec::new();
    for group in groups {
        match fit(group) {
            Ok(result) => results.push((group, result)),
            Err(reason) => lacking.push((group, reason)),
        }
    }
    if results.is_empty() {
        return Err(nothing_fitted(&lacking));
    }
    for (group, reason) in &lacking {
        output::say(&printable(&format!("{}: {reason}", group.name().unwrap_or_default())));
    }
    Ok(results)
}

/// Refuses rules that another program would misread.
fn check_emitted(results: &[(&Group, Calibration)], force: bool) -> Result<(), Failure> {
    results.iter().try_for_each(|(group, _)| refuse_parameter(group))?;
    results.iter().filter(|_| !force).try_for_each(|(_, fitted)| refuse_steep(fitted))
}

/// The rule in the syntax of another program; warnings go to stderr.
fn emitted(fitted: &Calibration, consumer: Consumer, target_dir: Option<&str>) -> Result<String, Failure> {
    let mut documented = match consumer {
        Consumer::TaskApi | Consumer::ProcessingContainer => documented(fitted)?.clone(),
        _ => Documented::default(),
    };
    match target_dir {
        Some(target_dir) if consumer == Consumer::ProcessingContainer => count_items(&mut documented, target_dir)?,
        Some(_) => {
            let help = Some("remove --target-dir, or add --to processing-container".to_owned());
            return Err(Failure::new(Exit::Usage, "--target-dir is for --to processing-container", help));
        }
        None => {}
    }
    let warnings = fitted.fit.warnings.iter().map(|warning| format!("warning: {warning}"));
    warnings.for_each(|warning| output::say(&printable(&warning)));
    if !consumer.scales() && !fitted.declaration.limit.growth.is_empty() {
        let inputs = &fitted.declaration.fixed.inputs;
        output::say(&printable(&format!(
            "{} cannot scale with the input: the amount is for {inputs}",
            consumer.name()
        )));
    }
    let text = emit(consumer, &fitted.declaration, &documented);
    if consumer == Consumer::ProcessingContainer {
        check_document(&Source::plain("the new document", text.clone())).map_err(|flawed| Failure::flawed(&flawed))?;
        output::say("note: complete the descriptions, mounted paths, outputs and variables by hand");
    }
    Ok(text)
}

/// Makes the rules count one directory of each item, as the operators of Kaapana read a batch.
fn count_items(documented: &mut Documented, target_dir: &str) -> Result<(), Failure> {
    for (_, rule) in &mut documented.rules {
        match rule.mode {
            Mode::MaxItemSum => {}
            Mode::Sum => output::say(
                "note: the runs were fitted by all files of their input, which is the same if each had one item; \
                 otherwise, fit them with --mode max_item_sum",
            ),
            Mode::MaxFileSize => {
                let error = "the fitted rule counts the largest file, not the sum of an item";
                return Err(Failure::new(Exit::Usage, error, Some("add --mode max_item_sum or --mode sum".to_owned())));
            }
        }
        rule.mode = Mode::MaxItemSum;
        rule.target_dir = Some(target_dir.to_owned());
    }
    Ok(())
}

/// The rules as a Task API document states them.
fn documented(fitted: &Calibration) -> Result<&Documented, Failure> {
    fitted.documented.as_ref().ok_or_else(|| {
        let help = "use --form max, the default".to_owned();
        let rule = &fitted.fit.rule;
        let error =
            format!("the Task API cannot express {rule}: it takes the maximum of base and growth, not their sum");
        Failure::new(Exit::Usage, error, Some(help))
    })
}

/// A rule counts files of the input.
fn refuse_parameter(group: &Group) -> Result<(), Failure> {
    let Some(parameter) = &group.parameter else { return Ok(()) };
    let error = format!("a rule counts bytes of the input, so none can be written from the parameter `{parameter}`");
    let help = "sweep over inputs, or set a fixed limit for the largest value that is used".to_owned();
    Err(Failure::new(Exit::Usage, error, Some(help)))
}

/// A rule that no program needs would reserve a cluster for one file more.
fn refuse_steep(fitted: &Calibration) -> Result<(), Failure> {
    let Some(warning) = fitted.fit.warnings.iter().find(|warning| matches!(warning, Warning::Steep { .. })) else {
        return Ok(());
    };
    Err(Failure::new(Exit::Usage, warning.to_string(), Some("write it nevertheless with --force".to_owned())))
}

fn only_one<'a>(results: &'a [(&Group, Calibration)]) -> Result<&'a Calibration, Failure> {
    match results {
        [(_, only)] => Ok(only),
        several => {
            let tasks: Vec<_> = several.iter().map(|(group, _)| group.name().unwrap_or_default()).collect();
            let error = format!("found runs of {} tasks (`{}`), expected one", tasks.len(), tasks.join("`, `"));
            let help =
                "select one with --task, fit one rule to all parameters with --pool-parameters, or write those of \
                        a whole workflow with --all --emit nextflow or snakemake"
                    .to_owned();
            Err(Failure::new(Exit::Usage, error, Some(help)))
        }
    }
}

const MORE_DATA: &str = "run the task on at least three inputs of different sizes, without reaching a limit";

fn nothing_fitted(lacking: &[(&Group, TooLittle)]) -> Failure {
    let Some((first, reason)) = lacking.first() else {
        return Failure::new(Exit::TooLittleData, TooLittle::NoRuns, Some(MORE_DATA.to_owned()));
    };
    let has_runs = *reason != TooLittle::NoRuns;
    let are_unsized = lacking.iter().any(|(group, _)| group.skipped.unsized_inputs > 0);
    let help = match (&first.parameter, first.resource) {
        (_, Resource::Gpu) if !has_runs => {
            "no run used GPU memory that could be read; `highwater doctor` shows what can be read".to_owned()
        }
        (_, Resource::Storage) if !has_runs => {
            "sweeps record what containers write, and the files in outputs ({output})".to_owned()
        }
        _ if !has_runs && first.skipped.without_floor > 0 => {
            "find minimum limits with `highwater sweep --floor`, or with `highwater floor --record`".to_owned()
        }
        (Some(name), _) => format!("run the task with at least three values of {name}, without reaching a limit"),
        (None, _) if are_unsized => "sweep over inputs (--input, --size) or over a number (-P n=1,2,4)".to_owned(),
        (None, _) => MORE_DATA.to_owned(),
    };
    let error = match reason {
        TooLittle::NoRuns if are_unsized => "not enough data: no run has an input size".to_owned(),
        reason => reason.to_string(),
    };
    Failure::new(Exit::TooLittleData, error, Some(help))
}

/// The results as an array, also if there is only one.
fn json<T: Serialize>(results: &[(&Group, T)]) -> Result<serde_json::Value, Failure> {
    let all: Vec<&T> = results.iter().map(|(_, result)| result).collect();
    serde_json::to_value(all).map_err(Failure::host)
}
