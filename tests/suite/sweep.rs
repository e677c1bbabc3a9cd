//! `highwater sweep` from end to end: what it measures, what it records, and what it does not repeat.

mod bad_input;
mod cases;
mod cells;
mod cpus;
mod floors;
mod inputs;
mod killed;
mod measured;
mod record;
mod secrets;
mod space;
mod swapped;
pub(crate) mod unchanged;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use highwater::model::observation::Observation;
use highwater::store;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// A directory to sweep in, with the data of a channel.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `count` items in `scans`, each a file of `bytes` bytes.
    fn with_items(count: usize, bytes: u64) -> Self {
        let bench = Self::new();
        for item in 1..=count {
            bench.write(&format!("scans/p{item:02}/ct.raw"), bytes);
        }
        bench
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, bytes: u64) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![7; usize::try_from(bytes).unwrap()]).unwrap();
    }

    /// `highwater sweep` with these words.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(self.path()).arg("sweep").args(words).stdin(Stdio::null());
        command
    }

    fn sweep(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().unwrap())
    }

    /// The same, which must succeed.
    #[track_caller]
    fn done(&self, words: &[&str]) -> Ran {
        let ran = self.sweep(words);
        assert_eq!(ran.status, Some(0), "{words:?}: {}", ran.stderr);
        ran
    }

    fn records(&self, place: &str) -> Vec<Observation> {
        let records = store::read(&self.path().join(place)).unwrap();
        assert_eq!(records.unusable, []);
        records.observations
    }

    /// A task that runs `script` on a channel `scans` with two variables.
    fn task(&self, script: &str) -> PathBuf {
        let task = json!({
            "name": "segment-lung",
            "image": "registry/segment:1",
            "taskTemplate": {
                "identifier": "lung",
                "description": "Segments lungs.",
                "inputs": [
                    {"name": "scans", "mounted_path": "/scans",
                     "scale_rule": {"complexity": "3*n", "type": "limit", "mode": "sum"}},
                    {"name": "atlas", "mounted_path": "/atlas"},
                ],
                "outputs": [{"name": "masks", "mounted_path": "/masks"}],
                "env": [
                    {"name": "MODE", "value": "fast", "choices": ["fast", "fine"]},
                    {"name": "LEVEL", "value": "3", "type": "int"},
                ],
                "command": ["sh", "-c", script],
            },
            "inputs": [{"name": "scans", "input": {"host_path": "scans"}},
                       {"name": "atlas", "input": {"host_path": "atlas"}}],
            "outputs": [{"name": "masks", "input": {"host_path": "made/out"}}],
        });
        let path = self.path().join("task.json");
        fs::write(&path, task.to_string()).unwrap();
        path
    }
}

/// The result of a sweep.
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Errors are wrapped to the width of a terminal.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.stderr.replace("\n  │ ", " ").replace("\n        ", " ").contains(text)
    }
}

/// The runs of a record, each a cell and a number.
fn runs(records: &[Observation]) -> BTreeSet<(String, u32)> {
    records.iter().filter_map(|run| run.sweep.as_ref()).map(|sweep| (sweep.cell.clone(), sweep.run)).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Compares a text with the snapshot.
#[track_caller]
fn snapshot(name: &str, text: &str) {
    insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(format!("suite__sweep__{name}"), text);
    });
}
