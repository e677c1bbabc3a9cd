//! Signals reach the task, with and without the probe.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::*;

#[test]
fn an_interrupt_is_passed_on_and_the_run_is_kept() {
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

/// The container may just have ended by itself when the signal arrives.
#[test]
fn an_interrupt_at_any_moment_ends_a_series_of_runs() {
    engine_or_skip!();
    for moment in (0..8).map(|step| Duration::from_millis(900 + step * 70)) {
        let words = ["--quiet", "-r", "200", "--image", "tiny", "--", "/task", "touch", "2", "5"];
        let mut child = run(&words).spawn().unwrap();
        std::thread::sleep(moment);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        let status = child.wait().unwrap().code();
        assert_eq!(status, Some(130), "after {moment:?}");
    }
}

#[test]
fn ctrl_c_at_a_terminal_ends_the_container_and_leaves_nothing() {
    engine_or_skip!();
    let words = ["--quiet", "--label", "at=terminal", "--image", "tiny", "--", "/task", "wait"];
    let command = run(&words);
    let line: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let line = line.join(" ".as_ref());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command"]).arg(line).arg("/dev/null");
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().trim() == "ready"));
    // The terminal turns this into a SIGINT for all foreground processes.
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(containers_with("at=terminal"), "");
}

/// An image can name its stop signal.
#[test]
fn a_task_is_asked_to_end_with_the_signal_of_its_image() {
    engine_or_skip!();
    for probe in ["never", "always"] {
        let words = ["--probe", probe, "--timeout", "3s", "--kill-after", "50s", "--image", "stopped-by-usr1"];
        let asked = ran(&words);
        assert_eq!((asked.status, asked.stdout.as_str()), (Some(124), "ready\n"), "{}", asked.stderr);
        assert!(asked.json["wall_us"].as_u64().unwrap() < 40_000_000, "{probe}: it was killed");
    }
}
