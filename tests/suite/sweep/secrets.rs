//! Values that a sweep is given but does not store.

use std::fs;
use std::path::Path;

use super::Bench;

const SECRET: &str = "hunter2-and-more";

/// The files below a directory that contain the secret.
fn leaks(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(leaks(&entry.path()));
        } else if String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).contains(SECRET) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

fn variable() -> String {
    format!("PASSWORD={SECRET}")
}

#[test]
fn the_value_of_a_variable_is_kept_nowhere_and_asked_for_again() {
    let bench = Bench::new();
    bench.done(&["--into", "swept", "-e", &variable(), "-e", "LEVEL=1", "--save-plan", "plan.json", "--", "true"]);
    bench.done(&["--dry-run", "-e", &variable(), "--save-plan", "sweep.toml", "--", "true"]);
    assert_eq!(leaks(bench.path()), [""; 0]);
    let plan = fs::read_to_string(bench.path().join("swept/plan.json")).unwrap();
    assert!(plan.contains("\"PASSWORD\"") && plan.contains("\"LEVEL\""), "{plan}");
    for words in [&["--into", "swept"][..], &["--file", "plan.json", "--dry-run"], &["--file", "sweep.toml", "-n"]] {
        let ran = bench.sweep(words);
        assert_eq!(ran.status, Some(2), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("PASSWORD") && ran.stderr.contains("--env PASSWORD=VALUE"), "{}", ran.stderr);
    }
}

#[test]
fn a_sweep_goes_on_with_the_value_of_an_option_or_of_the_environment() {
    let bench = Bench::new();
    bench.done(&["--into", "swept", "-e", &variable(), "-e", "LEVEL=1", "--", "true"]);
    // Each is requested separately; additional values do not replace others.
    let ran = bench.sweep(&["--into", "swept", "-e", &variable()]);
    assert!(ran.stderr.contains("the variable LEVEL has no value"), "{}", ran.stderr);
    bench.done(&["--into", "swept", "-e", &variable(), "-e", "LEVEL=1"]);
    let mut command = bench.command(&["--into", "swept", "-e", "LEVEL=1", "-r", "2"]);
    let ran = super::Ran::of(&command.env("PASSWORD", SECRET).output().unwrap());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!((bench.records("swept").len(), leaks(bench.path())), (2, Vec::new()));
}

#[test]
fn a_redacted_argument_is_kept_nowhere_and_asked_for_again() {
    let bench = Bench::new();
    let command = ["sh", "-c", "test $1 = --token && test ${#2} = 16", "sh", "--token", SECRET];
    bench.done(&[&["--into", "swept", "--redact", "token", "--save-plan", "sweep.toml", "--"][..], &command].concat());
    assert_eq!(leaks(bench.path()), [""; 0]);
    assert_eq!(bench.records("swept")[0].subject.command[4..], ["--token", "***"]);
    let ran = bench.sweep(&["--into", "swept"]);
    assert_eq!(ran.status, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("the argument `token`") && ran.stderr.contains("give the command again"));
    // With the command it continues, however it is asked to.
    for words in [&["--into", "swept", "--redact", "token"][..], &["--file", "sweep.toml", "--into", "swept"]] {
        bench.done(&[words, &["--"], &command].concat());
    }
    assert_eq!((bench.records("swept").len(), leaks(bench.path())), (1, Vec::new()));
}

#[test]
fn what_is_redacted_in_a_sweep_file_is_not_copied_from_it() {
    let bench = Bench::new();
    let file = format!("command = [\"true\", \"--token={SECRET}\"]\nredact = [\"token\"]\n");
    fs::write(bench.path().join("sweep.toml"), file).unwrap();
    bench.done(&["--file", "sweep.toml", "--into", "swept"]);
    assert_eq!(leaks(&bench.path().join("swept")), [""; 0]);
}

#[test]
fn a_name_that_redacts_nothing_is_refused_before_anything_is_run() {
    let bench = Bench::new();
    for words in [&["sweep", "--into", "swept"][..], &["run", "--record", "r.jsonl"], &["floor"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(words).args(["--redact", "tokn", "--", "touch", "--token=x", "ran"]).current_dir(bench.path());
        let ran = super::Ran::of(&command.output().unwrap());
        assert_eq!(ran.status, Some(2), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("no argument `tokn`"), "{}", ran.stderr);
    }
    assert!(!bench.path().join("ran").exists() && !bench.path().join("swept").exists());
}

#[test]
fn a_record_of_a_run_has_no_redacted_argument() {
    let bench = Bench::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
    let token = format!("--token={SECRET}");
    command.args(["run", "--record", "r.jsonl", "--redact", "token", "-o", "r.txt", "--", "true", &token]);
    let ran = super::Ran::of(&command.current_dir(bench.path()).output().unwrap());
    assert_eq!((ran.status, leaks(bench.path())), (Some(0), Vec::new()), "{}", ran.stderr);
}
