//! Reads a table back into observations.

use std::collections::HashMap;
use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder, Trim};
use serde_json::{Map, Value, json};

use super::columns::Column;
use super::{columns, inputs, parameters};
use crate::model::byte_order_mark;
use crate::model::escape::csv_text;
use crate::model::observation::{Exactness, Observation, PeakSource, SCHEMA_VERSION};
use crate::model::problem::{Flawed, Problem};
use crate::model::quotes::unclosed;
use crate::store::import::LeftOut;

/// The most problems reported one by one.
const MOST_PROBLEMS: usize = 10;

/// Reads a table written by [`super::write`], or one with some of its columns: at least `peak_bytes` and
/// `wall_seconds`. Missing columns are filled in from `blank`, an observation with nothing measured; errors call the
/// table `name`. A row without a peak or a time is not a measured run and is skipped: an unread number is never 0. A
/// row with parameters but no cell gets a cell named by its task, inputs and parameters.
///
/// # Errors
/// Columns are missing, or values are invalid: the first ten problems, with their positions.
pub fn parse(name: &str, text: &str, blank: &Observation) -> Result<(Vec<Observation>, Vec<LeftOut>), Flawed> {
    let mut rows = Rows::new(text);
    let blank = serde_json::to_value(blank).unwrap_or_default();
    let read = read(&mut rows, &blank);
    rows.finish(name, read)
}

fn read(rows: &mut Rows<'_>, blank: &Value) -> (Vec<Observation>, Vec<LeftOut>) {
    rows.require(&["peak_bytes", "wall_seconds"]);
    let known: Vec<KnownColumn> = rows.header.iter().map(|name| KnownColumn::named(&csv_text(name))).collect();
    let (mut observations, mut left_out) = (Vec::new(), Vec::new());
    let mut runs = HashMap::new();
    while let Some(row) = rows.next() {
        let needed = [("peak_bytes", "no peak"), ("wall_seconds", "no time")];
        if let Some((_, reason)) = needed.iter().find(|(name, _)| rows.value(&row, name).is_none()) {
            left_out.push(LeftOut { line: rows.line_of(&row), reason: (*reason).to_owned() });
        } else if let Some(object) = built(rows, &row, &known) {
            match serde_json::from_value(placed(filled(object, blank), &mut runs)) {
                Ok(observation) => observations.push(observation),
                Err(error) => rows.reject_row(&row, &error.to_string()),
            }
        }
    }
    (observations, left_out)
}

/// The name of a file that has a size but no name.
pub(super) const UNNAMED: &str = "?";

/// The meaning of a column.
enum KnownColumn {
    Fixed(&'static Column),
    Input(inputs::Column),
    Parameter(String),
    /// An unknown column.
    Other,
}

impl KnownColumn {
    fn named(name: &str) -> Self {
        if let Some(column) = columns().iter().find(|column| column.name == name) {
            return Self::Fixed(column);
        }
        if let Some(parameter) = parameters::named(name) {
            return Self::Parameter(parameter.to_owned());
        }
        inputs::Column::named(name).map_or(Self::Other, Self::Input)
    }
}

/// The observation of a row, as far as its columns go; `None` if a cell was rejected.
fn built(rows: &mut Rows<'_>, row: &ByteRecord, known: &[KnownColumn]) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    let mut sizes = inputs::Row::default();
    let mut good = true;
    for (place, column) in known.iter().enumerate() {
        let cell = rows.cell(row, place);
        let put = match column {
            KnownColumn::Fixed(column) => column.put(cell, &mut object),
            KnownColumn::Input(column) => sizes.put(column, cell),
            KnownColumn::Parameter(name) => {
                parameters::put(name, cell, &mut object);
                Ok(())
            }
            KnownColumn::Other => Ok(()),
        };
        if let Err(expected) = put {
            rows.reject(row, place, &expected);
            good = false;
        }
    }
    let newest = u64::from(SCHEMA_VERSION);
    if let Some(place) = rows.column("schema_version")
        && object.get("schema_version").and_then(Value::as_u64).is_some_and(|version| version > newest)
    {
        rows.reject(row, place, &format!("at most {newest}; a newer highwater wrote this record"));
        good = false;
    }
    let sizes = sizes.finish();
    if !sizes.is_empty() {
        object.insert("inputs".to_owned(), serde_json::to_value(sizes).unwrap_or_default());
    } else if let Some(sum) = rows.value(row, "input_bytes").and_then(|cell| cell.parse::<u64>().ok()) {
        // A size without channels is taken for one file of unknown name.
        let file = json!({"path": UNNAMED, "bytes": sum});
        let all = json!({"files": 1, "sum": sum, "largest_file": file, "items": 0, "largest_item": null});
        object.insert("inputs".to_owned(), json!([{"channel": "input", "all": all}]));
    }
    good.then_some(object)
}

/// Fills in the values of missing columns.
fn filled(mut object: Map<String, Value>, blank: &Value) -> Value {
    let unread = json!({
        "breakdown": {"at_us": 0, "anon": "unsupported", "file": "unsupported", "shmem": "unsupported",
            "kernel": "unsupported", "swap": "unsupported"},
        "events": {"limit_hits": "unsupported", "ooms": "unsupported", "oom_kills": "unsupported"},
        "peak": {"source": PeakSource::Imported, "exactness": Exactness::LowerBound {
            reason: "the imported table does not say how it was measured".to_owned(),
            remedy: "measure the task with highwater".to_owned(),
        }},
        "sweep": {"case": ""},
    });
    for whole in [&unread, blank] {
        for (name, value) in whole.as_object().into_iter().flatten() {
            match (object.get_mut(name), value) {
                (Some(Value::Object(parts)), Value::Object(missing)) if name != "outcome" => {
                    for (name, value) in missing {
                        parts.entry(name).or_insert_with(|| value.clone());
                    }
                }
                (Some(_), _) => {}
                (None, value) if std::ptr::eq(whole, blank) => {
                    object.insert(name.clone(), value.clone());
                }
                (None, _) => {}
            }
        }
    }
    Value::Object(object)
}

/// Gives a row with parameters a missing cell and run number, counted from 1 in each cell. A row without parameters
/// does not become part of a sweep.
fn placed(mut observation: Value, runs: &mut HashMap<String, u32>) -> Value {
    let named = parameters::cell(&observation);
    let Some(Value::Object(sweep)) = observation.get_mut("sweep") else { return observation };
    if sweep.contains_key("cell") && sweep.contains_key("run") {
        return observation;
    }
    let Some(named) = named else {
        observation.as_object_mut().and_then(|whole| whole.remove("sweep"));
        return observation;
    };
    let cell = sweep.entry("cell").or_insert_with(|| named.into());
    let run = runs.entry(cell.as_str().unwrap_or_default().to_owned()).or_default();
    *run += 1;
    sweep.entry("run").or_insert_with(|| (*run).into());
    observation
}

/// The rows of a table after its header, and its problems. Cells are separated by commas or tabs, as in the header.
pub(in crate::store) struct Rows<'a> {
    text: &'a str,
    delimiter: u8,
    reader: csv::Reader<&'a [u8]>,
    pub(in crate::store) header: Vec<String>,
    problems: Vec<Problem>,
}

impl<'a> Rows<'a> {
    pub(in crate::store) fn new(text: &'a str) -> Self {
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
        for (place, name) in self.header.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if self.header[..place].contains(name) {
                let problem = Problem::error("repeated-column", format!("two columns are called `{name}`"));
                let problem = problem.at(self.place(names, place)).label("repeated here");
                self.problems.push(problem.help("remove or rename one of them"));
            }
        }
    }

    /// Rejects the table if a column is missing.
    pub(in crate::store) fn require(&mut self, names: &[&str]) {
        let missing: Vec<String> =
            names.iter().filter(|name| self.column(name).is_none()).map(|name| format!("no column `{name}`")).collect();
        if !missing.is_empty() {
            self.reject_header(&missing.join(" and "), "the first line must name the columns; check their spelling");
        }
    }

    /// Rejects the header.
    pub(in crate::store) fn reject_header(&mut self, message: &str, help: &str) {
        let line = self.text.lines().next().unwrap_or("");
        let found = self.header.iter().filter(|name| !name.is_empty()).map(|name| format!("`{name}`"));
        let found = found.collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "an empty line".to_owned() } else { found };
        self.problems.push(
            Problem::error("missing-column", message.to_owned())
                .at(0..line.len())
                .label(format!("found {found}"))
                .help(help),
        );
    }

    pub(in crate::store) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|known| known == name)
    }

    /// The next row with as many cells as the header.
    pub(in crate::store) fn next(&mut self) -> Option<ByteRecord> {
        let mut row = ByteRecord::new();
        while self.problems.len() < MOST_PROBLEMS && matches!(self.reader.read_byte_record(&mut row), Ok(true)) {
            if row.len() == self.header.len() {
                return Some(row);
            }
            let message = format!("found {} values, expected {}, one per column", row.len(), self.header.len());
            let span = self.line(&row);
            self.problems.push(Problem::error("wrong-length", message).at(span));
        }
        None
    }

    /// The content of a cell.
    pub(in crate::store) fn cell<'row>(&self, row: &'row ByteRecord, column: usize) -> &'row str {
        row.get(column).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    pub(in crate::store) fn value<'row>(&self, row: &'row ByteRecord, name: &str) -> Option<&'row str> {
        self.column(name).map(|column| self.cell(row, column).trim()).filter(|cell| !cell.is_empty())
    }

    /// The line of a row, counted from 1.
    pub(in crate::store) fn line_of(&self, row: &ByteRecord) -> usize {
        self.text[..self.line(row).start].matches('\n').count() + 1
    }

    /// Rejects a cell.
    pub(in crate::store) fn reject(&mut self, row: &ByteRecord, column: usize, expected: &str) {
        let cell = self.cell(row, column);
        let found = if cell.is_empty() { "an empty cell".to_owned() } else { format!("`{cell}`") };
        let name = self.header.get(column).cloned().unwrap_or_default();
        let span = self.place(row, column);
        self.problems.push(
            Problem::error("bad-value", format!("invalid value for `{name}`: {found}"))
                .at(span)
                .label(format!("expected {expected}")),
        );
    }

    fn reject_row(&mut self, row: &ByteRecord, message: &str) {
        let span = self.line(row);
        self.problems.push(Problem::error("bad-row", format!("the row is not an observation: {message}")).at(span));
    }

    /// The result, unless there were problems.
    pub(in crate::store) fn finish<T>(mut self, name: &str, read: T) -> Result<T, Flawed> {
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

    /// The bytes of a cell.
    fn place(&self, row: &ByteRecord, column: usize) -> Range<usize> {
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
