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

use csv::ByteRecord;

use crate::model::delimited::Rows;
use crate::model::escape::csv_text;
use crate::model::fit::{Censoring, Measure, RunTable, SizedRun};
use crate::model::problem::Flawed;
use crate::model::units::Bytes;

use super::group::Group;

const INPUT: &str = "input_bytes";
const PEAK: &str = "peak_bytes";
const WALL: &str = "wall_seconds";

/// Reads a table, separated by commas or tabs; `name` identifies it in errors. The groups are in the order of their
/// first run.
///
/// # Errors
/// If columns are missing or values invalid: the first ten problems, with their locations.
pub fn parse(name: &str, text: &str) -> Result<Vec<Group>, Flawed> {
    let mut rows = Rows::new(text);
    let groups = match Columns::find(&mut rows) {
        Some(columns) => groups(&mut rows, &columns),
        None => Vec::new(),
    };
    rows.finish(name, groups)
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

impl Columns {
    /// `None` if one of those that are required is missing, which is reported.
    fn find(rows: &mut Rows<'_>) -> Option<Self> {
        let is_input =
            |name: &str| name.strip_prefix(INPUT).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let names = rows.header.iter().cloned().enumerate();
        let inputs: Vec<(usize, String)> = names.filter(|(_, name)| is_input(name)).collect();
        let peak = rows.column(PEAK);
        let required = [(INPUT, inputs.is_empty()), (PEAK, peak.is_none())];
        let missing: Vec<&str> = required.into_iter().filter_map(|(name, missing)| missing.then_some(name)).collect();
        if let [first, ..] = missing.as_slice() {
            rows.reject_header(
                &format!("no column `{}`", missing.join("` and no column `")),
                &format!(
                    "name the columns in the first line: `{INPUT},{PEAK}[,{WALL}]`; check the spelling of `{first}`"
                ),
            );
            return None;
        }
        Some(Self {
            inputs,
            peak: peak?,
            wall: rows.column(WALL),
            censored: rows.column("censored"),
            workflow: rows.column("workflow"),
            task: rows.column("task"),
        })
    }
}

fn groups(rows: &mut Rows<'_>, columns: &Columns) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut indices: BTreeMap<(Option<String>, Option<String>), usize> = BTreeMap::new();
    while let Some(row) = rows.next() {
        let Some(run) = run(rows, &row, columns) else { continue };
        let word = |column: Option<usize>| column.map(|column| csv_text(rows.cell(&row, column).trim()).into_owned());
        let key = (word(columns.workflow), word(columns.task));
        let index = *indices.entry(key.clone()).or_insert_with(|| {
            let predictors = columns.inputs.iter().map(|(_, name)| name.clone()).collect();
            let measures = columns.inputs.iter().map(|(_, name)| Measure::of_column(name)).collect();
            let table = RunTable { predictors, runs: Vec::new() };
            groups.push(Group { workflow: key.0, task: key.1, table, measures, ..Group::default() });
            groups.len() - 1
        });
        groups[index].table.runs.push(run);
        groups[index].lines.push(rows.line_of(&row) as u64);
    }
    groups.iter_mut().for_each(Group::warn_of_lower_bounds);
    groups
}

/// The run of a row, with all of its invalid values rejected.
fn run(rows: &mut Rows<'_>, row: &ByteRecord, columns: &Columns) -> Option<SizedRun> {
    const AMOUNT: &str = "a number of bytes such as 1048576, or a quantity such as 512Mi";
    const SECONDS: &str = "a number of seconds such as 12.5, or an empty cell";
    const CENSORED: &str = "`limit`, `oom`, `lower-bound` or an empty cell";
    let sizes: Vec<Option<Bytes>> =
        columns.inputs.iter().map(|&(column, _)| rows.parsed(row, column, amount, AMOUNT)).collect();
    let peak = rows.parsed(row, columns.peak, amount, AMOUNT);
    if peak == Some(Bytes::ZERO) {
        rows.reject(row, columns.peak, "a peak above 0");
    }
    let wall = columns.wall.map_or(Some(None), |column| rows.parsed(row, column, seconds, SECONDS));
    let censored =
        columns.censored.map_or(Some(Censoring::None), |column| rows.parsed(row, column, censoring, CENSORED));
    Some(SizedRun {
        sizes: sizes.into_iter().collect::<Option<_>>()?,
        peak: peak.filter(|peak| *peak > Bytes::ZERO)?,
        wall_seconds: wall?,
        censoring: censored?,
    })
}

fn amount(cell: &str) -> Option<Bytes> {
    cell.parse::<u64>().map(Bytes).ok().or_else(|| decimal(cell)).or_else(|| cell.parse().ok())
}

/// A time, if the cell is not empty.
fn seconds(cell: &str) -> Option<Option<f64>> {
    if cell.is_empty() {
        return Some(None);
    }
    cell.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0).map(Some)
}

fn censoring(cell: &str) -> Option<Censoring> {
    match cell {
        "" | "no" | "none" | "false" => Some(Censoring::None),
        "limit" | "limit-reached" => Some(Censoring::LimitReached),
        "oom" | "oom-killed" => Some(Censoring::OomKilled),
        "lower-bound" => Some(Censoring::LowerBound),
        _ => None,
    }
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
    fn a_table_may_be_separated_by_tabs() {
        let groups = parse("runs.tsv", "input_bytes\tpeak_bytes\ttask\n1\t2Ki\ta,b\n").unwrap();
        assert_eq!((groups[0].task.as_deref(), groups[0].table.runs[0].peak), (Some("a,b"), Bytes(2048)));
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
                "6:1 found 2 values in a table with 3 columns [1,2] expected 3 values",
            ]
        );
    }

    #[test]
    fn missing_columns_are_told_at_the_header() {
        assert_eq!(
            problems("size,peak_bytes\n1,2\n"),
            ["1:1 no column `input_bytes` [size,peak_bytes] found `size`, `peak_bytes`"]
        );
        let array = "[{\"input_bytes\": 1, \"other\": 2}, {\"other\": 2}, {\"other\": 2}]";
        let [problem] = problems(array).try_into().unwrap();
        assert!(problem.ends_with("found JSON instead of a table"), "{problem}");
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
        assert_eq!(problems(&text).len(), 10);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z_]{0,3}|input_bytes|peak_bytes|,|\"|\r|\n|ä|[0-9.e-]{0,4}|\u{0}){0,60}") {
            let _ = parse("runs.csv", &text);
            let _ = parse("runs.csv", &format!("input_bytes,peak_bytes,wall_seconds\n{text}"));
        }
    }
}
