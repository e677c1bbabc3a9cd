//! Reads tables of delimited values, with the position of every problem.

use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder, Trim};

use super::byte_order_mark;
use super::problem::{Flawed, Problem};

/// The most problems reported one by one.
const MOST_PROBLEMS: usize = 10;

/// Whether the text is a JSON object or array instead of a table.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// The rows of a table after its header, and its problems. Cells are separated by commas or tabs, as in the header.
pub(crate) struct Rows<'a> {
    text: &'a str,
    delimiter: u8,
    reader: csv::Reader<&'a [u8]>,
    pub(crate) header: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let text = byte_order_mark::strip(text);
        let first = text.trim_start_matches(['\r', '\n']).lines().next().unwrap_or("");
        let delimiter = if first.contains('\t') { b'\t' } else { b',' };
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .quoting(true)
            .trim(Trim::Headers)
            .flexible(true)
            .from_reader(text.as_bytes());
        let names = reader.byte_headers().cloned().unwrap_or_default();
        let header = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        let mut rows = Self { text, delimiter, reader, header, problems: Vec::new() };
        rows.reject_repeated(&names);
        rows
    }

    /// Rejects a repeated column name, because it is ambiguous.
    fn reject_repeated(&mut self, names: &ByteRecord) {
        if is_json(self.text) {
            return;
        }
        for (place, name) in self.header.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if self.header[..place].contains(name) {
                let problem = Problem::error("repeated-column", format!("duplicate column `{name}`"));
                let problem = problem.at(self.place(names, place)).label("repeated here");
                self.problems.push(problem.help("remove or rename one of them"));
            }
        }
    }

    /// Rejects the table if a column is missing.
    pub(crate) fn require(&mut self, names: &[&str]) {
        let missing: Vec<String> =
            names.iter().filter(|name| self.column(name).is_none()).map(|name| format!("no column `{name}`")).collect();
        if !missing.is_empty() {
            self.reject_header(&missing.join(" and "), "the first line must name the columns; check their spelling");
        }
    }

    /// Rejects the header.
    pub(crate) fn reject_header(&mut self, message: &str, help: &str) {
        let line = self.text.lines().next().unwrap_or("");
        let found = self.header.iter().filter(|name| !name.is_empty()).map(|name| format!("`{name}`"));
        let found = match found.collect::<Vec<_>>().join(", ") {
            // Its values are no names of columns.
            _ if is_json(line) => "JSON instead of a table".to_owned(),
            names if names.is_empty() => "an empty line".to_owned(),
            names => names,
        };
        self.problems.push(
            Problem::error("missing-column", message.to_owned())
                .at(0..line.len())
                .label(format!("found {found}"))
                .help(help),
        );
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|known| known == name)
    }

    /// The next row with as many cells as the header.
    pub(crate) fn next(&mut self) -> Option<ByteRecord> {
        let mut row = ByteRecord::new();
        while self.problems.len() < MOST_PROBLEMS && matches!(self.reader.read_byte_record(&mut row), Ok(true)) {
            if row.len() == self.header.len() {
                return Some(row);
            }
            let (found, expected) = (row.len(), self.header.len());
            let found = if found == 1 { "1 value".to_owned() } else { format!("{found} values") };
            let problem = Problem::error("wrong-length", format!("found {found} in a table with {expected} columns"));
            self.problems.push(problem.at(self.line(&row)).label(format!("expected {expected} values")));
        }
        None
    }

    /// The content of a cell.
    pub(crate) fn cell<'row>(&self, row: &'row ByteRecord, column: usize) -> &'row str {
        row.get(column).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    pub(crate) fn value<'row>(&self, row: &'row ByteRecord, name: &str) -> Option<&'row str> {
        self.column(name).map(|column| self.cell(row, column).trim()).filter(|cell| !cell.is_empty())
    }

    /// The line of a row, counted from 1.
    pub(crate) fn line_of(&self, row: &ByteRecord) -> usize {
        let (byte, line) =
            row.position().map_or((0, 1), |position| (position.byte() as usize, position.line() as usize));
        line + self.text[byte..self.line(row).start].matches('\n').count()
    }

    /// The value of a cell, without the blanks around it; a cell that is not `expected` is rejected.
    pub(crate) fn parsed<T>(
        &mut self,
        row: &ByteRecord,
        column: usize,
        parse: impl Fn(&str) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let value = parse(self.cell(row, column).trim());
        if value.is_none() {
            self.reject(row, column, expected);
        }
        value
    }

    /// Rejects a cell.
    pub(crate) fn reject(&mut self, row: &ByteRecord, column: usize, expected: &str) {
        let cell = self.cell(row, column).trim();
        let found = if cell.is_empty() { "an empty cell".to_owned() } else { format!("`{cell}`") };
        let name = self.header.get(column).cloned().unwrap_or_default();
        let span = self.place(row, column);
        self.problems.push(
            Problem::error("bad-value", format!("invalid value for `{name}`: {found}"))
                .at(span)
                .label(format!("expected {expected}")),
        );
    }

    /// Rejects a row.
    pub(crate) fn reject_row(&mut self, row: &ByteRecord, message: &str) {
        let span = self.line(row);
        self.problems.push(Problem::error("bad-row", format!("the row is not an observation: {message}")).at(span));
    }

    /// The result, unless there were problems.
    pub(crate) fn finish<T>(mut self, name: &str, read: T) -> Result<T, Flawed> {
        if let Some(problem) = unclosed(self.text, self.delimiter) {
            // The other problems may be caused by this one.
            self.problems = vec![problem];
        }
        if self.problems.is_empty() {
            return Ok(read);
        }
        Err(Flawed { name: name.to_owned(), text: self.text.to_owned(), problems: self.problems })
    }

    /// The bytes of the first line of a row.
    fn line(&self, row: &ByteRecord) -> Range<usize> {
        let start = row.position().map_or(0, |position| position.byte() as usize).min(self.text.len());
        // The position may be that of line breaks before the row.
        let start = start + self.text[start..].len() - self.text[start..].trim_start_matches(['\r', '\n']).len();
        let length = self.text[start..].find(['\r', '\n']).unwrap_or(self.text.len() - start);
        start..start + length
    }

    /// The bytes of a cell, without the blanks around it.
    fn place(&self, row: &ByteRecord, column: usize) -> Range<usize> {
        let cell = self.whole_place(row, column);
        let text = &self.text[cell.clone()];
        let start = cell.start + text.len() - text.trim_start().len();
        start..start + text.trim().len()
    }

    fn whole_place(&self, row: &ByteRecord, column: usize) -> Range<usize> {
        let start = self.line(row).start;
        let mut quoted = false;
        let mut place = 0;
        let mut from = start;
        for (offset, byte) in self.text.as_bytes()[start..].iter().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' | b'\r' if !quoted => return from..(start + offset).max(from),
                byte if *byte == self.delimiter && !quoted => {
                    if place == column {
                        return from..start + offset;
                    }
                    place += 1;
                    from = start + offset + 1;
                }
                _ => {}
            }
        }
        from..self.text.len()
    }
}

/// The state of reading a value.
enum QuoteState {
    Begin,
    Plain,
    /// After a quote that opened here.
    Quoted(usize),
    /// After a second quote: it closes, or is the first of two that stand for one.
    Closed(usize),
}

/// Reports a quote that is never closed, because it swallows all further rows. A quote is only special at the start of
/// a field.
fn unclosed(text: &str, delimiter: u8) -> Option<Problem> {
    let mut state = QuoteState::Begin;
    for (offset, byte) in text.bytes().enumerate() {
        state = match (state, byte) {
            (QuoteState::Quoted(opened), b'"') => QuoteState::Closed(opened),
            (QuoteState::Quoted(opened), _) | (QuoteState::Closed(opened), b'"') => QuoteState::Quoted(opened),
            (QuoteState::Begin, b'"') => QuoteState::Quoted(offset),
            (_, b'\r' | b'\n') => QuoteState::Begin,
            (_, byte) if byte == delimiter => QuoteState::Begin,
            (QuoteState::Begin | QuoteState::Plain | QuoteState::Closed(_), _) => QuoteState::Plain,
        };
    }
    let QuoteState::Quoted(opened) = state else { return None };
    let problem = Problem::error("unclosed-quote", "unclosed quote").at(opened..opened + 1).label("opened here");
    Some(problem.help("close the quote; write a quote inside quotes twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quotes_that_open_a_value_are_to_be_closed() {
        let place = |text| unclosed(text, b',').and_then(|problem| problem.span).map(|span| span.start);
        assert_eq!(["", "a\"b,c\n", "\"a\n\"\"b\",c\n", "\"a\"b\",c\n"].map(place), [None; 4]);
        assert_eq!(["\"", "a,\"b\n1,2\n", "a\n\"\"\"b"].map(place), [Some(0), Some(2), Some(2)]);
    }
}
