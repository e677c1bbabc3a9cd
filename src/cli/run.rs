//! `highwater run`: runs a task, measures its peak and compares it with its rules.

mod container;
mod result;
mod subject;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use highwater::calibrate::measure::{About, MeasureError, measure};
use highwater::calibrate::monitor::Watch;
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::comparison::Thresholds;
use highwater::model::observation::{Observation, Outcome};
use highwater::model::units::Bytes;
use highwater::runner::container::ContainerError;
use highwater::runner::process::{Launch, ProcessRunner};
use highwater::runner::{MeasuringError, Runner, StartError};
use highwater::store::Record;

use nix::errno::Errno;

use self::container::InContainer;
use self::result::Results;
use self::subject::What;
use super::engine::exit_of;
use super::exit::Exit;
use super::failure::Failure;
use super::live::Live;
use super::output;
use super::scope;
use super::signals::Signals;
use super::task::TaskArgs;

const EXAMPLES: &str = "\
Examples:
  highwater run -- ./segment --in scans/      the peak of a command
  highwater run task.json                     the peak of a task's container, beside what its rules predict
  highwater run --image segment --mount scans:/in:ro -- --fast
                                              the peak of an image, with arguments for its entrypoint
  highwater run -r 5 -- ./segment scans/      five runs, and how far they differ
  highwater run --limit 2Gi -- ./segment      would it do with 2 GiB?
  highwater run --timeout 10m --record runs.jsonl -- ./segment
                                              keep a record of the run, however it ends
  highwater run --format json --output run.json -- ./segment

With --runner process a task.json is run as a process of this machine: wherever its command or environment names the mounted path of a
channel, it is given the folder of this machine instead.

The task's own exit status is passed on, 128 + n after signal n, 124 after a time-out; 125 is highwater's own
failure, 126 a command that cannot be executed, 127 one that does not exist, 2 a file that is not as it should be.";

/// Runs a task or a command, reports the true peak of its memory, and compares it with the task's rules.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// The task.json; `-` is stdin. Relative paths in it start in the current directory.
    #[arg(value_name = "TASK", required_unless_present_any = ["command", "image"], conflicts_with = "command")]
    task: Option<PathBuf>,
    #[command(flatten)]
    of: TaskArgs,
    #[command(flatten)]
    container: container::ContainerArgs,
    /// The command and its arguments.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// How many runs.
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Let the task have this much memory and no more, such as 512Mi; swap is not used beyond it.
    ///
    /// A run that reaches its limit is marked as censored: its peak says what it got, not what it wanted.
    #[arg(long, value_name = "QUANTITY", value_parser = limit)]
    limit: Option<Bytes>,
    /// Limit the task to what its rules predict, as Docker would be told to.
    #[arg(long, requires = "task", conflicts_with = "limit")]
    enforce: bool,
    /// Call a limit tight below so many times the peak.
    #[arg(long, value_name = "TIMES", default_value_t = Thresholds::default().tight)]
    tight: f64,
    /// Call a limit wasteful above so many times the peak.
    #[arg(long, value_name = "TIMES", default_value_t = Thresholds::default().wasteful)]
    wasteful: f64,
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
    /// Write the result to this file instead.
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

/// `512Mi`, `2G`; no program starts with nothing.
fn limit(text: &str) -> Result<Bytes, String> {
    match text.parse::<Bytes>() {
        Ok(Bytes::ZERO) => Err("no program can be started without any memory".to_owned()),
        result => result.map_err(|error| error.to_string()),
    }
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
    let what = match InContainer::of(args)? {
        Some(container) => Start::Container(Box::new(container)),
        None => Start::Process(Box::new(What::of(args)?)),
    };
    let mut results = Results::new(args)?;
    let mut signals = Signals::block().map_err(|errno| Failure::new(OWN_FAILURE, &errno, None))?;
    let mut record = match &args.record {
        Some(path) => Some(Record::open(path).map_err(|error| Failure::new(OWN_FAILURE, &error, None))?),
        None => None,
    };
    let mut failure = None;
    for number in 1..=args.runs {
        let observation = match run_once(args, &machine, &what, number, &mut signals) {
            Ok(observation) => observation,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        let interrupted = match observation.outcome {
            Outcome::Interrupted { .. } => true,
            Outcome::EngineLost => {
                container::say_lost();
                true
            }
            Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::OomKilled | Outcome::TimedOut { .. } => false,
        };
        // Shown even where it could not be kept.
        failure = keep(record.as_mut(), &observation).err();
        results.add(observation)?;
        if interrupted || failure.is_some() || signals.is_waiting() {
            break;
        }
    }
    drop(signals);
    let exit = results.finish()?;
    failure.map_or(Ok(exit), Err)
}

/// What is to be run, and by what.
enum Start {
    Process(Box<What>),
    Container(Box<InContainer>),
}

fn process(args: &RunArgs, machine: &Machine, launch: Launch) -> ProcessRunner {
    let runner = ProcessRunner::new(machine, launch);
    match args.cgroup {
        UseCgroup::Auto => runner,
        UseCgroup::Never => runner.without_cgroup(),
        UseCgroup::Always => runner.only_in_cgroup(),
    }
}

fn run_once(
    args: &RunArgs,
    machine: &Machine,
    what: &Start,
    number: u32,
    signals: &mut Signals,
) -> Result<Observation, Failure> {
    let how = Watch { timeout: args.timeout, kill_after: args.kill_after, interval: args.sample_interval };
    let mut live = Live::new(!args.quiet);
    let (subject, prediction) = match what {
        Start::Process(what) => (what.subject.clone(), what.prediction.clone()),
        Start::Container(what) => (what.subject.clone(), what.prediction.clone()),
    };
    let mut runner: Box<dyn Runner> = match what {
        Start::Process(what) => Box::new(process(args, machine, what.launch(args, number)?)),
        Start::Container(what) => {
            let runner = what.runner(args, machine, number).map_err(|error| {
                explain(&match error {
                    MeasuringError::Start(error) => MeasureError::Start(error),
                    MeasuringError::Finish(error) => MeasureError::Finish(error),
                })
            })?;
            Box::new(runner)
        }
    };
    measure(&mut *runner, About::one_run(subject, prediction), machine.facts.clone(), &how, Some(signals), &mut live)
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
        MeasureError::Start(StartError::NotExecutable { program, source }) => {
            (Exit::Task(126), not_executable_help(Path::new(program), source).map(str::to_owned))
        }
        MeasureError::Start(StartError::NoLimit { remedy, .. } | StartError::NoCgroup { remedy, .. }) => {
            (OWN_FAILURE, Some(remedy.clone()))
        }
        MeasureError::Start(StartError::Container(error)) => {
            let exit = match error {
                ContainerError::Engine(error) => exit_of(error),
                _ => OWN_FAILURE,
            };
            (exit, error.remedy())
        }
        MeasureError::Start(_) | MeasureError::Watch(_) | MeasureError::Finish(_) => (OWN_FAILURE, None),
    };
    Failure::new(exit, error, help)
}

fn not_executable_help(program: &Path, source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) if program.is_dir() => Some("that is a folder: name a program in it"),
        Some(Errno::EACCES) => Some("make it executable with `chmod +x`, or name its interpreter"),
        Some(Errno::ENOEXEC) => {
            Some("it is no program of this machine: name its interpreter, or build it for this one")
        }
        Some(Errno::ENOMEM | Errno::E2BIG | Errno::EAGAIN) => {
            Some("where a --limit is given, it may be too small to start a program at all")
        }
        _ => None,
    }
}

/// Keeps the observation, or says that it could not.
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
