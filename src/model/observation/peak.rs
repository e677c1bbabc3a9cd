//! A peak: its size, its source, how exact it is, and what it consisted of.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// A peak: its value, its source and its exactness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Peak {
    /// The most memory charged at one time.
    pub bytes: Bytes,
    /// The way it was read.
    pub source: PeakSource,
    /// The kernel file it was read from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How exact it is.
    pub exactness: Exactness,
    /// For a lower bound: an upper bound, if a counter that covers the task and more shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_bound: Option<UpperBound>,
}

impl Peak {
    /// A peak without a kernel file and an upper bound.
    pub fn new(bytes: Bytes, source: PeakSource, exactness: Exactness) -> Self {
        Self { bytes, source, file: None, exactness, upper_bound: None }
    }

    /// Whether the peak is within its error bound, so that it is known only to be below that.
    pub fn is_below_resolution(&self) -> bool {
        matches!(self.exactness, Exactness::Exact { error_bound_bytes } if self.bytes <= error_bound_bytes)
    }

    /// The amount as far as known: `200 MiB`, `200 MiB or more`, `200 MiB or more, at most 300 MiB`, or `below 512 KiB`
    /// if it is within the error bound.
    pub fn words(&self) -> String {
        match self.exactness {
            Exactness::Exact { error_bound_bytes } if self.is_below_resolution() => {
                format!("below {error_bound_bytes}")
            }
            Exactness::Exact { .. } => self.bytes.to_string(),
            Exactness::LowerBound { .. } => match &self.upper_bound {
                None => format!("{} or more", self.bytes),
                Some(most) => format!("{} or more, at most {}", self.bytes, most.bytes),
            },
        }
    }
}

/// An upper bound of a peak: the highest value of a counter that covers the task and more. It includes the usage of
/// others, which may have freed memory by the time of the peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct UpperBound {
    /// In bytes.
    pub bytes: Bytes,
    /// The kernel file of the surrounding cgroup that it was read from.
    pub file: PathBuf,
}

impl UpperBound {
    /// What this kernel file showed.
    pub fn new(bytes: Bytes, file: impl Into<PathBuf>) -> Self {
        Self { bytes, file: file.into() }
    }
}

/// The way a peak was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PeakSource {
    /// The kernel's counter of a cgroup for this run alone, read after its end.
    OwnCgroup,
    /// The kernel's counter of a new cgroup for the container alone, read after its end.
    ParentCgroup,
    /// The kernel's counter of the container's cgroup, read by a probe inside of it after the task had ended.
    Probe,
    /// The kernel's counter of the container's cgroup, read when its first process was seen to have ended. The cgroup
    /// disappears with that process, so the reading may come too late.
    ContainerCgroup,
    /// The maximum of several readings of a cgroup's usage, because the kernel keeps no peak there.
    PolledCgroup,
    /// The maximum of several sums over the process tree: anonymous memory and shares of shared memory, as in the
    /// proportional set size. Or the most that one process had between them, according to its high-water mark without
    /// what may be mapped files.
    SampledProcesses,
    /// The table of another program, as far as it can be trusted.
    Imported,
}

impl PeakSource {
    /// A description for a table.
    pub const fn words(self) -> &'static str {
        match self {
            Self::OwnCgroup => "the kernel's counter of the run's own cgroup",
            Self::ParentCgroup => "the kernel's counter of a cgroup around the container",
            Self::Probe => "the kernel's counter, read by the probe",
            Self::ContainerCgroup => "the kernel's counter of the container's cgroup",
            Self::PolledCgroup => "polled usage of the run's own cgroup",
            Self::SampledProcesses => "sampled sum of the process tree",
            Self::Imported => "an imported table",
        }
    }
}

/// How exact a number is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Exactness {
    /// Never too low, and too high by at most the kernel's batched charges.
    Exact {
        /// Its error bound: 64 pages for each CPU.
        #[serde(rename = "noise_bytes")]
        error_bound_bytes: Bytes,
    },
    /// The true value is at least this.
    LowerBound {
        /// Why it is not exact.
        reason: String,
        /// How to make it exact.
        remedy: String,
    },
}

impl Exactness {
    /// The error bound of the number.
    pub const fn error_bound(&self) -> Bytes {
        match self {
            Self::Exact { error_bound_bytes } => *error_bound_bytes,
            Self::LowerBound { .. } => Bytes::ZERO,
        }
    }
}

/// The composition of memory. The parts do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Breakdown {
    /// When it was read, from the start of the run.
    pub at_us: u64,
    /// Total; at most the peak, which may have been between two readings.
    pub current: Bytes,
    /// Anonymous memory: heaps and stacks.
    pub anon: Reading<Bytes>,
    /// Page cache of files, without `shmem`. The kernel can reclaim it.
    pub file: Reading<Bytes>,
    /// Shared memory and tmpfs.
    pub shmem: Reading<Bytes>,
    /// Kernel memory on behalf of the task: stacks, page tables, slab, socket buffers.
    pub kernel: Reading<Bytes>,
    /// Swapped out; not part of `current`.
    pub swap: Reading<Bytes>,
}

impl Breakdown {
    /// A sample whose composition is unknown.
    pub fn new(at_us: u64, current: Bytes) -> Self {
        let [anon, file, shmem, kernel, swap] = [Reading::Unsupported; 5];
        Self { at_us, current, anon, file, shmem, kernel, swap }
    }
}
