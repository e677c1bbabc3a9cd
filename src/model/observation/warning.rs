//! Warnings in the record of a run: each is a value with a code, and has one text for people.

use std::fmt;
use std::mem::{Discriminant, discriminant};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::Survivor;
use crate::model::handoff::{Handoff, Recipient};
use crate::model::runtime::RuntimeLimit;
use crate::model::units::{Bytes, duration};

/// Something about a run that its numbers do not say. As JSON it is an object with a `code` and the fields here; its
/// `Display`, the text of its `error` attribute, is what people read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// Much of the peak was reached between two samples, so the breakdown does not show it.
    #[error(
        "{missing_bytes} of the peak ({:.0} %) occurred between two samples and is not in the breakdown (a shorter \
         --sample-interval may catch it)",
        missing_bytes.ratio(*peak_bytes).unwrap_or_default() * 100.0
    )]
    PeakBetweenSamples {
        /// The part of the peak that no sample shows.
        missing_bytes: Bytes,
        /// The peak.
        peak_bytes: Bytes,
    },
    /// Processes outlived the main process and were killed.
    #[error(
        "{processes} {} still running when the main process ended, and killed",
        if *processes == 1 { "process was" } else { "processes were" }
    )]
    LeftoverProcesses {
        /// Number of processes.
        processes: u64,
    },
    /// A process of the task survived SIGKILL.
    #[error("{_0} survived SIGKILL and still exists{}", why_it_survived(_0))]
    SurvivedKill(Survivor),
    /// The kernel killed processes because memory ran out, but the run did not end by that.
    #[error("the kernel killed {kills} {} because memory ran out", whose_processes(*shared_cgroup))]
    OomKills {
        /// Number of processes killed.
        kills: u64,
        /// Whether the processes may be those of others: the task had no cgroup of its own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        shared_cgroup: bool,
    },
    /// The same, reported by the container engine or a notification of the kernel without a number.
    #[error("the kernel killed a process of the task because memory ran out")]
    OomKillReported,
    /// An imported run probably ended because memory ran out.
    #[error("ended with status 137 (SIGKILL), assumed to be for lack of memory: the task may need more")]
    ProbablyOomKilled,
    /// Memory was swapped out.
    #[error("up to {bytes} were swapped out and are not included in the peak")]
    SwappedOut {
        /// The most at one time.
        bytes: Bytes,
    },
    /// The task was allowed to use swap beyond its memory limit.
    #[error(
        "--memory-swap allowed the task {} of swap beyond its memory limit; the peak is of memory alone, so a task that \
         swaps needs more than its peak",
        swap_bytes.map_or_else(|| "any amount".to_owned(), |bytes| bytes.to_string())
    )]
    SwapAllowed {
        /// The most that it may swap out; absent if unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        swap_bytes: Option<Bytes>,
    },
    /// Directories of the container are in memory.
    #[error(
        "files in {} are in memory: the kernel counts them as memory of the task (shmem), in its peak and against its \
         limit",
        directories.join(" and ")
    )]
    InMemory {
        /// The directories.
        directories: Vec<String>,
    },
    /// Memory that the kernel does not count as such.
    #[error("{bytes} of hugetlbfs huge pages (`{process}`) are not counted as memory and not included in the peak")]
    HugePages {
        /// The most seen at one time.
        bytes: Bytes,
        /// A process that used some.
        process: String,
    },
    /// A process had a much larger resident set than the samples show.
    #[error(
        "the largest process of the task had up to {bytes} resident, between two samples or in mapped files, which may \
         be charged to other processes"
    )]
    LargerResident {
        /// Its largest resident set.
        bytes: Bytes,
    },
    /// Other runs were on the same CPUs at the same time.
    #[error(
        "other runs of the sweep used the same CPUs at the same time: its time is disturbed (use --pin, or --jobs 1)"
    )]
    TimeDisturbed,
    /// Samples were taken much less often than requested.
    #[error(
        "one sample every {} instead of every {} as requested with --sample-interval: sampling takes longer than that, \
         or the machine is busy",
        duration(*mean_us),
        duration(*requested_us)
    )]
    MissedSamples {
        /// The mean time between two samples.
        mean_us: u64,
        /// The requested time.
        requested_us: u64,
    },
    /// Samples could not be read.
    #[error("some samples could not be read: {reason}")]
    UnreadSamples {
        /// The first error.
        reason: String,
    },
    /// GPU memory could not be read, or not all of it.
    #[error("GPU memory was not read, or not completely: {reason}")]
    GpuUnread {
        /// The error.
        reason: String,
    },
    /// A value could not be read when the run had ended.
    #[error("{reason}")]
    Unreadable {
        /// The error.
        reason: String,
    },
    /// The run's cgroup is not below the one whose limits it has.
    #[error(
        "the run's cgroup is next to {cgroup} and has a copy of its limits: other processes there do not count against it"
    )]
    LimitsCopied {
        /// The cgroup with the original limits.
        cgroup: String,
    },
    /// The run's cgroup could not be emptied or removed.
    #[error("{reason}")]
    CgroupNotRemoved {
        /// The error.
        reason: String,
    },
    /// The parent process of the task stopped responding.
    #[error("the parent process of the task does not respond: {reason}")]
    ReaperLost {
        /// The error.
        reason: String,
    },
    /// The task left a container running that it had started without a daemon.
    #[error("the task left the container {} running; highwater does not touch it", container_of(name.as_ref(), *pid))]
    ContainerLeftRunning {
        /// Its name or id, if its monitor names it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The pid of its monitor.
        pid: i32,
    },
    /// A container was started during the run, perhaps by the task through a daemon.
    #[error("the container {container} was started during the run and still runs; highwater does not touch it")]
    ContainerStarted {
        /// Its name and image.
        container: String,
    },
    /// The task had another machine work for it.
    #[error(
        "{}: its memory is not in the peak",
        Handoff { client: client.clone(), to: Recipient::OtherMachine }.reason()
    )]
    OtherMachine {
        /// The command, such as `ssh`.
        client: String,
    },
    /// How the container ended is unknown.
    #[error("{reason}")]
    EndUnknown {
        /// Why.
        reason: String,
    },
    /// The probe in the container or step was killed with the task.
    #[error("the probe was killed together with the task before it could read the peak")]
    ProbeKilled,
    /// The probe in the container left nothing that can be read.
    #[error("the probe left no result: {reason}")]
    NoProbeResult {
        /// The error.
        reason: String,
    },
    /// The engine used a cgroup of another machine or namespace.
    #[error(
        "the engine created the container in a cgroup that is not visible here, because it runs elsewhere (use --probe \
         always)"
    )]
    CgroupElsewhere,
    /// The container has no peak.
    #[error("there is no peak, because {reason}: {remedy}")]
    NoPeak {
        /// Why.
        reason: String,
        /// How to get one.
        remedy: String,
    },
    /// The engine did not answer in time.
    #[error("the engine did not respond in time to the request to {}", requests.join(", "))]
    EngineUnanswered {
        /// The requests, such as `remove the container`.
        requests: Vec<String>,
    },
    /// The container was left behind.
    #[error("failed to remove the container {container}: {reason}; remove it later with `highwater clean`")]
    ContainerNotRemoved {
        /// Its name.
        container: String,
        /// The error.
        reason: String,
    },
    /// Some output of the task was lost.
    #[error("{reason}")]
    OutputLost {
        /// The error.
        reason: String,
    },
    /// The task ran with mounts of its own.
    #[error("{}", namespaces(*channels, *user_namespace, in_memory))]
    Namespaces {
        /// Whether its channels were mounted at their own paths; otherwise only the original input was read-only.
        channels: bool,
        /// Whether it ran in a user namespace, too.
        user_namespace: bool,
        /// The directories that are in memory, so that files created directly in them count as memory of the task.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        in_memory: Vec<String>,
    },
    /// An input could not be mounted at its own path.
    #[error("the task may have found no input: {reason}")]
    InputHidden {
        /// Why.
        reason: String,
    },
    /// The task worked on a private copy of its input.
    #[error("the task had a private copy of its input: {method}")]
    PrivateInput {
        /// How it was made: `an overlay`, `clones` or `copies`.
        method: String,
    },
    /// The task could have written to the original input.
    #[error("the input was not protected from the task, only watched: {reason}")]
    InputUnprotected {
        /// Why.
        reason: String,
    },
    /// The original input changed during the run.
    #[error("the input changed during the run: {}", list(changes, *more))]
    InputChanged {
        /// The first changes.
        changes: Vec<String>,
        /// Number of further changes.
        #[serde(default, skip_serializing_if = "is_zero")]
        more: u64,
    },
    /// The task changed the staged input.
    #[error("the task changed its input, which was a copy of the data")]
    CopyChanged,
    /// A task that failed had tried to write to a read-only file system.
    #[error(
        "the task could not write to a read-only file system: if it writes into its input, it needs --input-access \
         private"
    )]
    ReadOnlyFileSystem,
    /// The runtime of the task limits its own memory.
    #[error(
        "{_0}: its garbage collector may let it fill up, so that the peak may follow this limit rather than the input"
    )]
    RuntimeLimit(RuntimeLimit),
    /// The search for the minimum limit, which begins with this run, has no result.
    #[error("{reason}")]
    FloorNotFound {
        /// Why.
        reason: FloorNotFound,
    },
    /// An imported table does not say when the run started.
    #[error("the table has no start time: the time of the file is used")]
    NoStartTime,
    /// An imported run was not executed again.
    #[error("its numbers come from an earlier run of the pipeline")]
    EarlierRun,
    /// A text, as schema version 1 had in place of every value here.
    #[error("{text}")]
    Text {
        /// The text.
        text: String,
    },
    /// A code of a newer highwater, kept as it was read.
    #[error("{0}")]
    #[serde(untagged)]
    Unknown(UnknownWarning),
}

/// What warnings of several runs have in common: their code and their reason, but neither amounts nor names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WarningKind(Discriminant<Warning>, String);

impl Warning {
    /// Its kind.
    pub fn kind(&self) -> WarningKind {
        let reason = match self {
            Self::UnreadSamples { reason }
            | Self::GpuUnread { reason }
            | Self::Unreadable { reason }
            | Self::CgroupNotRemoved { reason }
            | Self::ReaperLost { reason }
            | Self::EndUnknown { reason }
            | Self::NoProbeResult { reason }
            | Self::NoPeak { reason, .. }
            | Self::ContainerNotRemoved { reason, .. }
            | Self::OutputLost { reason }
            | Self::InputHidden { reason }
            | Self::InputUnprotected { reason } => reason.clone(),
            Self::OtherMachine { client } => client.clone(),
            Self::PrivateInput { method } => method.clone(),
            // Its amount is what matters.
            Self::RuntimeLimit(limit) => return WarningKind(discriminant(self), limit.source()),
            Self::FloorNotFound { reason } => reason.to_string(),
            Self::Text { text } => text.clone(),
            Self::Unknown(unknown) => unknown.code.clone(),
            Self::PeakBetweenSamples { .. }
            | Self::LeftoverProcesses { .. }
            | Self::SurvivedKill(_)
            | Self::OomKills { .. }
            | Self::OomKillReported
            | Self::ProbablyOomKilled
            | Self::SwappedOut { .. }
            | Self::SwapAllowed { .. }
            | Self::InMemory { .. }
            | Self::HugePages { .. }
            | Self::LargerResident { .. }
            | Self::TimeDisturbed
            | Self::MissedSamples { .. }
            | Self::LimitsCopied { .. }
            | Self::ContainerLeftRunning { .. }
            | Self::ContainerStarted { .. }
            | Self::ProbeKilled
            | Self::CgroupElsewhere
            | Self::EngineUnanswered { .. }
            | Self::Namespaces { .. }
            | Self::InputChanged { .. }
            | Self::CopyChanged
            | Self::ReadOnlyFileSystem
            | Self::NoStartTime
            | Self::EarlierRun => String::new(),
        };
        // A reason may name a pid or a file of its run.
        let reason = reason.chars().filter(|char| !char.is_ascii_digit() && *char != '.').collect();
        WarningKind(discriminant(self), reason)
    }
}

/// Why a search for the minimum limit has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FloorNotFound {
    /// The same limit was enough in one try and not in another.
    #[error("its floor was not found: tries under the same limit ended differently")]
    Contradiction,
    /// highwater was asked to stop.
    #[error("the search for its floor was interrupted")]
    Interrupted,
    /// The container engine was lost.
    #[error("the engine was lost during the search for its floor")]
    EngineLost,
    /// A try could not be made.
    #[error("the search for its floor failed")]
    Failed,
    /// The task fails even without a limit.
    #[error("its floor was not searched for: without a limit it does not always succeed")]
    TaskFails,
}

/// A warning with an unknown code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnknownWarning {
    /// Its code.
    pub code: String,
    /// Its other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl fmt::Display for UnknownWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown warning, perhaps of a newer highwater: {}", self.code)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, ", {name} {value}"))
    }
}

/// Reads the warnings of a record; in schema version 1 they are strings.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Warning>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a warning: an object with a `code`")]
    enum Written {
        Text(String),
        Value(Warning),
    }
    let written = Vec::<Written>::deserialize(deserializer)?;
    let warning = |written| match written {
        Written::Text(text) => Warning::Text { text },
        Written::Value(warning) => warning,
    };
    Ok(written.into_iter().map(warning).collect())
}

fn why_it_survived(survivor: &Survivor) -> &'static str {
    match survivor.state {
        Some('D') => ": it is in an uninterruptible wait or frozen (state D), and ends once that is over",
        Some(_) => ": it may belong to another user, as a set-user-ID program does",
        None => "",
    }
}

fn whose_processes(shared_cgroup: bool) -> &'static str {
    if shared_cgroup {
        "of the processes in the surrounding cgroup, the task's own or others,"
    } else {
        "of the task's processes"
    }
}

fn container_of(name: Option<&String>, pid: i32) -> String {
    name.cloned().unwrap_or_else(|| format!("of process {pid}"))
}

fn namespaces(channels: bool, user_namespace: bool, in_memory: &[String]) -> String {
    let mounted = if channels {
        "the channels were mounted at their own paths, in a mount namespace of the task"
    } else {
        "the original input was read-only, in a mount namespace of the task"
    };
    let user = if user_namespace {
        " and a user namespace, in which set-user-ID programs such as su do not work and files of other users appear to \
         be owned by nobody"
    } else {
        ""
    };
    let memory = in_memory
        .iter()
        .map(|directory| format!("; files that the task created directly in {directory} count as its memory"));
    format!("{mounted}{user}{}", memory.collect::<String>())
}

fn list(changes: &[String], more: u64) -> String {
    let more = (more > 0).then(|| format!("and {more} more"));
    changes.iter().cloned().chain(more).collect::<Vec<_>>().join("; ")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests;
