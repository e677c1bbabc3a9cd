//! `highwater fit` and `highwater backtest` on records.

use std::path::PathBuf;

use assert_cmd::Command;
use serde_json::{Value, json};

/// A file of synthetic records.
pub(crate) struct Records {
    folder: tempfile::TempDir,
    lines: Vec<Value>,
}

/// The sizes of a channel with this many files of equal size in this many items.
pub(crate) fn sizes(files: u64, sum: u64, items: u64) -> Value {
    let named = |bytes: u64| json!({"path": "one", "bytes": bytes});
    json!({"files": files, "sum": sum, "largest_file": named(sum / files.max(1)), "items": items, "largest_item": named(sum / items.max(1))})
}

/// A successful run with an exact peak.
pub(crate) fn run(n: u64, peak: u64) -> Value {
    json!({
        "schema_version": 1, "tool_version": "0.1.0", "started_at": "2026-01-01T00:00:00Z",
        "subject": {"name": "segment", "command": ["segment"]},
        "inputs": [{"channel": "scans", "all": sizes(1, n, 1)}],
        "runner": "process", "outcome": {"kind": "exited", "status": 0}, "wall_us": 60_000_000_u64,
        "peak": {"bytes": peak, "source": "own-cgroup", "exactness": {"kind": "exact", "noise_bytes": 524288}},
        "breakdown": "gone", "swap": {"peak": "unsupported", "highest_sampled": 0},
        "limit": {"own": null, "effective": null}, "censored": false,
        "events": {"limit_hits": 0, "ooms": 0, "oom_kills": 0},
        "cpu": "unsupported", "io": "unsupported", "pids_peak": "unsupported", "pressure": "unsupported",
        "leftover_processes": 0, "series": {"taken": 0, "samples": []},
        "host": {"kernel": "6.12", "architecture": "x86_64", "cpus": 2, "page_bytes": 4096,
                 "memory_bytes": 8589934592_u64, "swap_bytes": 0, "cgroup": "v2"},
    })
}

/// Sizes that grow by a third, and peaks of max(500 MB, factor · n), up to 1 % above.
pub(crate) fn growing(factor: f64) -> impl Iterator<Item = (u64, u64)> {
    (0..20u64).map(move |i| {
        let n = (2e7 * 1.33_f64.powf(i as f64)) as u64;
        (n, ((factor * n as f64).max(5e8) * (1.0 + 0.0005 * (i * 7 % 20) as f64)) as u64)
    })
}

impl Records {
    pub(crate) fn new(lines: impl IntoIterator<Item = Value>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), lines: lines.into_iter().collect() }
    }

    pub(crate) fn growing(factor: f64) -> Self {
        Self::new(growing(factor).map(|(n, peak)| run(n, peak)))
    }

    /// The same with more runs.
    pub(crate) fn and(mut self, lines: impl IntoIterator<Item = Value>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// A path beside the records.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs highwater beside the records, which are `runs.jsonl`.
    pub(crate) fn highwater(&self, arguments: &[&str]) -> (i32, String, String) {
        let text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(self.path("runs.jsonl"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output =
            command.args(arguments).current_dir(self.folder.path()).env_remove("HIGHWATER_LOG").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    pub(crate) fn fit(&self, arguments: &[&str]) -> (i32, String, String) {
        self.highwater(&[&["fit", "runs.jsonl"], arguments].concat())
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (status, stdout, stderr) = self.fit(&[&["--format", "json"], arguments].concat());
        assert_eq!(status, 0, "{stderr}");
        // Of one task, its element.
        let mut json: Value = serde_json::from_str(&stdout).unwrap();
        if json.as_array().is_some_and(|tasks| tasks.len() == 1) { json[0].take() } else { json }
    }
}

/// What the rules of a task with a rule `3*n` and a minimum of 1 GiB gave this run.
fn prediction(n: u64) -> Value {
    let rule = json!({"complexity": "3*n", "type": "limit", "mode": "sum"});
    let limit = (3 * n).max(1 << 30);
    let from =
        if limit == 1 << 30 { json!({"from": "resources"}) } else { json!({"from": "rule", "channel": "scans"}) };
    let written = (limit as f64 * 1.1) as u64;
    json!({
        "schema_version": 1,
        "task": {"name": "segment", "image": "registry/segment:1", "template": "segment", "digest": format!("sha256:{:064}", 0)},
        "channels": [{"name": "scans", "kind": "input", "host_path": "/data",
                      "size": {"state": "known", "all": sizes(1, n, 1), "left_out": []},
                      "rule": {"scale_rule": rule, "selected": sizes(1, n, 1), "n": n, "value": 3 * n, "problem": null}}],
        "docker": {"limit": {"bytes": limit, "decided_by": from}},
        "kubernetes": {"limit": {"asked": limit, "margin": limit / 10, "written": written.to_string(), "bytes": written,
                                 "decided_by": from}, "request": null},
        "complete": true,
    })
}

fn with(mut run: Value, field: &str, value: Value) -> Value {
    run[field] = value;
    run
}

#[test]
fn a_rule_is_fitted_to_records_and_compared_with_the_declared_one() {
    let records = Records::new(growing(1.8).map(|(n, peak)| with(run(n, peak), "prediction", prediction(n))));
    let (status, stdout, stderr) = records.fit(&[]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
    let fit = records.json(&[]);
    assert_eq!(fit["declared"]["failures"], 0);
    assert!(fit["declared"]["waste_gbh"].as_f64() > fit["recorded"]["waste_gbh"].as_f64(), "{fit}");
}

/// A run of a plain command with these parameters.
pub(crate) fn run_with(parameters: Value, peak: u64) -> Value {
    let key = parameters.to_string();
    let mut run = with(run(0, peak), "sweep", json!({"cell": key, "case": "", "run": 1, "parameters": parameters}));
    run.as_object_mut().unwrap().remove("inputs");
    run
}

/// Peaks of 10 MB and 3 MB for each n, with another parameter.
fn over_n(mode: &'static str) -> impl Iterator<Item = Value> {
    [1, 2, 4, 8, 16, 32]
        .into_iter()
        .map(move |n: u64| run_with(json!({"mode": mode, "n": n.to_string()}), 10_000_000 + 3_000_000 * n))
}

#[test]
fn the_need_is_fitted_over_a_parameter() {
    let records = Records::new(over_n("fast"));
    let (status, stdout, stderr) = records.fit(&["--predictor", "n"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
    let fit = records.json(&["--predictor", "n"]);
    assert_eq!((&fit["predictor"], &fit["form"], &fit["exponent"]), (&json!("parameter n"), &json!("sum"), &json!(1)));
    assert!((fit["request"]["coefficient"].as_f64().unwrap() / 3e6 - 1.0).abs() < 0.02, "{fit}");
    assert_eq!(records.json(&[]), fit, "it is the only number that a command without inputs has");
}

#[test]
fn a_sweep_over_a_parameter_has_one_report_and_one_plot_over_it() {
    let records = Records::new(over_n("fast"));
    let (status, stdout, stderr) = records.highwater(&["report", "runs.jsonl", "--format", "json"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let [task] = report["tasks"].as_array().unwrap().as_slice() else { panic!("{report}") };
    let sizes: Vec<u64> = task["cells"].as_array().unwrap().iter().filter_map(|cell| cell["n"].as_u64()).collect();
    assert_eq!((&task["parameter"], sizes), (&json!("n"), vec![1, 2, 4, 8, 16, 32]));
    let (status, _, stderr) = records.highwater(&["report", "runs.jsonl", "--plots", "plots", "-o", "r.json"]);
    assert_eq!(status, 0, "{stderr}");
    let plot = std::fs::read_to_string(records.path("plots/peaks.svg")).unwrap();
    assert!(plot.contains("Peak of segment [mode=fast] by n") && plot.contains("for n = 1 to"), "{plot}");
}

#[test]
fn no_platform_adds_a_margin_to_a_need_over_a_parameter() {
    let records = Records::new(over_n("fast"));
    let [docker, kubernetes] = ["docker", "kubernetes"].map(|target| records.json(&["--target", target]));
    assert_eq!(docker, kubernetes);
}

#[test]
fn values_of_a_parameter_are_neither_compared_with_sizes_nor_called_sizes() {
    let over_n = || [1, 2, 4, 8, 16].map(|n: u64| run_with(json!({"n": n.to_string()}), 10_000_000 + 3_000_000 * n));
    let records = Records::new(over_n());
    let earlier = |runs: Vec<Value>| {
        let text: String = runs.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(records.path("old.jsonl"), text).unwrap();
        let (status, stdout, stderr) = records.highwater(&["report", "old.jsonl", "runs.jsonl", "--format", "json"]);
        assert_eq!((status, stderr.as_str()), (0, ""));
        serde_json::from_str::<Value>(&stdout).unwrap()["tasks"][0].clone()
    };
    let over_sizes = earlier(growing(1.8).map(|(n, peak)| run(n, peak)).collect());
    let before = &over_sizes["before"];
    assert_eq!((&before["fitted"], &before["peaks"]), (&json!(null), &json!([])), "{before}");
    let sizes: Vec<u64> = before["changes"].as_array().unwrap().iter().filter_map(|one| one["n"].as_u64()).collect();
    assert_eq!(sizes, [1, 2, 4, 8, 16]);
    assert!(before["words"].as_str().unwrap().ends_with(" where n is sum of scans"), "{before}");

    let over_the_same = earlier(over_n().to_vec());
    assert_eq!(over_the_same["before"]["words"], over_the_same["fitted"]["words"]);

    let (_, csv, _) = records.highwater(&["report", "runs.jsonl", "--format", "csv"]);
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let column = lines.next().unwrap().iter().position(|name| *name == "input_bytes").unwrap();
    assert!(lines.all(|line| line[column].is_empty()), "{csv}");
}

#[test]
fn other_parameters_make_other_tasks_unless_they_are_pooled() {
    let records = Records::new(over_n("fast").chain(over_n("slow")));
    assert_eq!(records.json(&["--predictor", "n"]).as_array().map(Vec::len), Some(2));
    assert_eq!(records.json(&["--predictor", "n", "--pool-parameters"])["inputs"]["runs"], 12);
}

#[test]
fn a_predictor_has_to_be_known_and_a_number() {
    let records = Records::new(over_n("fast"));
    let refused = |arguments: &[&str]| {
        let (status, _, stderr) = records.fit(arguments);
        assert_eq!(status, 2, "{stderr}");
        stderr
    };
    assert!(refused(&["--predictor", "m"]).contains("no parameter or input channel `m`, expected one of `mode`, `n`"));
    assert!(refused(&["--predictor", "mode"]).contains("the parameter `mode` is `fast` in some runs"));
    for more in [&["--emit", "docker"][..], &["--emit", "task-api"]] {
        let stderr = refused(&[&["--predictor", "n"], more].concat());
        assert!(stderr.contains("none can be written from the parameter `n`"), "{stderr}");
    }
}

#[test]
fn a_channel_is_a_predictor_too() {
    let channels =
        |n: u64| json!([{"channel": "scans", "all": sizes(1, n, 1)}, {"channel": "atlas", "all": sizes(1, 7 * n, 1)}]);
    let records = Records::new(growing(1.8).map(|(n, peak)| with(run(n, peak), "inputs", channels(n))));
    assert_eq!(records.json(&["--predictor", "atlas"])["predictor"], "sum of atlas");
}

#[test]
fn page_cache_of_a_cold_start_is_not_needed() {
    let with_file = |n: u64, peak: u64, file: u64| {
        let parts =
            json!({"at_us": 1, "current": peak + file, "anon": peak, "file": file, "shmem": 0, "kernel": 0, "swap": 0});
        with(run(n, peak + file), "breakdown", parts)
    };
    let repeats = |cold: u64| {
        let runs = growing(1.8).flat_map(move |(n, peak)| [cold, 0].map(|file| with_file(n, peak, file)));
        Records::new(runs).json(&[])
    };
    let (cold, warm) = (repeats(1 << 30), repeats(0));
    assert_eq!(cold["rule"], warm["rule"]);
    let notes = cold["warnings"].as_array().unwrap();
    let named = notes.iter().find(|note| note["kind"] == "page-cache").unwrap();
    assert_eq!((&named["runs"], &named["most"]), (&json!(20), &json!(1 << 30)));
}

#[test]
fn a_cold_first_run_without_a_repeat_is_named() {
    let with_file = |n: u64, peak: u64, file: u64| {
        let parts =
            json!({"at_us": 1, "current": peak + file, "anon": peak, "file": file, "shmem": 0, "kernel": 0, "swap": 0});
        with(run(n, peak + file), "breakdown", parts)
    };
    let runs = growing(1.8).enumerate().map(|(place, (n, peak))| {
        let file = if place == 0 { 1 << 30 } else { 1 << 20 };
        with_file(n, peak, file)
    });
    let (_, table, _) = Records::new(runs).fit(&[]);
    let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
    let note = "record 1 has 1 GiB of page cache, the others 1 MiB at most: it was probably a cold start";
    assert!(words.contains(note), "{table}");
}

#[test]
fn runs_that_say_nothing_are_left_out_and_counted() {
    let failed = with(run(1 << 30, 1 << 40), "outcome", json!({"kind": "exited", "status": 3}));
    let timed_out = with(run(1 << 30, 1 << 40), "outcome", json!({"kind": "timed-out", "after_us": 5}));
    let interrupted = with(run(1 << 30, 1 << 40), "outcome", json!({"kind": "interrupted", "signal": 2}));
    let lost = with(run(1 << 30, 1 << 40), "outcome", json!({"kind": "engine-lost"}));
    let unmeasured = with(run(1 << 30, 1), "peak", json!("gone"));
    let unsized_inputs = with(run(1 << 30, 1 << 40), "inputs", json!([]));
    let plain = Records::growing(1.8).json(&[]);
    let records = Records::growing(1.8).and([failed, timed_out, interrupted, lost, unmeasured, unsized_inputs]);
    let (_, _, stderr) = records.fit(&[]);
    assert_eq!(
        stderr,
        "segment: skipped 6 runs: 1 failed, 1 timed out, 2 interrupted, 1 without a peak, 1 without input sizes\n"
    );
    let fit = records.json(&[]);
    assert_eq!(fit["left_out"]["interrupted"], 2);
    assert_eq!((&fit["base_bytes"], &fit["coefficient"]), (&plain["base_bytes"], &plain["coefficient"]));
}

#[test]
fn oom_killed_run_is_not_fitted() {
    // 10 MB are not the minimum: the run was killed at its limit of 900 MB, which its counter did not quite reach.
    let killed = with(run(30_000_000, 899_000_000), "outcome", json!({"kind": "oom-killed"}));
    let mut killed = with(killed, "censored", json!(true));
    killed["limit"] = json!({"own": 900_000_000_u64, "effective": 900_000_000_u64});
    let child = with(killed.clone(), "outcome", json!({"kind": "exited", "status": 1}));
    let child = with(child, "events", json!({"limit_hits": 9, "ooms": 1, "oom_kills": 1}));
    for bound in [killed, child] {
        let fit = Records::growing(1.8).and([bound]).json(&[]);
        assert_eq!(fit["inputs"]["oom_killed"], 1);
        assert!(fit["base_bytes"].as_u64() > Some(900_000_000), "{fit}");
    }
    let reached = with(run(4_000_000_000, 1_000_000_000), "censored", json!(true));
    let fit = Records::growing(1.8).and([reached]).json(&[]);
    assert_eq!((&fit["inputs"]["limit_reached"], &fit["exponent"]), (&json!(1), &json!(1)));
}

#[test]
fn sampled_peaks_are_said_and_only_push_up() {
    let sampled = |(n, peak): (u64, u64)| {
        let exactness = json!({"kind": "lower-bound", "reason": "sampled", "remedy": "root"});
        with(run(n, peak), "peak", json!({"bytes": peak, "source": "sampled-processes", "exactness": exactness}))
    };
    let only = Records::new(growing(1.8).map(sampled)).json(&[]);
    assert_eq!(
        only["warnings"].as_array().unwrap().last().unwrap(),
        &json!({"kind": "sampled", "runs": 20, "as_points": true})
    );
    // It is unknown how many inputs fit, and no run shows that the rule is enough.
    assert_eq!(
        [&only["lower_bound"], &only["inputs"]["sampled"], &only["headroom"]["content"], &only["recorded"]["runs"]],
        [&json!(true), &json!(20), &json!(0.0), &json!(0)]
    );
    let (_, told, _) = Records::new(growing(1.8).map(sampled)).fit(&[]);
    assert!(told.contains("limit     at least max("), "{told}");
    assert!(told.contains("headroom  unknown from lower bounds: 95 % needs 93 inputs"), "{told}");
    let plain = Records::growing(1.8).json(&[]);
    assert_eq!(plain["lower_bound"], json!(null));
    let below = Records::growing(1.8).and([sampled((400_000_000, 1_000_000))]).json(&[]);
    assert_eq!((&below["inputs"]["sampled"], &below["base_bytes"]), (&json!(1), &plain["base_bytes"]));
    let above = Records::growing(1.8).and([sampled((20_000_000, 2_000_000_000))]).json(&[]);
    assert!(above["base_bytes"].as_u64() >= Some(2_000_000_000), "{above}");
}

#[test]
fn reports_and_cells_show_lower_bounds_beside_their_upper_bounds() {
    let bounded = |(n, peak): (u64, u64)| {
        let exactness = json!({"kind": "lower-bound", "reason": "sampled", "remedy": "root"});
        let most = json!({"bytes": peak + (1 << 30), "file": "/sys/fs/cgroup/memory.peak"});
        let source = "sampled-processes";
        with(
            run(n, peak),
            "peak",
            json!({"bytes": peak, "source": source, "exactness": exactness, "upper_bound": most}),
        )
    };
    let records = Records::new([(10 << 20, 96 << 20), (20 << 20, 192 << 20), (40 << 20, 384 << 20)].map(bounded));
    let (status, shown, _) = records.highwater(&["show", "runs.jsonl"]);
    assert_eq!(status, 0);
    assert!(shown.contains("≥ 96 MiB") && shown.contains("lower bound in 1 run, at most 1.1 GiB: sampled"), "{shown}");
    let (status, told, _) = records.highwater(&["report", "runs.jsonl", "--format", "markdown"]);
    assert_eq!(status, 0);
    assert!(told.contains("peaked at 96 MiB to 384 MiB or more in 3 runs; the fitted rule is at least "), "{told}");
    assert!(told.contains("median peak, MiB |") && told.contains("| ≥ 192.0 |"), "{told}");
    let (_, csv, _) = records.highwater(&["report", "runs.jsonl", "--format", "csv"]);
    let columns = |line: usize| csv.lines().nth(line).unwrap().split(',').map(str::to_owned).collect::<Vec<_>>();
    let first: Vec<_> = columns(0).into_iter().zip(columns(1)).collect();
    let value = |name: &str| first.iter().find(|(column, _)| column == name).unwrap().1.clone();
    assert_eq!(
        [value("censored"), value("peak_at_most_bytes")],
        ["lower-bound".to_owned(), (1120_u64 << 20).to_string()]
    );
    let (_, html, _) = records.highwater(&["report", "runs.jsonl", "--format", "html"]);
    assert!(html.contains("≥ 96.0, ≤ 1120.0"));
}

#[test]
fn the_way_of_counting_that_foretells_best_is_found() {
    // Peaks follow the images; notes of any size lie beside them, and weights are constant.
    let runs = growing(1.8).enumerate().map(|(i, (images, peak))| {
        let notes = 50_000_000 + (i as u64 * 7919 % 23) * 40_000_000;
        let inputs = json!([
            {"channel": "scans", "all": sizes(9, images + notes, 3),
             "by_extension": {"nii.gz": sizes(3, images, 3), "txt": sizes(6, notes, 3)}},
            {"channel": "weights", "all": sizes(1, 300_000_000, 0), "by_extension": {"pt": sizes(1, 300_000_000, 0)}},
        ]);
        with(run(0, peak), "inputs", inputs)
    });
    let fit = Records::new(runs).json(&[]);
    assert_eq!(fit["measure"], json!({"channel": "scans", "mode": "sum", "target_glob": "*.nii.gz"}));
    assert_eq!(fit["documented"]["rules"][0][1]["target_glob"], "*.nii.gz");
}

#[test]
fn the_largest_file_is_found_where_it_decides() {
    let runs = growing(1.8).enumerate().map(|(i, (largest, peak))| {
        let files = 2 + i as u64 * 5 % 7;
        with(run(0, peak), "inputs", json!([{"channel": "scans", "all": sizes(files, largest * files, 1)}]))
    });
    assert_eq!(Records::new(runs).json(&[])["measure"], json!({"channel": "scans", "mode": "max_file_size"}));
}

/// Runs with inputs of these sums and largest files, and peaks, all in MiB.
fn summed<const N: usize>(runs: [(u64, u64, f64); N]) -> Records {
    Records::new(runs.map(|(sum, largest, peak)| {
        let all = json!({"files": 3, "sum": sum << 20, "largest_file": {"path": "a", "bytes": largest << 20},
                         "items": 3, "largest_item": {"path": "a", "bytes": largest << 20}});
        with(run(0, (peak * f64::from(1 << 20)) as u64), "inputs", json!([{"channel": "scans", "all": all}]))
    }))
}

#[test]
fn a_measure_that_takes_different_inputs_for_one_does_not_win_by_that() {
    // A real sweep over 1 to 8 patients. The largest file of two and of three patients is the same.
    let runs = [(3, 3, 18.7), (8, 5, 37.2), (12, 5, 51.9), (21, 9, 83.9), (35, 12, 134.9), (58, 16, 218.3)];
    assert_eq!(summed(runs).json(&[])["measure"], json!({"channel": "scans", "mode": "sum"}));
}

#[test]
fn a_measure_does_not_win_by_a_margin_that_happens_to_meet_the_largest_run() {
    // Real minimum limits of a task that keeps its input: three times the prediction from the largest file is right for
    // the last.
    let runs = [(3, 3, 4.9), (21, 9, 22.8), (75, 16, 77.1)];
    assert_eq!(summed(runs).json(&[])["measure"], json!({"channel": "scans", "mode": "sum"}));
}

/// Runs that need max(400 MB, 2 · scans, 3 · weights), up to 1 % more, with independent sizes.
fn two_channels() -> impl Iterator<Item = Value> {
    (0..40u64).map(|i| {
        let size = |seed: u64| (3e7 * 1.12_f64.powf((i * seed % 41) as f64)) as u64;
        let (scans, weights) = (size(17), size(29));
        let needed = 400_000_000.max(2 * scans).max(3 * weights);
        let inputs = json!([{"channel": "scans", "all": sizes(1, scans, 1)}, {"channel": "weights", "all": sizes(1, weights, 1)}]);
        with(run(0, needed + needed / 2000 * (i * 7 % 20)), "inputs", inputs)
    })
}

#[test]
fn several_channels_get_a_rule_each_where_that_is_what_the_runs_call_for() {
    let records = Records::new(two_channels());
    let fit = records.json(&["--for-size", "1Gi"]);
    let rules = fit["documented"]["rules"].as_array().unwrap();
    let coefficient = |channel: &str| {
        let rule = rules.iter().find(|rule| rule[0] == channel).unwrap_or_else(|| panic!("{fit}"));
        rule[1]["complexity"].as_str().unwrap().strip_suffix("*n").unwrap().parse::<f64>().unwrap()
    };
    assert!((2.0..2.1).contains(&coefficient("scans")) && (3.0..3.15).contains(&coefficient("weights")), "{fit}");
    assert_eq!(fit["recorded"]["failures"], 0);
    assert!(fit["recorded"]["largest_ratio"].as_f64().unwrap() < 1.06, "{fit}");
    let (_, stdout, _) = records.fit(&[]);
    assert!(stdout.contains("whichever is larger   where n is"), "{stdout}");
    let (status, stdout, _) = records.fit(&["--emit", "snakemake"]);
    assert_eq!(status, 0);
    assert!(stdout.contains("_files(input.scans)") && stdout.contains("_files(input.weights)"), "{stdout}");
    let whole = records.json(&["--dialect", "scale-factor", "--target", "kubernetes"]);
    assert!(
        whole["documented"]["rules"].as_array().unwrap().iter().all(|rule| rule[1]["scale_factor"].is_u64()),
        "{whole}"
    );
    assert_eq!(whole["recorded"]["failures"], 0);
    // Read again, it is the same rule.
    std::fs::write(records.path("fit.json"), fit.to_string()).unwrap();
    let (status, stdout, stderr) =
        records.highwater(&["backtest", "runs.jsonl", "--fit", "fit.json", "--format", "json"]);
    assert_eq!(status, 0, "{stderr}");
    let tried: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&tried[0]["failures"], &tried[0]["largest_ratio"]), (&json!(0), &fit["recorded"]["largest_ratio"]));
}

#[test]
fn what_the_rule_of_today_counts_stays_where_nothing_is_better() {
    let runs = growing(1.8).map(|(n, peak)| {
        let mut prediction = prediction(n);
        prediction["channels"][0]["rule"]["scale_rule"]["target_regex"] = json!("ct/.*");
        let input = json!([{"channel": "scans", "all": sizes(4, 2 * n, 1)}]);
        with(with(run(0, peak), "prediction", prediction), "inputs", input)
    });
    assert_eq!(Records::new(runs).json(&[])["measure"]["target_regex"], "ct/.*");
}

#[test]
fn each_choice_of_parameters_gets_a_rule_of_its_own() {
    let sweep = |level: u32, factor: f64| {
        growing(factor).map(move |(n, peak)| {
            let cell = json!({"cell": format!("{level}-{n}"), "case": "x", "run": 1, "parameters": {"LEVEL": level.to_string()}});
            with(run(n, peak), "sweep", cell)
        })
    };
    let records = Records::new(sweep(1, 2.0).chain(sweep(2, 4.0)));
    let fits = records.json(&[]);
    let coefficients: Vec<f64> = (0..2).map(|i| fits[i]["coefficient"].as_f64().unwrap()).collect();
    assert!((1.95..2.1).contains(&coefficients[0]) && (3.9..4.2).contains(&coefficients[1]), "{coefficients:?}");
    let (_, stdout, stderr) = records.fit(&[]);
    assert!(stdout.contains("[LEVEL=2]"), "{stdout}");
    assert!(stderr.contains("fitting a rule to each of 2 parameter combinations"), "{stderr}");
    let pooled = records.json(&["--pool-parameters"]);
    assert!(pooled["coefficient"].as_f64().unwrap() > 3.9, "{pooled}");
    let one = records.json(&["--task", "segment [LEVEL=1]"]);
    assert_eq!(one["parameters"]["LEVEL"], "1");
    let (status, _, stderr) = records.fit(&["--emit", "slurm"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("select one with --task"), "{stderr}");
    let (status, _, stderr) = records.fit(&["--task", "other"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("no runs of task `other`"), "{stderr}");
}

#[test]
fn records_without_evidence_are_too_little_data() {
    let only_failed = Records::new(
        growing(1.8).map(|(n, peak)| with(run(n, peak), "outcome", json!({"kind": "signalled", "signal": 11}))),
    );
    let (status, stdout, stderr) = only_failed.fit(&[]);
    assert_eq!((status, stdout.as_str()), (5, ""));
    assert!(stderr.contains("20 failed") && stderr.contains("not enough data: there are no runs"), "{stderr}");
    let (status, _, stderr) = Records::new([]).fit(&[]);
    assert!(status == 5 || status == 2, "{stderr}");
}

#[test]
fn floors_are_fitted_where_that_is_asked_for() {
    // Half of each peak is page cache.
    let searched = growing(1.8).flat_map(|(n, peak)| {
        let floor = json!({"bytes": peak / 2, "precision": 0.02, "confirmed": 2, "peak": peak});
        [run(n, peak), with(run(n, peak / 2), "floor", floor)]
    });
    let records = Records::new(searched);
    let fit = records.json(&["--on", "floor"]);
    assert_eq!(fit["left_out"]["without_floor"], 20);
    assert!((0.9..0.95).contains(&fit["coefficient"].as_f64().unwrap()), "{fit}");
    assert!(records.json(&[])["coefficient"].as_f64().unwrap() > 1.8);
}

#[test]
fn rules_are_tried_on_records_too() {
    let records = Records::growing(1.8);
    let (status, stdout, stderr) = records.highwater(&[
        "backtest",
        "runs.jsonl",
        "--rule",
        "1Gi",
        "--rule",
        "max(512Mi, 1.9*n)",
        "--format",
        "json",
    ]);
    assert_eq!(status, 0, "{stderr}");
    let tried: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((tried[0]["runs"].as_u64(), tried[1]["failures"].as_u64()), (Some(20), Some(0)));
}
