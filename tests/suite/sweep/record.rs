//! The record of a sweep if another process moves it, or a file size limit is reached.

use std::fs;
use std::process::Command;

use super::Bench;
use highwater::store;

/// A sweep of three runs, the second of which runs `script` in the directory.
fn disturbed(bench: &Bench, script: &str, more: &[&str]) -> super::Ran {
    let script = format!("[ {{RUN}} = 2 ] && cd {} && {{ {script}; }}; exit 0", bench.path().display());
    let words = [&["--into", "swept", "-P", "RUN=1,2,3"], more, &["--", "sh", "-c", &script]].concat();
    bench.sweep(&words)
}

#[test]
fn a_record_that_is_moved_or_removed_ends_the_sweep() {
    for script in [
        "mv swept/observations.jsonl elsewhere.jsonl",
        "rm swept/observations.jsonl",
        "cp swept/observations.jsonl copy && mv copy swept/observations.jsonl",
        "mv swept moved",
    ] {
        let bench = Bench::new();
        let ran = disturbed(&bench, script, &[]);
        assert_eq!(ran.status, Some(3), "{script}: {}", ran.stderr);
        assert!(ran.stderr.contains("was moved, replaced or removed"), "{script}: {}", ran.stderr);
        assert!(!ran.stderr.contains("3/3"), "no other run begins: {}", ran.stderr);
    }
}

#[test]
fn a_record_that_was_moved_has_all_runs_so_far_and_the_sweep_goes_on_with_it() {
    let bench = Bench::new();
    disturbed(&bench, "mv swept/observations.jsonl elsewhere.jsonl", &[]);
    assert_eq!(bench.records("elsewhere.jsonl").len(), 2);
    fs::rename(bench.path().join("elsewhere.jsonl"), bench.path().join("swept/observations.jsonl")).unwrap();
    bench.done(&["--into", "swept"]);
    assert_eq!(bench.records("swept").len(), 3);
}

#[test]
fn a_folder_that_was_moved_is_not_made_again() {
    let bench = Bench::new();
    let staging = bench.path().join("staging");
    disturbed(&bench, "mv swept moved", &["--staging", staging.to_str().unwrap()]);
    assert!(!bench.path().join("swept").exists());
    assert_eq!(bench.records("moved").len(), 2);
}

#[test]
fn a_record_that_is_removed_in_the_last_run_is_not_status_0() {
    for words in [&["--quiet"][..], &[]] {
        let bench = Bench::new();
        let script = format!("rm {}/swept/observations.jsonl", bench.path().display());
        let ran = bench.sweep(&[&["--into", "swept"], words, &["--", "sh", "-c", &script]].concat());
        assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    }
}

#[test]
fn the_record_of_a_run_that_is_removed_is_status_125_and_the_result_is_shown() {
    let bench = Bench::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.current_dir(bench.path()).args(["run", "--record", "r.jsonl", "--", "rm", "r.jsonl"]);
    let ran = super::Ran::of(&command.output().unwrap());
    assert_eq!(ran.status, Some(125), "{}", ran.stderr);
    assert!(ran.stderr.contains("was moved, replaced or removed") && ran.stderr.contains("peak"), "{}", ran.stderr);
}

#[test]
fn at_the_limit_on_the_size_of_files_nothing_is_torn_and_the_sweep_goes_on_beyond_it() {
    let bench = Bench::new();
    let mut limited = Command::new("sh");
    let script = "ulimit -f 8; exec \"$0\" sweep --into swept -r 20 -- true";
    limited.args(["-c", script, env!("CARGO_BIN_EXE_highwater")]).current_dir(bench.path());
    let ran = super::Ran::of(&limited.output().unwrap());
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("File too large") && ran.stderr.contains("ulimit -f"), "{}", ran.stderr);
    let recorded = bench.records("swept").len();
    assert!((1..20).contains(&recorded), "{recorded}");
    assert!(fs::read(bench.path().join("swept").join(store::OBSERVATIONS)).unwrap().ends_with(b"\n"));
    bench.done(&["--into", "swept"]);
    assert_eq!(bench.records("swept").len(), 20);
}
