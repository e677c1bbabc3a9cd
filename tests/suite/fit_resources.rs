//! `highwater fit --on time|cpu|all`: the other resources of the same runs.

use serde_json::{Value, json};

use crate::fit_records::{Records, run};

const MIB: u64 = 1 << 20;

/// Runs of 1 s per 10 MiB, and up to 2 % more, on 1.5 cores.
fn timed() -> Vec<Value> {
    let run_of = |i: u64| {
        let n = (i + 1) * 10 * MIB;
        let wall_us = (i + 1) * (1_000_000 + 1000 * (i * 7 % 20));
        let mut run = run(n, 100 * MIB + n);
        run["wall_us"] = json!(wall_us);
        run["cpu"] = json!({"user_us": wall_us, "system_us": wall_us / 2, "source": "rusage"});
        run
    };
    (0..16).map(run_of).collect()
}

#[test]
fn time_has_a_rule_of_its_own_in_seconds() {
    let time = Records::new(timed()).json(&["--on", "time", "--for-size", "100Mi"]);
    assert_eq!([&time["resource"], &time["unit"]], ["time", "seconds"]);
    let amount = &time["amounts"][0];
    let (limit, typical) = (amount["limit"].as_f64().unwrap(), amount["typical"].as_f64().unwrap());
    assert!((10.0..11.5).contains(&limit) && (9.9..10.3).contains(&typical), "{amount}");
    assert_eq!(time["measure"]["channel"], "scans");
}

#[test]
fn a_run_that_timed_out_pushes_the_rule_up() {
    let mut late = run(200 * MIB, 100 * MIB);
    late["outcome"] = json!({"kind": "timed-out", "after_us": 60_000_000});
    let records = Records::new(timed()).and([late]);
    let time = records.json(&["--on", "time", "--for-size", "200Mi"]);
    assert_eq!(time["inputs"]["timed_out"], 1);
    assert!(time["amounts"][0]["limit"].as_f64() > Some(60.0), "{}", time["amounts"]);
    assert!(time["warnings"].to_string().contains("a run timed out after 1 min 0 s"), "{}", time["warnings"]);
}

#[test]
fn cores_are_cpu_time_by_wall_time_and_do_not_grow_with_the_input() {
    let cores = Records::new(timed()).json(&["--on", "cpu"]);
    assert_eq!([&cores["unit"], &cores["typical"]["exponent"]], [&json!("cores"), &json!(0)]);
    let typical = cores["typical"]["base"].as_f64().unwrap();
    assert!((1.49..1.51).contains(&typical), "{typical}");
}

#[test]
fn all_resources_are_in_one_object_and_one_declaration() {
    let records = Records::new(timed());
    let all = records.json(&["--on", "all"]);
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["memory", "time", "cpu"]);
    assert!(all["memory"][0]["base_bytes"].is_u64(), "{}", all["memory"]);
    let (_, kubernetes, _) = records.fit(&["--on", "all", "--emit", "kubernetes"]);
    let keys = kubernetes.lines().filter(|line| !line.starts_with([' ', '#'])).filter_map(|line| line.split_once(':'));
    assert_eq!(keys.map(|(key, _)| key).collect::<Vec<_>>(), ["resources", "activeDeadlineSeconds", "cpu"]);
    let (_, slurm, _) = records.fit(&["--on", "all", "--emit", "slurm"]);
    assert!(["--mem=", "--time=0:01:00", "--cpus-per-task=2"].iter().all(|option| slurm.contains(option)), "{slurm}");
}

#[test]
fn what_has_no_such_setting_says_so() {
    let records = Records::new(timed());
    let refused = |arguments: &[&str], why: &str| {
        let (status, _, stderr) = records.fit(arguments);
        assert!(status == 2 && stderr.contains(why), "{stderr}");
    };
    refused(&["--on", "time", "--emit", "docker"], "docker has no setting for time");
    refused(&["--on", "all", "--write", "task.json"], "--write applies only to memory");
}

#[test]
fn what_one_resource_lacks_does_not_keep_the_others() {
    let without_cpu = timed().into_iter().map(|mut run| {
        run["cpu"] = json!("unsupported");
        run
    });
    let records = Records::new(without_cpu);
    let (status, stdout, stderr) = records.fit(&["--on", "all", "--format", "json"]);
    let all: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["memory", "time"], "{status}");
    assert!(stderr.contains("skipped 16 runs: 16 without a time or CPU time, or killed"), "{stderr}");
    let (_, docker, stderr) = records.fit(&["--on", "all", "--emit", "docker"]);
    assert!(docker.contains("--memory=") && stderr.contains("docker has no setting for time"), "{stderr}");
}

#[test]
fn a_rule_over_a_parameter_is_not_emitted_as_one_over_sizes() {
    let runs = (1..=8).map(|n| crate::fit_records::run_with(json!({"n": n.to_string()}), n * 50 * MIB));
    let (status, stdout, stderr) = Records::new(runs).fit(&["--on", "all", "--emit", "nextflow"]);
    assert!(!stdout.contains("memory {") && stderr.contains("parameter"), "{status} {stdout}{stderr}");
}

#[test]
fn a_report_says_what_to_request_of_each_resource() {
    let records = Records::new(timed());
    let (_, report, _) = records.highwater(&["report", "runs.jsonl", "--format", "json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let requests = report["tasks"][0]["requests"].as_array().unwrap();
    let of = |field: &str| requests.iter().map(|need| need[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("resource"), ["memory", "time", "cpu"]);
    assert_eq!(of("unit"), ["bytes", "seconds", "cores"]);
    let time = records.json(&["--on", "time"]);
    for (field, amount) in [("limit", "limit"), ("request", "typical")] {
        assert_eq!(requests[1]["fitted"][field], time["amounts"][0][amount], "as `fit --on time` says");
    }
    let (_, text, _) = records.highwater(&["report", "runs.jsonl"]);
    assert!(text.contains("cores      1.50 cores"), "{text}");
}

#[test]
fn a_report_says_in_a_line_why_a_resource_has_no_rule() {
    let without_cpu = timed().into_iter().map(|mut run| {
        run["cpu"] = json!("unsupported");
        run
    });
    let (_, text, _) = Records::new(without_cpu).highwater(&["report", "runs.jsonl"]);
    assert!(text.contains("No rule for cores: not enough data: there are no runs; skipped runs: 16 without"), "{text}");
}

/// The same runs, which left 2 bytes on disk per byte of input.
fn stored() -> Vec<Value> {
    let stored = |mut run: Value| {
        let n = run["inputs"][0]["all"]["sum"].as_u64().unwrap();
        run["storage"] = json!({"outputs_bytes": n, "writable_layer_bytes": n});
        run
    };
    timed().into_iter().map(stored).collect()
}

#[test]
fn storage_is_what_runs_leave_in_outputs_and_in_the_writable_layer() {
    let records = Records::new(stored());
    let storage = records.json(&["--on", "storage", "--for-size", "100Mi"]);
    assert_eq!([&storage["resource"], &storage["unit"]], ["storage", "bytes"]);
    let limit = storage["amounts"][0]["limit"].as_f64().unwrap() / MIB as f64;
    assert!((200.0..230.0).contains(&limit), "{limit}");
    let all = records.json(&["--on", "all"]);
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["memory", "time", "cpu", "storage"]);
    let (_, kubernetes, _) = records.fit(&["--on", "storage", "--emit", "kubernetes"]);
    assert_eq!(kubernetes.matches("ephemeral-storage: ").count(), 2, "{kubernetes}");
    let (_, report, _) = records.highwater(&["report", "runs.jsonl"]);
    assert!(report.contains("\nstorage "), "{report}");
}

#[test]
fn a_run_whose_storage_was_not_read_shows_nothing_about_it() {
    let mut runs = stored();
    for run in &mut runs[..4] {
        run["storage"] = json!({"outputs_bytes": "unsupported", "writable_layer_bytes": "unsupported"});
    }
    let storage = Records::new(runs).json(&["--on", "storage"]);
    assert_eq!((&storage["inputs"]["runs"], &storage["left_out"]["without_storage"]), (&json!(12), &json!(4)));
    let (status, _, stderr) = Records::new(timed()).fit(&["--on", "storage"]);
    assert!(status == 5 && stderr.contains("16 without a size of what they wrote"), "{stderr}");
}
