//! A report as Markdown, for a pull request.

use std::fmt::Write;

use super::describe::{evidence, measured, provenance, warnings};
use super::model::{Level, Report, Score, TaskReport};
use super::needs;
use super::rows::{Rows, rows};
use super::words::{UNKNOWN, count, times};
use crate::model::escape::{markdown as escaped, printable};

/// Further cases are cut off.
const MOST_CASES: usize = 50;

/// Renders a report as GitHub Markdown.
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    for note in &report.notes {
        let _ = writeln!(text, "> {}\n", escaped(note));
    }
    let overview = needs::overview(report);
    if !overview.is_empty() {
        text.push_str("## What to request\n\n");
        let columns = needs::overview_columns(report);
        rows_of(&mut text, &columns, columns.len() - 1, &overview);
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
    for advice in &task.advice {
        let _ = writeln!(text, "{}\n", escaped(&advice.text));
        if let Some(command) = &advice.command {
            // On one line that begins with `highwater`, so that nothing in it ends the block.
            let _ = writeln!(text, "```sh\n{}\n```\n", printable(command));
        }
    }
    requests(text, task);
    if task.rule_in_use.is_some() || task.fitted.is_some() {
        rules(text, task);
    }
    cases(text, task);
    let warnings = warnings(task);
    if !warnings.is_empty() {
        let _ = writeln!(text, "<details><summary>{}</summary>\n", count(warnings.len(), "warning", "warnings"));
        for warning in &warnings {
            let _ = writeln!(text, "- {}", escaped(warning));
        }
        let _ = writeln!(text, "\n</details>\n");
    }
    for (name, evidence) in needs::others(task) {
        let _ = writeln!(text, "<details><summary>The rule for {name}</summary>\n");
        for (name, what) in evidence {
            let _ = writeln!(text, "- {name}: {}", escaped(&what));
        }
        let _ = writeln!(text, "\n</details>\n");
    }
    let _ = writeln!(text, "<details><summary>Measurement, and evidence for the rule</summary>\n");
    for (name, what) in evidence(task).into_iter().chain(provenance(task)) {
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

/// What to request of each resource, for the largest input measured.
fn requests(text: &mut String, task: &TaskReport) {
    text.push_str("### What to request\n\n");
    let rows = needs::requests(task);
    if !rows.is_empty() {
        rows_of(text, &needs::COLUMNS, needs::COLUMNS.len() - 2, &rows);
    }
    for reason in needs::without_rule(task) {
        let _ = writeln!(text, "- {}", escaped(&reason));
    }
    if !text.ends_with("\n\n") {
        text.push('\n');
    }
}

/// A table with this number of columns to the right after the first one.
fn rows_of(text: &mut String, columns: &[impl AsRef<str>], right: usize, rows: &[impl AsRef<[String]>]) {
    let names: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    let _ = writeln!(text, "| {} |", names.join(" | "));
    let _ = writeln!(text, "| --- |{}{}", " ---: |".repeat(right), " --- |".repeat(columns.len() - 1 - right));
    for row in rows {
        let fields: Vec<String> = row.as_ref().iter().map(|field| escaped(field)).collect();
        let _ = writeln!(text, "| {} |", fields.join(" | "));
    }
    text.push('\n');
}

fn rules(text: &mut String, task: &TaskReport) {
    text.push_str("| rule | limit | too low for | lowest limit/peak | mean | highest |\n");
    text.push_str("| --- | --- | ---: | ---: | ---: | ---: |\n");
    let mut row = |name: &str, rule: &str, score: &Score| {
        let ratios = [score.smallest_ratio, score.mean_ratio, score.largest_ratio];
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
    let Rows { columns, rows } = rows(task, MOST_CASES);
    let names =
        columns.iter().map(|(name, unit)| if unit.is_empty() { (*name).to_owned() } else { format!("{name}, {unit}") });
    let _ = writeln!(text, "| {} |", names.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(text, "| --- |{}", " ---: |".repeat(columns.len() - 1));
    for row in rows {
        let fields: Vec<String> = row.iter().map(|field| escaped(field)).collect();
        let _ = writeln!(text, "| {} |", fields.join(" | "));
    }
    let all = task.before.as_ref().map_or(task.cells.len(), |before| before.changes.len());
    if all > MOST_CASES {
        let _ = writeln!(text, "\nOnly the first {MOST_CASES} of {all} cases.");
    }
    text.push('\n');
}
