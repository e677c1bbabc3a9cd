//! A report as Markdown, for a pull request.

use std::fmt::Write;

use super::describe::{case, evidence, measured, warnings};
use super::model::{Level, Report, Score, TaskReport};
use super::words::{self, UNKNOWN, amount, count, times};
use crate::model::escape::markdown as escaped;

/// Further cases are cut off.
const MOST_CASES: usize = 50;

/// Renders a report as GitHub Markdown.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    for note in &report.notes {
        let _ = writeln!(text, "> {}\n", escaped(note));
    }
    for task in &report.tasks {
        of_task(&mut text, task);
    }
    let _ = writeln!(text, "<sub>{}</sub>", escaped(&report.made_by));
    text
}

fn of_task(text: &mut String, task: &TaskReport) {
    let _ = writeln!(text, "## Memory of {}\n", escaped(&task.name));
    let sign = match task.verdict.level {
        Level::TooLow => "❌",
        Level::Tight | Level::Wasteful | Level::TooLittle => "⚠️",
        Level::Ok => "✅",
        Level::Measured => "ℹ️",
    };
    let _ = writeln!(text, "{sign} **{}** – {}\n", task.verdict.level.words(), escaped(&task.verdict.sentence));
    if task.rule_in_use.is_some() || task.fitted.is_some() {
        rules(text, task);
    }
    if task.before.is_some() {
        changes(text, task)
    } else {
        cases(text, task)
    }
    let warnings = warnings(task);
    if !warnings.is_empty() {
        let _ = writeln!(text, "<details><summary>{}</summary>\n", count(warnings.len(), "warning", "warnings"));
        for warning in &warnings {
            let _ = writeln!(text, "- {}", escaped(warning));
        }
        let _ = writeln!(text, "\n</details>\n");
    }
    let _ = writeln!(text, "<details><summary>Measurement, and evidence for the rule</summary>\n");
    for (name, what) in evidence(task) {
        let _ = writeln!(text, "- {name}: {}", escaped(&what));
    }
    for way in measured(task) {
        let _ = writeln!(text, "- {}", escaped(&way));
    }
    for environment in &task.environments {
        let host = environment.host.as_ref().map_or_else(
            || "an unknown machine".to_owned(),
            |host| {
                format!("Linux {}, {}, {}", host.kernel, host.architecture, count(host.cpus as usize, "CPU", "CPUs"))
            },
        );
        let _ = writeln!(
            text,
            "- {}: {}, {}, measured with highwater {}",
            count(environment.runs, "run", "runs"),
            escaped(&host),
            escaped(&environment.runner),
            escaped(&environment.tool_version)
        );
    }
    let _ = writeln!(text, "\n</details>\n");
}

fn rules(text: &mut String, task: &TaskReport) {
    text.push_str("| rule | limit | too low for | limit/peak mean | min | max |\n");
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: |\n");
    let mut row = |name: &str, rule: &str, score: &Score| {
        let ratios = [score.mean_ratio, score.smallest_ratio, score.largest_ratio];
        let ratios = ratios.map(|ratio| if score.runs > 0 { times(ratio) } else { UNKNOWN.to_owned() }).join(" | ");
        let _ = writeln!(text, "| {name} | {} | {} of {} | {ratios} |", escaped(rule), score.too_low, score.runs);
    };
    if let Some(rule) = &task.rule_in_use {
        row("in use", &rule.words, &rule.score);
    }
    if let Some(fitted) = &task.fitted {
        row("fitted", &fitted.words, &fitted.score);
    }
    text.push('\n');
}

fn cases(text: &mut String, task: &TaskReport) {
    let has_floors = task.has_floors();
    let (name, line) = if has_floors { (" floor |", " ---: |") } else { ("", "") };
    let _ = writeln!(text, "| case | input n | runs | median peak | max | rule in use | fitted rule |{name}");
    let _ = writeln!(text, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |{line}");
    for cell in task.cells.iter().take(MOST_CASES) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |{}",
            escaped(&case(&cell.case, &cell.parameters)),
            amount(cell.n),
            cell.runs,
            words::at_least(amount(cell.median), cell.lower_bound),
            words::at_least(amount(cell.most), cell.lower_bound),
            amount(cell.predicted),
            amount(cell.fitted),
            if has_floors { format!(" {} |", amount(cell.floor)) } else { String::new() }
        );
    }
    cut(text, task.cells.len());
}

fn changes(text: &mut String, task: &TaskReport) {
    text.push_str("| case | input n | median before | median now | change |\n| --- | ---: | ---: | ---: | ---: |\n");
    let changes = task.before.as_ref().map(|before| before.changes.as_slice()).unwrap_or_default();
    for change in changes.iter().take(MOST_CASES) {
        let told = match (change.old_median, change.new_median) {
            (None, Some(_)) => "new".to_owned(),
            (Some(_), None) => "gone".to_owned(),
            _ => change.ratio.map_or_else(|| UNKNOWN.to_owned(), words::change),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {told} |",
            escaped(&case(&change.case, &change.parameters)),
            amount(change.n),
            words::at_least(amount(change.old_median), change.old_lower_bound),
            words::at_least(amount(change.new_median), change.new_lower_bound)
        );
    }
    cut(text, changes.len());
}

fn cut(text: &mut String, all: usize) {
    if all > MOST_CASES {
        let _ = writeln!(text, "\nOnly the first {MOST_CASES} of {all} cases.");
    }
    text.push('\n');
}
