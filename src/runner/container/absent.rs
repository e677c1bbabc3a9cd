//! What stands in for the runner of containers in a build without the feature `containers`.

use super::{ContainerError, ContainerLaunch, ContainerResources, Leftovers, UseProbe};
use crate::host::machine::Machine;
use crate::runner::engine::{Engine, EngineError, Image};
use crate::runner::patience::Patience;
use crate::runner::{Runner, Running, StartError};

/// A runner that cannot exist, because this build has no engine to give to it.
#[derive(Debug)]
pub struct ContainerRunner(Engine);

impl ContainerRunner {
    /// Creates a runner for this image.
    pub fn new(_machine: &Machine, engine: Engine, _image: Image, _launch: ContainerLaunch) -> Self {
        Self(engine)
    }

    /// Checks that the engine has what the container is to get.
    ///
    /// # Errors
    /// Never called: without the feature, no engine can be created.
    pub fn require(engine: &Engine, _resources: &ContainerResources) -> Result<(), ContainerError> {
        engine.never()
    }

    /// Checks that the engine can keep a container on CPUs of this machine.
    ///
    /// # Errors
    /// Never called: without the feature, no engine can be created.
    pub fn require_cpuset(engine: &Engine) -> Result<(), ContainerError> {
        engine.never()
    }

    /// Sets whether a probe in the container reads the peak.
    #[must_use]
    pub fn probe(self, _probe: UseProbe) -> Self {
        self
    }

    /// Sets whether observations also report the peak of an idle container.
    #[must_use]
    pub fn idle_peak(self, _wanted: bool) -> Self {
        self
    }
}

impl Runner for ContainerRunner {
    fn start(&mut self, _patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        self.0.never()
    }
}

/// Removes the containers of an engine that does not exist.
pub(super) fn remove_containers(
    engine: &Engine,
    _look_only: bool,
    _foreign: bool,
    _leftovers: &mut Leftovers,
) -> Result<(), EngineError> {
    engine.never()
}
