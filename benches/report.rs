//! What a report on many runs costs: the whole program on 10,000 records.
//!
//! To be kept: 2 s and 5 MB for the HTML.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and ends")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};

const RUNS: usize = 10_000;
const MOST_BYTES: u64 = 5_000_000;

/// The recorded sweep over and over again, with other sizes and peaks.
fn records(path: &Path) {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/segment/observations.jsonl");
    let recorded = fs::read_to_string(recorded).expect("the recorded sweep is there");
    let lines: Vec<Value> = recorded.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    for place in 0..RUNS {
        let mut record = lines[place % lines.len()].clone();
        let cell = place / 3;
        let n = (1 << 20) + random.u64(0..1 << 30);
        record["sweep"]["cell"] = json!(format!("{cell:016x}"));
        record["sweep"]["case"] = json!(format!("{cell} files"));
        record["sweep"]["run"] = json!(place % 3 + 1);
        record["inputs"][0]["all"]["sum"] = json!(n);
        record["prediction"]["channels"][0]["rule"]["n"] = json!(n);
        record["prediction"]["channels"][0]["rule"]["selected"]["sum"] = json!(n);
        record["prediction"]["docker"]["limit"]["bytes"] = json!((n * 4).max(64 << 20));
        record["peak"]["bytes"] = json!((n as f64 * 3.6 * (1.0 + 0.1 * random.f64())) as u64 + (8 << 20));
        // As much as a line of a sweep's directory has.
        if let Some(samples) = record["series"]["samples"].as_array_mut() {
            samples.truncate(16);
        }
        text.push_str(&format!("{record}\n"));
    }
    fs::write(path, text).expect("the records are written");
}

fn reporting(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("observations.jsonl");
    records(&file);
    let mut group = criterion.benchmark_group("report");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for format in ["html", "markdown", "csv", "json"] {
        let report = folder.path().join(format);
        group.bench_function(format!("{format}, {RUNS} runs"), |bencher| {
            bencher.iter(|| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
                command.arg("report").arg(&file).args(["--format", format]).arg("--output").arg(&report);
                assert!(command.status().expect("the program starts").success(), "a report is written");
            });
        });
        let bytes = fs::metadata(&report).expect("it is there").len();
        assert!(format != "html" || bytes <= MOST_BYTES, "the HTML has {bytes} bytes");
    }
    group.finish();
}

criterion_group!(benches, reporting);
criterion_main!(benches);
