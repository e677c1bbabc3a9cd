//! State shared by the threads that read a channel.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, readlink};

use crate::model::units::Bytes;

use super::error::TreeError;
use super::excluded::{Collector, Exclusion, Reason};
use super::items::Board;
use super::kernel::{self, Access, Links, Stat};
use super::options::{Listener, Options, Progress};
use super::queue::Queue;
use crate::model::selection::Selection;

/// A channel being read.
pub(super) struct Channel<'a> {
    /// As given by the caller.
    pub(super) path: &'a Path,
    pub(super) root: OwnedFd,
    pub(super) selections: &'a [Selection],
    pub(super) queue: Queue,
    pub(super) board: Arc<Board>,
    pub(super) inodes: Option<Inodes>,
    /// Whether any selection needs the items.
    pub(super) has_items: bool,
    /// How many directories each thread may keep open to return to them.
    pub(super) kept_open: usize,
    /// Receives every file that counts.
    pub(super) counted: Option<&'a Listener<'a>>,
    outside: bool,
    /// The file system to stay on, if any.
    device: Option<u64>,
    is_scarce: AtomicBool,
    is_stopped: AtomicBool,
    cancel: Option<&'a AtomicBool>,
    failure: Mutex<Option<TreeError>>,
    excluded: Mutex<Collector>,
    progress: Option<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    directories: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Channel<'a> {
    pub(super) fn open(
        path: &'a Path,
        selections: &'a [Selection],
        options: &Options<'a>,
        kept_open: impl FnOnce(&OwnedFd) -> usize,
    ) -> Result<Self, TreeError> {
        let root = open_root(path, options.outside)?;
        let device = match options.one_file_system.then(|| kernel::device(root.as_fd())).transpose() {
            Ok(device) => device,
            Err(errno) => return Err(TreeError::Unreadable { path: path.to_owned(), source: errno.into() }),
        };
        Ok(Self {
            path,
            kept_open: kept_open(&root),
            root,
            selections,
            queue: Queue::new(),
            board: Board::new(selections.len()),
            inodes: options.count_each_inode_once.then(Inodes::default),
            has_items: selections.iter().any(|selection| selection.items),
            counted: options.counted,
            outside: options.outside,
            device,
            is_scarce: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            cancel: options.cancel,
            failure: Mutex::new(None),
            excluded: Mutex::new(Collector::default()),
            progress: options.progress.map(|_| Shared::default()),
        })
    }

    /// Which links a `target_dir` may go through.
    pub(super) fn links(&self) -> Links {
        if self.outside { Links::Anywhere } else { Links::Beneath }
    }

    /// Whether a directory is on a file system that must not be entered.
    pub(super) fn is_elsewhere(&self, opened: BorrowedFd<'_>) -> bool {
        self.device.is_some_and(|device| kernel::device(opened).is_ok_and(|other| other != device))
    }

    /// From now on no thread keeps directories open for later.
    pub(super) fn become_scarce(&self) {
        self.is_scarce.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_scarce(&self) -> bool {
        self.is_scarce.load(Ordering::Relaxed)
    }

    /// Whether to stop early.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.is_cancelled()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    /// Stops the survey; the first failure is the one that is reported.
    pub(super) fn fail(&self, failure: TreeError) {
        lock(&self.failure).get_or_insert(failure);
        self.stop();
    }

    /// Stops the survey.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.queue.close();
    }

    /// Why the survey stopped early, if it did.
    pub(super) fn take_failure(&self) -> Option<TreeError> {
        lock(&self.failure).take().or_else(|| self.is_cancelled().then_some(TreeError::Cancelled))
    }

    pub(super) fn exclude(&self, path: PathBuf, reason: Reason) {
        lock(&self.excluded).add(Exclusion { path, reason });
    }

    pub(super) fn collected(&self) -> Collector {
        std::mem::take(&mut lock(&self.excluded))
    }

    /// Reports a directory as read.
    pub(super) fn report(&self, files: u64, bytes: u64) {
        if let Some(shared) = &self.progress {
            shared.directories.fetch_add(1, Ordering::Relaxed);
            shared.files.fetch_add(files, Ordering::Relaxed);
            shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// The progress of the survey.
    pub(super) fn progress(&self) -> Option<Progress> {
        let shared = self.progress.as_ref()?;
        Some(Progress {
            directories: shared.directories.load(Ordering::Relaxed),
            files: shared.files.load(Ordering::Relaxed),
            bytes: Bytes(shared.bytes.load(Ordering::Relaxed)),
        })
    }
}

/// Opens the channel itself. A trailing slash does not turn a link into a directory here.
fn open_root(path: &Path, follow: bool) -> Result<OwnedFd, TreeError> {
    let named: PathBuf = path.components().collect();
    let answer = kernel::open_directory(AT_FDCWD, &named, Access::Pass, follow);
    let path = path.to_owned();
    answer.map_err(|errno| match errno {
        Errno::ENOENT => TreeError::Missing { path },
        Errno::ENOTDIR => match readlink(&named) {
            Ok(target) if !follow => TreeError::Link { path, target: target.into() },
            Ok(_) | Err(_) => TreeError::NotADirectory { path },
        },
        errno => TreeError::Unreadable { path, source: io::Error::from(errno) },
    })
}

/// The files counted so far, if each counts once per total.
#[derive(Debug, Default)]
pub(super) struct Inodes(Mutex<HashSet<Counted>>);

/// A file of a total: that of a selection in an item, or in the channel without an item.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted {
    selection: usize,
    item: Option<u64>,
    device: u64,
    inode: u64,
}

impl Inodes {
    /// Whether a file has not been counted yet for a selection, in the item, or in the channel without an item.
    pub(super) fn is_new(&self, selection: usize, item: Option<u64>, stat: &Stat) -> bool {
        lock(&self.0).insert(Counted { selection, item, device: stat.device, inode: stat.inode })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
