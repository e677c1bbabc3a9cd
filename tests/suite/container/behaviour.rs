//! A task does under the probe what it does without.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::*;

#[test]
fn containers_behave_under_the_probe_as_without() {
    engine_or_skip!();
    let cases: &[(&str, &[&str])] = &[
        ("tiny", &[]),
        ("bare", &["/task", "exit", "7"]),
        ("exec-form", &[]),
        ("shell-form", &[]),
        ("entrypoint", &[]),
        ("entrypoint", &["facts", "of", "the", "caller"]),
        ("entrypoint", &["exit", "0"]),
        ("entrypoint", &["exit", "1"]),
        ("entrypoint", &["exit", "137"]),
        ("entrypoint", &["raise", "11"]),
        ("path", &[]),
        ("as-user", &[]),
        ("as-number", &[]),
        ("workdir", &[]),
        ("exec-form", &["/no/such/program"]),
        ("exec-form", &["no-such-program"]),
        ("exec-form", &["/etc/passwd"]),
    ];
    for (image, words) in cases {
        let plain = docker(&[&["run", "--rm", "--network", "host", image], *words].concat());
        for probe in ["never", "always"] {
            let own = ran(&[&["--image", image, "--probe", probe, "--"], *words].concat());
            assert_eq!(own.status, plain.status.code(), "{image} {words:?} --probe {probe}: {}", own.stderr);
            assert_eq!(own.stdout, text(&plain.stdout), "{image} {words:?} --probe {probe}");
        }
    }
}

#[test]
fn signals_reach_the_task_and_are_passed_on_by_the_probe() {
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
