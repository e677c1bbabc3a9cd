//! Runs an image as a container of a Docker-compatible engine, and removes every trace of it.
//!
//! There are three ways to read the peak, tried in this order:
//! 1. a new cgroup of our own in which the engine creates the container, read after the end: exact;
//! 2. a probe in the container, which reads the container's own counter after the task: exact, without privileges on
//!    the host, also for a remote engine;
//! 3. the container's own cgroup, read when its first process ends: a lower bound, because the engine removes the
//!    cgroup at the same time.

mod container_cgroup;
mod enclosing_cgroup;
mod idle_peak;
mod leftovers;
mod logs;
mod oom;
mod owner;
mod request;
mod run;
mod user;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, RemoveContainerOptionsBuilder};

use self::enclosing_cgroup::EnclosingCgroup;
pub use self::leftovers::{Leftovers, Removed, remove_leftovers};
pub(super) use self::owner::Claim;
use self::run::ContainerRun;
pub use self::user::{runs_as, user_on_host};
use super::engine::{CallError, Engine, EngineError, Image};
use super::originals::Originals;
use super::patience::Patience;
use super::probe;
use super::process::Output;
use super::{Runner, Running, StartError};
use crate::host::machine::{self, Machine};
use crate::host::mounts::{MountPoint, Mounts};
use crate::model::observation::{Container, Host, Logs};
use crate::model::units::Bytes;

/// The lowest limit that Docker accepts.
pub const LEAST_LIMIT: Bytes = Bytes(6 << 20);

/// What to run in a container, and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerLaunch {
    /// The image, which the engine already has.
    pub image: String,
    /// Replaces the image's command, but not its entrypoint.
    pub command: Option<Vec<String>>,
    /// Replaces the image's entrypoint and command.
    pub entrypoint: Option<Vec<String>>,
    /// Variables in addition to those of the image.
    pub env: Vec<(String, String)>,
    /// The working directory; that of the image if absent.
    pub working_directory: Option<String>,
    /// Files and directories of the engine's machine.
    pub mounts: Vec<Bind>,
    /// Labels of the container.
    pub labels: BTreeMap<String, String>,
    /// The user, as a name or id with an optional `:` and group; that of the image if absent.
    pub user: Option<String>,
    /// The network; the engine's default if absent.
    pub network: Option<String>,
    /// The name of the container; a unique one if absent.
    pub name: Option<String>,
    /// The memory limit, with no swap beyond it.
    pub limit: Option<Bytes>,
    /// Where stdout goes.
    pub stdout: Output,
    /// Where stderr goes.
    pub stderr: Output,
    /// Where both are stored as well.
    pub logs: Option<Logs>,
}

impl ContainerLaunch {
    /// The image with its defaults, and our own stdout and stderr.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            command: None,
            entrypoint: None,
            env: Vec::new(),
            working_directory: None,
            mounts: Vec::new(),
            labels: BTreeMap::new(),
            user: None,
            network: None,
            name: None,
            limit: None,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            logs: None,
        }
    }

    /// Makes these data read-only in the container, in every mount that shows them. Mounts below them become read-only
    /// mounts as well, because not every engine includes them in a read-only mount.
    ///
    /// # Errors
    /// If the mounts of this process cannot be read.
    pub fn protect(&mut self, originals: &Originals) -> io::Result<()> {
        let mounts = Mounts::read()?;
        let names = originals.names()?;
        let mut binds = std::mem::take(&mut self.mounts);
        while let Some(mut bind) = binds.pop() {
            if let Ok(source) = bind.source.canonicalize() {
                bind.read_only |= originals.holds(&source) || names.contains(&source);
                let below = mounts.below(&source).map(MountPoint::target).filter(|_| bind.read_only);
                let shown = names.iter().filter(|name| !bind.read_only && name.as_path() != source);
                for path in below.chain(shown.map(PathBuf::as_path)) {
                    let Ok(inside) = path.strip_prefix(&source) else { continue };
                    let Some(target) = Path::new(&bind.target).join(inside).to_str().map(str::to_owned) else {
                        continue;
                    };
                    if !binds.iter().chain(&self.mounts).any(|known| known.target == target) {
                        binds.push(Bind { source: path.to_owned(), target, read_only: true });
                    }
                }
            }
            self.mounts.push(bind);
        }
        // In the order in which they were given.
        self.mounts.reverse();
        Ok(())
    }

    /// The command line as Docker assembles it: the entrypoint and its arguments.
    fn words(&self, image: &Image) -> Vec<String> {
        let (entrypoint, own_command) = match &self.entrypoint {
            Some(entrypoint) => (entrypoint, &Vec::new()),
            None => (&image.entrypoint, &image.command),
        };
        entrypoint.iter().chain(self.command.as_ref().unwrap_or(own_command)).cloned().collect()
    }
}

/// A file or directory of the engine's machine, mounted in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Its absolute path.
    pub source: PathBuf,
    /// Its path in the container.
    pub target: String,
    /// Whether it is read-only in the container; a missing directory that is writable is created.
    pub read_only: bool,
}

/// Whether a probe in the container reads the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UseProbe {
    /// If there is no exact way from outside.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never; if there is no exact way from outside, the peak is a lower bound.
    Never,
}

/// Why a container could not be created or started.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The engine failed or refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The source of a mount does not exist.
    #[error("failed to mount {source_path} at `{target}`: no such file or directory")]
    NoSource {
        /// The source.
        source_path: PathBuf,
        /// The path in the container.
        target: String,
    },
    /// The path is not valid UTF-8, which engines require.
    #[error("failed to mount {} at `{target}`: its path is not valid UTF-8, which container engines require", .source_path.display())]
    SourceNoText {
        /// The source.
        source_path: PathBuf,
        /// The path in the container.
        target: String,
    },
    /// A directory for output cannot be created or written to.
    #[error("failed to create the output directory {path}, to be mounted at `{target}`")]
    OutputFolder {
        /// The directory.
        path: PathBuf,
        /// The path in the container.
        target: String,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The limit is lower than the engine accepts.
    #[error("failed to limit the container to {limit}: engines require at least {LEAST_LIMIT}")]
    LimitTooLow {
        /// The limit.
        limit: Bytes,
    },
    /// The engine would silently ignore the limit.
    #[error("failed to limit the container to {limit}: the engine has no memory controller to enforce a limit")]
    LimitNotKept {
        /// The limit.
        limit: Bytes,
    },
    /// Another container has this name.
    #[error("failed to create a container with the name `{name}`: the name is in use")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The label is reserved for highwater.
    #[error("failed to label the container with `{label}`: labels that begin with `highwater.` are reserved")]
    LabelTaken {
        /// The label.
        label: String,
    },
    /// The image has neither an entrypoint nor a command.
    #[error("failed to start the image `{image}`: it has neither an entrypoint nor a command, and none was given")]
    NothingToRun {
        /// The image.
        image: String,
    },
    /// The program does not exist in the image.
    #[error("failed to start `{program}`: the image `{image}` has no such program")]
    NoProgram {
        /// As given.
        program: String,
        /// The image.
        image: String,
    },
    /// The program exists in the image but cannot be executed.
    #[error("failed to start `{program}`: it is not executable in the image `{image}`")]
    NotExecutable {
        /// As given.
        program: String,
        /// The image.
        image: String,
    },
    /// There is no probe for this machine.
    #[error("failed to measure with a probe: {reason}")]
    NoProbe {
        /// The reason.
        reason: String,
    },
}

impl ContainerError {
    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Engine(error) => return error.remedy(),
            Self::NoSource { .. } => "check the spelling; the path must exist on the engine's machine".to_owned(),
            Self::SourceNoText { .. } => "rename it, or mount its parent directory".to_owned(),
            Self::OutputFolder { .. } => {
                "choose another directory, make this one writable, or mount it read-only (`:ro`)".to_owned()
            }
            Self::LimitTooLow { .. } => {
                format!("choose {LEAST_LIMIT} or more; runc itself needs almost as much to start a container")
            }
            Self::LimitNotKept { .. } => {
                "use an engine that runs as root, or delegate the memory controller to its user \
                                          (systemd: Delegate=yes on cgroup v2)"
                    .to_owned()
            }
            Self::NameTaken { name } => {
                format!("choose another name, or remove that container with `docker rm {name}` if it is not needed")
            }
            Self::LabelTaken { .. } => "choose another name for the label".to_owned(),
            Self::NothingToRun { .. } => "give the command after `--`".to_owned(),
            Self::NoProgram { .. } => {
                "check the spelling; a command replaces the image's own command, but not its entrypoint (use \
                 --entrypoint for that)"
                    .to_owned()
            }
            Self::NotExecutable { .. } => {
                "make the program executable in the image (`RUN chmod +x`), or name its interpreter".to_owned()
            }
            Self::NoProbe { .. } => "measure from outside with --probe auto".to_owned(),
        })
    }
}

/// How the peak is read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PeakMethod {
    EnclosingCgroup,
    Probe,
    /// With the reasons against the exact ways, and their remedies.
    ContainerCgroup {
        reason: String,
        remedy: String,
    },
}

/// Runs an image as a container, any number of times.
#[derive(Debug)]
pub struct ContainerRunner {
    machine: Machine,
    engine: Engine,
    image: Image,
    launch: ContainerLaunch,
    probe: UseProbe,
    /// Whether to report the peak of an idle container, and that peak once it is known.
    wants_idle_peak: bool,
    idle_peak: Option<Bytes>,
    /// Whether to include the probe's program in the container even if the probe does not read the peak.
    needs_program: bool,
    /// Why the container cannot be placed in a cgroup of our own.
    enclosing_refused: Option<String>,
}

impl ContainerRunner {
    /// Creates a runner for this image, which the engine already has.
    pub fn new(machine: &Machine, engine: Engine, image: Image, launch: ContainerLaunch) -> Self {
        let enclosing_refused = enclosing_cgroup::obstacle(machine, &engine);
        let machine = machine.clone();
        Self {
            machine,
            engine,
            image,
            launch,
            probe: UseProbe::Auto,
            wants_idle_peak: false,
            idle_peak: None,
            needs_program: false,
            enclosing_refused,
        }
    }

    /// Sets whether a probe in the container reads the peak.
    #[must_use]
    pub fn probe(self, probe: UseProbe) -> Self {
        Self { probe, ..self }
    }

    /// Sets whether observations also report the peak of an idle container. It is measured before the first run, and
    /// cached for each engine, image and way to read the peak.
    #[must_use]
    pub fn idle_peak(self, wanted: bool) -> Self {
        Self { wants_idle_peak: wanted, ..self }
    }

    fn peak_method(&self) -> Result<PeakMethod, ContainerError> {
        match (self.probe, &self.enclosing_refused) {
            (UseProbe::Always, _) => match probe::program() {
                Ok(_) => Ok(PeakMethod::Probe),
                Err(reason) => Err(ContainerError::NoProbe { reason: reason.to_owned() }),
            },
            (UseProbe::Auto | UseProbe::Never, None) => Ok(PeakMethod::EnclosingCgroup),
            (UseProbe::Auto, Some(refused)) => Ok(match probe::program() {
                Ok(_) => PeakMethod::Probe,
                Err(reason) => PeakMethod::ContainerCgroup {
                    reason: format!("{refused}, and {reason}"),
                    remedy: "run as root".to_owned(),
                },
            }),
            (UseProbe::Never, Some(refused)) => Ok(PeakMethod::ContainerCgroup {
                reason: refused.clone(),
                remedy: "allow a probe with --probe auto".to_owned(),
            }),
        }
    }

    fn check(&self) -> Result<(), ContainerError> {
        if let Some(label) = self.launch.labels.keys().find(|label| label.starts_with("highwater.")) {
            return Err(ContainerError::LabelTaken { label: label.clone() });
        }
        match self.launch.limit {
            Some(limit) if !self.engine.facts.limits_memory => return Err(ContainerError::LimitNotKept { limit }),
            Some(limit) if limit < LEAST_LIMIT => return Err(ContainerError::LimitTooLow { limit }),
            Some(_) | None => {}
        }
        if self.launch.words(&self.image).is_empty() {
            return Err(ContainerError::NothingToRun { image: self.launch.image.clone() });
        }
        // Paths of another machine are left to its engine to check.
        if self.engine.facts.seems_local() { self.launch.mounts.iter().try_for_each(prepare) } else { Ok(()) }
    }

    fn container(&self) -> Container {
        let facts = &self.engine.facts;
        Container {
            image: self.launch.image.clone(),
            image_id: self.image.id.clone(),
            image_digests: self.image.digests.clone(),
            engine: crate::model::observation::Engine {
                name: facts.name.clone(),
                version: facts.version.clone(),
                cgroup_driver: facts.cgroup_driver.clone(),
                cgroup: facts.cgroup,
                kernel: facts.kernel.clone(),
            },
            idle_peak: self.idle_peak,
            unanswered: Vec::new(),
        }
    }
}

/// Creates missing bind-mount sources.
fn prepare(bind: &Bind) -> Result<(), ContainerError> {
    if bind.source.to_str().is_none() {
        return Err(ContainerError::SourceNoText { source_path: bind.source.clone(), target: bind.target.clone() });
    }
    if bind.read_only {
        return match bind.source.try_exists() {
            Ok(false) => {
                Err(ContainerError::NoSource { source_path: bind.source.clone(), target: bind.target.clone() })
            }
            // The engine may have access even if this user does not.
            Ok(true) | Err(_) => Ok(()),
        };
    }
    let failed =
        |source| ContainerError::OutputFolder { path: bind.source.clone(), target: bind.target.clone(), source };
    if !bind.source.exists() {
        std::fs::create_dir_all(&bind.source).map_err(failed)?;
    }
    nix::unistd::access(&bind.source, nix::unistd::AccessFlags::W_OK).map_err(|errno| failed(errno.into()))
}

impl Runner for ContainerRunner {
    fn start(&mut self, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        self.check()?;
        if self.wants_idle_peak && self.idle_peak.is_none() {
            self.idle_peak = self.measure_idle_peak(patience)?;
        }
        let mut peak_method = self.peak_method()?;
        let enclosing = match peak_method {
            PeakMethod::EnclosingCgroup => match EnclosingCgroup::prepare(&self.machine, &self.engine) {
                Ok(enclosing) => Some(enclosing),
                Err(reason) => {
                    self.enclosing_refused = Some(reason);
                    peak_method = self.peak_method()?;
                    None
                }
            },
            PeakMethod::Probe | PeakMethod::ContainerCgroup { .. } => None,
        };
        let mut run = ContainerRun::new(self, enclosing, peak_method)?;
        match run.begin(self, patience) {
            Ok(()) => {}
            Err(Stopped::GivenUp) => run.give_up(),
            Err(Stopped::Failed(error)) => {
                run.discard(patience);
                return Err(error);
            }
        }
        Ok(Box::new(run))
    }
}

/// Why a container was not started.
enum Stopped {
    /// Something failed.
    Failed(StartError),
    /// The engine does not answer, or highwater was asked to stop.
    GivenUp,
}

impl<E: Into<StartError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Sends a request on the way to a running container; `explain` turns a refusal into an error.
fn step<T>(
    engine: &Engine,
    patience: &mut Patience<'_>,
    (action, most): (&str, Duration),
    request: impl Future<Output = Result<T, bollard::errors::Error>>,
    explain: impl FnOnce(&bollard::errors::Error) -> StartError,
) -> Result<T, Stopped> {
    match engine.call(patience, action, most, request) {
        Ok(answer) => Ok(answer),
        Err(CallError::Refused(error)) => Err(Stopped::Failed(explain(&error))),
        Err(CallError::Unanswered) => Err(Stopped::GivenUp),
    }
}

impl ContainerRunner {
    /// The error for a container that the engine refuses to create.
    fn explain_create(&self, error: &bollard::errors::Error) -> StartError {
        let error = EngineError::request("create the container", error);
        match (&error, &self.launch.name) {
            // Docker reports it by the status, Podman in words.
            (EngineError::Request { status, reason, .. }, Some(name))
                if *status == Some(409) || reason.contains("is already in use") =>
            {
                ContainerError::NameTaken { name: name.clone() }.into()
            }
            (EngineError::Request { status: Some(404), reason, .. }, _) if reason.contains("image") => {
                EngineError::NoImage { image: self.launch.image.clone() }.into()
            }
            _ => error.into(),
        }
    }

    /// Engines report only in prose that a command does not exist: Docker when starting it, Podman when attaching to
    /// it.
    fn explain_start(&self, action: &str, error: &bollard::errors::Error) -> StartError {
        let text = error.to_string();
        let program = self.launch.words(&self.image).into_iter().next().unwrap_or_default();
        let missing =
            ["executable file not found", "no such file or directory: unknown", "a command that was not found"];
        // A program that the engine itself lacks is reported in the same words.
        let is_of_program = text.contains(&program);
        if is_of_program && missing.iter().any(|words| text.contains(words)) {
            return ContainerError::NoProgram { program, image: self.launch.image.clone() }.into();
        }
        if is_of_program && text.contains("exec:") && text.contains("permission denied") {
            return ContainerError::NotExecutable { program, image: self.launch.image.clone() }.into();
        }
        engine_error(action, error)
    }
}

fn engine_error(action: &str, error: &bollard::errors::Error) -> StartError {
    ContainerError::Engine(EngineError::request(action, error)).into()
}

/// Removes a container in any state, with its anonymous volumes.
pub(super) async fn remove(docker: &Docker, id: &str) -> Result<(), bollard::errors::Error> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    use bollard::errors::Error::DockerResponseServerError as Answer;
    let error = match docker.remove_container(id, Some(options)).await {
        Ok(()) | Err(Answer { status_code: 404, .. }) => return Ok(()),
        Err(error) => error,
    };
    if matches!(error, Answer { status_code: 409, .. }) {
        // Another client is already removing it.
        for _ in 0..LOOKS {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let inspected = docker.inspect_container(id, None::<InspectContainerOptions>).await;
            if matches!(inspected, Err(Answer { status_code: 404, .. })) {
                return Ok(());
            }
        }
    }
    Err(error)
}

/// How often, and at what interval, to check whether a container that another client removes is gone.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The error bound of an exact peak on the engine's machine.
fn error_bound(machine: &Machine, engine: &Engine) -> Bytes {
    let cpus = engine.facts.cpus.unwrap_or(machine.facts.cpus);
    machine::error_bound(&Host { cpus, ..machine.facts.clone() })
}
