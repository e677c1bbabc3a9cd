//! The amount of a resource that a run used.

use crate::calibrate::fit::cores;
use crate::model::fit::Resource;
use crate::model::observation::Observation;
use crate::model::units::Bytes;

/// What a run used of a resource other than memory, as fits count it; `None` if it is not known.
pub(super) fn amount(resource: Resource, observation: &Observation) -> Option<Bytes> {
    let amount = match resource {
        Resource::Memory | Resource::Gpu | Resource::Storage => None,
        Resource::Time => Some(Bytes(observation.wall_us)),
        Resource::Cpu => cores(observation),
    };
    amount.filter(|amount| *amount > Bytes::ZERO)
}
