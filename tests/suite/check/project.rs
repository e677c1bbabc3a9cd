//! A directory with a highwater.toml, a baseline and records, and the result of a check in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use highwater::model::observation::{InputSizes, Observation, SweepRun};
use highwater::model::prediction::Sizes;
use highwater::model::reading::Reading;
use highwater::model::units::Bytes;
use tempfile::TempDir;

pub(super) const MIB: u64 = 1 << 20;

/// One run of `./segment`, exact, without limits.
const RUN: &str = r#"{
  "schema_version": 1, "tool_version": "0.1.0", "started_at": "2026-01-01T00:00:00Z",
  "subject": {"name": "segment", "command": ["./segment"]}, "runner": "process",
  "outcome": {"kind": "exited", "status": 0}, "wall_us": 1000,
  "peak": {"bytes": 0, "source": "own-cgroup", "exactness": {"kind": "exact", "noise_bytes": 524288}},
  "breakdown": "gone", "swap": {"peak": "gone", "highest_sampled": "gone"},
  "limit": {"own": null, "effective": null}, "censored": false, "events": "gone", "cpu": "gone", "io": "gone",
  "pids_peak": "gone", "pressure": "gone", "leftover_processes": 0, "series": {"taken": 0, "samples": []},
  "host": {"kernel": "6.1.0", "architecture": "x86_64", "cpus": 2, "page_bytes": 4096, "memory_bytes": 1, "swap_bytes": 0,
           "cgroup": "v2"}
}"#;

/// The configuration that most tests check.
pub(super) const SEGMENT: &str = "[tasks.segment]\ncommand = [\"./segment\", \"{input}\"]\n";

/// A run of a cell with an input of `n` bytes (none if 0).
pub(super) fn run(cell: &str, n: u64, peak: u64) -> Observation {
    let mut observation: Observation = serde_json::from_str(RUN).unwrap();
    observation.sweep = Some(SweepRun::new(cell, cell, 1));
    if n > 0 {
        let mut all = Sizes::default();
        (all.files, all.sum) = (1, Bytes(n));
        observation.inputs = vec![InputSizes::new("input", all)];
    }
    let Reading::Value(of) = &mut observation.peak else { panic!("{observation:?}") };
    of.bytes = Bytes(peak);
    observation
}

/// Three runs of a cell, in MiB.
pub(super) fn three(cell: &str, n: u64, peak: u64) -> Vec<Observation> {
    (0..3).map(|page| run(cell, n * MIB, peak * MIB + page * 4096)).collect()
}

/// Three runs of each size in MiB.
pub(super) fn sweep(sizes: &[u64], need: impl Fn(u64) -> u64) -> Vec<Observation> {
    sizes.iter().flat_map(|&n| three(&format!("{n} MiB"), n, need(n))).collect()
}

/// The same runs on another host.
pub(super) fn elsewhere(mut runs: Vec<Observation>) -> Vec<Observation> {
    for run in &mut runs {
        let Reading::Value(host) = &mut run.host else { panic!("{run:?}") };
        host.kernel = "5.10.0".to_owned();
        host.architecture = "aarch64".to_owned();
    }
    runs
}

/// A directory to run checks in.
pub(super) struct Project {
    folder: TempDir,
}

impl Project {
    pub(super) fn new(toml: &str) -> Self {
        let project = Self { folder: TempDir::new().unwrap() };
        project.write("highwater.toml", toml);
        project
    }

    /// A project whose baseline was made from these runs.
    pub(super) fn with_baseline(toml: &str, runs: &[Observation]) -> Self {
        let project = Self::new(toml);
        project.record("then.jsonl", runs);
        let output = project.check(&["--records", "then.jsonl", "--update-baseline"]);
        assert!(project.path("highwater-baseline.json").exists(), "{output:?}");
        project
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(super) fn record(&self, name: &str, runs: &[Observation]) {
        let lines: String = runs.iter().map(|run| serde_json::to_string(run).unwrap() + "\n").collect();
        self.write(name, &lines);
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("GITHUB_STEP_SUMMARY").env("NO_COLOR", "1");
        command
    }

    pub(super) fn check(&self, arguments: &[&str]) -> Checked {
        Checked(self.command(&[&["check"], arguments].concat()).output().unwrap())
    }

    /// Checks these runs.
    pub(super) fn check_runs(&self, runs: &[Observation], arguments: &[&str]) -> Checked {
        self.record("now.jsonl", runs);
        self.check(&[&["--records", "now.jsonl"], arguments].concat())
    }

    /// The names of the files in the directory.
    pub(super) fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The result of a check.
#[derive(Debug)]
pub(super) struct Checked(pub(super) Output);

impl Checked {
    pub(super) fn status(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub(super) fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(super) fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// Everything that the user sees.
    pub(super) fn all(&self) -> String {
        format!("status {}\n{}{}", self.status(), self.stdout(), self.stderr())
    }
}

/// The Python environment with the consumers of our formats.
pub(super) fn python() -> Option<PathBuf> {
    crate::harness::python("junitparser, prometheus_client, jsonschema, yaml")
}
