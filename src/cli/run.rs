//! `highwater run`: runs a task, measures its peak and compares it with its rules.

mod container;
mod result;
mod subject;
mod versus;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{Args, ValueEnum};
use highwater::calibrate::argument::sample_interval;
use highwater::calibrate::failure::ENGINE_LOST;
use highwater::calibrate::monitor::WatchOptions;
use highwater::calibrate::workload::{self, CacheState, RunOptions, Workload};
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::comparison::Thresholds;
use highwater::model::observation::{InputSizes, Logs, Observation, Outcome};
use highwater::model::scalar::{duration, limit};
use highwater::model::signal::Signal;
use highwater::model::timestamp::Timestamp;
use highwater::model::units::Bytes;
use highwater::runner::process::{Output, Stdin};
use highwater::store::{Record, StoreError};

use self::result::Results;
pub(crate) use self::subject::SubjectArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::feedback::Terminal;
use super::live::Live;
use super::on::{PlaceArg, PodArgs};
use super::output;
use super::records;
use super::scope;
use super::signals::Signals;

const EXAMPLES: &str = "\
Examples:
  highwater run -- ./segment --in scans/      the peak of a command
  highwater run task.json                     the peak of a task's container, and its rules
  highwater run --image segment --mount scans:/in:ro -- --fast
                                              the peak of an image, with entrypoint arguments
  highwater run --image segment --gpus all --shm-size 1g --limit 8Gi -- --fast
                                              the same with GPUs and a larger /dev/shm
  highwater run -r 5 -- ./segment scans/      five runs, and how much they vary
  highwater run --vs './segment --tiles 4' -- ./segment
                                              two commands in turns, and the ratio of what they need
  highwater run --limit 2Gi -- ./segment      are 2 GiB enough?
  highwater run --timeout 10m --record runs.jsonl -- ./segment
                                              record the run, however it ends
  highwater run --format json --output run.json -- ./segment
                                              for scripts: jq '.[].peak.bytes' run.json
  highwater run --on kubernetes --image segment -- ./segment --fast
                                              the same in a pod of a cluster

With --runner process, a task.json runs as a process on this machine. If its command and environment name the mounted \
path of every channel, highwater replaces these paths with those of the host. Otherwise it mounts the channels at \
their own paths, in a mount namespace that only the task sees; this requires root or a user namespace. A task that \
writes to its input needs --input-access private.

The peak does not include a process that leaves the run's cgroup, nor work that a daemon does for the command, as for \
`docker run`. It is then a lower bound, and the table says why. Use --image to measure a container.

Exit status: that of the task; 128 + n if signal n ended it, 124 after a timeout, 125 if highwater itself failed, 126 \
if the command cannot be executed, 127 if it does not exist, 2 for wrong usage or an invalid file.";

/// Run a task or a command, report the true peak of its memory, and compare it with the task's rules.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct RunArgs {
    /// Number of runs; with --vs, of both commands [default: 1, or 10 with --vs].
    #[arg(short, long, default_value = "1", default_value_if("vs", ArgPredicate::IsPresent, "10"), hide_default_value = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Run this command, too, in turns with CMD, and compare what they need: the ratio of memory and times, with an interval.
    ///
    /// The result goes to stdout. COMMAND is split into words as by a shell, and started without one; with --image, these are other arguments of the same
    /// image. Which one goes first alternates. stdin is empty, and output is discarded unless there is a --log-dir or
    /// --record. An interval takes 6 rounds.
    #[arg(long, value_name = "COMMAND", conflicts_with = "task")]
    vs: Option<String>,
    /// Number of unrecorded runs before the first one.
    ///
    /// Their output is discarded, and they read nothing from stdin.
    #[arg(long, default_value_t = 0, value_name = "N")]
    warmup: u32,
    /// Page cache before each run: cold (dropped), warm (everything was read before), or as-is.
    ///
    /// Files that a task reads, also its program and libraries, are charged to it only if they are not in the cache
    /// yet. cold: as root, highwater drops the whole cache; otherwise only the input of a TASK, and the record says
    /// which. warm: highwater reads the input of a TASK before each run and, unless there is a --warmup, starts with a
    /// run that is not recorded, which reads everything else.
    #[arg(long, value_enum, value_name = "STATE", default_value_t = CacheArg::AsIs)]
    cache: CacheArg,
    /// Limit memory to QUANTITY, such as 512Mi; no swap is used beyond it.
    ///
    /// A run that reaches its limit is marked as censored: its peak shows what it got, not what it needed.
    #[arg(long, value_name = "QUANTITY", value_parser = limit)]
    limit: Option<Bytes>,
    /// Limit memory to what the task's rules predict for Docker.
    #[arg(long, requires = "task", conflicts_with = "limit")]
    enforce: bool,
    /// Report a limit below TIMES × peak as "tight".
    #[arg(long, value_name = "TIMES", default_value_t = Thresholds::default().tight)]
    tight: f64,
    /// Report a limit above TIMES × peak as "wasteful".
    #[arg(long, value_name = "TIMES", default_value_t = Thresholds::default().wasteful)]
    wasteful: f64,
    /// End the task after DURATION, such as 90s or 1h30m: first with SIGTERM, then with SIGKILL.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Time to wait after SIGTERM or Ctrl-C before killing the task.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    kill_after: Duration,
    /// Write the task's stdout and stderr to files in this directory instead of passing them through.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Append one line of JSON per run to this file.
    #[arg(long, value_name = "FILE.jsonl")]
    record: Option<PathBuf>,
    /// Time between samples [default: at each new maximum, and every 10 ms to 2 s].
    ///
    /// The breakdown of the peak depends on samples; the peak itself only if it is reported as a lower bound. By
    /// default, highwater reads the usage every 10 ms, after 100 ms every 45 ms, and takes a sample when it shows a new
    /// maximum. On cgroup v1, the kernel announces the next maximum once the usage has been steady for half a second.
    #[arg(long, value_name = "DURATION", value_parser = sample_interval)]
    sample_interval: Option<Duration>,
    /// Whether to measure in a cgroup.
    #[arg(long, value_enum, default_value_t = UseCgroup::Auto, value_name = "WHEN")]
    cgroup: UseCgroup,
    /// Output format: a table on stderr, or JSON on stdout.
    ///
    /// The JSON is an array with an object for each run, also if there is only one; with --vs, one object.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write the result to this file instead.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do not show the live line or the table.
    #[arg(short, long)]
    quiet: bool,
    /// Files and directories that the command reads; their sizes are recorded, for `fit` to use as n.
    ///
    /// They are read-only for the command; see --input-access. Several paths are one input, and each directory is an
    /// item of it.
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "task", help_heading = "Inputs")]
    input: Vec<PathBuf>,
    /// Where a TASK or an --image runs: on this machine, or as a pod of a Kubernetes cluster.
    ///
    /// A pod gets the probe from a ConfigMap as its first process; both are removed afterwards. Its command replaces the
    /// entrypoint of the image, too. Mounted paths have to be the same on the nodes, except below a
    /// --claim.
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = PlaceArg::Local)]
    on: PlaceArg,
    #[command(flatten)]
    pod: PodArgs,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// Whether to measure in a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UseCgroup {
    /// Fall back to sampling.
    Auto,
    /// Fail without a cgroup.
    Always,
    /// Sample only.
    Never,
}

/// The page cache before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheArg {
    Cold,
    Warm,
    AsIs,
}

impl From<CacheArg> for CacheState {
    fn from(state: CacheArg) -> Self {
        match state {
            CacheArg::Cold => Self::Cold,
            CacheArg::Warm => Self::Warm,
            CacheArg::AsIs => Self::AsIs,
        }
    }
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

impl From<UseCgroup> for workload::UseCgroup {
    fn from(when: UseCgroup) -> Self {
        match when {
            UseCgroup::Auto => Self::Auto,
            UseCgroup::Always => Self::Always,
            UseCgroup::Never => Self::Never,
        }
    }
}

/// The exit status if highwater itself fails in `run`, as with `env` and `docker run`.
const OWN_FAILURE: Exit = Exit::Task(125);

pub(crate) fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let machine = Machine::read(HostRoots::default()).map_err(|error| Failure::new(OWN_FAILURE, &error, None))?;
    if args.cgroup != UseCgroup::Never {
        scope::enter_if_needed(&machine);
    }
    let mut spec = args.subject.spec();
    spec.inputs.clone_from(&args.input);
    spec.cluster = args.pod.options(args.on)?;
    let start = Workload::open(&spec, &Terminal::default()).map_err(Failure::of_run)?;
    let sizes = input_sizes(&args.input)?;
    if let Err(failure) = start.require_inputs() {
        Failure::of_run(failure).warn();
    }
    if args.enforce && start.predicted_limit().is_none() {
        output::say("highwater: the task's rules set no limit, so --enforce has no effect");
    }
    if let Some(line) = &args.vs {
        return versus::run(args, &machine, (&spec, &start), line);
    }
    let mut results = Results::new(args)?;
    let mut signals = Signals::block().map_err(|errno| Failure::new(OWN_FAILURE, errno, None))?;
    let mut record = records::open_record(args.record.as_deref()).map_err(Failure::own)?;
    let mut failure = None;
    let mut ended_by = warm_up(args, &machine, &start, &mut signals)?;
    let runs = if ended_by.is_some() { 0 } else { args.runs };
    for number in 1..=runs {
        let mut observation = match run_once(args, &machine, &start, number, &mut signals) {
            Ok(observation) => observation,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        observation.inputs.extend(sizes.clone());
        let interrupted = observation.has_lost_engine() || matches!(observation.outcome, Outcome::Interrupted { .. });
        if observation.has_lost_engine() {
            say_lost();
        }
        let spoiled = start.check_inputs(&mut observation).filter(|_| number < args.runs);
        // Show the result even if it could not be recorded.
        let unstored = append(record.as_mut(), &observation).err().map(|error| records::unstored(error).own());
        failure = unstored.or(spoiled.map(Failure::of_run));
        results.add(observation)?;
        // The signal arrived between two runs, or when one had just ended by itself.
        if let Some(signal) = signals.ended_by().filter(|_| number < args.runs && !interrupted) {
            output::say(&format!("highwater: stopped by {signal} after {number} of {} runs", args.runs));
            ended_by = Some(signal);
        }
        if interrupted || failure.is_some() || ended_by.is_some() {
            break;
        }
    }
    drop(signals);
    let exit = results.finish(ended_by)?;
    failure.map_or(Ok(exit), Err)
}

/// The sizes of the input of a bare command, taken before it runs.
fn input_sizes(paths: &[PathBuf]) -> Result<Option<InputSizes>, Failure> {
    if paths.is_empty() {
        return Ok(None);
    }
    let sizes = workload::sizes_of(paths, &Terminal::default());
    sizes.map(Some).map_err(|error| Failure::new(Exit::Usage, error, Some("correct --input".to_owned())))
}

/// Makes the runs that are not recorded; returns the signal that interrupted one.
fn warm_up(
    args: &RunArgs,
    machine: &Machine,
    start: &Workload,
    signals: &mut Signals,
) -> Result<Option<Signal>, Failure> {
    let least = u32::from(args.cache == CacheArg::Warm);
    for _ in 0..args.warmup.max(least) {
        let mut options = limits(args, start);
        options.stdin = Stdin::Null;
        options.stdout = Output::Null;
        options.stderr = Output::Null;
        let observation = measured(args, machine, start, &options, signals)?;
        if observation.has_lost_engine() {
            return Err(Failure::new(OWN_FAILURE, format!("failed to warm up: {ENGINE_LOST}"), None));
        }
        if let Some(signal) = signals.ended_by() {
            return Ok(Some(signal));
        }
    }
    Ok(None)
}

fn run_once(
    args: &RunArgs,
    machine: &Machine,
    start: &Workload,
    number: u32,
    signals: &mut Signals,
) -> Result<Observation, Failure> {
    measured_once(args, machine, start, conditions(args, start, number)?, signals)
}

fn measured_once(
    args: &RunArgs,
    machine: &Machine,
    start: &Workload,
    options: RunOptions,
    signals: &mut Signals,
) -> Result<Observation, Failure> {
    let cache = start.prepare_cache(args.cache.into()).map_err(|failure| Failure::of_run(failure).own())?;
    let mut observation = measured(args, machine, start, &options, signals)?;
    observation.cache = cache;
    if let (Output::File(stdout), Output::File(stderr)) = (&options.stdout, &options.stderr) {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        observation.logs = Some(Logs::new(absolute(stdout), absolute(stderr)));
    }
    Ok(observation)
}

fn measured(
    args: &RunArgs,
    machine: &Machine,
    start: &Workload,
    options: &RunOptions,
    signals: &mut Signals,
) -> Result<Observation, Failure> {
    let mut how = WatchOptions::default();
    how.timeout = args.timeout;
    how.kill_after = args.kill_after;
    how.interval = args.sample_interval;
    how.skip_status = args.subject.skip_status;
    let mut live = Live::new(!args.quiet);
    let measured = start.measure(machine, (options, &how), start.about(), Some(signals), &mut live);
    measured.and_then(|measured| Ok(measured?)).map_err(Failure::of_run)
}

/// The limit and the cgroup of each run.
fn limits(args: &RunArgs, start: &Workload) -> RunOptions {
    let mut options = RunOptions::default();
    options.limit = if args.enforce { start.predicted_limit() } else { args.limit };
    options.cgroup = args.cgroup.into();
    options
}

/// The options of the run with this number.
fn conditions(args: &RunArgs, start: &Workload, number: u32) -> Result<RunOptions, Failure> {
    let mut conditions = limits(args, start);
    match (&args.log_dir, &args.record) {
        (Some(folder), _) => {
            let stem = if args.runs == 1 && args.vs.is_none() { String::new() } else { format!("{number}.") };
            conditions.output_to(folder, &stem).map_err(Failure::of_run)?;
        }
        (None, Some(record)) => conditions.logs = Some(beside(record, number)),
        (None, None) => {}
    }
    Ok(conditions)
}

/// Records the observation, or reports why it could not.
pub(crate) fn append(record: Option<&mut Record>, observation: &Observation) -> Result<(), StoreError> {
    let Some(record) = record else { return Ok(()) };
    if record.append(observation)?.after_torn_line {
        output::say("highwater: the last line of the record was incomplete; the new record starts on a new line");
    }
    Ok(())
}

/// The log files beside a record, in a directory named after it.
fn beside(record: &Path, number: u32) -> Logs {
    let folder = record.with_extension("logs");
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let stem = format!("{}-{}-{number}", Timestamp::now().compact(), std::process::id());
    Logs::new(folder.join(format!("{stem}.stdout.log")), folder.join(format!("{stem}.stderr.log")))
}

/// Reports that the engine was lost, or that the task killed the process that supervises it.
pub(crate) fn say_lost() {
    output::say(&format!("highwater: {ENGINE_LOST}"));
}
