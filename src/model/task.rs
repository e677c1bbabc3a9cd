//! Tasks, as described by documents and as run.
//!
//! [`TaskSpec`] is a task.json, [`ProcessingContainer`] the file inside of an image. Together they resolve to a
//! [`Task`], which has everything that a runner needs.

mod channel;
mod config;
mod digest;
mod env;
mod on_host;
mod resources;
mod spec;

use std::path::PathBuf;

pub use channel::{Bind, Channel, ChannelKind};
pub use config::Config;
pub use digest::TaskDigest;
pub use env::EnvType;
pub use on_host::{OnHost, Replaced, Replacement};
pub use resources::{Amounts, Resources};
pub use spec::{
    EnvSetting, HostPath, Mount, Placed, ProcessingContainer, ResourcesSpec, RuleField, RulePlaces, RuleSpec, TaskSpec,
    TaskTemplate, TemplateEnv, TemplateRef, Volume, VolumeSource,
};

/// A task that can be run: by a process runner after [`Self::on_host`], by a container runner unchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// The image; `None` for a bare command.
    pub image: Option<String>,
    /// The identifier of its template; `None` for a bare command.
    pub template: Option<String>,
    /// The command, never empty; `None` for the image's own.
    pub command: Option<Vec<String>>,
    /// The environment variables in addition to those of the image, in order, with unique names.
    pub env: Vec<(String, String)>,
    /// The working directory; `None` for that of the image or the caller.
    pub working_dir: Option<PathBuf>,
    /// Inputs first, each kind in the order of the template.
    pub channels: Vec<Channel>,
    /// Its limits and requests, without the scale rules.
    pub resources: Resources,
    /// Settings of the container runner.
    pub config: Config,
}

impl Task {
    /// Creates a task from a command, without image and channels.
    pub fn bare(command: Vec<String>) -> Self {
        Self {
            name: command.first().cloned().unwrap_or_default(),
            image: None,
            template: None,
            command: Some(command).filter(|words| !words.is_empty()),
            env: Vec::new(),
            working_dir: None,
            channels: Vec::new(),
            resources: Resources::default(),
            config: Config::default(),
        }
    }

    /// The input channels, in the order of the template.
    pub fn inputs(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(|channel| channel.kind == ChannelKind::Input)
    }

    /// The output channels, in the order of the template.
    pub fn outputs(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(|channel| channel.kind == ChannelKind::Output)
    }
}
