//! A report as text for a terminal.

mod picture;

use crate::model::escape::{lines, printable};
use crate::model::layout::{self, wrapped};

use super::describe::{evidence, measured, provenance, warnings};
use super::model::{Report, Score, TaskReport};
use super::needs;
use super::plot::plots;
use super::rows::{Rows, rows};
use super::words::{UNKNOWN, count, times};

/// Further cases are cut off.
const MOST_CASES: usize = 40;

/// Renders a report as text of this width, with a small plot if wanted.
pub fn table(report: &Report, width: usize, with_plot: bool) -> String {
    let mut text = String::new();
    for note in &report.notes {
        paragraph(&mut text, note, "", width);
    }
    let overview = needs::overview(report);
    if !overview.is_empty() {
        text.push_str(&grid(&[vec![needs::overview_columns(report)], overview].concat(), &[0], width));
    }
    for (place, task) in report.tasks.iter().enumerate() {
        if place > 0 || !text.is_empty() {
            text.push('\n');
        }
        of_task(&mut text, task, width, with_plot);
    }
    lines(&text)
}

fn of_task(text: &mut String, task: &TaskReport, width: usize, with_plot: bool) {
    let image = task.image.as_ref().map(|image| format!("   {image}")).unwrap_or_default();
    text.push_str(&format!("{}{}\n\n", printable(&task.name), printable(&image)));
    let verdict = format!("{}: {}", task.verdict.level.words().to_uppercase(), task.verdict.sentence);
    paragraph(text, &verdict, "", width);
    text.push('\n');
    for advice in &task.advice {
        paragraph(text, &advice.text, "", width);
        // Not wrapped, so that it can be copied.
        text.extend(advice.command.iter().map(|command| format!("    {}\n", printable(command))));
        text.push('\n');
    }
    if with_plot && let Some(plot) = plots(task).into_iter().find(|plot| plot.name == "peaks") {
        text.push_str(&picture::picture(&plot, width));
        text.push('\n');
    }
    requests(text, task, width);
    let rules = grid(&rules(task), &[0, 1], width);
    if !rules.is_empty() {
        text.push_str(&rules);
        text.push('\n');
    }
    text.push_str(&grid(&cases(task), &[0], width));
    if task.cells.len() > MOST_CASES {
        text.push_str(&format!(
            "only the first {MOST_CASES} of {} cases; HTML, CSV and JSON have all\n",
            task.cells.len()
        ));
    }
    text.push('\n');
    for warning in warnings(task) {
        paragraph(text, &format!("warning: {warning}"), "  ", width);
    }
    for (name, what) in evidence(task).into_iter().chain(provenance(task)) {
        paragraph(text, &format!("{name}: {what}"), "  ", width);
    }
    for (resource, evidence) in needs::others(task) {
        for (name, what) in evidence {
            paragraph(text, &format!("{resource}: {name}: {what}"), "  ", width);
        }
    }
    for way in measured(task) {
        paragraph(text, &format!("measured: {way}"), "  ", width);
    }
}

fn rules(task: &TaskReport) -> Vec<Vec<String>> {
    let header = ["rule", "limit", "too low for", "limit/peak lowest", "mean", "highest"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let row = |name: &str, rule: &str, score: &Score| {
        let ratios = [score.smallest_ratio, score.mean_ratio, score.largest_ratio];
        let ratios = ratios.map(|ratio| if score.runs > 0 { times(ratio) } else { UNKNOWN.to_owned() });
        let low = format!("{} of {}", score.too_low, count(score.runs, "run", "runs"));
        [vec![name.to_owned(), rule.to_owned(), low], ratios.to_vec()].concat()
    };
    rows.extend(task.rule_in_use.iter().map(|rule| row("in use", &rule.words, &rule.score)));
    rows.extend(task.fitted.iter().map(|fitted| row("fitted", &fitted.words, &fitted.score)));
    if rows.len() == 1 { Vec::new() } else { rows }
}

/// The cases below the names and the units of their columns.
fn cases(task: &TaskReport) -> Vec<Vec<String>> {
    let Rows { columns, rows } = rows(task, MOST_CASES);
    let (names, units): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|(name, unit)| (name.to_owned(), unit.to_owned())).unzip();
    [names, units].into_iter().chain(rows).collect()
}

/// What to request of each resource, for the largest input measured.
fn requests(text: &mut String, task: &TaskReport, width: usize) {
    let rows: Vec<Vec<String>> = needs::requests(task).into_iter().map(Vec::from).collect();
    if !rows.is_empty() {
        let header = needs::COLUMNS.map(str::to_owned).to_vec();
        text.push_str(&grid(&[vec![header], rows].concat(), &[0, needs::COLUMNS.len() - 1], width));
    }
    for reason in needs::without_rule(task) {
        paragraph(text, &reason, "  ", width);
    }
    text.push('\n');
}

/// Aligns rows below a header in columns, these to the left and all others to the right.
fn grid(rows: &[Vec<String>], left: &[usize], width: usize) -> String {
    let mut rows = rows.iter().map(|row| row.iter().map(|field| printable(field)).collect::<Vec<_>>());
    let Some(header) = rows.next() else { return String::new() };
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let right: Vec<usize> = (0..header.len()).filter(|column| !left.contains(column)).collect();
    layout::table(&header, &rows.collect::<Vec<_>>(), &right, 3, width)
}

/// Wraps a text to this width and indents all lines but the first.
fn paragraph(text: &mut String, what: &str, indent: &str, width: usize) {
    text.push_str(&wrapped(&printable(what), "", indent, width));
}
