//! The resources whose need can be fitted.

use std::fmt;

use serde::Serialize;

use crate::model::units::{Bytes, duration};

/// A resource whose need can be fitted.
///
/// Fits calculate with whole numbers, of type [`Bytes`] whatever they count: bytes of memory, microseconds of wall time,
/// or millionths of a core. Only what leaves a fit has the unit of the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Memory, in bytes.
    #[default]
    Memory,
    /// Wall time, in seconds.
    Time,
    /// CPU time divided by wall time, in cores.
    Cpu,
    /// Memory on one GPU, in bytes.
    Gpu,
}

impl Resource {
    /// The unit of its amounts.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Memory | Self::Gpu => "bytes",
            Self::Time => "seconds",
            Self::Cpu => "cores",
        }
    }

    /// What a fit counts, in the unit of the resource.
    pub fn in_units(self, counted: f64) -> f64 {
        match self {
            Self::Memory | Self::Gpu => counted,
            Self::Time | Self::Cpu => counted / 1e6,
        }
    }

    /// An amount for people: `1.5 GiB`, `3 min 5 s`, `2.25 cores`.
    pub fn describe(self, counted: Bytes) -> String {
        match self {
            Self::Memory | Self::Gpu => counted.to_string(),
            Self::Time => duration(counted.0),
            Self::Cpu => format!("{:.2} cores", self.in_units(counted.0 as f64)),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_leave_with_their_unit() {
        assert_eq!(Resource::Memory.describe(Bytes::mib(3)), "3 MiB");
        assert_eq!(Resource::Time.describe(Bytes(185_000_000)), "3 min 5 s");
        assert_eq!(Resource::Cpu.describe(Bytes(2_250_000)), "2.25 cores");
        assert_eq!(Resource::Time.in_units(1_500_000.0), 1.5);
    }
}
