//! The thresholds for the growth of resources other than memory.

use serde::{Deserialize, Serialize};

use crate::model::fit::Resource;
use crate::model::units::Bytes;

/// What counts as growth of wall time or cores. A resource is compared only if it has such thresholds.
///
/// These amounts scatter much more than memory, so growth also has to exceed what the measured scatter of the runs explains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthThresholds {
    /// Growth over the baseline must exceed this share. Default 10 %.
    pub relative: f64,
    /// Growth must also exceed this amount, which a fit counts in microseconds or millionths of a core. Default 100 ms, 0.1
    /// cores.
    pub absolute: Bytes,
}

impl Default for GrowthThresholds {
    fn default() -> Self {
        // A tenth of a second, or of a core.
        Self { relative: 0.1, absolute: Bytes(100_000) }
    }
}

/// The thresholds of all resources other than memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceThresholds {
    /// Those of wall time, if it is compared.
    pub time: Option<GrowthThresholds>,
    /// Those of cores, if they are compared.
    pub cpu: Option<GrowthThresholds>,
}

impl ResourceThresholds {
    /// The resources that are compared, with their thresholds.
    pub fn compared(self) -> impl Iterator<Item = (Resource, GrowthThresholds)> {
        [(Resource::Time, self.time), (Resource::Cpu, self.cpu)]
            .into_iter()
            .filter_map(|(resource, thresholds)| Some((resource, thresholds?)))
    }
}
