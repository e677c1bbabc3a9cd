//! The result of a survey.

use std::path::PathBuf;

use crate::model::rule::Mode;
use crate::model::units::Bytes;

use super::excluded::Excluded;

/// The result of surveying a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The channel as given by the caller.
    pub root: PathBuf,
    /// One for each selection, in order.
    pub totals: Vec<Totals>,
    /// What was excluded.
    pub excluded: Excluded,
    /// Number of directories read.
    pub directories: u64,
    /// Number of threads used.
    pub threads: usize,
}

/// The totals of one selection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Number of files that count.
    pub files: u64,
    /// Their total size: the n of the mode `sum`.
    pub sum: Bytes,
    /// The largest of them; of equal ones the first by path: the n of the mode `max_file_size`.
    pub largest_file: Option<File>,
    /// Number of items of the channel: its direct subdirectories, with or without files that count.
    pub items: u64,
    /// Number of files that count for items: with a `target_dir` not those that count for the channel.
    pub item_files: u64,
    /// Number of items without files that count.
    pub empty_items: u64,
    /// The ten largest items with files that count, largest first. The first is the n of the mode `max_item_sum`.
    pub largest_items: Vec<Item>,
    /// The distribution of sizes.
    pub histogram: Histogram,
}

impl Totals {
    /// The n of a mode; 0 if no file counts.
    pub fn n(&self, mode: Mode) -> Bytes {
        match mode {
            Mode::Sum => self.sum,
            Mode::MaxFileSize => self.largest_file.as_ref().map_or(Bytes::ZERO, |file| file.size),
            Mode::MaxItemSum => self.largest_item().map_or(Bytes::ZERO, |item| item.sum),
        }
    }

    /// The item with the largest sum; of equal ones the first by name.
    pub fn largest_item(&self) -> Option<&Item> {
        self.largest_items.first()
    }
}

/// A file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path relative to the channel.
    pub path: PathBuf,
    /// Its size: `st_size`, of its target if it is a symbolic link.
    pub size: Bytes,
}

/// A direct subdirectory of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: PathBuf,
    /// Number of its files that count.
    pub files: u64,
    /// Their total size.
    pub sum: Bytes,
}

/// Numbers of files by size, in powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The non-empty buckets, smallest sizes first.
    pub buckets: Vec<Bucket>,
}

/// The files of sizes from [`Self::from`] to below [`Self::below`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The smallest size in the bucket: 0 or a power of two.
    pub from: Bytes,
    /// The exclusive upper bound of its sizes; `None` for the last possible bucket.
    pub below: Option<Bytes>,
    /// Number of files.
    pub files: u64,
    /// Their total size.
    pub sum: Bytes,
}
