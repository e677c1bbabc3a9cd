//! `highwater check`: the CI gate. It runs what `highwater.toml` lists, or reads records, and compares the peaks with
//! limits, budgets and the committed baseline.

mod growth;
mod outputs;
mod running;
mod table;

use std::path::{Path, PathBuf};

use clap::Args;
use highwater::calibrate::check::{
    Bench, CheckOptions, Judgement, Revision, Run, Session, Setup, SetupOptions, SortedRuns, judge, set_up,
    with_inputs_from,
};
use highwater::calibrate::failure::Failed;
use highwater::model::check::baseline::{Baseline, BaselineHost};
use highwater::model::check::report::{Level, Reason, Report, Verdict};
use highwater::model::scalar::{positive_amount, relative_share};
use highwater::model::units::Bytes;
use highwater::store::bounded;

use self::outputs::Outputs;
use self::running::Runs;
use super::engine::EngineArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::feedback::Terminal;
use super::output::{self, OutputArg};
use super::output_file;
use super::run::Format;
use super::task::Deny;

const EXAMPLES: &str = "\
Examples:
  highwater init task.json                    write highwater.toml, which defines the check
  highwater check --update-baseline           run it and write the baseline: commit both files
  highwater check                             run it again and compare
  highwater check --records sweep/            judge recorded runs, run nothing
  highwater check --against main              compare the working tree with a revision of it
  highwater check --junit junit.xml --github  in a GitHub Actions workflow
  highwater check --junit junit.xml --gitlab metrics.txt
                                              in a GitLab CI job
  git bisect run highwater check --bisect --baseline /tmp/good.json
                                              find the commit that made a task need more

It fails for
  a run of the task that fails                                      (status 4)
  a peak above a budget, the task's limit or its scale rule         (status 1)
  growth over the baseline by more than 3 %, more than 4 MiB (a
  tenth of a peak below 40 MiB), and more than the scatter of the
  task's runs explains                                              (status 1)
  a rule that predicts more, though no measured input needs it yet  (status 1)
  growth of wall time or cores, if [thresholds.time] or
  [thresholds.cpu] is in highwater.toml, or an option asks for it   (status 1)
  a cell of the baseline that was not run                           (status 1)
  a task without a baseline, or with too few runs                   (status 5)
  a peak that is a lower bound within a budget or the baseline: it
  does not show that the task stays within it                       (status 5)
It warns about a cell that is not in the baseline, an input that has changed, and a baseline from another host. A \
lower bound above a budget fails like an exact peak, and an upper bound within it passes. A suspected regression is \
re-run, twice by default, before the check fails. Every threshold can be set in highwater.toml.

Exit status: 0 passed, 1 a check failed, 2 wrong usage or an invalid file, 3 unsupported host or container engine, 4 \
the task failed, 5 too little data, 130 interrupted. With --bisect: 0 passed, 1 a task needs more than it may, 125 \
anything that cannot be judged, 130 interrupted.";

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
    /// Compare with this revision of the Git repository, measured on this machine, instead of with a baseline.
    ///
    /// The revision is checked out into a temporary worktree. Each cell runs alternately there and in the working tree,
    /// with the configuration and the inputs of the working tree. The `setup` command of the configuration, such as a
    /// build, runs in both first. --record records only the runs of the working tree.
    #[arg(long, value_name = "REV", conflicts_with_all = ["baseline", "update_baseline", "records", "strict_host"])]
    against: Option<String>,
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
    /// Ignore growth by less than QUANTITY, such as 4MiB; for peaks below 40 MiB, by proportionally less.
    #[arg(long, value_name = "QUANTITY", value_parser = positive_amount)]
    absolute: Option<Bytes>,
    #[command(flatten)]
    growth: growth::GrowthArgs,
    /// Refuse to compare with a baseline from another kernel, cgroup version, engine or architecture, instead of
    /// warning.
    #[arg(long)]
    strict_host: bool,
    /// Fail on warnings, too.
    #[arg(long, value_enum, value_name = "WHAT")]
    deny: Option<Deny>,
    /// Use the exit statuses of `git bisect run`: 0 good, 1 bad, 125 for a commit that cannot be judged.
    ///
    /// A commit is bad if a task needs more than its allowance or its baseline. It is skipped if a task fails, if there is
    /// too little data, if a cell is missing, and if a file or the host is unfit. Copy the baseline of a good commit to a
    /// file outside the repository and name it with --baseline: the baseline in the repository changes with its commits.
    #[arg(long, conflicts_with = "update_baseline")]
    bisect: bool,
    /// Record each run in this file.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with = "records")]
    record: Option<PathBuf>,
    /// Write stdout and stderr of every run to files in this directory.
    #[arg(long, value_name = "DIR", conflicts_with = "records")]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
    /// Output format: a table, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
    /// Do not print individual runs.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    outputs: outputs::OutputArgs,
}

impl CheckArgs {
    fn setup(&self) -> SetupOptions {
        let mut options = SetupOptions::default();
        options.config.clone_from(&self.config);
        options.baseline.clone_from(&self.baseline);
        options.update_baseline = self.update_baseline;
        options.against = self.against.is_some();
        options.records.clone_from(&self.records);
        options.tasks.clone_from(&self.task);
        options.runs = self.runs;
        options.confirm = self.confirm;
        options.relative = self.relative;
        options.absolute = self.absolute;
        options.growth = self.growth.options();
        options
    }

    fn check_options(&self) -> CheckOptions {
        let mut options = CheckOptions::default();
        options.engine = self.engine.options();
        options.log_dir = self.log_dir.as_deref().map(absolute);
        options
    }
}

/// A path of the command line, before [`enter`] changes where relative ones start.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub(crate) fn run(args: &CheckArgs) -> Result<Exit, Failure> {
    match run_check(args) {
        Ok(exit) if args.bisect => Ok(bisect_exit(exit)),
        Err(failure) if args.bisect => Ok(bisect_exit(failure.report())),
        result => result,
    }
}

/// What `git bisect run` understands: every status from 1 to 127 except 125 would mean that a commit is bad.
pub(super) fn bisect_exit(exit: Exit) -> Exit {
    match exit {
        Exit::Done | Exit::CheckFailed | Exit::Interrupted => exit,
        Exit::Usage | Exit::Host | Exit::TaskFailed | Exit::TooLittleData | Exit::Skip | Exit::Task(_) => Exit::Skip,
    }
}

fn run_check(args: &CheckArgs) -> Result<Exit, Failure> {
    if args.records.is_empty() {
        running::enter_scope()?;
    }
    // Check the outputs first, so that no run is wasted.
    args.output.check()?;
    let outputs = Outputs::new(args)?;
    let feedback = Terminal::quiet(args.quiet);
    let setup = Setup::read(&args.setup(), &feedback)?;
    if args.update_baseline {
        output_file::check_writable(&setup.directory.join(&setup.baseline_path))?;
        return update(args, setup, &outputs, &feedback);
    }
    let judgement = match &setup.recorded {
        Some(recorded) => {
            if args.strict_host {
                recorded.tasks().try_for_each(|task| setup.refuse_other_host(task, recorded.hosts(task)))?;
            }
            judge(&setup.config, setup.baseline.as_ref(), recorded)
        }
        None => match &args.against {
            Some(revision) => check_against(args, &setup, revision, &feedback)?,
            None => check(args, &setup, &feedback)?,
        },
    };
    write_report(args, &judgement.report, &outputs)
}

/// Runs all cells, then re-runs those that seem to have grown.
fn check(args: &CheckArgs, setup: &Setup, feedback: &Terminal) -> Result<Judgement, Failure> {
    let machine = running::machine()?;
    let mut session = Runs::new(args)?;
    let options = args.check_options();
    enter(&setup.directory)?;
    set_up(&setup.config, Path::new("."), WORKING_TREE, &mut session)?;
    let mut bench = Bench::new(&setup.config, |task| setup.listed.contains(task), &options, &machine, feedback)?;
    let refuse = |run: &Run| match args.strict_host {
        true => setup.refuse_other_host(&run.task, &[BaselineHost::from_observation(&run.observation, false)]),
        false => Ok(()),
    };
    Ok(bench.check(&setup.config, setup.baseline.as_ref(), &mut session, refuse)?)
}

/// What errors call the directory of the configuration.
const WORKING_TREE: &str = "the working tree";

/// Runs all cells in another revision and in the working tree.
fn check_against(args: &CheckArgs, setup: &Setup, revision: &str, feedback: &Terminal) -> Result<Judgement, Failure> {
    let machine = running::machine()?;
    // From here on, a request to end is no reason to leave the worktree behind.
    let mut session = Runs::new(args)?;
    let here = absolute(if setup.directory.as_os_str().is_empty() { Path::new(".") } else { &setup.directory });
    let config = with_inputs_from(&setup.config, &here)?;
    let revision = match Revision::check_out(&here, revision) {
        Err(_) if session.is_interrupted() => return Err(Failure::new(Exit::Interrupted, "interrupted", None)),
        result => result?,
    };
    let name = revision.against().name();
    set_up(&config, revision.directory(), &name, &mut session)?;
    set_up(&config, &here, WORKING_TREE, &mut session)?;
    let is_listed = |task: &str| setup.listed.contains(task);
    let (mut now, mut then) = (args.check_options(), args.check_options());
    (now.directory, then.directory) = (Some(here), Some(revision.directory().to_owned()));
    then.revision = Some(name);
    let mut then = Bench::new(&config, is_listed, &then, &machine, feedback)?;
    let mut now = Bench::new(&config, is_listed, &now, &machine, feedback)?;
    let judgement = now.check_against(&mut then, revision.against(), &config, &mut session);
    // The worktree is removed; do not stay in it.
    enter(&absolute(Path::new("/")))?;
    Ok(judgement?)
}

/// Rewrites the baseline.
fn update(args: &CheckArgs, mut setup: Setup, outputs: &Outputs, feedback: &Terminal) -> Result<Exit, Failure> {
    let runs = match setup.recorded.take() {
        Some(recorded) => {
            enter(&setup.directory)?;
            recorded
        }
        None => {
            let machine = running::machine()?;
            let mut session = Runs::new(args)?;
            let options = args.check_options();
            enter(&setup.directory)?;
            set_up(&setup.config, Path::new("."), WORKING_TREE, &mut session)?;
            let is_listed = |task: &str| setup.listed.contains(task);
            let mut bench = Bench::new(&setup.config, is_listed, &options, &machine, feedback)?;
            let runs = bench.batch(&mut session, |task, _| Some(task.repeats.baseline_runs))?;
            SortedRuns::of_batches(&setup.config, &[runs])
        }
    };
    let (baseline, report) = setup.new_baseline(&runs);
    let written = match report.verdict {
        Verdict::Passed | Verdict::NotVerified | Verdict::Failed => {
            Some(write_baseline(&setup.baseline_path, &baseline)?)
        }
        Verdict::TooLittleData | Verdict::TaskFailed => None,
    };
    let exit = write_report(args, &report, outputs)?;
    let path = setup.baseline_path.display();
    output::say(&match written {
        Some(true) => {
            format!("highwater: wrote the baseline {path}; commit it, with the change that caused it if there is one")
        }
        Some(false) => format!("highwater: the baseline {path} is unchanged"),
        None => "highwater: the baseline was not written".to_owned(),
    });
    Ok(exit)
}

/// Writes the baseline and returns whether it changed.
fn write_baseline(path: &Path, baseline: &Baseline) -> Result<bool, Failure> {
    let text = baseline.text().map_err(|error| Failure::new(Exit::Host, &error, None))?;
    if bounded::read_text(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    output_file::write(path, text.as_bytes())?;
    Ok(true)
}

/// Enters the directory in which the tasks of a configuration run.
fn enter(directory: &Path) -> Result<(), Failure> {
    if directory.as_os_str().is_empty() {
        return Ok(());
    }
    std::env::set_current_dir(directory)
        .map_err(|error| Failure::host(Failed::to(format!("enter {}", directory.display()), error)))
}

/// Writes all requested outputs and returns the exit status.
fn write_report(args: &CheckArgs, report: &Report, outputs: &Outputs) -> Result<Exit, Failure> {
    match args.format {
        Format::Table => args.output.text(&table::render(report))?,
        Format::Json => args.output.json(report)?,
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
        Verdict::Failed if args.bisect && !shows_regression(report) => Exit::Skip,
        Verdict::Failed => Exit::CheckFailed,
        Verdict::TaskFailed => Exit::TaskFailed,
    })
}

/// Whether a failure is about memory. That a cell has gone or is new does not make a commit bad.
fn shows_regression(report: &Report) -> bool {
    let mut failures = report.findings().filter(|(_, finding)| finding.level == Level::Failure);
    failures.any(|(_, finding)| !matches!(finding.reason, Reason::VanishedCell | Reason::NewCell))
}
