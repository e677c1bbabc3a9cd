//! The subject of a run, as command-line arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use highwater::calibrate::argument::status;
use highwater::calibrate::workload::{InputAccess, Runnable, Spec};

use super::container::{ContainerArgs, RunnerArg};
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
    /// Exit status that means the task had nothing to do, such as 126: the run is recorded as skipped, and is neither a
    /// failure nor evidence of what the task needs.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub(crate) skip_status: Option<i32>,
    /// Whether the task may write to its input.
    ///
    /// With any choice, highwater checks the data: once it finds a change, it starts no further run.
    #[arg(long, value_enum, value_name = "ACCESS", default_value_t = InputAccessArg::ReadOnly, help_heading = "Inputs")]
    pub(crate) input_access: InputAccessArg,
    /// The command and its arguments.
    #[arg(last = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// How a task may use its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputAccessArg {
    /// The input is read-only for the task, whichever path it takes. For a process of an ordinary user who could write
    /// to the data, this requires a user namespace, in which su and sudo do not work.
    ReadOnly,
    /// Each run gets a copy that it may write to: a clone, an overlay (processes, as root) or a full copy. The copy is
    /// removed after the run.
    Private,
    /// No mount namespace for a process: changes are not prevented, only detected after the run. Container mounts stay
    /// read-only.
    Watched,
}

impl SubjectArgs {
    pub(crate) fn spec(&self) -> Spec {
        let what = match (&self.container.image, &self.task) {
            (Some(image), _) => Runnable::Image(image.clone()),
            (None, Some(path)) => {
                Runnable::Task { path: path.clone(), in_container: self.container.runner == RunnerArg::Container }
            }
            (None, None) => Runnable::Command,
        };
        let mut spec = Spec::new(what, self.command.clone());
        spec.task = self.of.options();
        spec.engine = self.container.engine.options();
        spec.container = self.container.options();
        spec.redact.clone_from(&self.redact);
        spec.skip_status = self.skip_status;
        spec.input_access = match self.input_access {
            InputAccessArg::ReadOnly => InputAccess::ReadOnly,
            InputAccessArg::Private => InputAccess::Private,
            InputAccessArg::Watched => InputAccess::Watched,
        };
        spec
    }
}
