//! The directories that a task reads from and writes to.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::rule::ScaleRule;

use super::Task;

/// The direction of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// Into the task, read-only.
    Input,
    /// Out of the task.
    Output,
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}

/// A directory of the host that a task sees at another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name, unique for its kind.
    pub name: String,
    /// The direction of the data.
    pub kind: ChannelKind,
    /// An absolute path on this machine; `None` if the data are on a volume of a cluster.
    pub host_path: Option<PathBuf>,
    /// An absolute path in the container.
    pub mounted_path: String,
    /// The scale rule. Only those of inputs count.
    pub rule: Option<ScaleRule>,
}

/// A directory of the host mounted in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// An absolute path on this machine.
    pub host_path: PathBuf,
    /// An absolute path in the container.
    pub mounted_path: String,
    /// Whether it is read-only for the task.
    pub read_only: bool,
}

impl Task {
    /// The mounts for a container runner: inputs read-only, outputs read-write; an output with the host path of an
    /// input only as that input.
    pub fn binds(&self) -> Vec<Bind> {
        let is_input = |path: &PathBuf| self.inputs().any(|input| input.host_path.as_ref() == Some(path));
        let bind = |channel: &Channel| {
            let read_only = channel.kind == ChannelKind::Input;
            let host_path = channel.host_path.clone().filter(|path| read_only || !is_input(path))?;
            Some(Bind { host_path, mounted_path: channel.mounted_path.clone(), read_only })
        };
        self.inputs().chain(self.outputs()).filter_map(bind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(kind: ChannelKind, host: &str, mounted: &str) -> Channel {
        let host_path = Some(PathBuf::from(host));
        Channel { name: mounted.to_owned(), kind, host_path, mounted_path: mounted.to_owned(), rule: None }
    }

    #[test]
    fn an_output_with_the_path_of_an_input_is_mounted_once() {
        let mut task = Task::bare(vec!["true".to_owned()]);
        task.channels = vec![
            channel(ChannelKind::Input, "/a", "/in"),
            channel(ChannelKind::Output, "/a", "/same"),
            channel(ChannelKind::Output, "/b", "/out"),
        ];
        let binds: Vec<_> = task.binds().into_iter().map(|bind| (bind.mounted_path, bind.read_only)).collect();
        assert_eq!(binds, [("/in".to_owned(), true), ("/out".to_owned(), false)]);
    }
}
