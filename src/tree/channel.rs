//! What the threads that read one channel share.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, readlink};

use crate::model::units::Bytes;

use super::crew::Queue;
use super::error::TreeError;
use super::items::Board;
use super::kernel::{self, Access, Links, Stat};
use super::left_out::{Collector, Omission, Reason};
use super::options::{Listener, Options, Progress};
use super::selection::Selection;

/// A channel that is being read.
pub(super) struct Channel<'a> {
    /// As it was named.
    pub(super) path: &'a Path,
    pub(super) root: OwnedFd,
    pub(super) selections: &'a [Selection],
    pub(super) queue: Queue,
    pub(super) board: Arc<Board>,
    pub(super) inodes: Option<Inodes>,
    /// Whether any selection asks for the items.
    pub(super) has_items: bool,
    /// How many folders each thread may keep open for coming back to them.
    pub(super) kept_open: usize,
    /// Who wants to know of every file that counts.
    pub(super) counted: Option<&'a Listener<'a>>,
    outside: bool,
    /// The file system to stay on.
    device: Option<u64>,
    is_scarce: AtomicBool,
    is_stopped: AtomicBool,
    cancel: Option<&'a AtomicBool>,
    failure: Mutex<Option<TreeError>>,
    left_out: Mutex<Collector>,
    progress: Option<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    folders: AtomicU64,
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
            left_out: Mutex::new(Collector::default()),
            progress: options.progress.map(|_| Shared::default()),
        })
    }

    /// Which links a `target_dir` may lead through.
    pub(super) fn links(&self) -> Links {
        if self.outside { Links::Anywhere } else { Links::Beneath }
    }

    /// Whether a folder is on a file system that shall not be entered.
    pub(super) fn is_elsewhere(&self, opened: BorrowedFd<'_>) -> bool {
        self.device.is_some_and(|device| kernel::device(opened).is_ok_and(|other| other != device))
    }

    /// From now on nobody keeps folders open for later.
    pub(super) fn become_scarce(&self) {
        self.is_scarce.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_scarce(&self) -> bool {
        self.is_scarce.load(Ordering::Relaxed)
    }

    /// Whether to end early.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.is_cancelled()
    }

    fn is_cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    /// Ends the survey; the first failure is the one that is reported.
    pub(super) fn fail(&self, failure: TreeError) {
        lock(&self.failure).get_or_insert(failure);
        self.stop();
    }

    /// Ends the survey.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.queue.close();
    }

    /// Why the survey ended early, if it did.
    pub(super) fn take_failure(&self) -> Option<TreeError> {
        lock(&self.failure).take().or_else(|| self.is_cancelled().then_some(TreeError::Cancelled))
    }

    pub(super) fn leave_out(&self, path: PathBuf, reason: Reason) {
        lock(&self.left_out).add(Omission { path, reason });
    }

    pub(super) fn collected(&self) -> Collector {
        std::mem::take(&mut lock(&self.left_out))
    }

    /// Says that a folder was read.
    pub(super) fn report(&self, files: u64, bytes: u64) {
        if let Some(shared) = &self.progress {
            shared.folders.fetch_add(1, Ordering::Relaxed);
            shared.files.fetch_add(files, Ordering::Relaxed);
            shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How far the survey is.
    pub(super) fn progress(&self) -> Option<Progress> {
        let shared = self.progress.as_ref()?;
        Some(Progress {
            folders: shared.folders.load(Ordering::Relaxed),
            files: shared.files.load(Ordering::Relaxed),
            bytes: Bytes(shared.bytes.load(Ordering::Relaxed)),
        })
    }
}

/// Opens the channel itself. A slash at the end does not make a link a folder here.
fn open_root(path: &Path, follow: bool) -> Result<OwnedFd, TreeError> {
    let named: PathBuf = path.components().collect();
    let answer = kernel::open_folder(AT_FDCWD, &named, Access::Pass, follow);
    let path = path.to_owned();
    answer.map_err(|errno| match errno {
        Errno::ENOENT => TreeError::Missing { path },
        Errno::ENOTDIR => match readlink(&named) {
            Ok(target) if !follow => TreeError::Link { path, target: target.into() },
            Ok(_) | Err(_) => TreeError::NotAFolder { path },
        },
        errno => TreeError::Unreadable { path, source: io::Error::from(errno) },
    })
}

/// The files that were counted, where each counts once per total.
#[derive(Debug, Default)]
pub(super) struct Inodes(Mutex<HashSet<Counted>>);

/// A file of a total: that of a selection in an item, or in the channel where there is none.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Counted {
    selection: usize,
    item: Option<u64>,
    device: u64,
    inode: u64,
}

impl Inodes {
    /// Whether a file has not been counted yet for a selection, in the item, or in the channel where there is none.
    pub(super) fn is_new(&self, selection: usize, item: Option<u64>, stat: &Stat) -> bool {
        lock(&self.0).insert(Counted { selection, item, device: stat.device, inode: stat.inode })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
