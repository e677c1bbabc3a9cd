//! The cells of records as a table, followed by outliers and warnings.

use std::collections::BTreeMap;

use highwater::calibrate::cells::{Cell, OutlierKind, Warning};
use highwater::model::plan::CPUS;
use highwater::model::units::{Bytes, duration};

use super::output;
use super::table::{printable, table, wrapped};

/// Outliers that are listed one by one.
const MOST_OUTLIERS: usize = 8;
/// Characters of a command that is shown as the name of a case.
const LONGEST_COMMAND: usize = 30;

/// Renders one row per cell, then each kind of warning once, with its remedy.
pub(crate) fn render(cells: &[Cell]) -> String {
    let names = names(cells);
    let kinds = kinds(cells, &names);
    let tasks: Vec<&[Cell]> = tasks(cells).collect();
    let mut text = String::new();
    for task in &tasks {
        let shared = shared(task);
        let name = task.first().and_then(|cell| cell.task.as_deref()).filter(|_| tasks.len() > 1);
        let heading = [name.map(printable), (!shared.is_empty()).then(|| format!("all with {}", chosen(&shared)))];
        let heading = heading.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if !heading.is_empty() {
            text.push_str(&format!("{}{heading}:\n", if text.is_empty() { "" } else { "\n" }));
        }
        text.push_str(&rows(task, &kinds, &shared));
        text.push_str(&scaling(task));
    }
    let notes = format!("{}{}", outliers(cells, &names), warnings(&kinds));
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

/// The cells of each task.
fn tasks(cells: &[Cell]) -> impl Iterator<Item = &[Cell]> {
    cells.chunk_by(|a, b| a.task == b.task)
}

/// The name of each cell in notes: its case, and the choices in which cells differ.
fn names(cells: &[Cell]) -> Vec<String> {
    let of_task = |task: &[Cell]| {
        let shared = shared(task);
        task.iter().map(|cell| name(cell, &own(cell, &shared))).collect::<Vec<_>>()
    };
    tasks(cells).flat_map(of_task).collect()
}

fn name(cell: &Cell, own: &str) -> String {
    if own.is_empty() {
        return case(cell);
    }
    // The command of a cell without a case has placeholders only for what differs between cells.
    if cell.case.is_some() { format!("{}, {own}", case(cell)) } else { own.to_owned() }
}

/// What distinguishes a cell from others of its task: its parameters and its limit.
fn choices(cell: &Cell) -> BTreeMap<String, String> {
    let limit = cell.limit_bytes.map(|limit| ("--limit".to_owned(), limit.to_string()));
    cell.parameters.clone().into_iter().chain(limit).collect()
}

/// The choices that all of these cells share.
fn shared(cells: &[Cell]) -> BTreeMap<String, String> {
    if cells.len() < 2 {
        return BTreeMap::new();
    }
    let mut cells = cells.iter().map(choices);
    let mut shared = cells.next().unwrap_or_default();
    cells.for_each(|choices| shared.retain(|name, value| choices.get(name) == Some(value)));
    shared
}

/// The choices of a cell that not all cells share.
fn own(cell: &Cell, shared: &BTreeMap<String, String>) -> String {
    chosen(&choices(cell).into_iter().filter(|(name, _)| !shared.contains_key(name)).collect())
}

fn chosen(parameters: &BTreeMap<String, String>) -> String {
    let chosen = parameters.iter().map(|(name, value)| format!("{name}={}", printable(value)));
    chosen.collect::<Vec<_>>().join(" ")
}

fn rows(cells: &[Cell], kinds: &[Kind<'_>], shared: &BTreeMap<String, String>) -> String {
    let parameters = cells.iter().any(|cell| !own(cell, shared).is_empty());
    let mut header = vec!["case"];
    if parameters {
        header.push("parameters");
    }
    let floors = cells.iter().any(|cell| cell.floor_bytes.is_some());
    header.extend([">input", ">runs", ">peak", ">MAD", ">max"]);
    if floors {
        header.push(">floor");
    }
    header.push(">time");
    let noted = cells.iter().any(|cell| !notes(cell, kinds).is_empty());
    if noted {
        header.push("notes");
    }
    let row = |cell: &Cell| {
        let mut row = vec![case(cell)];
        if parameters {
            row.push(own(cell, shared));
        }
        let peak = cell.peak_bytes;
        let lower_bound = cell.warnings.iter().any(|warning| matches!(warning, Warning::LowerBound { .. }));
        let at_least = if lower_bound { "≥ " } else { "" };
        let bytes = |number: Option<f64>| match (number.map(|number| Bytes(number as u64)), cell.peak_error_bound_bytes)
        {
            (None, _) => "-".to_owned(),
            (Some(bytes), Some(noise)) if bytes <= noise && !lower_bound => format!("<{noise}"),
            (Some(bytes), _) => format!("{at_least}{bytes}"),
        };
        // The spread of amounts that were not measured says nothing.
        let spread = peak.filter(|_| !is_below_resolution(cell)).and_then(|peak| peak.relative());
        let good = cell.runs - cell.failed;
        row.extend([
            cell.input_bytes.map_or("-".to_owned(), |size| size.to_string()),
            if cell.failed == 0 { good.to_string() } else { format!("{good}/{}", cell.runs) },
            bytes(peak.map(|peak| peak.median)),
            spread.map_or("-".to_owned(), |spread| format!("{:.1}%", spread * 100.0)),
            bytes(peak.map(|peak| peak.most)),
        ]);
        if floors {
            row.push(cell.floor_bytes.map_or("-".to_owned(), |floor| floor.to_string()));
        }
        row.push(cell.wall_seconds.map_or("-".to_owned(), |wall| duration((wall.median * 1e6) as u64)));
        if noted {
            row.push(notes(cell, kinds));
        }
        row
    };
    table(&header, cells.iter().map(row).collect())
}

/// What more CPUs bring, for cells that differ in them.
fn scaling(cells: &[Cell]) -> String {
    let others = |cell: &Cell| {
        let others = cell.parameters.iter().filter(|(name, _)| *name != CPUS);
        chosen(&others.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    let rows = cells.iter().filter_map(|cell| {
        let scaling = cell.scaling?;
        let is_disturbed = cell.warnings.iter().any(|warning| matches!(warning, Warning::TimesDisturbed { .. }));
        let about = if is_disturbed { "~" } else { "" };
        Some(vec![
            case(cell),
            others(cell),
            scaling.cpus.to_string(),
            cell.wall_seconds.map_or("-".to_owned(), |wall| duration((wall.median * 1e6) as u64)),
            format!("{about}{:.2}", scaling.speed_up),
            format!("{about}{:.0}%", scaling.efficiency * 100.0),
            match scaling.peak_per_cpu_bytes {
                // A part of an amount that was not measured.
                Some(_) if is_below_resolution(cell) => "-".to_owned(),
                Some(peak) => peak.to_string(),
                None => "-".to_owned(),
            },
        ])
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let mut header = vec!["case", "parameters", ">CPUs", ">time", ">speed-up", ">efficiency", ">peak/CPU"];
    if rows.iter().all(|row| row.get(1).is_some_and(String::is_empty)) {
        header.remove(1);
        rows.iter_mut().for_each(|row| drop(row.remove(1)));
    }
    format!("\n{}", table(&header, rows))
}

/// Whether the middle peak is within the error bound.
fn is_below_resolution(cell: &Cell) -> bool {
    let is_lower_bound = cell.warnings.iter().any(|warning| matches!(warning, Warning::LowerBound { .. }));
    let peak = cell.peak_bytes.map(|peak| Bytes(peak.median as u64));
    !is_lower_bound && peak.zip(cell.peak_error_bound_bytes).is_some_and(|(peak, bound)| peak <= bound)
}

/// The name of a cell: its case or, without one, its command.
fn case(cell: &Cell) -> String {
    let name = cell.case.clone().unwrap_or_else(|| match &cell.task {
        Some(task) if cell.command.first() != Some(task) => task.clone(),
        Some(_) | None if cell.command.is_empty() => "-".to_owned(),
        Some(_) | None => shortened(&cell.command.join(" ")),
    });
    if cell.synthetic { format!("{name} (synthetic)") } else { name }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST_COMMAND {
        return text.to_owned();
    }
    text.chars().take(LONGEST_COMMAND - 1).chain(['…']).collect()
}

/// A kind of warning: the first of its kind, the cell it concerns, and the number of cells that have one.
struct Kind<'a> {
    warning: &'a Warning,
    cell: &'a str,
    cells: usize,
}

fn kinds<'a>(cells: &'a [Cell], names: &'a [String]) -> Vec<Kind<'a>> {
    let mut kinds: Vec<Kind<'_>> = Vec::new();
    let of_cell = |(cell, name): (&'a Cell, &'a String)| cell.warnings.iter().map(move |warning| (name, warning));
    for (cell, warning) in cells.iter().zip(names).flat_map(of_cell) {
        match kinds.iter_mut().find(|known| known.warning.word() == warning.word()) {
            Some(known) => known.cells += 1,
            None => kinds.push(Kind { warning, cell, cells: 1 }),
        }
    }
    kinds
}

/// The numbers of the cell's warnings below the table; a star marks an outlier.
fn notes(cell: &Cell, kinds: &[Kind<'_>]) -> String {
    let number = |warning: &Warning| kinds.iter().position(|known| known.warning.word() == warning.word());
    let mut numbers: Vec<usize> = cell.warnings.iter().filter_map(number).collect();
    numbers.sort_unstable();
    let numbers = numbers.iter().map(|number| (number + 1).to_string());
    numbers.chain((!cell.outliers.is_empty()).then(|| "*".to_owned())).collect::<Vec<_>>().join(" ")
}

fn outliers(cells: &[Cell], names: &[String]) -> String {
    let mut notes = String::new();
    let all: Vec<_> = cells
        .iter()
        .zip(names)
        .flat_map(|(cell, name)| cell.outliers.iter().map(move |outlier| (name, outlier)))
        .collect();
    for (cell, outlier) in all.iter().take(MOST_OUTLIERS) {
        let what = match outlier.what {
            OutlierKind::Peak => "peaked at",
            OutlierKind::Time => "took",
        };
        let (run, ratio) = (outlier.run, outlier.ratio);
        paragraph(
            &mut notes,
            "*",
            &format!("{cell}: run {run} {what} {ratio:.2} times the median: {}", outlier.reason.words()),
        );
    }
    if all.len() > MOST_OUTLIERS {
        paragraph(&mut notes, "*", &format!("{} more (see --format json)", all.len() - MOST_OUTLIERS));
    }
    notes
}

fn warnings(kinds: &[Kind<'_>]) -> String {
    let mut notes = String::new();
    for (number, Kind { warning, cell, cells }) in kinds.iter().enumerate() {
        let more = match cells - 1 {
            0 => String::new(),
            1 => " (and 1 more cell)".to_owned(),
            several => format!(" (and {several} more cells)"),
        };
        let text = format!("{cell}: {warning}{more}; try: {}", warning.remedy());
        paragraph(&mut notes, &(number + 1).to_string(), &text);
    }
    notes
}

/// Appends a name and a value, which wraps below itself.
fn paragraph(text: &mut String, name: &str, value: &str) {
    let width = output::width_of_stdout().map_or(80, usize::from);
    wrapped(text, &format!("{name:<3} "), &printable(value), width);
}

/// `45 runs in 15 cells`.
pub(crate) fn counted(runs: usize, cells: usize) -> String {
    format!("{runs} run{} in {cells} cell{}", plural(runs), plural(cells))
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
