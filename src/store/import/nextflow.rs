//! Nextflow's trace: a row for each task of a pipeline, with formatted or raw numbers.
//!
//! See "Trace file" in Nextflow's documentation of reports. Its units are binary (`1 KB` is 1024 bytes); raw numbers are
//! bytes and milliseconds.

use csv::ByteRecord;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{About, LeftOut, blank, is_nothing, sampled};
use crate::model::delimited::Rows;
use crate::model::observation::{Io, Observation, Outcome, Subject, Warning};
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

const REASON: &str = "Nextflow samples the resident memory of processes from time to time and adds it up: peaks \
                      between samples, the page cache and kernel memory are missing, and shared pages count \
                      more than once";
const ROUNDED: &str = ", and the trace is rounded";
/// The status that Nextflow writes for a task without one.
const NO_STATUS: i64 = i32::MAX as i64;

pub(super) fn read(rows: &mut Rows<'_>, about: &About<'_>) -> (Vec<Observation>, Vec<LeftOut>) {
    if rows.column("peak_rss").is_none() && rows.column("rss").is_none() {
        rows.require(&["peak_rss"]);
    }
    rows.require(&["realtime"]);
    let (mut observations, mut left_out) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next() {
        match run(rows, &row, about) {
            Ok(observation) => observations.push(observation),
            Err(Some(reason)) => left_out.push(LeftOut { line: rows.line_of(&row), reason }),
            Err(None) => {}
        }
    }
    (observations, left_out)
}

/// The run of a row; otherwise why there is none, or `None` if a cell was rejected.
fn run(rows: &mut Rows<'_>, row: &ByteRecord, about: &About<'_>) -> Result<Observation, Option<String>> {
    let status = rows.value(row, "status").unwrap_or("COMPLETED");
    if !["COMPLETED", "FAILED", "CACHED"].contains(&status) {
        return Err(Some(format!("status {status}")));
    }
    let rss = rows.column("peak_rss").or_else(|| rows.column("rss"));
    let memory = number(rows, row, rss, bytes, "an amount such as `1.2 GB`, or bytes")?;
    let memory = memory.filter(|bytes| *bytes > Bytes::ZERO);
    // The memory that was requested, if the trace has it: a killed run needed more, also if no sample is left of it.
    let limit = rows.value(row, "memory").and_then(bytes).filter(|limit| *limit > Bytes::ZERO);
    let time = number(rows, row, rows.column("realtime"), micros, "a time such as `1m 30s`, or milliseconds")?;
    let time = time.ok_or_else(|| Some("no time".to_owned()))?;
    let started_at = ["start", "submit"].iter().find_map(|name| timestamp(rows.value(row, name)?));
    let outcome = outcome(status, rows.value(row, "exit")).ok_or_else(|| Some("no exit status".to_owned()))?;
    let raw = rss.is_some_and(|column| rows.cell(row, column).trim().parse::<u64>().is_ok());
    let io = |name| rows.value(row, name).and_then(bytes);
    let mut observation = blank(started_at.unwrap_or(about.written_at));
    observation.subject = Subject { name: name(rows, row, about), command: Vec::new() };
    // A run without a peak is kept, so that its process is not missing where all are listed.
    if let Some(memory) = memory {
        observation.peak = sampled(memory, &format!("{REASON}{}", if raw { "" } else { ROUNDED }));
    }
    observation.wall_us = time;
    observation.outcome = outcome;
    observation.io = match (io("read_bytes"), io("write_bytes")) {
        (Some(read), Some(written)) => Reading::Value(Io { read, written }),
        _ => Reading::Unsupported,
    };
    // SIGKILL. The trace does not say who sent it; most often it was the kernel or the scheduler, for lack of memory.
    if outcome == (Outcome::Exited { status: 137 }) {
        observation.censored = true;
        observation.limit.own = limit.map_or(Reading::Unsupported, |limit| Reading::Value(Some(limit)));
        observation.warnings.push(Warning::ProbablyOomKilled);
    }
    if status == "CACHED" {
        observation.warnings.push(Warning::EarlierRun);
    }
    if started_at.is_none() {
        observation.warnings.push(Warning::NoStartTime);
    }
    Ok(observation)
}

/// A number that may be missing; an invalid cell is rejected.
fn number<T>(
    rows: &mut Rows<'_>,
    row: &ByteRecord,
    column: Option<usize>,
    parse: impl Fn(&str) -> Option<T>,
    expected: &str,
) -> Result<Option<T>, Option<String>> {
    let Some(column) = column else { return Ok(None) };
    let cell = rows.cell(row, column).trim();
    if is_nothing(cell) {
        return Ok(None);
    }
    rows.parsed(row, column, parse, expected).map(Some).ok_or(None)
}

/// The process or, without such a column, the name without the tag in brackets.
fn name(rows: &Rows<'_>, row: &ByteRecord, about: &About<'_>) -> Option<String> {
    let process = rows.value(row, "process").or_else(|| {
        let name = rows.value(row, "name")?;
        Some(name.split_once(" (").map_or(name, |(process, _)| process))
    });
    process.or(about.task).map(str::to_owned)
}

fn outcome(status: &str, exit: Option<&str>) -> Option<Outcome> {
    match exit.and_then(|exit| exit.parse::<i64>().ok()).filter(|exit| *exit != NO_STATUS) {
        Some(status) => i32::try_from(status).ok().map(|status| Outcome::Exited { status }),
        None if status == "COMPLETED" => Some(Outcome::Exited { status: 0 }),
        None => None,
    }
}

/// Parses `1.2 GB`, `512 KB`, `0`, or raw bytes.
fn bytes(text: &str) -> Option<Bytes> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, "B"));
    let power = ["B", "KB", "MB", "GB", "TB", "PB"].iter().position(|known| *known == unit.trim())?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << (10 * power)).map(Bytes);
    }
    let number: f64 = number.parse().ok()?;
    let bytes = number * (1_u64 << (10 * power)) as f64;
    (0.0..1e19).contains(&bytes).then(|| Bytes(bytes.ceil() as u64))
}

/// Parses `1d 2h 3m 4.5s`, `850ms`, or raw milliseconds.
fn micros(text: &str) -> Option<u64> {
    if let Ok(millis) = text.parse::<u64>() {
        return millis.checked_mul(1000);
    }
    let mut sum = 0.0;
    for part in text.split_whitespace() {
        let digits = part.find(|char: char| char.is_ascii_alphabetic())?;
        let (number, unit) = part.split_at(digits);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
    }
    (0.0..1e13).contains(&sum).then(|| (sum * 1e6).round() as u64)
}

/// Parses `2025-05-25 12:13:14.094`, taken as UTC because it has no zone, or raw milliseconds since 1970.
fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse::<i64>() {
        return jiff::Timestamp::from_millisecond(millis).ok().map(Timestamp);
    }
    let time: DateTime = text.parse().ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| Timestamp(time.timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people_and_raw_ones_are_read() {
        assert_eq!(bytes("3.1 MB"), Some(Bytes(3_250_586)));
        assert_eq!(bytes("540 B"), Some(Bytes(540)));
        assert_eq!(bytes("193986560"), Some(Bytes(193_986_560)));
        assert_eq!(["1 XB", "-1 MB", "many", "1e300 GB"].map(bytes), [None; 4]);
        assert_eq!(micros("650ms"), Some(650_000));
        assert_eq!(micros("1d 2h 3m 4.5s"), Some(93_784_500_000));
        assert_eq!(micros("1200"), Some(1_200_000));
        assert_eq!(["5 parsecs", "s", "-1s"].map(micros), [None; 3]);
        let expected: Timestamp = "2025-05-25T12:13:14.094Z".parse().unwrap();
        assert_eq!(timestamp("2025-05-25 12:13:14.094"), Some(expected));
        assert_eq!(timestamp("1748175194094"), Some(expected));
    }
}
