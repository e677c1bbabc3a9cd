//! Text tables.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use highwater::model::layout;

use super::terminal::width_of_stdout;

pub(crate) use highwater::model::escape::printable;

/// The width of a table if stdout is not a terminal, so that files look the same everywhere.
const WIDTH: u16 = 80;
/// The most characters shown of a cell, more than a path can have: laying out a rule of a million digits takes over
/// 10 s.
const LONGEST: usize = 8192;

/// Lays out rows below a header, without lines, no wider than the terminal. Columns whose header starts with `>` are
/// right-aligned, as for numbers.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width_of_stdout().unwrap_or(WIDTH))
        .set_header(header.iter().map(|name| Cell::new(name.trim_start_matches('>'))))
        .add_rows(rows.into_iter().map(|row| row.iter().map(|cell| cell_of(cell)).collect::<Vec<_>>()));
    let last = header.len().saturating_sub(1);
    for (index, (column, name)) in table.column_iter_mut().zip(header).enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The content of a cell, cut if too long.
fn cell_of(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Appends words, wrapped at `width`: the first line after `indent`, the others after as many spaces.
pub(crate) fn wrapped(text: &mut String, indent: &str, words: &str, width: usize) {
    text.push_str(&layout::wrapped(words, indent, &" ".repeat(layout::columns(indent)), width));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_no_screen_can_show_is_cut() {
        let text = table(&["Rule"], vec![vec!["9".repeat(1_000_000)]]);
        assert_eq!(text.matches('9').count(), LONGEST);
    }
}
