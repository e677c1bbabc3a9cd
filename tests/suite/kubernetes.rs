//! Pods, on the cluster started by `tests/kubernetes/run`. Without it these tests are skipped with a message.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use highwater::model::observation::Observation;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::container::sweep::scans;

const MIB: u64 = 1 << 20;
const IMAGE: &str = "example.org/task:1";

/// The tests with a cluster.
macro_rules! cluster_or_skip {
    () => {
        if std::env::var_os("HIGHWATER_TEST_KUBERNETES").is_none() {
            crate::harness::skip("there is no cluster (use tests/kubernetes/run)");
            return;
        }
    };
}

mod away;
mod claim;
mod collect;
mod fake;
mod fits;
mod probe_image;

/// A namespace of a test's own, so that what is left behind can be seen. It is removed with the cluster.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        kubectl(&["create", "namespace", name]);
        // Pods are refused before its account is there.
        let account = ["get", "serviceaccount", "default", "--namespace", name];
        await_that("the namespace has an account", || kubectl_output(&account).status.success());
        Self(name.to_owned())
    }

    fn command(&self, verb: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args([verb, "--on", "kubernetes", "--namespace", &self.0]).args(words);
        command
    }

    /// Runs these options and words of `highwater run` to the end.
    fn run(&self, words: &[&str]) -> Ran {
        Running::start(self, words).end()
    }

    /// The names of highwater's pods and ConfigMaps.
    fn leftovers(&self) -> String {
        let label = "app.kubernetes.io/managed-by=highwater";
        kubectl(&["get", "pods,configmaps", "--namespace", &self.0, "-l", label, "-o", "name"])
    }

    /// Waits until a pod runs its task.
    fn await_running(&self) {
        let running = [
            "get",
            "pods",
            "--namespace",
            &self.0,
            "-o",
            "jsonpath={.items[*].status.containerStatuses[*].state.running}",
        ];
        await_that("a pod runs", || kubectl(&running).contains("startedAt"));
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn kubectl_output(words: &[&str]) -> Output {
    Command::new("kubectl").args(words).output().unwrap()
}

fn kubectl(words: &[&str]) -> String {
    let output = kubectl_output(words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A `highwater run` in progress.
struct Running {
    child: std::process::Child,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(namespace: &Namespace, words: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("runs.jsonl");
        let mut command = namespace.command("run", &["--record", record.to_str().unwrap(), "--image", IMAGE]);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap(), folder }
    }

    fn end(self) -> Ran {
        let output = self.child.wait_with_output().unwrap();
        let record = std::fs::read_to_string(self.folder.path().join("runs.jsonl")).unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            status: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            record: serde_json::from_str(&record).unwrap_or_default(),
        }
    }
}

/// How a run ended, and its record.
#[derive(Debug)]
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    record: Value,
}

impl Ran {
    fn assert_exact(&self, mib: u64) {
        let peak = &self.record["peak"];
        assert_eq!((&peak["source"], &peak["exactness"]["kind"]), (&json!("probe"), &json!("exact")), "{self:#?}");
        let bytes = peak["bytes"].as_u64().unwrap();
        // It includes the program itself, the probe and batched charges of the kernel.
        assert!((mib * MIB..(mib + 4) * MIB).contains(&bytes), "{bytes} is not about {mib} MiB");
    }

    fn notes(&self) -> String {
        self.record["warnings"].to_string()
    }
}

#[test]
fn the_peak_of_a_pod_is_exact_and_nothing_is_left_behind() {
    cluster_or_skip!();
    let namespace = Namespace::new("exact");
    for mib in [30, 100] {
        let ran = namespace.run(&["--", "/task", "touch", &mib.to_string(), "100"]);
        assert_eq!(ran.status, Some(0), "{ran:#?}");
        ran.assert_exact(mib);
        assert_eq!((&ran.record["runner"], &ran.record["pod"]["node"]), (&json!("pod"), &json!("node")));
        // It can be read again.
        serde_json::from_value::<Observation>(ran.record).unwrap();
    }
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn the_documented_run_shows_what_comes_out() {
    cluster_or_skip!();
    let namespace = Namespace::new("documented");
    let output = namespace.command("run", &["--image", IMAGE, "--", "/task", "touch", "50", "200"]).output().unwrap();
    crate::documentation::consoles::assert_shows("docs/clusters.md run", std::str::from_utf8(&output.stderr).unwrap());
}

#[test]
fn the_status_and_the_output_of_the_task_are_passed_on() {
    cluster_or_skip!();
    let namespace = Namespace::new("status");
    let ran = namespace.run(&[
        "--env",
        "GREETING=hello",
        "--workdir",
        "/tmp",
        "--",
        "/bin/sh",
        "-c",
        "echo $GREETING $PWD; exit 7",
    ]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(7), "hello /tmp\n"), "{ran:#?}");
    // Kubernetes would replace these.
    let ran = namespace.run(&["--env", "A=$$ $(HOME)", "--", "/bin/sh", "-c", "echo \"$A\" '$$ $(A)'"]);
    assert_eq!(ran.stdout, "$$ $(HOME) $$ $(A)\n", "{ran:#?}");
    let ran = namespace.run(&["--", "/nothing"]);
    assert_eq!(ran.status, Some(127), "{ran:#?}");
    assert!(ran.stdout.contains("/nothing: No such file or directory"), "{ran:#?}");
}

#[test]
fn a_pod_that_runs_out_of_memory_is_censored() {
    cluster_or_skip!();
    let ran = Namespace::new("oom").run(&["--limit", "64Mi", "--", "/task", "touch", "200", "0"]);
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(137), &json!("oom-killed")), "{ran:#?}");
    assert_eq!((&ran.record["censored"], &ran.record["limit"]["own"]), (&json!(true), &json!(64 * MIB)));
}

/// Kubernetes gives the reason OOMKilled with the exit status 0 then.
#[test]
fn a_task_that_goes_on_without_a_killed_child_succeeds() {
    cluster_or_skip!();
    let ran = Namespace::new("child").run(&["--limit", "64Mi", "--", "/task", "child", "200"]);
    assert_eq!((ran.status, &ran.record["outcome"]), (Some(0), &json!({"kind": "exited", "status": 0})), "{ran:#?}");
    assert_eq!((&ran.record["censored"], &ran.record["events"]["oom_kills"]), (&json!(true), &json!(1)));
}

#[test]
fn the_probe_keeps_the_time_and_the_peak() {
    cluster_or_skip!();
    let ran = Namespace::new("timeout").run(&["--timeout", "1s", "--", "/task", "touch", "30", "60000"]);
    let outcome = json!({"kind": "timed-out", "after_us": 1_000_000});
    assert_eq!((ran.status, &ran.record["outcome"]), (Some(124), &outcome), "{ran:#?}");
    ran.assert_exact(30);
}

#[test]
fn a_pod_that_stays_pending_is_lost_for_a_stated_reason() {
    cluster_or_skip!();
    let namespace = Namespace::new("pending");
    let mut command =
        namespace.command("run", &["--pending-timeout", "12s", "--pull", "never", "--image", "example.org/none:1"]);
    let output = command.args(["--", "/task"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("ErrImageNeverPull"), "{stderr}");
    let template = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&template, "spec: {nodeSelector: {disk: ssd}}").unwrap();
    let pod = template.path().to_str().unwrap();
    let ran = namespace.run(&["--pending-timeout", "6s", "--pod", pod, "--", "/task", "touch", "1", "1"]);
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(3), &json!("lost")), "{ran:#?}");
    assert!(ran.notes().contains("Unschedulable: 0/1 nodes are available"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn a_pod_that_somebody_deletes_is_lost() {
    cluster_or_skip!();
    let namespace = Namespace::new("deleted");
    let running = Running::start(&namespace, &["--", "/task", "wait"]);
    namespace.await_running();
    kubectl(&["delete", "pods", "--all", "--namespace", &namespace.0]);
    let ran = running.end();
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(3), &json!("lost")), "{ran:#?}");
    assert!(ran.notes().contains("deleted by another client"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn an_evicted_pod_is_lost() {
    cluster_or_skip!();
    let namespace = Namespace::new("evicted");
    let template = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&template, "spec: {containers: [{name: task, resources: {limits: {ephemeral-storage: 10Mi}}}]}")
        .unwrap();
    let pod = template.path().to_str().unwrap();
    let ran =
        namespace.run(&["--pod", pod, "--", "/bin/sh", "-c", "dd if=/dev/zero of=/tmp/big bs=1M count=40; sleep 300"]);
    assert_eq!((ran.status, &ran.record["outcome"]["kind"]), (Some(3), &json!("lost")), "{ran:#?}");
    assert!(ran.notes().contains("Evicted"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn ctrl_c_deletes_the_pod_and_records_the_run() {
    cluster_or_skip!();
    let namespace = Namespace::new("interrupt");
    let running = Running::start(&namespace, &["--", "/task", "wait"]);
    namespace.await_running();
    kill(Pid::from_raw(i32::try_from(running.child.id()).unwrap()), Signal::SIGINT).unwrap();
    let ran = running.end();
    let outcome = json!({"kind": "interrupted", "signal": 2});
    assert_eq!((ran.status, &ran.record["outcome"]), (Some(130), &outcome), "{ran:#?}");
    // This kubelet may remove the container of a deleted pod before it has read its end.
    let is_exact = ran.record["peak"]["exactness"]["kind"] == "exact";
    assert!(is_exact || ran.notes().contains("without an end of the task"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn what_a_killed_highwater_left_behind_is_cleaned() {
    cluster_or_skip!();
    let namespace = Namespace::new("clean");
    let mut running = Running::start(&namespace, &["--", "/task", "wait"]);
    namespace.await_running();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert_eq!(namespace.leftovers().lines().count(), 2);
    let output = namespace.command("clean", &[]).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("removed pod highwater-") && stdout.contains("removed ConfigMap highwater-"), "{stdout}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn a_probe_that_somebody_deletes_is_created_again() {
    cluster_or_skip!();
    let namespace = Namespace::new("noprobe");
    let words = ["-r", "2", "--", "/bin/sh", "-c", "sleep 2"];
    let running = Running::start(&namespace, &words);
    namespace.await_running();
    kubectl(&["delete", "configmaps", "--namespace", &namespace.0, "-l", "app.kubernetes.io/managed-by=highwater"]);
    let ran = running.end();
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn a_missing_right_is_named() {
    cluster_or_skip!();
    let namespace = Namespace::new("rights");
    let ran = namespace.run(&["--context", "nobody", "--", "/task", "touch", "1", "1"]);
    assert_eq!(ran.status, Some(125), "{ran:#?}");
    assert!(ran.stderr.contains("configmaps is forbidden"), "{ran:#?}");
    let doctor = |words: &[&str]| {
        let output = namespace.command("doctor", words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = doctor(&["--context", "nobody"]);
    assert_eq!(status, Some(3), "{text}");
    assert!(text.contains("create pods, get pods, list pods, watch pods, delete pods, get pods/log"), "{text}");
    assert_eq!(doctor(&[]).0, Some(0));
}

/// The Role in docs/clusters.md, given to a user who has no other right.
#[test]
fn the_documented_rights_are_enough() {
    cluster_or_skip!();
    let namespace = Namespace::new("role");
    let page = include_str!("../../docs/clusters.md");
    let lines =
        page.lines().skip_while(|line| !line.contains("apiVersion: rbac")).map_while(|line| line.strip_prefix("    "));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let name = namespace.0.as_str();
    kubectl(&["create", "--namespace", name, "-f", file.path().to_str().unwrap()]);
    kubectl(&["create", "rolebinding", "highwater", "--role", "highwater", "--user", "nobody", "--namespace", name]);
    let ran = namespace.run(&["--context", "nobody", "--", "/task", "touch", "20", "0"]);
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    ran.assert_exact(20);
    let output = namespace.command("clean", &["--context", "nobody"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_pod_needs_a_command() {
    cluster_or_skip!();
    let namespace = Namespace::new("command");
    let ran = namespace.run(&[]);
    assert_eq!(ran.status, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("no command was given"), "{ran:#?}");
    assert_eq!(namespace.leftovers(), "");
}

fn records(folder: &Path) -> Vec<Observation> {
    highwater::store::read(folder).unwrap().observations
}

#[test]
fn a_sweep_runs_its_cells_as_pods() {
    cluster_or_skip!();
    let (namespace, bench) = (Namespace::new("sweep"), scans(8));
    let sweep = |words: &[&str]| {
        let options =
            ["--jobs", "4", "--image", IMAGE, "--mount", "{input}:/in:ro", "--mount", "{output}:/out", "-r", "2"];
        let mut command = namespace.command("sweep", &options);
        command.args(["--input", "scans", "--items", "1,2,4,8", "--into", "s"]).args(words);
        command.args(["--", "/task", "copy", "/in", "/out"]).current_dir(bench.path()).output().unwrap()
    };
    let labelled = ["pods", "--namespace", &namespace.0, "-l", "highwater/sweep=s,highwater/cell,highwater/run=2"];
    let output = std::thread::scope(|scope| {
        let sweeping = scope.spawn(|| sweep(&[]));
        let get = [&["get"], &labelled[..], &["-o", "name"]].concat();
        await_that("there is a pod with the labels", || kubectl(&get).contains("pod/highwater-"));
        sweeping.join().unwrap()
    });
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let records = records(&bench.path().join("s"));
    assert_eq!(records.len(), 8);
    for run in &records {
        let peak = run.peak.as_ref().value().unwrap().bytes.0;
        let input = run.inputs[0].all.sum.0;
        // The input is in memory once, once more in the page cache of the output, and the capacity of the vector that it
        // is read into may be twice as large.
        assert!((input..4 * input + 8 * MIB).contains(&peak), "{peak} for {input}");
    }
    let again = sweep(&[]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("8 runs are already recorded"));
    assert_eq!(namespace.leftovers(), "");
}

#[test]
fn what_a_task_says_about_its_pod_is_honoured_or_refused_by_name() {
    cluster_or_skip!();
    let (namespace, bench) = (Namespace::new("task"), scans(1));
    let run = |config: Value| {
        let template = json!({
            "identifier": "copy", "description": "Copies.", "command": ["/task", "copy", "/in", "/out"], "env": [],
            "inputs": [{"name": "scans", "mounted_path": "/in"}], "outputs": [{"name": "copies", "mounted_path": "/out"}],
            "resources": {"limits": {"memory": "200Mi"}},
        });
        let task = json!({
            "name": "copy-scans", "image": IMAGE, "taskTemplate": template, "config": config,
            "inputs": [{"name": "scans", "input": {"host_path": "scans"}}],
            "outputs": [{"name": "copies", "input": {"host_path": "copies"}}],
        });
        std::fs::write(bench.path().join("task.json"), task.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let words = ["run", "task.json", "--on", "kubernetes", "--format", "json"];
        let output = command.args(words).current_dir(bench.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, stdout, stderr) = run(json!({
        "namespace": namespace.0, "labels": {"team": "a"}, "annotations": {"note": "b c"}, "imagePullPolicy": "IfNotPresent",
    }));
    assert_eq!(status, Some(0), "{stderr}");
    assert!(bench.path().join("copies").is_dir());
    let record: Value = crate::harness::only_element(stdout);
    assert_eq!(record["pod"]["namespace"], "task", "{record:#}");
    let mut predict = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let predict = predict.args(["predict", "task.json", "--emit", "pod"]).current_dir(bench.path()).output().unwrap();
    std::fs::write(bench.path().join("pod.json"), predict.stdout).unwrap();
    kubectl(&["create", "-f", bench.path().join("pod.json").to_str().unwrap()]);
    let get = ["get", "pod", "copy-scans", "--namespace", &namespace.0, "-o"];
    let phase = [&get[..], &["jsonpath={.status.phase}"]].concat();
    await_that("the pod of predict succeeds", || kubectl(&phase) == "Succeeded");
    let pod: Value = serde_json::from_str(&kubectl(&[&get[..], &["json"]].concat())).unwrap();
    assert_eq!(pod["metadata"]["annotations"]["note"], "b c");
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["memory"], "220Mi");
    let (status, _, stderr) = run(json!({"registryPassword": "secret"}));
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("`config.registryPassword` is not supported on Kubernetes"), "{stderr}");
}
