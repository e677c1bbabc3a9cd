//! `highwater fit --on gpu`: the memory on one GPU.

use serde_json::json;

use crate::fit_records::{Records, run};

const MIB: u64 = 1 << 20;

/// Runs of 100 MiB on a GPU and as much again as the input, or as much as was sampled of it.
fn on_gpu(sampled: bool) -> Records {
    Records::new((1..=16).map(|i| {
        let n = i * 10 * MIB;
        let mut run = run(n, 50 * MIB);
        let exactness = match sampled {
            true => json!({"kind": "lower-bound", "reason": "sampled", "remedy": "none"}),
            false => json!({"kind": "exact", "noise_bytes": 0}),
        };
        let gpu = |name: &str, bytes: u64| {
            json!({"uuid": name, "model": "Model X", "utilization": "unsupported", "before": 0, "others": 0, "samples": 3,
                   "peak": {"bytes": bytes, "source": "accounting", "exactness": exactness}})
        };
        run["gpu"] = json!([gpu("GPU-1", 100 * MIB + n), gpu("GPU-0", n)]);
        run
    }))
}

#[test]
fn the_memory_on_one_gpu_has_a_rule_of_its_own_and_a_setting_of_kaapana() {
    let records = on_gpu(false);
    let rule = records.json(&["--on", "gpu", "--for-size", "160Mi"]);
    assert_eq!([&rule["resource"], &rule["unit"]], ["gpu", "bytes"]);
    let limit = rule["amounts"][0]["limit"].as_f64().unwrap() / MIB as f64;
    assert!((260.0..320.0).contains(&limit), "{rule}");
    let (_, operator, _) = records.fit(&["--on", "gpu", "--emit", "kaapana-operator"]);
    let value: f64 =
        operator.lines().find_map(|line| line.strip_prefix("gpu_mem_mb=")?.strip_suffix(',')?.parse().ok()).unwrap();
    assert_eq!(value, limit.ceil());
    let (status, _, stderr) = records.fit(&["--on", "gpu", "--emit", "slurm"]);
    assert!(status == 2 && stderr.contains("slurm has no setting for gpu"), "{stderr}");
    let (_, table, _) = records.fit(&["--on", "gpu"]);
    assert!(table.starts_with("gpu: memory on the GPU on which a run had most"), "{table}");
    let all = records.json(&["--on", "all"]);
    assert!(all["gpu"][0]["amounts"].is_array(), "{all}");
    let (_, report, _) = records.highwater(&["report", "runs.jsonl"]);
    assert!(report.contains("on a GPU") && report.contains("260.0"), "{report}");
}

#[test]
fn lower_bounds_of_gpu_memory_make_a_rule_that_is_one() {
    let rule = on_gpu(true).json(&["--on", "gpu"]);
    assert!(rule["warnings"].to_string().contains("the rule is a lower bound, too"), "{rule}");
    let without = Records::new((1..=5).map(|i| run(i * MIB, 50 * MIB)));
    let (status, _, stderr) = without.fit(&["--on", "gpu"]);
    assert!(status == 5 && stderr.contains("skipped 5 runs: 5 without GPU memory"), "{status} {stderr}");
    assert!(stderr.contains("help: no run used GPU memory that could be read"), "{stderr}");
    let (status, _, stderr) = without.fit(&["--on", "storage"]);
    assert!(status == 5 && stderr.contains("help: sweeps record what containers write"), "{status} {stderr}");
}
