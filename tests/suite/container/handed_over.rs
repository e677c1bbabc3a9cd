//! Commands that make an engine run a container: its memory is not in their peak, and they do not own its lifetime.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{docker, highwater, is_docker, text};

/// The record of a command under highwater, and the output.
fn measured(command: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut highwater = highwater();
    highwater.args(["run", "--format", "json", "--output"]).arg(&file).arg("--").args(command);
    let output = highwater.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let json = crate::harness::only_element(std::fs::read(&file).unwrap());
    (json, text(&output.stderr))
}

/// The client for daemonless containers, or that of docker: its words and its name.
fn client() -> (Vec<String>, &'static str) {
    match std::env::var("HIGHWATER_TEST_PODMAN") {
        Ok(podman) => (podman.split(' ').map(str::to_owned).collect(), "podman run"),
        Err(_) => (vec!["docker".to_owned()], "docker run"),
    }
}

#[test]
fn a_container_that_the_command_runs_makes_its_peak_a_lower_bound() {
    let _ = engine_or_skip!();
    let (mut words, name) = client();
    words.extend("run --rm --network host --pull never tiny /task touch 60 100".split(' ').map(str::to_owned));
    let shell = words.join(" ");
    for command in [words.iter().map(String::as_str).collect(), vec!["sh", "-c", &shell]] {
        let (json, _) = measured(&command);
        let exactness = &json["peak"]["exactness"];
        assert_eq!(exactness["kind"], "lower-bound", "{json:#}");
        assert!(exactness["reason"].as_str().unwrap().contains(&format!("`{name}`")), "{json:#}");
        assert!(exactness["remedy"].as_str().unwrap().contains("highwater run --image"), "{json:#}");
    }
}

#[test]
fn a_container_that_the_command_leaves_running_is_named_and_left_alone() {
    let _ = engine_or_skip!();
    let (mut words, _) = client();
    let name = format!("left-{}", std::process::id());
    let left = format!("run -d --rm --name {name} --network host --pull never tiny /task wait");
    words.extend(left.split(' ').map(str::to_owned));
    let (json, said) = measured(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let running = text(&docker(&["ps", "--quiet", "--filter", &format!("name={name}")]).stdout);
    docker(&["rm", "--force", &name]);
    assert!(!running.trim().is_empty(), "{name} was ended: {json:#}");
    assert_eq!(json["peak"]["exactness"]["kind"], "lower-bound", "{json:#}");
    let notes = json["warnings"].to_string();
    assert!(notes.contains(&name), "{notes}; {said}");
}

#[test]
fn asking_an_engine_is_no_work_of_its() {
    let _ = engine_or_skip!();
    if !is_docker() {
        return crate::harness::skip("docker's command line asks the daemon in the same way");
    }
    let (json, _) = measured(&["docker", "ps"]);
    assert_eq!(json["peak"]["exactness"]["kind"], "exact", "{json:#}");
    let groups = Command::new("sh").args(["-c", "ls -d /sys/fs/cgroup/*/highwater-* 2> /dev/null"]).output().unwrap();
    assert!(!text(&groups.stdout).contains("highwater-leaf"), "{groups:?}");
}
