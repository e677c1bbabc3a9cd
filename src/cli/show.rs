//! `highwater show`: what is in records, cell by cell.

use std::path::PathBuf;

use clap::Args;
use highwater::calibrate::cells::{self, Cell};
use highwater::model::observation::Observation;
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::run::Format;
use super::{cells as shown, output, records};

const EXAMPLES: &str = "\
Examples:
  highwater show sweeps/lungs/                 each cell of a sweep: its median peak, spread, time
  highwater show runs.jsonl                    runs that `highwater run --record` has kept
  highwater show a.jsonl b.jsonl               several files together
  highwater show sweeps/lungs/ --format json | jq '.cells[] | {case, peak: .peak_bytes.median}'

A cell is one input case with one choice of parameters. Peak and time are medians over the runs that succeeded; +- is \
the robust standard deviation of the peaks (the median absolute deviation / 0.6745) as a share of the median; largest \
is the largest peak; runs are those that succeeded, of how many where some did not. A run whose modified z-score is \
beyond 3.5 is an outlier.

A sweep may be under way meanwhile. Ends with status 5 where there is no record.";

/// Shows what is in records: the median peak, spread and time of each cell, and what to mistrust.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ShowArgs {
    /// A folder that `highwater sweep` has written, or a file of records.
    #[arg(value_name = "RECORDS", required = true)]
    records: Vec<PathBuf>,
    /// How the result is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What scripts read.
#[derive(Serialize)]
struct Json<'a> {
    schema_version: u32,
    records: usize,
    unusable_lines: usize,
    cells: &'a [Cell],
}

pub(crate) fn run(args: &ShowArgs) -> Result<Exit, Failure> {
    let mut observations: Vec<Observation> = Vec::new();
    let mut unusable_lines = 0;
    for path in &args.records {
        let read = records::read(path)?;
        unusable_lines += read.unusable.len();
        observations.extend(read.observations);
    }
    let cells = cells::cells(&observations);
    match args.format {
        Format::Json => {
            let json = Json { schema_version: 1, records: observations.len(), unusable_lines, cells: &cells };
            output::json(&json)?;
        }
        Format::Table if cells.is_empty() => output::say("no run is recorded"),
        Format::Table => {
            let heading = heading(&observations, cells.len());
            output::text(&format!("{heading}\n\n{}", shown::of(&cells)))?;
        }
    }
    Ok(if observations.is_empty() { Exit::TooLittleData } else { Exit::Done })
}

fn heading(observations: &[Observation], cells: usize) -> String {
    let times = || observations.iter().map(|observation| observation.started_at);
    let day = |time: jiff::Timestamp| time.strftime("%F").to_string();
    let (first, last) = (times().min().map(day), times().max().map(day));
    let counted = shown::counted(observations.len(), cells);
    match (first, last) {
        (Some(first), Some(last)) if first != last => format!("{counted}, {first} to {last}"),
        (Some(first), _) => format!("{counted}, {first}"),
        (None, _) => counted,
    }
}
