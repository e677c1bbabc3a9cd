//! The cases of a task as rows of text, for a terminal and for Markdown.

use super::column::Units;
use super::describe::case;
use super::model::{Cell, Change, TaskReport};
use super::words::{self, UNKNOWN, at_least};

/// A table; its first column is text, and the others are numbers.
pub(super) struct Rows {
    /// The name and the unit of each column; a count has no unit.
    pub(super) columns: Vec<(&'static str, &'static str)>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The cases, or their changes since an earlier sweep: at most this many.
pub(super) fn rows(task: &TaskReport, most: usize) -> Rows {
    let mut table = match &task.before {
        Some(before) => changes(task, before.changes.iter().take(most)),
        None => cases(task, task.cells.iter().take(most)),
    };
    table.drop_unknown();
    table
}

impl Rows {
    /// Drops columns of which nothing is known.
    fn drop_unknown(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        for column in (0..self.columns.len()).rev() {
            if self.rows.iter().all(|row| row.get(column).is_some_and(|text| text == UNKNOWN)) {
                self.columns.remove(column);
                self.rows.iter_mut().for_each(|row| drop(row.remove(column)));
            }
        }
    }
}

fn cases<'a>(task: &TaskReport, cells: impl Iterator<Item = &'a Cell>) -> Rows {
    let units = Units::new(task);
    let Units { n, memory, .. } = units;
    let columns = vec![
        ("case", ""),
        (units.n_heading(), n.name),
        ("runs", ""),
        ("median peak", memory.name),
        ("highest", memory.name),
        ("spread", "%"),
        ("on a GPU", memory.name),
        ("rule in use", memory.name),
        ("fitted rule", memory.name),
        ("minimum limit", memory.name),
    ];
    let row = |cell: &Cell| {
        let spread = cell.most.zip(cell.least).and_then(|(most, least)| most.ratio(least));
        vec![
            case(&cell.case, &cell.parameters),
            n.bytes(cell.n),
            cell.runs.to_string(),
            at_least(memory.bytes(cell.median), cell.lower_bound),
            at_least(memory.bytes(cell.most), cell.lower_bound),
            spread.map_or_else(|| UNKNOWN.to_owned(), |spread| format!("{:.1}", 100.0 * (spread - 1.0))),
            at_least(memory.bytes(cell.gpu), cell.gpu_lower_bound),
            memory.bytes(cell.predicted),
            memory.bytes(cell.fitted),
            memory.bytes(cell.floor),
        ]
    };
    Rows { columns, rows: cells.map(row).collect() }
}

fn changes<'a>(task: &TaskReport, changes: impl Iterator<Item = &'a Change>) -> Rows {
    let units = Units::new(task);
    let Units { n, memory, .. } = units;
    let columns = vec![
        ("case", ""),
        (units.n_heading(), n.name),
        ("median before", memory.name),
        ("median now", memory.name),
        ("change", ""),
    ];
    let row = |change: &Change| {
        vec![
            case(&change.case, &change.parameters),
            n.bytes(change.n),
            at_least(memory.bytes(change.old_median), change.old_lower_bound),
            at_least(memory.bytes(change.new_median), change.new_lower_bound),
            words::changed(change),
        ]
    };
    Rows { columns, rows: changes.map(row).collect() }
}
