//! Records runs as they end, and reports them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::calibrate::monitor::Observer;
use crate::directory::Directory;
use crate::model::observation::{Observation, Outcome};
use crate::model::plan::PlanCell;
use crate::model::units::Bytes;
use crate::runner::staging::free;
use crate::store::{Folder, FolderError, Index, RUNS, Record, Recorded, StoreError, index, line_beside};

use super::executor::{PlannedCell, lock};
use super::{Admission, Job, Left, Recorder};
use crate::calibrate::failure::{Category, Failure, NO_ROOM};
use crate::calibrate::feedback::Feedback;

/// The space needed for a record and a little output.
const LEAST_ROOM: Bytes = Bytes(128 << 10);

/// Watches a sweep.
pub trait SweepObserver {
    /// The runs begin: how many are recorded already, and how many are left.
    fn begins(&mut self, recorded: usize, left: usize);

    /// An observer of the next run.
    fn run(&mut self) -> Box<dyn Observer + Send>;

    /// A run was recorded.
    ///
    /// # Errors
    /// If the sweep cannot go on: the record stays.
    fn recorded(
        &mut self,
        cell: &PlanCell,
        run: u32,
        observation: &Observation,
        left: &Left<'_>,
    ) -> Result<(), Failure>;

    /// The last run has ended.
    fn ends(&mut self) {}
}

/// Watches nothing.
impl SweepObserver for () {
    fn begins(&mut self, _: usize, _: usize) {}

    fn run(&mut self) -> Box<dyn Observer + Send> {
        Box::new(())
    }

    fn recorded(&mut self, _: &PlanCell, _: u32, _: &Observation, _: &Left<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

/// The destination of records.
pub(super) enum Destination {
    /// The directory of the sweep.
    Folder(Box<Folder>),
    /// A file of single cells.
    File(Box<CellFile>),
}

/// A file of single cells. The output of its runs is beside it, where `merge` finds it.
pub(super) struct CellFile {
    path: PathBuf,
    /// The absolute path of the file's directory.
    directory: Directory,
    record: Record,
    index: Index,
}

impl Destination {
    /// Where the records are.
    pub(super) fn records(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::File(file) => &file.path,
        }
    }

    /// Opens a file for the records of single cells, with its existing records. Unless the user gave its name, a
    /// symbolic link, which another user may have put there, is not followed.
    pub(super) fn file(path: &Path, is_named: bool, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let unopened = |source| StoreError::Open { path: path.to_owned(), source };
        let opened = Directory::open(&base).map_err(unopened).and_then(|directory| {
            let record = match path.file_name().and_then(std::ffi::OsStr::to_str) {
                Some(name) if !is_named => Record::open_in(&directory, name)?,
                Some(_) | None => Record::open(path)?,
            };
            Ok((directory, record))
        });
        let (directory, record) = opened.map_err(Failure::from)?;
        let index = index(path).map_err(Failure::from)?;
        index.unusable.iter().for_each(|unusable| feedback.note(&unusable.describe(path)));
        Ok(Self::File(Box::new(CellFile { path: path.to_owned(), directory, record, index })))
    }

    /// The existing records.
    pub(super) fn recorded(&self) -> &[Recorded] {
        match self {
            Self::Folder(folder) => folder.recorded(),
            Self::File(file) => &file.index.recorded,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.path(),
            Self::File(file) => file.directory.path(),
        }
    }

    /// Checks for free space: a full disk would make the task's writes fail before highwater's own.
    fn check_room(&self) -> Result<(), Failure> {
        match free(self.path()) {
            Some(free) if free < LEAST_ROOM => {
                let error = format!("too little space for records in {}: {free} free", self.path().display());
                Err(Failure::new(Category::Host, error, Some(NO_ROOM.to_owned())))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Checks that the record has not been moved.
    pub(super) fn check_in_place(&self) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.check_in_place().map_err(Failure::from),
            Self::File(file) => file.record.check_in_place().map_err(Failure::from),
        }
    }

    fn run_folder(&self, cell: &str, run: u32) -> Result<PathBuf, Failure> {
        match self {
            Self::Folder(folder) => folder.run_folder(cell, run).map_err(Failure::from),
            Self::File(file) => {
                let run = file.run_id(cell, run);
                let path = file.directory.path().join(&run);
                match file.directory.create_directories(&run) {
                    Ok(_) => Ok(path),
                    Err(source) => Err(Failure::from(FolderError::Make { path, source })),
                }
            }
        }
    }

    fn append(&mut self, observation: &Observation) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.append(observation).map_err(Failure::from),
            Self::File(file) => file.append(observation),
        }
    }
}

impl CellFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the output of runs is kept.
    pub(super) fn runs(&self) -> PathBuf {
        self.directory.path().join(RUNS)
    }

    /// Where inputs are staged: beside the file, under a name derived from it.
    pub(super) fn staging(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".staging");
        self.directory.path().join(name)
    }

    /// The directory of the next attempt at a run, relative to that of the file.
    fn run_id(&self, cell: &str, run: u32) -> PathBuf {
        let tries = self.index.tries(cell, run);
        let again = if tries == 0 { String::new() } else { format!(".{}", tries + 1) };
        Path::new(RUNS).join(format!("{cell}-{run}{again}"))
    }

    fn append(&mut self, observation: &Observation) -> Result<(), Failure> {
        let run = observation.sweep.as_ref().map(|sweep| self.run_id(&sweep.cell, sweep.run));
        let line = line_beside(&self.directory, run.as_deref(), observation);
        let (line, kept) = line.map_err(Failure::from)?;
        self.record.append(&line).map(drop).map_err(|error| {
            // Without its line the output is unreachable. If the record was moved, the line is in it.
            if let Some(kept) = kept.filter(|_| !matches!(error, StoreError::Moved { .. })) {
                let _ = std::fs::remove_file(kept);
            }
            Failure::from(error)
        })
    }
}

/// Records and reports runs.
pub(super) struct SweepRecorder<'a> {
    pub(super) place: &'a mut Destination,
    pub(super) cells: &'a [PlannedCell],
    pub(super) folders: &'a Mutex<HashMap<Job, PathBuf>>,
    pub(super) observer: &'a mut dyn SweepObserver,
    /// The number of failed runs.
    pub(super) failed: usize,
}

impl Recorder for SweepRecorder<'_> {
    type Error = Failure;

    fn begins(&mut self, job: Job, _: &Admission<'_>) -> Result<Box<dyn Observer + Send>, Failure> {
        self.place.check_in_place()?;
        self.place.check_room()?;
        let folder = self.place.run_folder(&self.cells[job.cell].planned.key, job.run)?;
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        lock(self.folders).insert(job, folder);
        Ok(self.observer.run())
    }

    fn keep(&mut self, job: Job, mut observation: Observation, left: &Left<'_>) -> Result<(), Failure> {
        if let Some(folder) = lock(self.folders).remove(&job) {
            tidy(&mut observation, &folder);
        }
        if observation.outcome.has_failed() {
            // A full disk is not the task's fault, so the failure is not recorded.
            self.place.check_room()?;
        }
        if let (Destination::Folder(folder), Some(logs)) = (&*self.place, &mut observation.logs) {
            // Recorded paths must begin with the path that the directory was opened with.
            if let Ok(base) = std::path::absolute(folder.path()) {
                for path in [&mut logs.stdout, &mut logs.stderr] {
                    *path = path.strip_prefix(&base).map(|rest| folder.path().join(rest)).unwrap_or(path.clone());
                }
            }
        }
        self.place.append(&observation)?;
        if observation.outcome.has_failed() && !matches!(observation.outcome, Outcome::EngineLost | Outcome::Lost) {
            self.failed += 1;
        }
        self.observer.recorded(&self.cells[job.cell].planned, job.run, &observation, left)
    }
}

/// Removes the log files of a run without output.
fn tidy(observation: &mut Observation, folder: &Path) {
    let is_empty = |path: &Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    if let Some(logs) = &observation.logs
        && opened(folder).is_ok()
        && is_empty(&logs.stdout)
        && is_empty(&logs.stderr)
    {
        let removed = std::fs::remove_file(&logs.stdout).and_then(|()| std::fs::remove_file(&logs.stderr));
        if removed.is_ok() {
            observation.logs = None;
        }
    }
    // This fails unless the directory is empty.
    let _ = std::fs::remove_dir(folder);
}

/// Opens the directory of a run, unless a task has replaced it by a symbolic link.
fn opened(folder: &Path) -> std::io::Result<Directory> {
    let sweep = folder.ancestors().nth(2).unwrap_or(folder);
    Directory::open(sweep)?.beneath(folder.strip_prefix(sweep).unwrap_or(folder))
}

/// Removes the directory of a run that was not kept, unless it contains something.
pub(super) fn forget(folder: &Path) {
    let Ok(directory) = opened(folder) else { return };
    for name in directory.entries().unwrap_or_default() {
        let file = directory.read(Path::new(&name)).and_then(|file| file.metadata());
        if file.is_ok_and(|metadata| metadata.len() == 0) {
            let _ = directory.remove(&name);
        }
    }
    // This fails unless the directory is empty.
    let _ = std::fs::remove_dir(folder);
}
