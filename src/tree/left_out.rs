//! What a survey did not count, and why.

use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;

use nix::errno::Errno;

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A folder or a file that this user may not read.
    Unreadable,
    /// A file or a folder that was listed and then was gone.
    Vanished,
    /// An item's `target_dir` that leads through a symbolic link out of the channel.
    Outside,
    /// A folder that could not be opened because the process or the machine has too many open files.
    TooManyOpenFiles,
    /// Something the kernel failed to read for another reason.
    Failed,
    /// A symbolic link to a folder: the contract does not enter it.
    LinkedFolder,
    /// A symbolic link to nothing, or to itself.
    DanglingLink,
    /// A FIFO, a socket or a device: the contract counts regular files only.
    Special,
    /// A folder on another file system, when asked to stay on one.
    OtherFileSystem,
}

impl Reason {
    /// What it means that the kernel refused something that it had listed.
    pub(super) fn of(errno: Errno) -> Self {
        match errno {
            Errno::EACCES | Errno::EPERM => Self::Unreadable,
            Errno::ENOENT | Errno::ESTALE => Self::Vanished,
            Errno::EXDEV => Self::Outside,
            Errno::EMFILE | Errno::ENFILE => Self::TooManyOpenFiles,
            _ => Self::Failed,
        }
    }

    /// Whether the sizes may be too small because of it; else it is left out by contract or on request.
    pub const fn is_trouble(self) -> bool {
        match self {
            Self::Unreadable | Self::Vanished | Self::Outside | Self::TooManyOpenFiles | Self::Failed => true,
            Self::LinkedFolder | Self::DanglingLink | Self::Special | Self::OtherFileSystem => false,
        }
    }
}

/// One file or folder that was left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Omission {
    /// Its path below the channel.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// What was left out: all of it counted, the first thousand paths named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The first thousand of each kind, trouble or not, in the order of their paths.
    pub named: Vec<Omission>,
    /// How many there are of each reason.
    pub counts: BTreeMap<Reason, u64>,
}

impl LeftOut {
    /// Whether nothing at all was left out.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many were left out that should have been counted.
    pub fn troubles(&self) -> u64 {
        self.counts.iter().filter(|(reason, _)| reason.is_trouble()).map(|(_, count)| count).sum()
    }

    pub(super) fn summary(&self) -> String {
        let troubles = self.troubles();
        match self.named.iter().find(|omission| omission.reason.is_trouble()) {
            Some(first) if troubles == 1 => format!("{} was skipped", first.path.display()),
            Some(first) => format!("{} and {} more were skipped", first.path.display(), troubles - 1),
            None => format!("{troubles} files or directories were skipped"),
        }
    }
}

/// How many of each kind are named.
const NAMED: usize = 1000;

/// Collects what is left out, in any order.
#[derive(Debug, Default)]
pub(super) struct Collector {
    counts: BTreeMap<Reason, u64>,
    /// The first by path, the last of them on top.
    troubles: BinaryHeap<Omission>,
    others: BinaryHeap<Omission>,
}

impl Collector {
    pub(super) fn add(&mut self, omission: Omission) {
        *self.counts.entry(omission.reason).or_default() += 1;
        let named = if omission.reason.is_trouble() { &mut self.troubles } else { &mut self.others };
        named.push(omission);
        if named.len() > NAMED {
            named.pop();
        }
    }

    pub(super) fn into_left_out(self) -> LeftOut {
        let mut named = self.troubles.into_vec();
        named.extend(self.others);
        named.sort_unstable();
        LeftOut { named, counts: self.counts }
    }
}
