//! User commands before and after runs.

use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use crate::calibrate::failure::{Category, Failure};
use crate::runner::unblock_signals_in;
use crate::runner::view::View;

/// Runs a line in the shell with the task's view of the file system; its stdout goes to stderr.
pub(super) fn run(name: &'static str, line: &OsStr, view: Option<&Arc<View>>) -> Result<(), Failure> {
    let mut command = Command::new("sh");
    // Only records go to stdout.
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(std::io::stderr());
    unblock_signals_in(&mut command);
    let line = line.to_owned();
    if let Some(view) = view
        && let Err(source) = view.start_in(&mut command)
    {
        return Err(Failure::host(NotStarted { name, line, source }));
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(Category::TaskFailed, Failed { name, line, status }, None)),
        Err(source) => Err(Failure::host(NotStarted { name, line, source })),
    }
}

/// A hook failed.
#[derive(Debug, thiserror::Error)]
#[error("the {name} command failed with {status}: {}", line.display())]
struct Failed {
    name: &'static str,
    line: OsString,
    status: ExitStatus,
}

/// A hook could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the {name} command: {}", line.display())]
struct NotStarted {
    name: &'static str,
    line: OsString,
    #[source]
    source: std::io::Error,
}
