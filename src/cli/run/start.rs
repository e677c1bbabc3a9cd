//! One run of a task, a command or an image: what is to be run, under which conditions, by which runner.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::calibrate::measure::{About, MeasureError};
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

use super::container::{ContainerArgs, InContainer};
use super::inputs::{self, InputAccess};
use super::private::PrivateTask;
use super::redact::redact;
use super::subject::{What, make_folder};
use super::{OWN_FAILURE, UseCgroup};
use crate::cli::engine::exit_of;
use crate::cli::exit::Exit;
use crate::cli::failure::{self, Failure};
use crate::cli::task::TaskArgs;

/// What is to be run.
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
    /// The same with a sample of its usual inputs: in these channels of a task, or at this path for a command.
    pub(crate) fn with_sample(mut self, channels: BTreeMap<String, PathBuf>, input: Option<PathBuf>) -> Self {
        self.of.channels = channels;
        self.is_sample = true;
        self.input = input;
        self
    }

    /// Guards the input of a bare command or image; `None` if that is not known.
    pub(super) fn guard_of_command(&self, is_process: bool) -> Result<Option<Guard>, Failure> {
        self.input.as_deref().map(|input| self.input_access.guard([input], [], is_process)).transpose()
    }

    /// A command as it is recorded.
    ///
    /// # Errors
    /// It has no argument of a name whose value is to be redacted.
    pub(crate) fn recorded(&self, command: &[String]) -> Result<Vec<String>, Failure> {
        redact(command, &self.redact)
    }

    /// Prints what is to be said of a task before it runs.
    pub(super) fn warn(&self, resolution: &Resolution) {
        for mut flawed in resolution.warnings() {
            // Of a small input that says nothing about the rule.
            flawed.problems.retain(|problem| !(self.is_sample && problem.code == "floor-always-wins"));
            failure::report_problems(&flawed);
        }
    }
}

/// What may differ between two runs of the same.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// The memory it may have at most.
    pub(crate) limit: Option<Bytes>,
    /// Whether a process gets a cgroup.
    pub(crate) cgroup: UseCgroup,
    /// Variables beside those of the task, or in their place.
    pub(crate) env: Vec<(String, String)>,
    /// What a process reads.
    pub(crate) stdin: Stdin,
    /// Where its output goes.
    pub(crate) stdout: Output,
    /// Where its errors go.
    pub(crate) stderr: Output,
    /// Where a container's output is kept, besides.
    pub(crate) logs: Option<Logs>,
}

impl Default for Conditions {
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

impl Conditions {
    /// Has output and errors written to files in this folder, whose names begin with `stem`.
    pub(crate) fn output_to(&mut self, folder: &Path, stem: &str) -> Result<(), Failure> {
        make_folder(folder)?;
        self.stdout = Output::File(folder.join(format!("{stem}stdout.log")));
        self.stderr = Output::File(folder.join(format!("{stem}stderr.log")));
        Ok(())
    }
}

/// What is to be run, and by what: read once, started as often as need be.
pub(crate) enum Start {
    Process(Box<What>),
    Container(Box<InContainer>),
    /// A task that gets a copy of its input for each run.
    Private(Box<PrivateTask>),
}

impl Start {
    /// Reads the task, says what is to be said of it, and predicts; finds the engine and has the image.
    pub(crate) fn of(args: &SubjectArgs) -> Result<Self, Failure> {
        let is_known = args.task.is_some() || (args.input.is_some() && args.input_access == InputAccess::Watched);
        if args.input_access != InputAccess::ReadOnly && !is_known {
            let help = "write it as a task, or sweep it over its --input";
            return Err(Failure::new(Exit::Usage, &NoKnownInput, Some(help.to_owned())));
        }
        let mut start = match InContainer::of(args)? {
            Some(container) => Self::Container(Box::new(container)),
            None => Self::Process(Box::new(What::of(args)?)),
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

    /// What a record says of it.
    pub(crate) fn about(&self) -> About {
        let notes = match self {
            Self::Process(what) => what.notes(),
            Self::Container(container) => container.notes.clone(),
            Self::Private(task) => task.notes(),
        };
        About { notes, ..About::one_run(self.subject().clone(), self.prediction().cloned()) }
    }

    /// Whether it finds its inputs.
    ///
    /// # Errors
    /// Inputs that a process would not find: its peak without them would measure nothing.
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

    /// Notes in the record whether the run has changed the input: a reason not to make another one.
    pub(crate) fn check_inputs(&self, observation: &mut Observation) -> Option<Failure> {
        inputs::note_changes(observation, &self.guard()?.originals().changes(&[]))
    }

    /// The limit that its rules ask of Docker.
    pub(crate) fn predicted_limit(&self) -> Option<Bytes> {
        self.prediction()?.docker.limit.as_ref().map(|limit| limit.bytes)
    }

    /// A runner of it under these conditions.
    ///
    /// # Errors
    /// The input cannot be copied for it.
    pub(crate) fn runner(&self, machine: &Machine, conditions: &Conditions) -> Result<Box<dyn Runner>, Failure> {
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

/// A bare command whose input is not known.
#[derive(Debug, thiserror::Error)]
#[error("--input-access is for tasks, whose inputs are known: which files a command reads is not")]
struct NoKnownInput;

/// Tells why there is no observation, as `run` does: with the statuses of `env` and `docker run`.
pub(crate) fn explain(error: &MeasureError) -> Failure {
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
