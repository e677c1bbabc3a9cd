//! `highwater run`: runs a task, measures its peak and compares it with its rules.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater::calibrate::measure::{MeasureError, measure};
use highwater::calibrate::monitor::Watch;
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::{Exactness, Observation, Outcome, Subject};
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;
use highwater::runner::StartError;
use highwater::runner::process::{Launch, Output, ProcessRunner};
use highwater::store::Record;

use super::exit::Exit;
use super::failure::Failure;
use super::live::Live;
use super::output;
use super::scope;
use super::signals::Signals;
use super::summary;

const EXAMPLES: &str = "\
Examples:
  highwater run -- ./segment --in scans/      the peak of a command
  highwater run -r 5 -- ./segment scans/      five runs, and how far they differ
  highwater run --limit 2Gi -- ./segment      would it do with 2 GiB?
  highwater run --timeout 10m --record runs.jsonl -- ./segment
                                              keep a record of the run, whatever happens
  highwater run --format json --output run.json -- ./segment

The task's own exit status is passed on, 128 + n after signal n, 124 after a time-out; 125 is highwater's own
failure, 126 a command that cannot be executed, 127 one that does not exist.";

/// Runs a command once or several times, and reports the true peak of its memory.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// How many runs.
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Let the task have this much memory and no more, such as 512Mi; swap is not used beyond it.
    ///
    /// A run that reaches its limit is marked as censored: its peak says what it got, not what it wanted.
    #[arg(long, value_name = "QUANTITY")]
    limit: Option<Bytes>,
    /// End the task after this time, such as 90s or 1h30m: first SIGTERM, then SIGKILL.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// How long the task may take to end after SIGTERM or Ctrl-C, before it is killed.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    kill_after: Duration,
    /// Write the task's output and errors to files in this folder instead of passing them through.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Append one line of JSON for each run to this file.
    #[arg(long, value_name = "FILE.jsonl")]
    record: Option<PathBuf>,
    /// Time between two samples. Without it they are dense for 100 ms, then 100 ms apart.
    ///
    /// The peak does not depend on samples (unless it is said to be a lower bound); the breakdown does.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    sample_interval: Option<Duration>,
    /// Whether to measure in a cgroup: auto falls back to sampling, always fails instead, never only samples.
    #[arg(long, value_enum, default_value_t = UseCgroup::Auto, value_name = "WHEN")]
    cgroup: UseCgroup,
    /// How the result is written: a table on stderr, or JSON on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the result to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// No live line on a terminal, and no table.
    #[arg(short, long)]
    quiet: bool,
}

/// Whether to measure in a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UseCgroup {
    Auto,
    Always,
    Never,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// `1h30m`, `250ms`, `5 seconds`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 90s, 250ms or 1h30m";
    let duration: jiff::SignedDuration = text.parse().map_err(|_| expected.to_owned())?;
    Duration::try_from(duration).map_err(|_| format!("{expected}, not a negative one"))
}

/// What `run` ends with where it is highwater that fails: the statuses of `env` and `docker run`.
const OWN_FAILURE: Exit = Exit::Task(125);

pub(crate) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let machine = Machine::read(HostRoots::default()).map_err(|error| Failure::new(OWN_FAILURE, &error, None))?;
    if args.cgroup != UseCgroup::Never {
        scope::enter_if_needed(&machine);
    }
    let mut signals = Signals::block().map_err(|errno| Failure::new(OWN_FAILURE, &errno, None))?;
    let mut record = match &args.record {
        Some(path) => Some(Record::open(path).map_err(|error| Failure::new(OWN_FAILURE, &error, None))?),
        None => None,
    };
    let mut observations = Vec::new();
    for number in 1..=args.runs {
        let observation = run_once(args, &machine, number, &mut signals)?;
        let kept = keep(record.as_mut(), &observation);
        if !args.quiet && args.format == Format::Table {
            report(args, &observation, number)?;
        }
        let interrupted = matches!(observation.outcome, Outcome::Interrupted { .. });
        observations.push(observation);
        kept?;
        if interrupted {
            break;
        }
    }
    finish(args, &observations)
}

fn run_once(args: &RunArgs, machine: &Machine, number: u32, signals: &mut Signals) -> Result<Observation, Failure> {
    let mut launch = Launch::new(args.command.iter().cloned());
    launch.limit = args.limit;
    if let Some(folder) = &args.log_dir {
        std::fs::create_dir_all(folder).map_err(|error| {
            let error = StartError::Output { path: folder.clone(), source: error };
            Failure::new(OWN_FAILURE, &error, None)
        })?;
        let stem = if args.runs == 1 { String::new() } else { format!("{number}.") };
        launch.stdout = Output::File(folder.join(format!("{stem}stdout.log")));
        launch.stderr = Output::File(folder.join(format!("{stem}stderr.log")));
    }
    let mut runner = ProcessRunner::new(machine, launch);
    match args.cgroup {
        UseCgroup::Auto => {}
        UseCgroup::Never => runner = runner.without_cgroup(),
        UseCgroup::Always => runner = runner.only_in_cgroup(),
    }
    let subject = Subject {
        command: args.command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
        ..Subject::default()
    };
    let how = Watch { timeout: args.timeout, kill_after: args.kill_after, interval: args.sample_interval };
    let mut live = Live::new(!args.quiet);
    measure(&mut runner, subject, machine.facts.clone(), &how, Some(signals), &mut live)
        .map_err(|error| explain(&error))
}

fn explain(error: &MeasureError) -> Failure {
    let (exit, help) = match error {
        MeasureError::Start(StartError::NotFound { interpreter, .. }) => {
            let help = if *interpreter {
                "look at the first line of the script, or run `file` on the program"
            } else {
                "look for a typing error; a program of the current folder needs `./` before its name"
            };
            (Exit::Task(127), Some(help.to_owned()))
        }
        MeasureError::Start(StartError::NotExecutable { .. }) => {
            (Exit::Task(126), Some("make it executable with `chmod +x`, or name its interpreter".to_owned()))
        }
        MeasureError::Start(StartError::NoLimit { remedy, .. } | StartError::NoCgroup { remedy, .. }) => {
            (OWN_FAILURE, Some(remedy.clone()))
        }
        MeasureError::Start(_) | MeasureError::Watch(_) | MeasureError::Finish(_) => (OWN_FAILURE, None),
    };
    Failure::new(exit, error, help)
}

/// Keeps the observation, or says that it could not; it is shown in either case.
fn keep(record: Option<&mut Record>, observation: &Observation) -> Result<(), Failure> {
    let Some(record) = record else { return Ok(()) };
    match record.append(observation) {
        Ok(appended) => {
            if appended.after_torn_line {
                output::say("highwater: the last line of the record was torn; the new one stands below it");
            }
            Ok(())
        }
        Err(error) => {
            let help = "make room on the disk, or choose another file with --record".to_owned();
            Err(Failure::new(OWN_FAILURE, &error, Some(help)))
        }
    }
}

fn report(args: &RunArgs, observation: &Observation, number: u32) -> Result<(), Failure> {
    let heading = (args.runs > 1).then(|| format!("run {number} of {}", args.runs));
    let table = summary::of(observation, heading.as_deref(), output::width_of_stderr());
    match &args.output {
        Some(path) => write(path, &table, number > 1),
        None => {
            output::say(&table);
            Ok(())
        }
    }
}

fn finish(args: &RunArgs, observations: &[Observation]) -> Result<Exit, Failure> {
    if args.format == Format::Json {
        let json = match observations {
            [only] if args.runs == 1 => serde_json::to_string_pretty(only),
            several => serde_json::to_string_pretty(several),
        };
        let json = json.map_err(|error| Failure::new(OWN_FAILURE, &error, None))? + "\n";
        match &args.output {
            Some(path) => write(path, &json, false)?,
            None => output::data(&json).map_err(|failure| failure.with_exit(OWN_FAILURE))?,
        }
    } else if observations.len() > 1 && !args.quiet {
        output::say(&summary::of_several(observations));
    }
    let failed = observations.iter().map(|observation| observation.outcome).find(|outcome| !outcome.succeeded());
    Ok(Exit::Task(failed.map_or(0, Outcome::status)))
}

fn write(path: &Path, text: &str, append: bool) -> Result<(), Failure> {
    use std::io::Write;
    let written = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .append(append)
        .truncate(!append)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| {
        let error = Unwritten { path: path.to_owned(), source };
        Failure::new(OWN_FAILURE, &error, None)
    })
}

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the result to {path}")]
struct Unwritten {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Whether the peak of an observation is one to rely on.
pub(crate) fn is_exact(observation: &Observation) -> bool {
    matches!(&observation.peak, Reading::Value(peak) if matches!(peak.exactness, Exactness::Exact { .. }))
}
