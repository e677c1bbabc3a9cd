//! highwater in a container with a limit, where cgroups are readable but not writable, as in pods and CI jobs.

use super::*;

/// The record of a task run by highwater in a container with this much memory.
fn measured_inside(memory_mib: u64, task: &[&str]) -> Value {
    measured_with(&[], memory_mib, task)
}

/// The same in a container that was started with these options.
fn measured_with(options: &[&str], memory_mib: u64, task: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let highwater = highwater();
    let program = std::path::Path::new(highwater.get_program());
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network", "none", "--memory", &format!("{memory_mib}m")]).args(options);
    // The images are empty; these are needed by the loader.
    for needed in ["/usr", "/lib", "/lib64"] {
        command.args(["--volume", &format!("{needed}:{needed}:ro")]);
    }
    command.args(["--volume", &format!("{}:/highwater:ro", program.display())]);
    command.args(["--volume", &format!("{}:/out", folder.path().display())]);
    command.args(["exec-form", "/highwater", "run", "--format", "json", "--output", "/out/run.json", "--"]).args(task);
    let record = folder.path().join("run.json");
    let mut output = command.output().unwrap();
    for _ in 0..2 {
        if killed_more_than_meant(&record, &output) {
            let _ = std::fs::remove_file(&record);
            output = command.output().unwrap();
        }
    }
    // Docker gives a privileged container all capabilities, which fails if it does not have them itself.
    if options.contains(&"--privileged") && text(&output.stderr).contains("unable to apply caps") {
        crate::harness::skip("this machine lacks capabilities that a privileged container is given");
        return Value::Null;
    }
    let record = std::fs::read_to_string(record);
    let record = record.unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    crate::harness::only_element(record)
}

/// Whether the kernel killed further processes, because the memory of the first was not given back in time: highwater as
/// well, so that nothing is recorded and nothing said, or the parent of the process.
fn killed_more_than_meant(record: &std::path::Path, output: &Output) -> bool {
    match std::fs::read_to_string(record) {
        Err(_) => output.stderr.is_empty(),
        Ok(run) => crate::harness::only_element::<Value>(run)["events"]["oom_kills"].as_u64() > Some(1),
    }
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
    let told = |warning: &Value| warning["code"] == "oom-kills" && warning["kills"] == 1;
    assert!(run["warnings"].as_array().unwrap().iter().any(told), "{run:#}");
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

#[test]
fn the_limit_of_a_container_holds_for_a_task_that_has_a_cgroup_of_its_own() {
    engine_or_skip!();
    for options in [&["--privileged"][..], &["--privileged", "--cgroupns=host"]] {
        let fits = measured_with(options, 40, &["/task", "touch", "20", "1"]);
        if fits.is_null() {
            return;
        }
        assert_exact(&fits, "own-cgroup", 20);
        assert_eq!(fits["limit"]["effective"], 40 * MIB, "{options:?}: {fits:#}");
        let killed = measured_with(options, 40, &["/task", "touch", "150", "1000"]);
        assert_eq!(killed["outcome"]["kind"], "oom-killed", "{options:?}: {killed:#}");
        assert_eq!(killed["censored"], true, "{options:?}: {killed:#}");
        assert_eq!(killed["limit"]["effective"], 40 * MIB, "{options:?}: {killed:#}");
    }
}
