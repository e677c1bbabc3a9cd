//! Reports that the probe wrote in jobs of Slurm. Without accounting, nothing else knows jobs that have ended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::probe::{ProbedEnd, Report, ReportError};
use super::production::{Missing, ProductionRun, annotations};
use super::slurm;
use crate::host::machine::Machine;
use crate::model::observation::{Batch, Exactness, Peak};
use crate::model::problem::one_line;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

/// Longer than any report.
const LONGEST: u64 = 64 << 10;

/// The files to read: the path itself, or the files of a directory in the order of their names.
///
/// # Errors
/// If it cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Neither a pipe, which would block, nor a link, which may lead anywhere.
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads the run of a report. An unfinished report is explained by what Slurm knows of its job.
///
/// # Errors
/// Why there is none.
pub fn read(path: &Path, machine: &Machine) -> Result<ProductionRun, Missing> {
    let mut text = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    opened.map_err(|error| Missing::new("not readable", one_line(&error)))?;
    if text.is_empty() {
        return Err(Missing::new("empty: the probe has not started or could not write", ""));
    }
    let report = Report::parse(&text).map_err(|error| match error {
        ReportError::Foreign => Missing::new("not a report of the probe", ""),
        error @ ReportError::Line { .. } => Missing::new("not a valid report of the probe", one_line(&error)),
    })?;
    let Some(batch) = report.origin.batch.clone() else {
        return Err(Missing::new("not written in a job of Slurm", ""));
    };
    let state = report.end.is_none().then(|| slurm::state(&batch)).flatten();
    run(report, batch, state.as_deref(), machine)
}

fn run(report: Report, batch: Batch, state: Option<&str>, machine: &Machine) -> Result<ProductionRun, Missing> {
    let origin = report.origin.clone();
    let mut probed = ProbedEnd::new(None);
    if report.end.is_none() {
        match state {
            Some("OUT_OF_MEMORY") => probed.killed_with_probe = true,
            Some(state @ ("PENDING" | "RUNNING" | "COMPLETING" | "SUSPENDED" | "REQUEUED")) => {
                return Err(Missing::new("still running", state));
            }
            state => {
                let state = state.unwrap_or("Slurm does not know the job any more");
                return Err(Missing::new("the report is cut: the probe was killed before it read the peak", state));
            }
        }
    }
    // Any process of the same step may have reached it before.
    let peak_before = origin.peak_before;
    if peak_before.is_some() && report.peak().is_some_and(|(peak, _)| Some(peak) <= peak_before) {
        return Err(Missing::new("its step reached the peak before the command: start the probe with srun", ""));
    }
    let timed_out = report.timed_out.then_some(report.wall).flatten();
    let (mut finished, mut contained) = ProbedEnd { report: Some(report), ..probed }.finished(machine);
    contained.timed_out = timed_out;
    finished.contained = Some(contained);
    if origin.step.is_none() {
        finished.peak = finished.peak.map(|peak| with_script(peak, peak_before.unwrap_or_default()));
    }
    Ok(ProductionRun {
        pod: None,
        batch: Some(batch),
        command: origin.command,
        annotations: annotations(origin.annotations.as_deref()),
        started_at: origin.started_at.unwrap_or_else(Timestamp::now),
        finished,
    })
}

/// The peak of a job's script, whose other processes held up to `before`.
fn with_script(mut peak: Peak, before: Bytes) -> Peak {
    if let Exactness::Exact { error_bound_bytes } = &mut peak.exactness {
        *error_bound_bytes = error_bound_bytes.saturating_add(before);
    }
    peak
}
