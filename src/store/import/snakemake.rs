//! Snakemake's benchmark: a row for each repetition of a job, memory in MiB, times in seconds.
//!
//! See `benchmark` in Snakemake's documentation of rules. It has no input sizes.

use csv::ByteRecord;

use super::{About, LeftOut, blank, is_nothing, sampled};
use crate::model::delimited::Rows;
use crate::model::observation::{Io, Observation, Subject, Warning};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::store::table::micros;

const REASON: &str = "Snakemake samples the resident memory of processes, at first twice a second and later every 30 \
                      seconds, and adds it up: peaks between samples, the page cache and kernel memory are missing, \
                      and shared pages count more than once";

pub(super) fn read(rows: &mut Rows<'_>, about: &About<'_>) -> (Vec<Observation>, Vec<LeftOut>) {
    rows.require(&["s", "max_rss"]);
    let (mut observations, mut left_out) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next() {
        let (Ok(seconds), Ok(memory)) = (number(rows, &row, "s"), number(rows, &row, "max_rss")) else { continue };
        match (seconds, memory) {
            (None, _) => left_out.push(LeftOut { line: rows.line_of(&row), reason: "no time".to_owned() }),
            // Without a peak if it ended before its memory was sampled.
            (Some(seconds), memory) => {
                observations.push(run(rows, &row, about, seconds, memory.filter(|memory| *memory > 0.0)));
            }
        }
    }
    (observations, left_out)
}

fn run(rows: &mut Rows<'_>, row: &ByteRecord, about: &About<'_>, seconds: f64, memory: Option<f64>) -> Observation {
    let mut observation = blank(about.written_at);
    let name = rows.value(row, "rule_name").or(about.task).map(str::to_owned);
    observation.subject = Subject { name, command: Vec::new() };
    observation.wall_us = micros(&seconds.to_string()).unwrap_or(u64::MAX);
    if let Some(memory) = memory {
        observation.peak = sampled(mebibytes(memory), REASON);
    }
    let mut io = |name| number(rows, row, name).ok().flatten().map(mebibytes);
    if let (Some(read), Some(written)) = (io("io_in"), io("io_out")) {
        observation.io = Reading::Value(Io { read, written });
    }
    observation.warnings.push(Warning::NoStartTime);
    observation
}

/// A number that may be missing; an invalid one is rejected.
fn number(rows: &mut Rows<'_>, row: &ByteRecord, name: &str) -> Result<Option<f64>, ()> {
    let Some(column) = rows.column(name) else { return Ok(None) };
    let cell = rows.cell(row, column).trim();
    if is_nothing(cell) {
        return Ok(None);
    }
    match cell.parse::<f64>() {
        Ok(number) if (0.0..1e12).contains(&number) => Ok(Some(number)),
        Ok(_) | Err(_) => {
            rows.reject(row, column, "a number such as 12.5, or `-`");
            Err(())
        }
    }
}

fn mebibytes(number: f64) -> Bytes {
    Bytes((number * 1_048_576.0).ceil() as u64)
}
