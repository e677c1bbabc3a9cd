//! `highwater check`: the CI gate. It runs what `highwater.toml` lists, or reads records, and compares the peaks with
//! limits, budgets and the committed baseline.

mod outputs;
mod running;
mod setup;
mod table;

use std::path::PathBuf;

use clap::Args;
use highwater::calibrate::check::{Bench, CheckOptions, Judgement, Run, SortedRuns, judge, judge_baseline};
use highwater::calibrate::failure::{self, Category};
use highwater::model::check::baseline::{Baseline, BaselineHost};
use highwater::model::check::report::{Level, Report, Verdict};
use highwater::model::scalar::{positive_amount, relative_share};
use highwater::model::units::Bytes;

use self::outputs::Outputs;
use self::running::Runs;
use self::setup::Setup;
use super::engine::EngineArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::feedback::Terminal;
use super::output;
use super::run::Format;
use super::task::Deny;

const EXAMPLES: &str = "\
Examples:
  highwater init task.json                    write highwater.toml, which defines the check
  highwater check --update-baseline           run it and write the baseline: commit both files
  highwater check                             run it again and compare
  highwater check --records sweep/            judge recorded runs, run nothing
  highwater check --junit junit.xml --github  in a GitHub Actions workflow
  highwater check --junit junit.xml --gitlab metrics.txt
                                              in a GitLab CI job

It fails for
  a run of the task that fails                                      (status 4)
  a peak above a budget, the task's limit or its scale rule         (status 1)
  growth over the baseline by more than 3 % and more than 4 MiB     (status 1)
  a rule that predicts more, though no measured input needs it yet  (status 1)
  a cell of the baseline that was not run                           (status 1)
  a task without a baseline, or with too few runs                   (status 5)
  a peak that is a lower bound within a budget or the baseline: it
  does not show that the task stays within it                       (status 5)
It warns about a cell that is not in the baseline, an input that has changed, and a baseline from another host. A \
lower bound above a budget fails like an exact peak, and an upper bound within it passes. A suspected regression is \
re-run, twice by default, before the check fails. Every threshold can be set in highwater.toml.

Exit status: 0 passed, 1 a check failed, 2 wrong usage or an invalid file, 3 unsupported host or container engine, 4 \
the task failed, 5 too little data, 130 interrupted.";

/// Fail, with a stated reason, when a task needs more memory than allowed: the gate for CI.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CheckArgs {
    /// Config file; relative paths are resolved against its directory.
    #[arg(short, long, value_name = "FILE.toml", default_value = highwater::model::check::config::FILE)]
    config: PathBuf,
    /// Baseline to use instead of the one named in the config file.
    #[arg(long, value_name = "FILE.json")]
    baseline: Option<PathBuf>,
    /// Write a new baseline from these runs instead of comparing; by default with twice as many runs as a check.
    #[arg(long)]
    update_baseline: bool,
    /// Judge these records and run nothing: a file of `run --record`, or the directory of a sweep. Can be repeated.
    ///
    /// Without a highwater.toml, all tasks in the records are judged with the default settings.
    #[arg(long, value_name = "RECORDS")]
    records: Vec<PathBuf>,
    /// Check only this task. Can be repeated.
    #[arg(long, value_name = "NAME")]
    task: Vec<String>,
    /// Runs per cell.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Re-run a suspected regression up to N times before failing.
    ///
    /// Each re-run makes as many runs as the first time, and each has to show the growth.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=20))]
    confirm: Option<u32>,
    /// Ignore growth by less than SHARE, such as 3%.
    #[arg(long, value_name = "SHARE", value_parser = relative_share)]
    relative: Option<f64>,
    /// Ignore growth by less than QUANTITY, such as 4MiB.
    #[arg(long, value_name = "QUANTITY", value_parser = positive_amount)]
    absolute: Option<Bytes>,
    /// Refuse to compare with a baseline from another kernel, cgroup version, engine or architecture, instead of
    /// warning.
    #[arg(long)]
    strict_host: bool,
    /// Fail on warnings, too.
    #[arg(long, value_enum, value_name = "WHAT")]
    deny: Option<Deny>,
    /// Record each run in this file.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "records")]
    record: Option<PathBuf>,
    /// Write stdout and stderr of every run to files in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "records")]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Output format on stdout: a table, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Do not print individual runs.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    outputs: outputs::OutputArgs,
}

pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    if args.records.is_empty() {
        running::enter_scope()?;
    }
    // Check the outputs first, so that no run is wasted.
    let outputs = Outputs::new(args)?;
    let setup = Setup::read(args)?;
    if args.update_baseline {
        return update(args, setup, &outputs);
    }
    let judgement = match &setup.recorded {
        Some(recorded) => {
            for task in recorded.tasks() {
                refuse_other_host(args, setup.baseline.as_ref(), task, recorded.hosts(task))?;
            }
            judge(&setup.config, setup.baseline.as_ref(), recorded)
        }
        None => check(args, &setup)?,
    };
    write_report(args, &judgement.report, &outputs)
}

/// Runs all cells, then re-runs those that seem to have grown.
fn check(args: &CheckArgs, setup: &Setup) -> Result<Judgement, Failure> {
    let (config, baseline) = (&setup.config, setup.baseline.as_ref());
    let machine = running::machine()?;
    let feedback = Terminal::quiet(args.quiet);
    let mut session = Runs::new(args)?;
    let mut bench = Bench::new(config, |task| setup.listed.contains(task), &options(args), &machine, &feedback)?;
    let refuse = |run: &Run| {
        let host = BaselineHost::from_observation(&run.observation, false);
        refuse_other_host(args, baseline, &run.task, std::slice::from_ref(&host))
    };
    Ok(bench.check(config, baseline, &mut session, refuse)?)
}

fn options(args: &CheckArgs) -> CheckOptions {
    let mut options = CheckOptions::default();
    options.engine = args.engine.options();
    options.log_dir.clone_from(&args.log_dir);
    options
}

/// Rewrites the baseline.
fn update(args: &CheckArgs, mut setup: Setup, outputs: &Outputs) -> Result<Exit, Failure> {
    let runs = match setup.recorded.take() {
        Some(recorded) => recorded,
        None => {
            let machine = running::machine()?;
            let feedback = Terminal::quiet(args.quiet);
            let is_listed = |task: &str| setup.listed.contains(task);
            let mut bench = Bench::new(&setup.config, is_listed, &options(args), &machine, &feedback)?;
            let mut session = Runs::new(args)?;
            let runs = bench.batch(&mut session, |task, _| Some(task.repeats.baseline_runs), |_| Ok(()))?;
            SortedRuns::of_batches(&setup.config, &[runs])
        }
    };
    let before = judge(&setup.config, setup.baseline.as_ref(), &runs).report;
    let mut old = setup.baseline.clone();
    if let Some(old) = &mut old {
        // Tasks that are no longer configured leave the baseline.
        old.tasks.retain(|name, _| setup.listed.contains(name));
    }
    let new = judge(&setup.config, None, &runs).report.baseline(old);
    // The report still covers what a baseline does not excuse: failed and missing runs, and limits.
    let mut after = judge_baseline(&setup.config, &new, &runs);
    for (task, before) in after.tasks.iter_mut().zip(&before.tasks) {
        for cell in &mut task.cells {
            let same = before.cells.iter().find(|it| it.name == cell.name);
            cell.baseline = same.and_then(|it| it.baseline.clone());
        }
        task.baseline_rule.clone_from(&before.baseline_rule);
    }
    let written = match after.verdict {
        Verdict::Passed | Verdict::NotVerified | Verdict::Failed => Some(setup.write_baseline(&new)?),
        Verdict::TooLittleData | Verdict::TaskFailed => None,
    };
    let exit = write_report(args, &after, outputs)?;
    match written {
        Some(true) => output::say(&format!(
            "highwater: wrote the baseline {}; commit it together with the change that caused it",
            setup.baseline_path.display()
        )),
        Some(false) => {
            output::say(&format!("highwater: the baseline {} is unchanged", setup.baseline_path.display()));
        }
        None => output::say("highwater: the baseline was not written"),
    }
    Ok(exit)
}

/// Writes all requested outputs and returns the exit status.
fn write_report(args: &CheckArgs, report: &Report, outputs: &Outputs) -> Result<Exit, Failure> {
    match args.format {
        Format::Table => output::text(&table::render(report))?,
        Format::Json => output::json(report)?,
    }
    outputs.write(report)?;
    let denied = args.deny == Some(Deny::Warnings) && report.count(Level::Warning) > 0;
    if denied {
        output::say("highwater: warnings count as failures (--deny warnings)");
    }
    Ok(match report.verdict {
        Verdict::Passed if denied => Exit::CheckFailed,
        Verdict::Passed => Exit::Done,
        Verdict::NotVerified | Verdict::TooLittleData => Exit::TooLittleData,
        Verdict::Failed => Exit::CheckFailed,
        Verdict::TaskFailed => Exit::TaskFailed,
    })
}

/// With `--strict-host`, refuses a baseline from another host.
fn refuse_other_host(
    args: &CheckArgs,
    baseline: Option<&Baseline>,
    task: &str,
    hosts: &[BaselineHost],
) -> Result<(), failure::Failure> {
    let Some(then) = baseline.filter(|_| args.strict_host).and_then(|baseline| baseline.tasks.get(task)) else {
        return Ok(());
    };
    let mut differences = hosts.iter().map(|host| then.host.differences(host));
    let Some(differences) = differences.find(|differences| !differences.is_empty()) else { return Ok(()) };
    let error = format!("the baseline of {task} was made on a different host: {}", differences.join("; "));
    let help = "run the check on the baseline's host, or make a baseline for this host with --update-baseline; \
                without --strict-host this is a warning";
    Err(failure::Failure::new(Category::Host, error, Some(help.to_owned())))
}
