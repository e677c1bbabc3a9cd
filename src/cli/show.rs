//! `highwater show`: the content of records, cell by cell.

use std::path::PathBuf;

use clap::Args;
use highwater::calibrate::cells::{Cell, Cells};
use highwater::model::timestamp::Timestamp;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::output::{self, OutputArg};
use super::run::Format;
use super::{cells as shown, records};

const EXAMPLES: &str = "\
Examples:
  highwater show sweeps/lungs/                 each cell of a sweep: median peak, spread, time
  highwater show runs.jsonl                    runs that `highwater run --record` has recorded
  highwater show a.jsonl b.jsonl               several files together
  highwater show sweeps/lungs/ --format json | jq '.cells[] | {case, peak: .peak_bytes.median}'

A cell is one input case with one choice of parameters. Peak and time are medians of the runs that succeeded. MAD is \
the spread of the peaks: their median absolute deviation, divided by 0.6745 to compare with a standard deviation, as \
a share of the median. max is the highest peak. runs is the number of runs that succeeded, and the total if some did \
not. A run whose modified z-score is beyond 3.5 is an outlier.

The sweep may still be running. Exit status: 5 if there are no records.";

/// Show the median peak, spread and time of each recorded cell, and what to mistrust.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// Directory of a sweep, or file of records.
    #[arg(value_name = "RECORDS", required = true)]
    records: Vec<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
}

/// The output as JSON.
#[derive(Serialize)]
struct Json<'a> {
    schema_version: u32,
    records: usize,
    unusable_lines: usize,
    cells: &'a [Cell],
}

pub(crate) fn run(args: &ShowArgs) -> Result<Exit, Failure> {
    args.output.check()?;
    let mut cells = Cells::default();
    let mut count = 0;
    let mut unusable_lines = 0;
    let mut started: Option<(Timestamp, Timestamp)> = None;
    for path in &args.records {
        unusable_lines += records::each(&records::open(path)?, |observation| {
            count += 1;
            let at = observation.started_at;
            let (first, last) = started.unwrap_or((at, at));
            started = Some((first.min(at), last.max(at)));
            cells.add(&observation);
        })?;
    }
    let cells = cells.finish();
    match args.format {
        Format::Json => args.output.json(&Json { schema_version: 1, records: count, unusable_lines, cells: &cells })?,
        Format::Table if cells.is_empty() => {
            output::say("the records contain no runs");
            args.output.text("")?;
        }
        Format::Table => {
            let heading = heading(count, started, cells.len());
            args.output.text(&format!("{heading}\n\n{}", shown::render(&cells)))?;
        }
    }
    Ok(if count == 0 { Exit::TooLittleData } else { Exit::Done })
}

/// The number of runs and cells, and when the first and the last run started.
fn heading(runs: usize, started: Option<(Timestamp, Timestamp)>, cells: usize) -> String {
    let counted = shown::counted(runs, cells);
    match started.map(|(first, last)| (first.day(), last.day())) {
        Some((first, last)) if first != last => format!("{counted}, {first} to {last}"),
        Some((first, _)) => format!("{counted}, {first}"),
        None => counted,
    }
}
