//! Messages about container engines if there is none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use assert_cmd::Command;

fn highwater(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(words).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").env_remove("HIGHWATER_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_engine_that_was_named_and_is_not_there_is_no_success() {
    let output = highwater(&["clean", "--dry-run"]).env("DOCKER_HOST", "unix:///nowhere.sock").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("unix:///nowhere.sock (DOCKER_HOST)"), "{}", text(&output.stderr));
}

#[test]
fn a_docker_context_that_cannot_be_read_is_told() {
    // The exit status says whether this machine has exact peaks, with or without an engine.
    let output = highwater(&["doctor"]).env("DOCKER_CONTEXT", "no-such-context").output().unwrap();
    assert!(text(&output.stdout).contains("the docker context `no-such-context`"), "{}", text(&output.stdout));
}

#[test]
fn words_that_an_engine_cannot_take_are_refused() {
    let output =
        highwater(&["run", "--image", "tiny", "--", "/task"]).arg(OsStr::from_bytes(b"\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("it is not valid UTF-8"), "{}", text(&output.stderr));
}

#[test]
fn a_task_that_is_not_there_is_told_before_an_engine_is_looked_for() {
    for command in ["run", "sweep"] {
        let output =
            highwater(&[command, "no-such-task.json"]).env("DOCKER_HOST", "unix:///nowhere.sock").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("file not found: no-such-task.json"), "{}", text(&output.stderr));
    }
}
