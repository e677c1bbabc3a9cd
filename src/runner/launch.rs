//! What a process runner starts.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::view::View;
use crate::host::cpus::CpuList;
use crate::model::units::Bytes;

/// What to run, and its options.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Launch {
    /// The program, looked up along the `PATH` of `env`, and its arguments.
    pub command: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; the current one if absent.
    pub working_directory: Option<PathBuf>,
    /// Where stdin comes from.
    pub stdin: Stdin,
    /// Where stdout goes.
    pub stdout: Output,
    /// Where stderr goes.
    pub stderr: Output,
    /// The memory limit.
    pub limit: Option<Bytes>,
    /// The CPUs that it may use; ours if absent.
    pub cpus: Option<CpuList>,
    /// The mount namespace to run in, if not ours.
    pub view: Option<Arc<View>>,
}

/// The stdin of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdin {
    /// Our own stdin.
    Inherit,
    /// Empty.
    Null,
}

/// A destination of a task's output.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Output {
    /// Where our own output goes.
    Inherit,
    /// Discarded.
    Null,
    /// This file, created anew.
    File(PathBuf),
    /// Something that is open already, such as a pipe.
    Open(Arc<OwnedFd>),
}

impl Launch {
    /// This command with our own environment, input and output, and no limit.
    pub fn new<T: Into<OsString>>(command: impl IntoIterator<Item = T>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: std::env::vars_os().collect(),
            working_directory: None,
            stdin: Stdin::Inherit,
            stdout: Output::Inherit,
            stderr: Output::Inherit,
            limit: None,
            cpus: None,
            view: None,
        }
    }
}
