//! `highwater floor`: the smallest limit under which a task still succeeds.

mod progress;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use highwater::calibrate::floor::{End, FloorError, Ran, Search, SearchError, Success, Terms, Trial, Try, find};
use highwater::calibrate::measure::{MeasureError, measure};
use highwater::calibrate::monitor::Watch;
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::{Observation, Outcome};
use highwater::model::problem::one_line;
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;
use highwater::runner::StartError;
use highwater::runner::container::{ContainerError, LEAST_LIMIT};
use highwater::runner::engine::EngineError;
use highwater::runner::process::{Output, Stdin};
use highwater::store::Record;
use nix::errno::Errno;

use self::progress::Progress;
use super::exit::Exit;
use super::failure::Failure;
use super::fit::share;
use super::run::{
    Conditions, Format, Start, SubjectArgs, UseCgroup, duration, explain, keep, sample_interval, say_lost,
};
use super::signals::Signals;
use super::{output, records, scope, summary};

const EXAMPLES: &str = "\
Examples:
  highwater floor -- ./segment scans/         the smallest limit that ./segment succeeds under
  highwater floor task.json                   the same for a task's container
  highwater floor --image segment --mount scans:/in:ro
  highwater floor --slowdown 1.2 -- ./segment scans/
                                              and that makes it at most 20 % slower
  highwater floor --precision 5% --confirm 2 --record runs.jsonl task.json
                                              fewer tries; each one is kept in a record

The task is run a dozen times or so: once without a limit, then under half of its peak, a quarter and so on \
until it does not succeed, then between the lowest limit that was enough and the highest that was not, until \
they are within the precision, and last again under the limit that was found. So it must be a task that can be \
run again: it gets no input from stdin, and its outputs are written anew. What it prints is not shown, except \
for the errors of the runs without a limit.

A try succeeds if the task ends with status 0 and the kernel killed no process of it for lack of memory. Swap is \
not used under a limit. Without --slowdown a try that takes more than 10 times as long as without a limit (and 10 \
s) is ended and counts as not enough.

A file that the first run has read may be in memory for the later ones, which then neither wait for it nor have \
it counted as theirs. The floor does not depend on that, but times do.

How far to trust the number: the kernel charges memory in batches of up to 64 pages for each CPU, which is why a \
peak reads some 100 KiB too high. A limit is felt more exactly than that, because the kernel takes the batches \
back before it kills. But no two runs are quite alike, so that a limit just above the floor may fail one day: \
leave some head-room. A task that adapts to its limit, as Java does with the size of its heap, has the floor of \
what it makes do with, which may be slow.

Exit status: 0 the floor was found, 3 limits cannot be kept here, 4 the task fails without a limit too, 5 no \
limit turned out to be the floor, 130 interrupted (what was found until then is shown).";

/// Finds the smallest memory limit under which a task still succeeds: what it needs, without page cache it can do without.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FloorArgs {
    /// How close the limit that is enough and the one that is not are to come.
    ///
    /// They never come closer than 256 KiB: the kernel charges that much at once to the account of a CPU.
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "2%")]
    precision: f64,
    /// How often the task has to succeed under the limit that is found. If it fails once, a higher one is looked for.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    confirm: u32,
    /// Let a limit be enough only if the task takes at most this many times as long as without one, such as 1.2.
    ///
    /// Page cache that is squeezed out makes a task slow before it makes it fail. Three runs without a limit come first;
    /// their median is the time that tries are held against, with 50 ms to spare. A try that is too slow is repeated once.
    #[arg(long, value_name = "TIMES", value_parser = times)]
    slowdown: Option<f64>,
    /// Let a run succeed although the kernel killed a process of it for lack of memory, if its status is 0.
    ///
    /// For tasks that try something large in a child and do without it. Elsewhere such a run has lost something.
    #[arg(long)]
    allow_oom_of_children: bool,
    /// End a run after this time, such as 90s or 1h30m; under a limit that counts as not enough.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// How long the task may take to end after SIGTERM or Ctrl-C, before it is killed.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    kill_after: Duration,
    /// Write the output and errors of every run to files in this folder.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Append one line of JSON for each run to this file; the last one has the floor in it.
    #[arg(long, value_name = "FILE.jsonl")]
    record: Option<PathBuf>,
    /// Time between two samples, on which only the breakdown of the peak depends.
    #[arg(long, value_name = "DURATION", value_parser = sample_interval)]
    sample_interval: Option<Duration>,
    /// How the result is written to stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// No live line on a terminal.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    subject: SubjectArgs,
}

/// The lowest limit that is tried for a process: no program has been seen to start with less.
const LEAST_OF_A_PROCESS: Bytes = Bytes(256 << 10);

/// A search that takes more has something against it.
const MOST_TRIES: u32 = 64;

/// `1.2`.
pub(crate) fn times(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times >= 1.0 => Ok(times),
        Ok(_) | Err(_) => Err("expected a number from 1 on, such as 1.2".to_owned()),
    }
}

pub(crate) fn run(args: &FloorArgs) -> Result<Exit, Failure> {
    let machine = Machine::read(HostRoots::default()).map_err(|error| Failure::new(Exit::Host, &error, None))?;
    scope::enter_if_needed(&machine);
    let start = Start::of(&args.subject).map_err(Failure::elsewhere)?;
    start.require_inputs()?;
    let record = records::open_record(args.record.as_deref())?;
    let signals = Signals::block().map_err(|errno| Failure::new(Exit::Host, &errno, None))?;
    let terms = terms(args.precision, args.confirm, &machine, start.is_container());
    let success = Success { slowdown: args.slowdown, oom_of_children: args.allow_oom_of_children };
    let progress = Progress::new(!args.quiet);
    let mut bench = Bench { args, machine: &machine, start: &start, record, signals, progress, runs: 0 };
    let found = match find(&mut bench, terms, success) {
        Ok(found) => found,
        Err(SearchError::Trial(failure)) => return Err(failure),
        Err(SearchError::Floor(error)) => return unfound(error),
    };
    drop(bench);
    let report = report::Report::new(start.subject(), terms, success, &found);
    match args.format {
        Format::Table => output::text(&report.table())?,
        Format::Json => output::json_text(&report.json()?)?,
    }
    Ok(match found.end {
        End::Settled => Exit::Done,
        End::GaveUp => Exit::TooLittleData,
        End::Interrupted { .. } => Exit::Interrupted,
        End::EngineLost => {
            say_lost();
            Exit::Host
        }
    })
}

/// How a floor is looked for on this machine.
pub(crate) fn terms(precision: f64, confirm: u32, machine: &Machine, is_container: bool) -> Terms {
    let least = if is_container { LEAST_LIMIT } else { LEAST_OF_A_PROCESS };
    // Of our machine; an engine elsewhere says of its own what it can do.
    let most = machine.facts.memory_bytes.value().unwrap_or(Bytes(1 << 40));
    Terms { precision, confirm, least, most, tries: MOST_TRIES }
}

/// Why there is nothing to show.
fn unfound(error: FloorError) -> Result<Exit, Failure> {
    match &error {
        FloorError::TaskFailed(run) => {
            let outcome = summary::outcome(run.outcome);
            Err(Failure::new(Exit::TaskFailed, &WithoutLimit { outcome }, Some(remedy(run))))
        }
        FloorError::Interrupted(run) if run.has_lost_engine() => {
            say_lost();
            Ok(Exit::Host)
        }
        FloorError::Interrupted(_) => {
            output::say("highwater: interrupted in the run without a limit: nothing was found yet");
            Ok(Exit::Interrupted)
        }
        FloorError::NoPeak | FloorError::NotKept { .. } | FloorError::Escaped { .. } => Err(no_limits(&error)),
    }
}

/// Limits do not hold for this task, or on this machine.
pub(crate) fn no_limits(error: &FloorError) -> Failure {
    let help = match error {
        FloorError::Escaped { remedy, .. } => remedy.clone(),
        _ => "`highwater doctor` tells what this machine lacks".to_owned(),
    };
    Failure::new(Exit::Host, error, Some(help))
}

/// What can be done about a task that fails without a limit.
fn remedy(run: &Observation) -> String {
    match (run.outcome, run.limit.effective) {
        (Outcome::OomKilled, Reading::Value(Some(limit))) => {
            format!("a limit of {limit} above it was reached: raise that, or give the task less to do")
        }
        (Outcome::OomKilled, _) => "this machine has too little memory for it".to_owned(),
        (Outcome::Exited { status: 0 }, _) => {
            "the kernel killed a process of it for lack of memory; if that is as it should be, use \
             --allow-oom-of-children"
                .to_owned()
        }
        (Outcome::TimedOut { .. }, _) => "give it more time with --timeout".to_owned(),
        (Outcome::Exited { .. } | Outcome::Signalled { .. }, _) => {
            "have it succeed first: `highwater run` shows what it prints. Success is status 0; a command that means well \
             by another one needs a wrapper, such as `sh -c 'CMD; [ $? = 1 ]'`"
                .to_owned()
        }
        (Outcome::Interrupted { .. } | Outcome::EngineLost, _) => "run it again".to_owned(),
    }
}

/// Why there is no floor to be found.
#[derive(Debug, thiserror::Error)]
#[error("failed to find a floor: without a limit the task does not succeed either: {outcome}")]
struct WithoutLimit {
    outcome: String,
}

/// Why no floor can be looked for on this machine.
#[derive(Debug, thiserror::Error)]
#[error("failed to find a floor: without a cgroup no limit can be kept, and {reason}")]
struct NoLimits {
    reason: String,
}

/// Runs the task, keeps the record and shows how far it is.
struct Bench<'a> {
    args: &'a FloorArgs,
    machine: &'a Machine,
    start: &'a Start,
    record: Option<Record>,
    signals: Signals,
    progress: Progress,
    runs: u32,
}

impl Trial for Bench<'_> {
    type Error = Failure;

    fn run(&mut self, limit: Option<Bytes>, timeout: Option<Duration>) -> Result<Ran, Failure> {
        self.runs += 1;
        let conditions = self.conditions(limit)?;
        let timeout = [self.args.timeout, timeout].into_iter().flatten().min();
        let how = Watch { timeout, kill_after: self.args.kill_after, interval: self.args.sample_interval };
        let mut runner = self.start.runner(self.machine, &conditions).map_err(Failure::elsewhere)?;
        let host = self.machine.facts.clone();
        self.progress.start(limit);
        let about = self.start.about();
        match measure(&mut *runner, about, host, &how, Some(&mut self.signals), &mut self.progress) {
            Ok(mut observation) => match self.start.check_inputs(&mut observation) {
                None => Ok(Ran::Observed(Box::new(observation))),
                Some(failure) => {
                    self.keep(&observation)?;
                    Err(failure)
                }
            },
            Err(error) => not_ran(limit, error),
        }
    }

    fn keep(&mut self, observation: &Observation) -> Result<(), Failure> {
        keep(self.record.as_mut(), observation).map_err(Failure::elsewhere)
    }

    fn next(&mut self, search: &Search, _: Bytes, tries: &[Try]) {
        self.progress.next(search, tries.len());
    }
}

impl Bench<'_> {
    fn conditions(&self, limit: Option<Bytes>) -> Result<Conditions, Failure> {
        let mut conditions = Conditions {
            limit,
            cgroup: UseCgroup::Always,
            env: Vec::new(),
            // Whatever the first run read, the next would not find.
            stdin: Stdin::Null,
            stdout: Output::Null,
            stderr: if limit.is_none() { Output::Inherit } else { Output::Null },
            logs: None,
        };
        if let Some(folder) = &self.args.log_dir {
            conditions.output_to(folder, &format!("{}.", self.runs)).map_err(Failure::elsewhere)?;
        }
        Ok(conditions)
    }
}

/// What it means that the task did not run under this limit.
pub(crate) fn not_ran(limit: Option<Bytes>, error: MeasureError) -> Result<Ran, Failure> {
    match error {
        MeasureError::Start(error) if limit.is_some() && is_for_lack_of_memory(&error) => {
            Ok(Ran::NotStarted(one_line(&error)))
        }
        MeasureError::Start(StartError::NoCgroup { reason, remedy }) => {
            Err(Failure::new(Exit::Host, &NoLimits { reason }, Some(remedy)))
        }
        error => Err(explain(&error).elsewhere()),
    }
}

/// Whether a task that starts without a limit may be kept from it by the limit.
fn is_for_lack_of_memory(error: &StartError) -> bool {
    match error {
        StartError::NotExecutable { source, .. } | StartError::System { source, .. } => {
            let errno = source.raw_os_error().map(Errno::from_raw);
            matches!(errno, Some(Errno::ENOMEM | Errno::E2BIG | Errno::EAGAIN))
        }
        // The engine says only in words that what it starts a container with did not get enough.
        StartError::Container(ContainerError::Engine(EngineError::Request { status, .. })) => status.is_some(),
        StartError::Container(_)
        | StartError::NoCommand
        | StartError::NotFound { .. }
        | StartError::ZeroByte { .. }
        | StartError::WorkingDirectory { .. }
        | StartError::Output { .. }
        | StartError::NoLimit { .. }
        | StartError::NoCgroup { .. }
        | StartError::Cgroup { .. }
        | StartError::Host(_) => false,
    }
}
