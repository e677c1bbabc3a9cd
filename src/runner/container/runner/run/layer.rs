//! The size of a container's writable layer.

use bollard::query_parameters::InspectContainerOptionsBuilder;

use super::ContainerRun;
use super::follow::{ContainerEnd, INSPECT};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::patience::Patience;
use crate::runner::probe;

impl ContainerRun {
    /// What the run left in the writable layer, read before the container is removed. The engine adds up the files, which it
    /// may do slowly or not at all: without an answer, the size is unknown, and the run is none the worse.
    pub(super) fn writable_layer(&self, ended: &ContainerEnd, patience: &mut Patience<'_>) -> Reading<Bytes> {
        let Some(id) = self.id.as_deref().filter(|_| ended.status.is_ok() && ended.unanswered.is_none()) else {
            return Reading::Unsupported;
        };
        let options = InspectContainerOptionsBuilder::default().size(true).build();
        let inspecting = self.engine.docker.inspect_container(id, Some(options));
        let size = match self.engine.wait(patience, INSPECT, inspecting) {
            Some(Ok(found)) => found.size_rw.and_then(|size| u64::try_from(size).ok()),
            Some(Err(error)) => {
                tracing::debug!("failed to read the size of the container: {}", one_line(&error));
                None
            }
            None => None,
        };
        // The probe is in the layer, too.
        let probe = if self.has_probe { probe::program().map_or(0, |program| program.len() as u64) } else { 0 };
        size.map_or(Reading::Unsupported, |size| Reading::Value(Bytes(size.saturating_sub(probe))))
    }
}
