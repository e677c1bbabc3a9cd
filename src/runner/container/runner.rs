//! Starts containers on an engine.

mod container_cgroup;
mod enclosing_cgroup;
mod idle_peak;
mod leftovers;
pub(in crate::runner) mod logs;
mod oom;
pub(in crate::runner) mod owner;
mod request;
mod requirements;
mod run;

use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, RemoveContainerOptionsBuilder};

use self::enclosing_cgroup::EnclosingCgroup;
pub(super) use self::leftovers::remove_containers;
pub(in crate::runner) use self::owner::Claim;
use self::run::ContainerRun;
use super::{Bind, ContainerError, ContainerLaunch, LEAST_LIMIT, UseProbe};
use crate::host::machine::{self, Machine};
use crate::model::observation::{Container, Host};
use crate::model::problem::one_line;
use crate::model::units::Bytes;
use crate::runner::engine::client::CallError;
use crate::runner::engine::{Engine, EngineError, Image};
use crate::runner::patience::Patience;
use crate::runner::{Runner, Running, StartError, probe};

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
        requirements::require_swap_above(self.launch.limit, &self.launch.resources)?;
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
            options: self.launch.resources.options(),
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
        // Docker, for its older and newer ways to provide GPUs.
        let no_gpus = ["could not select device driver", "failed to discover GPU vendor", "unresolvable CDI devices"];
        if no_gpus.iter().any(|words| text.contains(words)) {
            let reason = one_line(&EngineError::request(action, error));
            let is_of_gpus = |option: &String| option.starts_with("--gpus") || option.starts_with("--device");
            let option = self.launch.resources.options().into_iter().find(is_of_gpus).unwrap_or_default();
            let option = option.replacen('=', " ", 1);
            return ContainerError::NoGpus { option, reason, remedy: requirements::NO_GPUS }.into();
        }
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
pub(in crate::runner) async fn remove(docker: &Docker, id: &str) -> Result<(), bollard::errors::Error> {
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

impl ContainerLaunch {
    /// The command line as Docker assembles it: the entrypoint and its arguments.
    fn words(&self, image: &Image) -> Vec<String> {
        let (entrypoint, own_command) = match &self.entrypoint {
            Some(entrypoint) => (entrypoint, &Vec::new()),
            None => (&image.entrypoint, &image.command),
        };
        entrypoint.iter().chain(self.command.as_ref().unwrap_or(own_command)).cloned().collect()
    }
}
