//! The cells of records, as a table with what to mistrust below it.

use std::time::Duration;

use highwater::calibrate::cells::{Cell, Odd, Warning};
use highwater::model::units::Bytes;

use super::output;
use super::summary::seconds;
use super::table::table;

/// Outliers that are told one by one.
const MOST_OUTLIERS: usize = 8;

/// A row for each cell; then its warnings, each kind once, with what to try.
pub(crate) fn of(cells: &[Cell]) -> String {
    let mut text = rows(cells);
    let notes = format!("{}{}", outliers(cells), warnings(cells));
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

fn rows(cells: &[Cell]) -> String {
    let several_tasks = cells.windows(2).any(|pair| pair[0].task != pair[1].task);
    let parameters = cells.iter().any(|cell| !cell.parameters.is_empty());
    let mut header = vec!["case"];
    if several_tasks {
        header.insert(0, "task");
    }
    if parameters {
        header.push("parameters");
    }
    header.extend([">input", ">runs", ">peak", ">+-", ">largest", ">time", "notes"]);
    let row = |cell: &Cell| {
        let mut row = vec![case(cell)];
        if several_tasks {
            row.insert(0, cell.task.clone().unwrap_or_default());
        }
        if parameters {
            let chosen = cell.parameters.iter().map(|(name, value)| format!("{name}={value}"));
            row.push(chosen.collect::<Vec<_>>().join(" "));
        }
        let peak = cell.peak_bytes;
        let bytes = |number: Option<f64>| number.map_or("-".to_owned(), |number| Bytes(number as u64).to_string());
        let spread = peak.and_then(|peak| peak.relative());
        let good = cell.runs - cell.failed;
        row.extend([
            cell.input_bytes.map_or("-".to_owned(), |size| size.to_string()),
            if cell.failed == 0 { good.to_string() } else { format!("{good}/{}", cell.runs) },
            bytes(peak.map(|peak| peak.median)),
            spread.map_or("-".to_owned(), |spread| format!("{:.1}%", spread * 100.0)),
            bytes(peak.map(|peak| peak.most)),
            cell.wall_seconds.map_or("-".to_owned(), |wall| seconds(Duration::from_secs_f64(wall.median))),
            notes(cell),
        ]);
        row
    };
    table(&header, cells.iter().map(row).collect())
}

/// What a cell is called: its case; where it has none, what was run.
fn case(cell: &Cell) -> String {
    let name = cell.case.as_ref().or(cell.task.as_ref()).cloned().unwrap_or_else(|| "-".to_owned());
    if cell.synthetic { format!("{name} (made up)") } else { name }
}

fn notes(cell: &Cell) -> String {
    let mut words: Vec<String> = cell.warnings.iter().map(|warning| warning.word().to_owned()).collect();
    match cell.outliers.len() {
        0 => {}
        1 => words.push("1 outlier".to_owned()),
        several => words.push(format!("{several} outliers")),
    }
    words.join(", ")
}

fn outliers(cells: &[Cell]) -> String {
    let mut told = String::new();
    let all: Vec<_> = cells.iter().flat_map(|cell| cell.outliers.iter().map(move |outlier| (cell, outlier))).collect();
    for (cell, outlier) in all.iter().take(MOST_OUTLIERS) {
        let what = match outlier.what {
            Odd::Peak => "has a peak of",
            Odd::Time => "took",
        };
        let (case, run, ratio) = (case(cell), outlier.run, outlier.ratio);
        paragraph(
            &mut told,
            "outlier",
            &format!("{case}: run {run} {what} {ratio:.2} times the median: {}", outlier.reason.words()),
        );
    }
    if all.len() > MOST_OUTLIERS {
        paragraph(&mut told, "outlier", &format!("{} more: see --format json", all.len() - MOST_OUTLIERS));
    }
    told
}

fn warnings(cells: &[Cell]) -> String {
    let mut kinds: Vec<(&Warning, &Cell, usize)> = Vec::new();
    for (cell, warning) in cells.iter().flat_map(|cell| cell.warnings.iter().map(move |warning| (cell, warning))) {
        match kinds.iter_mut().find(|(known, ..)| known.word() == warning.word()) {
            Some((.., cells)) => *cells += 1,
            None => kinds.push((warning, cell, 1)),
        }
    }
    let mut told = String::new();
    for (warning, cell, count) in kinds {
        let more = match count - 1 {
            0 => String::new(),
            1 => ", and 1 more cell".to_owned(),
            several => format!(", and {several} more cells"),
        };
        paragraph(&mut told, "note", &format!("{}: {warning}{more}", case(cell)));
        paragraph(&mut told, "  try", warning.remedy());
    }
    told
}

/// The name in front, long text below itself.
fn paragraph(text: &mut String, name: &str, value: &str) {
    let width = output::width_of_stdout().map_or(80, usize::from);
    super::summary::push_row(text, name, &super::table::printable(value), width);
}

/// `45 runs in 15 cells`.
pub(crate) fn counted(runs: usize, cells: usize) -> String {
    format!("{runs} run{} in {cells} cell{}", plural(runs), plural(cells))
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
