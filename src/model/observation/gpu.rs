//! The memory that a run had on GPUs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Exactness, Observation};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// The memory that a run had on a GPU, or on an instance of a partitioned one (MIG).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Gpu {
    /// The UUID of the device or instance.
    pub uuid: String,
    /// Its model, such as `NVIDIA A100-SXM4-40GB`.
    pub model: String,
    /// The UUID of the device that it is an instance of (MIG).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_of: Option<String>,
    /// The most memory that the processes of the run held on it together. Unsupported if the driver does not report it.
    pub peak: Reading<GpuPeak>,
    /// Utilization during the run, by all processes together. Unsupported for an instance.
    pub utilization: Reading<Utilization>,
    /// Its memory in use before the run.
    pub before: Reading<Bytes>,
    /// The most memory that processes of others held in one sample.
    pub others: Reading<Bytes>,
    /// Number of samples.
    pub samples: u64,
    /// The processes of the run that used it, by pid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<GpuProcess>,
    /// The pids of processes that used it during the run, but ended before highwater knew whether they belonged to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmatched: Vec<u32>,
}

impl Gpu {
    /// A device with only its UUID and model known.
    pub fn new(uuid: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            uuid: uuid.into(),
            model: model.into(),
            instance_of: None,
            peak: Reading::Unsupported,
            utilization: Reading::Unsupported,
            before: Reading::Unsupported,
            others: Reading::Unsupported,
            samples: 0,
            processes: Vec::new(),
            unmatched: Vec::new(),
        }
    }

    /// Whether a process used it during the run that was the run's, or may have been.
    pub fn was_used(&self) -> bool {
        !self.processes.is_empty() || !self.unmatched.is_empty()
    }
}

/// A peak of GPU memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GpuPeak {
    /// The most memory at one time, with the contexts of the processes.
    pub bytes: Bytes,
    /// The way it was read.
    pub source: GpuSource,
    /// How exact it is.
    pub exactness: Exactness,
    /// For a lower bound: an upper bound, if the driver's accounting shows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bytes>,
}

impl GpuPeak {
    /// A peak without an upper bound.
    pub fn new(bytes: Bytes, source: GpuSource, exactness: Exactness) -> Self {
        Self { bytes, source, exactness, at_most: None }
    }

    /// The amount as far as known: `2 GiB`, `2 GiB or more`, or `2 GiB or more, at most 3 GiB`.
    pub fn words(&self) -> String {
        match (&self.exactness, self.at_most) {
            (Exactness::Exact { .. }, _) => self.bytes.to_string(),
            (Exactness::LowerBound { .. }, None) => format!("{} or more", self.bytes),
            (Exactness::LowerBound { .. }, Some(most)) => format!("{} or more, at most {most}", self.bytes),
        }
    }
}

/// The way a peak of GPU memory was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GpuSource {
    /// The maximum that the driver keeps of each process in accounting mode, read after the run.
    Accounting,
    /// The maximum of several sums over the processes of the run.
    Sampled,
}

impl GpuSource {
    /// A description for a table.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Accounting => "the driver's accounting",
            Self::Sampled => "sampled sum of the processes",
        }
    }
}

/// How busy a device was in the samples of a run, in percent of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Utilization {
    /// The mean.
    pub mean_percent: u32,
    /// The highest.
    pub highest_percent: u32,
}

impl Utilization {
    /// These two numbers.
    pub const fn new(mean_percent: u32, highest_percent: u32) -> Self {
        Self { mean_percent, highest_percent }
    }
}

/// A process of the run that used a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct GpuProcess {
    /// Its pid, as the host has it.
    pub pid: u32,
    /// The most memory it had: according to the driver's accounting, or else in a sample.
    pub peak: Reading<Bytes>,
    /// The share of its life in which it kept the device busy, in percent, from the driver's accounting.
    pub utilization_percent: Reading<u32>,
}

impl GpuProcess {
    /// A process and its peak.
    pub const fn new(pid: u32, peak: Reading<Bytes>) -> Self {
        Self { pid, peak, utilization_percent: Reading::Unsupported }
    }
}

impl Observation {
    /// The most GPU memory that the run had on one device, and whether that is a lower bound: it is if the peak on any
    /// device is one. `None` if no peak was read.
    pub fn gpu_peak(&self) -> Option<(Bytes, bool)> {
        let peaks = || self.gpu.iter().filter_map(|gpu| gpu.peak.as_ref().value());
        let most = peaks().map(|peak| peak.bytes).max()?;
        let is_lower_bound = peaks().any(|peak| {
            matches!(peak.exactness, Exactness::LowerBound { .. }) && peak.at_most.is_none_or(|bound| bound > most)
        });
        Some((most, is_lower_bound || self.gpu.iter().any(|gpu| gpu.peak.as_ref().value().is_none())))
    }
}
