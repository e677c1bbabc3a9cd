//! The result of a check as text.

use std::fmt::Write;

use highwater::model::check::baseline::BaselineRule;
use highwater::model::check::report::{CellReport, Level, Report, Samples, TaskReport};
use highwater::model::fit::Resource;
use highwater::report::check::{allowed, change, other_resources, peak};

use crate::cli::output;
use crate::cli::table::{printable, table, wrapped};

/// Renders a table for each task, the findings, and the verdict.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for task in &report.tasks {
        one(&mut text, task, report.reference());
    }
    text + &report.sentence() + "\n"
}

fn one(text: &mut String, task: &TaskReport, reference: &str) {
    let baseline = match reference {
        "baseline" => ">Baseline".to_owned(),
        revision => format!(">{}", printable(revision)),
    };
    let header = ["Cell", ">Peak", ">Spread", ">Runs", &baseline, ">Change", ">Allowed", "Verdict"];
    let _ = writeln!(text, "{}", printable(&task.name));
    if !task.cells.is_empty() {
        text.push_str(&table(&header, task.cells.iter().map(row).collect()));
    }
    for (resource, rows) in other_resources(task) {
        let name = match resource {
            Resource::Time => ">Time",
            Resource::Memory | Resource::Cpu | Resource::Gpu | Resource::Storage => ">Cores",
        };
        let header = ["Cell", name, ">Spread", ">Runs", &baseline, ">Change"];
        text.push_str(&table(&header, rows.into_iter().map(Vec::from).collect()));
    }
    match (&task.rule, &task.baseline_rule) {
        (Some(now), Some(then)) if describe(now) != describe(then) => {
            let _ = writeln!(text, "fitted rule {}, {} {}", describe(now), printable(reference), describe(then));
        }
        (Some(now), _) => {
            let _ = writeln!(text, "fitted rule {}", describe(now));
        }
        (None, _) => {}
    }
    let width = output::width_of_stdout().map_or(100, usize::from);
    if let Some(reach) = &task.enough_for {
        wrapped(text, "", &printable(&reach.sentence()), width);
    }
    for (place, finding) in task.findings.iter().enumerate() {
        let of = finding.cell.as_ref().map_or_else(String::new, |cell| format!("{cell}: "));
        let first = format!("{}: {of}{} [{}]", finding.level.word(), finding.message, finding.code());
        wrapped(text, "  ", &printable(&first), width);
        // A remedy that several findings share is printed once, after them.
        if task.findings.get(place + 1).is_none_or(|next| next.remedy != finding.remedy) {
            wrapped(text, "    → ", &printable(&finding.remedy), width);
        }
    }
    text.push('\n');
}

fn describe(rule: &BaselineRule) -> String {
    format!("{} where n is {}", rule.words(), rule.predictor)
}

fn row(cell: &CellReport) -> Vec<String> {
    let now = |what: fn(&Samples) -> String| cell.now.as_ref().map_or_else(|| "-".to_owned(), what);
    vec![
        cell.name.clone(),
        now(peak),
        now(|now| now.spread.to_string()),
        now(|now| now.peaks.len().to_string()),
        cell.baseline.as_ref().map_or_else(|| "-".to_owned(), peak),
        change(cell),
        allowed(cell),
        cell.level.map_or("ok", Level::word).to_owned(),
    ]
}
