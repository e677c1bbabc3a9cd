//! Runs the examples of fixtures/ci as far as possible: their commands are run, and their uploads must exist.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::project::{Project, python};
use crate::harness::skip;

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ci")
}

/// A workflow as CI reads it.
fn yaml(file: &str) -> Option<Value> {
    let program = "import json, sys, yaml; json.dump(yaml.load(open(sys.argv[1]), yaml.BaseLoader), sys.stdout)";
    let output = Command::new(python()?).args(["-c", program]).arg(fixtures().join(file)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// The project of the examples, with a baseline of this host and the programs that CI finds on its PATH.
fn project() -> Option<Project> {
    if !nix::unistd::geteuid().is_root() {
        skip("no peak is exact here");
        return None;
    }
    let project = Project::new(&fs::read_to_string(fixtures().join("project/highwater.toml")).unwrap());
    fs::copy(fixtures().join("project/sort.sh"), project.path("sort.sh")).unwrap();
    fs::create_dir(project.path("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_highwater"), project.path("bin/highwater")).unwrap();
    // The tests already run as root, and sudo may be missing.
    project.write("bin/sudo", "#!/bin/sh\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\nexec \"$@\"\n");
    fs::set_permissions(project.path("bin/sudo"), fs::Permissions::from_mode(0o755)).unwrap();
    let made = project.check(&["--update-baseline", "--runs", "3"]);
    assert_eq!(made.status(), 0, "{made:?}");
    Some(project)
}

/// Runs a step as CI does.
fn shell(project: &Project, script: &str) -> Output {
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]).current_dir(project.folder());
    command.env("PATH", path).env("GITHUB_STEP_SUMMARY", project.path("summary.md")).output().unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(map) => map.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// Runs the check of an example on an unchanged task, then on one that needs more.
fn holds(project: &Project, script: &str, uploads: &[String]) {
    let passed = shell(project, script);
    assert_eq!(passed.status.code(), Some(0), "{passed:?}");
    for (lines, status) in [("20000", 0), ("80000", 1)] {
        uploads.iter().for_each(|file| drop(fs::remove_file(project.path(file))));
        let toml = project.read("highwater.toml").replace("lines = 20000", &format!("lines = {lines}"));
        project.write("highwater.toml", &toml);
        let checked = shell(project, script);
        assert_eq!(checked.status.code(), Some(status), "{checked:?}");
        assert!(!uploads.is_empty());
        for file in uploads {
            assert!(project.path(file).metadata().unwrap().len() > 0, "{file} is missing");
        }
    }
}

#[test]
fn the_example_for_github_actions_works() {
    let (Some(workflow), Some(project)) = (yaml("github/memory.yml"), project()) else { return };
    let steps = workflow["jobs"]["memory"]["steps"].as_array().unwrap();
    let step = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap();
    let script = step("Check the memory")["run"].as_str().unwrap();
    holds(&project, script, &texts(&step("Keep the results")["with"]["path"]));
    assert!(project.read("summary.md").contains("### ❌ Memory check failed"));
    let comment = step("Comment on the pull request")["run"].as_str().unwrap();
    assert!(comment.contains("--body-file memory.md"), "{comment}");
}

#[test]
fn the_example_for_gitlab_works() {
    let (Some(pipeline), Some(project)) = (yaml("gitlab/memory.yml"), project()) else { return };
    let job = &pipeline["memory"];
    let script = |key: &str| {
        let lines = job[key].as_array().unwrap().iter();
        lines.map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let uploads = [texts(&job["artifacts"]["paths"]), texts(&job["artifacts"]["reports"])].concat();
    holds(&project, &script("script"), &uploads);
    assert!(String::from_utf8_lossy(&shell(&project, &script("after_script")).stdout).contains("Memory check failed"));
}
