//! GPU memory, read from a library that takes the place of NVIDIA's (`tests/nvml`): no device is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::harness::skip;

const MIB: u64 = 1 << 20;

/// A machine with GPUs.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

/// A device with accounting mode on or off.
pub(crate) fn device(name: &str, accounting: bool, processes: Value) -> Value {
    json!({"uuid": format!("GPU-{name}"), "name": "Model X", "accounting": accounting, "utilization": 40,
           "total": 8192 * MIB, "used": 7 * MIB, "processes": processes})
}

impl Machine {
    /// `None` if no pid of this machine means anything to a driver.
    pub(crate) fn new(devices: Value) -> Option<Self> {
        if fs::read_link("/proc/self/ns/pid").unwrap().to_str() != Some("pid:[4026531836]") {
            skip("the tests are in a pid namespace of their own");
            return None;
        }
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        machine.set(&json!({"devices": devices}));
        Some(machine)
    }

    fn set(&self, machine: &Value) {
        fs::write(self.path("machine.json"), machine.to_string()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn highwater(&self, arguments: &[&str]) -> Command {
        let library = Path::new(env!("CARGO_BIN_EXE_highwater")).with_file_name("examples/libnvml_stand_in.so");
        assert!(library.exists(), "the library is missing: cargo build --example nvml_stand_in");
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(&self.folder).args(arguments).env("HIGHWATER_NVML", library);
        command.env("NVML_STAND_IN", self.path("machine.json"));
        command
    }

    /// The record of this script of a shell.
    fn run(&self, script: &str) -> Value {
        let options = ["run", "--format", "json", "--output", "run.json", "--", "sh", "-c", script];
        self.highwater(&options).assert().success();
        self.record()
    }

    /// The record in `run.json`.
    pub(crate) fn record(&self) -> Value {
        crate::harness::only_element(fs::read(self.path("run.json")).unwrap())
    }
}

/// A process of the machine that is not of the run.
struct Neighbour(Child);

impl Neighbour {
    fn new(machine: &Machine) -> Self {
        let child = std::process::Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        fs::write(machine.path("neighbour"), child.id().to_string()).unwrap();
        Self(child)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The processes of a device by the files that have their pids: in the lists, and in the accounts, in MiB.
pub(crate) fn process(machine: &str, used: Option<u64>, most: Option<u64>) -> Value {
    json!({"pid_file": machine, "used": used.map(|mib| mib * MIB), "most": most.map(|mib| mib * MIB)})
}

pub(crate) fn peak(gpu: &Value) -> (u64, &str, &str) {
    let peak = &gpu["peak"];
    let words = |value: &'static str| peak.pointer(value).and_then(Value::as_str).unwrap_or("none");
    (peak["bytes"].as_u64().unwrap_or(u64::MAX) / MIB, words("/source"), words("/exactness/kind"))
}

#[test]
fn with_accounting_a_process_between_two_samples_has_its_exact_peak() {
    let processes = json!([process("task", None, Some(345)), process("earlier", None, Some(7000))]);
    let Some(machine) = Machine::new(json!([device("0", true, processes)])) else { return };
    // The accounts of processes that ended before the run stay in the driver.
    fs::write(machine.path("earlier"), "4000000").unwrap();
    let run = machine.run("sh -c 'echo $$ > task; sleep 0.3'");
    let gpu = &run["gpu"][0];
    assert_eq!(peak(gpu), (345, "accounting", "exact"), "{run}");
    assert_eq!((&gpu["uuid"], &gpu["model"]), (&json!("GPU-0"), &json!("Model X")));
    assert_eq!(gpu["utilization"], json!({"mean_percent": 40, "highest_percent": 40}));
    assert_eq!([&gpu["before"], &gpu["others"]], [7 * MIB, 0]);
    let pid: u64 = fs::read_to_string(machine.path("task")).unwrap().trim().parse().unwrap();
    assert_eq!(gpu["processes"], json!([{"pid": pid, "peak": 345 * MIB, "utilization_percent": 40}]));
    assert_eq!(run["warnings"], Value::Null);
}

#[test]
fn without_a_cgroup_the_processes_of_the_run_are_the_descendants_of_its_first() {
    let Some(machine) = Machine::new(json!([device("0", true, json!([process("task", Some(5), Some(345))]))])) else {
        return;
    };
    let script = "sh -c 'echo $$ > task; sleep 1'; true";
    let options = ["run", "--cgroup", "never", "--format", "json", "--output", "run.json", "--", "sh", "-c", script];
    machine.highwater(&options).assert().success();
    let run = machine.record();
    assert_eq!(peak(&run["gpu"][0]), (345, "accounting", "exact"), "{run}");
}

#[test]
fn without_accounting_the_peak_is_the_highest_sample_and_a_lower_bound() {
    let processes = json!([process("task", Some(300), Some(345))]);
    let Some(machine) = Machine::new(json!([device("0", false, processes)])) else { return };
    let run = machine.run("echo $$ > task; sleep 1");
    let gpu = &run["gpu"][0];
    assert_eq!(peak(gpu), (300, "sampled", "lower-bound"), "{run}");
    assert!(gpu["peak"]["exactness"]["reason"].as_str().unwrap().contains("accounting mode is off"), "{gpu}");
    assert!(gpu["peak"]["exactness"]["remedy"].as_str().unwrap().contains("nvidia-smi -am 1"), "{gpu}");
    assert!(gpu["samples"].as_u64().unwrap() >= 2, "{gpu}");
}

#[test]
fn processes_that_met_are_summed_as_far_as_samples_show_it() {
    let processes = json!([process("a", Some(100), Some(200)), process("b", Some(50), Some(70))]);
    let Some(machine) = Machine::new(json!([device("0", true, processes)])) else { return };
    let run = machine.run("sh -c 'echo $$ > a; sleep 1' & sh -c 'echo $$ > b; sleep 1'; wait");
    assert_eq!(peak(&run["gpu"][0]), (200, "accounting", "lower-bound"), "{run}");
    assert_eq!(run["gpu"][0]["peak"]["at_most"], 270 * MIB);
    assert_eq!(run["gpu"][0]["processes"].as_array().unwrap().len(), 2);
    for name in ["a", "b"] {
        fs::remove_file(machine.path(name)).unwrap();
    }
    let run = machine.run("sh -c 'echo $$ > a; sleep 0.3'; sleep 0.5; sh -c 'echo $$ > b; sleep 0.3'");
    assert_eq!(peak(&run["gpu"][0]), (200, "accounting", "exact"), "{run}");
}

#[test]
fn two_devices_and_a_neighbour_are_kept_apart() {
    let first = json!([process("task", Some(100), Some(120)), process("neighbour", Some(2000), Some(3000))]);
    let second = json!([process("other", Some(500), Some(510))]);
    let devices = json!([device("0", true, first), device("1", true, second)]);
    let Some(machine) = Machine::new(devices) else { return };
    let neighbour = Neighbour::new(&machine);
    let run = machine.run("sh -c 'echo $$ > other; sleep 1' & echo $$ > task; sleep 1");
    let gpu = &run["gpu"];
    // The device with the highest peak comes first.
    assert_eq!([&gpu[0]["uuid"], &gpu[1]["uuid"]], ["GPU-1", "GPU-0"]);
    assert_eq!([peak(&gpu[0]), peak(&gpu[1])], [(510, "accounting", "exact"), (120, "accounting", "exact")], "{run}");
    assert_eq!([&gpu[0]["others"], &gpu[1]["others"]], [0, 2000 * MIB]);
    drop(neighbour);
}

#[test]
fn a_second_device_that_is_only_sampled_makes_the_need_a_lower_bound_for_run_and_fit() {
    let devices = |accounting| {
        let processes = json!([process("task", Some(100), Some(120))]);
        json!([device("0", true, processes), device("1", accounting, json!([]))])
    };
    let Some(machine) = Machine::new(devices(false)) else { return };
    let shown = || {
        let options = ["run", "--record", "runs.jsonl", "--", "sh", "-c", "echo $$ > task; sleep 0.5"];
        let output = machine.highwater(&options).output().unwrap();
        String::from_utf8(output.stderr).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let table = shown();
    assert!(table.contains("gpu 120 MiB exact"), "{table}");
    let why = "the most on any one GPU is a lower bound: GPU-1 was only sampled, and not seen in use";
    assert!(table.contains(why), "{table}");
    let json = machine.highwater(&["report", "runs.jsonl", "--format", "json"]).output().unwrap().stdout;
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["tasks"][0]["cells"][0]["gpu_lower_bound"], true, "{report}");
    machine.set(&json!({"devices": devices(true)}));
    let table = shown();
    assert!(!table.contains("any one GPU"), "{table}");
}

#[test]
fn a_process_that_may_be_of_the_run_makes_the_peak_a_lower_bound() {
    let processes = json!([process("task", Some(100), Some(120)), process("stranger", None, Some(900))]);
    let Some(machine) = Machine::new(json!([device("0", true, processes)])) else { return };
    // No process of the run has this pid.
    let run = machine.run("echo 4000001 > stranger; echo $$ > task; sleep 0.3");
    assert_eq!(peak(&run["gpu"][0]), (120, "accounting", "lower-bound"), "{run}");
    assert_eq!(run["gpu"][0]["unmatched"], json!([4_000_001]));
}

#[test]
fn instances_of_a_partitioned_device_are_devices_of_their_own() {
    let instance = |name: &str, process: Value| {
        json!({"uuid": format!("MIG-{name}"), "name": "Model X MIG 1g.5gb", "total": 4096 * MIB, "used": 0,
               "processes": [process]})
    };
    let instances = json!([
        instance("a", process("task", Some(100), Some(120))),
        instance("b", process("other", Some(200), Some(220)))
    ]);
    let mut device = device("0", true, json!([]));
    device["instances"] = instances;
    let Some(machine) = Machine::new(json!([device])) else { return };
    let run = machine.run("sh -c 'echo $$ > other; sleep 1' & echo $$ > task; sleep 1");
    let gpu = run["gpu"].as_array().unwrap();
    let seen: Vec<_> = gpu.iter().map(|gpu| (gpu["uuid"].as_str().unwrap(), peak(gpu))).collect();
    let sampled = |mib| (mib, "sampled", "lower-bound");
    assert_eq!(seen, [("MIG-b", sampled(200)), ("MIG-a", sampled(100))], "{run}");
    assert!(gpu.iter().all(|gpu| gpu["instance_of"] == "GPU-0" && gpu["utilization"] == "unsupported"), "{run}");
    assert!(gpu[0]["peak"]["exactness"]["reason"].as_str().unwrap().contains("MIG"), "{run}");
}

#[test]
fn memory_that_the_driver_does_not_report_is_unsupported_and_not_0() {
    let mut hidden = process("task", Some(100), Some(120));
    hidden["hidden"] = json!(true);
    for accounting in [true, false] {
        let Some(machine) = Machine::new(json!([device("0", accounting, json!([hidden]))])) else { return };
        let run = machine.run("echo $$ > task; sleep 1");
        assert_eq!(run["gpu"][0]["peak"], "unsupported", "{run}");
    }
}

#[test]
fn a_library_that_fails_is_a_warning() {
    let Some(machine) = Machine::new(json!([])) else { return };
    let devices = json!([device("0", true, json!([process("task", Some(100), Some(120))]))]);
    let failing = |function: &str| {
        machine.set(&json!({"fails": [function, 999], "devices": devices}));
        let run = machine.run("echo $$ > task; sleep 1");
        assert_eq!(run["warnings"][0]["code"], "gpu-unread", "{run}");
        (run["warnings"][0]["reason"].as_str().unwrap().to_owned(), run["gpu"].clone())
    };
    for function in ["nvmlInit_v2", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"] {
        let (reason, gpu) = failing(function);
        assert!(reason.contains("internal driver error") && gpu == Value::Null, "{function}: {reason}");
    }
    let (reason, gpu) = failing("nvmlDeviceGetAccountingStats");
    assert!(reason.starts_with("the accounts of GPU-0 cannot be read"), "{reason}");
    assert_eq!(peak(&gpu[0]), (100, "sampled", "lower-bound"));
    let (reason, gpu) = failing("nvmlDeviceGetComputeRunningProcesses_v3");
    assert!(reason.starts_with("the processes of GPU-0 cannot be read"), "{reason}");
    assert_eq!(peak(&gpu[0]), (120, "accounting", "exact"));
}

#[test]
fn a_library_that_hangs_does_not_keep_the_run() {
    let Some(machine) = Machine::new(json!([])) else { return };
    // Not asked before the end of the run.
    let devices = json!([device("0", false, json!([process("task", Some(100), None)]))]);
    machine.set(&json!({"hangs": "nvmlDeviceGetComputeRunningProcesses_v3", "devices": devices}));
    let started = Instant::now();
    let run = machine.run("echo $$ > task; sleep 1");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(run["warnings"][0]["reason"].as_str().unwrap().contains("did not answer within 5 s"), "{run}");
    assert_eq!(run["outcome"], json!({"kind": "exited", "status": 0}));
}

#[test]
fn without_a_library_there_is_nothing_about_gpus() {
    let Some(machine) = Machine::new(json!([])) else { return };
    let run = |library: &str| {
        let options = ["run", "--format", "json", "--", "true"];
        let output = machine.highwater(&options).env("HIGHWATER_NVML", library).output().unwrap();
        crate::harness::only_element::<Value>(&output.stdout)
    };
    let none = run("");
    assert_eq!([&none["gpu"], &none["warnings"]], [&Value::Null; 2], "{none}");
    // One that was asked for is missed.
    let missed = run("/nowhere/libnvidia-ml.so");
    assert!(missed["warnings"].to_string().contains("/nowhere/libnvidia-ml.so"), "{missed}");
}

#[test]
fn what_the_run_had_is_in_the_table_and_in_the_export() {
    let processes = json!([process("task", Some(300), None), process("neighbour", Some(2000), None)]);
    let Some(machine) = Machine::new(json!([device("0", false, processes), device("1", true, json!([]))])) else {
        return;
    };
    let neighbour = Neighbour::new(&machine);
    let options = ["run", "--record", "runs.jsonl", "--", "sh", "-c", "echo $$ > task; sleep 1"];
    let output = machine.highwater(&options).output().unwrap();
    let table = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "gpu 300 MiB or more lower bound: sampled sum of the processes",
        "on Model X (GPU-0), on which others had 2 GiB",
        "the driver's accounting mode is off to get exact peaks: have root switch it on",
    ] {
        assert!(words.contains(part), "{table}");
    }
    assert!(!words.contains("GPU-1"), "{table}");
    let csv = machine.highwater(&["export", "runs.jsonl"]).output().unwrap().stdout;
    fs::write(machine.path("runs.csv"), &csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let at = csv.lines().next().unwrap().split(',').position(|name| name == "gpu_peak_bytes").unwrap();
    assert!(csv.lines().nth(1).unwrap().split(',').any(|cell| cell == (300 * MIB).to_string()), "{at} {csv}");
    let imported = machine.highwater(&["import", "runs.csv"]).output().unwrap().stdout;
    let [before, after] = [fs::read(machine.path("runs.jsonl")).unwrap(), imported]
        .map(|text| serde_json::from_slice::<Value>(&text).unwrap()["gpu"].clone());
    assert_eq!(before, after);
    let shown = machine.highwater(&["run", "--", "true"]).output().unwrap();
    let shown = String::from_utf8(shown.stderr).unwrap() + &String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("gpu       not used, as far as was seen"), "{shown}");
    drop(neighbour);
}

#[test]
fn doctor_says_which_devices_there_are_and_what_accounting_mode_would_bring() {
    let mut partitioned = device("2", true, json!([]));
    partitioned["instances"] = json!([{"uuid": "MIG-a", "name": "Model X MIG 1g.5gb", "total": 4096 * MIB, "used": 0}]);
    let devices = json!([device("0", true, json!([])), device("1", false, json!([])), partitioned]);
    let Some(machine) = Machine::new(devices) else { return };
    let ask = |arguments: &[&str]| String::from_utf8(machine.highwater(arguments).output().unwrap().stdout).unwrap();
    let words = ask(&["doctor"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "gpus Model X (GPU-0), 8 GiB exact (the driver's accounting mode is on) Model X (GPU-1), 8 GiB lower bound",
        "`nvidia-smi -i GPU-1 -am 1` as root",
        "Model X MIG 1g.5gb (MIG-a), 4 GiB lower bound (sampled): an instance of GPU-2 (MIG) has no accounting mode",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let found: Value = serde_json::from_str(&ask(&["doctor", "--format", "json"])).unwrap();
    let accounting = found["gpus"]["devices"].as_array().unwrap().iter().map(|gpu| &gpu["accounting"]);
    assert_eq!(accounting.collect::<Vec<_>>(), [&json!(true), &json!(false), &Value::Null]);
    machine.set(&json!({"fails": ["nvmlInit_v2", 999], "devices": []}));
    assert!(ask(&["doctor"]).contains("gpus              unknown: "));
    machine.set(&json!({"devices": []}));
    assert!(ask(&["doctor"]).contains("gpus              none\n"));
}
