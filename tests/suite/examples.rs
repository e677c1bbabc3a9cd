//! The examples of examples/: each does what it is for, with the programs that it is written for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program that finds highwater and the tools of `tests/run`, and no configuration of Git.
fn program(name: impl AsRef<std::ffi::OsStr>, directory: &Path) -> Command {
    let highwater = Path::new(env!("CARGO_BIN_EXE_highwater")).parent().unwrap();
    let inherited = std::env::var("PATH").unwrap();
    let path = format!("{}:{}:{inherited}", highwater.display(), top().join("target/tools/bin").display());
    let mut command = Command::new(name);
    command.current_dir(directory).env("PATH", path).env("HOME", directory).env_remove("HIGHWATER_LOG");
    for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
        command.env(name, "test@example.org");
    }
    command
}

fn all(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether this program is installed. CI must have it.
fn has(program: &str) -> bool {
    let has = Command::new(program).arg("--version").output().is_ok();
    assert!(has || std::env::var_os("CI").is_none(), "{program} is missing");
    if !has {
        harness::skip(&format!("there is no {program}"));
    }
    has
}

/// Prints what a figure shows: each kind of mark, and how many of them.
const MARKS: &str = "
import sys
sys.path.insert(0, sys.argv[1])
import peaks
axes = peaks.draw(peaks.read(sys.stdin)).axes[0]
for marks in axes.collections:
    if hasattr(marks, 'get_segments'):
        print('lines:', len(marks.get_segments()))
    else:
        print(f'{marks.get_label()}:', len(marks.get_offsets()))
";

/// A sampled peak with an upper bound, two sampled ones without, an exact one, and runs that show nothing.
const BOUNDS: &str = "task,input_bytes,peak_bytes,peak_exactness,peak_at_most_bytes,censored,exit_status
a,1048576,2097152,lower-bound,4194304,lower-bound,0
a,1048576,3145728,lower-bound,,lower-bound,0
a,2097152,6291456,exact,,oom,
b,2097152,5242880,exact,,,0
b,2097152,9437184,exact,,,1
b,,7340032,exact,,,0
";

#[test]
fn the_plot_shows_bounds_apart_from_exact_peaks() {
    let Some(python) = harness::python("pandas, matplotlib") else { return };
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("runs.csv"), BOUNDS).unwrap();
    let runs = fs::File::open(folder.path().join("runs.csv")).unwrap();
    let mut marks = program(python, folder.path());
    let output = marks.args(["-c", MARKS]).arg(top().join("examples/plots")).stdin(runs).output().unwrap();
    assert_eq!(all(&output), "a, at least: 3\nlines: 1\nb, exact: 1\n");
}

#[test]
fn the_script_prints_a_table_and_writes_a_picture() {
    let Some(python) = harness::python("pandas, matplotlib") else { return };
    let folder = TempDir::new().unwrap();
    let script = "highwater export \"$1\" | \"$2\" \"$3\" - peaks.svg";
    let mut shell = program("sh", folder.path());
    shell.args(["-c", script, "sh"]).arg(top().join("fixtures/records/segment/observations.jsonl")).arg(python);
    let output = shell.arg(top().join("examples/plots/peaks.py")).output().unwrap();
    let table = all(&output);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let [first, last] =
        [["segment", "2.0", "3", "13.5", "14.0", "-"].as_slice(), &["128.0", "4", "466.1", "466.5", "256.0"]];
    assert!(lines.iter().any(|line| line == first) && lines.last().unwrap() == last, "{table}");
    assert!(fs::read_to_string(folder.path().join("peaks.svg")).unwrap().contains("</svg>"), "{table}");
}

/// A copy of examples/make, to make in.
struct Project(TempDir);

impl Project {
    fn new() -> Option<Self> {
        if !has("make") || !has("python3") {
            return None;
        }
        let folder = TempDir::new().unwrap();
        for entry in fs::read_dir(top().join("examples/make")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn make(&self, words: &[&str]) -> Command {
        let mut make = program("make", self.0.path());
        make.args(words);
        make
    }

    #[track_caller]
    fn makes(&self, words: &[&str]) -> String {
        let output = self.make(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", all(&output));
        all(&output)
    }

    fn records(&self) -> String {
        fs::read_to_string(self.path("smooth.sweep/observations.jsonl")).unwrap_or_default()
    }
}

#[test]
fn make_does_nothing_the_second_time() {
    let Some(project) = Project::new() else { return };
    project.makes(&[]);
    assert!(project.path("fit.txt").exists() && project.path("report.html").exists());
    let again = project.makes(&["--debug=basic"]);
    assert!(again.contains("Nothing to be done for 'all'"), "{again}");
}

#[test]
fn make_goes_on_with_an_interrupted_sweep_and_not_with_that_of_another_program() {
    let Some(project) = Project::new() else { return };
    let mut make = project.make(&[]);
    std::os::unix::process::CommandExt::process_group(&mut make, 0);
    let mut make = make.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while !project.records().contains('\n') {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing was recorded");
        std::thread::sleep(Duration::from_millis(10));
    }
    killpg(Pid::from_raw(make.id().cast_signed()), Signal::SIGINT).unwrap();
    make.wait().unwrap();
    let before = project.records();
    project.makes(&[]);
    assert!(project.records().starts_with(before.lines().next().unwrap()));

    let changed = fs::read_to_string(project.path("smooth.py")).unwrap() + "# changed\n";
    fs::write(project.path("smooth.py"), changed).unwrap();
    project.makes(&[]);
    assert!(!project.records().contains(before.lines().next().unwrap()));
}

#[test]
fn make_check_fails_when_the_program_needs_more() {
    let Some(project) = Project::new() else { return };
    if !nix::unistd::geteuid().is_root() {
        harness::skip("no peak is exact here");
        return;
    }
    project.makes(&["baseline"]);
    project.makes(&["check"]);
    assert!(project.makes(&["check"]).contains("Nothing to be done for 'check'"));
    let program = fs::read_to_string(project.path("smooth.py")).unwrap();
    fs::write(project.path("smooth.py"), program.replace("print(", "more = 3 * scans\nprint(")).unwrap();
    let output = project.make(&["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", all(&output));
    assert!(all(&output).contains("large: the peak has grown"), "{}", all(&output));
    // A failed check is not taken for one that has passed.
    assert!(!project.make(&["check"]).output().unwrap().status.success());
}

/// A Git repository in which a correct and an incorrect task are staged, beside a container that neither belongs to.
struct Repository(TempDir);

impl Repository {
    fn new() -> Option<Self> {
        if !has("git") {
            return None;
        }
        let repository = Self(TempDir::new().unwrap());
        repository.git(&["init", "--quiet"]);
        repository.put("good/example-task.json", "a/task.json");
        repository.put("good/example-container.json", "a/processing-container.json");
        repository.put("bad/quantity.json", "with space/my-task.json");
        Some(repository)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn git(&self, words: &[&str]) -> Output {
        program("git", self.0.path()).args(words).output().unwrap()
    }

    /// Stages this file of fixtures/tasks.
    fn put(&self, fixture: &str, name: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::copy(top().join("fixtures/tasks").join(fixture), self.path(name)).unwrap();
        self.git(&["add", name]);
    }

    /// The hook refuses the incorrect task, also if only the working tree has a correct one, and passes the correct one.
    fn check_hook(&self) {
        let refused =
            |output: &Output| !output.status.success() && all(output).contains("`Q` is not a unit of a quantity");
        let commit = || self.git(&["commit", "--quiet", "--message", "x"]);
        let output = commit();
        assert!(refused(&output), "{}", all(&output));
        fs::copy(top().join("fixtures/tasks/good/example-task.json"), self.path("with space/my-task.json")).unwrap();
        let output = commit();
        assert!(refused(&output), "{}", all(&output));
        self.git(&["add", "with space"]);
        let output = commit();
        assert!(output.status.success(), "{}", all(&output));
    }
}

#[test]
fn the_hook_validates_what_is_committed() {
    let Some(repository) = Repository::new() else { return };
    fs::copy(top().join("examples/pre-commit/pre-commit"), repository.path(".git/hooks/pre-commit")).unwrap();
    repository.check_hook();

    repository.git(&["config", "highwater.check", "true"]);
    fs::write(repository.path("highwater.toml"), "[tasks.t]\ncommand = ['false']\n").unwrap();
    let output = repository.git(&["commit", "--allow-empty", "--message", "y"]);
    assert!(all(&output).contains("task failed: default") && !output.status.success(), "{}", all(&output));
}

#[test]
fn the_hooks_for_the_pre_commit_framework_validate_what_is_committed_and_check_what_is_pushed() {
    let (Some(python), Some(repository)) = (harness::python("pre_commit, yaml"), Repository::new()) else { return };
    let config = top().join("examples/pre-commit/.pre-commit-config.yaml");
    fs::copy(&config, repository.path(".pre-commit-config.yaml")).unwrap();
    let hooks = ["install", "--hook-type", "pre-commit", "--hook-type", "pre-push"];
    assert!(program(&python, repository.0.path()).args(["-m", "pre_commit"]).args(hooks).status().unwrap().success());
    repository.git(&["add", ".pre-commit-config.yaml"]);
    repository.check_hook();

    repository.git(&["init", "--quiet", "--bare", "remote.git"]);
    let output = repository.git(&["push", "remote.git", "HEAD:refs/heads/main"]);
    assert!(!output.status.success() && all(&output).contains("failed to read highwater.toml"), "{}", all(&output));

    // Those of this repository are the same.
    let hooks = "import sys, yaml\nfor file in sys.argv[1:]: print(yaml.safe_load(open(file)))";
    let mut read = program(&python, repository.0.path());
    let output = read.args(["-c", hooks]).arg(top().join(".pre-commit-hooks.yaml")).arg(config).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let [ours, theirs] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let descriptions = regex::Regex::new("'description': '[^']*', ").unwrap();
    assert!(theirs.contains(&*descriptions.replace_all(ours, "")), "{text}");
}

/// The pod that the DAG makes for scans of 30 MiB.
pub(crate) fn airflow_pod() -> Option<Value> {
    has("python3").then(|| {
        let scans = TempDir::new().unwrap();
        fs::File::create(scans.path().join("ct.raw")).unwrap().set_len(30 << 20).unwrap();
        let mut python = program("python3", top());
        python.arg("tests/airflow.py").arg("examples/airflow/segment_dag.py");
        let output = python.arg(format!("scans={}", scans.path().display())).output().unwrap();
        assert!(output.status.success(), "{}", all(&output));
        let mut pods: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(pods.len(), 1);
        pods.remove(0)
    })
}

#[test]
fn the_dag_makes_the_pod_of_the_documentation() {
    let Some(pod) = airflow_pod() else { return };
    let annotations = json!({"highwater/task": "segment", "highwater/input.scans": "31457280"});
    assert_eq!(pod["metadata"]["annotations"], annotations);
    let container = &pod["spec"]["containers"][0];
    let words = [&container["command"], &container["args"]].map(|words| words.as_array().unwrap().clone()).concat();
    let page = fs::read_to_string(top().join("docs/production.md")).unwrap();
    let command = page.lines().find_map(|line| line.trim().strip_prefix("command: [/highwater/probe, ")).unwrap();
    let words: Vec<&str> = words.iter().skip(1).map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words.join(", "), command.trim_end_matches(']').replace('"', ""));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "highwater", "configMap": {"name": "highwater", "defaultMode": 0o555}}])
    );
    assert_eq!(container["volumeMounts"], json!([{"name": "highwater", "mountPath": "/highwater"}]));
    assert_eq!(container["resources"], json!({"limits": {"memory": "256Mi"}}));
}

#[test]
fn the_library_sweeps_fits_and_checks_by_itself() {
    if !nix::unistd::geteuid().is_root() {
        return harness::skip("no peak is exact here");
    }
    let example = Path::new(env!("CARGO_BIN_EXE_highwater")).parent().unwrap().join("examples/library");
    let output = Command::new(example).output().unwrap();
    let shown = all(&output);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("limit: ") && shown.contains("where n is ") && shown.contains("check: Passed"), "{shown}");
}
