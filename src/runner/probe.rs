//! A small program in the container, in place of its entrypoint, or in a step of a batch job, that reads the peak there.
//!
//! In a container, it starts what the image would have started, forwards signals and the exit status, and writes the
//! kernel's counters to a small file, which is fetched after the end. Nothing here depends on an engine: anything that
//! can copy two files into a container and one out can use it.

#[cfg(feature = "containers")]
mod ended;
#[cfg(feature = "containers")]
mod image;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "containers")]
pub(super) use self::ended::ProbedEnd;
#[cfg(feature = "containers")]
pub use self::image::image;
use super::{End, Finished};
use crate::model::observation::{Batch, Cpu, CpuSource, Events};
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

/// Part of the name of the program, wherever it is.
#[cfg(feature = "containers")]
pub(super) const NAME: &str = "probe";
/// The directory of the probe in the container.
#[cfg(feature = "containers")]
const DIRECTORY: &str = ".highwater";
/// The result file of the probe.
#[cfg(feature = "containers")]
pub const RESULT: &str = "/.highwater/result";
/// Statically linked, so that it runs in any image; empty where it could not be built (see build.rs).
static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

/// The program, for a container of this machine's architecture.
///
/// # Errors
/// If this highwater was built without it.
pub fn program() -> Result<&'static [u8], &'static str> {
    if PROGRAM.is_empty() {
        Err("this highwater was built without a probe, because no static C library was available")
    } else {
        Ok(PROGRAM)
    }
}

/// Larger than any number in a result, and the first that JSON readers may round.
const MOST: u64 = 1 << 53;

/// The command line of the probe, which precedes that of the image.
#[cfg(feature = "containers")]
pub fn entrypoint() -> Vec<String> {
    vec![format!("/{DIRECTORY}/{NAME}"), RESULT.to_owned(), "--".to_owned()]
}

/// A command line for the program that does nothing.
#[cfg(feature = "containers")]
pub(super) fn nothing() -> Vec<String> {
    vec![format!("/{DIRECTORY}/{NAME}"), "--nothing".to_owned()]
}

/// The archive that is extracted at the root of the container.
///
/// # Errors
/// If this highwater was built without a probe.
#[cfg(feature = "containers")]
pub fn archive() -> Result<Vec<u8>, &'static str> {
    let program = program()?;
    let mut archive = tar::Builder::new(Vec::with_capacity(program.len() + 8192));
    let entries: [(&str, tar::EntryType, u32, &[u8]); 3] = [
        (DIRECTORY, tar::EntryType::Directory, 0o755, &[]),
        (".highwater/probe", tar::EntryType::Regular, 0o755, program),
        // Writable for the user that the image runs as.
        (".highwater/result", tar::EntryType::Regular, 0o666, &[]),
    ];
    for (path, kind, mode, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        // Writing to memory cannot fail, and the paths are short.
        archive.append_data(&mut header, path, content).map_err(|_| "its archive could not be written")?;
    }
    archive.into_inner().map_err(|_| "its archive could not be written")
}

/// The result of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How the task ended; `None` if the probe was killed before that.
    pub end: Option<End>,
    /// The lowest limit of the container's cgroup and all above it that the probe can see, `None` for none.
    pub limit: Reading<Option<Bytes>>,
    /// The limit of the container's cgroup, `None` for none.
    pub own_limit: Reading<Option<Bytes>>,
    /// Whether the probe ended the task because of its time-out.
    pub timed_out: bool,
    /// The memory of the probe itself, which is included in the peak.
    pub own: Bytes,
    /// From the start to the end of the task.
    pub wall: Option<Duration>,
    /// The CPUs of the machine.
    pub cpus: Option<u32>,
    /// The kernel release of the machine.
    pub kernel: Option<String>,
    /// What the probe knew of the run before it started the command.
    pub origin: Origin,
    peak: Option<Bytes>,
    file: PathBuf,
    events: Option<Events>,
    cpu: Option<Cpu>,
    pids_peak: Option<u64>,
    leftover: Option<u64>,
}

/// A run, as the probe and the environment describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// When it started, by the clock of its machine.
    pub started_at: Option<Timestamp>,
    /// The high-water mark of the cgroup before the command started.
    pub peak_before: Option<Bytes>,
    /// The job of Slurm that it is part of.
    pub batch: Option<Batch>,
    /// The step of the job; `None` for its script.
    pub step: Option<String>,
    /// The command.
    pub command: Vec<String>,
    /// The value of `HIGHWATER_ANNOTATIONS`.
    pub annotations: Option<String>,
}

impl Origin {
    fn line(&mut self, name: &str, value: &str) -> Option<()> {
        let text = || value.to_owned();
        match name {
            "started" => self.started_at = Some(Timestamp::from_second(value.parse().ok()?)?),
            "peak_before" => self.peak_before = Some(Bytes(value.parse().ok()?)),
            "slurm_job" => self.batch = Some(Batch::slurm(value, None)),
            "slurm_array_task" => self.batch.as_mut()?.array_task = Some(value.parse().ok()?),
            "slurm_restarts" => self.batch.as_mut()?.restarts = Some(value.parse().ok()?),
            "slurm_node" => self.batch.as_mut()?.node = Some(text()),
            "slurm_step" => self.step = Some(text()),
            "word" => self.command.push(text()),
            "annotations" => self.annotations = Some(text()),
            // A later version of the probe may write more.
            _ => {}
        }
        Some(())
    }
}

/// Why a result is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Its first line is not that of a result.
    #[error("not the result of a probe")]
    Foreign,
    /// A line has an unexpected format.
    #[error("invalid line {line}: `{found}`")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line.
        found: String,
    },
}

impl Report {
    /// Reads a result: a first line with the version, then lines of a name and a value.
    ///
    /// # Errors
    /// If the probe did not write it. A result that ends early is valid: the probe was killed.
    pub fn parse(text: &[u8]) -> Result<Self, ReportError> {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.split_inclusive('\n').enumerate();
        if lines.next().map(|(_, line)| line) != Some("highwater-probe 1\n") {
            return Err(ReportError::Foreign);
        }
        let mut report = Self {
            end: None,
            limit: Reading::Unsupported,
            own_limit: Reading::Unsupported,
            timed_out: false,
            own: Bytes::ZERO,
            wall: None,
            cpus: None,
            kernel: None,
            origin: Origin::default(),
            peak: None,
            file: PathBuf::new(),
            events: None,
            cpu: None,
            pids_peak: None,
            leftover: None,
        };
        let mut events =
            Events { limit_hits: Reading::Unsupported, ooms: Reading::Unsupported, oom_kills: Reading::Unsupported };
        for (index, line) in lines {
            // The incomplete last line of a probe that was killed while writing it.
            let Some(whole) = line.strip_suffix('\n') else { break };
            report
                .line(whole, &mut events)
                .ok_or_else(|| ReportError::Line { line: index + 1, found: whole.to_owned() })?;
        }
        report.events = Some(events).filter(|events| events.oom_kills != Reading::Unsupported);
        Ok(report)
    }

    fn line(&mut self, line: &str, events: &mut Events) -> Option<()> {
        let (name, value) = line.split_once(' ')?;
        // A task can write to its result, too: numbers that no machine has are refused.
        let number = || value.parse::<u64>().ok().filter(|number| *number < MOST);
        let status = |range: RangeInclusive<i32>| value.parse().ok().filter(|status| range.contains(status));
        let limit = || if value == "max" { Some(None) } else { Some(Some(Bytes(number()?))) };
        match name {
            "peak" => self.peak = Some(Bytes(number()?)),
            "file" => self.file = PathBuf::from(value),
            "own" => self.own = Bytes(number()?),
            "limit" => self.limit = Reading::Value(limit()?),
            "own_limit" => self.own_limit = Reading::Value(limit()?),
            "limit_hits" => events.limit_hits = Reading::Value(number()?),
            "ooms" => events.ooms = Reading::Value(number()?),
            "oom_kills" => events.oom_kills = Reading::Value(number()?),
            "pids_peak" => self.pids_peak = Some(number()?),
            "leftover" => self.leftover = Some(number()?),
            "wall_us" => self.wall = Some(Duration::from_micros(number()?)),
            "cpus" => self.cpus = Some(u32::try_from(number()?).ok()?),
            "kernel" => self.kernel = Some(value.to_owned()),
            "timed_out" => self.timed_out = true,
            "cpu" => {
                let (user, system) = value.split_once(' ')?;
                let microseconds = |text: &str| text.parse::<u64>().ok().filter(|number| *number < MOST);
                let (user_us, system_us) = (microseconds(user)?, microseconds(system)?);
                self.cpu = Some(Cpu { user_us, system_us, source: CpuSource::Cgroup });
            }
            "exited" => self.end = Some(End::Exited(status(0..=255)?)),
            "signalled" => self.end = Some(End::Signalled(status(1..=127)?)),
            _ => self.origin.line(name, value)?,
        }
        Some(())
    }

    /// The peak and the file in the container it was read from, if the probe lived to read it.
    pub fn peak(&self) -> Option<(Bytes, PathBuf)> {
        self.end.and(self.peak).map(|peak| (peak, self.file.clone()))
    }

    /// Fills in what could not be read from outside.
    pub(super) fn fill(&self, finished: &mut Finished) {
        let value = |value: Option<u64>| value.map_or(Reading::Unsupported, Reading::Value);
        finished.events = finished.events.or(self.events.map_or(Reading::Unsupported, Reading::Value));
        finished.cpu = finished.cpu.or(self.cpu.map_or(Reading::Unsupported, Reading::Value));
        finished.pids_peak = finished.pids_peak.or(value(self.pids_peak));
        finished.leftover_processes = finished.leftover_processes.or(value(self.leftover));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    const WHOLE: &str = "highwater-probe 1\nlimit 8192\nown_limit max\nown 1024\nfile /sys/fs/cgroup/memory.peak\n\
                         peak 4096\noom_kills 1\ncpu 5 6\nexited 3\n";

    #[test]
    fn a_result_is_read() {
        let report = Report::parse(WHOLE.as_bytes()).unwrap();
        assert_eq!(report.end, Some(End::Exited(3)));
        assert_eq!(report.peak(), Some((Bytes(4096), PathBuf::from("/sys/fs/cgroup/memory.peak"))));
        assert_eq!((report.limit, report.own_limit), (Reading::Value(Some(Bytes(8192))), Reading::Value(None)));
        assert!(!report.timed_out);
        assert_eq!(report.events.unwrap().oom_kills, Reading::Value(1));
    }

    #[test]
    fn a_probe_that_was_killed_has_no_peak() {
        for cut in ["highwater-probe 1\n", &WHOLE[..WHOLE.len() - 1]] {
            let report = Report::parse(cut.as_bytes()).unwrap();
            assert_eq!((report.end, report.peak()), (None, None), "{cut}");
        }
    }

    /// The kernel kills all processes of a container together where memory.oom.group is set.
    #[test]
    fn the_limits_are_known_even_if_the_probe_was_killed_with_the_task() {
        let report = Report::parse(b"highwater-probe 1\nlimit 8192\nown_limit max\n").unwrap();
        assert_eq!((report.end, report.limit), (None, Reading::Value(Some(Bytes(8192)))));
    }

    #[test]
    fn the_probe_fits_into_a_config_map_of_kubernetes() {
        let size = program().unwrap().len();
        assert!(size < 1 << 20, "{size} bytes");
    }

    /// Runs the probe; returns its result and its status.
    fn run(name: &str, options: &[&str], command: &[&str]) -> (Report, i32) {
        let folder = tempfile::tempdir().unwrap();
        let (probe, result) = (folder.path().join(name), folder.path().join("result"));
        fs::write(&probe, program().unwrap()).unwrap();
        fs::set_permissions(&probe, Permissions::from_mode(0o755)).unwrap();
        let status = loop {
            let status = Command::new(&probe).arg(&result).args(options).arg("--").args(command).status();
            // A test in another thread may have forked while the file was open for writing.
            match status {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => continue,
                status => break status.unwrap(),
            }
        };
        (Report::parse(&fs::read(result).unwrap()).unwrap(), status.code().unwrap())
    }

    #[test]
    fn the_probe_passes_on_how_the_command_ended() {
        for (command, end, status) in [
            (["sh", "-c", "exit 3"].as_slice(), End::Exited(3), 3),
            (&["sh", "-c", "kill -9 $$"], End::Signalled(9), 137),
            (&["/nonexistent"], End::Exited(127), 127),
            (&["/etc/passwd"], End::Exited(126), 126),
        ] {
            let (report, code) = run("status", &[], command);
            assert_eq!((report.end, report.timed_out, code), (Some(end), false, status), "{command:?}");
        }
    }

    #[test]
    fn the_probe_ends_a_command_after_its_time_out() {
        let (report, _) = run("term", &["50", "60000"], &["sleep", "60"]);
        assert_eq!((report.end, report.timed_out), (Some(End::Signalled(15)), true));
        let (report, _) = run("kill", &["50", "50"], &["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
        assert_eq!((report.end, report.timed_out), (Some(End::Signalled(9)), true));
        let (report, _) = run("early", &["60000", "1"], &["true"]);
        assert_eq!((report.end, report.timed_out), (Some(End::Exited(0)), false));
    }

    #[test]
    fn a_file_of_somebody_else_is_no_result() {
        assert!(matches!(Report::parse(b"hello\n"), Err(ReportError::Foreign)));
        for line in ["peak x", "peak 18446744073709551615", "signalled 2147483647", "exited -1", "cpu 1", "peak"] {
            let text = format!("highwater-probe 1\n{line}\n");
            assert!(matches!(Report::parse(text.as_bytes()), Err(ReportError::Line { line: 2, .. })), "{line}");
        }
    }

    #[cfg(feature = "containers")]
    #[test]
    fn the_probe_copies_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, program().unwrap()).unwrap();
        fs::set_permissions(&from, Permissions::from_mode(0o755)).unwrap();
        let copy = |to: &std::path::Path| loop {
            match Command::new(&from).arg("--copy").arg(to).output() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => continue,
                output => break output.unwrap(),
            }
        };
        assert!(copy(&to).status.success());
        assert!(fs::read(&to).unwrap() == program().unwrap());
        let output = copy(&folder.path().join("missing/to"));
        assert_eq!(output.status.code(), Some(125));
        assert!(String::from_utf8_lossy(&output.stderr).contains("missing/to: "), "{output:?}");
    }

    #[cfg(feature = "containers")]
    #[test]
    fn the_archive_holds_the_program_and_a_result_that_anybody_may_write() {
        let bytes = archive().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let modes: Vec<u32> = archive.entries().unwrap().map(|entry| entry.unwrap().header().mode().unwrap()).collect();
        assert_eq!(modes, [0o755, 0o755, 0o666]);
    }
}
