//! `highwater run task.json`: a task as a process, compared with its rules.

use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::harness::skip;

/// A directory with a task whose command gets `script`, an input of one mebibyte, and an output that does not exist
/// yet.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(script: &str) -> Self {
        Self::with(json!(["sh", "-c", script]), "3*n")
    }

    fn with(command: Value, rule: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("in/patient-1")).unwrap();
        std::fs::write(folder.path().join("in/patient-1/ct.dcm"), vec![7; 1 << 20]).unwrap();
        let task = json!({
            "name": "segment-lung",
            "image": "registry/segment:1",
            "taskTemplate": {
                "identifier": "lung",
                "description": "Segments lungs.",
                "inputs": [{"name": "scans", "mounted_path": "/scans",
                            "scale_rule": {"complexity": rule, "type": "limit", "mode": "sum"}}],
                "outputs": [{"name": "masks", "mounted_path": "/masks"}],
                "env": [{"name": "LEVEL", "value": "3"}, {"name": "ATLAS", "value": "/scans/patient-1"}],
                "command": command,
            },
            "inputs": [{"name": "scans", "input": {"host_path": "in"}}],
            "outputs": [{"name": "masks", "input": {"host_path": "made/out"}}],
            "env": [{"name": "LEVEL", "value": "5"}],
        });
        std::fs::write(folder.path().join("task.json"), task.to_string()).unwrap();
        Self { folder }
    }

    fn run(&self, options: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(&self.folder).args(["run", "--runner", "process"]).args(options).arg("task.json").assert()
    }

    /// The JSON result.
    fn json(&self, options: &[&str]) -> Value {
        let options: Vec<&str> =
            options.iter().copied().chain(["--format", "json", "--output", "result.json"]).collect();
        let _ = self.run(&options);
        crate::harness::only_element(std::fs::read(self.path("result.json")).unwrap())
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.folder.path().join(below)
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn paths_of_the_container_become_paths_of_the_host() {
    let bench = Bench::new("wc -c < /scans/patient-1/ct.dcm > /masks/size; echo $LEVEL $ATLAS > /masks/env");
    bench.run(&[]).success();
    assert_eq!(read(&bench.path("made/out/size")).trim(), (1 << 20).to_string());
    assert_eq!(read(&bench.path("made/out/env")).trim(), format!("5 {}", bench.path("in/patient-1").display()));
}

#[test]
fn the_peak_stands_beside_what_the_rules_predict() {
    // Slow enough to be seen by samples.
    let result = Bench::new("python3 -c pass").json(&[]);
    assert_eq!(result["prediction"]["docker"]["limit"]["bytes"], 3 << 20);
    assert_eq!(result["prediction"]["channels"][0]["rule"]["n"], 1 << 20);
    assert_eq!(result["comparison"]["amounts"][0]["target"], "docker-limit");
    assert!(result["peak"]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(result["subject"]["name"], "segment-lung");
}

#[test]
fn the_run_is_not_limited_by_its_own_rule_unless_that_is_asked_for() {
    assert_eq!(Bench::new("true").json(&["--cgroup", "auto"])["censored"], false);
    let bench = Bench::with(json!(["python3", "-c", "b = bytearray(64 << 20)"]), "20*n");
    let free = bench.json(&[]);
    assert_eq!(free["outcome"]["kind"], "exited");
    if free["peak"]["source"] != "own-cgroup" {
        // No cgroup is available here, and so no limit: the tests of processes cover that.
        return;
    }
    let enforced = bench.json(&["--enforce"]);
    assert_eq!(enforced["outcome"]["kind"], "oom-killed");
    assert_eq!(enforced["censored"], true);
    assert_eq!(enforced["limit"]["own"], 20 << 20);
}

#[test]
fn inputs_are_sized_before_the_run_that_changes_them() {
    let result = Bench::new("rm -r /scans/patient-1").json(&[]);
    assert_eq!(result["prediction"]["channels"][0]["size"]["all"]["sum"], 1 << 20);
}

#[test]
fn what_is_probably_not_meant_is_said_as_predict_says_it() {
    let bench = Bench::with(json!(["true"]), "0*n");
    let stderr = String::from_utf8(bench.run(&[]).success().get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("rule-never-positive"), "{stderr}");
}

#[test]
fn the_status_of_the_task_is_passed_on() {
    Bench::new("exit 7").run(&[]).code(7);
    Bench::new("kill -USR1 $$").run(&[]).code(128 + 10);
}

#[test]
fn a_task_whose_command_only_the_image_knows_is_refused() {
    let bench = Bench::with(Value::Null, "n");
    let text = read(&bench.path("task.json")).replace("\"command\":null,", "").replace(",\"command\":null", "");
    std::fs::write(bench.path("task.json"), text).unwrap();
    let stderr = String::from_utf8(bench.run(&[]).code(2).get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("no command of its own"), "{stderr}");
}

#[test]
fn a_record_is_a_line_for_each_run() {
    let bench = Bench::new("true");
    bench.run(&["-r", "3", "--record", "runs.jsonl"]).success();
    let lines: Vec<Value> =
        read(&bench.path("runs.jsonl")).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["schema_version"] == 2));
}

#[test]
fn a_full_disk_under_the_record_is_said_and_the_result_shown_all_the_same() {
    let bench = Bench::new("true");
    let assert = bench.run(&["--record", "/dev/full"]).code(125);
    let stderr = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(stderr.contains("No space left"), "{stderr}");
    assert!(stderr.contains("peak "), "{stderr}");
}

#[test]
fn logs_go_to_files_when_a_folder_is_given() {
    let bench = Bench::new("echo said; echo complained >&2");
    let assert = bench.run(&["--log-dir", "logs"]).success();
    assert!(assert.get_output().stdout.is_empty());
    assert_eq!(read(&bench.path("logs/stdout.log")), "said\n");
    assert_eq!(read(&bench.path("logs/stderr.log")), "complained\n");
}

/// Whether this user may mount in a namespace of its own; otherwise the tests that need it are skipped.
pub(crate) fn may_mount() -> bool {
    let options = if nix::unistd::geteuid().is_root() { "-m" } else { "-rm" };
    let may =
        std::process::Command::new("unshare").args([options, "true"]).status().is_ok_and(|status| status.success());
    if !may {
        skip("this takes root");
    }
    may
}

/// A task that reads its input at a path that is only in its script, like most images.
fn hard_coded(rule: &str) -> Bench {
    let bench = Bench::with(json!(["python3", "-u", "start.py"]), rule);
    let script = "import os\n\
        data = bytearray(32 << 20) + open('/scans/patient-1/ct.dcm', 'rb').read()\n\
        open('/masks/size', 'w').write(f'{len(data)} {os.getcwd()}')\n";
    std::fs::write(bench.path("start.py"), script).unwrap();
    let task = read(&bench.path("task.json")).replace("/scans/patient-1", "none");
    std::fs::write(bench.path("task.json"), task).unwrap();
    bench
}

#[test]
fn a_task_that_names_no_channel_finds_them_at_their_own_paths() {
    if !may_mount() {
        return;
    }
    let bench = hard_coded("64*n");
    let result = bench.json(&[]);
    assert_eq!(result["outcome"], json!({"kind": "exited", "status": 0}));
    if result["peak"]["exactness"]["kind"] == "exact" {
        assert!(result["peak"]["bytes"].as_u64().unwrap() > 33 << 20, "{}", result["peak"]);
    }
    assert_eq!(result["subject"]["command"], json!(["python3", "-u", "start.py"]));
    let tells = |warning: &Value| warning["code"] == "namespaces" && warning["channels"] == true;
    assert!(result["warnings"].as_array().unwrap().iter().any(tells), "{result:#}");
    let here = bench.folder.path().canonicalize().unwrap();
    assert_eq!(read(&bench.path("made/out/size")), format!("{} {}", 33 << 20, here.display()));
    for path in ["/scans", "/masks"] {
        assert!(!Path::new(path).exists(), "{path} was left behind");
    }
}

#[test]
fn check_and_floor_measure_such_a_task_with_its_input() {
    if !may_mount() {
        return;
    }
    let bench = hard_coded("64*n");
    let config = "[tasks.segment]\ntask = \"task.json\"\nrunner = \"process\"\nbudget = \"16MiB\"\n";
    std::fs::write(bench.path("highwater.toml"), config).unwrap();
    let highwater = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(&bench.folder).args(words).output().unwrap()
    };
    let check = highwater(&["check", "--record", "runs.jsonl"]);
    // 33 MiB of data do not fit; samples may have missed them.
    let record: Value = serde_json::from_str(read(&bench.path("runs.jsonl")).lines().next().unwrap()).unwrap();
    assert_eq!(record["outcome"], json!({"kind": "exited", "status": 0}), "{check:?}");
    if record["peak"]["exactness"]["kind"] == "exact" {
        assert_eq!(check.status.code(), Some(1), "{check:?}");
        let words = ["floor", "--runner", "process", "--format", "json", "--precision", "20%", "task.json"];
        let floor: Value = serde_json::from_slice(&highwater(&words).stdout).unwrap();
        assert!(floor["floor_bytes"].as_u64().is_some_and(|floor| floor > 33 << 20), "{floor}");
    }
}

#[test]
fn the_input_of_such_a_task_is_read_only() {
    if !may_mount() {
        return;
    }
    let bench = Bench::with(json!(["sh", "start.sh"]), "n");
    std::fs::write(bench.path("start.sh"), "rm -r /scans/patient-1; test -e /scans/patient-1/ct.dcm").unwrap();
    bench.run(&[]).success();
    assert!(bench.path("in/patient-1/ct.dcm").exists());
}

#[test]
fn access_to_the_input_of_a_bare_command_is_chosen_only_where_it_can_be_granted() {
    for (words, help) in [
        ("--input-access watched -- true", "help: name them with --input"),
        ("--input-access private -- true", "help: describe the command in a task.json"),
        ("--input-access private --input . -- true", "help: describe the command in a task.json"),
    ] {
        let stderr = refused(words);
        assert!(stderr.contains(help), "{stderr}");
    }
}

#[test]
fn an_input_that_does_not_exist_is_refused_before_the_command_runs() {
    let stderr = refused("--input /no/such/scan -- touch /no/such/result");
    assert!(stderr.contains("/no/such/scan does not exist"), "{stderr}");
    assert!(!stderr.contains("touch"), "{stderr}");
}

/// What `run` with these words says as it ends with 2.
fn refused(words: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_highwater")).arg("run").args(words.split(' ')).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

/// The record of a bare command with these words of input.
fn recorded_with_input(bench: &Bench, words: &[&str], script: &str) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(&bench.folder).args(["run", "--format", "json", "--quiet", "--input"]).args(words);
    let output = command.args(["--", "sh", "-c", script]).output().unwrap();
    crate::harness::only_element(&output.stdout)
}

#[test]
fn the_sizes_of_a_bare_commands_input_are_those_before_it_ran() {
    let bench = Bench::new("true");
    std::fs::write(bench.path("atlas.nii.gz"), vec![7; 3000]).unwrap();
    let write = "rm -f in/patient-1/ct.dcm; true";
    let run = recorded_with_input(&bench, &["in"], "true");
    assert_eq!(run["inputs"][0]["all"]["sum"], 1 << 20, "{run:#}");
    assert_eq!(run["inputs"][0]["all"]["largest_item"], json!({"path": "patient-1", "bytes": 1 << 20}), "{run:#}");
    std::os::unix::fs::symlink("in", bench.path("staged")).unwrap();
    let run = recorded_with_input(&bench, &["staged"], "true");
    assert_eq!(run["inputs"][0]["all"]["sum"], 1 << 20, "a link as workflow engines make them: {run:#}");
    let run = recorded_with_input(&bench, &["in/patient-1", "atlas.nii.gz", "--input-access", "watched"], write);
    assert_eq!(run["inputs"][0]["channel"], "input", "{run:#}");
    assert_eq!(run["inputs"][0]["all"]["sum"], (1 << 20) + 3000, "{run:#}");
    assert_eq!(run["inputs"][0]["all"]["items"], 1, "{run:#}");
    assert_eq!(run["inputs"][0]["by_extension"]["nii.gz"]["sum"], 3000, "{run:#}");
    assert!(run["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == "input-changed"), "{run:#}");
}

#[test]
fn the_input_of_a_bare_command_is_read_only() {
    if !may_mount() {
        return;
    }
    let bench = Bench::new("true");
    let run = recorded_with_input(&bench, &["in"], "rm -r in; test -e in/patient-1/ct.dcm");
    assert_eq!(run["outcome"], json!({"kind": "exited", "status": 0}), "{run:#}");
    assert!(bench.path("in/patient-1/ct.dcm").exists());
}

/// Without permission to mount: in a user namespace that allows no mount namespaces.
fn without_mounts(bench: &Bench, words: &[&str]) -> Option<(i32, String)> {
    let highwater = env!("CARGO_BIN_EXE_highwater");
    let script = "echo 0 > /proc/sys/user/max_mnt_namespaces && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.current_dir(&bench.folder).args(["-r", "sh", "-c", script, highwater]).args(words);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if stderr.contains("max_mnt_namespaces") || stderr.starts_with("unshare: ") {
        skip(&format!("no user namespace without mounts can be had: {stderr}"));
        return None;
    }
    Some((output.status.code().unwrap(), stderr))
}

#[test]
fn where_nobody_may_mount_a_run_warns_that_the_task_may_find_no_input() {
    let bench = hard_coded("64*n");
    let words = ["run", "--runner", "process", "--cgroup", "never", "--record", "runs.jsonl", "task.json"];
    let Some((status, stderr)) = without_mounts(&bench, &words) else { return };
    assert_eq!(status, 1, "{stderr}");
    let expected =
        "failed to mount the input of the task at /scans, which neither its command nor its environment names";
    assert!(stderr.replace("\n  │ ", " ").contains(expected), "{stderr}");
    assert!(stderr.contains("help: name /scans in the `command`"), "{stderr}");
    let record: Value = serde_json::from_str(read(&bench.path("runs.jsonl")).trim()).unwrap();
    assert!(record["warnings"].to_string().contains("input-hidden"), "{record}");
    // Paths on the command line are still those of the host.
    let named = Bench::new("cat /scans/patient-1/ct.dcm > /masks/copy");
    let words = ["run", "--runner", "process", "--cgroup", "never", "task.json"];
    let Some((status, stderr)) = without_mounts(&named, &words) else { return };
    assert_eq!(status, 0, "{stderr}");
    assert!(!stderr.contains("failed to mount") && named.path("made/out/copy").exists(), "{stderr}");
}

#[test]
fn where_nobody_may_mount_sweep_check_and_floor_refuse_such_a_task() {
    let bench = hard_coded("64*n");
    std::fs::write(
        bench.path("highwater.toml"),
        "[tasks.segment]\ntask = \"task.json\"\nrunner = \"process\"\nbudget = \"1GiB\"\n",
    )
    .unwrap();
    for words in [
        &["sweep", "--runner", "process", "--cgroup", "never", "task.json"][..],
        &["floor", "--runner", "process", "task.json"],
        &["check"],
    ] {
        let Some((status, stderr)) = without_mounts(&bench, words) else { return };
        assert_eq!(status, 3, "{words:?}: {stderr}");
        assert!(stderr.contains("failed to mount the input of the task at /scans"), "{words:?}: {stderr}");
    }
    assert!(!bench.path("segment-lung.sweep").exists());
}

#[test]
fn a_run_that_failed_gets_no_verdict() {
    let result = Bench::new("python3 -c pass; exit 2").json(&[]);
    assert!(result["peak"]["bytes"].as_u64().unwrap() > 0);
    assert_eq!(result.get("comparison"), None);
    let stderr = String::from_utf8(Bench::new("exit 2").run(&[]).code(2).get_output().stderr.clone()).unwrap();
    assert!(!stderr.contains("Verdict") && stderr.contains("no verdict"), "{stderr}");
    let once = "python3 -c pass; if [ -e /masks/done ]; then exit 2; else : > /masks/done; fi";
    let several = Bench::new(once).run(&["-r", "3"]).code(2).get_output().stderr.clone();
    let several = String::from_utf8(several).unwrap();
    assert!(several.contains("3 runs (2 failed and are excluded): peaks from"), "{several}");
}
