//! A directory with tasks and their inputs, in which the program is run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use tempfile::TempDir;

/// The directory of the fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tasks")
}

/// A directory with a copy of the good tasks, and with inputs for them.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for entry in fixtures().join("good").read_dir().unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
        }
        folder
    }

    /// With 1.5 GiB of scans and 90 MiB of weights, as sparse files.
    pub(crate) fn with_inputs() -> Self {
        let folder = Self::new();
        folder.sparse("scans/p1/ct.nii", 300 << 20);
        folder.sparse("scans/p2/a.nii", 1200 << 20);
        folder.sparse("scans/p2/deep/b.nii", 10 << 20);
        folder.sparse("scans/p2/notes.txt", 5 << 20);
        folder.sparse("weights/v3.pt", 90 << 20);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn sparse(&self, name: &str, bytes: u64) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().set_len(bytes).unwrap();
    }

    pub(crate) fn run(&self, words: &str) -> Shown {
        run(self.0.path(), words.split_whitespace(), "")
    }

    /// The JSON output.
    pub(crate) fn json(&self, words: &str) -> serde_json::Value {
        let output = command(self.0.path()).args(words.split_whitespace()).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

/// The result of a command.
pub(crate) struct Shown {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}\n\nstdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr)
    }
}

pub(crate) fn run<'a>(folder: &Path, args: impl IntoIterator<Item = &'a str>, stdin: &str) -> Shown {
    let output = command(folder).args(args).write_stdin(stdin).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Shown { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The program in a directory, with the same environment everywhere.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    // Whatever engine this machine has does not matter.
    command.env_clear().env("DOCKER_HOST", "unix:///nowhere.sock");
    command.current_dir(folder).env("REGISTRY", "registry.example:5000");
    command
}
