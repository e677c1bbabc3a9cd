//! Formats of programs that follow benchmarks.

use serde_json::{Map, Value, json};

use super::{allowed, change, peak};
use crate::model::check::report::Report;
use crate::model::escape;

/// Bencher Metric Format (<https://bencher.dev/docs/reference/bencher-metric-format>).
///
/// The medians of all cells as the measure `memory`, in bytes, with their lowest and highest peaks. Lower bounds get
/// the measure `memory-lower-bound`, because they cannot be compared with exact peaks.
pub fn bmf(report: &Report) -> String {
    let mut benchmarks = Map::new();
    for task in &report.tasks {
        for cell in &task.cells {
            let Some(now) = &cell.now else { continue };
            let lowest = now.peaks.first().unwrap_or(&now.median);
            let mut memory = json!({ "value": now.median.0, "lower_value": lowest.0 });
            if let Some(most) = now.highest_case() {
                memory["upper_value"] = most.highest().0.into();
            }
            let measure = if now.is_exact() { "memory" } else { "memory-lower-bound" };
            benchmarks.insert(format!("{}/{}", task.name, cell.name), json!({ measure: memory }));
        }
    }
    escape::json(&format!("{:#}\n", Value::Object(benchmarks)))
}

/// For the `customSmallerIsBetter` tool of github-action-benchmark
/// (<https://github.com/benchmark-action/github-action-benchmark#examples>).
///
/// The medians of all cells in bytes, with their spreads.
pub fn smaller_is_better(report: &Report) -> String {
    let mut benchmarks = Vec::new();
    for task in &report.tasks {
        for cell in &task.cells {
            let Some(now) = &cell.now else { continue };
            let runs = now.peaks.len();
            let inexact = if now.is_exact() { String::new() } else { format!("\npeak: {}, a lower bound", peak(now)) };
            benchmarks.push(json!({
                "name": format!("{}/{}", task.name, cell.name),
                "unit": "bytes",
                "value": now.median.0,
                "range": format!("± {}", now.spread.0),
                "extra": format!("runs: {runs}\nchange: {}\nallowed: {}{inexact}", change(cell), allowed(cell)),
            }));
        }
    }
    escape::json(&format!("{:#}\n", Value::Array(benchmarks)))
}
