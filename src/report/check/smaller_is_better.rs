//! The `customSmallerIsBetter` tool of github-action-benchmark:
//! <https://github.com/benchmark-action/github-action-benchmark#examples>.

use serde_json::{Value, json};

use super::{allowed, change, peak};
use crate::model::check::report::Report;
use crate::model::escape;

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
