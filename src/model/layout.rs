//! Lays out text for terminals by the width that it takes there.

use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Wraps text between its words, but not inside an amount: the first line after `first`, the others after `rest`, no
/// longer than `width` columns unless a word is. Every line ends with a line break.
pub fn wrapped(text: &str, first: &str, rest: &str, width: usize) -> String {
    if text.is_empty() {
        return format!("{}\n", first.trim_end());
    }
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    let lines = textwrap::wrap(&joined(text), options).join("\n").replace('\u{a0}', " ");
    lines.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Lays out cells below a header, without lines: columns in `right` are aligned to the right, with `gap` blanks between
/// columns.
///
/// Cells wrap between their words, but not inside an amount. Columns that do not fit `width` follow in a table below,
/// after the first column. Words longer than half the width are broken if they do not fit.
pub fn table(header: &[&str], rows: &[Vec<String>], right: &[usize], gap: usize, width: usize) -> String {
    let header = header.iter().map(|name| joined(name)).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| joined(cell)).collect());
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let most = |column: usize, of: &dyn Fn(&str) -> usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| of(cell)).max().unwrap_or(0)
    };
    let longest_word = |cell: &str| cell.split(' ').map(columns).max().unwrap_or(0);
    let count = rows.first().map_or(0, Vec::len);
    if count == 0 {
        return String::new();
    }
    let half = width.saturating_sub(gap) / 2;
    let widest: Vec<usize> = (0..count).map(|column| most(column, &columns)).collect();
    let narrowest: Vec<usize> = (0..count).map(|column| most(column, &longest_word).min(half)).collect();
    let taken = |part: &[usize], widths: &[usize]| {
        part.iter().filter_map(|column| widths.get(*column)).sum::<usize>() + gap * part.len().saturating_sub(1)
    };
    let mut parts = vec![vec![0]];
    for column in 1..count {
        match parts.last_mut() {
            Some(part) if part.len() == 1 || taken(part, &narrowest) + gap + narrowest[column] <= width => {
                part.push(column);
            }
            _ => parts.push(vec![0, column]),
        }
    }
    let lay_out = |part: Vec<usize>| {
        let mut widths = widest.clone();
        // Take the room from the widest columns.
        while taken(&part, &widths) > width {
            let shrinks = part.iter().copied().filter(|column| widths[*column] > narrowest[*column]);
            let Some(column) = shrinks.max_by_key(|column| widths[*column]) else { break };
            widths[column] -= 1;
        }
        rows.iter().map(|row| line_up(row, &part, &widths, right, gap)).collect::<String>()
    };
    parts.into_iter().map(lay_out).collect::<Vec<_>>().join("\n").replace('\u{a0}', " ")
}

/// The lines of a row of a table.
fn line_up(row: &[String], part: &[usize], widths: &[usize], right: &[usize], gap: usize) -> String {
    let cells = part.iter().map(|column| {
        let cell = row.get(*column).map_or("", String::as_str);
        if columns(cell) <= widths[*column] {
            return vec![cell.to_owned()];
        }
        let options = Options::new(widths[*column].max(1))
            .word_separator(WordSeparator::AsciiSpace)
            .word_splitter(WordSplitter::NoHyphenation)
            .wrap_algorithm(WrapAlgorithm::FirstFit);
        textwrap::wrap(cell, options).into_iter().map(Into::into).collect()
    });
    let cells: Vec<Vec<String>> = cells.collect();
    let mut text = String::new();
    for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
        let mut of_line = String::new();
        for (column, cell) in part.iter().zip(&cells) {
            let cell = cell.get(line).map_or("", String::as_str);
            let blank = " ".repeat(widths[*column].saturating_sub(columns(cell)));
            let space = " ".repeat(if of_line.is_empty() && *column == part[0] { 0 } else { gap });
            of_line.push_str(&space);
            of_line.extend(if right.contains(column) { [&blank, cell] } else { [cell, &blank] });
        }
        text.push_str(of_line.trim_end());
        text.push('\n');
    }
    text
}

const UNITS: [&str; 14] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "×", "%", "µs", "ms", "s", "min", "h"];

/// The text with non-breaking spaces before units.
pub fn unbroken(text: &str) -> String {
    bound(text, |before, name| before.ends_with(|char: char| char.is_ascii_digit()) && UNITS.contains(&name))
}

/// The text of a cell with non-breaking spaces in amounts, such as `≥ 1 min 30 s`.
fn joined(text: &str) -> String {
    bound(text, |before, name| {
        let is_number = |word: &str| word.starts_with(|char: char| char.is_ascii_digit());
        match before {
            "≥" | "≤" | "±" | "min" | "h" => is_number(name),
            _ => {
                before.ends_with(|char: char| char.is_ascii_digit())
                    && (UNITS.contains(&name) || ["GBh", "cores"].contains(&name))
            }
        }
    })
}

/// Puts a non-breaking space between two words if `are_bound` holds for the first and for the second without punctuation.
fn bound(text: &str, are_bound: impl Fn(&str, &str) -> bool) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut before = "";
    for (place, word) in text.split(' ').enumerate() {
        // The unit in `0.2 s·(n/MiB)`.
        let name = word.split('·').next().unwrap_or_default().trim_end_matches([',', ';', ':', '.', ')']);
        if place > 0 {
            whole.push(if are_bound(before, name) { '\u{a0}' } else { ' ' });
        }
        whole.push_str(word);
        before = word;
    }
    whole
}

/// The number of columns that a line takes.
pub fn columns(line: &str) -> usize {
    display_width(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_broken_at_the_width_below_each_other() {
        let text = "not reachable: a-name-that-is-too-long no such file";
        assert_eq!(
            wrapped(text, "engines  ", "         ", 24),
            "engines  not reachable:\n         a-name-that-is-too-long\n         no such file\n"
        );
        assert_eq!(wrapped("", "engines  ", "", 24), "engines\n");
        assert_eq!(wrapped("a peak of (100 MiB)", "", "", 15), "a peak of\n(100 MiB)\n");
    }

    #[test]
    fn units_stay_with_their_numbers() {
        assert_eq!(unbroken("max(16 MiB, 4*n) is 1.2 × of 3 runs"), "max(16\u{a0}MiB, 4*n) is 1.2\u{a0}× of 3 runs");
    }

    #[test]
    fn amounts_stay_whole_and_columns_that_do_not_fit_follow_below() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a case of two", "128 MiB", "1 min 30 s", "≥ 3.5 GiB"]), row(["b", "1 B", "2.5 s", "-"])];
        let table = |width| table(&["case", "n", "time", "peak"], &rows, &[1, 2, 3], 2, width);
        assert_eq!(
            table(80),
            "case                 n        time       peak\n\
             a case of two  128 MiB  1 min 30 s  ≥ 3.5 GiB\n\
             b                  1 B       2.5 s          -\n"
        );
        assert_eq!(
            table(40),
            "case            n        time       peak\n\
             a case    128 MiB  1 min 30 s  ≥ 3.5 GiB\n\
             of two\n\
             b             1 B       2.5 s          -\n"
        );
        let narrow = table(26);
        assert!(narrow.lines().all(|line| columns(line) <= 26), "{narrow}");
        assert_eq!(narrow.matches("case").count(), 4, "the first column again: {narrow}");
        assert!(["128 MiB", "1 min 30 s", "≥ 3.5 GiB"].iter().all(|amount| narrow.contains(amount)), "{narrow}");
    }

    #[test]
    fn a_word_that_is_too_long_is_broken_in_its_cell() {
        let rows = [vec!["/a/long/path/to/a/file".to_owned(), "1 MiB".to_owned()]];
        assert_eq!(
            table(&["file", "bytes"], &rows, &[1], 2, 20),
            "file           bytes\n/a/long/path/  1 MiB\nto/a/file\n"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!((columns("é"), columns("肺")), (1, 2));
        assert_eq!(wrapped("肺肺肺 肺肺 a", "", "", 10), "肺肺肺\n肺肺 a\n");
    }
}
