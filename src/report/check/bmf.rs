//! Bencher Metric Format: <https://bencher.dev/docs/reference/bencher-metric-format>.

use serde_json::{Map, Value, json};

use crate::model::check::report::Report;

/// The medians of all cells as the measure `memory`, in bytes, with the lowest and the highest peak around them.
pub fn bmf(report: &Report) -> String {
    let mut benchmarks = Map::new();
    for task in &report.tasks {
        for cell in &task.cells {
            let Some(now) = &cell.now else { continue };
            let lowest = now.peaks.first().unwrap_or(&now.median);
            let memory = json!({ "value": now.median.0, "lower_value": lowest.0, "upper_value": now.highest().0 });
            benchmarks.insert(format!("{}/{}", task.name, cell.name), json!({ "memory": memory }));
        }
    }
    format!("{:#}\n", Value::Object(benchmarks))
}
