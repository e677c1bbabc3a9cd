//! Reading records: every line that can be used, and what is wrong with the others.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bounded::{self, MAX_LINE_BYTES};
use super::folder::RUNS;
use crate::directory::{Directory, Refusal};
use crate::model::byte_order_mark;
use crate::model::observation::{Observation, SCHEMA_VERSION, Series};

/// The file of a folder of records that has the observations.
pub const OBSERVATIONS: &str = "observations.jsonl";

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there or cannot be read.
    #[error("failed to read the records {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder is not one of records.
    #[error("the folder {0} has no {OBSERVATIONS}")]
    NoRecords(PathBuf),
    /// A line is larger than any record.
    #[error("{path}:{line}: the line is larger than {} MiB, which no record is", MAX_LINE_BYTES >> 20)]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A newer highwater wrote them.
    #[error("{path}:{line}: the record has schema version {found}, this highwater knows up to {SCHEMA_VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The version that was found.
        found: u64,
    },
}

/// What a file of records holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The file that was read.
    pub path: PathBuf,
    /// The observations in their order.
    pub observations: Vec<Observation>,
    /// The lines that could not be used.
    pub unusable: Vec<Unusable>,
}

impl Records {
    /// A file that a record names by its path from the folder that the record is in, such as its output.
    pub fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| file.to_owned(), |folder| folder.join(file))
    }

    /// Opens a file that a record names, such as its output. A record may be somebody else's: only what lies below `runs` or
    /// in the directory of the record's logs, beside the record, is opened, and no symbolic link is followed.
    ///
    /// # Errors
    /// If there is no such file; [`Refusal`] for one elsewhere.
    ///
    /// [`Refusal`]: crate::directory::Refusal
    pub fn open(&self, file: &Path) -> io::Result<File> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let base = std::path::absolute(parent)?;
        let directory = Directory::open(&base)?;
        let logs = PathBuf::from(self.path.with_extension("logs").file_name().unwrap_or_default());
        let relative = file.strip_prefix(&base).unwrap_or(file);
        let found = if relative.starts_with(RUNS) || relative.starts_with(&logs) {
            directory.read(relative)
        } else {
            Err(Refusal::Outside { path: file.to_owned(), directory: base }.into())
        };
        match (found, file.file_name()) {
            // A record that was moved together with its logs.
            (Err(error), Some(name)) => directory.read(&logs.join(name)).map_err(|_| error),
            (found, _) => found,
        }
    }

    /// All samples that were kept of a run: those beside the record, where there are more; else those in it.
    ///
    /// # Errors
    /// Where the file beside the record cannot be read or is no series.
    pub fn series(&self, observation: &Observation) -> Result<Series, ReadError> {
        let Some(file) = &observation.series.file else { return Ok(observation.series.clone()) };
        let path = self.beside(file);
        let parse =
            |text: Vec<u8>| serde_json::from_slice(byte_order_mark::strip_bytes(&text)).map_err(io::Error::from);
        match self.open(file).and_then(bounded::read_all).and_then(parse) {
            Ok(series) => Ok(series),
            // Cleaned up, or left where the record was copied from.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(observation.series.clone()),
            Err(source) => Err(ReadError::Unreadable { path, source }),
        }
    }
}

/// A line that is no observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it is the last one and has no end: somebody was killed while writing it.
    pub torn: bool,
}

impl Unusable {
    pub(super) fn new(line: usize, text: &[u8], error: &serde_json::Error) -> Self {
        Self { line, reason: error.to_string(), torn: !text.ends_with(b"\n") }
    }
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) schema_version: u64,
}

/// Reads a file of records, or the one in a folder of records. A line that cannot be used is told and passed over.
///
/// # Errors
/// Where there is no such file, it cannot be read, or a newer version wrote it.
pub fn read(path: &Path) -> Result<Records, ReadError> {
    let mut observations = Vec::new();
    let records = read_with(path, |_, _, observation| observations.extend(observation))?;
    Ok(Records { observations, ..records })
}

/// Hands on every line that is not empty: its number, its text, and the observation where it is one.
pub(super) fn read_with(
    path: &Path,
    mut take: impl FnMut(usize, &[u8], Option<Observation>),
) -> Result<Records, ReadError> {
    let path = place(path)?;
    let unreadable = |source| ReadError::Unreadable { path: path.clone(), source };
    let mut lines = BufReader::new(File::open(&path).map_err(unreadable)?);
    let mut records = Records { path: path.clone(), ..Records::default() };
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        match bounded::read_line(&mut lines, &mut text) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(ReadError::LongLine { path, line });
            }
            Err(source) => return Err(unreadable(source)),
        }
        // A file that was put together from others may have several.
        let text = byte_order_mark::strip_bytes(&text);
        if text.trim_ascii().is_empty() {
            continue;
        }
        if let Ok(Version { schema_version: found }) = serde_json::from_slice(text)
            && found > u64::from(SCHEMA_VERSION)
        {
            return Err(ReadError::Newer { path, line, found });
        }
        match serde_json::from_slice(text) {
            Ok(observation) => take(line, text, Some(observation)),
            Err(error) => {
                records.unusable.push(Unusable::new(line, text, &error));
                take(line, text, None);
            }
        }
    }
    Ok(records)
}

/// The file of records that a path means: itself, or the one in the folder.
pub(super) fn place(path: &Path) -> Result<PathBuf, ReadError> {
    let found = fs::metadata(path).map_err(|source| ReadError::Unreadable { path: path.to_owned(), source })?;
    if !found.is_dir() {
        return Ok(path.to_owned());
    }
    let inside = path.join(OBSERVATIONS);
    if inside.exists() { Ok(inside) } else { Err(ReadError::NoRecords(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_observations_are_told_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OBSERVATIONS), "{}\n\n{\"schema_version\":1,\"to").unwrap();
        let records = read(folder.path()).unwrap();
        let lines: Vec<_> = records.unusable.iter().map(|unusable| (unusable.line, unusable.torn)).collect();
        assert_eq!(lines, [(1, false), (3, true)]);
    }

    #[test]
    fn a_newer_record_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OBSERVATIONS), "\n{\"schema_version\":2}\n").unwrap();
        assert!(matches!(read(folder.path()), Err(ReadError::Newer { line: 2, found: 2, .. })));
        assert!(matches!(read(&folder.path().join("..")), Err(ReadError::NoRecords(_))));
    }
}
