//! `highwater collect` on pods that others have created.

use highwater::model::observation::Outcome;

use super::*;

/// A pod as in docs/production.md; a label makes it one of those that are collected.
fn pod(name: &str, words: &[&str], input: Option<u64>, limits: Value) -> Value {
    let command = [&["/highwater/probe", "/dev/termination-log", "--"], words].concat();
    let mut annotations = json!({"highwater/task": "touch"});
    if let Some(mib) = input {
        annotations["highwater/input.scans"] = json!(format!("{mib}Mi"));
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "touch"}, "annotations": annotations},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "highwater", "configMap": {"name": "highwater", "defaultMode": 0o555}}],
            "containers": [{
                "name": "task", "image": IMAGE, "command": command, "resources": {"limits": limits},
                "volumeMounts": [{"name": "highwater", "mountPath": "/highwater"}],
            }],
        },
    })
}

impl Namespace {
    fn create(&self, object: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, object).unwrap();
        kubectl(&["create", "--namespace", &self.0, "-f", file.path().to_str().unwrap()]);
    }

    /// Creates the ConfigMap of the documentation.
    fn create_probe(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.args(["probe", "--config-map", "highwater"]).output().unwrap();
        self.create(std::str::from_utf8(&output.stdout).unwrap());
    }

    fn collect(&self, record: &Path, words: &[&str]) -> Command {
        self.command("collect", &[&["-l", "app=touch", "--record", record.to_str().unwrap()], words].concat())
    }
}

/// The indented block of the documentation that begins with this line, without its indentation.
fn documented(first: &str) -> String {
    let text = include_str!("../../../docs/production.md");
    let lines = text.lines().skip_while(|line| line.trim_start() != first);
    let block = lines.map_while(|line| line.strip_prefix("    "));
    block.collect::<Vec<_>>().join("\n")
}

#[test]
fn pods_of_others_become_records_once() {
    cluster_or_skip!();
    let namespace = Namespace::new("production");
    namespace.create_probe();
    let wait = pod("deleted", &["/task", "wait"], None, json!({}));
    let big = ["/bin/sh", "-c", "dd if=/dev/zero of=/tmp/big bs=1M count=40; sleep 300"];
    let mut bare = pod("bare", &[], None, json!({}));
    bare["spec"]["containers"][0]["command"] = json!(["/task", "touch", "1", "0"]);
    let pods = json!([
        pod("small", &["/task", "touch", "20", "0"], Some(20), json!({})),
        pod("oom", &["/task", "touch", "200", "0"], Some(200), json!({"memory": "64Mi"})),
        pod("evicted", &big, Some(40), json!({"ephemeral-storage": "10Mi"})),
        bare,
        wait,
    ]);
    namespace.create(&json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string());
    let mut airflow = crate::examples::airflow_pod().unwrap();
    airflow["metadata"]["name"] = json!("airflow");
    airflow["metadata"]["labels"]["app"] = json!("touch");
    namespace.create(&airflow.to_string());
    namespace.create(&documented("apiVersion: v1").replace("app: segment", "app: touch"));
    // The Role of the documentation is enough.
    namespace.create(&documented("apiVersion: rbac.authorization.k8s.io/v1"));
    let name = namespace.0.as_str();
    let binding = ["create", "rolebinding", "collect", "--role", "highwater-collect", "--user", "nobody"];
    kubectl(&[&binding[..], &["--namespace", name]].concat());

    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("touch.jsonl");
    let mut watching = namespace.collect(&record, &["--context", "nobody", "--watch"]);
    let watching = watching.stderr(Stdio::piped()).spawn().unwrap();
    let phase = |pod: &str| kubectl(&["get", "pod", pod, "--namespace", name, "-o", "jsonpath={.status.phase}"]);
    await_that("a pod runs", || phase("deleted") == "Running");
    kubectl(&["delete", "pod", "deleted", "--namespace", name]);
    let pods = ["small", "oom", "evicted", "bare", "segment-1", "airflow"];
    await_that("all pods have ended", || pods.iter().all(|pod| ["Failed", "Succeeded"].contains(&&*phase(pod))));
    let records = || -> Vec<Observation> {
        let text = std::fs::read_to_string(&record).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let is_recorded = |pod: &str| records().iter().any(|run| run.pod.as_ref().unwrap().name == pod);
    await_that("the runs are recorded", || ["small", "oom", "segment-1", "airflow"].into_iter().all(is_recorded));
    // The others may be seen a moment later.
    std::thread::sleep(Duration::from_secs(2));
    kill(Pid::from_raw(i32::try_from(watching.id()).unwrap()), Signal::SIGINT).unwrap();
    let watched = watching.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&watched.stderr);
    assert_eq!(watched.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("1 pod: no container whose command begins with the probe: bare"), "{stderr}");
    assert!(stderr.contains("1 pod: ended by the cluster without a report: evicted (Evicted: "), "{stderr}");
    assert!(stderr.contains("1 run without the size of an input"), "{stderr}");

    let of = |pod: &str| {
        let records = records();
        let mut of_pod = records.into_iter().filter(|run| run.pod.as_ref().unwrap().name == pod);
        let run = of_pod.next().unwrap_or_else(|| panic!("{pod} has no record: {stderr}"));
        assert_eq!(of_pod.next(), None);
        run
    };
    let small = of("small");
    let peak = small.peak.as_ref().value().unwrap().clone();
    assert!((20 * MIB..24 * MIB).contains(&peak.bytes.0), "{peak:?}");
    assert_eq!((small.inputs[0].all.sum.0, small.outcome.succeeded()), (20 * MIB, true));
    assert_eq!(small.subject.command, ["/task", "touch", "20", "0"]);
    assert!(of("segment-1").outcome.succeeded());
    let airflow = of("airflow");
    assert_eq!((airflow.subject.name.as_deref(), airflow.inputs[0].all.sum.0), (Some("segment"), 30 * MIB));
    let oom = of("oom");
    assert_eq!((oom.outcome.words().as_str(), oom.censored), ("out of memory", true));
    // A kubelet of 1.20 may have removed the container before it reads its end.
    if !stderr.contains("1 pod: deleted before its end was reported: deleted") {
        assert_eq!(of("deleted").outcome, Outcome::Lost);
    }

    let count = records().len();
    let again = namespace.collect(&record, &[]).output().unwrap();
    let stderr = String::from_utf8_lossy(&again.stderr);
    assert_eq!((again.status.code(), records().len()), (Some(0), count), "{stderr}");
    assert!(stderr.contains("added 0 runs") && stderr.contains("4 runs already recorded"), "{stderr}");
}

#[test]
fn a_missing_right_to_read_pods_is_named() {
    cluster_or_skip!();
    let namespace = Namespace::new("unreadable");
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("touch.jsonl");
    let output = namespace.collect(&record, &["--context", "nobody"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("pods is forbidden") && stderr.contains("the rights to list and watch pods"), "{stderr}");
}
