//! `check --against`: the working tree and another revision in turns.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::project::{Checked, Project};
use super::repository::has_git;
use super::running::{is_root, workload};

/// A repository with a task that needs as many MiB as a file says, committed with 4, and a directory for worktrees.
struct Repository {
    project: Project,
    temporary: tempfile::TempDir,
}

impl Repository {
    fn new(more: &str) -> Self {
        let project = Project::new(&format!(
            "{more}\n[tasks.touch]\ncommand = [\"sh\", \"-c\", \"exec {} touch $(cat mib) 1\"]\nconfirm = 1\n",
            workload()
        ));
        project.write("mib", "4");
        project.git(&["init", "--quiet"]);
        project.commit("first");
        Self { project, temporary: tempfile::TempDir::new().unwrap() }
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.project.command(&[&["check", "--against"], arguments].concat());
        command.env("TMPDIR", self.temporary.path());
        command
    }

    /// Checks against a revision; afterwards nothing of it may be left, and the checkout is as it was.
    fn check_against(&self, arguments: &[&str]) -> Checked {
        let state = || self.project.git_line(&["status", "--porcelain", "--branch"]);
        let before = state();
        let checked = Checked(self.command(arguments).output().unwrap());
        assert_eq!(state(), before, "{checked:?}");
        self.assert_nothing_is_left();
        checked
    }

    fn assert_nothing_is_left(&self) {
        let worktrees = self.project.git_line(&["worktree", "list"]);
        assert_eq!(worktrees.lines().count(), 1, "{worktrees}");
        let left: Vec<_> = self.temporary.path().read_dir().unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn growth_over_a_revision_is_found_on_this_machine() {
    if !has_git() || !is_root() {
        return;
    }
    let repository = Repository::new("");
    let first = repository.project.git_line(&["rev-parse", "HEAD"]);
    let same = repository.check_against(&["main", "--record", ".git/runs.jsonl", "--log-dir", ".git/output"]);
    assert_eq!(same.status(), 0, "{same:?}");
    let runs: Vec<String> = same.stderr().lines().filter(|line| line.contains(" run ")).map(str::to_owned).collect();
    assert_eq!(runs.len(), 6, "{same:?}");
    assert!(runs[0].starts_with(&format!("main ({}): touch/default run 1", &first[..8])), "{runs:?}");
    assert!(runs[1].starts_with("touch/default run 1"), "in turns: {runs:?}");
    assert_eq!(repository.project.read(".git/runs.jsonl").lines().count(), 3, "only those of the working tree");
    assert_eq!(repository.project.path(".git/output").read_dir().unwrap().count(), 12);

    repository.project.write("mib", "12");
    let grown = repository.check_against(&["main", "--format", "json"]);
    assert_eq!(grown.status(), 1, "{grown:?}");
    let report: Value = serde_json::from_str(&grown.stdout()).unwrap();
    assert_eq!(report["against"], serde_json::json!({ "revision": "main", "commit": first }));
    let finding = &report["tasks"][0]["findings"][0];
    assert_eq!(finding["reason"], "growth", "{report}");
    assert!(!finding["remedy"].as_str().unwrap().contains("--update-baseline"), "there is none: {report}");
    repository.project.commit("second");
    assert_eq!(repository.check_against(&["HEAD"]).status(), 0);
    let bisected = repository.check_against(&["HEAD~1", "--bisect"]);
    assert_eq!(bisected.status(), 1, "{bisected:?}");
    assert!(bisected.stdout().contains("compared with HEAD~1 ("), "{bisected:?}");
}

#[test]
fn both_trees_are_set_up_and_get_the_inputs_of_the_working_tree() {
    if !has_git() || !is_root() {
        return;
    }
    let repository = Repository::new("");
    let project = &repository.project;
    project.write(
        "ci/highwater.toml",
        &format!(
            "setup = [\"sh\", \"-c\", \"echo built >&2; cp need built\"]\n[tasks.touch]\nconfirm = 1\n\
             command = [\"sh\", \"-c\", \"test -e $0/x && exec {} touch $(cat built) 1\", \"{{input}}\"]\n\
             [[tasks.touch.inputs]]\npath = \"data\"\n",
            workload()
        ),
    );
    project.write("ci/need", "4");
    project.write(".gitignore", "built\ndata\n");
    project.commit("built");
    project.write("ci/need", "12");
    project.write("ci/data/x", "not in the repository");
    let grown = repository.check_against(&["main", "--config", "ci/highwater.toml"]);
    assert_eq!(grown.status(), 1, "{grown:?}");
    assert_eq!(grown.stderr().matches("built\n").count(), 2, "{grown:?}");
    assert!(grown.stdout().contains("the peak has grown from 4."), "{grown:?}");

    let toml = project.read("ci/highwater.toml").replace("cp need built", "exit 7");
    project.write("ci/highwater.toml", &toml);
    let failed = repository.check_against(&["main", "--config", "ci/highwater.toml"]);
    assert_eq!(failed.status(), 3, "{failed:?}");
    assert!(failed.stderr().contains("failed in main ("), "{failed:?}");
    let alone = project.check(&["--config", "ci/highwater.toml"]);
    assert_eq!(alone.status(), 3, "{alone:?}");
    assert!(alone.stderr().contains("failed in the working tree"), "{alone:?}");
}

#[test]
fn a_revision_in_which_the_task_fails_shows_nothing() {
    if !has_git() || !is_root() {
        return;
    }
    let repository = Repository::new("");
    repository.project.write("mib", "none");
    repository.project.commit("broken");
    repository.project.write("mib", "4");
    let checked = repository.check_against(&["main"]);
    assert_eq!(checked.status(), 5, "{checked:?}");
    assert!(checked.stdout().contains("no run succeeded in main ("), "{checked:?}");
}

#[test]
fn what_cannot_be_checked_out_is_told_before_anything_runs() {
    if !has_git() {
        return;
    }
    let repository = Repository::new("");
    let unknown = repository.check_against(&["no-such-branch"]);
    assert_eq!(unknown.status(), 2, "{unknown:?}");
    assert!(unknown.stderr().contains("the repository has no revision `no-such-branch`"), "{unknown:?}");
    repository.project.write("new/highwater.toml", "[tasks.a]\ncommand = [\"true\"]\n");
    let new = repository.check_against(&["main", "--config", "new/highwater.toml"]);
    assert_eq!(new.status(), 2, "{new:?}");
    assert!(new.stderr().contains("has no directory new/"), "{new:?}");
    let elsewhere = Project::new("[tasks.a]\ncommand = [\"true\"]\n");
    let mut command = elsewhere.command(&["check", "--against", "main"]);
    let none = Checked(command.env("GIT_CEILING_DIRECTORIES", elsewhere.folder()).output().unwrap());
    assert_eq!(none.status(), 2, "{none:?}");
    assert!(none.stderr().contains("run the check in a Git repository"), "{none:?}");
}

#[test]
fn clean_removes_the_worktree_of_a_killed_comparison() {
    if !has_git() {
        return;
    }
    let repository = Repository::new("setup = [\"sleep\", \"60\"]");
    let mut child = repository.command(&["main"]).process_group(0).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while repository.project.git_line(&["worktree", "list"]).lines().count() < 2 {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing was checked out");
        std::thread::sleep(Duration::from_millis(5));
    }
    let clean = |arguments: &[&str]| {
        let mut command = repository.project.command(&[&["clean"], arguments].concat());
        command.env("TMPDIR", repository.temporary.path()).env("DOCKER_HOST", "");
        Checked(command.output().unwrap()).stdout()
    };
    assert!(!clean(&[]).contains("removed worktree"), "its owner is alive");
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::killpg(group, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(clean(&["--dry-run"]).contains("would remove worktree"));
    assert!(clean(&[]).contains("removed worktree"));
    repository.assert_nothing_is_left();
}

#[test]
fn an_interrupted_comparison_leaves_no_worktree_behind() {
    if !has_git() {
        return;
    }
    for setup in ["", "setup = [\"sleep\", \"60\"]"] {
        let repository = Repository::new(setup);
        repository.project.write("mib", "4 60000; sleep 60");
        repository.project.commit("long");
        let mut command = repository.command(&["main"]);
        let child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        let is_checked_out = || repository.project.git_line(&["worktree", "list"]).lines().count() == 2;
        while !is_checked_out() {
            assert!(started.elapsed() < Duration::from_secs(20), "nothing was checked out");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        let checked = Checked(child.wait_with_output().unwrap());
        assert_eq!(checked.status(), 130, "{checked:?}");
        repository.assert_nothing_is_left();
    }
}
