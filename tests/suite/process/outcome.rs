//! How tasks end, and what is passed on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use highwater::model::observation::Outcome;

use super::trial::{command, workload};

#[test]
fn the_status_of_the_task_is_passed_on() {
    for status in [0, 1, 3, 125] {
        let ran = workload(&format!("exit {status}")).run();
        assert_eq!(ran.status(), status, "{ran:?}");
        assert_eq!(ran.observation().outcome, Outcome::Exited { status });
    }
}

#[test]
fn a_signal_that_ends_the_task_is_told_as_a_shell_tells_it() {
    for signal in [6, 9, 11, 15] {
        let ran = workload(&format!("signal {signal}")).run();
        assert_eq!(ran.status(), 128 + signal, "{ran:?}");
        assert_eq!(ran.observation().outcome, Outcome::Signalled { signal });
    }
}

#[test]
fn a_command_that_does_not_exist_is_127() {
    let ran = command(["/no/such/program"]).run();
    assert_eq!(ran.status(), 127, "{ran:?}");
    assert!(ran.stderr.contains("/no/such/program"), "{ran:?}");
    assert!(!ran.has_observation());
}

#[test]
fn a_command_that_is_not_executable_is_126() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
    let ran = command([script.to_str().unwrap()]).run();
    assert_eq!(ran.status(), 126, "{ran:?}");
    assert!(ran.stderr.contains("script"), "{ran:?}");
}

#[test]
fn output_and_errors_pass_through() {
    let ran = command(["/bin/sh", "-c", "echo output; echo errors >&2"]).run();
    assert_eq!(ran.stdout, "output\n");
    assert!(ran.stderr.starts_with("errors\n"), "{ran:?}");
}

#[test]
fn output_and_errors_go_to_files_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let ran =
        command(["/bin/sh", "-c", "echo output; echo errors >&2"]).with(["--log-dir", logs.to_str().unwrap()]).run();
    assert_eq!(ran.status(), 0, "{ran:?}");
    assert_eq!(ran.stdout, "");
    assert_eq!(fs::read_to_string(logs.join("stdout.log")).unwrap(), "output\n");
    assert_eq!(fs::read_to_string(logs.join("stderr.log")).unwrap(), "errors\n");
}

#[test]
fn a_record_gets_a_line_for_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("runs.jsonl");
    for _ in 0..2 {
        let ran = workload("exit 0").with(["--record", record.to_str().unwrap()]).run();
        assert_eq!(ran.status(), 0, "{ran:?}");
    }
    let lines = fs::read_to_string(&record).unwrap();
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let _: highwater::model::observation::Observation = serde_json::from_str(line).unwrap();
    }
}
