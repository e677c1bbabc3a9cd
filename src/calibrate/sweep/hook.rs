//! User commands before and after runs.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::calibrate::failure::{Category, Failed, Failure};
use crate::runner::unblock_signals_in;
use crate::runner::view::View;

/// Runs a line in the shell with the task's view of the file system; its stdout goes to stderr.
pub(super) fn run(name: &'static str, line: &OsStr, view: Option<&Arc<View>>) -> Result<(), Failure> {
    let mut command = Command::new("sh");
    // Only records go to stdout.
    command.arg("-c").arg(line).stdin(Stdio::null()).stdout(std::io::stderr());
    unblock_signals_in(&mut command);
    let not_started =
        |source| Failure::host(Failed::to(format!("start the {name} command: {}", line.display()), source));
    if let Some(view) = view
        && let Err(source) = view.start_in(&mut command)
    {
        return Err(not_started(source));
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let error = format!("the {name} command failed with {status}: {}", line.display());
            Err(Failure::new(Category::TaskFailed, error, None))
        }
        Err(source) => Err(not_started(source)),
    }
}
