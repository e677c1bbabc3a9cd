//! What fitting costs: the whole program on 20 runs and on 100,000, and the library alone.
//!
//! To be kept: 20 ms for the first, 2 s for the second. For orientation: where the first takes 4 ms, Python with
//! `numpy.loadtxt` and `numpy.polyfit` takes 120 ms.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run says why and ends")]

use std::fmt::Write;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use highwater::calibrate::fit::{FitOptions, fit, parse_csv};

/// Runs that need max(600 MB, 1.7·n) and up to a twentieth more, all of different sizes.
fn runs(count: u64) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = "input_bytes,peak_bytes,wall_seconds\n".to_owned();
    for place in 0..count {
        let n = 1_000_000 + place + random.u64(0..4_000_000_000);
        let peak = (1.7 * n as f64).max(6e8) * (1.0 + 0.05 * random.f64());
        let _ = writeln!(text, "{n},{},{:.1}", peak as u64, 10.0 + 100.0 * random.f64());
    }
    text
}

fn program(file: &Path) {
    let status = Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["fit", "--format", "json"])
        .arg(file)
        .stdout(Stdio::null())
        .status()
        .expect("the program starts");
    assert!(status.success(), "the program fits");
}

fn fitting(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut group = criterion.benchmark_group("fit");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for count in [20, 100_000] {
        let text = runs(count);
        let file = folder.path().join(format!("{count}.csv"));
        std::fs::write(&file, &text).expect("the file is written");
        group.bench_function(format!("program, {count} runs"), |bencher| bencher.iter(|| program(&file)));
        let groups = parse_csv("runs", &text).expect("the table is read");
        group.bench_function(format!("library, {count} runs"), |bencher| {
            bencher.iter(|| black_box(fit(&groups[0].table, &FitOptions::default())));
        });
    }
    group.finish();
}

criterion_group!(benches, fitting);
criterion_main!(benches);
