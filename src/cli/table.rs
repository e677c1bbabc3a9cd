//! Text tables.

use highwater::model::layout;

use super::terminal::width_of_stdout;

pub(crate) use highwater::model::escape::printable;

/// The width of a table if stdout is not a terminal, so that files look the same everywhere.
const WIDTH: usize = 80;
/// The most characters shown of a cell, more than a path can have: laying out a rule of a million digits takes over
/// 10 s.
const LONGEST: usize = 8192;

/// Lays out rows below a header, without lines, no wider than the terminal behind stdout. Columns whose header starts
/// with `>` are right-aligned, as for numbers.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    table_within(header, rows, width_of_stdout().map_or(WIDTH, usize::from))
}

/// The same, no wider than this.
pub(crate) fn table_within(header: &[&str], rows: Vec<Vec<String>>, width: usize) -> String {
    let right: Vec<usize> =
        header.iter().enumerate().filter_map(|(column, name)| name.starts_with('>').then_some(column)).collect();
    let header: Vec<&str> = header.iter().map(|name| name.trim_start_matches('>')).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| cell_of(cell)).collect()).collect();
    layout::table(&header, &rows, &right, 2, width)
}

/// A paragraph no wider than the terminal behind stdout.
pub(crate) fn paragraph(words: &str) -> String {
    layout::wrapped(&printable(words), "", "", width_of_stdout().map_or(100, usize::from))
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
