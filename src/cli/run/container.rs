//! `run` in a container: the options, and how they become a container.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::{Args, ValueEnum};
use highwater::calibrate::resolve::Resolution;
use highwater::host::machine::Machine;
use highwater::model::lint::Platform;
use highwater::model::observation::Subject;
use highwater::model::prediction::Prediction;
use highwater::model::task::Task;
use highwater::runner::container::{Bind, ContainerLaunch, ContainerRunner, UseProbe};
use highwater::runner::engine::{Engine, Image};
use highwater::runner::originals::Guard;

use super::inputs::{self, Mounting};
use super::start::{RunOptions, SubjectArgs};
use crate::cli::engine::{EngineArgs, failed};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::predict;

/// Options of containers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container options")]
pub(crate) struct ContainerArgs {
    /// Run this image as a container; CMD replaces the image's command and is passed to its entrypoint.
    #[arg(long, value_name = "IMAGE", conflicts_with = "task")]
    pub(crate) image: Option<String>,
    /// Whether to run TASK as a container of its image, or as a process on this machine.
    #[arg(long, value_enum, default_value_t = RunnerArg::Container, value_name = "HOW")]
    runner: RunnerArg,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Mount a directory or file in the container, as SOURCE:TARGET or SOURCE:TARGET:ro. Can be repeated.
    ///
    /// Without :ro, a missing source directory is created. Relative sources are resolved against the current directory.
    #[arg(long, value_name = "SOURCE:TARGET[:ro]", value_parser = bind)]
    mount: Vec<Bind>,
    /// Set an environment variable of the task; NAME alone passes on its current value. Can be repeated.
    ///
    /// The value is not written to records or plans. A sweep that resumes from its plan takes it from the environment,
    /// or from --env.
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Run as this user instead of the image's: a name or number, optionally with :GROUP.
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Network of the container, such as none, host or a name [default: the engine's].
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Name of the container.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Add a label to the container. Can be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Start this program instead of the image's entrypoint, without the image's command.
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Working directory in the container [default: the image's].
    #[arg(long, value_name = "DIR")]
    workdir: Option<String>,
    /// Whether to read the peak with a probe in the container; auto: if it cannot be read exactly from outside.
    ///
    /// The probe is a small static program. It replaces the entrypoint and starts it, with the same user, directory,
    /// signals and status. The probe's own memory, some 100 KiB, is included in the peak and in its error bound. The
    /// task is then not process 1 of the container: a signal that it does not handle ends it, as with `docker run
    /// --init`, whereas process 1 would ignore the signal.
    #[arg(long, value_enum, default_value_t = ProbeArg::Auto, value_name = "WHEN")]
    probe: ProbeArg,
    /// Also report the peak of an idle container of this image.
    ///
    /// The engine needs a few MiB to start a container, and the kernel charges them to the container: no peak is lower.
    /// The value is informational; it is not subtracted from the peak. It is measured once per engine and image, and
    /// remembered.
    #[arg(long, alias = "noise-floor")]
    idle_peak: bool,
}

/// What runs a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RunnerArg {
    Container,
    Process,
}

/// Whether a probe is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProbeArg {
    Auto,
    Always,
    Never,
}

impl From<ProbeArg> for UseProbe {
    fn from(probe: ProbeArg) -> Self {
        match probe {
            ProbeArg::Auto => Self::Auto,
            ProbeArg::Always => Self::Always,
            ProbeArg::Never => Self::Never,
        }
    }
}

/// Parses `SOURCE:TARGET[:ro|:rw]`.
fn bind(text: &str) -> Result<Bind, String> {
    let expected = "expected SOURCE:TARGET or SOURCE:TARGET:ro, with an absolute TARGET";
    let mut parts = text.split(':');
    let (Some(source), Some(target)) = (parts.next(), parts.next()) else { return Err(expected.to_owned()) };
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(other) => return Err(format!("found the mode `{other}`, expected `ro` or `rw`")),
    };
    if source.is_empty() || !target.starts_with('/') || parts.next().is_some() {
        return Err(expected.to_owned());
    }
    let source = std::path::absolute(source).map_err(|error| error.to_string())?;
    Ok(Bind { source, target: target.to_owned(), read_only })
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() { Err("expected NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value.to_owned())) }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("expected NAME=VALUE".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err("the variable is not set; expected NAME=VALUE".to_owned()),
        },
    }
}

/// What to run in a container, and what is known before the run.
pub(crate) struct ContainerWorkload {
    engine: Engine,
    image: Image,
    launch: ContainerLaunch,
    probe: UseProbe,
    noise_floor: bool,
    pub(super) subject: Subject,
    pub(super) prediction: Option<Prediction>,
    /// The task and its inputs, unless a sweep manages them.
    pub(super) task: Option<Box<Task>>,
    pub(super) guard: Option<Guard>,
    /// Notes on its input for the record.
    pub(super) notes: Vec<String>,
}

/// A container option given for a process.
#[derive(Debug, thiserror::Error)]
#[error("{0} has no effect on a process on this machine")]
struct OnlyForContainers(&'static str);

impl ContainerWorkload {
    /// Whether to run a container.
    ///
    /// # Errors
    /// A container option was given for a process.
    pub(crate) fn is_wanted(args: &SubjectArgs) -> Result<bool, Failure> {
        let is_wanted =
            args.container.image.is_some() || (args.task.is_some() && args.container.runner == RunnerArg::Container);
        match args.container.only_for_containers() {
            Some(option) if !is_wanted => {
                let help = "remove it, or run a container: --image IMAGE, or a TASK without --runner process";
                Err(Failure::new(Exit::Usage, &OnlyForContainers(option), Some(help.to_owned())))
            }
            _ => Ok(is_wanted),
        }
    }

    /// `None` if the subject is a process.
    pub(super) fn from_args(args: &SubjectArgs) -> Result<Option<Self>, Failure> {
        if !Self::is_wanted(args)? {
            return Ok(None);
        }
        match (&args.container.image, &args.task) {
            (Some(image), _) => Self::image(args, image).map(Some),
            (None, Some(path)) => Self::task(args, path).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn image(args: &SubjectArgs, name: &str) -> Result<Self, Failure> {
        let words = words(&args.command)?;
        let engine = args.container.engine.engine()?;
        let image = args.container.engine.image(&engine, name).map_err(|error| failed(&error))?;
        let mut container = Self::of_image(args, engine, image, name, words);
        if let Some(guard) = args.guard_of_command(false)? {
            container.protect(Mounting { guard: &guard, staged: &[], known: None })?;
            container.guard = Some(guard);
        }
        Ok(container)
    }

    /// A container of an image that the engine has, with this command.
    pub(crate) fn of_image(args: &SubjectArgs, engine: Engine, image: Image, name: &str, words: Vec<String>) -> Self {
        let mut launch = ContainerLaunch::new(name);
        launch.command = Some(words.clone()).filter(|words| !words.is_empty());
        args.container.apply(&mut launch);
        let subject = Subject { name: None, command: words };
        Self::new(args, (engine, image), launch, subject, None)
    }

    fn task(args: &SubjectArgs, path: &Path) -> Result<Self, Failure> {
        let task = args.of.read(path)?;
        let engine = args.container.engine.engine()?;
        let mut resolution = args.of.put_together(task, Some((&engine, &args.container.engine)))?;
        let prediction = predict::survey(&resolution, false)?;
        resolution.lint(Some(&prediction), Platform::Any);
        args.warn(&resolution);
        let Resolution { task, .. } = resolution;
        let image = Self::image_of(args, &engine, &task)?;
        let guard = args.input_access.guard_of_task(&task, false)?;
        let mut container = Self::of_task(args, engine, image, &task, prediction);
        container.protect(Mounting { guard: &guard, staged: &[], known: None })?;
        container.task = Some(Box::new(task));
        container.guard = Some(guard);
        Ok(container)
    }

    /// Finds or pulls the image of a task.
    pub(crate) fn image_of(args: &SubjectArgs, engine: &Engine, task: &Task) -> Result<Image, Failure> {
        let Some(name) = &task.image else {
            let help = "run it as a process with --runner process".to_owned();
            return Err(Failure::new(Exit::Usage, &NoImage { task: task.name.clone() }, Some(help)));
        };
        args.container.engine.image(engine, name).map_err(|error| failed(&error))
    }

    /// A container of a task whose image the engine has.
    pub(crate) fn of_task(
        args: &SubjectArgs,
        engine: Engine,
        image: Image,
        task: &Task,
        prediction: Prediction,
    ) -> Self {
        let mut launch = launch(task, task.image.clone().unwrap_or_default());
        args.container.apply(&mut launch);
        let subject = Subject { name: Some(task.name.clone()), command: task.command.clone().unwrap_or_default() };
        Self::new(args, (engine, image), launch, subject, Some(prediction))
    }

    fn new(
        args: &SubjectArgs,
        (engine, image): (Engine, Image),
        launch: ContainerLaunch,
        subject: Subject,
        prediction: Option<Prediction>,
    ) -> Self {
        let (probe, noise_floor) = (args.container.probe.into(), args.container.idle_peak);
        let (task, guard, notes) = (None, None, Vec::new());
        Self { engine, image, launch, probe, noise_floor, subject, prediction, task, guard, notes }
    }

    /// The same container with other inputs, which belong to the run.
    pub(super) fn on_copies(&self, of: &Task, copies: &Task) -> Self {
        let mut launch = self.launch.clone();
        for (original, copy) in of.inputs().zip(copies.inputs()) {
            let binds = launch.mounts.iter_mut().filter(|bind| bind.target == original.mounted_path);
            for bind in binds.filter(|bind| Some(&bind.source) == original.host_path.as_ref()) {
                bind.source = copy.host_path.clone().unwrap_or_default();
            }
        }
        Self {
            engine: self.engine.clone(),
            image: self.image.clone(),
            launch,
            probe: self.probe,
            noise_floor: self.noise_floor,
            subject: self.subject.clone(),
            prediction: self.prediction.clone(),
            task: None,
            guard: None,
            notes: Vec::new(),
        }
    }

    /// Mounts the input read-only at every path, unless it is a private copy.
    pub(crate) fn protect(&mut self, mounting: Mounting<'_>) -> Result<(), Failure> {
        self.notes = inputs::notes(mounting.guard, mounting.staged);
        let mut units = Vec::new();
        for bind in &mut self.launch.mounts {
            if let Some(staged) = mounting.staged.iter().find(|staged| staged.input() == bind.source) {
                bind.read_only = !staged.is_private();
                let target = bind.target.trim_end_matches('/');
                units.extend(staged.mounts().iter().map(|(name, source)| Bind {
                    source: source.clone(),
                    target: format!("{target}/{}", name.to_string_lossy()),
                    read_only: true,
                }));
            }
        }
        self.launch.mounts.extend(units);
        if !self.engine.facts.seems_local() {
            return Ok(());
        }
        self.launch
            .protect(mounting.guard.originals())
            .map_err(|source| Failure::new(Exit::Host, &NotProtected(source), None))
    }

    /// The container configuration, to be changed.
    pub(crate) fn launch_mut(&mut self) -> &mut ContainerLaunch {
        &mut self.launch
    }

    /// A runner for the container with these options.
    pub(super) fn runner(&self, machine: &Machine, conditions: &RunOptions) -> ContainerRunner {
        let mut launch = self.launch.clone();
        launch.limit = conditions.limit;
        for (name, value) in &conditions.env {
            launch.env.retain(|(known, _)| known != name);
            launch.env.push((name.clone(), value.clone()));
        }
        launch.stdout.clone_from(&conditions.stdout);
        launch.stderr.clone_from(&conditions.stderr);
        launch.logs.clone_from(&conditions.logs);
        ContainerRunner::new(machine, self.engine.clone(), self.image.clone(), launch)
            .probe(self.probe)
            .idle_peak(self.noise_floor)
    }
}

impl ContainerArgs {
    /// Whether a mount has the placeholder `{input}` as its source.
    pub(crate) fn mounts_place(&self) -> bool {
        self.mount.iter().any(|bind| bind.source.ends_with("{input}"))
    }

    /// Sets the variables of `--env`.
    pub(crate) fn set_env(&self, env: &mut Vec<(String, String)>) {
        for (name, value) in &self.env {
            env.retain(|(known, _)| known != name);
            env.push((name.clone(), value.clone()));
        }
    }

    /// The first container option that was given.
    fn only_for_containers(&self) -> Option<&'static str> {
        let given = [
            ("--mount", !self.mount.is_empty()),
            ("--user", self.user.is_some()),
            ("--network", self.network.is_some()),
            ("--name", self.name.is_some()),
            ("--label", !self.label.is_empty()),
            ("--entrypoint", self.entrypoint.is_some()),
            ("--workdir", self.workdir.is_some()),
            ("--probe", self.probe != ProbeArg::Auto),
            ("--idle-peak", self.idle_peak),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option))
    }

    /// Applies command-line options, which override or extend those of the task.
    fn apply(&self, launch: &mut ContainerLaunch) {
        launch.mounts.extend(self.mount.iter().cloned());
        self.set_env(&mut launch.env);
        launch.labels.extend(self.label.iter().cloned());
        let set = |place: &mut Option<String>, given: &Option<String>| {
            if given.is_some() {
                place.clone_from(given);
            }
        };
        set(&mut launch.user, &self.user);
        set(&mut launch.network, &self.network);
        set(&mut launch.name, &self.name);
        set(&mut launch.working_directory, &self.workdir);
        if let Some(program) = &self.entrypoint {
            launch.entrypoint = Some(vec![program.clone()]);
        }
    }
}

/// The container configuration of a task.
fn launch(task: &Task, image: String) -> ContainerLaunch {
    let mut launch = ContainerLaunch::new(image);
    launch.command.clone_from(&task.command);
    launch.env.clone_from(&task.env);
    launch.working_directory = task.working_dir.as_ref().map(|folder| folder.to_string_lossy().into_owned());
    let binds = task.binds().into_iter();
    launch.mounts = binds
        .map(|bind| Bind { source: bind.host_path, target: bind.mounted_path, read_only: bind.read_only })
        .collect();
    launch.labels = task.config.labels.iter().cloned().collect::<BTreeMap<_, _>>();
    launch.user = task.config.text("user").map(str::to_owned);
    launch.network = task.config.text("network").map(str::to_owned);
    launch
}

/// The paths of the input cannot be found.
#[derive(Debug, thiserror::Error)]
#[error("failed to find the paths of the input")]
struct NotProtected(#[source] std::io::Error);

/// A task cannot run as a container.
#[derive(Debug, thiserror::Error)]
#[error("failed to run {task} as a container: it names no image")]
struct NoImage {
    task: String,
}

/// The command as strings, because an engine accepts only UTF-8.
fn words(command: &[OsString]) -> Result<Vec<String>, Failure> {
    let text = |word: &OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| {
            let help = "rename the file, or refer to it in a script inside the image".to_owned();
            Failure::new(Exit::Usage, &NoText(word.to_string_lossy().into_owned()), Some(help))
        })
    };
    command.iter().map(text).collect()
}

/// An argument that is not UTF-8.
#[derive(Debug, thiserror::Error)]
#[error("failed to pass the argument `{0}` to a container: it is not valid UTF-8, which container engines require")]
struct NoText(String);
