//! Markdown for a comment or a job summary.

use std::fmt::Write;

use super::{allowed, change, peak};
use crate::model::check::report::{CellReport, Level, Report, TaskReport, Verdict};
use crate::model::escape::{lines, markdown as escaped};

/// The verdict, a table for each task, and the findings.
pub fn markdown(report: &Report) -> String {
    let mark = match report.verdict {
        Verdict::Passed => "✅",
        Verdict::NotVerified | Verdict::TooLittleData => "❔",
        Verdict::Failed | Verdict::TaskFailed => "❌",
    };
    let mut text = format!("### {mark} Memory check {}\n", escaped(&report.sentence()));
    for task in &report.tasks {
        let _ = write!(
            text,
            "\n#### {}\n\n| cell | peak | spread | runs | {} | change | allowed | verdict |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
            escaped(&task.name),
            escaped(report.reference()),
        );
        task.cells.iter().for_each(|cell| row(&mut text, cell));
        for (resource, rows) in super::other_resources(task) {
            let _ = write!(
                text,
                "\n| cell | {} | spread | runs | {} | change |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
                resource.name(),
                escaped(report.reference()),
            );
            for row in rows {
                let row: Vec<String> = row.iter().map(|field| escaped(field)).collect();
                let _ = writeln!(text, "| {} |", row.join(" | "));
            }
        }
        if let Some(reach) = &task.enough_for {
            let _ = writeln!(text, "\n{}", with_code(&reach.sentence()));
        }
        findings(&mut text, task);
    }
    text
}

fn row(text: &mut String, of: &CellReport) {
    let dash = || "-".to_owned();
    let now = |what: fn(&crate::model::check::report::Samples) -> String| of.now.as_ref().map_or_else(dash, what);
    let cells = [
        escaped(&of.name),
        now(peak),
        now(|now| now.spread.to_string()),
        now(|now| now.peaks.len().to_string()),
        of.baseline.as_ref().map_or_else(dash, peak),
        change(of),
        allowed(of),
        of.level.map_or("ok", Level::word).to_owned(),
    ];
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn findings(text: &mut String, task: &TaskReport) {
    if !task.findings.is_empty() {
        text.push('\n');
    }
    for finding in &task.findings {
        let of = finding.cell.as_ref().map_or_else(String::new, |name| format!(" {}:", escaped(name)));
        let (level, reason) = (finding.level.word(), finding.code());
        let _ = writeln!(text, "- **{level}** (`{reason}`){of} {}  ", with_code(&finding.message));
        let _ = writeln!(text, "  → {}", with_code(&finding.remedy));
        if let Some(stderr) = &finding.stderr {
            block(text, stderr);
        }
    }
}

/// Adds a code block to a list item. Its fence is longer than any in the text.
fn block(text: &mut String, content: &str) {
    let content = lines(content);
    let longest = content.split(|char| char != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(text, "\n  Last lines of stderr:\n\n  {fence}text");
    for line in content.lines() {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(text, "  {fence}");
}

/// Escapes text but keeps code spans; a name with backticks can at most look like code.
fn with_code(text: &str) -> String {
    escaped(text).replace("\\`", "`")
}
