//! Records of observations: JSON Lines, one observation per line, appended and synced.

mod adopt;
#[doc(hidden)]
pub mod bounded;
mod folder;
pub mod import;
mod index;
mod merge;
mod read;
pub mod table;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::directory::{Directory, Refusal};
use crate::model::observation::Observation;

pub use folder::{
    Folder, FolderError, Holder, PLAN, PLAN_VERSION, SAMPLES_IN_LINE, Torn, check_plan, line_beside, read_own_plan,
    read_plan,
};
pub use index::{Index, Recorded, index};
pub use merge::{MergeError, Merged, merge};
pub use read::{OBSERVATIONS, RUNS, ReadError, Records, Source, Unusable, is_log, read};

/// A record could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file could not be opened or created.
    #[error("failed to open the record {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The line could not be written. The file is unchanged, except for at most an incomplete line at its end.
    #[error("failed to append to the record {path}")]
    Append {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The path no longer leads to the opened file, so appended lines would be lost.
    #[error("the record {path} was moved, replaced or removed while it was in use")]
    Moved {
        /// The original path.
        path: PathBuf,
    },
    /// An observation that has no JSON form.
    #[error("failed to write an observation as JSON")]
    Encode(#[source] serde_json::Error),
}

impl StoreError {
    /// Whether the disk is full; earlier records are intact.
    pub fn is_out_of_space(&self) -> bool {
        self.cause().is_some_and(is_out_of_space)
    }

    /// Why highwater refuses to use the record although the system would allow it.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.cause().and_then(Refusal::behind)
    }

    fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::Open { source, .. } | Self::Append { source, .. } => Some(source),
            Self::Moved { .. } | Self::Encode(_) => None,
        }
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// The result of appending to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Whether the file ended in an incomplete line, left by a killed writer. That line is kept, and the new one is on
    /// the next line.
    pub after_torn_line: bool,
}

/// A record that is open for appending.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
}

impl Record {
    /// Opens a record, or creates one.
    ///
    /// # Errors
    /// It cannot be opened for reading and writing.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        match file {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(source) => Err(StoreError::Open { path: path.to_owned(), source }),
        }
    }

    /// Opens a record below a directory of highwater's own, or creates one. A symbolic link is refused.
    ///
    /// # Errors
    /// See [`Directory::open_or_create`].
    pub fn open_in(directory: &Directory, name: &str) -> Result<Self, StoreError> {
        let path = directory.path().join(name);
        match directory.open_or_create(name, true) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(StoreError::Open { path, source }),
        }
    }

    /// Appends one line and syncs it to disk. Processes that append to the same file wait for each other.
    ///
    /// # Errors
    /// It cannot be written, as on a full disk: nothing of the line is left in the file. Or the file was moved or
    /// removed: the line is in that file.
    pub fn append(&mut self, observation: &Observation) -> Result<Appended, StoreError> {
        self.append_all(std::slice::from_ref(observation))
    }

    /// Appends several lines as [`append`](Self::append) does one, and syncs them together.
    fn append_all(&mut self, observations: &[Observation]) -> Result<Appended, StoreError> {
        let lines: Result<Vec<String>, _> = observations.iter().map(serde_json::to_string).collect();
        let line = lines.map_err(StoreError::Encode)?.join("\n");
        let failed = |source| StoreError::Append { path: self.path.clone(), source };
        self.file.lock().map_err(failed)?;
        let appended = append_line(&mut self.file, &line);
        let unlocked = self.file.unlock();
        let appended = appended.map_err(failed)?;
        unlocked.map_err(failed)?;
        self.check_in_place()?;
        Ok(appended)
    }

    /// Checks that the path still leads to the opened file.
    ///
    /// # Errors
    /// The file was moved, replaced or removed.
    pub fn check_in_place(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::Append { path: self.path.clone(), source };
        let opened = self.file.metadata().map_err(failed)?;
        // A pipe or a terminal may have several paths.
        let in_place = !opened.is_file()
            || fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == (opened.dev(), opened.ino()));
        if in_place { Ok(()) } else { Err(StoreError::Moved { path: self.path.clone() }) }
    }
}

fn append_line(file: &mut File, line: &str) -> io::Result<Appended> {
    // A pipe or a terminal has no end to check.
    let Ok(length) = file.seek(SeekFrom::End(0)) else {
        file.write_all(format!("{line}\n").as_bytes())?;
        return Ok(Appended { after_torn_line: false });
    };
    let after_torn_line = length > 0 && {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        last != *b"\n"
    };
    let text = if after_torn_line { format!("\n{line}\n") } else { format!("{line}\n") };
    match file.write_all(text.as_bytes()).and_then(|()| sync(file)) {
        Ok(()) => Ok(Appended { after_torn_line }),
        Err(error) => {
            // Remove a partly written line. If that fails, too, the next writer finds it incomplete.
            let _ = file.set_len(length);
            Err(error)
        }
    }
}

/// Syncs the file. A pipe or a terminal cannot be synced, and need not be.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_below_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs.jsonl");
        fs::write(&path, "{\"torn\":").unwrap();
        let mut file = OpenOptions::new().read(true).append(true).open(&path).unwrap();
        assert!(append_line(&mut file, "{}").unwrap().after_torn_line);
        assert!(!append_line(&mut file, "{}").unwrap().after_torn_line);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"torn\":\n{}\n{}\n");
    }

    #[test]
    fn a_record_that_cannot_be_made_names_its_path() {
        let error = Record::open(Path::new("/proc/none/runs.jsonl")).unwrap_err();
        assert_eq!(error.to_string(), "failed to open the record /proc/none/runs.jsonl");
    }
}
