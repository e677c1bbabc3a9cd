//! Containers, on the engine started by `tests/engine/run`. Without it these tests are skipped with a message.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The tests with an engine; `None` reports that they are skipped.
macro_rules! engine_or_skip {
    () => {
        match std::env::var("HIGHWATER_TEST_ENGINE") {
            Ok(url) => url,
            Err(_) => {
                crate::harness::skip("there is no engine (use tests/engine/run)");
                return;
            }
        }
    };
}

mod bad_input;
mod behaviour;
mod check;
mod endings;
mod exact;
mod floor;
mod gpu;
mod handed_over;
mod inside;
mod operator;
mod owner;
mod remote;
mod resources;
mod signals;
mod storage;
pub(crate) mod sweep;
mod task;

/// The number of runs that counts as "always"; more if there is time.
fn runs() -> usize {
    std::env::var("HIGHWATER_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(5)
}

/// The default source of the peak: Podman's monitor would be in an enclosing cgroup.
fn from_outside() -> &'static str {
    if is_docker() { "parent-cgroup" } else { "probe" }
}

fn is_docker() -> bool {
    !std::env::var("HIGHWATER_TEST_KIND").is_ok_and(|kind| kind == "podman")
}

fn highwater() -> Command {
    let program = std::env::var_os("HIGHWATER_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_highwater").into());
    Command::new(program)
}

/// `highwater run` with the usual options, followed by these words.
fn run(words: &[&str]) -> Command {
    let mut command = highwater();
    command.args(["run", "--network", "host", "--pull", "never"]).args(words);
    command
}

/// The result of `highwater run`, and the records of all runs and of the first.
struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    all: Vec<Value>,
    json: Value,
}

fn ran(words: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let mut command = run(&["--format", "json", "--output", file.to_str().unwrap()]);
    let child = command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(cgroups_of(pid), Vec::<String>::new(), "left behind by {words:?}");
    let all = std::fs::read_to_string(&file).ok().and_then(|text| serde_json::from_str::<Vec<Value>>(&text).ok());
    let all = all.unwrap_or_default();
    Ran {
        status: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        json: all.first().cloned().unwrap_or_default(),
        all,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn docker(words: &[&str]) -> Output {
    Command::new("docker").args(words).output().unwrap()
}

/// The cgroups of a pid in all hierarchies.
fn cgroups_of(pid: u32) -> Vec<String> {
    let names = format!("find /sys/fs/cgroup -maxdepth 3 -name 'highwater-{pid}-*' -o -name 'highwater_{pid}_*'");
    let found = Command::new("sh").args(["-c", &names]).output().unwrap();
    text(&found.stdout).lines().map(str::to_owned).collect()
}

/// The containers with this label.
fn containers_with(label: &str) -> String {
    text(&docker(&["ps", "-aq", "--filter", &format!("label={label}")]).stdout)
}

/// The bytes of a peak that must be exact, from this source, and match the need of the task.
fn assert_exact(run: &Value, source: &str, expected_mib: u64) -> u64 {
    let peak = &run["peak"];
    assert_eq!((&peak["source"], &peak["exactness"]["kind"]), (&Value::from(source), &Value::from("exact")), "{run:#}");
    let bytes = peak["bytes"].as_u64().unwrap();
    // It includes the program itself and batched charges of the kernel.
    let expected = expected_mib * MIB;
    let above = peak["exactness"]["noise_bytes"].as_u64().unwrap() + 3 * MIB;
    // The start of runc (2 to 20 MiB, depending on its version and the kernel) is a minimum of all peaks.
    let least = if expected_mib < 20 { 20 * MIB } else { expected };
    assert!((expected..=least + above).contains(&bytes), "{bytes} is not about {expected_mib} MiB");
    bytes
}
