//! The minimum limit, enforced by the kernel of this machine.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::peak::folder_on_a_disk;
use super::trial::{Host, MIB};
use crate::harness::skip;

fn workload() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_highwater")).with_file_name("examples").join("workload");
    assert!(program.exists(), "the workload is missing: cargo build --example workload");
    program.into_os_string().into_string().unwrap()
}

fn floor(options: &[&str], task: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.arg("floor").args(options).arg("--").args(task);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The result; `None` if limits are not available, which must be reported.
fn found(options: &[&str], task: &[&str]) -> Option<Value> {
    let output = floor(&[options, &["--format", "json"]].concat(), task).output().unwrap();
    if !Host::here().has_cgroups() {
        assert_refused(&output);
        return None;
    }
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[track_caller]
fn assert_refused(output: &Output) {
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("limits need a cgroup") && stderr.contains("help:"), "{stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

fn bytes(found: &Value, field: &str) -> u64 {
    found[field].as_u64().unwrap_or_else(|| panic!("{field} in {found:#}"))
}

#[test]
fn page_cache_is_in_the_peak_and_not_in_the_floor() {
    let folder = folder_on_a_disk();
    let file = folder.path().join("cold");
    fs::write(&file, vec![7_u8; 100 << 20]).unwrap();
    let Some(found) = found(&[], &[&workload(), "hold", "100", file.to_str().unwrap()]) else { return };
    assert!(bytes(&found, "floor_bytes") >= 100 * MIB, "{found:#}");
    assert!(bytes(&found, "floor_bytes") <= 105 * MIB, "{found:#}");
    assert!(bytes(&found, "not_enough_bytes") < bytes(&found, "floor_bytes"), "{found:#}");
    if Host::here().is_exact() {
        assert!(bytes(&found, "peak_bytes") >= 200 * MIB, "{found:#}");
        assert!(bytes(&found, "reclaimable_bytes") >= 70 * MIB, "{found:#}");
    }
}

#[test]
fn a_task_of_anonymous_memory_has_its_peak_for_a_floor() {
    let Some(found) = found(&["--confirm", "2"], &[&workload(), "touch", "60", "1"]) else { return };
    let floor = bytes(&found, "floor_bytes");
    assert!((60 * MIB..=63 * MIB).contains(&floor), "{found:#}");
    let tries = found["tries"].as_array().unwrap();
    assert!(tries.iter().any(|one| one["result"] == "oom-killed" && one["enough"] == false), "{found:#}");
    for one in tries {
        let (limit, enough) = (bytes(one, "limit_bytes"), one["enough"] == true);
        assert!(enough || limit < floor, "{found:#}");
    }
}

#[test]
fn a_child_that_is_killed_is_missed_unless_that_is_allowed() {
    let script = format!("{} touch 40 0; exit 0", workload());
    let task = ["/bin/sh", "-c", &script];
    let Some(strict) = found(&["--confirm", "1", "--precision", "20%"], &task) else { return };
    assert!(bytes(&strict, "floor_bytes") >= 40 * MIB, "{strict:#}");
    let options = ["--confirm", "1", "--precision", "20%", "--allow-oom-of-children"];
    let lenient = found(&options, &task).unwrap();
    assert!(bytes(&lenient, "floor_bytes") < 20 * MIB, "{lenient:#}");
}

#[test]
fn a_task_that_fails_without_a_limit_has_no_floor() {
    let output = floor(&[], &[&workload(), "exit", "3"]).output().unwrap();
    if !Host::here().has_cgroups() {
        return assert_refused(&output);
    }
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("exited with status 3"), "{stderr}");
}

#[test]
fn ctrl_c_shows_what_was_found_so_far_and_keeps_the_record() {
    if !Host::here().has_cgroups() {
        return skip("no cgroup can be made");
    }
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("runs.jsonl");
    let options = ["--format", "json", "--record", record.to_str().unwrap()];
    let child = floor(&options, &[&workload(), "touch", "64", "300"]).spawn().unwrap();
    let lines = || fs::read_to_string(&record).unwrap_or_default().lines().count();
    let started = Instant::now();
    // One run without a limit, and two with one.
    while lines() < 3 {
        assert!(started.elapsed() < Duration::from_secs(60), "no tries");
        thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["end"], &found["floor_bytes"]), (&"interrupted".into(), &Value::Null), "{found:#}");
    assert!(bytes(&found, "not_enough_bytes") < bytes(&found, "enough_bytes"), "{found:#}");
    assert!(lines() >= 3);
}
