//! What is to be run: a bare command, or a task with what its rules predict.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use highwater::calibrate::resolve::Resolution;
use highwater::model::lint::Platform;
use highwater::model::observation::Subject;
use highwater::model::prediction::Prediction;
use highwater::model::task::{Replacement, Task};
use highwater::runner::StartError;
use highwater::runner::process::Launch;

use super::OWN_FAILURE;
use super::start::{Conditions, SubjectArgs};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::predict;
use crate::cli::scope;

/// What is to be run, and what is known of it before.
pub(crate) struct What {
    command: Vec<OsString>,
    /// Set beside our own environment.
    env: Vec<(String, String)>,
    working_dir: Option<PathBuf>,
    pub(super) subject: Subject,
    pub(super) prediction: Option<Prediction>,
}

impl What {
    /// Reads the task, says what is to be said of it, and predicts: sizes are taken before the run, which may change
    /// them.
    pub(super) fn of(args: &SubjectArgs) -> Result<Self, Failure> {
        match &args.task {
            Some(path) => Self::task(args, path),
            None => Ok(Self::of_command(args.command.clone())),
        }
    }

    fn task(args: &SubjectArgs, path: &Path) -> Result<Self, Failure> {
        let mut resolution = args.of.resolve(path).map_err(Failure::own)?;
        let prediction = predict::survey(&resolution, false).map_err(Failure::own)?;
        resolution.lint(Some(&prediction), Platform::Any);
        args.warn(&resolution);
        let Resolution { task, .. } = resolution;
        make_outputs(&task)?;
        let (what, replacements) = Self::of_task(&task, prediction)?;
        for replacement in &replacements {
            output::say(&format!("highwater: {replacement}"));
        }
        Ok(what)
    }

    /// A task as a process of this machine, and which paths were replaced for that.
    pub(crate) fn of_task(task: &Task, prediction: Prediction) -> Result<(Self, Vec<Replacement>), Failure> {
        let on_host = task.on_host();
        let command = on_host.command.ok_or_else(|| {
            let error = ImageOnly { task: task.name.clone() };
            let help = "add `command` to the task or its template".to_owned();
            Failure::new(Exit::Usage, &error, Some(help))
        })?;
        let what = Self {
            env: on_host.env,
            working_dir: on_host.working_dir,
            subject: Subject { name: Some(task.name.clone()), command: command.clone() },
            command: command.into_iter().map(OsString::from).collect(),
            prediction: Some(prediction),
        };
        Ok((what, on_host.replacements))
    }

    /// A bare command.
    pub(crate) fn of_command(command: Vec<OsString>) -> Self {
        let words = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let subject = Subject { name: None, command: words };
        Self { command, env: Vec::new(), working_dir: None, subject, prediction: None }
    }

    /// How it is started under these conditions.
    pub(super) fn launch(&self, conditions: &Conditions) -> Launch {
        let mut launch = Launch::new(self.command.iter().cloned());
        // How we came by our cgroup is none of the task's business.
        launch.env.retain(|(name, _)| name != scope::INSIDE);
        for (name, value) in self.env.iter().chain(&conditions.env) {
            launch.env.retain(|(known, _)| known != name.as_str());
            launch.env.push((name.into(), value.into()));
        }
        launch.working_directory.clone_from(&self.working_dir);
        launch.limit = conditions.limit;
        launch.stdin = conditions.stdin;
        launch.stdout.clone_from(&conditions.stdout);
        launch.stderr.clone_from(&conditions.stderr);
        launch
    }
}

/// A task expects the folders of its outputs to be there.
pub(crate) fn make_outputs(task: &Task) -> Result<(), Failure> {
    task.outputs().filter_map(|output| output.host_path.as_deref()).try_for_each(make_folder)
}

pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|source| Failure::new(OWN_FAILURE, &StartError::Output { path: folder.to_owned(), source }, None))
}

/// Why a task cannot be run as a process.
#[derive(Debug, thiserror::Error)]
#[error("failed to run {task} as a process of this machine: it has no command, and only its image knows one")]
struct ImageOnly {
    task: String,
}
