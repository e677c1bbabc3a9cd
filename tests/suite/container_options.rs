//! Resources of containers: what is requested from an engine, and what is refused. The engine is a fake one on a machine
//! with one CPU, and grants every request.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fake_engine::{Behaviour, FakeEngine};

/// An engine, and a directory with a task that asks for GPUs.
struct Bench {
    engine: FakeEngine,
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { engine: FakeEngine::new(Behaviour::default()), folder: tempfile::tempdir().unwrap() };
        bench.task(&json!({"nvidia.com/gpu": 2}));
        bench
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a task with these limits.
    fn task(&self, limits: &Value) {
        let template = json!({
            "identifier": "train", "description": "", "inputs": [], "outputs": [], "env": [], "command": ["/task"],
            "resources": {"limits": limits},
        });
        let task =
            json!({"name": "train", "image": "tiny", "taskTemplate": template, "inputs": [], "outputs": [], "env": []});
        std::fs::write(self.path().join("task.json"), task.to_string()).unwrap();
    }

    fn highwater(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(self.path()).env("DOCKER_HOST", self.engine.url()).env("XDG_CACHE_HOME", self.path());
        command.env("DOCKER_CONFIG", self.path()).args(words).output().unwrap()
    }

    /// The record of a run, and what the engine was asked for.
    fn run(&self, words: &[&str]) -> (Value, Value) {
        let output = self.highwater(&[&["run", "--probe", "never", "--format", "json"], words].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
        let created = self.engine.created().pop().unwrap();
        (crate::harness::only_element(&output.stdout), created["HostConfig"].clone())
    }

    /// The message with which these words are refused, without having asked the engine for a container.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.highwater(words);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        assert_eq!(self.engine.created(), Vec::<Value>::new(), "{words:?}");
        // Messages are broken into lines.
        String::from_utf8_lossy(&output.stderr).replace('│', "").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn options_are_in_the_request_for_a_container_and_in_the_record() {
    let bench = Bench::new();
    let words = "--image tiny --cpus .5 --shm-size 1g --limit 64Mi --memory-swap 128m --tmpfs /scratch:size=16m,mode=1777 \
                 --tmpfs /run --ulimit nofile=100:200 --ulimit memlock=-1 --device /dev/fuse:rw --device \
                 nvidia.com/gpu=0 --gpus \"device=1,GPU-3a\"";
    let (run, host) = bench.run(&words.split_whitespace().collect::<Vec<_>>());
    let expected = json!({
        "NanoCpus": 500_000_000, "ShmSize": 1 << 30, "Memory": 64 << 20, "MemorySwap": 128 << 20,
        "Tmpfs": {"/scratch": "size=16m,mode=1777", "/run": ""},
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}, {"Name": "memlock", "Soft": -1, "Hard": -1}],
        "Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}],
        "DeviceRequests": [
            {"DeviceIDs": ["1", "GPU-3a"], "Capabilities": [["gpu"]], "Options": {}},
            {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]},
        ],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(host[name], *value, "{name}: {host:#}");
    }
    let options = [
        "--cpus=0.5",
        "--gpus=\"device=1,GPU-3a\"",
        "--device=/dev/fuse:/dev/fuse:rw",
        "--device=nvidia.com/gpu=0",
        "--shm-size=1073741824",
        "--memory-swap=134217728",
        "--tmpfs=/scratch:size=16m,mode=1777",
        "--tmpfs=/run",
        "--ulimit=nofile=100:200",
        "--ulimit=memlock=-1:-1",
    ];
    let record = run.get("observation").unwrap_or(&run);
    assert_eq!(record["container"]["options"], json!(options), "{run:#}");
    let warnings = record["warnings"].as_array().unwrap();
    assert!(warnings.contains(&json!({"code": "swap-allowed", "swap_bytes": 64 << 20})), "{warnings:#?}");
    let directories = ["/dev/shm", "/scratch", "/run"];
    assert!(warnings.contains(&json!({"code": "in-memory", "directories": directories})), "{warnings:#?}");
}

#[test]
fn without_options_the_engine_decides() {
    let (run, host) = Bench::new().run(&["--image", "tiny"]);
    for name in ["NanoCpus", "ShmSize", "MemorySwap", "Tmpfs", "Ulimits", "Devices", "DeviceRequests"] {
        assert_eq!(host[name], Value::Null, "{name}");
    }
    assert_eq!(run.get("observation").unwrap_or(&run)["container"]["options"], Value::Null);
    let (_, host) = Bench::new().run(&["--image", "tiny", "--limit", "64Mi"]);
    assert_eq!(host["MemorySwap"], 64 << 20, "no swap beyond the limit");
    let (_, host) = Bench::new().run(&["--image", "tiny", "--limit", "64Mi", "--memory-swap", "-1"]);
    assert_eq!(host["MemorySwap"], -1);
}

#[test]
fn a_task_gets_the_gpus_of_its_limits() {
    let bench = Bench::new();
    let (_, host) = bench.run(&["task.json"]);
    assert_eq!(host["DeviceRequests"], json!([{"Count": 2, "Capabilities": [["gpu"]], "Options": {}}]));
    let (_, host) = bench.run(&["task.json", "--gpus", "all"]);
    assert_eq!(host["DeviceRequests"][0]["Count"], -1);
    let (_, host) = bench.run(&["task.json", "--gpus", "0"]);
    assert_eq!(host["DeviceRequests"], Value::Null);
    bench.task(&json!({"amd.com/gpu": 1}));
    let (_, host) = bench.run(&["task.json", "--device", "/dev/kfd"]);
    assert_eq!((&host["DeviceRequests"], &host["Devices"][0]["PathOnHost"]), (&Value::Null, &json!("/dev/kfd")));
}

#[test]
fn the_pod_of_a_task_has_the_gpus_of_its_limits() {
    let bench = Bench::new();
    let output = bench.highwater(&["predict", "task.json", "--emit", "pod"]);
    let pod: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], "2", "{pod:#}");
}

#[test]
fn what_cannot_be_had_is_refused_before_anything_is_run() {
    let bench = Bench::new();
    for (words, expected) in [
        ("run --image tiny --cpus 2", "failed to give the container 2 CPUs (--cpus): the engine's machine has 1"),
        (
            "run --image tiny --memory-swap 1g",
            "--memory-swap limits memory and swap together, so it needs a memory limit",
        ),
        (
            "run --image tiny --limit 64Mi --memory-swap 32m",
            "to 32 MiB (--memory-swap): the memory limit alone is 64 MiB",
        ),
        ("sweep --image tiny --memory-swap 1g", "`memory-swap` needs `limit`"),
        ("sweep --image tiny --limit 64Mi --memory-swap 32m", "`memory-swap` is 32 MiB, less than `limit`, 64 MiB"),
        ("run --gpus all -- true", "--gpus has no effect on a process on this machine"),
        ("run task.json --runner process --shm-size 1g", "--shm-size has no effect on a process on this machine"),
        ("sweep --on slurm --tmpfs /a -- true", "--tmpfs has no effect on a process on this machine"),
        ("run --image tiny --on kubernetes --ulimit core=0", "--ulimit is an option of container engines"),
        ("run --image tiny --gpus some", "invalid value 'some' for '--gpus <GPUS>': expected all, a number of GPUs"),
        (
            "run --image tiny --shm-size much",
            "invalid value 'much' for '--shm-size <SIZE>': expected a size such as 64m",
        ),
        ("run --image tiny --ulimit files=1", "found the limit `files`, expected one of core, cpu"),
        ("run --image tiny --tmpfs /a:colour=red", "found the mount option `colour=red`, expected an absolute path"),
    ] {
        let message = bench.refused(&words.split(' ').collect::<Vec<_>>());
        assert!(message.contains(expected), "{words}: {message}");
    }
    bench.task(&json!({"amd.com/gpu": 1}));
    let message = bench.refused(&["run", "task.json"]);
    assert!(
        message.contains("asks for amd.com/gpu: 1, and a container engine can be asked only for nvidia.com"),
        "{message}"
    );
    // A number of none asks for nothing.
    bench.task(&json!({"amd.com/gpu": "0"}));
    let output = bench.highwater(&["sweep", "task.json", "--dry-run"]);
    assert!(output.status.success(), "{output:?}");
    bench.task(&json!({"nvidia.com/gpu": "500m"}));
    let message = bench.refused(&["run", "task.json"]);
    assert!(message.contains("asks for nvidia.com/gpu: 500m, expected a whole number of GPUs"), "{message}");
}

#[test]
fn cells_with_other_options_are_others() {
    let bench = Bench::new();
    let keys = |words: &str| {
        let plan = bench.path().join("plan.json");
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = bench.highwater(&[&["sweep", "--dry-run", "--save-plan", "plan.json"], &words[..]].concat());
        assert!(output.status.success(), "{output:?}");
        let plan: Value = serde_json::from_str(&std::fs::read_to_string(plan).unwrap()).unwrap();
        plan["cells"][0]["key"].as_str().unwrap().to_owned()
    };
    let all = ["", "--shm-size 1g", "--shm-size 2g", "--cpus 1", "--tmpfs /a"];
    let mut found: Vec<String> = all.iter().map(|words| keys(&format!("--image tiny {words}"))).collect();
    assert_eq!(keys("--image tiny --shm-size 1024m"), found[1], "the same size");
    found.extend([keys("task.json"), keys("task.json --gpus 0")]);
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!(found.len(), count);
}
