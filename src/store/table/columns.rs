//! The fixed columns of a table.

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What it contains.
    pub holds: &'static str,
    /// The pointer to its value in the JSON of an observation.
    pub(super) pointer: &'static str,
    pub(super) kind: Kind,
}

/// The format of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string, unchanged.
    Text,
    /// An integer that is present whenever its group of values is.
    Count,
    /// The same, possibly negative.
    Status,
    /// An integer that may be missing by itself.
    Part,
    /// Seconds, from microseconds.
    Seconds,
    /// Bytes, or no limit.
    Limit,
    /// `yes` or empty.
    Flag,
    /// Why the peak does not show the need.
    Censored,
    /// Whether the columns after it were read.
    Whole,
    /// JSON, for values without a flat form.
    Json,
    /// The texts of the warnings, a JSON array; read if the table does not have the warnings themselves.
    Texts,
    /// The columns whose number could not be read.
    Unread,
    /// The total size of all inputs; read from the columns of the channels.
    Inputs,
    /// A value from another column, for convenience; not read.
    Derived,
}

const fn column(name: &'static str, pointer: &'static str, kind: Kind, holds: &'static str) -> Column {
    Column { name, holds, pointer, kind }
}

/// The fixed columns, in order. [`super::write`] adds those of parameters and channels.
pub const fn columns() -> &'static [Column] {
    COLUMNS
}

const COLUMNS: &[Column] = &[
    column("task", "/subject/name", Kind::Text, "name of the task, if any"),
    column("case", "/sweep/case", Kind::Text, "input case of the sweep"),
    column("run", "/sweep/run", Kind::Count, "number of the run in its cell, from 1"),
    column("input_bytes", "/inputs", Kind::Inputs, "total size of all inputs before the run"),
    column("peak_bytes", "/peak/bytes", Kind::Count, "peak memory usage"),
    column("wall_seconds", "/wall_us", Kind::Seconds, "wall time of the main process"),
    column(
        "outcome",
        "/outcome/kind",
        Kind::Text,
        "exited, skipped, signalled, oom-killed, timed-out, interrupted, engine-lost or lost",
    ),
    column("exit_status", "/outcome/status", Kind::Status, "exit status, if it exited"),
    column("signal", "/outcome/signal", Kind::Count, "signal that killed it"),
    column("timeout_seconds", "/outcome/after_us", Kind::Seconds, "timeout, if it timed out"),
    column(
        "censored",
        "/censored",
        Kind::Censored,
        "limit or oom if memory ran out, lower-bound if the peak was sampled",
    ),
    column("cell", "/sweep/cell", Kind::Text, "key of the cell in the sweep"),
    column("synthetic", "/sweep/synthetic", Kind::Flag, "yes if the input is synthetic"),
    column("started_at", "/started_at", Kind::Text, "start time in UTC"),
    column("peak_source", "/peak/source", Kind::Text, "source of the peak"),
    column("peak_file", "/peak/file", Kind::Text, "kernel file that the peak was read from"),
    column("peak_exactness", "/peak/exactness/kind", Kind::Text, "exact or lower-bound"),
    column("peak_noise_bytes", "/peak/exactness/noise_bytes", Kind::Count, "how far an exact peak may be too high"),
    column("peak_reason", "/peak/exactness/reason", Kind::Text, "why the peak is a lower bound"),
    column("peak_remedy", "/peak/exactness/remedy", Kind::Text, "how to get an exact peak"),
    column("peak_at_most_bytes", "/peak/upper_bound/bytes", Kind::Count, "upper bound of a lower bound"),
    column("peak_at_most_file", "/peak/upper_bound/file", Kind::Text, "kernel file that the upper bound was read from"),
    column("cache", "/cache/state", Kind::Text, "page cache before the run: warm or cold, if it was prepared"),
    column("cache_dropped", "/cache/dropped", Kind::Text, "what was dropped for a cold one: everything or inputs"),
    column("breakdown_at_seconds", "/breakdown/at_us", Kind::Seconds, "time of the highest sample"),
    column("breakdown_bytes", "/breakdown/current", Kind::Count, "total memory in use at that time"),
    column("breakdown_anon_bytes", "/breakdown/anon", Kind::Part, "anonymous memory (heaps and stacks) at that time"),
    column("breakdown_file_bytes", "/breakdown/file", Kind::Part, "page cache at that time"),
    column("breakdown_shmem_bytes", "/breakdown/shmem", Kind::Part, "shared memory and tmpfs at that time"),
    column("breakdown_kernel_bytes", "/breakdown/kernel", Kind::Part, "kernel memory at that time"),
    column("breakdown_swap_bytes", "/breakdown/swap", Kind::Part, "swap usage at that time"),
    column("largest_processes", "/largest_processes", Kind::Json, "largest processes at that time, a JSON array"),
    column("swap_peak_bytes", "/swap/peak", Kind::Part, "highest swap usage"),
    column("swap_sampled_bytes", "/swap/highest_sampled", Kind::Part, "highest swap usage in a sample"),
    column("limit_bytes", "/limit/own", Kind::Limit, "limit of the run's own cgroup"),
    column("limit_effective_bytes", "/limit/effective", Kind::Limit, "lowest limit of its cgroup and all above it"),
    column("limit_copied_from", "/limit/copied_from", Kind::Text, "cgroup whose limits were copied"),
    column("limit_events", "/events", Kind::Whole, "read if the next three columns were read"),
    column("limit_hits", "/events/limit_hits", Kind::Part, "how often the usage reached the limit"),
    column("ooms", "/events/ooms", Kind::Part, "how often nothing was left to reclaim"),
    column("oom_kills", "/events/oom_kills", Kind::Part, "processes that the OOM killer killed"),
    column("cpu_user_seconds", "/cpu/user_us", Kind::Seconds, "CPU time in user mode"),
    column("cpu_system_seconds", "/cpu/system_us", Kind::Seconds, "CPU time in the kernel"),
    column("cpu_source", "/cpu/source", Kind::Text, "source of the CPU times: cgroup or rusage"),
    column("load_before", "/conditions/load", Kind::Derived, "load of the machine before the run, over one minute"),
    column("conditions", "/conditions", Kind::Json, "its CPUs, governor, load and throttling, as JSON"),
    column("io_read_bytes", "/io/read", Kind::Count, "bytes read from block devices"),
    column("io_written_bytes", "/io/written", Kind::Count, "bytes written to block devices"),
    column("storage_outputs_bytes", "/storage/outputs_bytes", Kind::Part, "files in its outputs at its end"),
    column(
        "storage_writable_layer_bytes",
        "/storage/writable_layer_bytes",
        Kind::Part,
        "writable layer of its container then",
    ),
    column("pids_peak", "/pids_peak", Kind::Part, "highest number of processes and threads"),
    column("pressure_some_seconds", "/pressure/some_us", Kind::Seconds, "time in which some tasks waited for memory"),
    column("pressure_full_seconds", "/pressure/full_us", Kind::Seconds, "time in which all tasks waited for memory"),
    column("gpu_peak_bytes", "/gpu/0/peak/bytes", Kind::Derived, "highest memory on one GPU"),
    column("gpu", "/gpu", Kind::Json, "memory on each GPU, a JSON array"),
    column("leftover_processes", "/leftover_processes", Kind::Part, "processes killed after the main process ended"),
    column("survivors", "/survivors", Kind::Json, "processes that survived SIGKILL, a JSON array"),
    column("series_samples", "/series/taken", Kind::Count, "number of samples of memory over time"),
    column("series_file", "/series/file", Kind::Text, "file with all samples, relative to the directory of the record"),
    column("predicted_docker_limit_bytes", "/prediction/docker/limit/bytes", Kind::Derived, "predicted Docker limit"),
    column(
        "predicted_kubernetes_limit_bytes",
        "/prediction/kubernetes/limit/bytes",
        Kind::Derived,
        "predicted Kubernetes limit",
    ),
    column(
        "predicted_kubernetes_request_bytes",
        "/prediction/kubernetes/request/bytes",
        Kind::Derived,
        "predicted Kubernetes request",
    ),
    column("runner", "/runner", Kind::Text, "process, container, pod or imported"),
    column("command", "/subject/command", Kind::Json, "program and arguments, a JSON array"),
    column("image", "/container/image", Kind::Text, "image as named in the task or command"),
    column("image_id", "/container/image_id", Kind::Text, "digest of the image configuration"),
    column("image_digests", "/container/image_digests", Kind::Json, "digests of the image in registries, a JSON array"),
    column("engine_name", "/container/engine/name", Kind::Text, "container engine"),
    column("engine_version", "/container/engine/version", Kind::Text, "version of the engine"),
    column("engine_cgroup_driver", "/container/engine/cgroup_driver", Kind::Text, "cgroupfs or systemd"),
    column("engine_cgroup", "/container/engine/cgroup", Kind::Text, "cgroup version on the engine's machine: v1 or v2"),
    column("engine_kernel", "/container/engine/kernel", Kind::Text, "kernel release of the engine's machine"),
    column("noise_floor_bytes", "/container/noise_floor", Kind::Count, "peak of an idle container of the image"),
    column(
        "engine_unanswered",
        "/container/unanswered",
        Kind::Json,
        "requests that the engine did not answer, a JSON array",
    ),
    column("batch_system", "/batch/system", Kind::Text, "batch system, if the run was part of a job"),
    column("batch_job", "/batch/job", Kind::Text, "job, or job of the array"),
    column("batch_array_task", "/batch/array_task", Kind::Count, "index in the array"),
    column("batch_restarts", "/batch/restarts", Kind::Count, "how often the job was started again before"),
    column("batch_node", "/batch/node", Kind::Text, "node of the job, if the machine is not described"),
    column("pod_name", "/pod/name", Kind::Text, "name of the pod"),
    column("pod_namespace", "/pod/namespace", Kind::Text, "its namespace"),
    column("pod_node", "/pod/node", Kind::Text, "node that it ran on"),
    column("pod_restarts", "/pod/restarts", Kind::Count, "how often its container was restarted"),
    column("pod_uid", "/pod/uid", Kind::Text, "its UID"),
    column("pod_container", "/pod/container", Kind::Text, "container that was measured"),
    column("host_name", "/host/name", Kind::Text, "name of the machine"),
    column("host_kernel", "/host/kernel", Kind::Text, "kernel release"),
    column("host_architecture", "/host/architecture", Kind::Text, "machine architecture, as in uname -m"),
    column("host_cpus", "/host/cpus", Kind::Count, "online CPUs"),
    column("host_page_bytes", "/host/page_bytes", Kind::Count, "page size"),
    column("host_memory_bytes", "/host/memory_bytes", Kind::Part, "total memory of the machine"),
    column("host_swap_bytes", "/host/swap_bytes", Kind::Part, "total swap of the machine"),
    column("host_cgroup", "/host/cgroup", Kind::Text, "cgroup version: v1 or v2"),
    column("floor_bytes", "/floor/bytes", Kind::Derived, "smallest limit that was enough, if searched for"),
    column("floor", "/floor", Kind::Json, "full result of that search, as JSON"),
    column("logs_stdout", "/logs/stdout", Kind::Text, "file with its stdout"),
    column("logs_stderr", "/logs/stderr", Kind::Text, "file with its stderr"),
    column(
        "unread",
        "",
        Kind::Unread,
        "numbers that could not be read (unsupported, gone) and absent limits (none), a JSON object",
    ),
    column("warnings", "/warnings", Kind::Texts, "notes on these numbers, a JSON array"),
    column("warning_values", "/warnings", Kind::Json, "the same with their codes and fields, a JSON array"),
    column("prediction", "/prediction", Kind::Json, "full prediction of its rules, as JSON"),
    column("schema_version", "/schema_version", Kind::Count, "version of the record format"),
    column("tool_version", "/tool_version", Kind::Text, "version of highwater that wrote the record"),
];
