use std::collections::BTreeSet;

use schemars::schema_for;
use serde_json::json;

use super::*;
use crate::model::observation::{Cache, Dropped, Observation, SCHEMA_VERSION};

/// Every warning as JSON, with the text that people read.
fn table() -> Vec<(Value, &'static str)> {
    vec![
        (
            json!({"code": "peak-between-samples", "missing_bytes": 30 << 20, "peak_bytes": 100 << 20}),
            "30 MiB of the peak (30 %) occurred between two samples and is not in the breakdown (a shorter \
             --sample-interval may catch it)",
        ),
        (
            json!({"code": "leftover-processes", "processes": 1}),
            "1 process was still running when the main process ended, and killed",
        ),
        (
            json!({"code": "leftover-processes", "processes": 2}),
            "2 processes were still running when the main process ended, and killed",
        ),
        (
            json!({"code": "survived-kill", "pid": 7, "name": "cat", "state": "D"}),
            "process 7 (cat) survived SIGKILL and still exists: it is in an uninterruptible wait or frozen (state D), \
             and ends once that is over",
        ),
        (
            json!({"code": "survived-kill", "pid": 8, "name": "sudo", "state": "S"}),
            "process 8 (sudo) survived SIGKILL and still exists: it may belong to another user, as a set-user-ID \
             program does",
        ),
        (json!({"code": "survived-kill", "pid": 9}), "process 9 survived SIGKILL and still exists"),
        (
            json!({"code": "oom-kills", "kills": 2}),
            "the kernel killed 2 of the task's processes because memory ran out",
        ),
        (
            json!({"code": "oom-kills", "kills": 2, "shared_cgroup": true}),
            "the kernel killed 2 of the processes in the surrounding cgroup, the task's own or others, because memory \
             ran out",
        ),
        (json!({"code": "oom-kill-reported"}), "the kernel killed a process of the task because memory ran out"),
        (
            json!({"code": "probably-oom-killed"}),
            "ended with status 137 (SIGKILL), assumed to be for lack of memory: the task may need more",
        ),
        (
            json!({"code": "swapped-out", "bytes": 4 << 20}),
            "up to 4 MiB were swapped out and are not included in the peak",
        ),
        (
            json!({"code": "swap-allowed", "swap_bytes": 4 << 20}),
            "--memory-swap allowed the task 4 MiB of swap beyond its memory limit; the peak is of memory alone, so a task \
             that swaps needs more than its peak",
        ),
        (
            json!({"code": "swap-allowed"}),
            "--memory-swap allowed the task any amount of swap beyond its memory limit; the peak is of memory alone, so a \
             task that swaps needs more than its peak",
        ),
        (
            json!({"code": "in-memory", "directories": ["/dev/shm", "/a"]}),
            "files in /dev/shm and /a are in memory: the kernel counts them as memory of the task (shmem), in its peak and \
             against its limit",
        ),
        (
            json!({"code": "huge-pages", "bytes": 4 << 20, "process": "database"}),
            "4 MiB of hugetlbfs huge pages (`database`) are not counted as memory and not included in the peak",
        ),
        (
            json!({"code": "larger-resident", "bytes": 4 << 20}),
            "the largest process of the task had up to 4 MiB resident, between two samples or in mapped files, which \
             may be charged to other processes",
        ),
        (
            json!({"code": "time-disturbed"}),
            "other runs of the sweep used the same CPUs at the same time: its time is disturbed (use --pin, or --jobs 1)",
        ),
        (
            json!({"code": "missed-samples", "mean_us": 25_000, "requested_us": 5_000}),
            "one sample every 25.0 ms instead of every 5.0 ms as requested with --sample-interval: sampling takes \
             longer than that, or the machine is busy",
        ),
        (
            json!({"code": "unread-samples", "reason": "failed to read x"}),
            "some samples could not be read: failed to read x",
        ),
        (
            json!({"code": "gpu-unread", "reason": "failed to read x"}),
            "GPU memory was not read, or not completely: failed to read x",
        ),
        (json!({"code": "unreadable", "reason": "failed to read x"}), "failed to read x"),
        (
            json!({"code": "limits-copied", "cgroup": "/sys/fs/cgroup/a"}),
            "the run's cgroup is next to /sys/fs/cgroup/a and has a copy of its limits: other processes there do not \
             count against it",
        ),
        (json!({"code": "cgroup-not-removed", "reason": "failed to remove x"}), "failed to remove x"),
        (
            json!({"code": "reaper-lost", "reason": "broken pipe"}),
            "the parent process of the task does not respond: broken pipe",
        ),
        (
            json!({"code": "container-left-running", "name": "web", "pid": 12}),
            "the task left the container web running; highwater does not touch it",
        ),
        (
            json!({"code": "container-left-running", "pid": 12}),
            "the task left the container of process 12 running; highwater does not touch it",
        ),
        (
            json!({"code": "container-started", "container": "web of nginx"}),
            "the container web of nginx was started during the run and still runs; highwater does not touch it",
        ),
        (
            json!({"code": "other-machine", "client": "ssh"}),
            "`ssh` delegates its work to another machine, whose processes are outside the run's cgroup: its memory is \
             not in the peak",
        ),
        (json!({"code": "end-unknown", "reason": "the engine stopped"}), "the engine stopped"),
        (json!({"code": "probe-killed"}), "the probe was killed together with the task before it could read the peak"),
        (json!({"code": "no-probe-result", "reason": "it is empty"}), "the probe left no result: it is empty"),
        (
            json!({"code": "cgroup-elsewhere"}),
            "the engine created the container in a cgroup that is not visible here, because it runs elsewhere (use \
             --probe always)",
        ),
        (
            json!({"code": "no-peak", "reason": "the kernel is old", "remedy": "use a newer one"}),
            "there is no peak, because the kernel is old: use a newer one",
        ),
        (
            json!({"code": "engine-unanswered", "requests": ["stop the container", "remove the container"]}),
            "the engine did not respond in time to the request to stop the container, remove the container",
        ),
        (
            json!({"code": "container-not-removed", "container": "highwater-1", "reason": "no such container"}),
            "failed to remove the container highwater-1: no such container; remove it later with `highwater clean`",
        ),
        (json!({"code": "output-lost", "reason": "failed to write x"}), "failed to write x"),
        (
            json!({"code": "namespaces", "channels": true, "user_namespace": false}),
            "the channels were mounted at their own paths, in a mount namespace of the task",
        ),
        (
            json!({"code": "namespaces", "channels": false, "user_namespace": true, "in_memory": ["/data", "/in"]}),
            "the original input was read-only, in a mount namespace of the task and a user namespace, in which \
             set-user-ID programs such as su do not work and files of other users appear to be owned by nobody; files \
             that the task created directly in /data count as its memory; files that the task created directly in /in \
             count as its memory",
        ),
        (
            json!({"code": "input-hidden", "reason": "failed to mount x"}),
            "the task may have found no input: failed to mount x",
        ),
        (json!({"code": "private-input", "method": "clones"}), "the task had a private copy of its input: clones"),
        (
            json!({"code": "input-unprotected", "reason": "--input-access watched"}),
            "the input was not protected from the task, only watched: --input-access watched",
        ),
        (
            json!({"code": "input-changed", "changes": ["a was changed", "b was created"]}),
            "the input changed during the run: a was changed; b was created",
        ),
        (
            json!({"code": "input-changed", "changes": ["a was changed"], "more": 3}),
            "the input changed during the run: a was changed; and 3 more",
        ),
        (json!({"code": "copy-changed"}), "the task changed its input, which was a copy of the data"),
        (
            json!({"code": "read-only-file-system"}),
            "the task could not write to a read-only file system: if it writes into its input, it needs --input-access \
             private",
        ),
        (
            json!({"code": "runtime-limit", "runtime": "java", "setting": "-Xmx64m", "bytes": 64 << 20}),
            "-Xmx64m limits the heap of Java to 64 MiB: its garbage collector may let it fill up, so that the peak may follow \
             this limit rather than the input",
        ),
        (
            json!({"code": "runtime-limit", "runtime": "java", "bytes": 128 << 20, "share_of": "limit"}),
            "the heap of Java is limited by default to about 128 MiB, a share of the memory limit: its garbage collector \
             may let it fill up, so that the peak may follow this limit rather than the input",
        ),
        (
            json!({"code": "floor-not-found", "reason": "contradiction"}),
            "its floor was not found: tries under the same limit ended differently",
        ),
        (json!({"code": "floor-not-found", "reason": "interrupted"}), "the search for its floor was interrupted"),
        (
            json!({"code": "floor-not-found", "reason": "engine-lost"}),
            "the engine was lost during the search for its floor",
        ),
        (json!({"code": "floor-not-found", "reason": "failed"}), "the search for its floor failed"),
        (
            json!({"code": "floor-not-found", "reason": "task-fails"}),
            "its floor was not searched for: without a limit it does not always succeed",
        ),
        (json!({"code": "no-start-time"}), "the table has no start time: the time of the file is used"),
        (json!({"code": "earlier-run"}), "its numbers come from an earlier run of the pipeline"),
        (json!({"code": "text", "text": "as it was"}), "as it was"),
    ]
}

#[test]
fn every_warning_has_a_code_and_a_text() {
    for (json, text) in table() {
        let warning: Warning = serde_json::from_value(json.clone()).unwrap();
        assert!(!matches!(warning, Warning::Unknown(_)), "{json}");
        assert_eq!(warning.to_string(), text);
        assert_eq!(serde_json::to_value(&warning).unwrap(), json);
    }
    let schema = schema_for!(Warning);
    let variants = schema.as_value()["anyOf"].as_array().unwrap();
    let known: BTreeSet<&str> =
        variants.iter().filter_map(|variant| variant["properties"]["code"]["const"].as_str()).collect();
    let table = table();
    let tested: BTreeSet<&str> = table.iter().filter_map(|(json, _)| json["code"].as_str()).collect();
    assert_eq!(tested, known);
}

/// A record of this version with these warnings.
fn record(version: u32, warnings: Value) -> serde_json::Result<Observation> {
    serde_json::from_value(json!({
        "schema_version": version, "tool_version": "0.1.0", "started_at": "2026-01-01T00:00:00Z",
        "subject": {"command": []}, "runner": "process", "outcome": {"kind": "exited", "status": 0}, "wall_us": 1,
        "peak": "gone", "breakdown": "gone", "swap": {"peak": "gone", "highest_sampled": "gone"},
        "limit": {"own": null, "effective": null}, "censored": false, "events": "gone", "cpu": "gone", "io": "gone",
        "pids_peak": "gone", "pressure": "gone", "leftover_processes": 0, "series": {"taken": 0, "samples": []},
        "host": "unsupported", "warnings": warnings,
    }))
}

#[test]
fn a_code_of_a_newer_highwater_is_kept() {
    let newer = json!([{"code": "throttled", "share": 0.5, "by": ["cpu"]}]);
    let observation = record(SCHEMA_VERSION, newer.clone()).unwrap();
    let notes: Vec<String> = observation.notes().collect();
    assert_eq!(notes, [r#"unknown warning, perhaps of a newer highwater: throttled, share 0.5, by ["cpu"]"#]);
    assert_eq!(serde_json::to_value(&observation).unwrap()["warnings"], newer);
}

#[test]
fn what_is_no_warning_is_refused() {
    for nonsense in [json!([3]), json!([{}]), json!("swapped"), json!([null])] {
        assert!(record(SCHEMA_VERSION, nonsense.clone()).is_err(), "{nonsense}");
    }
}

#[test]
fn strings_of_version_1_become_texts_and_the_cache_a_field() {
    let caches = [
        ("cache: warm, the inputs were read before the run", Cache::Warm),
        (
            "cache: cold, the page cache of the whole machine was dropped before the run",
            Cache::Cold { dropped: Dropped::Everything },
        ),
        (
            "cache: cold, that of the input files was dropped before the run; programs and libraries stayed (dropping \
             all needs root)",
            Cache::Cold { dropped: Dropped::Inputs },
        ),
    ];
    for (text, cache) in caches {
        let observation = record(1, json!(["it swapped", text, "it waited"])).unwrap();
        assert_eq!((observation.schema_version, observation.cache), (SCHEMA_VERSION, Some(cache)));
        assert_eq!(observation.notes().collect::<Vec<_>>(), [text, "it swapped", "it waited"]);
        let again: Observation = serde_json::from_value(serde_json::to_value(&observation).unwrap()).unwrap();
        assert_eq!(again, observation);
    }
}

#[test]
fn warnings_of_one_kind_differ_only_in_amounts_and_names() {
    let unreadable = |reason: &str| Warning::Unreadable { reason: reason.to_owned() }.kind();
    assert_eq!(Warning::SwappedOut { bytes: Bytes(1) }.kind(), Warning::SwappedOut { bytes: Bytes(2) }.kind());
    assert_ne!(Warning::SwappedOut { bytes: Bytes(1) }.kind(), Warning::LargerResident { bytes: Bytes(1) }.kind());
    assert_eq!(unreadable("failed to read /a/highwater-12/b"), unreadable("failed to read /a/highwater-7/b"));
    assert_ne!(unreadable("failed to read /a"), unreadable("failed to read /b"));
}
