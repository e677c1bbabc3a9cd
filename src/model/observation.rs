//! What one run of a task showed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prediction::{Prediction, Sizes};
use super::reading::Reading;
use super::units::Bytes;

/// The version of the record; a reader refuses a higher one and reads every lower one.
pub const SCHEMA_VERSION: u32 = 1;

/// The record of one run. Amounts are bytes, times are microseconds unless a name says otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// The version of this form of JSON.
    pub schema_version: u32,
    /// Which version of highwater made it.
    pub tool_version: String,
    /// When the task was started.
    pub started_at: Timestamp,
    /// What was run.
    pub subject: Subject,
    /// Where in a sweep it belongs, where it is part of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<SweepRun>,
    /// The sizes of its inputs before the run, by channel, in the order of the task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputSizes>,
    /// What its rules asked for; nothing for a bare command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prediction: Option<Prediction>,
    /// How it was run.
    pub runner: RunnerKind,
    /// How it ended.
    pub outcome: Outcome,
    /// From the start of the first process to the end of it.
    pub wall_us: u64,
    /// The high-water mark of its memory, or why there is none.
    pub peak: Reading<Peak>,
    /// What the memory consisted of when the most was seen in use.
    pub breakdown: Reading<Breakdown>,
    /// The largest processes when the most was seen in use, largest first; at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub largest_processes: Vec<ProcessSize>,
    /// What was swapped out.
    pub swap: Swap,
    /// The limits in force.
    pub limit: Limits,
    /// Whether a limit was reached or somebody killed for memory, so that the peak is not what the task wanted.
    pub censored: bool,
    /// How often the limit was felt.
    pub events: Reading<Events>,
    /// Time on CPUs.
    pub cpu: Reading<Cpu>,
    /// Bytes from and to block devices.
    pub io: Reading<Io>,
    /// The most processes and threads at one time (`pids.peak`, Linux 6.1+).
    pub pids_peak: Reading<u64>,
    /// Time spent waiting for memory (pressure stall information).
    pub pressure: Reading<Pressure>,
    /// Processes that were still there when the first one had ended, and were killed.
    pub leftover_processes: Reading<u64>,
    /// Processes of the task that SIGKILL did not end in time, and that may still be running.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survivors: Vec<Survivor>,
    /// Memory over time, thinned.
    pub series: Series,
    /// The machine; nothing is known of it where somebody else measured the run.
    pub host: Reading<Host>,
    /// The container it ran in, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Where the task's output was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Logs>,
    /// What a search for the smallest limit has found, in the record of its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Floor>,
    /// What a person should know about these numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Observation {
    /// How much of the peak the breakdown does not show, because it was reached between two samples. None where the
    /// difference may be noise of the peak.
    pub fn between_samples(&self) -> Option<Bytes> {
        let peak = self.peak.as_ref().value()?;
        let missing = peak.bytes.saturating_sub(self.breakdown.value()?.current);
        (missing > peak.exactness.noise()).then_some(missing)
    }

    /// Whether the container engine was lost in the run or after it: no other run can be made.
    pub fn has_lost_engine(&self) -> bool {
        let unanswered = self.container.as_ref().is_some_and(|container| !container.unanswered.is_empty());
        self.outcome == Outcome::EngineLost || unanswered
    }
}

/// Which run of which cell of a sweep this was. A cell is one input case with one choice of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SweepRun {
    /// The key of the cell: a digest of the task, its image, the listing of its inputs and the parameters.
    pub cell: String,
    /// The input case, in words: the name of a folder, `4 items`, `256 MiB`.
    pub case: String,
    /// Which run of the cell, counted from 1.
    pub run: u32,
    /// The parameters of the cell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Whether its input was made up from the data at hand: repeated, cut or generated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
}

/// What a channel held: all that a scale rule can count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputSizes {
    /// The name of the channel; `input` for a bare command.
    pub channel: String,
    /// All of its files.
    pub all: Sizes,
    /// The same for the files with one extension (`nii.gz`, `dcm`, lower case, without the dot), in alphabetical order. What
    /// has none is in `all` alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_extension: BTreeMap<String, Sizes>,
}

/// What was run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// The task's name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// What ran the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunnerKind {
    /// A process of this machine.
    Process,
    /// A container of a Docker-compatible engine.
    Container,
    /// Another program, whose table was imported.
    Imported,
}

/// A container and what ran it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Container {
    /// The image as it was asked for.
    pub image: String,
    /// The digest of the image's configuration: the same content has the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    /// Under which digests registries know the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_digests: Vec<String>,
    /// What ran it.
    pub engine: Engine,
    /// What a container of the image that does nothing peaks at. It is in every peak, as a least value: no addend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_floor: Option<Bytes>,
    /// What the engine was asked to do and did not answer in time, such as `remove the container`. If not empty, the
    /// container may have been left behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unanswered: Vec<String>,
}

/// A container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Engine {
    /// Its name, such as `Docker Engine`.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who makes its cgroups: `cgroupfs` or `systemd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_driver: Option<String>,
    /// The version of the cgroup interface on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupVersion>,
    /// The release of the kernel of its machine; not ours where the engine is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

/// The files that a task's output was kept in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Logs {
    /// What it wrote to stdout.
    pub stdout: PathBuf,
    /// What it wrote to stderr.
    pub stderr: PathBuf,
}

/// The smallest limit under which a task still succeeds: what it needs, without what the kernel can take back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Floor {
    /// The smallest limit that was seen to be enough.
    pub bytes: Bytes,
    /// The largest limit below it that was seen not to be enough; missing where the least possible limit is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_enough: Option<Bytes>,
    /// How far apart these two may be, as a share of the floor.
    pub precision: f64,
    /// How many runs succeeded under this limit, without one that did not.
    pub confirmed: u32,
    /// The peak without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Bytes>,
    /// So many times as long as without a limit a run was allowed to take, where its time counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<f64>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Outcome {
    /// The first process exited by itself.
    Exited {
        /// Its exit status.
        status: i32,
    },
    /// A signal that was not ours ended the first process.
    Signalled {
        /// The number of the signal.
        signal: i32,
    },
    /// The kernel killed it because its memory reached a limit.
    OomKilled,
    /// It was ended because its time was over.
    TimedOut {
        /// The time it had.
        after_us: u64,
    },
    /// It was ended because highwater was told to end.
    Interrupted {
        /// The signal that highwater was sent.
        signal: i32,
    },
    /// The container engine went away or does not answer, or the container was taken from us: nobody knows how it would
    /// have ended.
    EngineLost,
}

impl Outcome {
    /// Whether the task did what it should.
    pub const fn succeeded(self) -> bool {
        matches!(self, Self::Exited { status: 0 })
    }

    /// The status a shell would show: the task's own, 128 + n for signal n, 124 after a time-out as `timeout` has it, 3
    /// where the engine was lost.
    pub fn status(self) -> u8 {
        let signalled = |signal: i32| u8::try_from(128 + signal).unwrap_or(u8::MAX);
        match self {
            Self::Exited { status } => u8::try_from(status & 0xff).unwrap_or(u8::MAX),
            Self::Signalled { signal } | Self::Interrupted { signal } => signalled(signal),
            Self::OomKilled => signalled(9),
            Self::TimedOut { .. } => 124,
            Self::EngineLost => 3,
        }
    }
}

/// A high-water mark: how much, read where, and how exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peak {
    /// The most memory charged at one time.
    pub bytes: Bytes,
    /// The way it was read.
    pub source: PeakSource,
    /// The kernel file it was read from, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// How far it may be from the truth.
    pub exactness: Exactness,
    /// For a lower bound: what the peak cannot exceed, if a counter that covers the task and more shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_bound: Option<UpperBound>,
}

impl Peak {
    /// The amount as far as it is known: `200 MiB`, `200 MiB or more`, `200 MiB or more, at most 300 MiB`, or `below
    /// 512 KiB` where it is within the noise.
    pub fn words(&self) -> String {
        match self.exactness {
            Exactness::Exact { noise_bytes } if self.bytes <= noise_bytes => format!("below {noise_bytes}"),
            Exactness::Exact { .. } => self.bytes.to_string(),
            Exactness::LowerBound { .. } => match &self.upper_bound {
                None => format!("{} or more", self.bytes),
                Some(most) => format!("{} or more, at most {}", self.bytes, most.bytes),
            },
        }
    }
}

/// What a peak cannot exceed: the highest value of a counter that covers the task and more than the task. What the others
/// had is in it: they may have given it back by the time of the peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpperBound {
    /// In bytes.
    pub bytes: Bytes,
    /// The kernel file of the surrounding cgroup that it was read from.
    pub file: PathBuf,
}

/// The way a peak was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeakSource {
    /// The kernel's counter of a cgroup that held this run alone, read after its end.
    OwnCgroup,
    /// The kernel's counter of a fresh cgroup that held the container alone, read after its end.
    ParentCgroup,
    /// The kernel's counter of the container's cgroup, read by a probe inside of it after the task had ended.
    Probe,
    /// The kernel's counter of the container's cgroup, read when its first process was seen to have ended. The cgroup
    /// goes with that process, so that the reading may come too late.
    ContainerCgroup,
    /// The largest of several readings of a cgroup's usage; the kernel keeps no peak there.
    PolledCgroup,
    /// The largest of several sums over the process tree: anonymous and shared memory in shares, as in the proportional set
    /// size. Or what one process had at most between them, by its high-water mark without what can be mapped files.
    SampledProcesses,
    /// What a table of another program says, as far as that can be trusted.
    Imported,
}

impl PeakSource {
    /// In words, for a table.
    pub const fn words(self) -> &'static str {
        match self {
            Self::OwnCgroup => "the kernel's counter of the run's own cgroup",
            Self::ParentCgroup => "the kernel's counter of a cgroup around the container",
            Self::Probe => "the kernel's counter, read by a probe in the container",
            Self::ContainerCgroup => "the kernel's counter of the container's cgroup",
            Self::PolledCgroup => "polled usage of the run's own cgroup",
            Self::SampledProcesses => "sampled sum of the process tree",
            Self::Imported => "an imported table",
        }
    }
}

/// How far a number may be from the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Exactness {
    /// Never too low, and too high by at most the kernel's batching of charges.
    Exact {
        /// How much too high it can be: 64 pages for each CPU.
        noise_bytes: Bytes,
    },
    /// The truth is this or more.
    LowerBound {
        /// Why it is not exact.
        reason: String,
        /// What would make it exact.
        remedy: String,
    },
}

impl Exactness {
    /// How much too high the number can be.
    pub const fn noise(&self) -> Bytes {
        match self {
            Self::Exact { noise_bytes } => *noise_bytes,
            Self::LowerBound { .. } => Bytes::ZERO,
        }
    }
}

/// What memory is used for. The parts do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Breakdown {
    /// When it was read, from the start.
    pub at_us: u64,
    /// All of it then; at most the peak, which may have been between two readings.
    pub current: Bytes,
    /// Anonymous memory: heaps and stacks.
    pub anon: Reading<Bytes>,
    /// The page cache of files, without `shmem`. The kernel can take it back.
    pub file: Reading<Bytes>,
    /// Shared memory and tmpfs.
    pub shmem: Reading<Bytes>,
    /// Kernel memory on behalf of the task: stacks, page tables, slab, socket buffers.
    pub kernel: Reading<Bytes>,
    /// What was swapped out: not part of `current`.
    pub swap: Reading<Bytes>,
}

/// The anonymous memory of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessSize {
    /// Its number.
    pub pid: i32,
    /// Its name (`comm`, at most 15 bytes).
    pub name: String,
    /// Its resident anonymous memory (`RssAnon` of `/proc/PID/status`). Pages shared after a fork count for each process.
    pub anon: Bytes,
}

/// A process that survived SIGKILL, as one in an uninterruptible wait does until the wait ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Survivor {
    /// Its number.
    pub pid: i32,
    /// Its name (`comm`, at most 15 bytes), if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its state in `/proc/PID/stat`: `D` for an uninterruptible wait, `T` for stopped, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<char>,
}

/// What was swapped out. A peak of memory has no swap in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Swap {
    /// The most at one time (`memory.swap.peak`, Linux 6.5+).
    pub peak: Reading<Bytes>,
    /// The most that a sample showed: a lower bound, for kernels that keep no peak.
    pub highest_sampled: Reading<Bytes>,
}

/// The limits in force. `null` is no limit. A run without a cgroup of its own has only an effective one: that of the
/// cgroups around it, as far as they can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Of the run's own cgroup.
    pub own: Reading<Option<Bytes>>,
    /// The lowest of the own and all that lie above it.
    pub effective: Reading<Option<Bytes>>,
    /// The cgroup whose limits were copied to the run's own cgroup, if the run could not be placed below it. Processes
    /// that stayed there count against the original limits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_from: Option<PathBuf>,
}

impl Limits {
    /// Nothing is known of any limit.
    pub const UNSUPPORTED: Self =
        Self { own: Reading::Unsupported, effective: Reading::Unsupported, copied_from: None };
}

/// How often the limit was felt (`memory.events`; on v1 `memory.failcnt` and `memory.oom_control`). Without a cgroup of its
/// own: how often in the surrounding cgroup during the run, by the run or by others there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Events {
    /// How often the usage was about to go over the limit.
    pub limit_hits: Reading<u64>,
    /// How often the kernel found nothing left to reclaim.
    pub ooms: Reading<u64>,
    /// How many processes it killed for that; 1 where that was only told of, by an engine or a notice, and not counted.
    pub oom_kills: Reading<u64>,
}

/// Time on CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cpu {
    /// In user mode.
    pub user_us: u64,
    /// In kernel mode.
    pub system_us: u64,
    /// Who counted.
    pub source: CpuSource,
}

/// Who counted the time on CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CpuSource {
    /// `cpu.stat` of the cgroup: all processes.
    Cgroup,
    /// `getrusage(2)`: the first process and those below it that were waited for.
    Rusage,
}

/// Bytes from and to block devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Io {
    /// Read.
    pub read: Bytes,
    /// Written.
    pub written: Bytes,
}

/// Time spent waiting for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// At least one task waited.
    pub some_us: u64,
    /// All tasks waited.
    pub full_us: u64,
}

/// Memory over time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// How many samples were taken; more than are kept where the series was thinned.
    pub taken: u64,
    /// Those that were kept, in order. Thinning keeps the higher one of two neighbours.
    pub samples: Vec<Breakdown>,
    /// Where more of them are kept: a file with a series, by its path from the folder that the record is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Series {
    /// Thins it to at most `most` samples, the highest one among them: of neighbours the higher one is kept.
    pub fn thin(&mut self, most: usize) {
        let together = self.samples.len().div_ceil(most.max(1)).max(1);
        let highest =
            |samples: &[Breakdown]| samples.iter().copied().reduce(|a, b| if b.current > a.current { b } else { a });
        if together > 1 {
            self.samples = self.samples.chunks(together).filter_map(highest).collect();
        }
    }
}

/// The machine a run was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// The release of the kernel.
    pub kernel: String,
    /// The architecture, as `uname -m` has it.
    pub architecture: String,
    /// CPUs on line.
    pub cpus: u32,
    /// The size of a page.
    pub page_bytes: Bytes,
    /// All memory of the machine.
    pub memory_bytes: Reading<Bytes>,
    /// All swap of the machine.
    pub swap_bytes: Reading<Bytes>,
    /// `v1`, `v2`, or nothing where no memory controller was found.
    pub cgroup: Option<CgroupVersion>,
}

/// A version of the cgroup interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CgroupVersion {
    /// One hierarchy for each controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// A duration in whole microseconds, at most 584,542 years.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
