//! OpenMetrics 1.0 text, as GitLab's metrics reports read it:
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::model::check::report::{CellReport, Report, ResourceCell, Verdict};
use crate::model::escape::label;
use crate::model::fit::Resource;
use crate::model::units::Bytes;

type Amount = fn(&CellReport) -> Option<Bytes>;
type ResourceAmount = fn(&ResourceCell) -> Option<f64>;

/// A metric family: name, help text, and its value for a cell.
const FAMILIES: [(&str, &str, Amount); 6] = [
    ("highwater_peak_bytes", "Median peak of the cell.", |cell| Some(cell.now.as_ref()?.median)),
    ("highwater_highest_peak_bytes", "Highest peak of the cell.", |cell| Some(cell.now.as_ref()?.highest())),
    (
        "highwater_highest_peak_at_most_bytes",
        "Upper bound of the highest peak of the cell: above the peak if that is \
         a lower bound, absent if nothing bounds it.",
        |cell| Some(cell.now.as_ref()?.highest_case()?.highest()),
    ),
    ("highwater_peak_spread_bytes", "Median absolute deviation of the peaks.", |cell| Some(cell.now.as_ref()?.spread)),
    ("highwater_baseline_peak_bytes", "Median peak of the cell in the baseline.", |cell| {
        Some(cell.baseline.as_ref()?.median)
    }),
    ("highwater_allowed_bytes", "Memory that the cell may use.", |cell| Some(cell.allowed.as_ref()?.bytes)),
];

/// A gauge for each amount of each cell, the numbers of failed runs, and whether the check passed.
pub fn openmetrics(report: &Report) -> String {
    let mut text = String::new();
    for (name, help, amount) in FAMILIES {
        let _ = write!(text, "# TYPE {name} gauge\n# UNIT {name} bytes\n# HELP {name} {help}\n");
        each(report, |labels, cell| {
            if let Some(amount) = amount(cell) {
                let _ = writeln!(text, "{name}{{{labels}}} {}", amount.0);
            }
        });
    }
    resources(&mut text, report);
    text.push_str("# TYPE highwater_failed_runs gauge\n# HELP highwater_failed_runs Failed runs of the cell.\n");
    each(report, |labels, cell| {
        let _ = writeln!(text, "highwater_failed_runs{{{labels}}} {}", cell.failed_runs);
    });
    let passed = match report.verdict {
        Verdict::Passed => 1,
        Verdict::NotVerified | Verdict::TooLittleData | Verdict::Failed | Verdict::TaskFailed => 0,
    };
    let _ = write!(
        text,
        "# TYPE highwater_check_passed gauge\n# HELP highwater_check_passed 1 if the check passed, else 0.\n\
         highwater_check_passed {passed}\n# EOF\n"
    );
    text
}

/// Gauges for the other resources that are compared, such as `highwater_time_seconds`.
fn resources(text: &mut String, report: &Report) {
    let cells = report.tasks.iter().flat_map(|task| &task.cells);
    let known: BTreeSet<Resource> = cells.flat_map(|cell| cell.resources.keys().copied()).collect();
    for resource in known {
        let unit = resource.unit();
        let families: [(String, String, ResourceAmount); 3] = [
            (format!("{resource}_{unit}"), format!("Median {resource} of the cell."), |of| {
                Some(of.now.as_ref()?.median)
            }),
            (format!("{resource}_spread_{unit}"), format!("Median absolute deviation of the {resource}."), |of| {
                Some(of.now.as_ref()?.spread)
            }),
            (format!("baseline_{resource}_{unit}"), format!("Median {resource} of the cell in the baseline."), |of| {
                Some(of.baseline.as_ref()?.median)
            }),
        ];
        for (name, help, amount) in families {
            let name = format!("highwater_{name}");
            let _ = write!(text, "# TYPE {name} gauge\n# UNIT {name} {unit}\n# HELP {name} {help}\n");
            each(report, |labels, cell| {
                if let Some(amount) = cell.resources.get(&resource).and_then(amount) {
                    let _ = writeln!(text, "{name}{{{labels}}} {amount}");
                }
            });
        }
    }
}

fn each(report: &Report, mut tell: impl FnMut(&str, &CellReport)) {
    for task in &report.tasks {
        for cell in &task.cells {
            tell(&format!("task=\"{}\",cell=\"{}\"", label(&task.name), label(&cell.name)), cell);
        }
    }
}
