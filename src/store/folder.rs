//! The directory of a sweep: its plan, its records, and the output of its runs.
//!
//! | name | holds |
//! | --- | --- |
//! | `plan.json` | what to run; replaced atomically |
//! | `observations.jsonl` | one line per run, appended and synced |
//! | `runs/<cell>-<run>/` | the output of a run, with the full series in `series.json` if the line has part of it |
//! | `lock` | locked by the one process that writes, and identifies it |

mod lock;
mod mend;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bounded::read_all_text;
use super::index::{Index, Recorded, index};
use super::read::{OBSERVATIONS, RUNS, ReadError, Unusable};
use super::{Record, StoreError};
use crate::directory::{Directory, Refusal};
use crate::model::byte_order_mark;
use crate::model::observation::{Logs, Observation, Series};

pub use lock::Holder;
pub use mend::Torn;

use lock::Lock;

/// The version of the plan; newer ones are refused, older ones are read.
pub const PLAN_VERSION: u32 = 1;

/// The file name of the plan.
pub const PLAN: &str = "plan.json";
/// The file name of a run's series.
const SERIES: &str = "series.json";
const LOCK: &str = "lock";

/// The most samples of a series in one line, so that 100,000 lines can be read in less than a second.
pub const SAMPLES_IN_LINE: usize = 16;

/// The directory of a sweep cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The directory or something in it could not be created.
    #[error("failed to create {path}")]
    Make {
        /// The path to be created.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// It already contains a sweep.
    #[error("the directory {0} already contains a sweep")]
    Exists(PathBuf),
    /// It contains files that are not highwater's.
    #[error("the directory {path} is not empty: it contains `{found}`")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// The first name that is not highwater's.
        found: String,
    },
    /// It is not the directory of a sweep.
    #[error("the directory {0} has no {PLAN}")]
    NoPlan(PathBuf),
    /// Another process writes to it.
    #[error("the directory {path} is in use by {holder}")]
    Held {
        /// The directory.
        path: PathBuf,
        /// The process that holds it.
        holder: Holder,
    },
    /// It could not be locked.
    #[error("failed to lock {path}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The plan could not be read.
    #[error("failed to read the plan {path}")]
    ReadPlan {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The plan could not be written; the old one is intact.
    #[error("failed to write the plan {path}")]
    WritePlan {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The plan is not a JSON object with a version.
    #[error("{path} is not a plan")]
    NotAPlan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A newer highwater wrote the plan.
    #[error("the plan {path} has schema version {found}, this highwater supports up to {PLAN_VERSION}")]
    NewerPlan {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u64,
    },
    /// The output of a run could not be kept.
    #[error("failed to write {path}")]
    Keep {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// An incomplete last line could not be removed.
    #[error("failed to remove the incomplete last line of {path}")]
    Mend {
        /// The record.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FolderError {
    /// Whether the disk is full: existing records are intact, and the sweep can continue once there is space.
    pub fn is_out_of_space(&self) -> bool {
        self.cause().is_some_and(super::is_out_of_space)
    }

    /// Why highwater refuses to use something in the directory although the system would allow it.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.cause().and_then(Refusal::behind)
    }

    /// The error of the system or of [`Directory`].
    fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::Make { source, .. }
            | Self::Lock { source, .. }
            | Self::ReadPlan { source, .. }
            | Self::WritePlan { source, .. }
            | Self::Keep { source, .. }
            | Self::Mend { source, .. } => Some(source),
            Self::Store(error) => error.cause(),
            Self::Exists(_)
            | Self::NotEmpty { .. }
            | Self::NoPlan(_)
            | Self::Held { .. }
            | Self::NotAPlan { .. }
            | Self::NewerPlan { .. }
            | Self::Read(_) => None,
        }
    }
}

/// The directory of a sweep, open for writing. No other process writes to it while this exists.
#[derive(Debug)]
pub struct Folder {
    directory: Directory,
    plan: String,
    record: Record,
    index: Index,
    torn: Option<Torn>,
    _lock: Lock,
}

impl Folder {
    /// Creates the directory, including missing parents, and writes the plan into it.
    ///
    /// # Errors
    /// It contains a sweep or something else, another process holds it, or it cannot be created.
    pub fn create(path: &Path, plan: &str) -> Result<Self, FolderError> {
        let directory = make(path)?;
        if !directory.has(PLAN) {
            // Leave no lock in a directory of something else.
            check_empty(path)?;
        }
        let lock = Lock::take(&directory)?;
        if directory.has(PLAN) {
            return Err(FolderError::Exists(path.to_owned()));
        }
        write_plan(&directory, plan)?;
        Self::load(directory, lock)
    }

    /// Opens the directory of an existing sweep, and removes an incomplete last line of its record.
    ///
    /// # Errors
    /// It has no plan, another process holds it, a newer highwater wrote it, or it cannot be read and written. As root,
    /// another user's directory is refused. Symbolic links in it are not followed.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        // Leave nothing in a directory that is not highwater's.
        if fs::symlink_metadata(path.join(PLAN)).is_err() {
            return Err(FolderError::NoPlan(path.to_owned()));
        }
        let unusable = |source| FolderError::ReadPlan { path: path.join(PLAN), source };
        let directory = Directory::open_own(path).map_err(unusable)?;
        let lock = Lock::take(&directory)?;
        Self::load(directory, lock)
    }

    /// Opens the directory with its own plan, or creates it with this one.
    ///
    /// # Errors
    /// See [`Folder::open`] and [`Folder::create`].
    pub fn open_or_create(path: &Path, plan: &str) -> Result<Self, FolderError> {
        match Self::open(path) {
            Err(FolderError::NoPlan(_)) => Self::create(path, plan),
            other => other,
        }
    }

    fn load(directory: Directory, lock: Lock) -> Result<Self, FolderError> {
        let plan = plan_in(&directory)?;
        let observations = directory.path().join(OBSERVATIONS);
        let torn = mend::mend(&directory)?;
        let record = Record::open_in(&directory, OBSERVATIONS)?;
        directory.sync().map_err(|source| FolderError::Make { path: observations.clone(), source })?;
        let index = index(&observations)?;
        Ok(Self { directory, plan, record, index, torn, _lock: lock })
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The plan, as JSON.
    pub fn plan(&self) -> &str {
        &self.plan
    }

    /// Replaces the plan atomically.
    ///
    /// # Errors
    /// It is not a plan, or it cannot be written.
    pub fn replace_plan(&mut self, plan: &str) -> Result<(), FolderError> {
        write_plan(&self.directory, plan)?;
        plan.clone_into(&mut self.plan);
        Ok(())
    }

    /// The recorded runs, in the order of their lines. A repeated run appears several times.
    pub fn recorded(&self) -> &[Recorded] {
        &self.index.recorded
    }

    /// The unusable lines of the record, except an incomplete last one.
    pub fn unusable(&self) -> &[Unusable] {
        &self.index.unusable
    }

    /// The incomplete last line that was removed when the directory was opened.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// Creates the directory for a run's output. A recorded run that is repeated gets another directory.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn run_folder(&self, cell: &str, run: u32) -> Result<PathBuf, FolderError> {
        let run = self.run_id(cell, run);
        let made = self.directory.create_directories(&run);
        made.map_err(|source| FolderError::Make { path: self.path().join(&run), source })?;
        Ok(self.path().join(run))
    }

    /// The directory of the next attempt at a run, relative to that of the sweep.
    fn run_id(&self, cell: &str, run: u32) -> PathBuf {
        let tries = self.index.tries(cell, run);
        let cell = file_name(cell);
        let name = if tries == 0 { format!("{cell}-{run}") } else { format!("{cell}-{run}.{}", tries + 1) };
        Path::new(RUNS).join(name)
    }

    /// Appends a run and syncs it to disk. A series that is too long for a line is thinned there and kept in full
    /// beside it; paths of logs in this directory become relative to it, so that it can be moved.
    ///
    /// # Errors
    /// It cannot be written, as on a full disk; nothing of it is left.
    pub fn append(&mut self, observation: &Observation) -> Result<(), FolderError> {
        let run = observation.sweep.as_ref().map(|sweep| self.run_id(&sweep.cell, sweep.run));
        let (line, kept) = line_beside(&self.directory, run.as_deref(), observation)?;
        if let Err(error) = self.record.append(&line) {
            // Only its line refers to the series. If the record was moved, it has the line.
            if let Some(kept) = kept.filter(|_| !matches!(error, StoreError::Moved { .. })) {
                let _ = fs::remove_file(kept);
            }
            return Err(error.into());
        }
        self.index.push(&line);
        Ok(())
    }

    /// Appends runs whose files are here already, and syncs them together.
    ///
    /// # Errors
    /// They cannot be written; none of them is recorded then.
    pub fn append_all(&mut self, runs: &[Observation]) -> Result<(), FolderError> {
        if !runs.is_empty() {
            self.record.append_all(runs)?;
        }
        runs.iter().for_each(|run| self.index.push(run));
        Ok(())
    }

    /// Checks that the record has not been moved.
    ///
    /// # Errors
    /// The record or its directory was moved, replaced or removed.
    pub fn check_in_place(&self) -> Result<(), FolderError> {
        Ok(self.record.check_in_place()?)
    }

    /// Frees the index of recorded runs, which is only needed to add runs.
    pub(super) fn forget_recorded(&mut self) {
        self.index = Index::default();
    }

    /// Replaces all records by what `write` writes. If it fails, the old ones stay.
    pub(super) fn replace_records<E: From<FolderError>>(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let path = self.path().join(OBSERVATIONS);
        let mut failed = None;
        let replaced = self.directory.replace_with(OBSERVATIONS, |file| {
            let mut out = BufWriter::new(file);
            match write(&mut out) {
                Ok(()) => out.flush(),
                Err(error) => {
                    failed = Some(error);
                    Err(io::ErrorKind::Other.into())
                }
            }
        });
        match (failed, replaced) {
            (Some(error), _) => Err(error),
            (None, Err(source)) => Err(FolderError::Keep { path, source }.into()),
            (None, Ok(())) => Ok(()),
        }
    }
}

/// Prepares an observation for a record in `base`: paths of logs below it become relative, and a series that is too
/// long for a line is thinned. The full series is kept below `base` in the directory `run`; its file is returned, to be
/// removed if the line cannot be written.
///
/// # Errors
/// The series cannot be kept.
pub fn line_beside(
    base: &Directory,
    run: Option<&Path>,
    observation: &Observation,
) -> Result<(Observation, Option<PathBuf>), FolderError> {
    let relative = |path: PathBuf| path.strip_prefix(base.path()).map(Path::to_owned).unwrap_or(path);
    let mut line = observation.clone();
    line.logs = line.logs.map(|logs| Logs { stdout: relative(logs.stdout), stderr: relative(logs.stderr) });
    let Some(run) = run.filter(|_| observation.series.samples.len() > SAMPLES_IN_LINE) else { return Ok((line, None)) };
    let kept = keep_series(base, run, &observation.series)?;
    line.series.file = Some(run.join(SERIES));
    line.series.thin(SAMPLES_IN_LINE);
    Ok((line, Some(kept)))
}

fn keep_series(base: &Directory, run: &Path, series: &Series) -> Result<PathBuf, FolderError> {
    let text = serde_json::to_string(series).map_err(StoreError::Encode)?;
    let path = base.path().join(run).join(SERIES);
    let written = base.create_directories(run).and_then(|folder| folder.replace(SERIES, text.as_bytes()));
    written.map_err(|source| FolderError::Keep { path: path.clone(), source })?;
    Ok(path)
}

/// Reads the plan in the directory of a sweep, without a lock.
///
/// # Errors
/// There is no plan, it cannot be read, it is invalid, or a newer highwater wrote it.
pub fn read_plan(folder: &Path) -> Result<String, FolderError> {
    let directory = match Directory::open(folder) {
        Ok(directory) => directory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(FolderError::NoPlan(folder.to_owned())),
        Err(source) => return Err(FolderError::ReadPlan { path: folder.join(PLAN), source }),
    };
    plan_in(&directory)
}

fn plan_in(directory: &Directory) -> Result<String, FolderError> {
    let path = directory.path().join(PLAN);
    match directory.read(Path::new(PLAN)).and_then(read_all_text) {
        Ok(text) => {
            check_plan(&path, &text)?;
            Ok(byte_order_mark::strip(&text).to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FolderError::NoPlan(directory.path().to_owned())),
        Err(source) => Err(FolderError::ReadPlan { path, source }),
    }
}

/// Reads the plan of a sweep to resume. As root, another user's plan is refused, because it would be executed.
///
/// # Errors
/// See [`read_plan`] and [`Directory::open_own`].
pub fn read_own_plan(folder: &Path) -> Result<String, FolderError> {
    // Read the plan from the directory whose owner was checked: the path may lead elsewhere the next time.
    let source = match Directory::open_own(folder) {
        Ok(directory) => return plan_in(&directory),
        Err(source) => source,
    };
    // If there is no plan, report that, whoever owns the directory.
    read_plan(folder)?;
    Err(FolderError::ReadPlan { path: folder.join(PLAN), source })
}

/// Checks that a text is a plan of any kind of sweep, with a supported version.
///
/// # Errors
/// It has no version, or that of a newer highwater; errors name `path`.
pub fn check_plan(path: &Path, text: &str) -> Result<(), FolderError> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u64,
    }
    match serde_json::from_str(byte_order_mark::strip(text)) {
        Ok(Version { schema_version: found }) if found > u64::from(PLAN_VERSION) => {
            Err(FolderError::NewerPlan { path: path.to_owned(), found })
        }
        Ok(Version { .. }) => Ok(()),
        Err(source) => Err(FolderError::NotAPlan { path: path.to_owned(), source }),
    }
}

fn write_plan(directory: &Directory, plan: &str) -> Result<(), FolderError> {
    let path = directory.path().join(PLAN);
    check_plan(&path, plan)?;
    directory.replace(PLAN, plan.as_bytes()).map_err(|source| FolderError::WritePlan { path, source })
}

fn make(path: &Path) -> Result<Directory, FolderError> {
    let made = Directory::create_own(path).and_then(|directory| {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Directory::open(parent)?.sync()?,
            Some(_) | None => {}
        }
        Ok(directory)
    });
    made.map_err(|source| FolderError::Make { path: path.to_owned(), source })
}

/// Refuses a directory with other files, which was probably given by mistake.
fn check_empty(path: &Path) -> Result<(), FolderError> {
    let unreadable = |source| FolderError::Make { path: path.to_owned(), source };
    let names = fs::read_dir(path).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<Vec<String>>>()
    });
    let ours = [LOCK.to_owned(), format!("{PLAN}.new")];
    match names.map_err(unreadable)?.into_iter().filter(|name| !ours.contains(name)).min() {
        Some(found) => Err(FolderError::NotEmpty { path: path.to_owned(), found }),
        None => Ok(()),
    }
}

/// The key of a cell as a file name: keys are normally digests, but a plan may contain others.
fn file_name(cell: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
    cell.chars().take(128).map(|char| if plain(char) { char } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME_PLAN: &str = "{\"schema_version\":1,\"cells\":[]}";

    #[test]
    fn a_folder_is_made_once_and_opened_ever_after() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("a/b");
        assert!(matches!(Folder::open(&path), Err(FolderError::NoPlan(_))));
        drop(Folder::create(&path, SOME_PLAN).unwrap());
        assert!(matches!(Folder::create(&path, SOME_PLAN), Err(FolderError::Exists(_))));
        let mut folder = Folder::open_or_create(&path, "{}").unwrap();
        assert_eq!(folder.plan(), SOME_PLAN);
        folder.replace_plan("{\"schema_version\":1}").unwrap();
        drop(folder);
        assert_eq!(Folder::open(&path).unwrap().plan(), "{\"schema_version\":1}");
    }

    #[test]
    fn a_folder_with_files_of_others_is_left_alone() {
        let above = tempfile::tempdir().unwrap();
        fs::write(above.path().join("thesis.tex"), "").unwrap();
        let error = Folder::create(above.path(), SOME_PLAN).unwrap_err();
        assert!(matches!(error, FolderError::NotEmpty { found, .. } if found == "thesis.tex"));
        assert_eq!(fs::read_dir(above.path()).unwrap().count(), 1, "nothing is left in it");
    }

    #[test]
    fn plans_that_are_newer_or_none_are_refused() {
        let above = tempfile::tempdir().unwrap();
        let refused = |plan: &str| Folder::create(&above.path().join("sweep"), plan).unwrap_err();
        assert!(matches!(refused("{\"schema_version\":2}"), FolderError::NewerPlan { found: 2, .. }));
        assert!(matches!(refused("{"), FolderError::NotAPlan { .. }));
        assert!(matches!(refused("{}"), FolderError::NotAPlan { .. }));
    }

    #[test]
    fn keys_of_cells_cannot_lead_out_of_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), "______etc_passwd");
    }
}
