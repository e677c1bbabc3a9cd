//! Which container engine, as command-line options.

use clap::{Args, ValueEnum};
use highwater::calibrate::workload::EngineOptions;
use highwater::runner::engine::PullPolicy;

/// Which engine, and what it may do.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Address of the container engine, such as unix:///run/podman/podman.sock or tcp://host:2375.
    ///
    /// By default, highwater tries DOCKER_HOST, then the current docker context, then the sockets of Docker, rootless
    /// Docker, Podman and rootless Podman.
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    /// When to pull the image; missing: if the engine does not have it.
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN")]
    pull: Pull,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pull {
    Always,
    Missing,
    Never,
}

impl EngineArgs {
    pub(crate) fn options(&self) -> EngineOptions {
        let mut options = EngineOptions::default();
        options.host.clone_from(&self.host);
        options.pull = match self.pull {
            Pull::Always => PullPolicy::Always,
            Pull::Missing => PullPolicy::Missing,
            Pull::Never => PullPolicy::Never,
        };
        options
    }
}
