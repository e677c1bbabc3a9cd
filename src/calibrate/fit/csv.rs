//! Reads runs from comma-separated values.
//!
//! | column | holds |
//! | --- | --- |
//! | `input_bytes` | the size of the input |
//! | `input_bytes.NAME` | the size by another predictor, such as `input_bytes.max_file_size`; any number of them |
//! | `peak_bytes` | the most memory the run used |
//! | `wall_seconds` | how long it took; optional, may be empty |
//! | `censored` | empty or `no`; `limit` where the peak reached a limit, `oom` where the run was killed for memory, `lower-bound` where it was sampled |
//! | `workflow`, `task` | what was run: each combination is fitted separately |
//!
//! Sizes and peaks are whole or decimal numbers of bytes or quantities such as `512Mi`. Other columns are ignored.

use std::collections::BTreeMap;
use std::ops::Range;

use csv::{ByteRecord, ReaderBuilder, Trim};

use crate::model::byte_order_mark;
use crate::model::escape::csv_text;
use crate::model::fit::{Censoring, Measure, RunTable, SizedRun};
use crate::model::problem::{Flawed, Problem};
use crate::model::quotes::unclosed;
use crate::model::units::Bytes;

use super::group::Group;

/// The most problems reported one by one.
const MOST_PROBLEMS: usize = 10;
const INPUT: &str = "input_bytes";
const PEAK: &str = "peak_bytes";
const WALL: &str = "wall_seconds";
const CENSORED: &str = "censored";

/// Reads a table; `name` identifies it in errors. The groups are in the order of their first run.
///
/// # Errors
/// If columns are missing or values invalid: the first ten problems, with their locations.
pub fn parse(name: &str, text: &str) -> Result<Vec<Group>, Flawed> {
    let text = byte_order_mark::strip(text);
    let mut problems = Vec::new();
    let groups = Reading { text, problems: &mut problems }.groups();
    if let Some(problem) = unclosed(text, b',') {
        // Further problems may be consequences.
        problems = vec![problem];
    }
    if problems.is_empty() {
        return Ok(groups);
    }
    Err(Flawed { name: name.to_owned(), text: text.to_owned(), problems })
}

/// The positions of the columns.
struct Columns {
    inputs: Vec<(usize, String)>,
    peak: usize,
    wall: Option<usize>,
    censored: Option<usize>,
    workflow: Option<usize>,
    task: Option<usize>,
}

struct Reading<'a> {
    text: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    fn groups(&mut self) -> Vec<Group> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).flexible(true).from_reader(self.text.as_bytes());
        let header = reader.byte_headers().cloned().unwrap_or_default();
        let Some(columns) = self.columns(&header) else { return Vec::new() };
        let mut groups: Vec<Group> = Vec::new();
        let mut places: BTreeMap<(Option<String>, Option<String>), usize> = BTreeMap::new();
        let mut record = ByteRecord::new();
        while self.problems.len() < MOST_PROBLEMS && matches!(reader.read_byte_record(&mut record), Ok(true)) {
            let Some(run) = self.run(&record, &header, &columns) else { continue };
            let word = |column: Option<usize>| {
                column.and_then(|column| field(&record, column)).map(|cell| csv_text(cell).into_owned())
            };
            let key = (word(columns.workflow), word(columns.task));
            let place = *places.entry(key.clone()).or_insert_with(|| {
                let predictors = columns.inputs.iter().map(|(_, name)| name.clone()).collect();
                let measures = columns.inputs.iter().map(|(_, name)| Measure::of_column(name)).collect();
                let table = RunTable { predictors, runs: Vec::new() };
                groups.push(Group { workflow: key.0, task: key.1, table, measures, ..Group::default() });
                groups.len() - 1
            });
            groups[place].table.runs.push(run);
            groups[place].lines.push(record.position().map_or(0, csv::Position::line));
        }
        groups.iter_mut().for_each(Group::warn_of_lower_bounds);
        groups
    }

    fn columns(&mut self, header: &ByteRecord) -> Option<Columns> {
        let names: Vec<&str> = (0..header.len()).map(|column| field(header, column).unwrap_or("")).collect();
        for (place, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if names[..place].contains(name) {
                let problem = Problem::error("repeated-column", format!("duplicate column `{name}`"));
                let problem = problem.at(self.place(header, place)).label("repeated here");
                self.problems.push(problem.help("remove or rename one of them"));
            }
        }
        let find = |wanted: &str| names.iter().position(|name| *name == wanted);
        let inputs: Vec<(usize, String)> = names
            .iter()
            .enumerate()
            .filter(|(_, name)| **name == INPUT || name.strip_prefix(INPUT).is_some_and(|rest| rest.starts_with('.')))
            .map(|(column, name)| (column, (*name).to_owned()))
            .collect();
        let peak = find(PEAK);
        let missing: Vec<&str> = [(INPUT, inputs.is_empty()), (PEAK, peak.is_none())]
            .into_iter()
            .filter_map(|(name, missing)| missing.then_some(name))
            .collect();
        if let [first, ..] = missing.as_slice() {
            let line = 0..self.text.find('\n').unwrap_or(self.text.len()).min(200);
            let found = if names.is_empty() { "an empty line".to_owned() } else { format!("`{}`", names.join("`, `")) };
            self.problems.push(
                Problem::error("missing-column", format!("no column `{}`", missing.join("` and no column `")))
                    .at(line)
                    .label(format!("found {found}"))
                    .help(format!(
                        "name the columns in the first line: `{INPUT},{PEAK}[,{WALL}]`; check the spelling of `{first}`"
                    )),
            );
            return None;
        }
        Some(Columns {
            inputs,
            peak: peak?,
            wall: find(WALL),
            censored: find(CENSORED),
            workflow: find("workflow"),
            task: find("task"),
        })
    }

    fn run(&mut self, record: &ByteRecord, header: &ByteRecord, columns: &Columns) -> Option<SizedRun> {
        if record.len() != header.len() {
            let expected = header.len();
            let found = match record.len() {
                1 => "1 value".to_owned(),
                several => format!("{several} values"),
            };
            self.problems.push(
                Problem::error("wrong-length", format!("found {found} in a table with {expected} columns"))
                    .at(self.place(record, record.len().min(expected)))
                    .label(format!("expected {expected} values")),
            );
            return None;
        }
        let sizes: Option<Vec<Bytes>> =
            columns.inputs.iter().map(|(column, name)| self.amount(record, *column, name, false)).collect();
        let peak = self.amount(record, columns.peak, PEAK, true);
        let wall = columns.wall.map_or(Ok(None), |column| self.seconds(record, column));
        let censoring = columns.censored.map_or(Some(Censoring::None), |column| self.censoring(record, column));
        Some(SizedRun { sizes: sizes?, peak: peak?, wall_seconds: wall.ok()?, censoring: censoring? })
    }

    fn amount(&mut self, record: &ByteRecord, column: usize, name: &str, above_zero: bool) -> Option<Bytes> {
        let text = field(record, column).unwrap_or("");
        let amount = text.parse::<u64>().map(Bytes).ok().or_else(|| decimal(text)).or_else(|| text.parse().ok());
        match amount {
            Some(amount) if !above_zero || amount > Bytes::ZERO => return Some(amount),
            Some(_) => self.reject(record, column, name, "a peak above 0"),
            None => self.reject(record, column, name, "a number of bytes such as 1048576, or a quantity such as 512Mi"),
        }
        None
    }

    fn seconds(&mut self, record: &ByteRecord, column: usize) -> Result<Option<f64>, ()> {
        match field(record, column) {
            Some("") => Ok(None),
            Some(text)
                if let Ok(seconds) = text.parse::<f64>()
                    && seconds.is_finite()
                    && seconds >= 0.0 =>
            {
                Ok(Some(seconds))
            }
            Some(_) | None => {
                self.reject(record, column, WALL, "a number of seconds such as 12.5, or an empty cell");
                Err(())
            }
        }
    }

    fn censoring(&mut self, record: &ByteRecord, column: usize) -> Option<Censoring> {
        match field(record, column) {
            Some("" | "no" | "none" | "false") => Some(Censoring::None),
            Some("limit" | "limit-reached") => Some(Censoring::LimitReached),
            Some("oom" | "oom-killed") => Some(Censoring::OomKilled),
            Some("lower-bound") => Some(Censoring::LowerBound),
            Some(_) | None => {
                self.reject(record, column, CENSORED, "`limit`, `oom`, `lower-bound` or an empty cell");
                None
            }
        }
    }

    fn reject(&mut self, record: &ByteRecord, column: usize, name: &str, expected: &str) {
        let found = String::from_utf8_lossy(record.get(column).unwrap_or_default());
        let found = if found.is_empty() { "an empty cell".to_owned() } else { format!("`{found}`") };
        self.problems.push(
            Problem::error("bad-value", format!("invalid value for `{name}`: {found}"))
                .at(self.place(record, column))
                .label(format!("expected {expected}")),
        );
    }

    /// The bytes of a field; of the whole record if quotes make fields hard to find.
    fn place(&self, record: &ByteRecord, column: usize) -> Range<usize> {
        let start = record.position().map_or(0, |position| position.byte() as usize).min(self.text.len());
        // The position may be that of the line breaks before the record.
        let start = start + self.text[start..].len() - self.text[start..].trim_start_matches(['\r', '\n']).len();
        let line = &self.text[start..];
        let line = &line[..line.find(['\r', '\n']).unwrap_or(line.len())];
        if line.contains('"') {
            return start..start + line.len();
        }
        let before: usize = line.split(',').take(column).map(|field| field.len() + 1).sum();
        let raw = line.get(before..).unwrap_or("").split(',').next().unwrap_or("");
        let blank = raw.len() - raw.trim_start().len();
        let from = (start + before + blank).min(start + line.len());
        from..from + raw.trim().len()
    }
}

fn field(record: &ByteRecord, column: usize) -> Option<&str> {
    record.get(column).and_then(|bytes| std::str::from_utf8(bytes).ok())
}

/// Parses `1.5e9` and `178110464.0`, as other programs write them; a fraction of a byte is rounded up.
fn decimal(text: &str) -> Option<Bytes> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let number: f64 = text.parse().ok().filter(|_| plain)?;
    (0.0..=u64::MAX as f64).contains(&number).then(|| Bytes(number.ceil() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let flawed = parse("runs.csv", text).unwrap_err();
        let told = flawed.problems.iter().map(|problem| {
            let place =
                flawed.line_column(problem).map(|(line, column)| format!("{line}:{column} ")).unwrap_or_default();
            let marked = problem.span.clone().map_or("", |span| &flawed.text[span]);
            format!("{place}{} [{marked}] {}", problem.message, problem.label.clone().unwrap_or_default())
        });
        told.collect()
    }

    #[test]
    fn groups_are_told_apart_by_workflow_and_task() {
        let text =
            "workflow,task,input_bytes,peak_bytes,wall_seconds\na,x,1,10,2.5\na,y,2,20,\nb,x,3,30,1\na,x,4,1Ki,0\n";
        let groups = parse("runs.csv", text).unwrap();
        let names: Vec<Option<String>> = groups.iter().map(Group::name).collect();
        assert_eq!(names, [Some("a/x".into()), Some("a/y".into()), Some("b/x".into())]);
        assert_eq!(groups[0].table.runs[1].peak, Bytes(1024));
        assert_eq!(groups[0].lines, [2, 5]);
        assert_eq!(groups[1].table.runs[0].wall_seconds, None);
    }

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let text =
            "\u{feff}peak_bytes, note ,input_bytes.max_file_size,input_bytes,censored\r\n1.5e3,hello,7.0,8,oom\r\n";
        let groups = parse("runs.csv", text).unwrap();
        assert_eq!(groups[0].table.predictors, ["input_bytes.max_file_size", "input_bytes"]);
        let run = &groups[0].table.runs[0];
        assert_eq!((run.sizes.as_slice(), run.peak), ([Bytes(7), Bytes(8)].as_slice(), Bytes(1500)));
        assert_eq!(run.censoring, Censoring::OomKilled);
    }

    #[test]
    fn bad_values_are_told_with_their_places() {
        let text = "input_bytes,peak_bytes,wall_seconds\n10,many,1\n\n20,0,-3\n-1,5,x\n1,2\n";
        assert_eq!(
            problems(text),
            [
                "2:4 invalid value for `peak_bytes`: `many` [many] expected a number of bytes such as 1048576, or a \
                 quantity such as 512Mi",
                "4:4 invalid value for `peak_bytes`: `0` [0] expected a peak above 0",
                "4:6 invalid value for `wall_seconds`: `-3` [-3] expected a number of seconds such as 12.5, or an \
                 empty cell",
                "5:1 invalid value for `input_bytes`: `-1` [-1] expected a number of bytes such as 1048576, or a \
                 quantity such as 512Mi",
                "5:6 invalid value for `wall_seconds`: `x` [x] expected a number of seconds such as 12.5, or an empty \
                 cell",
                "6:4 found 2 values in a table with 3 columns [] expected 3 values",
            ]
        );
    }

    #[test]
    fn missing_columns_are_told_at_the_header() {
        assert_eq!(
            problems("size,peak_bytes\n1,2\n"),
            ["1:1 no column `input_bytes` [size,peak_bytes] found `size`, `peak_bytes`"]
        );
        assert_eq!(problems(""), ["1:1 no column `input_bytes` and no column `peak_bytes` [] found an empty line"]);
    }

    #[test]
    fn a_column_that_is_named_twice_is_told_at_the_second_one() {
        assert_eq!(
            problems("input_bytes,peak_bytes,peak_bytes\n1,2,3\n"),
            ["1:24 duplicate column `peak_bytes` [peak_bytes] repeated here"]
        );
        assert!(parse("runs.csv", "input_bytes,peak_bytes,,\n1,2,,\n").is_ok(), "columns without a name are none");
    }

    #[test]
    fn a_quote_that_is_never_closed_is_told_where_it_opens() {
        assert_eq!(
            problems("input_bytes,peak_bytes,note\n1,2,a\n1,2,\"b\n1,2,c\n"),
            ["3:5 unclosed quote [\"] opened here"]
        );
    }

    #[test]
    fn not_more_than_ten_problems_are_told() {
        let text = format!("input_bytes,peak_bytes\n{}", "x,1\n".repeat(1000));
        assert_eq!(problems(&text).len(), MOST_PROBLEMS);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z_]{0,3}|input_bytes|peak_bytes|,|\"|\r|\n|ä|[0-9.e-]{0,4}|\u{0}){0,60}") {
            let _ = parse("runs.csv", &text);
            let _ = parse("runs.csv", &format!("input_bytes,peak_bytes,wall_seconds\n{text}"));
        }
    }
}
