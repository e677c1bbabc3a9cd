//! Invalid input is reported with its remedy.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::*;

/// A user who is neither root nor the owner of anything.
const NOBODY: Option<u32> = Some(65_534);

/// The output of highwater, with placeholders for what differs from run to run.
struct Told {
    text: String,
    names: Vec<(String, &'static str)>,
}

impl Told {
    fn add(&mut self, what: &str, output: &Output) {
        let mut told = format!("$ highwater {what}\n{}{}\n\n", text(&output.stderr), output.status);
        for (found, name) in &self.names {
            told = told.replace(found, name);
        }
        self.text.push_str(&told);
    }
}

/// Root without the capability to bypass permissions.
fn without_privileges(command: &Command) -> Command {
    let mut confined = Command::new("setpriv");
    confined.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(command.get_program()).args(command.get_args());
    confined
}

/// A directory whose path always has the same length, so that lines break at the same place.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/tmp").unwrap()
}

#[test]
fn bad_input_is_told_with_its_remedy() {
    let url = engine_or_skip!();
    let folder = folder();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let place = |name: &str, target: &str| format!("{}:{target}", folder.path().join(name).display());
    let (below_a_file, missing) = (place("file/out", "/out"), place("scans", "/in:ro"));
    assert!(docker(&["create", "--name", "taken", "tiny"]).status.success());
    let cases: &[&[&str]] = &[
        &["--image", "no/such:image"],
        &["--image", "tiny", "--mount", &missing],
        &["--image", "tiny", "--mount", &below_a_file],
        &["--image", "tiny", "--limit", "5Mi"],
        &["--image", "tiny", "--name", "taken"],
        &["--image", "tiny", "--label", "highwater.owner=me"],
        &["--image", "bare"],
        &["--image", "tiny", "--probe", "never", "--", "/no/such/program"],
        &["--image", "exec-form", "--probe", "never", "--", "/etc/passwd"],
        &["--image", "tiny", "--host", "unix:///no/such.sock"],
        &["--image", "tiny", "--host", "ssh://somewhere"],
        &["--image", "tiny", "--mount", "relative:also"],
    ];
    let names = vec![(folder.path().display().to_string(), "FOLDER"), (url, "ENGINE")];
    let mut told = Told { text: String::new(), names };
    for case in cases {
        told.add(&format!("run {}", case.join(" ")), &run(case).output().unwrap());
    }
    assert!(docker(&["rm", "taken"]).status.success());
    for image in ["tiny", "flawed"] {
        let output = highwater().args(["processing-container", image]).output().unwrap();
        told.add(&format!("processing-container {image}"), &output);
    }
    insta::with_settings!({ snapshot_path => "../snapshots" }, { insta::assert_snapshot!(told.text) });
}

#[test]
fn a_task_whose_image_has_no_usable_template_is_told() {
    engine_or_skip!();
    let folder = folder();
    let mut told = Told { text: String::new(), names: vec![(folder.path().display().to_string(), "FOLDER")] };
    for image in ["tiny", "flawed"] {
        let task = folder.path().join(format!("{image}.json"));
        let json = format!(r#"{{"name": "x", "image": "{image}", "taskTemplate": "x", "inputs": [], "outputs": []}}"#);
        std::fs::write(&task, json).unwrap();
        let output = run(&[task.to_str().unwrap()]).output().unwrap();
        // The first problem of the document is enough here.
        let first = output.stderr.split(|byte| *byte == b'\n').take(12).collect::<Vec<_>>().join(&b'\n');
        told.add(&format!("run {image}.json"), &Output { stderr: [&first[..], b"\n"].concat(), ..output });
    }
    insta::with_settings!({ snapshot_path => "../snapshots" }, { insta::assert_snapshot!(told.text) });
}

#[test]
fn what_may_not_be_used_is_told_with_its_remedy() {
    let url = engine_or_skip!();
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let not_for_us = |path: &Path| {
        chown(path, NOBODY, NOBODY).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(0o500)).unwrap();
    };
    let _listener = UnixListener::bind(path("locked.sock")).unwrap();
    std::fs::create_dir(path("locked")).unwrap();
    not_for_us(&path("locked.sock"));
    not_for_us(&path("locked"));
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let names = vec![(folder.path().display().to_string(), "FOLDER"), (url, "ENGINE")];
    let mut told = Told { text: String::new(), names };
    let host = format!("unix://{}", path("locked.sock").display());
    let mount = format!("{}:/out", path("locked").display());
    for words in [["--host", host.as_str()], ["--mount", mount.as_str()]] {
        let words = [&["--image", "tiny"][..], &words].concat();
        told.add(&format!("run {}", words.join(" ")), &without_privileges(&run(&words)).output().unwrap());
    }
    insta::with_settings!({ snapshot_path => "../snapshots" }, { insta::assert_snapshot!(told.text) });
}

#[test]
fn an_image_that_cannot_be_pulled_is_told() {
    engine_or_skip!();
    // No engine listens there.
    let mut command = highwater();
    let output = command.args(["run", "--network", "host", "--image", "127.0.0.1:1/no/such:image"]).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(told.contains("failed to pull the image `127.0.0.1:1/no/such:image`: "), "{told}");
    assert!(told.contains("connection refused") && told.contains("docker login"), "{told}");
}

#[test]
fn logs_are_kept_through_no_link() {
    engine_or_skip!();
    let bench = tempfile::tempdir().unwrap();
    let (victims, record) = (bench.path().join("victims"), bench.path().join("runs.jsonl"));
    std::fs::create_dir(&victims).unwrap();
    std::os::unix::fs::symlink(&victims, bench.path().join("runs.logs")).unwrap();
    let output = run(&["--image", "tiny", "--record", record.to_str().unwrap()]).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(told.contains("symbolic"), "{told}");
    assert_eq!(std::fs::read_dir(victims).unwrap().count(), 0);
}
