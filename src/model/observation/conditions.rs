//! What the time of a run depends on beside the task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Observation, Warning};
use crate::model::reading::Reading;

/// The CPUs that a run had, and what its time depends on beside the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Conditions {
    /// The CPUs that it was allowed to use, as the kernel lists them, such as `0-3,8`; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Whether no other run of the same highwater was allowed to use them (`--pin`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The NUMA node of all these CPUs, if they were chosen in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// What decided on the clock frequency of these CPUs (`scaling_governor`), such as `performance`; several with
    /// commas. Absent if the kernel does not tell, as in most virtual machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// The load of the machine before the run, over one minute: the processes that ran or waited for a CPU or a disk, on
    /// average (`/proc/loadavg`).
    pub load: Reading<f64>,
    /// How much the CPU limits of its cgroup and, for a process, of those above held it back; of a container, until its
    /// last sample.
    pub throttling: Reading<Throttling>,
}

impl Conditions {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        cpus: None,
        pinned: false,
        numa_node: None,
        governor: None,
        load: Reading::Unsupported,
        throttling: Reading::Unsupported,
    };
}

impl Observation {
    /// Whether other runs of the sweep were on the same CPUs.
    pub fn is_time_disturbed(&self) -> bool {
        self.warnings.contains(&Warning::TimeDisturbed)
    }
}

/// How much CPU limits held a run back (`cpu.stat` of its cgroup and of those above it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Throttling {
    /// Number of periods, usually of 100 ms, in which its CPU time was used up (`nr_throttled`).
    pub periods: u64,
    /// How long its processes waited for that, added over the CPUs (`throttled_usec`).
    pub time_us: u64,
}

impl Throttling {
    /// The sum of two counts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let (periods, time_us) = (self.periods + other.periods, self.time_us + other.time_us);
        Self { periods, time_us }
    }

    /// What was counted since then.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            periods: self.periods.saturating_sub(before.periods),
            time_us: self.time_us.saturating_sub(before.time_us),
        }
    }
}
