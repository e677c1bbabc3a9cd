//! OpenMetrics 1.0 text, as GitLab's metrics reports read it:
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>.

use std::fmt::Write;

use crate::model::check::report::{CellReport, Report, Verdict};
use crate::model::escape::label;
use crate::model::units::Bytes;

type Amount = fn(&CellReport) -> Option<Bytes>;

/// A family of amounts: name, help, and what it has of a cell.
const FAMILIES: [(&str, &str, Amount); 6] = [
    ("highwater_peak_bytes", "The median of the peaks of a cell.", |cell| Some(cell.now.as_ref()?.median)),
    ("highwater_highest_peak_bytes", "The highest peak of a cell.", |cell| Some(cell.now.as_ref()?.highest())),
    (
        "highwater_highest_peak_at_most_bytes",
        "What the highest peak of a cell cannot exceed: more than the peak if that is \
                                              a lower bound, absent if nothing bounds it.",
        |cell| Some(cell.now.as_ref()?.highest_case()?.highest()),
    ),
    ("highwater_peak_spread_bytes", "The median distance of the peaks from their median.", |cell| {
        Some(cell.now.as_ref()?.spread)
    }),
    ("highwater_baseline_peak_bytes", "The median of the peaks of a cell in the baseline.", |cell| {
        Some(cell.baseline.as_ref()?.median)
    }),
    ("highwater_allowed_bytes", "What a cell may use at most.", |cell| Some(cell.allowed.as_ref()?.bytes)),
];

/// A gauge for each amount of each cell, how often runs failed, and whether the check passed.
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
    text.push_str("# TYPE highwater_failed_runs gauge\n# HELP highwater_failed_runs Runs of a cell that failed.\n");
    each(report, |labels, cell| {
        let _ = writeln!(text, "highwater_failed_runs{{{labels}}} {}", cell.failed_runs);
    });
    let passed = match report.verdict {
        Verdict::Passed => 1,
        Verdict::NotVerified | Verdict::TooLittleData | Verdict::Failed | Verdict::TaskFailed => 0,
    };
    let _ = write!(
        text,
        "# TYPE highwater_check_passed gauge\n# HELP highwater_check_passed 1 where the check passed.\n\
         highwater_check_passed {passed}\n# EOF\n"
    );
    text
}

fn each(report: &Report, mut tell: impl FnMut(&str, &CellReport)) {
    for task in &report.tasks {
        for cell in &task.cells {
            tell(&format!("task=\"{}\",cell=\"{}\"", label(&task.name), label(&cell.name)), cell);
        }
    }
}
