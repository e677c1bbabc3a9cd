//! highwater in a container with a limit, where cgroups are to be read and not to be written, as in pods and CI jobs.

use super::*;

/// The record of a task that highwater has run in a container with this much memory.
fn measured_inside(memory_mib: u64, task: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let highwater = highwater();
    let program = std::path::Path::new(highwater.get_program());
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network", "none", "--memory", &format!("{memory_mib}m")]);
    // The images are empty; these are for the loader.
    for needed in ["/usr", "/lib", "/lib64"] {
        command.args(["--volume", &format!("{needed}:{needed}:ro")]);
    }
    command.args(["--volume", &format!("{}:/highwater:ro", program.display())]);
    command.args(["--volume", &format!("{}:/out", folder.path().display())]);
    command.args(["exec-form", "/highwater", "run", "--format", "json", "--output", "/out/run.json", "--"]).args(task);
    let output = command.output().unwrap();
    let record = std::fs::read_to_string(folder.path().join("run.json"));
    let record = record.unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    serde_json::from_str(&record).unwrap()
}

/// The bounds of a peak that was sampled.
fn bounds(run: &Value) -> (u64, u64) {
    let peak = &run["peak"];
    assert_eq!(peak["source"], "sampled-processes", "{run:#}");
    let file = peak["upper_bound"]["file"].as_str().unwrap();
    assert!(file.ends_with("/memory.peak") || file.ends_with("/memory.max_usage_in_bytes"), "{run:#}");
    (peak["bytes"].as_u64().unwrap(), peak["upper_bound"]["bytes"].as_u64().unwrap())
}

#[test]
fn a_kill_for_lack_of_memory_is_told_where_no_cgroup_can_be_made() {
    engine_or_skip!();
    let run = measured_inside(40, &["/task", "touch", "150", "1"]);
    assert_eq!(run["outcome"]["kind"], "oom-killed", "{run:#}");
    assert_eq!(run["censored"], true, "{run:#}");
    assert_eq!(run["limit"]["own"], "unsupported", "{run:#}");
    assert_eq!(run["limit"]["effective"], 40 * MIB, "{run:#}");
    assert!(run["events"]["oom_kills"].as_u64().unwrap() >= 1, "{run:#}");
    // On a busy machine it may be killed before the first sample.
    if run["peak"] != "gone" {
        let (lower, upper) = bounds(&run);
        assert!(lower <= upper && upper <= 40 * MIB, "{run:#}");
    }
}

#[test]
fn a_killed_child_does_not_hide_behind_a_status_of_0() {
    engine_or_skip!();
    let run = measured_inside(40, &["/task", "child", "150"]);
    assert_eq!(run["outcome"], serde_json::json!({"kind": "exited", "status": 0}), "{run:#}");
    assert_eq!(run["censored"], true, "{run:#}");
    assert_eq!(run["limit"]["effective"], 40 * MIB, "{run:#}");
    let told =
        run["warnings"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains("the kernel killed 1"));
    assert!(told, "{run:#}");
}

#[test]
fn the_peak_of_a_task_that_fits_lies_between_its_bounds() {
    engine_or_skip!();
    let run = measured_inside(400, &["/task", "touch", "100", "2000"]);
    assert_eq!(run["outcome"], serde_json::json!({"kind": "exited", "status": 0}), "{run:#}");
    assert_eq!(run["censored"], false, "{run:#}");
    let (lower, upper) = bounds(&run);
    assert!((100 * MIB..=103 * MIB).contains(&lower), "{run:#}");
    assert!((100 * MIB..=400 * MIB).contains(&upper), "{run:#}");
}
