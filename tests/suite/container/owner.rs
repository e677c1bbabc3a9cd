//! Containers of others are left alone, whatever labels they have inherited.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::*;

/// A container that runs until this is dropped.
struct Guest(&'static str);

impl Guest {
    fn is_running(&self) -> bool {
        let found = docker(&["inspect", "--format", "{{.State.Running}}", self.0]);
        text(&found.stdout).trim() == "true"
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        docker(&["rm", "--force", self.0]);
    }
}

/// Commits an image from a container of a highwater that is then killed.
fn committed_from_a_leftover(image: &str, options: &[&str]) {
    let label = format!("of={image}");
    let words = [&["--quiet", "--label", &label][..], options, &["--image", "shell-form", "--"]].concat();
    let mut child =
        run(&words).args(["/bin/sh", "-c", "echo ready; exec /task stay"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    // Podman does not accept the request of docker's client for this.
    let command = std::env::var("HIGHWATER_TEST_PODMAN").unwrap_or_else(|_| "docker".to_owned());
    let line = format!("{command} commit {} {image}", containers_with(&label).trim());
    let committed = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(committed.status.success(), "{}", text(&committed.stderr));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn start(name: &'static str, image: &str) -> Guest {
    let started = docker(&["run", "--detach", "--network", "host", "--name", name, image]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    Guest(name)
}

#[test]
fn a_container_of_a_committed_image_survives_and_what_was_left_behind_does_not() {
    engine_or_skip!();
    committed_from_a_leftover("committed", &[]);
    let guest = start("guest", "committed");
    let mut sweep = highwater();
    let folder = tempfile::tempdir().unwrap();
    sweep.current_dir(folder.path()).args(["sweep", "--network", "host", "--pull", "never", "--image", "tiny"]);
    let swept = sweep.args(["--", "/task", "facts"]).output().unwrap();
    assert!(swept.status.success(), "{}", text(&swept.stderr));
    // Other tests may leave something behind, and another sweep may find it first.
    let cleaned = highwater().arg("clean").output().unwrap();
    // A dry run: other containers on this machine do not belong to this test.
    let foreign = highwater().args(["clean", "--foreign", "--dry-run"]).output().unwrap();
    assert!(guest.is_running(), "{} {}", text(&swept.stderr), text(&cleaned.stdout));
    assert!(!text(&foreign.stdout).contains("guest"), "{}", text(&foreign.stdout));
    let left = text(&docker(&["ps", "--all", "--format", "{{.Names}}", "--filter", "label=of=committed"]).stdout);
    assert_eq!(left.trim(), "guest", "{}", text(&cleaned.stdout));
}

/// The name that it was given then.
#[test]
fn a_container_that_takes_over_a_name_survives() {
    engine_or_skip!();
    committed_from_a_leftover("committed-again", &["--name", "popular"]);
    assert!(docker(&["rm", "--force", "popular"]).status.success());
    let guest = start("popular", "committed-again");
    let cleaned = highwater().arg("clean").output().unwrap();
    assert!(guest.is_running(), "{}", text(&cleaned.stdout));
}

#[test]
fn a_named_container_that_was_left_behind_is_removed() {
    engine_or_skip!();
    committed_from_a_leftover("committed-named", &["--name", "named"]);
    highwater().arg("clean").output().unwrap();
    assert_eq!(containers_with("of=committed-named"), "");
}
