//! JUnit XML for Jenkins, GitLab and GitHub actions: a suite for each task, a case for each cell, and one for the task
//! as a whole.
//!
//! Written by hand: only a few elements are standardised, and crates for it add timestamps and UUIDs.

use std::fmt::Write;

use super::describe;
use crate::model::check::report::{CellReport, Finding, Level, Report, ResourceSamples, Samples, TaskReport};
use crate::model::escape::{html, lines};

/// The case for findings about no particular cell.
const WHOLE: &str = "as a whole";

/// The report as JUnit XML; `file` is the configuration file.
pub fn junit(report: &Report, file: &str) -> String {
    let suites: Vec<Suite> = report.tasks.iter().map(|task| suite(task, report.reference())).collect();
    let sum =
        |count: fn(&Case) -> bool| suites.iter().flat_map(|suite| &suite.cases).filter(|case| count(case)).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuites name=\"highwater check\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
        sum(|_| true),
        sum(Case::is_failure),
        sum(Case::is_error),
        sum(Case::is_skipped),
    );
    for suite in &suites {
        let count = |count: fn(&Case) -> bool| suite.cases.iter().filter(|case| count(case)).count();
        let _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">",
            escaped(&suite.name),
            suite.cases.len(),
            count(Case::is_failure),
            count(Case::is_error),
            count(Case::is_skipped),
        );
        suite.cases.iter().for_each(|case| write_case(&mut text, &suite.name, case, file));
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

struct Suite {
    name: String,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    findings: Vec<Finding>,
    facts: String,
    line: Option<usize>,
}

impl Case {
    fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }

    fn is_failure(&self) -> bool {
        self.worst() == Some(Level::Failure)
    }

    fn is_error(&self) -> bool {
        self.worst() == Some(Level::TaskFailure)
    }

    fn is_skipped(&self) -> bool {
        matches!(self.worst(), Some(Level::NotVerified | Level::TooLittleData))
    }
}

fn suite(task: &TaskReport, reference: &str) -> Suite {
    let of = |cell: Option<&str>| -> Vec<Finding> {
        task.findings.iter().filter(|finding| finding.cell.as_deref() == cell).cloned().collect()
    };
    let case = |cell: &CellReport| Case {
        name: cell.name.clone(),
        findings: of(Some(&cell.name)),
        facts: facts(cell, reference),
        line: cell.line.or(task.line),
    };
    let reach = task.enough_for.iter().map(|reach| reach.sentence() + "\n").collect();
    let whole = Case { name: WHOLE.to_owned(), findings: of(None), facts: reach, line: task.line };
    Suite { name: task.name.clone(), cases: task.cells.iter().map(case).chain([whole]).collect() }
}

fn facts(cell: &CellReport, reference: &str) -> String {
    let samples = |samples: &Samples| {
        let peaks: Vec<String> = samples.peaks.iter().map(|peak| peak.0.to_string()).collect();
        let kind = match samples.highest_case() {
            Some(_) if samples.is_exact() => String::new(),
            Some(most) => format!(", lower bounds, at most {} bytes", most.highest().0),
            None => ", lower bounds".to_owned(),
        };
        format!("median {} bytes, spread {} bytes, peaks {}{kind}", samples.median.0, samples.spread.0, peaks.join(" "))
    };
    let now = cell.now.iter().map(|now| format!("now: {}\n", samples(now)));
    let then = cell.baseline.iter().map(|then| format!("{reference}: {}\n", samples(then)));
    let allowed = cell.allowed.iter().map(|allowed| format!("allowed: {} bytes\n", allowed.bytes.0));
    let others = cell.resources.iter().flat_map(|(resource, cell)| {
        let samples = |samples: &ResourceSamples| {
            let amounts: Vec<String> = samples.samples.iter().map(f64::to_string).collect();
            let ResourceSamples { unit, median, spread, .. } = samples;
            format!("median {median} {unit}, spread {spread} {unit}, runs {}", amounts.join(" "))
        };
        let now = cell.now.iter().map(|now| format!("{resource} now: {}\n", samples(now)));
        let then = cell.baseline.iter().map(|then| format!("{resource} {reference}: {}\n", samples(then)));
        now.chain(then).collect::<Vec<_>>()
    });
    now.chain(then).chain(allowed).chain(others).collect()
}

fn write_case(text: &mut String, suite: &str, case: &Case, file: &str) {
    let (name, class) = (escaped(&case.name), escaped(suite));
    let line = case.line.map_or_else(String::new, |line| format!(" line=\"{line}\""));
    let _ = writeln!(text, "    <testcase name=\"{name}\" classname=\"{class}\" file=\"{}\"{line}>", escaped(file));
    let worst = case.worst();
    for finding in case.findings.iter().filter(|finding| Some(finding.level) == worst) {
        let element = match finding.level {
            Level::Notice | Level::Warning => continue,
            Level::Failure => "failure",
            Level::TaskFailure => "error",
            Level::NotVerified | Level::TooLittleData => {
                // There can be only one, and it has no content.
                let _ = writeln!(text, "      <skipped message=\"{}\"/>", escaped(&describe(finding)));
                break;
            }
        };
        let (kind, message) = (finding.code(), escaped(&finding.message));
        let description = content(&describe(finding));
        let _ = writeln!(text, "      <{element} type=\"{kind}\" message=\"{message}\">{description}</{element}>");
    }
    let beside = case.findings.iter().filter(|finding| Some(finding.level) != worst || finding.level <= Level::Warning);
    let beside: String = beside.map(|finding| format!("{}: {}\n", finding.level.word(), describe(finding))).collect();
    if !case.facts.is_empty() || !beside.is_empty() {
        let _ = writeln!(text, "      <system-out>{}{}</system-out>", content(&case.facts), content(&beside));
    }
    text.push_str("    </testcase>\n");
}

/// The content of an element, which may contain line breaks.
fn content(text: &str) -> String {
    html(&lines(text))
}

/// The value of an attribute, in which line breaks and tabs must be escaped.
fn escaped(text: &str) -> String {
    html(text).replace('\n', "&#10;").replace('\t', "&#9;")
}
