//! The limits by which the runtime of a workload sizes itself, for its record.

use super::{RunOptions, Workload};
use crate::model::observation::{Observation, Warning};
use crate::model::reading::Reading;
use crate::model::runtime::{self, ShareOf};
use crate::model::units::Bytes;

impl Workload {
    /// Adds the limits of runtimes that the command and its environment set, or that are the default.
    pub(super) fn note_runtime_limits(&self, options: &RunOptions, observation: &mut Observation) {
        let (command, env) = self.command_and_env(options);
        let memory = memory(observation, self.is_on_this_machine());
        let limits = runtime::settings(&command, &env).into_iter().map(|setting| setting.limit(memory));
        observation.warnings.extend(limits.map(Warning::RuntimeLimit));
    }

    fn command_and_env(&self, options: &RunOptions) -> (Vec<String>, Vec<(String, String)>) {
        match self {
            Self::Process(what) => what.command_and_env(options),
            Self::Container(container) => container.command_and_env(options),
            Self::Private(task) => task.on_originals().command_and_env(options),
        }
    }

    pub(super) fn is_on_this_machine(&self) -> bool {
        match self {
            Self::Process(_) => true,
            Self::Container(container) => container.is_on_this_machine(),
            Self::Private(task) => task.on_originals().is_on_this_machine(),
        }
    }
}

/// The memory that the run has, as far as known.
fn memory(observation: &Observation, is_here: bool) -> Option<(Bytes, ShareOf)> {
    let limit = observation.limit.effective.value().or(observation.limit.own.value())?;
    let host = observation.host.as_ref().value().filter(|_| is_here);
    let machine = match host.map(|host| host.memory_bytes) {
        Some(Reading::Value(bytes)) => Some((bytes, ShareOf::Machine)),
        _ => None,
    };
    let limit = limit.map(|bytes| (bytes, ShareOf::Limit));
    [limit, machine].into_iter().flatten().min_by_key(|(bytes, _)| *bytes)
}
