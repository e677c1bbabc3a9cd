//! Checks that run a task: the workload of the tests.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::project::{Checked, Project};
use crate::harness::skip;

pub(super) fn workload() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_highwater")).with_file_name("examples").join("workload");
    assert!(program.exists(), "the workload is missing: cargo build --example workload");
    program.into_os_string().into_string().unwrap()
}

/// Cells with these names, sizes and needs in MiB.
fn project(cells: &[(&str, u64, u64)]) -> Project {
    Project::new(&toml(cells))
}

fn toml(cells: &[(&str, u64, u64)]) -> String {
    let mut toml = format!("[tasks.touch]\ncommand = [\"{}\", \"touch\", \"{{mib}}\", \"1\"]\n", workload());
    for (name, size, need) in cells {
        toml += &format!(
            "[[tasks.touch.inputs]]\nname = \"{name}\"\nsize = \"{size}MiB\"\nparameters = {{ mib = {need} }}\n"
        );
    }
    toml
}

/// The following requires exact peaks.
pub(super) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("no peak is exact here");
    }
    root
}

#[test]
fn growth_is_run_again_before_it_is_called() {
    if !is_root() {
        return;
    }
    let project = project(&[("small", 4, 16), ("medium", 8, 32), ("large", 16, 64)]);
    let made = project.check(&["--update-baseline", "--runs", "3"]);
    assert_eq!(made.status(), 0, "{made:?}");
    let same = project.check(&["--record", "runs.jsonl"]);
    assert_eq!(same.status(), 0, "{same:?}");
    assert_eq!(project.read("runs.jsonl").lines().count(), 9);
    assert_eq!(project.check(&["--records", "runs.jsonl"]).status(), 0);

    project.write("highwater.toml", &toml(&[("small", 4, 16), ("medium", 8, 32), ("large", 16, 80)]));
    let grown = project.check(&["--junit", "junit.xml"]);
    assert_eq!(grown.status(), 1, "{grown:?}");
    assert!(grown.stdout().contains("large: the peak has grown"), "{grown:?}");
    let again = grown.stderr().lines().filter(|line| line.starts_with("touch/large run")).count();
    assert_eq!(again, 9, "three runs and two times three to confirm it: {grown:?}");
    assert!(project.read("junit.xml").contains("<failure type=\"growth\""));
}

#[test]
fn a_run_that_fails_is_not_run_again_and_ends_with_4() {
    let project = Project::new(&format!("[tasks.bad]\ncommand = [\"{}\", \"exit\", \"3\"]\n", workload()));
    let checked = project.check(&[]);
    assert_eq!(checked.status(), 4, "{checked:?}");
    assert!(checked.stdout().contains("a run failed: exited with status 3 [run-failed]"), "{checked:?}");
    assert_eq!(checked.stderr().matches("bad/default run").count(), 1, "{checked:?}");
}

#[test]
fn every_format_shows_the_stderr_of_a_failed_cell_and_its_line() {
    let project = Project::new(
        "[tasks.late]\ncommand = [\"true\"]\nbudget = \"1GiB\"\n\n[tasks.bad]\nbudget = \"1GiB\"\n\
         command = [\"sh\", \"-c\", \"for i in $(seq 99); do echo warning $i >&2; done; \
         printf 'no \\\\033[31m<model>\\\\n' >&2; exit {status}\"]\n\
         [[tasks.bad.inputs]]\nname = \"z\"\nparameters = { status = \"0\" }\n\
         [[tasks.bad.inputs]]\nname = \"a\"\nparameters = { status = \"3\" }\n",
    );
    let formats = ["--github", "--junit", "junit.xml", "--markdown", "comment.md"];
    let checked = project.check(&formats);
    assert_eq!(checked.status(), 4, "{checked:?}");
    assert!(checked.stderr().contains("warning 1\n"), "stderr still arrives: {checked:?}");
    let junit = project.read("junit.xml");
    assert!(junit.contains("<testcase name=\"a\" classname=\"bad\" file=\"highwater.toml\" line=\"11\">"), "{junit}");
    let last = "warning 98\nwarning 99\nno \\u{1b}[31m&lt;model&gt;</error>";
    assert!(junit.contains(last) && !junit.contains("warning 80\n"), "{junit}");
    let order = ["late", "bad", "name=\"z\"", "name=\"a\""].map(|name| junit.find(name).unwrap());
    assert!(order.is_sorted(), "in the order of the file: {junit}");
    let markdown = project.read("comment.md");
    assert!(markdown.contains("  warning 99\n  no \\u{1b}[31m<model>\n  ```\n"), "{markdown}");
    let annotation = checked.stdout().lines().find(|line| line.starts_with("::error")).unwrap_or_default().to_owned();
    assert!(annotation.starts_with("::error file=highwater.toml,line=11,"), "{annotation}");
    assert!(annotation.ends_with("warning 99%0Ano \\u{1b}[31m<model>"), "{annotation}");
    let logged = project.check(&[&["--log-dir", "logs"][..], &formats].concat());
    assert_eq!(logged.status(), 4, "{logged:?}");
    assert!(project.read("junit.xml").contains(last), "also from the files of --log-dir: {logged:?}");
}

#[test]
fn variables_and_folders_are_those_of_the_cell() {
    let project = Project::new(
        "[tasks.list]\ncommand = [\"sh\", \"-c\", \"test $LEVEL = 2 && test $KEPT = 1 && test -e {input}/x\"]\n\
         env = { LEVEL = \"1\", KEPT = \"1\" }\nbudget = \"1GiB\"\n\
         [[tasks.list.inputs]]\nname = \"a\"\npath = \"data/a\"\nenv = { LEVEL = \"2\" }\n",
    );
    project.write("data/a/x", "12345");
    let checked = project.check(&["--record", "runs.jsonl"]);
    assert!([0, 5].contains(&checked.status()), "{checked:?}");
    assert!(project.read("runs.jsonl").contains("\"sum\":5"), "{}", project.read("runs.jsonl"));
}

/// A check of a command that appends to its input, run twice, with these additional lines.
fn checked_writer(more: &str) -> (Project, Checked) {
    let project = Project::new(&format!(
        "[tasks.write]\ncommand = [\"sh\", \"-c\", \"echo x >> {{input}}/x\"]\nbudget = \"1GiB\"\n{more}\n\
         [[tasks.write.inputs]]\nname = \"a\"\npath = \"scans\"\n",
    ));
    project.write("scans/x", "12345");
    let checked = project.check(&["--runs", "2"]);
    (project, checked)
}

#[test]
fn a_command_cannot_write_to_its_input() {
    let (project, checked) = checked_writer("");
    assert_eq!(checked.status(), 4, "{checked:?}");
    // Without a mount namespace changes are only detected.
    let is_watched = checked.stderr().contains("the input changed during the run");
    assert_eq!(project.read("scans/x"), if is_watched { "12345x\n" } else { "12345" }, "{checked:?}");
}

#[test]
fn no_run_follows_one_that_has_changed_the_input_of_a_command() {
    let (project, checked) = checked_writer("options = [\"--input-access\", \"watched\"]");
    assert_eq!(checked.status(), 4, "{checked:?}");
    assert!(checked.stderr().contains("scans/x was changed"), "{checked:?}");
    assert_eq!(project.read("scans/x"), "12345x\n", "another run was made");
}

#[test]
fn a_task_gets_the_folders_of_the_cell_and_is_held_to_its_rule() {
    if !is_root() {
        return;
    }
    let project = Project::new(
        "[tasks.sort]\ntask = \"task.json\"\nrunner = \"process\"\nset = { mode = \"fast\" }\n\
         [[tasks.sort.inputs]]\nname = \"a\"\nchannels = { scans = \"data/a\" }\n\
         [[tasks.sort.inputs]]\nname = \"b\"\nchannels = { scans = \"data/b\" }\nset = { mode = \"slow\" }\n",
    );
    project.write(
        "task.json",
        r#"{"name": "sorting", "image": "sort:1", "taskTemplate": {
             "identifier": "sort", "description": "", "outputs": [], "env": [],
             "inputs": [{"name": "scans", "mounted_path": "/in",
                         "scale_rule": {"mode": "sum", "type": "limit", "complexity": "1*n"}}],
             "command": ["sh", "-c", "test -e /in/$0 && test {{ custom.mode }} = $1", "x", "fast"]},
           "inputs": [{"name": "scans", "input": {"host_path": "data/none"}}], "outputs": []}"#,
    );
    project.write("data/a/x", &"x".repeat(64 << 20));
    project.write("data/b/x", "12345");
    let checked = project.check(&["--record", "runs.jsonl"]);
    let out = checked.stdout();
    assert!(out.contains("b: a run failed: exited with status 1 [run-failed]"), "its own variables: {checked:?}");
    assert!(out.contains("exceeds the limit of 5 B from the rule") || !out.contains("a: the peak"), "{checked:?}");
    assert!(!out.contains("a: a run failed"), "{checked:?}");
    assert!(out.contains("64 MiB (rule)"), "{checked:?}");
    // Records have the name of the task.json.
    let judged = project.check(&["--records", "runs.jsonl"]);
    assert_eq!(judged.stdout(), out);
}

#[test]
fn that_a_floor_wins_on_the_small_input_of_a_check_is_no_warning() {
    let project = Project::new(
        "[tasks.copy]\ntask = \"task.json\"\nrunner = \"process\"\n\
         [[tasks.copy.inputs]]\nname = \"a\"\nchannels = { scans = \"data/a\" }\n",
    );
    project.write(
        "task.json",
        r#"{"name": "copying", "image": "copy:1", "taskTemplate": {
             "identifier": "copy", "description": "", "outputs": [], "env": [],
             "inputs": [{"name": "scans", "mounted_path": "/in",
                         "scale_rule": {"mode": "sum", "type": "limit", "complexity": "2*n"}}],
             "resources": {"limits": {"memory": "1Gi"}},
             "command": ["true"]},
           "inputs": [{"name": "scans", "input": {"host_path": "data/none"}}], "outputs": []}"#,
    );
    project.write("data/a/x.dcm", "12345");
    let checked = project.check(&["--update-baseline"]);
    assert!(!checked.stderr().contains("has no effect"), "{checked:?}");
}

#[test]
fn paths_start_in_the_folder_of_the_file_that_names_them() {
    let project = Project::new("");
    project.write("ci/highwater.toml", "[tasks.here]\ncommand = [\"./x.sh\"]\nbudget = \"1GiB\"\n");
    project.write("ci/x.sh", "#!/bin/sh\nexit 0\n");
    let script = project.path("ci/x.sh");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let outputs = ["--markdown", "out.md", "--record", "runs.jsonl", "--log-dir", "logs"];
    let checked = project.check(&[&["--config", "ci/highwater.toml"][..], &outputs].concat());
    assert!([0, 5].contains(&checked.status()), "{checked:?}");
    assert_eq!(project.files(), ["ci", "highwater.toml", "logs", "out.md", "runs.jsonl"]);
}

#[test]
fn an_interrupted_check_judges_nothing_and_writes_nothing() {
    let project = Project::new(&format!("[tasks.long]\ncommand = [\"{}\", \"wait\", \"8\", \"60\"]\n", workload()));
    let mut command = project.command(&["check", "--junit", "junit.xml", "--log-dir", "logs"]);
    let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let ready = || {
        std::fs::read_to_string(project.path("logs/long.default.1.stdout.log")).is_ok_and(|log| log.contains("ready"))
    };
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(20), "the task did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let checked = Checked(child.wait_with_output().unwrap());
    assert_eq!(checked.status(), 130, "{checked:?}");
    assert!(checked.stderr().contains("no result was computed"), "{checked:?}");
    assert_eq!(project.files(), ["highwater.toml", "logs"]);
}
