//! The options of containers.

use clap::{Args, ValueEnum};
use highwater::calibrate::argument::{bind, label, variable};
use highwater::calibrate::workload::ContainerOptions;
use highwater::model::units::Bytes;
use highwater::runner::container::{
    Bind, ContainerResources, Cpus, Device, Gpus, MemorySwap, Tmpfs, Ulimit, UseProbe, size,
};

use crate::cli::engine::EngineArgs;

/// The heading of the options that `docker run` has, too.
const RESOURCES: &str = "Container resources, as with docker run";

/// Options of containers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container options")]
pub(crate) struct ContainerArgs {
    /// Run this image as a container; CMD replaces the image's command and is passed to its entrypoint.
    #[arg(long, value_name = "IMAGE", conflicts_with = "task")]
    pub(super) image: Option<String>,
    /// Whether to run TASK as a container of its image, or as a process on this machine.
    #[arg(long, value_enum, default_value_t = RunnerArg::Container, value_name = "HOW")]
    pub(super) runner: RunnerArg,
    #[command(flatten)]
    pub(super) engine: EngineArgs,
    /// Mount a directory or file in the container, as SOURCE:TARGET or SOURCE:TARGET:ro. Can be repeated.
    ///
    /// Without :ro, a missing source directory is created. Relative sources are resolved against the current directory.
    /// A path with a `:` is given as type=bind,source=SOURCE,target=TARGET[,readonly], as for `docker run --mount`.
    #[arg(long, value_name = "SOURCE:TARGET[:ro]", value_parser = bind)]
    mount: Vec<Bind>,
    /// Set an environment variable of the task; NAME alone passes on its current value. Can be repeated.
    ///
    /// The value is not written to records or plans. A sweep that resumes from its plan takes it from the environment,
    /// or from --env.
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    pub(super) env: Vec<(String, String)>,
    /// Run as this user instead of the image's: a name or number, optionally with :GROUP.
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
    /// Network of the container, such as none, host or a name [default: the engine's].
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
    /// Name of the container.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Add a label to the container. Can be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Limit the container to N CPUs, such as 2 or 1.5.
    #[arg(long, help_heading = RESOURCES, value_name = "N")]
    cpus: Option<Cpus>,
    /// GPUs: all, a number, or '"device=0,1"' [default: the number in the task's resources.limits].
    ///
    /// A task that asks for nvidia.com/gpu gets as many, or is refused if the engine has none; 0 runs it without.
    #[arg(long, help_heading = RESOURCES, value_name = "GPUS")]
    gpus: Option<Gpus>,
    /// Device of the host, as PATH, PATH:TARGET or PATH:TARGET:rwm, or the name of a CDI device. Can be repeated.
    #[arg(long, help_heading = RESOURCES, value_name = "DEVICE")]
    device: Vec<Device>,
    /// Size of /dev/shm, such as 1g, which is 1 GiB [default: the engine's, 64m].
    ///
    /// Files in /dev/shm and in a --tmpfs are in memory: they count in the peak and against --limit.
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", value_parser = size)]
    shm_size: Option<Bytes>,
    /// Limit memory and swap together to SIZE, at least --limit; -1 for unlimited swap [default: --limit, no swap].
    ///
    /// The peak is of memory alone: what was swapped out is recorded beside it.
    #[arg(long, help_heading = RESOURCES, value_name = "SIZE", allow_negative_numbers = true)]
    memory_swap: Option<MemorySwap>,
    /// Mount an empty directory in memory, such as /scratch:size=1g,mode=1777. Can be repeated.
    #[arg(long, help_heading = RESOURCES, value_name = "TARGET[:OPTIONS]")]
    tmpfs: Vec<Tmpfs>,
    /// Limit of each process, such as nofile=1024:4096 or memlock=-1. Can be repeated.
    #[arg(long, help_heading = RESOURCES, value_name = "NAME=SOFT[:HARD]")]
    ulimit: Vec<Ulimit>,
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
pub(super) enum RunnerArg {
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

impl ContainerArgs {
    pub(super) fn options(&self) -> ContainerOptions {
        let mut options = ContainerOptions::default();
        options.mount.clone_from(&self.mount);
        options.env.clone_from(&self.env);
        options.user.clone_from(&self.user);
        options.network.clone_from(&self.network);
        options.name.clone_from(&self.name);
        options.label.clone_from(&self.label);
        options.entrypoint.clone_from(&self.entrypoint);
        options.workdir.clone_from(&self.workdir);
        options.probe = self.probe.into();
        options.idle_peak = self.idle_peak;
        options.resources = self.resources();
        options
    }

    fn resources(&self) -> ContainerResources {
        let mut resources = ContainerResources::default();
        resources.cpus = self.cpus;
        resources.gpus.clone_from(&self.gpus);
        resources.devices.clone_from(&self.device);
        resources.shm_size = self.shm_size;
        resources.memory_swap = self.memory_swap;
        resources.tmpfs.clone_from(&self.tmpfs);
        resources.ulimits.clone_from(&self.ulimit);
        resources
    }
}
