//! `highwater floor`: the smallest limit under which a task still succeeds.

mod progress;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use highwater::calibrate::argument::{sample_interval, times};
use highwater::calibrate::floor::{
    End, FloorError, Ran, Search, SearchError, Success, Trial, Try, find, limits_of, no_limits, not_run,
};
use highwater::calibrate::monitor::WatchOptions;
use highwater::calibrate::workload::{RunOptions, UseCgroup, Workload};
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::observation::{Observation, Outcome};
use highwater::model::reading::Reading;
use highwater::model::scalar::{duration, small_share};
use highwater::model::signal::Signal;
use highwater::model::units::Bytes;
use highwater::runner::process::{Output, Stdin};
use highwater::store::Record;

use self::progress::Progress;
use super::exit::Exit;
use super::failure::Failure;
use super::feedback::Terminal;
use super::output::{self, OutputArg};
use super::run::{Format, SubjectArgs, append, say_lost};
use super::signals::Signals;
use super::{records, scope};

const EXAMPLES: &str = "\
Examples:
  highwater floor -- ./segment scans/         the minimum limit of a command
  highwater floor task.json                   the minimum limit of a task's container
  highwater floor --image segment --mount scans:/in:ro
                                              the minimum limit of an image
  highwater floor --slowdown 1.2 -- ./segment scans/
                                              the minimum limit that slows it down by at most 20 %
  highwater floor --precision 5% --confirm 2 --record runs.jsonl task.json
                                              fewer tries, all of them recorded

highwater runs the task about a dozen times: once without a limit; then under half of its peak, a quarter and so on \
until it fails; then between the lowest limit that was enough and the highest that was not, until they are within the \
precision; and finally again under the limit found. The task must therefore be repeatable: it gets no stdin, and its \
outputs are overwritten. Its output is not shown, except for stderr of the runs without a limit.

A try succeeds if the task exits with status 0 and the kernel killed none of its processes for lack of memory. No \
swap is used under a limit. Without --slowdown, a try that takes more than 10 times as long as without a limit (and \
10 s) is ended and counts as failed.

A file that the first run has read may be in memory for later runs, which then neither wait for it nor are charged \
for it. This changes their times, but not the minimum limit.

How far to trust the result: the kernel charges memory in batches of up to 64 pages per CPU, which is why a peak \
reads some 100 KiB too high. A limit is enforced more exactly than that, because the kernel takes the batches back \
before it kills. But no two runs are quite alike, so a limit just above the minimum may fail one day: leave some \
headroom. A task that adapts to its limit, as Java does with its heap, has the minimum limit that it can make do \
with, which may be slow.

Exit status: 0 the minimum limit was found, 3 limits cannot be enforced here, 4 the task fails even without a limit, \
5 no limit proved to be the minimum, 130 interrupted (the bounds found so far are shown).";

/// Find the minimum memory limit under which a task still succeeds: its need, without page cache it can do without.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FloorArgs {
    /// Stop when the passing and failing limits are within SHARE of each other.
    ///
    /// They never get closer than 64 pages (usually 256 KiB), which the kernel charges to the account of a CPU at once.
    #[arg(long, value_name = "SHARE", value_parser = small_share, default_value = "2%")]
    precision: f64,
    /// Number of times the task must succeed under the limit found. If it fails once, the search goes on above that
    /// limit.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    confirm: u32,
    /// Accept a limit only if the task takes at most TIMES as long as without one, such as 1.2.
    ///
    /// Losing page cache makes a task slow before it makes it fail. Three runs without a limit come first. Tries are
    /// compared with their median time, with a tolerance of 50 ms. A try that is too slow is repeated once.
    #[arg(long, value_name = "TIMES", value_parser = times)]
    slowdown: Option<f64>,
    /// Accept a run with status 0 even if the kernel killed one of its processes for lack of memory.
    ///
    /// For tasks that try something large in a child process and can do without it. Other tasks have lost something in
    /// such a run.
    #[arg(long)]
    allow_oom_of_children: bool,
    /// End a run after DURATION, such as 90s or 1h30m; under a limit, it counts as failed.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
    /// Time to wait after SIGTERM or Ctrl-C before killing the task.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    kill_after: Duration,
    /// Write stdout and stderr of every run to files in this directory.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Append one line of JSON per run to this file; the last one contains the minimum limit.
    #[arg(long, value_name = "FILE.jsonl")]
    record: Option<PathBuf>,
    /// Time between samples; only the breakdown of the peak depends on it.
    #[arg(long, value_name = "DURATION", value_parser = sample_interval)]
    sample_interval: Option<Duration>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
    /// Do not show the live line.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    subject: SubjectArgs,
}

pub(crate) fn run(args: &FloorArgs) -> Result<Exit, Failure> {
    let machine = Machine::read(HostRoots::default()).map_err(Failure::host)?;
    scope::enter_if_needed(&machine);
    let spec = args.subject.spec();
    if spec.container.resources.memory_swap.is_some() {
        let help = "remove it: every run has a limit that the search chooses, and no swap beyond it".to_owned();
        return Err(Failure::new(Exit::Usage, "--memory-swap cannot be used by floor", Some(help)));
    }
    let start = Workload::open(&spec, &Terminal::default())?;
    start.require_inputs()?;
    args.output.check()?;
    let record = records::open_record(args.record.as_deref())?;
    let signals = Signals::block().map_err(Failure::host)?;
    let terms = limits_of(args.precision, args.confirm, &machine, start.is_container());
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
        Format::Table => args.output.text(&report.table())?,
        Format::Json => args.output.json_text(&report.json()?)?,
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

/// Reports why there is no result.
fn unfound(error: FloorError) -> Result<Exit, Failure> {
    match &error {
        FloorError::TaskFailed(run) => {
            let outcome = run.outcome.words();
            let error = format!("failed to find the minimum limit: the task fails even without one: {outcome}");
            Err(Failure::new(Exit::TaskFailed, error, Some(remedy(run))))
        }
        FloorError::Interrupted(run) if run.has_lost_engine() => {
            say_lost();
            Ok(Exit::Host)
        }
        FloorError::Interrupted(_) => {
            output::say("highwater: interrupted during the run without a limit; there is no result yet");
            Ok(Exit::Interrupted)
        }
        _ => Err(no_limits(error).into()),
    }
}

/// The remedy for a task that fails without a limit.
fn remedy(run: &Observation) -> String {
    match (run.outcome, run.limit.effective) {
        (Outcome::OomKilled, Reading::Value(Some(limit))) => {
            format!("it reached an enclosing limit of {limit}; raise that limit, or use a smaller input")
        }
        (Outcome::OomKilled, _) => "run it on a machine with more memory, or use a smaller input".to_owned(),
        (Outcome::Exited { status: 0 }, _) => {
            "the kernel killed one of its processes for lack of memory; if the task expects that, use \
             --allow-oom-of-children"
                .to_owned()
        }
        (Outcome::TimedOut { .. }, _) => "raise --timeout".to_owned(),
        (Outcome::Exited { .. } | Outcome::Signalled { .. }, _) => {
            "make it exit with 0 first (`highwater run` shows what it prints); wrap commands that use other success \
             codes, as in `sh -c 'CMD; [ $? = 1 ]'`"
                .to_owned()
        }
        _ => "run the command again".to_owned(),
    }
}

/// Runs the task, records each run and shows progress.
struct Bench<'a> {
    args: &'a FloorArgs,
    machine: &'a Machine,
    start: &'a Workload,
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
        let mut how = WatchOptions::default();
        how.timeout = [self.args.timeout, timeout].into_iter().flatten().min();
        how.kill_after = self.args.kill_after;
        how.interval = self.args.sample_interval;
        self.progress.start(limit);
        let about = self.start.about();
        let options = (&conditions, &how);
        match self.start.measure(self.machine, options, about, Some(&mut self.signals), &mut self.progress)? {
            Ok(mut observation) => match self.start.check_inputs(&mut observation) {
                None => Ok(Ran::Observed(Box::new(observation))),
                Some(failure) => {
                    self.keep(&observation)?;
                    Err(failure.into())
                }
            },
            Err(error) => Ok(not_run(limit, error)?),
        }
    }

    fn keep(&mut self, observation: &Observation) -> Result<(), Failure> {
        append(self.record.as_mut(), observation).map_err(records::unstored)
    }

    fn ended_by(&mut self) -> Option<Signal> {
        self.signals.ended_by()
    }

    fn next(&mut self, search: &Search, _: Bytes, tries: &[Try]) {
        self.progress.next(search, tries.len());
    }
}

impl Bench<'_> {
    fn conditions(&self, limit: Option<Bytes>) -> Result<RunOptions, Failure> {
        let mut conditions = RunOptions::default();
        conditions.limit = limit;
        conditions.cgroup = UseCgroup::Always;
        // Standard input can be read only once.
        conditions.stdin = Stdin::Null;
        conditions.stdout = Output::Null;
        conditions.stderr = if limit.is_none() { Output::Inherit } else { Output::Null };
        if let Some(folder) = &self.args.log_dir {
            conditions.output_to(folder, &format!("{}.", self.runs))?;
        }
        Ok(conditions)
    }
}
