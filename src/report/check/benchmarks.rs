//! Formats of programs that follow benchmarks.

use serde_json::{Map, Value, json};

use super::{allowed, change, peak, percent};
use crate::model::check::report::{CellReport, Report, ResourceCell, ResourceSamples};
use crate::model::escape;
use crate::model::fit::Resource;

/// Bencher Metric Format (<https://bencher.dev/docs/reference/bencher-metric-format>).
///
/// The medians of all cells as the measure `memory`, in bytes, with their lowest and highest peaks. Lower bounds get
/// the measure `memory-lower-bound`, because they cannot be compared with exact peaks. Other resources that are compared
/// have measures such as `time-seconds`.
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
            let mut measures = Map::from_iter([(measure.to_owned(), memory)]);
            for (resource, now) in measured(cell) {
                let [lowest, highest] = [now.samples.first(), now.samples.last()].map(|one| one.unwrap_or(&now.median));
                let amounts = json!({ "value": now.median, "lower_value": lowest, "upper_value": highest });
                measures.insert(format!("{resource}-{}", now.unit), amounts);
            }
            benchmarks.insert(format!("{}/{}", task.name, cell.name), measures.into());
        }
    }
    escape::json(&format!("{:#}\n", Value::Object(benchmarks)))
}

/// For the `customSmallerIsBetter` tool of github-action-benchmark
/// (<https://github.com/benchmark-action/github-action-benchmark#examples>).
///
/// The medians of all cells in bytes, with their spreads; other resources that are compared have entries of their own.
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
            for (resource, now) in measured(cell) {
                let change = cell.resources.get(&resource).and_then(ResourceCell::change);
                let change = change.map_or_else(|| "-".to_owned(), percent);
                benchmarks.push(json!({
                    "name": format!("{}/{}: {resource}", task.name, cell.name),
                    "unit": now.unit,
                    "value": now.median,
                    "range": format!("± {}", now.spread),
                    "extra": format!("runs: {}\nchange: {change}", now.samples.len()),
                }));
            }
        }
    }
    escape::json(&format!("{:#}\n", Value::Array(benchmarks)))
}

/// The current amounts of the other resources that are compared.
fn measured(cell: &CellReport) -> impl Iterator<Item = (Resource, &ResourceSamples)> {
    cell.resources.iter().filter_map(|(resource, of)| Some((*resource, of.now.as_ref()?)))
}
