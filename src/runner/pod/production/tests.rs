use serde_json::{Value, json};

use super::*;
use crate::host::HostRoots;
use crate::model::observation::Warning;
use crate::model::reading::Reading;
use crate::runner::End;

const REPORT: &str = "highwater-probe 1\nlimit 67108864\nown_limit 67108864\nwall_us 5\nown 1024\ncpus 2\npeak 4096\n\
                      oom_kills 0\nfile /sys/fs/cgroup/memory.peak\nexited 0\n";

/// A pod with one container, whose command begins with the probe.
fn pod(changes: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"restartPolicy": "Never", "nodeName": "node1", "containers": [{
            "name": "task", "image": "example.org/task:1",
            "command": ["/highwater/probe", "/dev/termination-log", "--", "seg"], "args": ["a b"],
            "resources": {"limits": {"memory": "64Mi"}},
        }]},
        "status": {"phase": "Succeeded", "containerStatuses": [{
            "name": "task", "image": "", "imageID": "sha256:1", "ready": false, "restartCount": 0, "state": ended(0, REPORT),
        }]},
    });
    merge(&mut pod, changes);
    pod
}

/// A container that has ended with this status and message.
fn ended(status: i32, message: &str) -> Value {
    let reason = if status == 137 { "OOMKilled" } else { "Completed" };
    json!({"terminated": {
        "exitCode": status, "reason": reason, "message": message,
        "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:10Z",
    }})
}

fn merge(into: &mut Value, changes: Value) {
    match (into, changes) {
        (Value::Object(into), Value::Object(changes)) => {
            changes.into_iter().for_each(|(name, value)| merge(into.entry(name).or_insert(Value::Null), value));
        }
        (into, changes) => *into = changes,
    }
}

fn with_state(state: Value) -> Value {
    let status = json!({"name": "task", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
    json!({"status": {"containerStatuses": [status]}})
}

fn read(pod: Value, is_gone: bool) -> ProductionPod {
    let machine = Machine::read(HostRoots::default()).unwrap();
    ProductionPod::new(&serde_json::from_value(pod).unwrap(), is_gone, "v1.20.2", &machine)
}

/// The only run of a pod that has ended.
fn run(changes: Value) -> ProductionRun {
    let mut read = read(pod(changes), false);
    assert_eq!((read.missing.as_slice(), read.is_live, read.runs.len()), ([].as_slice(), false, 1));
    read.runs.remove(0)
}

/// Why a pod that has ended has no run.
fn missing(changes: Value) -> Missing {
    let mut read = read(pod(changes), false);
    assert_eq!((read.runs.len(), read.is_live, read.missing.len()), (0, false, 1), "{read:#?}");
    read.missing.remove(0)
}

#[test]
fn a_run_is_read_from_the_report_and_the_status() {
    let run = run(json!({}));
    let facts = run.pod.unwrap();
    assert_eq!(
        (facts.node.as_deref(), facts.uid.as_deref(), facts.container.as_deref()),
        (Some("node1"), Some("u"), Some("task"))
    );
    assert_eq!(run.command, ["seg", "a b"]);
    assert_eq!(run.finished.end, End::Exited(0));
    let peak = run.finished.peak.value().unwrap();
    assert!(peak.bytes == Bytes(4096) && matches!(peak.exactness, Exactness::Exact { .. }), "{peak:?}");
    let contained = run.finished.contained.unwrap();
    assert_eq!(contained.wall, Some(Duration::from_micros(5)));
    assert_eq!(
        (contained.container.image.as_str(), contained.container.image_id.as_deref()),
        ("example.org/task:1", Some("sha256:1"))
    );
}

/// As with memory.oom.group, where the probe dies with the task.
#[test]
fn a_probe_that_was_killed_with_the_task_tells_at_least_the_limit() {
    let first_lines = "highwater-probe 1\nlimit 67108864\nown_limit 67108864\n";
    let run = run(with_state(ended(137, first_lines)));
    let peak = run.finished.peak.value().unwrap();
    assert!(peak.bytes == Bytes(64 << 20) && matches!(peak.exactness, Exactness::LowerBound { .. }), "{peak:?}");
    let contained = run.finished.contained.unwrap();
    assert_eq!((contained.oom_killed, contained.wall), (true, Some(Duration::from_secs(10))));
}

#[test]
fn a_report_that_was_cut_or_is_none_is_named() {
    let cut = "highwater-probe 1\nlimit 67108864\n";
    assert_eq!(
        missing(with_state(ended(143, cut))).reason,
        "the report is cut: the probe was killed before it read the peak"
    );
    let foreign = missing(with_state(ended(1, "Traceback")));
    assert_eq!(foreign.reason, "the termination message is not a report of the probe");
    let hostile = missing(with_state(ended(0, "highwater-probe 1\npeak 99999999999999999999\nexited 0\n")));
    assert_eq!(hostile.reason, "the termination message is not a report of the probe");
    assert_eq!(missing(with_state(ended(137, ""))).reason, "ended without a report of the probe");
}

#[test]
fn a_probe_that_writes_elsewhere_is_told_where_to_write() {
    let mut pod = pod(with_state(ended(0, "")));
    pod["spec"]["containers"][0]["terminationMessagePath"] = json!("/dev/other");
    let read = read(pod, false);
    assert_eq!(read.missing[0].detail, "/dev/termination-log, but terminationMessagePath is /dev/other");
}

/// As Kubernetes 1.20 reports it.
#[test]
fn a_pod_that_was_evicted_without_a_report_is_named_with_the_reason() {
    let status = json!({"phase": "Failed", "reason": "Evicted", "message": "exceeds 10Mi", "containerStatuses": null});
    let missing = missing(json!({"status": status}));
    assert_eq!(
        (missing.reason, missing.detail.as_str()),
        ("ended by the cluster without a report", "Evicted: exceeds 10Mi")
    );
}

#[test]
fn a_pod_that_was_evicted_with_a_report_is_lost() {
    let run = run(json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "exceeds 10Mi"}}));
    assert_eq!(run.finished.end, End::Lost);
    assert!(run.finished.peak.value().is_some());
}

#[test]
fn a_pod_without_the_probe_has_no_run() {
    let mut pod = pod(with_state(ended(0, "")));
    pod["spec"]["containers"][0]["command"] = json!(["seg"]);
    assert_eq!(read(pod, false).missing[0].reason, "no container whose command begins with the probe");
}

#[test]
fn a_probe_behind_another_process_gives_a_lower_bound() {
    let mut pod = pod(json!({}));
    pod["spec"]["containers"][0]["command"] = json!(["sh", "-c", "/highwater/probe /dev/termination-log -- seg; more"]);
    let read = read(pod, false);
    let peak = read.runs[0].finished.peak.as_ref().value().unwrap();
    assert!(matches!(peak.exactness, Exactness::LowerBound { .. }), "{peak:?}");
}

#[test]
fn a_pod_that_is_deleted_after_its_end_counts_and_one_that_is_ended_by_it_is_lost() {
    let deleted = |requested: &str| {
        // The time of deletion is that of the request and the grace period of 30 s.
        run(json!({"metadata": {"deletionTimestamp": requested, "deletionGracePeriodSeconds": 30}})).finished
    };
    assert_eq!(deleted("2026-01-01T00:00:41Z").end, End::Exited(0));
    // Whole seconds do not tell which was first.
    for requested in ["2026-01-01T00:00:40Z", "2026-01-01T00:00:35Z"] {
        let finished = deleted(requested);
        assert_eq!(finished.end, End::Lost);
        assert!(finished.problems.iter().any(|note| matches!(note, Warning::EndUnknown { .. })));
    }
}

#[test]
fn a_running_pod_is_live_until_it_is_gone() {
    let running = || {
        pod(json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "task", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}},
        }]}}))
    };
    let live = read(running(), false);
    assert_eq!((live.is_live, live.missing[0].reason), (true, "still running"));
    let gone = read(running(), true);
    assert_eq!(
        (gone.is_live, gone.missing[0].reason),
        (false, "the pod ended, but the end of its container was not reported")
    );
}

#[test]
fn a_container_that_was_restarted_has_two_runs() {
    let mut pod = pod(json!({"status": {"phase": "Running"}}));
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    let status = &mut pod["status"]["containerStatuses"][0];
    status["restartCount"] = json!(1);
    status["lastState"] = ended(1, &REPORT.replace("exited 0", "exited 1"));
    let read = read(pod, false);
    let runs: Vec<_> = read.runs.iter().map(|run| (run.pod.as_ref().unwrap().restarts, run.finished.end)).collect();
    assert_eq!((runs.as_slice(), read.is_live), ([(0, End::Exited(1)), (1, End::Exited(0))].as_slice(), true));
}

#[test]
fn the_deadline_of_a_pod_is_a_time_out() {
    let run =
        run(json!({"spec": {"activeDeadlineSeconds": 7}, "status": {"phase": "Failed", "reason": "DeadlineExceeded"}}));
    assert_eq!(run.finished.contained.unwrap().timed_out, Some(Duration::from_secs(7)));
}

#[test]
fn own_pods_are_left_to_their_highwater() {
    let read = read(pod(json!({"metadata": {"annotations": {OWNER: "x"}}})), false);
    assert_eq!(read.missing[0].reason, "created by highwater, which records it itself");
}

#[test]
fn the_limit_of_the_specification_stands_in_for_one_that_was_not_read() {
    let run = run(with_state(ended(0, "highwater-probe 1\npeak 4096\nexited 0\n")));
    assert_eq!(run.finished.limit.own, Reading::Value(Some(Bytes(64 << 20))));
}
