//! Every kind of invalid input is reported once, clearly, and with a remedy.

use std::fs;
use std::process::Command;

use super::{Bench, snapshot};

/// The output of each of these, and its exit status.
fn told(bench: &Bench, all: &[&[&str]]) -> String {
    let mut text = String::new();
    for words in all {
        let ran = bench.sweep(words);
        text.push_str(&format!(
            "$ highwater sweep {}\n{}[{}]\n\n",
            words.join(" "),
            ran.stderr,
            ran.status.unwrap_or(-1)
        ));
    }
    text.replace(bench.path().to_str().unwrap(), "[folder]")
}

#[test]
fn bad_input_is_told_with_its_remedy() {
    let bench = Bench::with_items(3, 10);
    bench.write("flat/a.txt", 10);
    bench.write("atlas/a", 10);
    bench.task("true");
    fs::create_dir(bench.path().join("empty")).unwrap();
    let task = ["task.json", "--runner", "process"];
    let of_task = |more: &[&'static str]| [&task[..], more].concat();
    let all: Vec<Vec<&str>> = vec![
        vec!["lungs.toml"],
        vec!["-P", "N=", "--", "echo", "{N}"],
        vec!["--scan", "N=5:1:1", "--", "echo", "{N}"],
        vec!["-P", "A=1,2", "-P", "B=1", "--pair", "--", "echo", "{A}", "{B}"],
        vec!["-P", "N=1", "--", "echo"],
        vec!["--input", "scans", "--", "echo"],
        vec!["--", "echo", "{input}"],
        vec!["--input", "missing", "--", "echo", "{input}"],
        vec!["--input", "flat", "--items", "1", "--", "echo", "{input}"],
        vec!["--input", "empty", "--grow", "2", "--", "echo", "{input}"],
        vec!["--input", "scans", "--items", "1,4", "--", "echo", "{input}"],
        vec!["--input", "empty", "--size", "1KiB", "--", "echo", "{input}"],
        of_task(&["--input", "scan=scans"]),
        of_task(&["--input", "scans"]),
        of_task(&["--input", "scans=scans", "flat", "--input", "atlas=atlas", "atlas", "atlas"]),
        of_task(&["--size", "1KiB"]),
        of_task(&["-P", "LEVLE=1"]),
        of_task(&["-P", "MODE=slow"]),
        of_task(&["-P", "LEVEL=high"]),
        vec!["--cell-index", "7", "--", "true"],
        vec!["--cell", "ffff", "--", "true"],
        vec!["--into", "nowhere"],
        vec!["--into", "flat", "--", "true"],
        vec!["--items", "0", "--", "true"],
        vec!["--min-runs", "5", "--max-runs", "3", "--", "true"],
        vec!["--into", "none", "--dry-run", "--", ""],
    ];
    let all: Vec<&[&str]> = all.iter().map(Vec::as_slice).collect();
    snapshot("bad_input_is_told_with_its_remedy", &told(&bench, &all));
}

#[test]
fn nothing_is_left_of_a_run_that_could_not_begin() {
    let bench = Bench::new();
    for words in [&["--", "no-such-program"][..], &["--prepare", "false", "--", "true"]] {
        let ran = bench.sweep(&[&["--into", "records"], words].concat());
        assert_ne!(ran.status, Some(0), "{}", ran.stderr);
        assert_eq!(fs::read_dir(bench.path().join("records/runs")).unwrap().count(), 0, "{}", ran.stderr);
    }
}

#[test]
fn records_that_are_not_of_this_task_or_broken_are_told() {
    let bench = Bench::new();
    bench.done(&["-r", "3", "--into", "r", "--", "true"]);
    let path = bench.path().join("r/observations.jsonl");
    let lines = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines[1] = "{\"schema_version\":1,";
    fs::write(&path, lines.join("\n") + "\n{\"torn").unwrap();
    let ran = bench.sweep(&["--into", "r"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let said: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("highwater:")).collect();
    let mut all = said.join("\n") + "\n\n" + &told(&bench, &[&["--into", "r", "--", "false"]]);
    let newer = fs::read_to_string(bench.path().join("r/plan.json")).unwrap();
    fs::write(bench.path().join("r/plan.json"), newer.replacen("\"schema_version\": 1", "\"schema_version\": 9", 1))
        .unwrap();
    all += &told(&bench, &[&["--into", "r"]]);
    all += &told(&bench, &[&["--file", "r/plan.json", "-n"]]);
    let merge = ["merge", "--plan", "r/plan.json", "r/observations.jsonl", "--into", "m"];
    let output = Command::new(env!("CARGO_BIN_EXE_highwater")).current_dir(bench.path()).args(merge).output().unwrap();
    all += &format!("$ highwater {}\n{}", merge.join(" "), String::from_utf8_lossy(&output.stderr));
    assert!(!bench.path().join("m").exists());
    snapshot("broken_and_foreign_records_are_told", &all);
}

#[test]
fn a_misspelt_command_does_not_keep_its_folder_from_the_right_one() {
    let bench = Bench::new();
    let ran = bench.sweep(&["--into", "r", "--", "there-is-no-such-program"]);
    assert_eq!(ran.status, Some(4), "{}", ran.stderr);
    bench.done(&["--into", "r", "--", "true"]);
    assert_eq!(bench.records("r").len(), 1);
    assert_eq!(bench.sweep(&["--into", "r", "--", "false"]).status, Some(2));
}

#[test]
fn everything_wrong_with_a_sweep_file_is_told_with_its_place() {
    let bench = Bench::new();
    let file = "task = \"task.json\"\nruns = 0\nitms = [1]\nitems = [1, \"some\"]\norder = \"upside-down\"\njobs = 1979-05-27\n\n[param]\nX = 1\n";
    fs::write(bench.path().join("bad.toml"), file).unwrap();
    fs::write(bench.path().join("none.toml"), "runs = \n").unwrap();
    fs::write(bench.path().join("plan.json"), "{\"cells\": 1}").unwrap();
    fs::write(bench.path().join("both.toml"), "task = \"task.json\"\ncommand = [\"true\"]\n").unwrap();
    fs::write(bench.path().join("nothing.toml"), "runs = 3\n").unwrap();
    fs::write(bench.path().join("params.toml"), "command = [\"true\"]\nparam = 3\nscan = \"1:9\"\n").unwrap();
    fs::write(bench.path().join("names.toml"), "image = \"a\"\nidle-peak = true\nnoise-floor = true\n").unwrap();
    let all: [&[&str]; 8] = [
        &["--file", "bad.toml"],
        &["--file", "params.toml"],
        &["--file", "names.toml"],
        &["--file", "none.toml"],
        &["--file", "plan.json"],
        &["--file", "both.toml"],
        &["--file", "nothing.toml"],
        &["--file", "missing.toml"],
    ];
    snapshot("a_bad_sweep_file_is_told_with_its_places", &told(&bench, &all));
}
