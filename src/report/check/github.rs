//! Workflow commands of GitHub Actions:
//! <https://docs.github.com/actions/reference/workflow-commands-for-github-actions>.

use std::fmt::Write;

use crate::model::check::report::{Level, Report};

/// One annotation for each finding, at the task's table in `file`, the worst first.
pub fn annotations(report: &Report, file: &str) -> String {
    let mut findings: Vec<_> = report.findings().collect();
    // GitHub shows ten of a kind for a step.
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
        let place = task.line.map_or_else(String::new, |line| format!("file={},line={line},", property(file)));
        let title = property(&format!("{of}: {}", finding.reason.name()));
        let message = data(&format!("{of}: {}\n{}", finding.message, finding.remedy));
        let _ = writeln!(text, "::{command} {place}title={title}::{message}");
    }
    text
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
