//! Documents as platforms have them: variables that nobody set here, values from a form, data elsewhere, and a task that
//! has nothing to do.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::sweep::Ran;

/// A directory with a task, `script` as its command, and an input of 1000 bytes.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(script: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(folder.0.path().join("scans")).unwrap();
        fs::write(folder.0.path().join("scans/a.dcm"), [7; 1000]).unwrap();
        folder.write("task.json", &task(script, &json!({"host_path": "scans"})));
        folder
    }

    fn write(&self, name: &str, text: &impl ToString) {
        fs::write(self.0.path().join(name), text.to_string()).unwrap();
    }

    fn highwater(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.path());
        Ran::of(&command.current_dir(&self.0).args(words).output().unwrap())
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> Ran {
        let ran = self.highwater(words);
        assert_eq!(ran.status, Some(0), "{words:?}: {}", ran.stderr);
        ran
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.done(words).stdout).unwrap()
    }
}

fn template(script: &str) -> Value {
    json!({
        "identifier": "segment", "description": "Segments.",
        "inputs": [{"name": "scans", "mounted_path": "/scans",
                    "scale_rule": {"complexity": "3*n", "type": "limit", "mode": "sum"}}],
        "outputs": [],
        "env": [{"name": "LEVEL", "value": "3", "choices": []}],
        "command": ["sh", "-c", script],
    })
}

fn task(script: &str, volume: &Value) -> Value {
    json!({
        "name": "segment", "image": "example/segment:1", "taskTemplate": template(script),
        "inputs": [{"name": "scans", "volume_source": volume}], "outputs": [],
    })
}

/// The task with settings of the platform, `IMAGE` as its image.
fn of_platform(image: &str) -> Value {
    let mut task = task("true", &json!({"host_path": "scans"}));
    task["image"] = image.into();
    task["config"] = json!({"namespace": "{{ env.NAMESPACE }}", "registryPassword": "{{ env.PASSWORD }}"});
    task
}

#[test]
fn a_variable_that_only_config_uses_may_be_undefined() {
    let folder = Folder::new("true");
    folder.write("task.json", &of_platform("example/segment:1"));
    let ran = folder.done(&["predict", "task.json"]);
    assert!(ran.says("the variable `env.NAMESPACE` is not defined"), "{}", ran.stderr);
    assert!(ran.says("the variable `env.PASSWORD` is not defined"), "{}", ran.stderr);
    assert_eq!(folder.highwater(&["predict", "task.json", "--undefined", "error"]).status, Some(2));
    folder.write("task.json", &of_platform("{{ env.REGISTRY }}/segment"));
    let refused = folder.highwater(&["predict", "task.json"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.says("the variable `env.REGISTRY` is not defined"), "{}", refused.stderr);
    folder.done(&["predict", "task.json", "--undefined", "empty"]);
}

#[test]
fn a_file_beside_the_task_adds_to_the_environment() {
    let folder = Folder::new("true");
    folder.write("task.json", &of_platform("{{ env.HOME }}-{{ env.REGISTRY }}/segment"));
    folder.write(".env", &"# ours\nREGISTRY=\"registry example\"\nexport NAMESPACE=n\nHOME=/other\n");
    let pod = folder.json(&["predict", "task.json", "--emit", "pod"]);
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    assert_eq!(image, format!("{}-registry example/segment", folder.0.path().display()));
    folder.write(".env", &"# ours\n\nREGISTRY=a\nPASSWORD=\"s3cret\n");
    let refused = folder.highwater(&["predict", "task.json"]);
    assert!(refused.says("line 4 is not NAME=VALUE") && !refused.says("s3cret"), "{}", refused.stderr);
}

#[test]
fn values_of_a_form_override_those_of_the_task() {
    let folder = Folder::new("test $LEVEL$MORE = 57");
    for env in
        [json!({"LEVEL": 5, "MORE": "7"}), json!([{"name": "LEVEL", "value": "5"}, {"name": "MORE", "value": 7}])]
    {
        folder.write("conf.json", &json!({"task_form": {"env": env}, "project": "x"}));
        folder.done(&["run", "task.json", "--runner", "process", "--quiet", "--conf", "conf.json"]);
    }
    folder.write("conf.json", &json!({"task_form": {"env": 5}}));
    let refused = folder.highwater(&["predict", "task.json", "--conf", "conf.json"]);
    assert!(refused.says("conf.json: `env` is neither an object nor an array"), "{}", refused.stderr);
}

#[test]
fn data_on_a_volume_of_a_cluster_are_found_where_they_are_here() {
    let folder = Folder::new("true");
    folder.write("task.json", &task("true", &json!({"claim_name": "data", "sub_path": "scans"})));
    let words = ["predict", "task.json", "--format", "json"];
    assert_eq!(folder.highwater(&words).status, Some(2), "nothing is known of the size");
    let predicted = folder.json(&[&words[..], &["--data", "scans=scans"]].concat());
    assert_eq!(predicted["docker"]["limit"]["bytes"], 3000, "{predicted}");
    let refused = folder.highwater(&[&words[..], &["--data", "scan=scans"]].concat());
    assert!(refused.says("the task has no channel `scan`") && refused.says("write `scans`"), "{}", refused.stderr);
}

#[test]
fn a_sweep_goes_on_with_its_form_and_data_from_any_directory() {
    let folder = Folder::new("test $LEVEL = 5");
    folder.write("task.json", &task("test $LEVEL = 5", &json!({"claim_name": "data"})));
    folder.write("conf.json", &json!({"task_form": {"env": {"LEVEL": 5}}}));
    let words = "sweep task.json --runner process --conf conf.json --data scans=scans --into made";
    folder.done(&words.split(' ').collect::<Vec<_>>());
    fs::create_dir(folder.0.path().join("elsewhere")).unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_highwater"));
    again.current_dir(folder.0.path().join("elsewhere")).args(["sweep", "--into", "../made", "-r", "2"]);
    let ran = Ran::of(&again.output().unwrap());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(folder.0.path().join("made/observations.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn a_task_is_checked_against_the_template_it_names() {
    let folder = Folder::new("true");
    let mut named = task("true", &json!({"host_path": "nowhere"}));
    named["taskTemplate"] = "segment".into();
    named["env"] = json!([{"name": "LEVELS", "value": "1"}]);
    let mut other = template("true");
    other["identifier"] = "other".into();
    other["env"] = json!([{"name": "N", "value": "x", "type": "int"}]);
    folder.write("task.json", &named);
    folder.write("container.json", &json!({"name": "c", "description": "", "templates": [template("true"), other]}));
    let ran = folder.done(&["validate", "task.json", "container.json"]);
    assert!(ran.says("the template has no variable `LEVELS`, but `LEVEL`"), "{}", ran.stderr);
    assert!(!ran.says("does not exist"), "it reads no data: {}", ran.stderr);
    // What another template of the image is like does not matter to the task.
    let ran =
        folder.done(&["predict", "task.json", "--processing-container", "container.json", "--data", "scans=scans"]);
    assert!(!ran.stderr.contains("env-type"), "{}", ran.stderr);
    named["taskTemplate"] = "segments".into();
    folder.write("task.json", &named);
    let refused = folder.highwater(&["validate", "task.json", "container.json"]);
    assert!(refused.status == Some(2) && refused.says("did you mean `segment`"), "{}", refused.stderr);
}

#[test]
fn a_link_to_the_directory_of_a_channel_is_followed() {
    let folder = Folder::new("true");
    symlink("scans", folder.0.path().join("link")).unwrap();
    assert_eq!(folder.json(&["inputs", "link", "--format", "json"])["n_bytes"]["sum"], 1000);
}

#[test]
fn a_run_without_anything_to_do_is_neither_a_failure_nor_evidence() {
    // The first of two inputs is empty.
    let folder = Folder::new("test -s /scans/a.dcm || exit 126");
    fs::create_dir_all(folder.0.path().join("none")).unwrap();
    fs::write(folder.0.path().join("none/a.dcm"), "").unwrap();
    let script = "test -s {input}/a.dcm || exit 126";
    let words =
        ["sweep", "--skip-status", "126", "--input", "none", "scans", "--into", "made", "--", "sh", "-c", script];
    let ran = folder.done(&words);
    assert!(ran.says("skipped: nothing to do (status 126)"), "{}", ran.stderr);
    let again = folder.done(&[&words[..1], &["--into", "made", "--retry", "failed"]].concat());
    assert!(!again.says("skipped:"), "made again: {}", again.stderr);
    let fitted = folder.highwater(&["fit", "made"]);
    let all = fitted.stdout + &fitted.stderr;
    assert!(all.contains("without anything to do"), "{all}");
    let run = folder.highwater(&["run", "--skip-status", "126", "--record", "run.jsonl", "--", "sh", "-c", "exit 126"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let record: Value = serde_json::from_slice(&fs::read(folder.0.path().join("run.jsonl")).unwrap()).unwrap();
    assert_eq!(record["outcome"], json!({"kind": "skipped", "status": 126}));
}

#[test]
fn a_check_whose_runs_had_nothing_to_do_has_no_evidence() {
    let folder = Folder::new("true");
    let toml =
        "[tasks.idle]\ncommand = [\"sh\", \"-c\", \"exit 126\"]\noptions = [\"--skip-status=126\"]\nbudget = \"1Gi\"\n";
    folder.write("highwater.toml", &toml);
    let checked = folder.highwater(&["check"]);
    assert_eq!(checked.status, Some(5), "{}{}", checked.stdout, checked.stderr);
}

/// The 1435 pairs that were compared with the predecessor had such links.
#[test]
fn a_folder_of_a_pattern_may_be_a_link() {
    let folder = Folder::new("true");
    let store = tempfile::tempdir().unwrap();
    fs::create_dir_all(store.path().join("deep")).unwrap();
    fs::write(store.path().join("b.dcm"), [7; 5000]).unwrap();
    fs::write(store.path().join("deep/c.dcm"), [7; 20_000]).unwrap();
    let at = |path: &str| folder.0.path().join("scans").join(path);
    fs::create_dir_all(at("p1")).unwrap();
    symlink(store.path(), at("p1/ct")).unwrap();
    symlink(".", at("loop")).unwrap();
    let sum =
        |glob: &str| folder.json(&["inputs", "scans", "--glob", glob, "--format", "json"])["n_bytes"]["sum"].clone();
    for (glob, bytes) in [
        ("*.dcm", 1000),
        ("ct/*.dcm", 5000),
        ("c?/*.dcm", 5000),
        ("p1/*/*.dcm", 5000),
        ("ct/**/*.dcm", 25_000),
        ("loop/*.dcm", 1000),
        ("loop/loop/a.dcm", 1000),
    ] {
        assert_eq!(sum(glob), python(&folder.0.path().join("scans"), glob), "{glob}: Python");
        assert_eq!(sum(glob), bytes, "{glob}");
    }
}

/// What Python's `rglob` counts.
fn python(channel: &Path, glob: &str) -> u64 {
    let script = "import sys, pathlib\n\
        print(sum(path.stat().st_size for path in set(pathlib.Path(sys.argv[1]).rglob(sys.argv[2])) if path.is_file()))";
    let output = Command::new("python3").args(["-c", script]).arg(channel).arg(glob).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
