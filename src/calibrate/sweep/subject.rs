//! The subject of a sweep: a task, a bare command or an image, of which every run is a variant.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::calibrate::predict::predict_listed;
use crate::calibrate::resolve::Resolution;
use crate::calibrate::sweep::InputDirectories;
use crate::model::observation::RunnerKind;
use crate::model::plan::{CPUS, Parameter, PlanTask};
use crate::model::prediction::Prediction;
use crate::model::spelling::{nearest, quote};
use crate::model::task::{ChannelKind, EnvType, Task, TemplateEnv};
use crate::runner::StartError;
use crate::runner::container::{Bind, runs_as, user_on_host};
use crate::runner::engine::Engine;
use crate::runner::pod::Cluster;
use crate::runner::staging::Staged;
use crate::tree::Listing;
use nix::unistd::{Uid, geteuid};

use super::placeholders::{self, Placeholders};
use crate::calibrate::failure::{Category, Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::workload::container::ContainerWorkload;
use crate::calibrate::workload::inputs::{self, INPUT, Mounting};
use crate::calibrate::workload::pod::Backend;
use crate::calibrate::workload::process::{ProcessWorkload, require_inputs};
use crate::calibrate::workload::{Runnable, Spec, Workload};

/// The subject of a sweep.
pub(super) struct Subject<'a> {
    spec: &'a Spec,
    kind: Kind,
    container: Option<Backend>,
    /// The command to record, with its placeholders.
    recorded: Vec<String>,
    writer: OnceLock<Writer>,
}

/// The user who writes to the output directories of a run.
#[derive(Clone, Copy, Debug)]
enum Writer {
    /// The current user, or root, who needs no permission.
    Us,
    /// Another user, to whom a directory can be given.
    User(Uid),
    /// Unknown users, or users to whom nothing can be given.
    Anyone,
}

enum Kind {
    Task { task: Box<Task>, variables: Vec<TemplateEnv> },
    Command,
}

/// A channel of a run and its staged input.
pub(super) type StagedInputs<'a> = BTreeMap<&'a str, &'a Staged>;

impl<'a> Subject<'a> {
    /// Reads the task, prints warnings, and finds the engine and the image.
    pub(super) fn open(spec: &'a Spec, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let task = match &spec.what {
            Runnable::Task { path, .. } => Some(spec.task.read(path)?),
            Runnable::Command | Runnable::Image(_) => None,
        };
        let is_container = spec.is_container()?;
        let Some(task) = task else {
            let is_empty = spec.command.first().is_none_or(|program| program.is_empty());
            if is_empty && spec.image().is_none() {
                return Err(Failure::new(Category::Usage, StartError::NoCommand, None));
            }
            let container = spec.image().map(|name| Backend::of_image(spec, name, feedback)).transpose()?;
            let words: Vec<String> = spec.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let recorded = spec.recorded(&words)?;
            return Ok(Self { spec, kind: Kind::Command, container, recorded, writer: OnceLock::new() });
        };
        let engine = if is_container { Backend::engine_for(spec)? } else { None };
        let images = engine.as_ref().map(|engine| (engine, &spec.engine));
        let resolution = spec.task.put_together(task, images, feedback)?;
        resolution.warnings().iter().for_each(|flawed| feedback.warn(flawed));
        let Resolution { task, variables, .. } = resolution;
        let backend = is_container.then(|| Backend::of_task(spec, engine, &task, feedback));
        let container = backend.transpose()?;
        let recorded = spec.recorded(task.command.as_deref().unwrap_or_default())?;
        let kind = Kind::Task { task: Box::new(task), variables };
        Ok(Self { spec, kind, container, recorded, writer: OnceLock::new() })
    }

    /// The task in the plan.
    pub(super) fn planned(&self) -> PlanTask {
        let image = self.container.as_ref().and_then(Backend::image_id).map(str::to_owned);
        let runner = match &self.container {
            Some(Backend::Engine(_)) => RunnerKind::Container,
            Some(Backend::Cluster(_)) => RunnerKind::Pod,
            None => RunnerKind::Process,
        };
        match &self.kind {
            Kind::Task { task, .. } => PlanTask {
                name: task.name.clone(),
                digest: task.digest(),
                runner,
                image: task.image.clone().filter(|_| self.container.is_some()),
                image_id: image,
            },
            Kind::Command => {
                let mut task = Task::bare(self.recorded.clone());
                task.image = self.spec.image().map(str::to_owned);
                task.env.clone_from(&self.spec.container.env);
                let program = Path::new(&task.name).file_name().map(|name| name.to_string_lossy().into_owned());
                let name = task.image.clone().or(program).unwrap_or_else(|| task.name.clone());
                PlanTask { name, digest: task.digest(), runner, image: task.image.clone(), image_id: image }
            }
        }
    }

    /// The options for the resources of its containers in an engine.
    pub(super) fn options(&self) -> Result<Vec<String>, Failure> {
        let resources = match (&self.kind, self.engine()) {
            (Kind::Task { task, .. }, Some(_)) => self.spec.container.resources_of(task)?,
            (Kind::Command, Some(_)) => self.spec.container.resources.clone(),
            (_, None) => return Ok(Vec::new()),
        };
        Ok(resources.options())
    }

    /// The engine, if the subject runs in containers of one.
    pub(super) fn engine(&self) -> Option<&Engine> {
        self.container.as_ref().and_then(Backend::engine)
    }

    /// The cluster, if the subject runs in pods.
    pub(super) fn cluster(&self) -> Option<&Cluster> {
        match &self.container {
            Some(Backend::Cluster(cluster)) => Some(cluster),
            Some(Backend::Engine(_)) | None => None,
        }
    }

    /// Whether the subject is a process of this machine.
    pub(super) fn is_process(&self) -> bool {
        self.container.is_none()
    }

    /// The directories of each input channel: the given ones, else those of the task.
    pub(super) fn given(&self, inputs: &[String], sized: bool) -> Result<Vec<InputDirectories>, Failure> {
        match &self.kind {
            Kind::Task { task, .. } if sized => {
                let task = &task.name;
                let error = format!("--size needs a bare command: the inputs of the task {task} are directories");
                Err(Failure::usage(error, "use --items or --grow"))
            }
            Kind::Task { task, .. } => given_to_task(task, inputs),
            Kind::Command => {
                let asked = !inputs.is_empty() || sized;
                let mounted = self.spec.container.mounts_place();
                let used = placeholders::has(&self.spec.command, INPUT) || mounted;
                match (asked, used) {
                    (true, false) => Err(Failure::usage(
                        no_placeholder(INPUT),
                        "write {input} in place of the input, as in -- ./segment {input}",
                    )),
                    (false, true) => {
                        let error = "the command contains the placeholder {input}, but the sweep has no inputs";
                        Err(Failure::usage(error, "give directories with --input, or sizes with --size"))
                    }
                    (true, true) if !inputs.is_empty() => {
                        let folders = inputs.iter().map(PathBuf::from).collect();
                        Ok(vec![InputDirectories { channel: INPUT.to_owned(), directories: folders }])
                    }
                    _ => Ok(Vec::new()),
                }
            }
        }
    }

    /// Checks that every parameter has its placeholder, and accepts every value.
    pub(super) fn check(&self, parameters: &[Parameter]) -> Result<(), Failure> {
        for parameter in parameters {
            match &self.kind {
                Kind::Task { task, variables } => check_variable(parameter, task, variables)?,
                Kind::Command => {
                    let name = &parameter.name;
                    if ["input", "output"].contains(&name.as_str()) {
                        let help = "rename the parameter";
                        return Err(Failure::usage(format!("a parameter cannot be named {name}"), help));
                    }
                    // For an image, a parameter without a placeholder becomes a variable.
                    if self.spec.image().is_none() && !placeholders::has(&self.spec.command, name) {
                        let help = format!(
                            "write {{{name}}} in place of its value; to set an environment variable, use \
                             -- env {name}={{{name}}} COMMAND"
                        );
                        return Err(Failure::usage(no_placeholder(name), &help));
                    }
                }
            }
        }
        Ok(())
    }

    /// Checks that a task that runs as a process can access its inputs.
    pub(super) fn require_inputs(&self) -> Result<(), Failure> {
        match &self.kind {
            Kind::Task { task, .. } if self.container.is_none() => require_inputs(task),
            Kind::Task { .. } | Kind::Command => Ok(()),
        }
    }

    /// The prediction for these inputs; `None` for a bare command.
    pub(super) fn predict(&self, listings: &BTreeMap<&str, &Listing>) -> Result<Option<Prediction>, Failure> {
        let Kind::Task { task, .. } = &self.kind else { return Ok(None) };
        let listing = |channel: &crate::model::task::Channel| listings.get(channel.name.as_str()).copied();
        predict_listed(task, &listing).map(Some).map_err(Failure::host)
    }

    /// The parameters that the task sees: that of `--cpus` only if the command has a placeholder for it.
    pub(super) fn visible<'p>(
        &self,
        parameters: &'p BTreeMap<String, String>,
        is_of_cpus: bool,
    ) -> Cow<'p, BTreeMap<String, String>> {
        if !is_of_cpus || self.names(CPUS) {
            return Cow::Borrowed(parameters);
        }
        let others = parameters.iter().filter(|(name, _)| *name != CPUS);
        Cow::Owned(others.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The variant for one run, whose outputs go below a directory.
    pub(super) fn start(
        &self,
        inputs: &StagedInputs<'_>,
        parameters: &BTreeMap<String, String>,
        output: &Path,
        (prediction, mounting): (Option<Prediction>, Mounting<'_>),
    ) -> Result<Workload, Failure> {
        match (&self.kind, prediction) {
            (Kind::Task { task, .. }, Some(prediction)) => {
                self.start_task(task, inputs, parameters, output, (prediction, mounting))
            }
            _ => self.start_command(inputs, parameters, output, mounting),
        }
    }

    /// Whether overlays can show its inputs.
    pub(super) fn can_be_overlaid(&self) -> bool {
        match &self.kind {
            Kind::Task { task, .. } => inputs::can_be_overlaid(task),
            Kind::Command => true,
        }
    }

    fn start_task(
        &self,
        task: &Task,
        inputs: &StagedInputs<'_>,
        parameters: &BTreeMap<String, String>,
        output: &Path,
        (mut prediction, mounting): (Prediction, Mounting<'_>),
    ) -> Result<Workload, Failure> {
        let mut task = task.clone();
        for channel in &mut task.channels {
            match channel.kind {
                ChannelKind::Input => {
                    if let Some(staged) = inputs.get(channel.name.as_str()) {
                        channel.host_path = Some(staged.input().to_owned());
                    }
                }
                ChannelKind::Output => {
                    let directory = output.join(&channel.name);
                    make_directory(&directory).and_then(|()| self.give(&directory)).map_err(unmade(&directory))?;
                    channel.host_path = Some(directory);
                }
            }
        }
        for (name, value) in parameters {
            task.env.retain(|(known, _)| known != name);
            task.env.push((name.clone(), value.clone()));
        }
        for channel in &mut prediction.channels {
            // Forget where the input was staged; the plan knows where its data come from.
            if inputs.get(channel.name.as_str()).is_some_and(|staged| staged.is_made()) {
                channel.host_path = None;
            }
        }
        let Some(backend) = &self.container else {
            self.spec.container.set_env(&mut task.env);
            let what = ProcessWorkload::of_task(&task, prediction, mounting)?.0;
            let start = Workload::Process(Box::new(what));
            start.require_inputs()?;
            return Ok(start);
        };
        let mut container = ContainerWorkload::of_task(self.spec, backend.clone(), &task, prediction)?;
        container.protect(mounting)?;
        Ok(Workload::Container(Box::new(container)))
    }

    /// Creates the output directory of a run, below a directory of its own. Only the user of the run can write to it.
    pub(super) fn make_output(&self, scratch: &Path) -> Result<PathBuf, Failure> {
        let is_shared = matches!(self.writer(), Writer::Anyone);
        let output = if is_shared { scratch.join("output") } else { scratch.to_owned() };
        let closed = || {
            // Everyone may write below it, but only the engine can reach it.
            set_mode(scratch, 0o700)?;
            if let Some(engine) = self.engine().filter(|_| geteuid().is_root()) {
                lchown(scratch, runs_as(engine).map(Uid::as_raw), None)?;
            }
            make_directory(&output)
        };
        let made = if is_shared { closed() } else { Ok(()) };
        let given = made.and_then(|()| match self.kind {
            Kind::Command => self.give(&output),
            // A container sees only its channels.
            Kind::Task { .. } => Ok(()),
        });
        given.map_err(unmade(&output))?;
        Ok(output)
    }

    /// Takes ownership of the outputs of a run, to keep them.
    pub(super) fn take_back(&self, output: &Path) -> Result<(), Failure> {
        let channels = match &self.kind {
            Kind::Task { task, .. } => task.outputs().map(|channel| output.join(&channel.name)).collect(),
            Kind::Command => vec![output.to_owned()],
        };
        for directory in channels.iter().filter(|directory| directory.exists()) {
            let taken = match self.writer() {
                Writer::Us => Ok(()),
                Writer::User(_) => lchown(directory, Some(geteuid().as_raw()), None),
                Writer::Anyone => set_mode(directory, 0o755),
            };
            taken.map_err(unmade(directory))?;
        }
        Ok(())
    }

    /// Lets the user of the run write to a directory.
    fn give(&self, directory: &Path) -> std::io::Result<()> {
        match self.writer() {
            Writer::Us => Ok(()),
            Writer::User(user) => lchown(directory, Some(user.as_raw()), None),
            Writer::Anyone => set_mode(directory, 0o777),
        }
    }

    fn writer(&self) -> Writer {
        *self.writer.get_or_init(|| {
            let Some(backend) = &self.container else { return Writer::Us };
            let (name, asked) = match &self.kind {
                Kind::Task { task, .. } => (task.image.as_deref(), task.config.text("user")),
                Kind::Command => (self.spec.image(), None),
            };
            let user = self.spec.container.user.as_deref().or(asked);
            let user = match backend {
                Backend::Engine(with_image) => {
                    let (engine, image) = &**with_image;
                    user_on_host(engine, name.unwrap_or_default(), user.or(image.user.as_deref()))
                }
                // The user of the image is unknown here; a pod takes numbers alone.
                Backend::Cluster(_) => user.and_then(|user| user.split(':').next()?.parse().ok()).map(Uid::from_raw),
            };
            match user {
                Some(user) if user.is_root() || user == geteuid() => Writer::Us,
                Some(user) if geteuid().is_root() => Writer::User(user),
                Some(_) | None => Writer::Anyone,
            }
        })
    }

    /// The subject to record, with placeholders, so that it is the same for all runs of a sweep.
    pub(super) fn recorded(&self) -> crate::model::observation::Subject {
        let name = match &self.kind {
            Kind::Task { task, .. } => Some(task.name.clone()),
            Kind::Command => None,
        };
        crate::model::observation::Subject { name, command: self.recorded.clone() }
    }

    /// The directories to which a run writes its outputs, below a directory of its own; none if it has no outputs.
    pub(super) fn outputs(&self, output: &Path) -> Vec<PathBuf> {
        match &self.kind {
            Kind::Task { task, .. } => task.outputs().map(|channel| output.join(&channel.name)).collect(),
            Kind::Command if self.names("output") => vec![output.to_owned()],
            Kind::Command => Vec::new(),
        }
    }

    /// Whether the command or a variable has this placeholder.
    fn names(&self, placeholder: &str) -> bool {
        let values = self.spec.container.env.iter().map(|(_, value)| OsString::from(value));
        placeholders::has(&self.spec.command, placeholder)
            || placeholders::has(&values.collect::<Vec<_>>(), placeholder)
    }

    fn start_command(
        &self,
        inputs: &StagedInputs<'_>,
        parameters: &BTreeMap<String, String>,
        output: &Path,
        mounting: Mounting<'_>,
    ) -> Result<Workload, Failure> {
        let input = inputs.values().next().map(|staged| staged.input());
        let words = |places: &Placeholders<'_>| -> Vec<OsString> {
            self.spec.command.iter().map(|word| places.fill(word)).collect()
        };
        let fill =
            |places: &Placeholders<'_>, value: &str| places.fill(OsStr::new(value)).to_string_lossy().into_owned();
        let (Some(backend), Some(name)) = (&self.container, self.spec.image()) else {
            let places = Placeholders { input, output, parameters };
            let env = self.spec.container.env.iter().map(|(name, value)| (name.clone(), fill(&places, value)));
            let what = ProcessWorkload::of_command(words(&places), env.collect()).with_input(mounting)?;
            return Ok(Workload::Process(Box::new(what)));
        };
        // The container finds both where an option mounts them, else at their own paths.
        let target = |place: &str| {
            let mut binds = self.spec.container.mount.iter();
            let bind = binds.find(|bind| bind.source.file_name() == Some(OsStr::new(place)));
            bind.map(|bind| PathBuf::from(&bind.target))
        };
        let (input_target, output_target) = (target("{input}"), target("{output}"));
        let places = Placeholders {
            input: input.map(|input| input_target.as_deref().unwrap_or(input)),
            output: output_target.as_deref().unwrap_or(output),
            parameters,
        };
        let filled = words(&places).into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let mut container = ContainerWorkload::of_image(self.spec, backend.clone(), name, filled);
        let launch = container.launch_mut();
        for (_, value) in &mut launch.env {
            *value = fill(&places, value);
        }
        for (name, value) in parameters.iter().filter(|(name, _)| !placeholders::has(&self.spec.command, name)) {
            if !launch.env.iter().any(|(known, _)| known == name) {
                launch.env.push((name.clone(), value.clone()));
            }
        }
        for bind in &mut launch.mounts {
            match (bind.source.file_name().and_then(OsStr::to_str), input) {
                (Some("{input}"), Some(input)) => input.clone_into(&mut bind.source),
                (Some("{output}"), _) => output.clone_into(&mut bind.source),
                _ => {}
            }
        }
        let mut mount = |path: &Path, read_only| {
            let target = path.to_string_lossy().into_owned();
            launch.mounts.push(Bind { source: path.to_owned(), target, read_only });
        };
        if let (Some(input), None, true) = (input, input_target, self.names(INPUT)) {
            mount(input, true);
        }
        if output_target.is_none() && self.names("output") {
            mount(output, false);
        }
        container.protect(mounting)?;
        Ok(Workload::Container(Box::new(container)))
    }
}

/// Creates a directory below one of highwater's own, regardless of the umask.
fn make_directory(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

fn no_placeholder(name: &str) -> String {
    format!("the command has no placeholder {{{name}}}")
}

fn unmade(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let doing = format!("create {} for the outputs of the task", path.display());
    move |source| Failure::host(Failed::to(doing, source))
}

fn given_to_task(task: &Task, inputs: &[String]) -> Result<Vec<InputDirectories>, Failure> {
    let names: Vec<&str> = task.inputs().map(|channel| channel.name.as_str()).collect();
    let mut given: Vec<InputDirectories> = Vec::new();
    for text in inputs {
        let named = text.split_once('=').filter(|(name, _)| !name.contains('/'));
        let (channel, folder) = match (named, given.last()) {
            (Some((name, folder)), _) if names.contains(&name) => (name.to_owned(), folder),
            (Some((name, _)), _) => {
                let error = format!("the task {} has no input channel {}", task.name, quote(name));
                return Err(Failure::usage(error, expected(name, &names)));
            }
            // A directory without a channel name continues the previous channel.
            (None, Some(last)) => (last.channel.clone(), text.as_str()),
            (None, None) => {
                let error = format!("the input {text} does not name a channel");
                let first = names.first().copied().unwrap_or("CHANNEL");
                return Err(Failure::usage(error, format!("write --input {first}={text}")));
            }
        };
        match given.iter_mut().find(|given| given.channel == channel) {
            Some(known) => known.directories.push(PathBuf::from(folder)),
            None => given.push(InputDirectories { channel, directories: vec![PathBuf::from(folder)] }),
        }
    }
    for channel in task.inputs() {
        if given.iter().any(|given| given.channel == channel.name) {
            continue;
        }
        match &channel.host_path {
            Some(path) => {
                given.push(InputDirectories { channel: channel.name.clone(), directories: vec![path.clone()] })
            }
            None => {
                let error = format!("the channel {} has no directory on this machine", channel.name);
                return Err(Failure::usage(error, format!("set it with --input {}=DIR", channel.name)));
            }
        }
    }
    given.sort_by_key(|given| names.iter().position(|name| *name == given.channel));
    Ok(given)
}

fn check_variable(parameter: &Parameter, task: &Task, variables: &[TemplateEnv]) -> Result<(), Failure> {
    let Parameter { name, values } = parameter;
    let Some(variable) = variables.iter().find(|variable| variable.name.value == *name) else {
        // Other variables of the task's container can be set, too.
        if task.env.iter().any(|(known, _)| known == name) {
            return Ok(());
        }
        let known: Vec<&str> = task.env.iter().map(|(name, _)| name.as_str()).collect();
        let template = task.template.clone().unwrap_or_default();
        let error = format!("the template {} has no variable {}", quote(&template), quote(name));
        return Err(Failure::usage(error, expected(name, &known)));
    };
    for value in values {
        if let Some(choices) = variable.choices.as_ref().filter(|choices| !choices.contains(value)) {
            let error = format!("{} is not one of the choices of the variable {name}", quote(value));
            let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
            return Err(Failure::usage(error, expected(value, &choices)));
        }
        if let Some(kind) = variable.kind.filter(|kind: &EnvType| !kind.accepts(value)) {
            let error = format!("{} is not a valid value for the variable {name}", quote(value));
            return Err(Failure::usage(error, format!("expected {}", kind.expectation())));
        }
    }
    Ok(())
}

fn expected(name: &str, known: &[&str]) -> String {
    match (nearest(name, known.iter().copied()), known) {
        (_, []) => "there are none".to_owned(),
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, known) => {
            let known: Vec<String> = known.iter().map(|name| quote(name)).collect();
            format!("expected one of {}", known.join(", "))
        }
    }
}
