//! One run of a task, a command or an image: the subject, the options and the runner.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::calibrate::measure::{MeasureError, RunContext};
use highwater::calibrate::resolve::Resolution;
use highwater::host::machine::Machine;
use highwater::model::observation::{Logs, Observation, Subject};
use highwater::model::prediction::Prediction;
use highwater::model::units::Bytes;
use highwater::runner::container::ContainerError;
use highwater::runner::originals::Guard;
use highwater::runner::process::{Output, ProcessRunner, Stdin};
use highwater::runner::{Runner, StartError};
use nix::errno::Errno;

use super::container::{ContainerArgs, ContainerWorkload};
use super::inputs::{self, InputAccess};
use super::private::PrivateTask;
use super::redact::redact;
use super::subject::{ProcessWorkload, make_folder};
use super::{OWN_FAILURE, UseCgroup};
use crate::cli::engine::exit_of;
use crate::cli::exit::Exit;
use crate::cli::failure::{self, Failure};
use crate::cli::task::TaskArgs;

/// The subject of a run.
#[derive(Debug, Args)]
pub(crate) struct SubjectArgs {
    /// The task.json; `-` for stdin. Relative paths in it are resolved against the current directory.
    #[arg(value_name = "TASK", required_unless_present_any = ["command", "image"], conflicts_with = "command")]
    pub(crate) task: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) of: TaskArgs,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// Keep the value of this argument of the command out of records and plans. Can be repeated.
    ///
    /// The value in `--NAME VALUE`, `--NAME=VALUE` or `NAME=VALUE` is recorded as `***`. To resume a sweep, give the
    /// command again. Values of --env are never recorded.
    #[arg(long, value_name = "NAME")]
    pub(crate) redact: Vec<String>,
    /// Whether the task may write to its input.
    ///
    /// With any choice, highwater checks the data: once it finds a change, it starts no further run.
    #[arg(long, value_enum, value_name = "ACCESS", default_value_t = InputAccess::ReadOnly, help_heading = "Inputs")]
    pub(crate) input_access: InputAccess,
    /// The command and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
    /// Whether the input was chosen to be small, as for a check.
    #[arg(skip)]
    is_sample: bool,
    /// The input of a bare command or image, where that is known.
    #[arg(skip)]
    input: Option<PathBuf>,
}

impl SubjectArgs {
    /// The same subject with a sample of its usual inputs: in these channels of a task, or at this path for a command.
    pub(crate) fn with_sample(mut self, channels: BTreeMap<String, PathBuf>, input: Option<PathBuf>) -> Self {
        self.of.channels = channels;
        self.is_sample = true;
        self.input = input;
        self
    }

    /// Guards the input of a bare command or image; `None` if it is unknown.
    pub(super) fn guard_of_command(&self, is_process: bool) -> Result<Option<Guard>, Failure> {
        self.input.as_deref().map(|input| self.input_access.guard([input], [], is_process)).transpose()
    }

    /// The command to record.
    ///
    /// # Errors
    /// The command has no argument of a name to redact.
    pub(crate) fn recorded(&self, command: &[String]) -> Result<Vec<String>, Failure> {
        redact(command, &self.redact)
    }

    /// Prints warnings about a task before it runs.
    pub(super) fn warn(&self, resolution: &Resolution) {
        for mut flawed in resolution.warnings() {
            // A small input says nothing about the rule.
            flawed.problems.retain(|problem| !(self.is_sample && problem.code == "floor-always-wins"));
            failure::report_problems(&flawed);
        }
    }
}

/// Options that may differ between runs of the same subject.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// The memory limit.
    pub(crate) limit: Option<Bytes>,
    /// Whether a process gets a cgroup.
    pub(crate) cgroup: UseCgroup,
    /// Variables that extend or override those of the task.
    pub(crate) env: Vec<(String, String)>,
    /// The standard input of a process.
    pub(crate) stdin: Stdin,
    /// The destination of stdout.
    pub(crate) stdout: Output,
    /// The destination of stderr.
    pub(crate) stderr: Output,
    /// Where a container's output is kept as well.
    pub(crate) logs: Option<Logs>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            limit: None,
            cgroup: UseCgroup::Auto,
            env: Vec::new(),
            stdin: Stdin::Inherit,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            logs: None,
        }
    }
}

impl RunOptions {
    /// Redirects stdout and stderr to files in this directory whose names begin with `stem`.
    pub(crate) fn output_to(&mut self, folder: &Path, stem: &str) -> Result<(), Failure> {
        make_folder(folder)?;
        self.stdout = Output::File(folder.join(format!("{stem}stdout.log")));
        self.stderr = Output::File(folder.join(format!("{stem}stderr.log")));
        Ok(())
    }
}

/// The subject and its runner: prepared once, started as often as needed.
pub(crate) enum Workload {
    Process(Box<ProcessWorkload>),
    Container(Box<ContainerWorkload>),
    /// A task that gets a copy of its input for each run.
    Private(Box<PrivateTask>),
}

impl Workload {
    /// Reads the task, prints warnings, and predicts; finds the engine and the image.
    pub(crate) fn from_args(args: &SubjectArgs) -> Result<Self, Failure> {
        let is_known = args.task.is_some() || (args.input.is_some() && args.input_access == InputAccess::Watched);
        if args.input_access != InputAccess::ReadOnly && !is_known {
            let help = "describe the command in a task.json, or use `highwater sweep` with --input";
            return Err(Failure::new(Exit::Usage, &NoKnownInput, Some(help.to_owned())));
        }
        let mut start = match ContainerWorkload::from_args(args)? {
            Some(container) => Self::Container(Box::new(container)),
            None => Self::Process(Box::new(ProcessWorkload::from_args(args)?)),
        };
        match &mut start {
            Self::Process(what) => what.subject.command = args.recorded(&what.subject.command)?,
            Self::Container(container) => container.subject.command = args.recorded(&container.subject.command)?,
            Self::Private(_) => {}
        }
        if args.input_access != InputAccess::Private {
            return Ok(start);
        }
        PrivateTask::new(start).map(|task| Self::Private(Box::new(task)))
    }

    /// The facts about the subject for a record.
    pub(crate) fn about(&self) -> RunContext {
        let notes = match self {
            Self::Process(what) => what.notes(),
            Self::Container(container) => container.notes.clone(),
            Self::Private(task) => task.notes(),
        };
        RunContext { notes, ..RunContext::one_run(self.subject().clone(), self.prediction().cloned()) }
    }

    /// Checks that the subject can access its inputs.
    ///
    /// # Errors
    /// A process would not find its inputs, so its peak would be meaningless.
    pub(crate) fn require_inputs(&self) -> Result<(), Failure> {
        match self {
            Self::Process(what) => what.require_inputs(),
            Self::Container(_) => Ok(()),
            Self::Private(task) => task.on_originals().require_inputs(),
        }
    }

    pub(crate) fn subject(&self) -> &Subject {
        match self {
            Self::Process(what) => &what.subject,
            Self::Container(container) => &container.subject,
            Self::Private(task) => task.on_originals().subject(),
        }
    }

    fn prediction(&self) -> Option<&Prediction> {
        match self {
            Self::Process(what) => what.prediction.as_ref(),
            Self::Container(container) => container.prediction.as_ref(),
            Self::Private(task) => task.on_originals().prediction(),
        }
    }

    /// Whether it runs in a container.
    pub(crate) fn is_container(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Container(_) => true,
            Self::Private(task) => task.on_originals().is_container(),
        }
    }

    fn guard(&self) -> Option<&Guard> {
        match self {
            Self::Process(what) => what.guard.as_ref(),
            Self::Container(container) => container.guard.as_ref(),
            Self::Private(task) => Some(task.guard()),
        }
    }

    /// Notes in the record whether the run has changed the input, which is a reason to stop.
    pub(crate) fn check_inputs(&self, observation: &mut Observation) -> Option<Failure> {
        inputs::note_changes(observation, &self.guard()?.originals().changes(&[]))
    }

    /// The Docker limit that its rules predict.
    pub(crate) fn predicted_limit(&self) -> Option<Bytes> {
        self.prediction()?.docker.limit.as_ref().map(|limit| limit.bytes)
    }

    /// A runner for the subject with these options.
    ///
    /// # Errors
    /// The input cannot be copied.
    pub(crate) fn runner(&self, machine: &Machine, conditions: &RunOptions) -> Result<Box<dyn Runner>, Failure> {
        Ok(match self {
            Self::Process(what) => {
                let runner = ProcessRunner::new(machine, what.launch(conditions));
                Box::new(match conditions.cgroup {
                    UseCgroup::Auto => runner,
                    UseCgroup::Never => runner.without_cgroup(),
                    UseCgroup::Always => runner.only_in_cgroup(),
                })
            }
            Self::Container(container) => Box::new(container.runner(machine, conditions)),
            Self::Private(task) => task.runner(machine, conditions)?,
        })
    }
}

/// A bare command, whose input is unknown.
#[derive(Debug, thiserror::Error)]
#[error("--input-access needs a task: highwater does not know which files a bare command reads")]
struct NoKnownInput;

/// Explains why there is no observation, with the exit statuses of `env` and `docker run`.
pub(crate) fn explain(error: &MeasureError) -> Failure {
    let (exit, help) = match error {
        MeasureError::Start(StartError::NotFound { interpreter, .. }) => {
            let help = if *interpreter {
                "check the first line of the script, or run `file` on the program"
            } else {
                "check the spelling; a program in the current directory needs `./` before its name"
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
                ContainerError::NoProgram { .. } => Exit::Task(127),
                ContainerError::NotExecutable { .. } => Exit::Task(126),
                ContainerError::NoSource { .. }
                | ContainerError::SourceNoText { .. }
                | ContainerError::OutputFolder { .. }
                | ContainerError::LimitTooLow { .. }
                | ContainerError::LimitNotKept { .. }
                | ContainerError::NameTaken { .. }
                | ContainerError::LabelTaken { .. }
                | ContainerError::NothingToRun { .. }
                | ContainerError::NoProbe { .. } => OWN_FAILURE,
            };
            (exit, error.remedy())
        }
        MeasureError::Start(_) | MeasureError::Watch(_) | MeasureError::Finish(_) => (OWN_FAILURE, None),
    };
    Failure::new(exit, error, help)
}

fn not_executable_help(program: &Path, source: &io::Error) -> Option<&'static str> {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES) if program.is_dir() => Some("that is a directory; name a program in it"),
        Some(Errno::EACCES) => Some("make it executable with `chmod +x`, or name its interpreter"),
        Some(Errno::ENOEXEC) => {
            Some("it is not a program for this machine; name its interpreter, or build it for this machine")
        }
        Some(Errno::ENOMEM | Errno::E2BIG | Errno::EAGAIN) => {
            Some("if you gave a --limit, it may be too low to start a program at all")
        }
        _ => None,
    }
}
