//! Runs the cells of the tasks that are checked.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::{Parser, ValueEnum};
use highwater::calibrate::check::Run;
use highwater::calibrate::measure::{RunContext, measure};
use highwater::calibrate::monitor::WatchOptions;
use highwater::calibrate::predict::predict;
use highwater::host::HostRoots;
use highwater::host::machine::Machine;
use highwater::model::check::config::{InputConfig, RunnerChoice, TaskConfig, WorkloadSpec};
use highwater::model::observation::{InputSizes, Outcome, Subject, SweepRun};
use highwater::model::prediction::{Named, Sizes};
use highwater::model::reading::Reading;
use highwater::model::task::{Channel, ChannelKind, Task};
use highwater::model::units::Bytes;
use highwater::runner::process::{Output, Stdin};
use highwater::store::Record;
use highwater::tree::Options;

use super::CheckArgs;
use super::setup::Setup;
use crate::cli::engine::Pull;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::live::Live;
use crate::cli::run::{RunOptions, SubjectArgs, Workload, explain, keep, say_lost};
use crate::cli::signals::Signals;
use crate::cli::{output, records, scope, summary};

/// Tasks and cells, ready to run.
pub(super) struct Bench<'a> {
    args: &'a CheckArgs,
    machine: Machine,
    cells: Vec<Cell<'a>>,
    signals: Signals,
    record: Option<Record>,
    /// The number of runs of each cell so far.
    runs: BTreeMap<(String, String), u32>,
}

struct Cell<'a> {
    task: &'a TaskConfig,
    name: String,
    start: Workload,
    about: RunContext,
    env: Vec<(String, String)>,
}

/// The subject of a run, with the arguments of `highwater run`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Words {
    #[command(flatten)]
    subject: SubjectArgs,
}

impl<'a> Bench<'a> {
    /// Reads all tasks and prepares their runners.
    pub(super) fn new(args: &'a CheckArgs, setup: &'a Setup) -> Result<Self, Failure> {
        let machine = machine()?;
        let record = records::open_record(args.record.as_deref())?;
        let mut cells = Vec::new();
        for task in setup.config.tasks.iter().filter(|task| setup.listed.contains(&task.name)) {
            for input in task.cells() {
                cells.push(cell(args, task, &input)?);
            }
        }
        let signals = Signals::block().map_err(|errno| Failure::new(Exit::Host, &errno, None))?;
        Ok(Self { args, machine, cells, signals, record, runs: BTreeMap::new() })
    }

    /// Runs cells in turns, each as often as `times` says, so that drift of the machine affects all of them alike.
    /// `first` gets the first run of each cell.
    pub(super) fn batch(
        &mut self,
        times: impl Fn(&TaskConfig, &str) -> Option<u32>,
        first: impl Fn(&Run) -> Result<(), Failure>,
    ) -> Result<Vec<Run>, Failure> {
        let mut runs: Vec<Run> = Vec::new();
        let wanted: Vec<u32> = self.cells.iter().map(|cell| times(cell.task, &cell.name).unwrap_or(0)).collect();
        let mut failed = vec![false; wanted.len()];
        for number in 1..=wanted.iter().copied().max().unwrap_or(0) {
            for place in 0..wanted.len() {
                // What failed once will fail again.
                if number > wanted[place] || failed[place] {
                    continue;
                }
                let run = self.run(place)?;
                failed[place] = !run.observation.outcome.succeeded();
                if number == 1 {
                    first(&run)?;
                }
                runs.push(run);
            }
        }
        Ok(runs)
    }

    fn run(&mut self, place: usize) -> Result<Run, Failure> {
        let cell = &self.cells[place];
        let key = (cell.task.name.clone(), cell.name.clone());
        let number = self.runs.entry(key).or_default();
        *number += 1;
        let how = WatchOptions { timeout: cell.task.timeout, ..WatchOptions::default() };
        let mut runner =
            cell.start.runner(&self.machine, &conditions(self.args, cell, *number)?).map_err(Failure::elsewhere)?;
        let mut about = cell.about.clone();
        about.notes = cell.start.about().notes;
        if let Some(sweep) = &mut about.sweep {
            sweep.run = *number;
        }
        let host = self.machine.facts.clone();
        let mut live = Live::new(!self.args.quiet);
        let measured = measure(&mut *runner, about, host, &how, Some(&mut self.signals), &mut live);
        drop(live);
        let mut observation = measured.map_err(|error| explain(&error).elsewhere())?;
        let spoiled = cell.start.check_inputs(&mut observation);
        keep(self.record.as_mut(), &observation).map_err(Failure::elsewhere)?;
        spoiled.map_or(Ok(()), Err)?;
        if observation.has_lost_engine() {
            say_lost();
            let failed = !observation.outcome.succeeded() && observation.outcome != Outcome::EngineLost;
            let exit = if failed { Exit::TaskFailed } else { Exit::Host };
            return Err(Failure::new(exit, &Lost { cell: cell.name.clone() }, None));
        }
        if matches!(observation.outcome, Outcome::Interrupted { .. }) {
            return Err(interrupted());
        }
        if self.signals.is_waiting() {
            return Err(interrupted());
        }
        if !self.args.quiet {
            let peak = match &observation.peak {
                Reading::Value(peak) => peak.words(),
                Reading::Unsupported | Reading::Gone => "no peak".to_owned(),
            };
            let outcome = match observation.outcome.succeeded() {
                true => String::new(),
                false => format!(", {}", summary::outcome(observation.outcome)),
            };
            let seconds = observation.wall_us as f64 / 1e6;
            output::say(&format!("{}/{} run {number}: {peak} in {seconds:.2} s{outcome}", cell.task.name, cell.name));
        }
        Ok(Run { task: cell.task.name.clone(), observation })
    }
}

/// Enters a scope with a cgroup if there is none to run in. This restarts the program, so call it first.
pub(super) fn enter_scope() -> Result<(), Failure> {
    scope::enter_if_needed(&machine()?);
    Ok(())
}

fn machine() -> Result<Machine, Failure> {
    Machine::read(HostRoots::default()).map_err(|error| Failure::new(Exit::Host, &error, None))
}

fn interrupted() -> Failure {
    let help = "no result was computed and no file was written".to_owned();
    Failure::new(Exit::Interrupted, &Interrupted, Some(help))
}

fn conditions(args: &CheckArgs, cell: &Cell<'_>, number: u32) -> Result<RunOptions, Failure> {
    let mut conditions = RunOptions {
        env: cell.env.clone(),
        // Standard input can be read only once, and the task's stdout must not mix with the report.
        stdin: Stdin::Null,
        stdout: Output::Null,
        ..RunOptions::default()
    };
    if let Some(folder) = &args.log_dir {
        let name = |text: &str| text.replace(|char: char| !(char.is_alphanumeric() || "-_.".contains(char)), "_");
        let stem = format!("{}.{}.{number}.", name(&cell.task.name), name(&cell.name));
        conditions.output_to(folder, &stem).map_err(Failure::elsewhere)?;
    }
    Ok(conditions)
}

fn cell<'a>(args: &CheckArgs, task: &'a TaskConfig, input: &InputConfig) -> Result<Cell<'a>, Failure> {
    let words = words(args, task, input);
    let parsed = Words::try_parse_from(&words).map_err(|error| {
        let help = Some(error.to_string().trim().to_owned());
        Failure::new(Exit::Usage, &NotRunnable { task: task.name.clone(), cell: input.name.clone() }, help)
    })?;
    let subject = parsed.subject.with_sample(input.channels.clone(), input.path.clone());
    let start = Workload::from_args(&subject).map_err(Failure::elsewhere)?;
    start.require_inputs()?;
    let mut about = start.about();
    match &task.workload {
        WorkloadSpec::Task(_) => {}
        WorkloadSpec::Command(_) | WorkloadSpec::Image(..) => {
            about.subject.name = Some(task.name.clone());
            about.inputs = sizes(task, input)?.into_iter().collect();
        }
    }
    about.sweep = Some(SweepRun {
        cell: format!("{}/{}", task.name, input.name),
        case: input.name.clone(),
        run: 0,
        parameters: input.parameters.clone(),
        synthetic: false,
    });
    let env = task.env.iter().filter(|(name, _)| !input.env.contains_key(*name)).chain(&input.env);
    let env = env.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Cell { task, name: input.name.clone(), start, about, env })
}

/// The command-line arguments that would run this cell.
fn words(args: &CheckArgs, task: &TaskConfig, input: &InputConfig) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: OsString| words.push(with_value(name, value));
    if let Some(host) = &args.engine.host {
        option("--host", host.into());
    }
    // Omit the default: `options` of the task may set another value.
    if let Some(pull) = args.engine.pull.to_possible_value().filter(|_| args.engine.pull != Pull::Missing) {
        option("--pull", pull.get_name().into());
    }
    for mount in input.words(&task.mount) {
        option("--mount", mount.into());
    }
    words.extend(input.words(&task.options).into_iter().map(OsString::from));
    let mut option = |name: &str, value: OsString| words.push(with_value(name, value));
    match &task.workload {
        WorkloadSpec::Task(path) => {
            option("--runner", if task.runner == RunnerChoice::Process { "process" } else { "container" }.into());
            if let Some(path) = &task.processing_container {
                option("--processing-container", path.into());
            }
            let set = task.set.iter().filter(|(key, _)| !input.set.contains_key(*key)).chain(&input.set);
            for (key, value) in set {
                option("--set", format!("{key}={value}").into());
            }
            // `./` keeps a name that begins with a hyphen from being read as an option.
            words.push(Path::new(".").join(path).into());
        }
        WorkloadSpec::Command(command) => {
            words.push("--".into());
            words.extend(input.words(command).into_iter().map(OsString::from));
        }
        WorkloadSpec::Image(image, command) => {
            words.push(with_value("--image", image.into()));
            words.push("--".into());
            words.extend(input.words(command).into_iter().map(OsString::from));
        }
    }
    words
}

/// An option and its value as one argument; the value may begin with a hyphen.
fn with_value(name: &str, value: OsString) -> OsString {
    let mut word = OsString::from(name);
    word.push("=");
    word.push(value);
    word
}

/// The size of a command's input: the configured one, or that of the file or directory.
fn sizes(task: &TaskConfig, input: &InputConfig) -> Result<Option<InputSizes>, Failure> {
    let of = |all| Ok(Some(InputSizes { channel: "input".to_owned(), all, by_extension: BTreeMap::new() }));
    if let Some(size) = input.size {
        return of(Sizes { files: 1, sum: size, ..Sizes::default() });
    }
    let Some(path) = &input.path else { return Ok(None) };
    let unreadable = |source| {
        let (task, cell) = (task.name.clone(), input.name.clone());
        let help = "correct `path` in highwater.toml; it is relative to the directory of that file".to_owned();
        Failure::new(Exit::Usage, &NoInput { task, cell, path: path.clone(), source }, Some(help))
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_dir() {
        let bytes = Bytes(metadata.len());
        let named = Named { path: path.display().to_string(), bytes };
        return of(Sizes { files: 1, sum: bytes, largest_file: Some(named), ..Sizes::default() });
    }
    let host_path = std::path::absolute(path).map_err(unreadable)?;
    let channel = Channel {
        name: "input".to_owned(),
        kind: ChannelKind::Input,
        host_path: Some(host_path),
        mounted_path: String::new(),
        rule: None,
    };
    let bare = Task { channels: vec![channel], ..Task::bare(Vec::new()) };
    let prediction = predict(&bare, &Options::default()).map_err(|error| Failure::new(Exit::Usage, &error, None))?;
    Ok(RunContext::one_run(Subject::default(), Some(prediction)).inputs.pop())
}

/// A cell of the configuration cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("failed to run {task}/{cell} as configured in highwater.toml")]
struct NotRunnable {
    task: String,
    cell: String,
}

/// The size of an input cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("failed to read the input {path} of {task}/{cell}")]
struct NoInput {
    task: String,
    cell: String,
    path: std::path::PathBuf,
    #[source]
    source: std::io::Error,
}

/// The check was interrupted.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

/// A run has no result.
#[derive(Debug, thiserror::Error)]
#[error("lost the container engine or the highwater process that supervised a run of {cell}")]
struct Lost {
    cell: String,
}
