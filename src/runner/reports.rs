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
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::runner::Finished;

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

/// Reads the run of a report. Slurm is asked about the job of an unfinished one, which has no record: the job may have run
/// out of memory in another step.
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
    if report.end.is_none() {
        return Err(match state {
            Some(state @ ("PENDING" | "RUNNING" | "COMPLETING" | "SUSPENDED" | "REQUEUED")) => {
                Missing::new("still running", state)
            }
            state => {
                let state = state.unwrap_or("Slurm does not know the job");
                Missing::new("the report is incomplete: the probe was killed before it read the peak", state)
            }
        });
    }
    // Any process of the same step or script may have reached it before.
    let peak_before = origin.peak_before;
    if peak_before.is_some() && report.peak().is_some_and(|(peak, _)| Some(peak) <= peak_before) {
        let reason = match origin.step {
            Some(_) => "its step had reached the peak before the command began",
            None => "its script had reached the peak before the command began: start the probe with srun",
        };
        return Err(Missing::new(reason, ""));
    }
    let timed_out = report.timed_out.then_some(report.wall).flatten();
    let (mut finished, mut contained) = ProbedEnd::new(Some(report)).finished(machine);
    contained.timed_out = timed_out;
    finished.contained = Some(contained);
    finished.peak = finished.peak.map(|peak| with_others(peak, peak_before.unwrap_or_default()));
    finished.held_back_from_above = is_held_back(&finished);
    if origin.step.is_none() {
        // They count the whole script.
        (finished.cpu, finished.pids_peak) = (Reading::Unsupported, Reading::Unsupported);
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

/// Whether the peak is at the limit of a cgroup above, whose events the probe does not read: without that limit, it might
/// be higher.
fn is_held_back(finished: &Finished) -> bool {
    let limit = finished.limit.effective.value().flatten();
    let peak = finished.peak.as_ref().value();
    limit.zip(peak).is_some_and(|(limit, peak)| peak.bytes.saturating_add(peak.exactness.error_bound()) >= limit)
}

/// The peak of a cgroup in which others, such as Slurm itself, held up to `before`.
fn with_others(mut peak: Peak, before: Bytes) -> Peak {
    if let Exactness::Exact { error_bound_bytes } = &mut peak.exactness {
        *error_bound_bytes = error_bound_bytes.saturating_add(before);
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostRoots;
    use crate::runner::End;

    const BEGIN: &str = "highwater-probe 1\nlimit 8192\nown_limit max\nannotations task=seg input.scans=5 odd\nslurm_job 12\n\
                         slurm_array_task 3\nslurm_node n1\nstarted 1700000000\npeak_before 1000\nword ./seg\nword a b\n";
    const END: &str = "wall_us 7\nown 0\ncpus 1\npeak 4096\nfile /x/memory.peak\ncpu 1 2\nexited 0\n";

    fn read(text: &str, state: Option<&str>) -> Result<ProductionRun, Missing> {
        let report = Report::parse(text.as_bytes()).unwrap();
        let batch = report.origin.batch.clone().unwrap();
        run(report, batch, state, &Machine::read(HostRoots::default()).unwrap())
    }

    #[test]
    fn a_report_says_which_run_it_is() {
        let run = read(&format!("{BEGIN}slurm_step 0\n{END}"), None).unwrap();
        let batch = run.batch.unwrap();
        assert_eq!((batch.job.as_str(), batch.array_task, batch.node.as_deref()), ("12", Some(3), Some("n1")));
        assert_eq!(run.command, ["./seg", "a b"]);
        let annotations: Vec<_> = run.annotations.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(annotations, [("task", "seg"), ("input.scans", "5"), ("odd", "")]);
        assert_eq!((run.started_at.as_second(), run.finished.end), (1_700_000_000, End::Exited(0)));
        assert!(run.finished.cpu.value().is_some());
    }

    #[test]
    fn what_a_script_held_before_is_in_the_error_bound() {
        let bound = |text: &str| {
            let finished = read(text, None).unwrap().finished;
            (finished.peak.value().unwrap().exactness.error_bound(), finished.cpu.value())
        };
        let alone = format!("{BEGIN}slurm_step 0\n{END}").replace("peak_before 1000\n", "");
        let (alone, step) = (bound(&alone), bound(&format!("{BEGIN}slurm_step 0\n{END}")));
        let script = bound(&format!("{BEGIN}{END}"));
        assert_eq!((step.0.0 - alone.0.0, script.0.0 - alone.0.0, script.1), (1000, 1000, None));
    }

    #[test]
    fn a_peak_from_before_the_command_is_not_its_own() {
        let text = format!("{BEGIN}{END}").replace("peak_before 1000", "peak_before 4096");
        assert!(read(&text, None).unwrap_err().reason.contains("start the probe with srun"));
    }

    #[test]
    fn a_peak_at_the_limit_of_the_job_is_held_back() {
        let held_back = |limit: &str| {
            let text = format!("{BEGIN}slurm_step 0\n{END}").replace("limit 8192", limit);
            read(&text, None).unwrap().finished.held_back_from_above
        };
        assert!(held_back("limit 8192") && !held_back("limit 8589934592") && !held_back("limit max"));
    }

    #[test]
    fn an_unfinished_report_is_explained_by_the_state_of_its_job() {
        assert_eq!(read(BEGIN, Some("RUNNING")).unwrap_err().reason, "still running");
        // Another step of the job may have run out of memory.
        for state in [Some("CANCELLED"), Some("OUT_OF_MEMORY"), None] {
            let missing = read(BEGIN, state).unwrap_err();
            assert_eq!(missing.reason, "the report is incomplete: the probe was killed before it read the peak");
        }
    }

    #[test]
    fn files_that_are_no_reports_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let machine = Machine::read(HostRoots::default()).unwrap();
        let reason = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            read_reason(&path, &machine)
        };
        assert_eq!(reason(b""), "empty: the probe has not started or could not write");
        assert_eq!(reason(b"\xff\xfe"), "not a report of the probe");
        assert_eq!(reason(b"highwater-probe 1\nslurm_job 1\nexited 999\n"), "not a valid report of the probe");
        assert_eq!(reason(b"highwater-probe 1\nexited 0\n"), "not written in a job of Slurm");
        assert_eq!(read_reason(&folder.path().join("none"), &machine), "not readable");
    }

    fn read_reason(path: &Path, machine: &Machine) -> &'static str {
        super::read(path, machine).unwrap_err().reason
    }
}
