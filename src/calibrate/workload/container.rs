//! The subject as a container: an image, or a task with its prediction.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;

use crate::calibrate::resolve::Resolution;
use crate::host::machine::Machine;
use crate::model::lint::Platform;
use crate::model::observation::{Subject, Warning};
use crate::model::prediction::Prediction;
use crate::model::task::Task;
use crate::runner::Runner;
use crate::runner::container::{Bind, ContainerLaunch, ContainerResources, ContainerRunner, Device, Gpus, UseProbe};
use crate::runner::originals::Guard;
use crate::runner::pod::{Manifest, PodLaunch, PodRunner};

use super::inputs::{self, Mounting};
use super::pod::{Backend, PodSettings};
use super::{RunOptions, Runnable, Spec, survey};
use crate::calibrate::failure::{Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::monitor::WatchOptions;

/// What to run in a container, and what is known before the run.
pub struct ContainerWorkload {
    backend: Backend,
    launch: ContainerLaunch,
    /// What only pods have.
    pod: PodSettings,
    probe: UseProbe,
    noise_floor: bool,
    pub(super) subject: Subject,
    pub(super) prediction: Option<Prediction>,
    /// The task and its inputs, unless a sweep manages them.
    pub(super) task: Option<Box<Task>>,
    pub(super) guard: Option<Guard>,
    /// Notes on its input for the record.
    pub(super) notes: Vec<Warning>,
}

impl ContainerWorkload {
    /// `None` if the subject is a process.
    pub(super) fn open(spec: &Spec, feedback: &dyn Feedback) -> Result<Option<Self>, Failure> {
        if !spec.is_container()? {
            return Ok(None);
        }
        match &spec.what {
            Runnable::Image(image) => Self::image(spec, image, feedback).map(Some),
            Runnable::Task { path, .. } => Self::task(spec, path, feedback).map(Some),
            Runnable::Command => Ok(None),
        }
    }

    fn image(spec: &Spec, name: &str, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let words = words(&spec.command)?;
        let backend = Backend::of_image(spec, name, feedback)?;
        let mut container = Self::of_image(spec, backend, name, words);
        if let Some(guard) = spec.guard_of_command(false)? {
            container.protect(Mounting { guard: &guard, staged: &[], known: None })?;
            container.guard = Some(guard);
        }
        Ok(container)
    }

    /// A container of an image, with this command.
    pub(crate) fn of_image(spec: &Spec, backend: Backend, name: &str, words: Vec<String>) -> Self {
        let mut launch = ContainerLaunch::new(name);
        launch.command = Some(words.clone()).filter(|words| !words.is_empty());
        spec.container.apply(&mut launch);
        let subject = Subject { name: None, command: words };
        Self::new(spec, (backend, PodSettings::of_image(spec)), launch, subject, None)
    }

    fn task(spec: &Spec, path: &Path, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let task = spec.task.read(path)?;
        let engine = Backend::engine_for(spec)?;
        let images = engine.as_ref().map(|engine| (engine, &spec.engine));
        let mut resolution = spec.task.put_together(task, images, feedback)?;
        let prediction = survey(&resolution.task, false, feedback)?;
        resolution.lint(Some(&prediction), Platform::Any);
        spec.warn(&resolution, feedback);
        let Resolution { task, .. } = resolution;
        let backend = Backend::of_task(spec, engine, &task, feedback)?;
        let guard = spec.input_access.guard_of_task(&task, false)?;
        let mut container = Self::of_task(spec, backend, &task, prediction)?;
        container.protect(Mounting { guard: &guard, staged: &[], known: None })?;
        container.task = Some(Box::new(task));
        container.guard = Some(guard);
        Ok(container)
    }

    /// A container of a task.
    pub(crate) fn of_task(spec: &Spec, backend: Backend, task: &Task, prediction: Prediction) -> Result<Self, Failure> {
        let mut launch = launch(task, task.image.clone().unwrap_or_default());
        spec.container.apply(&mut launch);
        if spec.cluster.is_none() {
            launch.resources = spec.container.resources_of(task)?;
        }
        let subject = Subject { name: Some(task.name.clone()), command: task.command.clone().unwrap_or_default() };
        let pod = PodSettings::of_task(spec, task, &prediction)?;
        Ok(Self::new(spec, (backend, pod), launch, subject, Some(prediction)))
    }

    fn new(
        spec: &Spec,
        (backend, pod): (Backend, PodSettings),
        launch: ContainerLaunch,
        subject: Subject,
        prediction: Option<Prediction>,
    ) -> Self {
        let (probe, noise_floor) = (spec.container.probe, spec.container.idle_peak);
        let (task, guard, notes) = (None, None, Vec::new());
        Self { backend, pod, launch, probe, noise_floor, subject, prediction, task, guard, notes }
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
            backend: self.backend.clone(),
            pod: self.pod.clone(),
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
        if self.pod.has_volumes() {
            // Only their items are in the volume. The container gets the mount points by itself.
            let is_of_items = |bind: &Bind| {
                let staged = mounting.staged.iter().find(|staged| staged.input() == bind.source);
                staged.is_some_and(|staged| !staged.mounts().is_empty()) && !self.pod.has_in_volume(&bind.source)
            };
            self.launch.mounts.retain(|bind| !is_of_items(bind));
        }
        self.launch.mounts.extend(units);
        if self.backend.engine().is_some_and(|engine| !engine.facts.seems_local()) {
            return Ok(());
        }
        let protected = self.launch.protect(mounting.guard.originals());
        protected.map_err(|source| Failure::host(Failed::to("find the paths of the input", source)))
    }

    /// The container configuration, to be changed.
    pub(crate) fn launch_mut(&mut self) -> &mut ContainerLaunch {
        &mut self.launch
    }

    /// Whether it runs as a pod.
    pub(super) fn is_pod(&self) -> bool {
        self.backend.engine().is_none()
    }

    /// Whether it runs on this machine.
    pub(super) fn is_on_this_machine(&self) -> bool {
        self.backend.engine().is_some_and(|engine| engine.facts.seems_local())
    }

    /// The command and the environment with these options, those of the image included if an engine has it.
    pub(super) fn command_and_env(&self, options: &RunOptions) -> (Vec<String>, Vec<(String, String)>) {
        let image = self.backend.image();
        let mut command = match (&self.launch.entrypoint, image) {
            (Some(entrypoint), _) => entrypoint.clone(),
            (None, Some(image)) => image.entrypoint.clone(),
            (None, None) => Vec::new(),
        };
        match (&self.launch.command, image) {
            (Some(arguments), _) => command.extend(arguments.iter().cloned()),
            (None, Some(image)) if self.launch.entrypoint.is_none() => command.extend(image.command.iter().cloned()),
            (None, _) => {}
        }
        let of_image = image.into_iter().flat_map(|image| &image.env).filter_map(|variable| variable.split_once('='));
        let mut env: Vec<(String, String)> =
            of_image.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        env.extend(self.launch.env.iter().chain(&options.env).cloned());
        (command, env)
    }

    /// A runner for the container with these options.
    pub(super) fn runner(
        &self,
        machine: &Machine,
        (conditions, watch): (&RunOptions, &WatchOptions),
    ) -> Box<dyn Runner> {
        let mut launch = self.launch.clone();
        launch.limit = conditions.limit;
        launch.cpuset = conditions.cpus.as_ref().map(|cpus| cpus.list.clone());
        launch.resources.cpus = conditions.cpu_limit.or(launch.resources.cpus);
        for (name, value) in &conditions.env {
            launch.env.retain(|(known, _)| known != name);
            launch.env.push((name.clone(), value.clone()));
        }
        launch.stdout.clone_from(&conditions.stdout);
        launch.stderr.clone_from(&conditions.stderr);
        launch.logs.clone_from(&conditions.logs);
        match &self.backend {
            Backend::Engine(with_image) => {
                let (engine, image) = &**with_image;
                let runner = ContainerRunner::new(machine, engine.clone(), image.clone(), launch);
                Box::new(runner.probe(self.probe).idle_peak(self.noise_floor))
            }
            Backend::Cluster(cluster) => {
                let mut launch = PodLaunch::new(launch);
                self.pod.apply(&mut launch);
                launch.timeout = watch.timeout;
                launch.kill_after = watch.kill_after;
                Box::new(PodRunner::new(machine, cluster.clone(), launch))
            }
        }
    }
}

/// Options of containers.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ContainerOptions {
    /// Mounts in addition to those of the task.
    pub mount: Vec<Bind>,
    /// Variables of the task, which may be a process, too; they override its own.
    pub env: Vec<(String, String)>,
    /// The user instead of the image's, as `USER` or `USER:GROUP`.
    pub user: Option<String>,
    /// The network instead of the engine's default.
    pub network: Option<String>,
    /// The name of the container.
    pub name: Option<String>,
    /// Labels in addition to those of the task.
    pub label: Vec<(String, String)>,
    /// The program instead of the image's entrypoint.
    pub entrypoint: Option<String>,
    /// The working directory instead of the image's.
    pub workdir: Option<String>,
    /// Whether to read the peak with a probe in the container.
    pub probe: UseProbe,
    /// Whether to report the peak of an idle container of the image.
    pub idle_peak: bool,
    /// CPUs, devices, swap and the like.
    pub resources: ContainerResources,
}

impl ContainerOptions {
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
    pub(super) fn only_for_containers(&self) -> Option<&'static str> {
        let given = [
            ("--mount", !self.mount.is_empty()),
            ("--user", self.user.is_some()),
            ("--network", self.network.is_some()),
            ("--name", self.name.is_some()),
            ("--label", !self.label.is_empty()),
            ("--entrypoint", self.entrypoint.is_some()),
            ("--workdir", self.workdir.is_some()),
            ("--probe", self.probe != UseProbe::Auto),
            ("--idle-peak", self.idle_peak),
        ];
        given.into_iter().find_map(|(option, is_given)| is_given.then_some(option)).or(self.resources.first_option())
    }

    /// The resources of a task: unless options give it GPUs or devices, the GPUs of its own limits.
    ///
    /// # Errors
    /// The task requests GPUs of a vendor that cannot be requested from a container engine.
    pub(crate) fn resources_of(&self, task: &Task) -> Result<ContainerResources, Failure> {
        let mut resources = self.resources.clone();
        let is_cdi = |device: &Device| matches!(device, Device::Cdi(_));
        let Some((name, amount)) =
            task.resources.limits.gpu().filter(|_| resources.gpus.is_none() && !resources.devices.iter().any(is_cdi))
        else {
            return Ok(resources);
        };
        let count = amount.source().parse().ok().filter(|count| (0..=1 << 20).contains(count));
        if count == Some(0) {
            return Ok(resources);
        }
        let asks = |what: &str| format!("the task {} asks for {name}: {}{what}", task.name, amount.source());
        let is_nvidia = name == "gpu" || name == "nvidia.com/gpu";
        if !is_nvidia && !resources.devices.is_empty() {
            return Ok(resources);
        }
        if !is_nvidia {
            let help = "name its devices with --device, such as --device /dev/kfd --device /dev/dri, or run without a \
                        GPU with --gpus 0";
            return Err(Failure::usage(asks(", and a container engine can be asked only for nvidia.com/gpu"), help));
        }
        let Some(count) = count else {
            return Err(Failure::usage(asks(", expected a whole number of GPUs"), "correct the task, or give --gpus"));
        };
        resources.gpus = Some(Gpus::number(count));
        Ok(resources)
    }

    /// Applies command-line options, which override or extend those of the task.
    fn apply(&self, launch: &mut ContainerLaunch) {
        launch.mounts.extend(self.mount.iter().cloned());
        self.set_env(&mut launch.env);
        launch.labels.extend(self.label.iter().cloned());
        launch.resources.clone_from(&self.resources);
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

/// The pod that a task would run as, with the limit and the request that its rules predict, as JSON.
///
/// # Errors
/// If its image is missing, or a pod cannot do what the task asks for.
pub fn pod_of_task(task: &Task, prediction: &Prediction) -> Result<Value, Failure> {
    let Some(image) = task.image.clone() else {
        let error = format!("failed to describe a pod of {}: it names no image", task.name);
        return Err(Failure::usage(error, "name the image in the task"));
    };
    let mut launch = PodLaunch::new(launch(task, image));
    PodSettings::of_config(task, prediction)?.apply(&mut launch);
    let name: String =
        task.name.to_lowercase().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    let mut pod = Manifest::plain(&launch, name.trim_matches('-'))?;
    let amounts = [("limits", &prediction.kubernetes.limit), ("requests", &prediction.kubernetes.request)];
    for (name, amount) in amounts {
        if let Some(amount) = amount {
            pod["spec"]["containers"][0]["resources"][name]["memory"] = amount.written.clone().into();
        }
    }
    if let Some(namespace) = task.config.text("namespace") {
        pod["metadata"]["namespace"] = namespace.into();
    }
    Ok(pod)
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

/// The command as strings, because an engine accepts only UTF-8.
fn words(command: &[OsString]) -> Result<Vec<String>, Failure> {
    let text = |word: &OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| {
            let help = "rename the file, or refer to it in a script inside the image";
            let error = format!(
                "failed to pass the argument `{}` to a container: it is not valid UTF-8, which container engines require",
                word.display()
            );
            Failure::usage(error, help)
        })
    };
    command.iter().map(text).collect()
}
