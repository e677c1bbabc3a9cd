//! What a search for the smallest working limit needs of this machine, and what it means if a try cannot run.

use nix::errno::Errno;

use super::{FloorError, Ran, SearchLimits};
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::measure::MeasureError;
use crate::host::machine::Machine;
use crate::model::problem::one_line;
use crate::model::units::Bytes;
use crate::runner::StartError;
use crate::runner::container::{ContainerError, LEAST_LIMIT};
use crate::runner::engine::EngineError;

/// The lowest limit to try for a process: no known program starts with less.
const LEAST_OF_A_PROCESS: Bytes = Bytes(256 << 10);

/// A search with more tries is not converging.
const MOST_TRIES: u32 = 64;

/// The search limits for this machine.
pub fn limits_of(precision: f64, confirm: u32, machine: &Machine, is_container: bool) -> SearchLimits {
    let least = if is_container { LEAST_LIMIT } else { LEAST_OF_A_PROCESS };
    // These are facts of this machine; a remote engine reports its own.
    let most = machine.facts.memory_bytes.value().unwrap_or(Bytes(1 << 40));
    SearchLimits { precision, confirm, least, most, tries: MOST_TRIES }
}

/// Limits cannot be enforced for this task or on this machine.
pub fn no_limits(error: FloorError) -> Failure {
    let help = match &error {
        FloorError::Escaped { remedy, .. } => remedy.clone(),
        _ => "see `highwater doctor` for what this machine lacks".to_owned(),
    };
    Failure::new(Category::Host, error, Some(help))
}

/// What a failure to run the task under this limit means.
///
/// # Errors
/// If it has nothing to do with the limit.
pub fn not_run(limit: Option<Bytes>, error: MeasureError) -> Result<Ran, Failure> {
    match error {
        MeasureError::Start(error) if limit.is_some() && is_for_lack_of_memory(&error) => {
            Ok(Ran::NotStarted(one_line(&error)))
        }
        MeasureError::Start(StartError::NoCgroup { reason, remedy }) => {
            let error = format!("failed to find the minimum limit: limits need a cgroup, and {reason}");
            Err(Failure::new(Category::Host, error, Some(remedy)))
        }
        error => Err(error.into()),
    }
}

/// Whether a limit may keep a task from starting that starts without one.
fn is_for_lack_of_memory(error: &StartError) -> bool {
    match error {
        StartError::NotExecutable { source, .. } | StartError::System { source, .. } => {
            let errno = source.raw_os_error().map(Errno::from_raw);
            matches!(errno, Some(Errno::ENOMEM | Errno::E2BIG | Errno::EAGAIN))
        }
        // The engine only reports in words that its runtime got too little memory.
        StartError::Container(ContainerError::Engine(EngineError::Request { status, .. })) => status.is_some(),
        StartError::Container(_)
        | StartError::Pod(_)
        | StartError::NoCommand
        | StartError::NotFound { .. }
        | StartError::ZeroByte { .. }
        | StartError::WorkingDirectory { .. }
        | StartError::Output { .. }
        | StartError::NoLimit { .. }
        | StartError::NoCgroup { .. }
        | StartError::Cgroup { .. }
        | StartError::Host(_) => false,
    }
}
