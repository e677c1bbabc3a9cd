//! GPU memory of a container: the driver knows its processes by their pids on the host.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::gpu::{Machine, device, peak, process};

/// The pid on this host of the process with this command line.
fn pid_of(words: &[&str]) -> Option<String> {
    let line = words.join("\0") + "\0";
    let pids = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    pids.into_iter().find(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line))
}

#[test]
fn processes_of_a_container_are_matched_by_their_pids_on_the_host() {
    engine_or_skip!();
    for probe in ["never", "always"] {
        let processes = json!([process("task", None, Some(345)), process("neighbour", Some(100), Some(100))]);
        let Some(machine) = Machine::new(json!([device("0", true, processes)])) else { return };
        let task = ["/task", "touch", "1", "700"];
        let file = machine.path("task");
        let finding = thread::spawn(move || {
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(60) {
                if let Some(pid) = pid_of(&task) {
                    return fs::write(file, pid).unwrap();
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let options = ["run", "--network", "host", "--pull", "never", "--probe", probe, "--format", "json"];
        let rest = ["--output", "run.json", "--image", "tiny", "--"];
        machine.highwater(&[&options[..], &rest, &task].concat()).assert().success();
        finding.join().unwrap();
        let run = machine.record();
        assert_eq!(peak(&run["gpu"][0]), (345, "accounting", "exact"), "{probe} {run}");
        let pid: u64 = fs::read_to_string(machine.path("task")).unwrap().parse().unwrap();
        assert_eq!(run["gpu"][0]["processes"][0]["pid"], pid, "{probe} {run}");
    }
}
