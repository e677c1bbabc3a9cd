//! The original of a hard link: whether a task has written to it.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A staged file that is the original itself under another name.
#[derive(Debug)]
pub(super) struct Original {
    original: PathBuf,
    staged: PathBuf,
    state: State,
}

/// What changes when a file is written to or its mode is set. The time of the inode changes with every link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    mode: u32,
    owner: (u32, u32),
}

impl State {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
        })
    }
}

/// What a task has done to a staged file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written to, and with it the original, whose path this is.
    Original(PathBuf),
    /// It was removed or replaced; the original is as it was.
    Staged(PathBuf),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Original(path) => write!(f, "the task has changed its input: {}", path.display()),
            Self::Staged(path) => write!(f, "the task has removed or replaced a file of its input: {}", path.display()),
        }
    }
}

impl Original {
    pub(super) fn of(original: &Path, staged: &Path) -> io::Result<Self> {
        Ok(Self { original: original.to_owned(), staged: staged.to_owned(), state: State::of(staged)? })
    }

    pub(super) fn change(&self) -> Option<Change> {
        match State::of(&self.staged) {
            Ok(state) if state == self.state => None,
            Ok(state) if state.inode == self.state.inode => Some(Change::Original(self.original.clone())),
            Ok(_) | Err(_) => Some(Change::Staged(self.original.clone())),
        }
    }
}
