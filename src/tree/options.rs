//! Options for surveying a channel.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::model::units::Bytes;

/// Options for surveying a channel.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The most threads; by default one per CPU this process may use. A small tree uses only the caller's.
    pub threads: Option<NonZeroUsize>,
    /// Whether to fail if something was excluded that should have been counted: an unreadable directory, a vanished
    /// file.
    pub strict: bool,
    /// Whether to count a file with several hard links once per total; the contract counts every link.
    pub count_each_inode_once: bool,
    /// Whether to stay on the file system of the channel; the contract crosses mount points.
    pub one_file_system: bool,
    /// Whether to follow a channel that is itself a symbolic link, and a `target_dir` that goes through one out of the
    /// channel.
    pub outside: bool,
    /// Receives the progress on the calling thread, about ten times a second.
    pub progress: Option<&'a (dyn Fn(Progress) + 'a)>,
    /// Receives every file that counts, on any thread and in any order.
    pub counted: Option<&'a Listener<'a>>,
    /// Stops the survey with [`TreeError::Cancelled`](super::TreeError::Cancelled) soon after it becomes true.
    pub cancel: Option<&'a AtomicBool>,
}

/// A callback for every file that counts.
pub type Listener<'a> = dyn Fn(Counted<'_>) + Sync + 'a;

/// A file that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// The index of the selection that it counts for.
    pub selection: usize,
    /// Its path relative to the channel.
    pub path: &'a Path,
    /// Its size.
    pub size: Bytes,
    /// Whether it counts for the channel: for the modes `sum` and `max_file_size`.
    pub for_channel: bool,
    /// Whether it counts for the item it belongs to: for the mode `max_item_sum`.
    pub for_item: bool,
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("threads", &self.threads)
            .field("strict", &self.strict)
            .field("count_each_inode_once", &self.count_each_inode_once)
            .field("one_file_system", &self.one_file_system)
            .field("outside", &self.outside)
            .finish_non_exhaustive()
    }
}

/// The progress of a survey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Directories read so far.
    pub directories: u64,
    /// Files counted so far, by any selection.
    pub files: u64,
    /// Their total size.
    pub bytes: Bytes,
}
