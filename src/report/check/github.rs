//! Workflow commands of GitHub Actions:
//! <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>.

use std::fmt::Write;

use super::describe;
use crate::model::check::report::{Level, Report};
use crate::model::escape::{workflow_message, workflow_property};

/// One annotation per finding, on the table of its cell or task in `file`, the worst first.
pub fn annotations(report: &Report, file: &str) -> String {
    let mut findings: Vec<_> = report.findings().collect();
    // GitHub shows only ten annotations of each kind per step.
    findings.sort_by_key(|(_, finding)| std::cmp::Reverse(finding.level));
    let mut text = String::new();
    for (task, finding) in findings {
        let command = match finding.level {
            Level::Notice => "notice",
            Level::Warning => "warning",
            Level::NotVerified | Level::TooLittleData | Level::Failure | Level::TaskFailure => "error",
        };
        let of = match &finding.cell {
            Some(cell) => format!("{}/{cell}", task.name),
            None => task.name.clone(),
        };
        let line = task.line_of(finding);
        let place = line.map_or_else(String::new, |line| format!("file={},line={line},", workflow_property(file)));
        let title = workflow_property(&format!("{of}: {}", finding.code()));
        let message = workflow_message(&format!("{of}: {}", describe(finding)));
        let _ = writeln!(text, "::{command} {place}title={title}::{message}");
    }
    text
}
