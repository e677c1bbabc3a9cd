//! Runs an image as a container of a Docker-compatible engine, and removes every trace of it.
//!
//! There are three ways to read the peak, tried in this order:
//! 1. a new cgroup of our own in which the engine creates the container, read after the end: exact;
//! 2. a probe in the container, which reads the container's own counter after the task: exact, without privileges on
//!    the host, also for a remote engine;
//! 3. the container's own cgroup, read when its first process ends: a lower bound, because the engine removes the
//!    cgroup at the same time.

mod leftovers;
mod resources;
// Without the feature, the same names, and no engine to call.
#[cfg_attr(not(feature = "containers"), path = "container/absent.rs")]
pub(super) mod runner;
mod user;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use self::leftovers::{LeftoverError, Leftovers, Removed};
pub use self::resources::{ContainerResources, Cpus, Device, Gpus, MemorySwap, Tmpfs, Ulimit, size};
pub use self::runner::ContainerRunner;
pub(crate) use self::user::{runs_as, user_on_host};
use super::StartError;
use super::engine::{Engine, EngineError};
use super::originals::Originals;
use super::process::Output;
use crate::host::cpus::CpuList;
use crate::host::mounts::{MountPoint, Mounts};
use crate::model::observation::Logs;
use crate::model::units::Bytes;

/// The lowest limit that Docker accepts.
pub const LEAST_LIMIT: Bytes = Bytes(6 << 20);

/// Removes the leftovers of highwater processes that have ended, from the engine (if given) and from all cgroup
/// hierarchies. With `look_only` nothing is removed. `foreign` includes leftovers whose owner cannot be checked from
/// here.
///
/// # Errors
/// If the engine cannot list its containers, or the host its hierarchies.
pub fn remove_leftovers(engine: Option<&Engine>, look_only: bool, foreign: bool) -> Result<Leftovers, LeftoverError> {
    let mut found = Leftovers::default();
    if let Some(engine) = engine {
        runner::remove_containers(engine, look_only, foreign, &mut found)?;
    }
    leftovers::remove_cgroups(look_only, foreign, &mut found)?;
    Ok(found)
}

/// What to run in a container, and its options.
#[derive(Clone, Debug)]
#[non_exhaustive]
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
    /// CPUs, devices, swap and the like.
    pub resources: ContainerResources,
    /// The CPUs of the engine's machine that it may use; all if absent.
    pub cpuset: Option<CpuList>,
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
            resources: ContainerResources::default(),
            cpuset: None,
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
#[non_exhaustive]
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
    /// The limit of memory and swap is lower than the memory limit.
    #[error("failed to limit memory and swap together to {total} (--memory-swap): the memory limit alone is {limit}")]
    SwapBelowLimit {
        /// The limit of both.
        total: Bytes,
        /// The memory limit.
        limit: Bytes,
    },
    /// A limit of memory and swap without one of memory.
    #[error("--memory-swap limits memory and swap together, so it needs a memory limit")]
    SwapWithoutLimit,
    /// The engine would ignore the option.
    #[error("failed to start the container with {option}: {reason}")]
    OptionNotKept {
        /// The option.
        option: &'static str,
        /// Why the engine would ignore it.
        reason: &'static str,
    },
    /// The machine has fewer CPUs.
    #[error("failed to give the container {wanted} CPUs (--cpus): the engine's machine has {cpus}")]
    TooManyCpus {
        /// The wanted number.
        wanted: Cpus,
        /// The CPUs of the machine.
        cpus: u32,
    },
    /// The engine has no GPUs.
    #[error("failed to give the container GPUs ({option}): {reason}")]
    NoGpus {
        /// The option or the resource of the task that asks for them.
        option: String,
        /// Why there are none.
        reason: String,
        /// What the user can do about it.
        remedy: &'static str,
    },
    /// The device does not exist.
    #[error("failed to give the container the device {device}: no such file")]
    NoDevice {
        /// Its path.
        device: String,
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

impl From<EngineError> for StartError {
    fn from(error: EngineError) -> Self {
        Self::Container(ContainerError::Engine(error))
    }
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
            Self::SwapBelowLimit { .. } => {
                "give memory and swap together, such as twice the memory limit, or -1 for unlimited swap".to_owned()
            }
            Self::SwapWithoutLimit => "add --limit, or remove --memory-swap".to_owned(),
            Self::OptionNotKept { .. } => "remove the option, or use an engine that runs as root on a kernel with the \
                                           controller"
                .to_owned(),
            Self::TooManyCpus { cpus, .. } => format!("choose {cpus} or fewer"),
            Self::NoGpus { remedy, .. } => (*remedy).to_owned(),
            Self::NoDevice { .. } => "check the spelling; the device must exist on the engine's machine".to_owned(),
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
