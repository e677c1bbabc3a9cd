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

/// The peak of a job's script, whose other processes held up to `before`.
fn with_script(mut peak: Peak, before: Bytes) -> Peak {
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
        let (step, script) = (bound(&format!("{BEGIN}slurm_step 0\n{END}")), bound(&format!("{BEGIN}{END}")));
        assert_eq!((script.0.0 - step.0.0, script.1), (1000, None));
    }

    #[test]
    fn a_peak_from_before_the_command_is_not_its_own() {
        let text = format!("{BEGIN}{END}").replace("peak_before 1000", "peak_before 4096");
        assert!(read(&text, None).unwrap_err().reason.contains("start the probe with srun"));
    }

    #[test]
    fn an_unfinished_report_is_explained_by_the_state_of_its_job() {
        assert_eq!(read(BEGIN, Some("RUNNING")).unwrap_err().reason, "still running");
        for state in [Some("CANCELLED"), None] {
            let missing = read(BEGIN, state).unwrap_err();
            assert_eq!(missing.reason, "the report is cut: the probe was killed before it read the peak");
        }
        let run = read(BEGIN, Some("OUT_OF_MEMORY")).unwrap();
        let peak = run.finished.peak.value().unwrap();
        assert!(peak.bytes == Bytes(8192) && matches!(peak.exactness, Exactness::LowerBound { .. }), "{peak:?}");
        assert!(run.finished.contained.unwrap().oom_killed);
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
