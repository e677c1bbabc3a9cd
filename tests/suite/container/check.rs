//! The gate for containers.

use std::fs;
use std::process::Output;

use tempfile::TempDir;

use super::{highwater, text};

fn check(folder: &TempDir, words: &[&str]) -> Output {
    highwater().arg("check").args(words).current_dir(folder.path()).output().unwrap()
}

fn write(folder: &TempDir, mib: u64) {
    let toml = format!(
        "[tasks.copy]\nimage = \"tiny\"\ncommand = [\"/task\", \"touch\", \"{{mib}}\", \"1\"]\n\
         mount = [\"{{input}}:/in:ro\"]\noptions = [\"--network=none\", \"--pull=never\"]\nruns = 2\n\
         thresholds.min-samples = 2\n[[tasks.copy.inputs]]\nname = \"small\"\npath = \"data\"\n\
         parameters = {{ mib = {mib} }}\n"
    );
    fs::write(folder.path().join("highwater.toml"), toml).unwrap();
}

#[test]
fn a_container_that_needs_more_than_its_baseline_fails_the_check() {
    engine_or_skip!();
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/x"), "12345").unwrap();
    write(&folder, 60);
    let made = check(&folder, &["--update-baseline", "--runs", "2"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let baseline = fs::read_to_string(folder.path().join("highwater-baseline.json")).unwrap();
    assert!(baseline.contains("\"runner\": \"container\""), "{baseline}");
    assert!(baseline.contains("\"input.sum\": 5"), "{baseline}");
    assert_eq!(check(&folder, &[]).status.code(), Some(0));
    write(&folder, 80);
    let grown = check(&folder, &["--confirm", "1"]);
    assert_eq!(grown.status.code(), Some(1), "{grown:?}");
    assert!(text(&grown.stdout).contains("[growth]"), "{grown:?}");
}

#[test]
fn an_image_that_is_the_same_in_both_revisions_is_not_compared_with_itself() {
    engine_or_skip!();
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/x"), "12345").unwrap();
    write(&folder, 4);
    let git = |words: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]);
        command.args(words).current_dir(folder.path()).output().is_ok_and(|output| output.status.success())
    };
    if ![&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "-m", "x"]].into_iter().all(git) {
        crate::harness::skip("there is no git");
        return;
    }
    let refused = check(&folder, &["--against", "HEAD"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("runs the same image in both revisions: tiny"), "{refused:?}");
    let toml = fs::read_to_string(folder.path().join("highwater.toml")).unwrap();
    let mounted =
        toml.replace("mount = [", "mount = [\"data:/code:ro\", ").replace("runs = 2", "confirm = 0\nruns = 2");
    fs::write(folder.path().join("highwater.toml"), mounted).unwrap();
    let compared = check(&folder, &["--against", "HEAD"]);
    assert_eq!(compared.status.code(), Some(0), "{compared:?}");
    assert!(text(&compared.stderr).contains("only what is mounted into it is compared"), "{compared:?}");
}

#[test]
fn a_container_cannot_write_to_its_input_at_any_path() {
    engine_or_skip!();
    for target in ["/in", "/all/data"] {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/x"), "12345").unwrap();
        let toml = format!(
            "[tasks.write]\nimage = \"path\"\ncommand = [\"sh\", \"-c\", \"echo x >> {target}/x\"]\nbudget = \"1GiB\"\n\
             mount = [\"{{input}}:/in\", \".:/all\"]\n\
             options = [\"--network=none\", \"--pull=never\", \"--entrypoint=busybox\"]\n\
             [[tasks.write.inputs]]\nname = \"small\"\npath = \"data\"\n"
        );
        fs::write(folder.path().join("highwater.toml"), toml).unwrap();
        let checked = check(&folder, &["--runs", "1", "--markdown", "comment.md"]);
        assert!(text(&checked.stderr).contains("write/small run 1: "), "{checked:?}");
        assert_eq!(checked.status.code(), Some(4), "{target}: {checked:?}");
        assert_eq!(fs::read_to_string(folder.path().join("data/x")).unwrap(), "12345", "{target}");
        let comment = fs::read_to_string(folder.path().join("comment.md")).unwrap();
        assert!(comment.contains("Read-only file system\n  ```"), "{comment}");
    }
}
