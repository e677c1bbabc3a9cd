//! What is run: a process, an image or a task, with its environment, mounts and options.
//!
//! [`Spec`] says what to run. The command line and every file format are parsed into it; [`Workload::open`] finds what
//! it names, and [`Workload::measure`] runs it.

pub(crate) mod container;
mod engine;
pub(crate) mod inputs;
mod page_cache;
pub(crate) mod pod;
mod private;
pub(crate) mod process;
mod redact;
mod runtime;
#[doc(hidden)]
pub mod settings;
mod task;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use self::container::ContainerWorkload;
use self::private::PrivateTask;
use self::process::{ProcessWorkload, make_folder};
use super::failure::{Category, Failure};
use super::feedback::Feedback;
use super::measure::{MeasureError, RunContext, measure};
use super::monitor::{Cancel, Observer, WatchOptions};
use super::predict::predict;
use super::resolve::Resolution;
use crate::host::cpus::{self, CpuList};
use crate::host::machine::Machine;
use crate::model::observation::{Cache, Conditions, Dropped, Logs, Observation, Subject, Throttling};
use crate::model::prediction::Prediction;
use crate::model::task::Task;
use crate::model::units::Bytes;
use crate::runner::Runner;
use crate::runner::container::Cpus;
use crate::runner::originals::Guard;
use crate::runner::pod::ClusterOptions;
use crate::runner::process::{Output, ProcessRunner, Stdin};
use crate::tree::Options;

pub use self::container::{ContainerOptions, pod_of_task};
pub use self::engine::{EngineOptions, Images, PROCESSING_CONTAINER};
pub use self::inputs::{InputAccess, sizes_of};
pub use self::page_cache::CacheState;
pub use self::redact::{missing, redact};
pub use self::task::{ReadTask, TaskOptions, variables};

/// Set in the environment of a highwater that gave itself a cgroup; hidden from tasks.
#[doc(hidden)]
pub const INSIDE_SCOPE: &str = "HIGHWATER_SCOPE";

/// What to run.
#[derive(Clone, Debug)]
pub enum Runnable {
    /// A task.json; `-` is stdin.
    Task {
        /// Its path.
        path: PathBuf,
        /// Whether it runs as a container of its image, or as a process on this machine.
        in_container: bool,
    },
    /// The command, as a process on this machine.
    Command,
    /// An image; the command is passed to its entrypoint.
    Image(String),
}

/// What to run, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Spec {
    /// What to run.
    pub what: Runnable,
    /// The command and its arguments; empty for a task.
    pub command: Vec<OsString>,
    /// How a task and its template are found.
    pub task: TaskOptions,
    /// The container engine.
    pub engine: EngineOptions,
    /// The Kubernetes cluster, if containers run as its pods.
    pub cluster: Option<ClusterOptions>,
    /// Options of containers.
    pub container: ContainerOptions,
    /// Arguments of the command whose values are kept out of records.
    pub redact: Vec<String>,
    /// Whether the task may write to its input.
    pub input_access: InputAccess,
    /// The exit status by which the task says that there was nothing to do.
    pub skip_status: Option<i32>,
    /// Whether the input was chosen to be small, as for a check: warnings that this explains are omitted.
    pub is_sample: bool,
    /// The input of a bare command or image: files and directories, if they are known.
    pub inputs: Vec<PathBuf>,
}

impl Spec {
    /// This with default options. A command or an image has its arguments in `command`.
    pub fn new(what: Runnable, command: Vec<OsString>) -> Self {
        Self {
            what,
            command,
            task: TaskOptions::default(),
            engine: EngineOptions::default(),
            cluster: None,
            container: ContainerOptions::default(),
            redact: Vec::new(),
            input_access: InputAccess::default(),
            skip_status: None,
            is_sample: false,
            inputs: Vec::new(),
        }
    }

    /// Whether it runs in a container.
    ///
    /// # Errors
    /// An option of containers was given for a process.
    pub fn is_container(&self) -> Result<bool, Failure> {
        let is_container = self.is_in_container();
        if self.cluster.is_some() && !is_container {
            let help = "name an image with --image, or give a TASK without --runner process";
            return Err(Failure::usage("only a container can run on Kubernetes", help));
        }
        match self.container.only_for_containers() {
            Some(option) if !is_container => {
                let help = "remove it, or run a container: --image IMAGE, or a TASK without --runner process";
                Err(Failure::usage(format!("{option} has no effect on a process on this machine"), help))
            }
            _ => Ok(is_container),
        }
    }

    pub(crate) const fn is_in_container(&self) -> bool {
        match &self.what {
            Runnable::Image(_) => true,
            Runnable::Task { in_container, .. } => *in_container,
            Runnable::Command => false,
        }
    }

    /// The image, if one is named.
    pub(crate) fn image(&self) -> Option<&str> {
        match &self.what {
            Runnable::Image(image) => Some(image),
            Runnable::Task { .. } | Runnable::Command => None,
        }
    }

    /// Checks that this access is possible for the input of a bare command or image.
    fn require_known_input(&self) -> Result<(), Failure> {
        let (error, help) = match self.input_access {
            InputAccess::Private => (
                "--input-access private needs a task: a bare command names the paths of the original files",
                "describe the command in a task.json, or use `highwater sweep` with --input and {input} in the command",
            ),
            InputAccess::Watched if self.inputs.is_empty() => (
                "--input-access watched needs an input: highwater does not know which files a bare command reads",
                "name them with --input, or describe the command in a task.json",
            ),
            InputAccess::ReadOnly | InputAccess::Watched => return Ok(()),
        };
        Err(Failure::usage(error, help))
    }

    /// Guards the input of a bare command or image; `None` if it is unknown.
    fn guard_of_command(&self, is_process: bool) -> Result<Option<Guard>, Failure> {
        if self.inputs.is_empty() {
            return Ok(None);
        }
        self.input_access.guard(self.inputs.iter().map(PathBuf::as_path), [], is_process).map(Some)
    }

    /// The command to record.
    ///
    /// # Errors
    /// The command has no argument of a name to redact.
    pub fn recorded(&self, command: &[String]) -> Result<Vec<String>, Failure> {
        redact(command, &self.redact)
    }

    /// Warns about a task before it runs.
    fn warn(&self, resolution: &Resolution, feedback: &dyn Feedback) {
        for mut flawed in resolution.warnings() {
            // A small input says nothing about the rule.
            flawed.problems.retain(|problem| !(self.is_sample && problem.code == "floor-always-wins"));
            feedback.warn(&flawed);
        }
    }
}

/// Predicts from the sizes of all inputs; `strict` as for the platform.
///
/// # Errors
/// If an input cannot be read, or the pattern of a rule is invalid.
pub fn survey(task: &Task, strict: bool, feedback: &dyn Feedback) -> Result<Prediction, Failure> {
    let tell = |progress| feedback.reading(Some(progress));
    let options = Options { strict, progress: feedback.shows_reading().then_some(&tell), ..Options::default() };
    let prediction = predict(task, &options);
    feedback.reading(None);
    Ok(prediction?)
}

/// Whether a process gets a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseCgroup {
    /// If possible; otherwise it is sampled.
    #[default]
    Auto,
    /// Always; without one, the run fails.
    Always,
    /// Never: it is sampled.
    Never,
}

/// The CPUs of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCpus {
    /// Their numbers.
    pub list: CpuList,
    /// Their NUMA node, if they were chosen in one.
    pub numa_node: Option<u32>,
    /// Whether no other run of this highwater is on them.
    pub pinned: bool,
}

/// Options that may differ between runs of the same subject.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The memory limit.
    pub limit: Option<Bytes>,
    /// Whether a process gets a cgroup.
    pub cgroup: UseCgroup,
    /// The CPUs; all that highwater may use if absent.
    pub cpus: Option<RunCpus>,
    /// The CPU time that a container may use, instead of that of its resources.
    pub cpu_limit: Option<Cpus>,
    /// Where a process starts, unless its task says so; the current directory if absent.
    pub directory: Option<PathBuf>,
    /// Variables that extend or override those of the task.
    pub env: Vec<(String, String)>,
    /// The standard input of a process.
    pub stdin: Stdin,
    /// The destination of stdout.
    pub stdout: Output,
    /// The destination of stderr.
    pub stderr: Output,
    /// Where a container's output is kept as well.
    pub logs: Option<Logs>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            limit: None,
            cgroup: UseCgroup::Auto,
            cpus: None,
            cpu_limit: None,
            directory: None,
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
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn output_to(&mut self, folder: &Path, stem: &str) -> Result<(), Failure> {
        make_folder(folder)?;
        self.stdout = Output::File(folder.join(format!("{stem}stdout.log")));
        self.stderr = Output::File(folder.join(format!("{stem}stderr.log")));
        Ok(())
    }
}

/// The subject and its runner: prepared once, started as often as needed.
pub enum Workload {
    /// A process on this machine.
    Process(Box<ProcessWorkload>),
    /// A container.
    Container(Box<ContainerWorkload>),
    /// A task that gets a copy of its input for each run.
    Private(Box<PrivateTask>),
}

impl Workload {
    /// Reads the task, prints warnings, and predicts; finds the engine and the image.
    ///
    /// # Errors
    /// If something that it names is missing or invalid.
    pub fn open(spec: &Spec, feedback: &dyn Feedback) -> Result<Self, Failure> {
        if !matches!(spec.what, Runnable::Task { .. }) {
            spec.require_known_input()?;
        }
        let mut start = match ContainerWorkload::open(spec, feedback)? {
            Some(container) => Self::Container(Box::new(container)),
            None => Self::Process(Box::new(ProcessWorkload::open(spec, feedback)?)),
        };
        match &mut start {
            Self::Process(what) => what.subject.command = spec.recorded(&what.subject.command)?,
            Self::Container(container) => container.subject.command = spec.recorded(&container.subject.command)?,
            Self::Private(_) => {}
        }
        if spec.input_access != InputAccess::Private {
            return Ok(start);
        }
        PrivateTask::new(start).map(|task| Self::Private(Box::new(task)))
    }

    /// The facts about the subject for a record.
    pub fn about(&self) -> RunContext {
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
    pub fn require_inputs(&self) -> Result<(), Failure> {
        match self {
            Self::Process(what) => what.require_inputs(),
            Self::Container(_) => Ok(()),
            Self::Private(task) => task.on_originals().require_inputs(),
        }
    }

    /// What a record says about it.
    pub fn subject(&self) -> &Subject {
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
    pub fn is_container(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Container(_) => true,
            Self::Private(task) => task.on_originals().is_container(),
        }
    }

    /// Whether it runs as a pod of a cluster.
    fn is_pod(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Container(container) => container.is_pod(),
            Self::Private(task) => task.on_originals().is_pod(),
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
    pub fn check_inputs(&self, observation: &mut Observation) -> Option<Failure> {
        inputs::note_changes(observation, &self.guard()?.originals().changes(&[]))
    }

    /// Prepares the page cache for the next run, and says what was done.
    ///
    /// # Errors
    /// If an input cannot be read, or nothing could be dropped.
    pub fn prepare_cache(&self, state: CacheState) -> Result<Option<Cache>, Failure> {
        if state == CacheState::Cold && matches!(self, Self::Private(_)) {
            let help = "remove one of the two options, or use `highwater sweep`, which drops the cache after copying";
            return Err(Failure::usage("a private copy of the input is in the page cache once it is made", help));
        }
        let inputs = self.guard().map_or(&[][..], |guard| guard.originals().roots());
        let done = state.prepare(inputs.iter().map(PathBuf::as_path))?;
        if inputs.is_empty() && matches!(done, Some(Cache::Cold { dropped: Dropped::Inputs })) {
            let error =
                "failed to drop the page cache: it takes root, and the files that the command reads are unknown";
            let help = "run highwater as root, or describe the command and its input in a task.json".to_owned();
            return Err(Failure::new(Category::Host, error, Some(help)));
        }
        Ok(done)
    }

    /// The Docker limit that its rules predict.
    pub fn predicted_limit(&self) -> Option<Bytes> {
        self.prediction()?.docker.limit.as_ref().map(|limit| limit.bytes)
    }

    /// Runs it once with these options; the inner error says why there is no observation.
    ///
    /// # Errors
    /// The input cannot be copied.
    pub fn measure(
        &self,
        machine: &Machine,
        (options, watch): (&RunOptions, &WatchOptions),
        context: RunContext,
        cancel: Option<&mut dyn Cancel>,
        observer: &mut dyn Observer,
    ) -> Result<Result<Observation, MeasureError>, Failure> {
        let mut runner = self.runner(machine, options, watch)?;
        let context = RunContext { conditions: self.conditions(machine, options), ..context };
        // The probe in a pod keeps its time, which starts when the task does.
        let watch = &if self.is_pod() { WatchOptions { timeout: None, ..*watch } } else { *watch };
        // What holds highwater back holds a process back as well.
        let throttling = || cpus::throttling(&machine.roots).filter(|_| !self.is_container());
        let before = throttling();
        let mut measured = measure(&mut *runner, context, machine.facts.clone(), watch, cancel, observer);
        if let Ok(observation) = &mut measured {
            self.note_runtime_limits(options, observation);
            let above = throttling().zip(before).map(|(after, before)| after.since(before));
            if let Some(conditions) = &mut observation.conditions {
                let own = conditions.throttling.value();
                conditions.throttling = own.into_iter().chain(above).reduce(Throttling::plus).into();
            }
        }
        Ok(measured)
    }

    /// The CPUs that it gets, and what else its time depends on, as far as it runs on this machine.
    fn conditions(&self, machine: &Machine, options: &RunOptions) -> Option<Conditions> {
        if !self.is_on_this_machine() {
            return None;
        }
        let given = options.cpus.as_ref();
        let allowed = CpuList::allowed();
        // Which CPUs an engine gives a container, it does not tell.
        let list = given.map(|given| &given.list).or(allowed.as_ref().filter(|_| !self.is_container()));
        Some(Conditions {
            cpus: list.map(ToString::to_string),
            pinned: given.is_some_and(|given| given.pinned),
            numa_node: given.and_then(|given| given.numa_node),
            governor: list.or(allowed.as_ref()).and_then(|list| cpus::governor(&machine.roots, list)),
            load: cpus::load(&machine.roots),
            ..Conditions::UNKNOWN
        })
    }

    /// A runner for it with these options.
    fn runner(
        &self,
        machine: &Machine,
        conditions: &RunOptions,
        watch: &WatchOptions,
    ) -> Result<Box<dyn Runner>, Failure> {
        Ok(match self {
            Self::Process(what) => {
                let runner = ProcessRunner::new(machine, what.launch(conditions));
                Box::new(match conditions.cgroup {
                    UseCgroup::Auto => runner,
                    UseCgroup::Never => runner.without_cgroup(),
                    UseCgroup::Always => runner.only_in_cgroup(),
                })
            }
            Self::Container(container) => container.runner(machine, (conditions, watch)),
            Self::Private(task) => task.runner(machine, conditions, watch)?,
        })
    }
}
#[cfg(not(feature = "containers"))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_containers_refuses_an_image_and_names_the_feature() {
        let spec = Spec::new(Runnable::Image("alpine".to_owned()), Vec::new());
        let failure = Workload::open(&spec, &()).err().unwrap();
        assert_eq!(failure.category, Category::Host);
        assert!(failure.to_string().contains("built without the feature `containers`"), "{failure}");
        assert!(failure.help.unwrap().starts_with("build it with the feature `containers`"));
    }
}
