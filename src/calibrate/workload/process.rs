//! The subject as a process: a bare command, or a task with its prediction.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::calibrate::resolve::Resolution;
use crate::model::lint::Platform;
use crate::model::observation::{Subject, Warning};
use crate::model::prediction::Prediction;
use crate::model::problem::one_line;
use crate::model::task::{ChannelKind, OnHost, Replacement, Task};
use crate::runner::StartError;
use crate::runner::originals::Guard;
use crate::runner::process::Launch;
use crate::runner::view::{Mount, View, ViewError};

use super::inputs::{self, Mounting};
use super::{INSIDE_SCOPE, RunOptions, Runnable, Spec, survey};
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::feedback::Feedback;

/// A process to run, and what is known before the run.
pub struct ProcessWorkload {
    command: Vec<OsString>,
    /// Variables set in addition to the current environment.
    env: Vec<(String, String)>,
    working_dir: Option<PathBuf>,
    /// The view that makes the input read-only and, if the task does not name all channels, mounts them at their own
    /// paths.
    view: Option<Arc<View>>,
    /// Whether the view mounts channels at their own paths.
    has_channels_mounted: bool,
    /// Notes on its input for the record.
    notes: Vec<Warning>,
    /// The guard of its input, and the task, unless a sweep manages them.
    pub(super) guard: Option<Guard>,
    pub(super) task: Option<Box<Task>>,
    /// Why the task may not find an input.
    hidden_input: Option<Arc<HiddenInput>>,
    pub(super) subject: Subject,
    pub(super) prediction: Option<Prediction>,
}

impl ProcessWorkload {
    /// Reads the task, prints warnings, and predicts. Sizes are taken before the run, which may change them.
    pub(super) fn open(spec: &Spec, feedback: &dyn Feedback) -> Result<Self, Failure> {
        match &spec.what {
            Runnable::Task { path, .. } => Self::task(spec, path, feedback),
            Runnable::Command | Runnable::Image(_) => {
                let command = Self::of_command(spec.command.clone(), spec.container.env.clone());
                let Some(guard) = spec.guard_of_command(true)? else { return Ok(command) };
                let mut command = command.with_input(Mounting { guard: &guard, staged: &[], known: None })?;
                command.guard = Some(guard);
                Ok(command)
            }
        }
    }

    fn task(spec: &Spec, path: &Path, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let mut resolution = spec.task.resolve(path)?;
        let prediction = survey(&resolution.task, false, feedback)?;
        resolution.lint(Some(&prediction), Platform::Any);
        spec.warn(&resolution, feedback);
        let Resolution { mut task, .. } = resolution;
        spec.container.set_env(&mut task.env);
        make_outputs(&task)?;
        let guard = spec.input_access.guard_of_task(&task, true)?;
        let mounting = Mounting { guard: &guard, staged: &[], known: None };
        let (mut what, replacements) = Self::of_task(&task, prediction, mounting)?;
        what.guard = Some(guard);
        what.task = Some(Box::new(task));
        for replacement in &replacements {
            feedback.note(&replacement.to_string());
        }
        Ok(what)
    }

    /// A task as a process on this machine, and the paths that were replaced for that.
    ///
    /// If command, environment and working directory name every channel, they get the paths on the host. Otherwise the
    /// task gets a view of the host with its channels at their own paths, if possible.
    pub(crate) fn of_task(
        task: &Task,
        prediction: Prediction,
        mounting: Mounting<'_>,
    ) -> Result<(Self, Vec<Replacement>), Failure> {
        let mut on_host = task.on_host();
        let mut has_channels_mounted = !on_host.unnamed.is_empty() && on_host.command.is_some();
        let channels = if has_channels_mounted { channels(task, &mounting) } else { Vec::new() };
        let (view, hidden_input) = match mounting.view(channels) {
            Ok(view) => (view, None),
            Err(error) if has_channels_mounted => {
                has_channels_mounted = false;
                let without = mounting.view(Vec::new()).map_err(no_view)?;
                (without, HiddenInput::new(task, &on_host, error))
            }
            Err(error) => return Err(no_view(error)),
        };
        if has_channels_mounted {
            let Task { command, env, working_dir, .. } = task.clone();
            on_host = OnHost { command, env, working_dir, replacements: Vec::new(), unnamed: Vec::new() };
        }
        let command = on_host.command.ok_or_else(|| {
            let error = ImageOnly { task: task.name.clone() };
            let help = "add `command` to the task or its template";
            Failure::usage(error, help)
        })?;
        let what = Self {
            env: on_host.env,
            working_dir: on_host.working_dir,
            view,
            has_channels_mounted,
            notes: inputs::notes(mounting.guard, mounting.staged),
            guard: None,
            task: None,
            hidden_input,
            subject: Subject { name: Some(task.name.clone()), command: command.clone() },
            command: command.into_iter().map(OsString::from).collect(),
            prediction: Some(prediction),
        };
        Ok((what, on_host.replacements))
    }

    /// A bare command with these variables in addition to the current environment.
    pub(crate) fn of_command(command: Vec<OsString>, env: Vec<(String, String)>) -> Self {
        let words = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let subject = Subject { name: None, command: words };
        Self {
            command,
            env,
            working_dir: None,
            view: None,
            has_channels_mounted: false,
            notes: Vec::new(),
            guard: None,
            task: None,
            hidden_input: None,
            subject,
            prediction: None,
        }
    }

    /// The same command with this view of its input.
    pub(crate) fn with_input(mut self, mounting: Mounting<'_>) -> Result<Self, Failure> {
        self.view = mounting.view(Vec::new()).map_err(no_view)?;
        self.notes = inputs::notes(mounting.guard, mounting.staged);
        Ok(self)
    }

    /// Checks that the process can access its inputs.
    ///
    /// # Errors
    /// An input would have to be mounted, and cannot be.
    pub(super) fn require_inputs(&self) -> Result<(), Failure> {
        self.hidden_input.clone().map_or(Ok(()), |hidden| Err(hidden.into_failure()))
    }

    /// Warnings about the mounts for the record of a run.
    pub(super) fn notes(&self) -> Vec<Warning> {
        let hidden = self.hidden_input.as_ref();
        let hidden = hidden.map(|hidden| Warning::InputHidden { reason: one_line(&**hidden) });
        let view = self.view.as_deref().and_then(|view| note(view, self.has_channels_mounted));
        hidden.into_iter().chain(view).chain(self.notes.iter().cloned()).collect()
    }

    /// The command and the environment with these options, for reading.
    pub(super) fn command_and_env(&self, options: &RunOptions) -> (Vec<String>, Vec<(String, String)>) {
        let launch = self.launch(options);
        let text = |text: &OsString| text.to_string_lossy().into_owned();
        let env = launch.env.iter().map(|(name, value)| (text(name), text(value))).collect();
        (launch.command.iter().map(text).collect(), env)
    }

    /// The launch with these options.
    pub(super) fn launch(&self, conditions: &RunOptions) -> Launch {
        let mut launch = Launch::new(self.command.iter().cloned());
        // Hide from the task how highwater got its cgroup.
        launch.env.retain(|(name, _)| name != INSIDE_SCOPE);
        for (name, value) in self.env.iter().chain(&conditions.env) {
            launch.env.retain(|(known, _)| known != name.as_str());
            launch.env.push((name.into(), value.into()));
        }
        launch.working_directory = match (&conditions.directory, &self.working_dir) {
            (Some(directory), Some(below)) => Some(directory.join(below)),
            (directory, below) => below.as_ref().or(directory.as_ref()).cloned(),
        };
        launch.view.clone_from(&self.view);
        launch.limit = conditions.limit;
        launch.cpus = conditions.cpus.as_ref().map(|cpus| cpus.list.clone());
        launch.stdin = conditions.stdin;
        launch.stdout.clone_from(&conditions.stdout);
        launch.stderr.clone_from(&conditions.stderr);
        launch
    }
}

/// Mounts the channels of a task at their own paths.
fn channels(task: &Task, mounting: &Mounting<'_>) -> Vec<Mount> {
    let binds = task.binds().into_iter();
    binds.flat_map(|bind| mounting.channel(bind.host_path, PathBuf::from(bind.mounted_path), bind.read_only)).collect()
}

fn no_view(error: ViewError) -> Failure {
    let help = "use --input-access watched if mount namespaces do not work here";
    Failure::new(Category::System, error, Some(help.to_owned()))
}

/// Checks that any inputs can be given to a task here.
///
/// # Errors
/// An input would have to be mounted, and cannot be.
pub(crate) fn require_inputs(task: &Task) -> Result<(), Failure> {
    let mut task = task.clone();
    task.channels.retain(|channel| channel.kind == ChannelKind::Input);
    // The runs may use other inputs than those in the task.
    task.channels.iter_mut().for_each(|input| input.host_path = Some(PathBuf::from("/")));
    let on_host = task.on_host();
    if on_host.unnamed.is_empty() || on_host.command.is_none() {
        return Ok(());
    }
    let mounts = task.binds().into_iter().map(|bind| Mount {
        source: bind.host_path,
        target: PathBuf::from(bind.mounted_path),
        read_only: bind.read_only,
    });
    match View::open(&mounts.collect::<Vec<_>>(), &[]) {
        Ok(_) => Ok(()),
        Err(error) => HiddenInput::new(&task, &on_host, error).map_or(Ok(()), |hidden| Err(hidden.into_failure())),
    }
}

/// A warning about a view for readers of the record.
fn note(view: &View, channels: bool) -> Option<Warning> {
    let user_namespace = view.has_user_namespace();
    (channels || user_namespace).then(|| Warning::Namespaces {
        channels,
        user_namespace,
        in_memory: view.in_memory().iter().map(|directory| directory.display().to_string()).collect(),
    })
}

/// The task may not find an input: a path that it does not name cannot be mounted.
#[derive(Debug, thiserror::Error)]
#[error("failed to mount the input of the task at {path}, which neither its command nor its environment names")]
struct HiddenInput {
    path: String,
    #[source]
    source: ViewError,
}

impl HiddenInput {
    /// `None` if every input is named, or has the same path on this machine as in the container.
    fn new(task: &Task, on_host: &OnHost, source: ViewError) -> Option<Arc<Self>> {
        let is_there = |path: &String| {
            let mut there = task.inputs().filter(|input| input.mounted_path == *path);
            let source = there.find_map(|input| input.host_path.as_deref()?.canonicalize().ok());
            source.is_some() && source == Path::new(path).canonicalize().ok()
        };
        let mut hidden = on_host.unnamed.iter().filter(|(kind, path)| *kind == ChannelKind::Input && !is_there(path));
        let (_, path) = hidden.next()?;
        Some(Arc::new(Self { path: path.clone(), source }))
    }

    fn into_failure(self: Arc<Self>) -> Failure {
        let help = format!(
            "name {} in the `command` or `env` of the task, run it in its container with --runner container, or run \
             highwater as root or where users may create user namespaces",
            self.path
        );
        Failure::new(Category::Host, self, Some(help))
    }
}

/// Creates the directories of the task's outputs, which a task expects to exist.
pub(crate) fn make_outputs(task: &Task) -> Result<(), Failure> {
    task.outputs().filter_map(|output| output.host_path.as_deref()).try_for_each(make_folder)
}

pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|source| Failure::new(Category::System, StartError::Output { path: folder.to_owned(), source }, None))
}

/// A task cannot run as a process.
#[derive(Debug, thiserror::Error)]
#[error(
    "failed to run {task} as a process on this machine: the task has no command of its own, only its image has one"
)]
struct ImageOnly {
    task: String,
}
