//! The record of one run of a task.

mod batch;
mod cache;
mod conditions;
mod gpu;
mod outcome;
mod peak;
mod storage;
mod warning;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::prediction::{Prediction, Sizes};
use super::reading::Reading;
use super::runtime::RuntimeLimit;
use super::timestamp::Timestamp;
use super::units::Bytes;

pub use batch::{Batch, BatchSystem};
pub use cache::{Cache, Dropped};
pub use conditions::{Conditions, Throttling};
pub use gpu::{Gpu, GpuPeak, GpuProcess, GpuSource, Utilization};
pub use outcome::Outcome;
pub use peak::{Breakdown, Exactness, Peak, PeakSource, UpperBound};
pub use storage::Storage;
pub use warning::{FloorNotFound, UnknownWarning, Warning, WarningKind};

/// The version of the record; a reader rejects a higher one and accepts every lower one.
///
/// In version 1, warnings were strings, and what was done to the page cache was one of them.
pub const SCHEMA_VERSION: u32 = 2;

/// The record of one run. Amounts are in bytes, times in microseconds unless a name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self")]
#[non_exhaustive]
pub struct Observation {
    /// The version of this form of JSON.
    pub schema_version: u32,
    /// The version of highwater that wrote it.
    pub tool_version: String,
    /// When the task was started.
    pub started_at: Timestamp,
    /// The task or command.
    pub subject: Subject,
    /// Its place in a sweep, if it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepRun>,
    /// The sizes of its inputs before the run, by channel, in the order of the task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputSizes>,
    /// The prediction of its rules; absent for a bare command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// How it was run.
    pub runner: RunnerKind,
    /// How it ended.
    pub outcome: Outcome,
    /// From the start to the end of the first process.
    pub wall_us: u64,
    /// Peak memory, or why it is missing.
    pub peak: Reading<Peak>,
    /// Composition of the memory at the highest sample.
    pub breakdown: Reading<Breakdown>,
    /// The largest processes at the highest usage, largest first; at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub largest_processes: Vec<ProcessSize>,
    /// Swap usage.
    pub swap: Swap,
    /// Limits in force.
    pub limit: Limits,
    /// Whether a limit was reached or the kernel killed a process for memory, so that the peak is not the need.
    pub censored: bool,
    /// How often the limit was reached.
    pub events: Reading<Events>,
    /// CPU time.
    pub cpu: Reading<Cpu>,
    /// The CPUs that it had, and what else its time depends on; absent if the run was elsewhere or is older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Conditions>,
    /// Bytes read from and written to block devices.
    pub io: Reading<Io>,
    /// What it left on disk; absent if nothing of that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// Peak number of processes and threads (`pids.peak`, Linux 6.1+).
    pub pids_peak: Reading<u64>,
    /// Time spent waiting for memory (pressure stall information).
    pub pressure: Reading<Pressure>,
    /// Number of processes that still existed when the first one had ended, and were killed.
    pub leftover_processes: Reading<u64>,
    /// Processes of the task that survived SIGKILL and may still be running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survivors: Vec<Survivor>,
    /// Memory over time, thinned.
    pub series: Series,
    /// The machine; unsupported if the run was imported.
    pub host: Reading<Host>,
    /// The batch job that the run was part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// The container, if the task ran in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The pod, if the task ran in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodFacts>,
    /// Where the task's output was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
    /// Memory on GPUs, the device with the highest peak first; absent without NVIDIA's library.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpu: Vec<Gpu>,
    /// The result of a search for the minimum limit, in the record of its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// What was done to the page cache before the run; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Warnings about these numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "warning::read")]
    pub warnings: Vec<Warning>,
}

impl<'de> Deserialize<'de> for Observation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The inherent function that serde derives; an older record is brought to the current version.
        Self::deserialize(deserializer).map(Self::upgraded)
    }
}

impl Serialize for Observation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Observation {
    /// The record as the current version has it.
    fn upgraded(mut self) -> Self {
        if self.schema_version < SCHEMA_VERSION {
            let mut cache = None;
            self.warnings.retain(|warning| {
                let Warning::Text { text } = warning else { return true };
                let found = Cache::from_version_1(text);
                cache = cache.or(found);
                found.is_none()
            });
            self.cache = self.cache.or(cache);
            self.schema_version = SCHEMA_VERSION;
        }
        self
    }

    /// The texts of its notes: what was done to the page cache, and the warnings.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.cache.iter().map(ToString::to_string).chain(self.warnings.iter().map(ToString::to_string))
    }

    /// The part of the peak that the breakdown does not show, because it was reached between two samples. `None` if the
    /// difference is within the error bound of the peak.
    pub fn between_samples(&self) -> Option<Bytes> {
        let peak = self.peak.as_ref().value()?;
        let missing = peak.bytes.saturating_sub(self.breakdown.value()?.current);
        (missing > peak.exactness.error_bound()).then_some(missing)
    }

    /// The limits by which runtimes of the task sized themselves.
    pub fn runtime_limits(&self) -> impl Iterator<Item = &RuntimeLimit> {
        self.warnings.iter().filter_map(|warning| match warning {
            Warning::RuntimeLimit(limit) => Some(limit),
            _ => None,
        })
    }

    /// Whether the container engine was lost in the run or after it, so that no other run is possible.
    pub fn has_lost_engine(&self) -> bool {
        let unanswered = self.container.as_ref().is_some_and(|container| !container.unanswered.is_empty());
        self.outcome == Outcome::EngineLost || unanswered
    }
}

/// The run's place in a sweep. A cell is one input case with one choice of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct SweepRun {
    /// The key of the cell: a digest of the task, its image, the listing of its inputs and the parameters.
    pub cell: String,
    /// The description of the input case: the name of a directory, `4 items`, `256 MiB`.
    pub case: String,
    /// The run of the cell, counted from 1.
    pub run: u32,
    /// The parameters of the cell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Whether its input is synthetic: repeated, cut or generated from the given data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
}

impl SweepRun {
    /// The run of this number of a cell without parameters, on an input that is not synthetic.
    pub fn new(cell: impl Into<String>, case: impl Into<String>, run: u32) -> Self {
        Self { cell: cell.into(), case: case.into(), run, parameters: BTreeMap::new(), synthetic: false }
    }
}

/// The sizes of a channel: everything that a scale rule can count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct InputSizes {
    /// The name of the channel; `input` for a bare command.
    pub channel: String,
    /// All of its files.
    pub all: Sizes,
    /// The same for the files with one extension (`nii.gz`, `dcm`, lower case, without the dot), in alphabetical order.
    /// Files without extension are only in `all`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_extension: BTreeMap<String, Sizes>,
}

impl InputSizes {
    /// A channel whose files have no extension.
    pub fn new(channel: impl Into<String>, all: Sizes) -> Self {
        Self { channel: channel.into(), all, by_extension: BTreeMap::new() }
    }
}

/// The task or command of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Subject {
    /// The task's name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

impl Subject {
    /// A task by its name, if it has one, and its command.
    pub fn new(name: Option<String>, command: Vec<String>) -> Self {
        Self { name, command }
    }
}

/// How a task was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunnerKind {
    /// As a process of this machine.
    Process,
    /// As a container of a Docker-compatible engine.
    Container,
    /// As a pod of a Kubernetes cluster.
    Pod,
    /// By another program, whose table was imported.
    Imported,
}

/// A container and its engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Container {
    /// The image name as given.
    pub image: String,
    /// The digest of the image's configuration: the same for the same content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// The digests of the image in registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_digests: Vec<String>,
    /// Its engine.
    pub engine: Engine,
    /// The peak of an idle container of the image. It is a minimum of every peak; it does not add to it.
    #[serde(rename = "noise_floor", default, skip_serializing_if = "Option::is_none")]
    pub idle_peak: Option<Bytes>,
    /// The options of `docker run` that gave it other CPUs, devices, swap and the like than the engine does by itself,
    /// such as `--shm-size=1073741824`. Sizes are in bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Requests that the engine did not answer in time, such as `remove the container`. If not empty, the container may
    /// have been left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
}

/// A pod of a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The node it ran on, if it was scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How often its container was restarted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Its UID, which no other pod has, even one of the same name later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The name of the container that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl PodFacts {
    /// A pod of this name and namespace that was not restarted.
    pub fn new(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        let (name, namespace) = (name.into(), namespace.into());
        Self { name, namespace, node: None, restarts: 0, uid: None, container: None }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Engine {
    /// Its name, such as `Docker Engine`.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The driver that creates its cgroups: `cgroupfs` or `systemd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_driver: Option<String>,
    /// The cgroup version of its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupVersion>,
    /// The kernel release of its machine, which may be remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// The files with a task's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Logs {
    /// Its stdout.
    pub stdout: PathBuf,
    /// Its stderr.
    pub stderr: PathBuf,
}

impl Logs {
    /// Output in these files.
    pub fn new(stdout: impl Into<PathBuf>, stderr: impl Into<PathBuf>) -> Self {
        Self { stdout: stdout.into(), stderr: stderr.into() }
    }
}

/// The minimum limit under which a task still succeeds: what it needs, excluding what the kernel can reclaim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Floor {
    /// The lowest limit that was enough.
    pub bytes: Bytes,
    /// The highest limit below it that was not enough; absent if the lowest possible limit is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_enough: Option<Bytes>,
    /// The allowed gap between these two, as a share of the minimum limit.
    pub precision: f64,
    /// Number of runs that succeeded under this limit, without one that failed.
    pub confirmed: u32,
    /// The peak without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Bytes>,
    /// How many times as long as without a limit a run was allowed to take, if its time counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<f64>,
}

/// The anonymous memory of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ProcessSize {
    /// Its pid.
    pub pid: i32,
    /// Its name (`comm`, at most 15 bytes).
    pub name: String,
    /// Its resident anonymous memory (`RssAnon` of `/proc/PID/status`). Pages shared after a fork count for each process.
    pub anon: Bytes,
}

/// A process that survived SIGKILL, as one in an uninterruptible wait does until the wait ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Survivor {
    /// Its pid.
    pub pid: i32,
    /// Its name (`comm`, at most 15 bytes), if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its state in `/proc/PID/stat`: `D` for an uninterruptible wait, `T` for stopped, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<char>,
}

impl fmt::Display for Survivor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process {} ({name})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// Swap usage. A memory peak does not include swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Swap {
    /// The most at one time (`memory.swap.peak`, Linux 6.5+).
    pub peak: Reading<Bytes>,
    /// The maximum of the samples: a lower bound, for kernels that keep no peak.
    pub highest_sampled: Reading<Bytes>,
}

/// The limits in force; `null` means no limit. A run without a cgroup of its own has only an effective limit: that of
/// the enclosing cgroups, as far as they can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Limits {
    /// Of the run's own cgroup.
    pub own: Reading<Option<Bytes>>,
    /// The lowest limit of the own cgroup and all above it.
    pub effective: Reading<Option<Bytes>>,
    /// The cgroup whose limits were copied to the run's own cgroup, if the run could not be placed below it. Processes
    /// that stayed there count only against the original limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<PathBuf>,
}

impl Limits {
    /// No limit is known.
    pub const UNSUPPORTED: Self =
        Self { own: Reading::Unsupported, effective: Reading::Unsupported, copied_from: None };
}

/// How often the limit was reached (`memory.events`; on v1 `memory.failcnt` and `memory.oom_control`). Without a cgroup
/// of its own: how often that of the enclosing cgroup was reached during the run, by the run or by others there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Events {
    /// How often the usage was about to go over the limit.
    pub limit_hits: Reading<u64>,
    /// How often the kernel found nothing left to reclaim.
    pub ooms: Reading<u64>,
    /// Number of processes it killed for that; 1 if that was only reported, by an engine or a notification, and not
    /// counted.
    pub oom_kills: Reading<u64>,
}

/// CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Cpu {
    /// In user mode.
    pub user_us: u64,
    /// In kernel mode.
    pub system_us: u64,
    /// The source.
    pub source: CpuSource,
}

/// The source of a CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CpuSource {
    /// `cpu.stat` of the cgroup: all processes.
    Cgroup,
    /// `getrusage(2)`: the first process and its descendants that were waited for.
    Rusage,
}

/// Bytes read from and written to block devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Io {
    /// Read.
    pub read: Bytes,
    /// Written.
    pub written: Bytes,
}

/// Time spent waiting for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one task waited.
    pub some_us: u64,
    /// All tasks waited.
    pub full_us: u64,
}

/// Memory over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Series {
    /// Number of samples taken; more than are stored if the series was thinned.
    pub taken: u64,
    /// The stored samples, in order. Thinning keeps the higher one of two neighbours.
    pub samples: Vec<Breakdown>,
    /// A file with more samples, relative to the directory of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Series {
    /// Thins it to at most `most` samples, including the highest: of neighbours the higher one is kept.
    pub fn thin(&mut self, most: usize) {
        let together = self.samples.len().div_ceil(most.max(1)).max(1);
        let highest =
            |samples: &[Breakdown]| samples.iter().copied().reduce(|a, b| if b.current > a.current { b } else { a });
        if together > 1 {
            self.samples = self.samples.chunks(together).filter_map(highest).collect();
        }
    }
}

/// The machine that a run was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Host {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// Architecture, as in `uname -m`.
    pub architecture: String,
    /// Online CPUs.
    pub cpus: u32,
    /// Page size.
    pub page_bytes: Bytes,
    /// Total memory of the machine.
    pub memory_bytes: Reading<Bytes>,
    /// Total swap of the machine.
    pub swap_bytes: Reading<Bytes>,
    /// `v1`, `v2`, or absent without a memory controller.
    pub cgroup: Option<CgroupVersion>,
}

/// A cgroup version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    /// One hierarchy per controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Converts a duration to whole microseconds, at most 584,542 years.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
