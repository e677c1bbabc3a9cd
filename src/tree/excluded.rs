//! What a survey excluded, and why.

use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;

use nix::errno::Errno;

/// Why something was excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A directory or a file that this user may not read.
    Unreadable,
    /// A file or a directory that disappeared after it was listed.
    Vanished,
    /// An item's `target_dir` that goes through a symbolic link out of the channel.
    Outside,
    /// A directory that could not be opened because the process or the machine has too many open files.
    TooManyOpenFiles,
    /// The kernel failed to read it for another reason.
    Failed,
    /// A symbolic link to a directory: the contract does not enter it.
    LinkedFolder,
    /// A symbolic link to nothing, or to itself.
    DanglingLink,
    /// A FIFO, a socket or a device: the contract counts regular files only.
    Special,
    /// A directory on another file system, with the option to stay on one.
    OtherFileSystem,
}

impl Reason {
    /// The reason for an error of the kernel about something that it had listed.
    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::EACCES | Errno::EPERM => Self::Unreadable,
            Errno::ENOENT | Errno::ESTALE => Self::Vanished,
            Errno::EXDEV => Self::Outside,
            Errno::EMFILE | Errno::ENFILE => Self::TooManyOpenFiles,
            _ => Self::Failed,
        }
    }

    /// Whether the sizes may be too small because of it; otherwise it is excluded by contract or on request.
    pub const fn is_trouble(self) -> bool {
        match self {
            Self::Unreadable | Self::Vanished | Self::Outside | Self::TooManyOpenFiles | Self::Failed => true,
            Self::LinkedFolder | Self::DanglingLink | Self::Special | Self::OtherFileSystem => false,
        }
    }
}

/// A file or directory that was excluded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exclusion {
    /// Its path relative to the channel.
    pub path: PathBuf,
    /// The reason.
    pub reason: Reason,
}

/// What was excluded: all of it counted, the first thousand paths named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded {
    /// The first thousand of each kind, trouble or not, sorted by path.
    pub named: Vec<Exclusion>,
    /// The number for each reason.
    pub counts: BTreeMap<Reason, u64>,
}

impl Excluded {
    /// Whether nothing was excluded.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The number of excluded files and directories that should have been counted.
    pub fn troubles(&self) -> u64 {
        self.counts.iter().filter(|(reason, _)| reason.is_trouble()).map(|(_, count)| count).sum()
    }

    pub(super) fn summary(&self) -> String {
        let troubles = self.troubles();
        match self.named.iter().find(|exclusion| exclusion.reason.is_trouble()) {
            Some(first) if troubles == 1 => format!("{} was skipped", first.path.display()),
            Some(first) => format!("{} and {} more were skipped", first.path.display(), troubles - 1),
            None => format!("{troubles} files or directories were skipped"),
        }
    }
}

/// The most named exclusions of each kind.
const NAMED: usize = 1000;

/// Collects exclusions, in any order.
#[derive(Debug, Default)]
pub(super) struct Collector {
    counts: BTreeMap<Reason, u64>,
    /// The first by path, with the last of them on top.
    troubles: BinaryHeap<Exclusion>,
    others: BinaryHeap<Exclusion>,
}

impl Collector {
    pub(super) fn add(&mut self, exclusion: Exclusion) {
        *self.counts.entry(exclusion.reason).or_default() += 1;
        let named = if exclusion.reason.is_trouble() { &mut self.troubles } else { &mut self.others };
        named.push(exclusion);
        if named.len() > NAMED {
            named.pop();
        }
    }

    pub(super) fn into_excluded(self) -> Excluded {
        let mut named = self.troubles.into_vec();
        named.extend(self.others);
        named.sort_unstable();
        Excluded { named, counts: self.counts }
    }
}
