//! Containers, on the engine that `tests/engine/run` has started. Without it these tests are skipped, and say so.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The tests with an engine; `None` says that they are skipped.
macro_rules! engine_or_skip {
    () => {
        match std::env::var("HIGHWATER_TEST_ENGINE") {
            Ok(url) => url,
            Err(_) => {
                eprintln!("skipped: no engine (use tests/engine/run)");
                return;
            }
        }
    };
}

mod floor;

/// How many runs make "always"; more where there is time.
fn runs() -> usize {
    std::env::var("HIGHWATER_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5)
}

/// Where the peak is read when it is left to highwater: Podman's monitor would be in a cgroup around the container.
fn from_outside() -> &'static str {
    if std::env::var("HIGHWATER_TEST_KIND").is_ok_and(|kind| kind == "podman") { "probe" } else { "parent-cgroup" }
}

fn highwater() -> Command {
    let program = std::env::var_os("HIGHWATER_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_highwater").into());
    Command::new(program)
}

/// `highwater run` with what is usual here, and then these words.
fn run(words: &[&str]) -> Command {
    let mut command = highwater();
    command.args(["run", "--network", "none", "--pull", "never"]).args(words);
    command
}

/// What came of it, and its record.
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    json: Value,
}

fn ran(words: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let output = run(&["--format", "json", "--output", file.to_str().unwrap()]).args(words).output().unwrap();
    let json = std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str(&text).ok());
    Ran {
        status: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        json: json.unwrap_or_default(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn docker(words: &[&str]) -> Output {
    Command::new("docker").args(words).output().unwrap()
}

/// The cgroups of a process number in all hierarchies.
fn cgroups_of(pid: u32) -> Vec<String> {
    let names = format!("find /sys/fs/cgroup -maxdepth 3 -name 'highwater-{pid}-*' -o -name 'highwater_{pid}_*'");
    let found = Command::new("sh").args(["-c", &names]).output().unwrap();
    text(&found.stdout).lines().map(str::to_owned).collect()
}

fn containers_of(image: &str) -> String {
    text(&docker(&["ps", "-aq", "--filter", &format!("ancestor={image}")]).stdout)
}

fn assert_exact(run: &Value, source: &str, expected_mib: u64) {
    let peak = &run["peak"];
    assert_eq!((&peak["source"], &peak["exactness"]["kind"]), (&Value::from(source), &Value::from("exact")), "{run:#}");
    let bytes = peak["bytes"].as_u64().unwrap();
    // The program itself, and what runc and the probe need, are in it.
    assert!(
        (expected_mib * MIB..=(expected_mib + 6) * MIB).contains(&bytes),
        "{bytes} is not about {expected_mib} MiB"
    );
}

fn every_run_is_exact(source: &str, more: &[&str]) {
    let count = runs().to_string();
    for (mib, words) in [(200, ["/task", "touch", "200", "5"]), (0, ["/task", "touch", "0", "0"])] {
        let words = [&["-r", count.as_str(), "--image", "exec-form"], more, &["--"], &words].concat();
        let ran = ran(&words);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let all = match &ran.json {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        assert_eq!(all.len(), runs());
        all.iter().for_each(|run| assert_exact(run, source, mib));
    }
}

#[test]
fn every_run_is_exact_through_a_cgroup_around_the_container() {
    engine_or_skip!();
    every_run_is_exact(from_outside(), &[]);
}

#[test]
fn every_run_is_exact_through_the_probe_alone() {
    engine_or_skip!();
    every_run_is_exact("probe", &["--probe", "always"]);
}

#[test]
fn every_run_is_exact_beside_busy_neighbours() {
    engine_or_skip!();
    let mut hogs: Vec<_> =
        (0..4).map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()).collect();
    let result = std::panic::catch_unwind(|| {
        every_run_is_exact(from_outside(), &[]);
        every_run_is_exact("probe", &["--probe", "always"]);
    });
    for hog in &mut hogs {
        hog.kill().unwrap();
        hog.wait().unwrap();
    }
    result.unwrap();
}

#[test]
fn without_an_exact_way_the_peak_is_a_lower_bound_or_unknown() {
    let url = engine_or_skip!();
    // Through another address that is not one of this machine's sockets.
    let port = 20_000 + std::process::id() % 20_000;
    let mut relay = relay(&url, port);
    let host = format!("tcp://127.0.0.1:{port}");
    let remote =
        ran(&["--host", &host, "--image", "exec-form", "--probe", "never", "--", "/task", "touch", "20", "300"]);
    let probed = ran(&["--host", &host, "--image", "exec-form", "--", "/task", "touch", "20", "5"]);
    relay.kill().unwrap();
    relay.wait().unwrap();
    assert_eq!(remote.json["peak"]["exactness"]["kind"], "lower-bound", "{:#}", remote.json);
    assert_eq!(remote.json["peak"]["source"], "container-cgroup", "{:#}", remote.json);
    assert_exact(&probed.json, "probe", 20);
}

/// Passes connections to a port on to the engine's socket; ready when this returns.
fn relay(url: &str, port: u32) -> std::process::Child {
    let socket = url.strip_prefix("unix://").unwrap();
    let script = format!(
        "import socket, threading\n\
         s = socket.create_server(('127.0.0.1', {port}))\n\
         print('ready', flush=True)\n\
         def pump(a, b):\n\
         \twhile True:\n\
         \t\ttry: d = a.recv(65536)\n\
         \t\texcept OSError: d = b''\n\
         \t\tif not d: break\n\
         \t\tb.sendall(d)\n\
         \ttry: b.shutdown(socket.SHUT_WR)\n\
         \texcept OSError: pass\n\
         while True:\n\
         \tc, _ = s.accept()\n\
         \te = socket.socket(socket.AF_UNIX); e.connect('{socket}')\n\
         \tfor p in ((c, e), (e, c)): threading.Thread(target=pump, args=p, daemon=True).start()\n"
    );
    let mut relay = Command::new("python3").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(relay.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    relay
}

#[test]
fn containers_behave_under_the_probe_as_without() {
    engine_or_skip!();
    let cases: &[(&str, &[&str])] = &[
        ("tiny", &[]),
        ("bare", &["/task", "exit", "7"]),
        ("exec-form", &[]),
        ("shell-form", &[]),
        ("entrypoint", &[]),
        ("entrypoint", &["facts", "of", "the", "caller"]),
        ("entrypoint", &["exit", "0"]),
        ("entrypoint", &["exit", "1"]),
        ("entrypoint", &["exit", "137"]),
        ("entrypoint", &["raise", "11"]),
        ("path", &[]),
        ("as-user", &[]),
        ("as-number", &[]),
        ("workdir", &[]),
        ("exec-form", &["/no/such/program"]),
        ("exec-form", &["no-such-program"]),
        ("exec-form", &["/etc/passwd"]),
    ];
    for (image, words) in cases {
        let plain = docker(&[&["run", "--rm", "--network", "none", image], *words].concat());
        for probe in ["never", "always"] {
            let own = ran(&[&["--image", image, "--probe", probe, "--"], *words].concat());
            assert_eq!(own.status, plain.status.code(), "{image} {words:?} --probe {probe}: {}", own.stderr);
            assert_eq!(own.stdout, text(&plain.stdout), "{image} {words:?} --probe {probe}");
        }
    }
}

#[test]
fn signals_reach_the_task_and_are_passed_on_by_the_probe() {
    engine_or_skip!();
    for probe in ["never", "always"] {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("runs.jsonl");
        let words = ["--quiet", "--record", record.to_str().unwrap(), "--probe", probe, "--image", "tiny", "--"];
        let mut child = run(&words).args(["/task", "wait"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
        assert_eq!(kept["outcome"]["kind"], "interrupted");
        let log = kept["logs"]["stdout"].as_str().unwrap();
        assert_eq!(std::fs::read_to_string(log).unwrap(), "ready\n");
        assert!(cgroups_of(child.id()).is_empty());
    }
}

#[test]
fn time_outs_and_lack_of_memory_are_told_apart() {
    engine_or_skip!();
    for probe in ["never", "always"] {
        let timed_out = ran(&[
            "--probe",
            probe,
            "--timeout",
            "300ms",
            "--kill-after",
            "100ms",
            "--image",
            "tiny",
            "--",
            "/task",
            "stay",
        ]);
        assert_eq!(timed_out.status, Some(124), "{}", timed_out.stderr);
        let killed = ran(&["--probe", probe, "--limit", "30Mi", "--image", "tiny", "--", "/task", "touch", "100", "0"]);
        assert_eq!(killed.json["outcome"]["kind"], "oom-killed", "{probe} {:#}", killed.json);
        assert_eq!((killed.status, &killed.json["censored"]), (Some(137), &Value::from(true)));
        let of_child = ran(&["--probe", probe, "--limit", "30Mi", "--image", "tiny", "--", "/task", "child", "100"]);
        assert_eq!(of_child.json["outcome"]["status"], 0, "{probe} {:#}", of_child.json);
        assert_eq!(of_child.json["censored"], true, "{probe} {:#}", of_child.json);
        assert!(of_child.json["warnings"].to_string().contains("for lack of memory"), "{:#}", of_child.json);
    }
}

#[test]
fn what_a_killed_highwater_leaves_is_cleaned_up() {
    engine_or_skip!();
    let mut child = run(&["--quiet", "--image", "shell-form", "--"])
        .args(["/bin/sh", "-c", "echo ready; exec /task stay"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!containers_of("shell-form").is_empty());
    let shown = highwater().args(["clean", "--dry-run"]).output().unwrap();
    assert!(text(&shown.stdout).contains("would remove container"), "{shown:?}");
    let cleaned = highwater().arg("clean").output().unwrap();
    assert!(cleaned.status.success(), "{cleaned:?}");
    assert!(text(&cleaned.stdout).contains("removed container"), "{cleaned:?}");
    assert_eq!(cgroups_of(child.id()), Vec::<String>::new());
}

#[test]
fn an_engine_that_is_killed_is_told_and_the_record_kept() {
    engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("runs.jsonl");
    let program = highwater().get_program().to_owned();
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/run");
    let script = r#"
        "$0" run --network none --record "$1" --image tiny -- /task touch 50 60000 > /dev/null 2> "$1.err" & run=$!
        until [ -n "$(docker ps -q)" ]; do sleep 0.1; done
        sleep 0.5
        kill -9 $HIGHWATER_TEST_ENGINE_PID
        wait $run; echo "status $?"
        find /sys/fs/cgroup -maxdepth 3 -name "highwater?$run?*"
        cat "$1.err" >&2"#;
    let output = Command::new(engine).args(["sh", "-c", script]).arg(program).arg(&record).output().unwrap();
    assert_eq!(text(&output.stdout), "status 3\n", "{}", text(&output.stderr));
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    assert_eq!(kept["outcome"]["kind"], "engine-lost");
    assert!(kept["peak"]["bytes"].as_u64().unwrap() >= 50 * MIB, "{kept:#}");
    assert_eq!(kept["peak"]["exactness"]["kind"], "lower-bound");
}

#[test]
fn runs_at_the_same_time_do_not_see_each_other() {
    engine_or_skip!();
    let sizes = [40, 120];
    let threads = sizes.map(|mib| {
        std::thread::spawn(move || {
            let mib_text = mib.to_string();
            (0..3).for_each(|_| {
                let ran = ran(&["--image", "tiny", "--", "/task", "touch", &mib_text, "200"]);
                assert_exact(&ran.json, from_outside(), mib);
            });
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_processing_container_of_each_dialect_runs_from_its_task() {
    engine_or_skip!();
    for image in ["documented", "released"] {
        let folder = tempfile::tempdir().unwrap();
        let (scans, copies) = (folder.path().join("scans"), folder.path().join("made/copies"));
        std::fs::create_dir(&scans).unwrap();
        std::fs::write(scans.join("a.nii"), vec![1; 8 << 20]).unwrap();
        let place = |path: &Path| {
            if image == "documented" {
                format!(r#""input": {{"host_path": {path:?}}}"#)
            } else {
                format!(r#""volume_source": {{"host_path": {path:?}}}"#)
            }
        };
        let version = if image == "documented" { "" } else { r#", "api_version": 1"# };
        let task = folder.path().join("task.json");
        let (scans, place_of_copies) = (place(&scans), place(&copies));
        let json = format!(
            r#"{{"name": "copy", "image": "{image}", "taskTemplate": "copy", "inputs": [{{"name": "scans", {scans}}}],
                "outputs": [{{"name": "copies", {place_of_copies}}}]{version}}}"#
        );
        std::fs::write(&task, json).unwrap();
        let ran = ran(&[task.to_str().unwrap()]);
        assert_eq!(ran.status, Some(0), "{}", ran.stderr);
        let peak = &ran.json["peak"];
        assert_eq!((&peak["source"], &peak["exactness"]["kind"]), (&from_outside().into(), &"exact".into()));
        // What is read, and what is written as long as it is in the page cache.
        assert!((8 * MIB..=40 * MIB).contains(&peak["bytes"].as_u64().unwrap()), "{:#}", ran.json);
        assert!(!ran.json["comparison"].is_null(), "{:#}", ran.json);
        assert_eq!(std::fs::metadata(copies.join("copy")).unwrap().len(), 8 << 20);
        let printed = highwater().args(["processing-container", image]).output().unwrap();
        assert!(text(&printed.stdout).contains("\"copier\""), "{printed:?}");
    }
}

#[test]
fn bad_input_is_told_with_its_remedy() {
    let url = engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below_a_file = format!("{}:/out", file.join("out").display());
    let missing = format!("{}:/in:ro", folder.path().join("scans").display());
    let taken = docker(&["create", "--name", "taken", "tiny"]);
    assert!(taken.status.success());
    let cases: &[&[&str]] = &[
        &["--image", "no/such:image"],
        &["--image", "tiny", "--mount", &missing],
        &["--image", "tiny", "--mount", &below_a_file],
        &["--image", "tiny", "--limit", "5Mi"],
        &["--image", "tiny", "--name", "taken"],
        &["--image", "tiny", "--label", "highwater.owner=me"],
        &["--image", "bare"],
        &["--image", "tiny", "--", "/no/such/program"],
        &["--image", "tiny", "--host", "unix:///no/such.sock"],
        &["--image", "tiny", "--host", "ssh://somewhere"],
        &["--image", "tiny", "--mount", "relative:also"],
    ];
    let mut all = String::new();
    for case in cases {
        let output = run(&[]).args(*case).output().unwrap();
        all.push_str(&format!("$ highwater run {}\n{}{}\n\n", case.join(" "), text(&output.stderr), output.status));
    }
    for image in ["tiny", "flawed"] {
        let output = highwater().args(["processing-container", image]).output().unwrap();
        all.push_str(&format!(
            "$ highwater processing-container {image}\n{}{}\n\n",
            text(&output.stderr),
            output.status
        ));
    }
    assert!(docker(&["rm", "taken"]).status.success());
    let all = all.replace(&folder.path().display().to_string(), "FOLDER").replace(&url, "ENGINE");
    insta::assert_snapshot!(all);
}
