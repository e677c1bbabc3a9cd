//! However a run ends, it is reported, and nothing is left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::*;

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
        assert_eq!(killed.status, Some(137), "{probe} {}", killed.stderr);
        // Podman does not report it, and its container may be gone before it is found.
        if probe == "never" && !is_docker() {
            continue;
        }
        assert_eq!(killed.json["outcome"]["kind"], "oom-killed", "{probe} {:#}", killed.json);
        assert_eq!(killed.json["censored"], true, "{:#}", killed.json);
        let of_child = ran(&["--probe", probe, "--limit", "30Mi", "--image", "tiny", "--", "/task", "child", "100"]);
        assert_eq!(of_child.json["outcome"]["status"], 0, "{probe} {:#}", of_child.json);
        assert_eq!(of_child.json["censored"], true, "{probe} {:#}", of_child.json);
        assert!(of_child.json["warnings"].to_string().contains(r#""code":"oom-kill"#), "{:#}", of_child.json);
    }
}

#[test]
fn what_a_killed_highwater_leaves_is_cleaned_up() {
    engine_or_skip!();
    let mut child = run(&["--quiet", "--label", "left=behind", "--image", "shell-form", "--"])
        .args(["/bin/sh", "-c", "echo ready; exec /task stay"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(containers_with("left=behind"), "");
    let shown = highwater().args(["clean", "--dry-run"]).output().unwrap();
    assert!(text(&shown.stdout).contains("would remove container"), "{shown:?}");
    let cleaned = highwater().arg("clean").output().unwrap();
    assert!(cleaned.status.success(), "{cleaned:?}");
    assert!(text(&cleaned.stdout).contains("removed container"), "{cleaned:?}");
    assert_eq!(containers_with("left=behind"), "");
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
        "$0" run --network host --record "$1" --image tiny -- /task touch 50 60000 > /dev/null 2> "$1.err" & run=$!
        until [ -n "$(docker ps -q)" ]; do sleep 0.1; done
        sleep 0.5
        kill -9 $HIGHWATER_TEST_ENGINE_PID
        wait $run; echo "status $?"
        find /sys/fs/cgroup -maxdepth 3 -name "highwater?$run?*"
        cat "$1.err" >&2"#;
    let output = Command::new(engine)
        .args(["--only", "tiny", "--", "sh", "-c", script])
        .arg(program)
        .arg(&record)
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "status 3\n", "{}", text(&output.stderr));
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&record).unwrap()).unwrap();
    assert_eq!(kept["outcome"]["kind"], "engine-lost");
    assert!(kept["peak"]["bytes"].as_u64().unwrap() >= 50 * MIB, "{kept:#}");
    assert_eq!(kept["peak"]["exactness"]["kind"], "lower-bound");
}

/// A dockerd under SIGSTOP accepts connections and answers nothing.
#[test]
fn an_engine_that_is_stopped_is_left_and_the_record_kept() {
    engine_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let program = highwater().get_program().to_owned();
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engine/run");
    // A task that stays and one that ends by itself; stopped by the time-out, SIGTERM, SIGINT twice, and not at all.
    let script = r#"
        cd "$1"
        # A stopped engine cannot be ended.
        trap 'kill -CONT $HIGHWATER_TEST_ENGINE_PID' EXIT
        # A shell lets what runs in the background ignore SIGINT.
        run() {
            env --default-signal=INT "$program" run --network host --quiet --kill-after 1s --image tiny "$@" > /dev/null &
            run=$!
        }
        stopped() {
            until [ -n "$(docker ps -q)" ]; do sleep 0.1; done
            sleep 0.5
            kill -STOP $HIGHWATER_TEST_ENGINE_PID
        }
        ended() {
            wait $run; echo "$1: status $?"
            kill -CONT $HIGHWATER_TEST_ENGINE_PID
            until "$program" clean > /dev/null && [ -z "$(docker ps -aq)" ]; do sleep 0.1; done
        }
        program=$0
        run --record timeout --timeout 2s -- /task stay; stopped; ended timeout
        run --record term -- /task stay; stopped; kill -TERM $run; ended term
        run --record int -- /task stay; stopped; kill -INT $run; sleep 0.5; kill -INT $run; ended int
        run --record itself -- /task touch 50 2000; stopped; ended itself
        find /sys/fs/cgroup -maxdepth 3 -name "highwater?*" | grep "highwater[-_]$run[-_]""#;
    let output = Command::new(engine)
        .args(["--only", "tiny", "--", "timeout", "400", "bash", "-c", script])
        .arg(program)
        .arg(folder.path())
        .output()
        .unwrap();
    let expected = "timeout: status 3\nterm: status 3\nint: status 3\nitself: status 3\n";
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    for (name, peak) in [("timeout", 0), ("term", 0), ("int", 0), ("itself", 50)] {
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join(name)).unwrap()).unwrap();
        assert_eq!(kept["outcome"]["kind"], "engine-lost", "{name}: {kept:#}");
        assert_eq!(kept["container"]["unanswered"][0], "report the end of the container", "{name}: {kept:#}");
        if is_docker() {
            assert!(kept["peak"]["bytes"].as_u64().unwrap() >= peak * MIB, "{name}: {kept:#}");
        }
    }
}
