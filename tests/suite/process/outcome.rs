//! How tasks end, and what is passed on.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use highwater::model::observation::{Cache, Dropped, Outcome};

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

#[test]
fn runs_that_warm_up_are_neither_recorded_nor_shown() {
    let folder = tempfile::tempdir().unwrap();
    for (options, started) in [(&["--warmup", "2"][..], 4), (&["--cache", "warm"], 3), (&["--warmup", "1"], 3)] {
        let file = folder.path().join(options.join(""));
        let task = format!("echo >> {}; echo shown", file.display());
        let ran = command(["sh", "-c", &task]).with(["-r", "2"]).with(options).run();
        assert_eq!((ran.status(), ran.stdout.as_str()), (0, "shown\nshown\n"), "{ran:?}");
        assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), started);
        let observations = ran.observations();
        assert_eq!(observations.len(), 2);
        let is_warm = options.contains(&"warm");
        assert!(observations.iter().all(|one| one.cache == is_warm.then_some(Cache::Warm)), "{observations:?}");
    }
}

#[test]
fn the_page_cache_of_a_command_is_dropped_by_root_only() {
    let ran = command(["true"]).with(["--cache", "cold"]).run();
    if ran.status() == 0 {
        assert_eq!(ran.observation().cache, Some(Cache::Cold { dropped: Dropped::Everything }));
    } else {
        assert_eq!(ran.status(), 125, "{ran:?}");
        assert!(ran.stderr.contains("failed to drop the page cache") && !ran.has_observation(), "{ran:?}");
    }
}
