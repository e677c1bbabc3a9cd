//! The columns that every table has.

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What it holds.
    pub holds: &'static str,
    /// Where that is in the JSON of an observation.
    pub(super) pointer: &'static str,
    pub(super) kind: Kind,
}

/// How a cell is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is.
    Text,
    /// A whole number, which is there where what it was read with is there.
    Count,
    /// The same, which may be below zero.
    Status,
    /// A whole number that may be missing by itself.
    Part,
    /// Seconds, from microseconds.
    Seconds,
    /// Bytes, or that there is no limit.
    Limit,
    /// `yes` or nothing.
    Flag,
    /// Why the peak is not what the task wanted.
    Censored,
    /// Whether the columns after it were read.
    Whole,
    /// JSON: what has no flat form.
    Json,
    /// The sizes of all inputs, added up; they are read from the columns of the channels.
    Inputs,
    /// Something from another column, for convenience: not read.
    Derived,
}

const fn column(name: &'static str, pointer: &'static str, kind: Kind, holds: &'static str) -> Column {
    Column { name, holds, pointer, kind }
}

/// The columns that every table has, in their order. [`super::write`] adds those of parameters and channels.
pub const fn columns() -> &'static [Column] {
    &COLUMNS
}

const COLUMNS: [Column; 81] = [
    column("task", "/subject/name", Kind::Text, "the name of the task, where it has one"),
    column("case", "/sweep/case", Kind::Text, "the input case of the sweep"),
    column("run", "/sweep/run", Kind::Count, "which run of the cell, counted from 1"),
    column("input_bytes", "/inputs", Kind::Inputs, "the sizes of all inputs before the run, added up"),
    column("peak_bytes", "/peak/bytes", Kind::Count, "the high-water mark of memory"),
    column("wall_seconds", "/wall_us", Kind::Seconds, "from the start of the first process to its end"),
    column(
        "outcome",
        "/outcome/kind",
        Kind::Text,
        "exited, signalled, oom-killed, timed-out, interrupted or engine-lost",
    ),
    column("exit_status", "/outcome/status", Kind::Status, "where it exited"),
    column("signal", "/outcome/signal", Kind::Count, "the signal that ended it"),
    column("timeout_seconds", "/outcome/after_us", Kind::Seconds, "the time it had, where that was over"),
    column(
        "censored",
        "/censored",
        Kind::Censored,
        "limit or oom where memory ran out, lower-bound where the peak was sampled",
    ),
    column("cell", "/sweep/cell", Kind::Text, "the key of the cell of the sweep"),
    column("synthetic", "/sweep/synthetic", Kind::Flag, "yes where the input was made up from the data at hand"),
    column("started_at", "/started_at", Kind::Text, "when the task was started, in UTC"),
    column("peak_source", "/peak/source", Kind::Text, "the way the peak was read"),
    column("peak_file", "/peak/file", Kind::Text, "the kernel file it was read from"),
    column("peak_exactness", "/peak/exactness/kind", Kind::Text, "exact or lower-bound"),
    column("peak_noise_bytes", "/peak/exactness/noise_bytes", Kind::Count, "how much too high an exact peak can be"),
    column("peak_reason", "/peak/exactness/reason", Kind::Text, "why it is a lower bound"),
    column("peak_remedy", "/peak/exactness/remedy", Kind::Text, "what would make it exact"),
    column("peak_at_most_bytes", "/peak/upper_bound/bytes", Kind::Count, "what a lower bound cannot exceed"),
    column("peak_at_most_file", "/peak/upper_bound/file", Kind::Text, "the kernel file that was read from"),
    column("breakdown_at_seconds", "/breakdown/at_us", Kind::Seconds, "when the most was seen in use"),
    column("breakdown_bytes", "/breakdown/current", Kind::Count, "all of it at that moment"),
    column("breakdown_anon_bytes", "/breakdown/anon", Kind::Part, "heaps and stacks"),
    column("breakdown_file_bytes", "/breakdown/file", Kind::Part, "the page cache"),
    column("breakdown_shmem_bytes", "/breakdown/shmem", Kind::Part, "shared memory and tmpfs"),
    column("breakdown_kernel_bytes", "/breakdown/kernel", Kind::Part, "kernel memory"),
    column("breakdown_swap_bytes", "/breakdown/swap", Kind::Part, "what was swapped out then"),
    column("largest_processes", "/largest_processes", Kind::Json, "the largest processes then, a JSON array"),
    column("swap_peak_bytes", "/swap/peak", Kind::Part, "the most that was swapped out at one time"),
    column("swap_sampled_bytes", "/swap/highest_sampled", Kind::Part, "the most that a sample showed"),
    column("limit_bytes", "/limit/own", Kind::Limit, "the limit of the run's own cgroup"),
    column("limit_effective_bytes", "/limit/effective", Kind::Limit, "the lowest of all limits above it"),
    column("limit_copied_from", "/limit/copied_from", Kind::Text, "the cgroup whose limits were copied"),
    column("limit_events", "/events", Kind::Whole, "read where the next three were"),
    column("limit_hits", "/events/limit_hits", Kind::Part, "how often the usage was about to go over the limit"),
    column("ooms", "/events/ooms", Kind::Part, "how often nothing was left to reclaim"),
    column("oom_kills", "/events/oom_kills", Kind::Part, "how many processes were killed for that"),
    column("cpu_user_seconds", "/cpu/user_us", Kind::Seconds, "time on CPUs in user mode"),
    column("cpu_system_seconds", "/cpu/system_us", Kind::Seconds, "time on CPUs in the kernel"),
    column("cpu_source", "/cpu/source", Kind::Text, "who counted it: cgroup or rusage"),
    column("io_read_bytes", "/io/read", Kind::Count, "read from block devices"),
    column("io_written_bytes", "/io/written", Kind::Count, "written to block devices"),
    column("pids_peak", "/pids_peak", Kind::Part, "the most processes and threads at one time"),
    column("pressure_some_seconds", "/pressure/some_us", Kind::Seconds, "at least one task waited for memory"),
    column("pressure_full_seconds", "/pressure/full_us", Kind::Seconds, "all tasks waited for memory"),
    column("leftover_processes", "/leftover_processes", Kind::Part, "killed when the first process had ended"),
    column("survivors", "/survivors", Kind::Json, "processes that survived SIGKILL, a JSON array"),
    column("series_samples", "/series/taken", Kind::Count, "how many samples of memory over time were taken"),
    column("series_file", "/series/file", Kind::Text, "where they are, from the folder of the record"),
    column("predicted_docker_limit_bytes", "/prediction/docker/limit/bytes", Kind::Derived, "what the rules ask for"),
    column(
        "predicted_kubernetes_limit_bytes",
        "/prediction/kubernetes/limit/bytes",
        Kind::Derived,
        "the same on Kubernetes",
    ),
    column(
        "predicted_kubernetes_request_bytes",
        "/prediction/kubernetes/request/bytes",
        Kind::Derived,
        "the request there",
    ),
    column("runner", "/runner", Kind::Text, "process, container or imported"),
    column("command", "/subject/command", Kind::Json, "the program and its arguments, a JSON array"),
    column("image", "/container/image", Kind::Text, "the image as it was asked for"),
    column("image_id", "/container/image_id", Kind::Text, "the digest of its configuration"),
    column(
        "image_digests",
        "/container/image_digests",
        Kind::Json,
        "under which digests registries know it, a JSON array",
    ),
    column("engine_name", "/container/engine/name", Kind::Text, "what ran the container"),
    column("engine_version", "/container/engine/version", Kind::Text, "its version"),
    column("engine_cgroup_driver", "/container/engine/cgroup_driver", Kind::Text, "cgroupfs or systemd"),
    column("engine_cgroup", "/container/engine/cgroup", Kind::Text, "v1 or v2, on its machine"),
    column("engine_kernel", "/container/engine/kernel", Kind::Text, "the release of the kernel of its machine"),
    column(
        "noise_floor_bytes",
        "/container/noise_floor",
        Kind::Count,
        "what a container of the image peaks at that does nothing",
    ),
    column(
        "engine_unanswered",
        "/container/unanswered",
        Kind::Json,
        "what the engine was asked to do and did not answer, a JSON array",
    ),
    column("host_kernel", "/host/kernel", Kind::Text, "the release of the kernel"),
    column("host_architecture", "/host/architecture", Kind::Text, "as uname -m has it"),
    column("host_cpus", "/host/cpus", Kind::Count, "CPUs on line"),
    column("host_page_bytes", "/host/page_bytes", Kind::Count, "the size of a page"),
    column("host_memory_bytes", "/host/memory_bytes", Kind::Part, "all memory of the machine"),
    column("host_swap_bytes", "/host/swap_bytes", Kind::Part, "all swap of the machine"),
    column("host_cgroup", "/host/cgroup", Kind::Text, "v1 or v2"),
    column("floor_bytes", "/floor/bytes", Kind::Derived, "the smallest limit that was enough, where it was looked for"),
    column("floor", "/floor", Kind::Json, "all that the search for it found, as JSON"),
    column("logs_stdout", "/logs/stdout", Kind::Text, "where its stdout was kept"),
    column("logs_stderr", "/logs/stderr", Kind::Text, "where its stderr was kept"),
    column("warnings", "/warnings", Kind::Json, "what a person should know about these numbers, a JSON array"),
    column("prediction", "/prediction", Kind::Json, "all that its rules came to, as JSON"),
    column("schema_version", "/schema_version", Kind::Count, "the version of the record"),
    column("tool_version", "/tool_version", Kind::Text, "the version of highwater that made it"),
];
