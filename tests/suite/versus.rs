//! `run --vs`: two commands in turns.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::skip;

const SMALL: &str = "head -c 10M /dev/zero | tail > /dev/null";
const LARGE: &str = "sh -c 'head -c 30M /dev/zero | tail > /dev/null'";

fn versus(options: &[&str], other: &str, script: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.arg("run").args(options).args(["--vs", other, "--", "sh", "-c", script]);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_ratio_of_memory_is_told_with_its_interval() {
    if !nix::unistd::geteuid().is_root() {
        skip("no peak is exact here");
        return;
    }
    let output = versus(&["-r", "6", "--format", "json"], LARGE, SMALL);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((result["a"].as_array().unwrap().len(), result["b"].as_array().unwrap().len()), (6, 6));
    let interval: Vec<f64> = serde_json::from_value(result["ratios"]["peak"]["interval"].clone()).unwrap();
    assert!(interval[0] > 1.5 && interval[1] < 4.0, "{interval:?}");
    // They take turns at going first.
    let started = |which: &str, round: usize| result[which][round]["started_at"].as_str().unwrap().to_owned();
    assert!(started("a", 0) < started("b", 0) && started("b", 1) < started("a", 1));
    let shown = text(&versus(&["-r", "6", "-q"], LARGE, SMALL).stdout);
    assert!(shown.contains("B needs more memory than A: "), "{shown}");
    let same = text(&versus(&["-r", "6", "-q"], "true", "true").stdout);
    assert!(same.contains("no difference in memory beyond the error of a peak"), "{same}");
    let few = text(&versus(&["-r", "2", "-q"], LARGE, SMALL).stdout);
    assert!(few.contains("too few rounds to tell: an interval takes 6"), "{few}");
}

#[test]
fn nothing_is_compared_if_one_fails() {
    let output = versus(&["-q"], "sh -c 'exit 7'", "true");
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stdout.is_empty());
    assert!(
        text(&output.stderr).contains("cannot compare: a run of B failed: exited with status 7"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_output_of_both_is_kept_and_their_inputs_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("data"), "1234").unwrap();
    let options = ["-r", "1", "-q", "--log-dir", &at("logs"), "--record", &at("runs.jsonl"), "--input", &at("data")];
    let output = versus(&options, "echo B", "echo A");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let logs = std::fs::read_dir(at("logs")).unwrap().map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap());
    let mut logs: Vec<String> = logs.filter(|log| !log.is_empty()).collect();
    logs.sort();
    assert_eq!(logs, ["A\n", "B\n"]);
    for line in std::fs::read_to_string(at("runs.jsonl")).unwrap().lines() {
        let run: Value = serde_json::from_str(line).unwrap();
        assert_eq!(run["inputs"][0]["all"]["sum"], 4, "{line}");
    }
}

#[test]
fn more_rounds_than_can_be_compared_are_refused() {
    let output = versus(&["-r", "501"], "true", "echo ran >&2");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("501 rounds are too many for --vs"), "{}", text(&output.stderr));
}

#[test]
fn a_command_that_no_shell_would_take_is_refused() {
    for other in ["", "  ", "sort 'data"] {
        let output = versus(&[], other, "echo ran >&2");
        assert_eq!(output.status.code(), Some(2), "{other}");
        assert!(
            text(&output.stderr).contains("--vs is empty, or a quote in it is not closed"),
            "{}",
            text(&output.stderr)
        );
        assert!(!text(&output.stderr).contains("ran"), "{other}");
    }
}
