//! What a survey found.

use std::path::PathBuf;

use crate::model::rule::Mode;
use crate::model::units::Bytes;

use super::left_out::LeftOut;

/// What was found in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The channel as it was named.
    pub root: PathBuf,
    /// One for each selection, in their order.
    pub totals: Vec<Totals>,
    /// What was not counted.
    pub left_out: LeftOut,
    /// How many folders were read.
    pub folders: u64,
    /// How many threads worked.
    pub threads: usize,
}

/// The sizes that one selection gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many files count.
    pub files: u64,
    /// Their sizes, added up: the n of the mode `sum`.
    pub sum: Bytes,
    /// The largest of them, the first by path where several are: the n of the mode `max_file_size`.
    pub largest_file: Option<File>,
    /// How many items the channel has: its direct sub-folders, with or without files that count.
    pub items: u64,
    /// How many files count for them: with a `target_dir` not those that count for the channel.
    pub item_files: u64,
    /// How many of them have no file that counts.
    pub empty_items: u64,
    /// The ten largest items that have files that count, the largest first. The first is the n of the mode `max_item_sum`.
    pub largest_items: Vec<Item>,
    /// How the sizes are distributed.
    pub histogram: Histogram,
}

impl Totals {
    /// What n comes to in a mode; 0 where no file counts.
    pub fn n(&self, mode: Mode) -> Bytes {
        match mode {
            Mode::Sum => self.sum,
            Mode::MaxFileSize => self.largest_file.as_ref().map_or(Bytes::ZERO, |file| file.size),
            Mode::MaxItemSum => self.largest_item().map_or(Bytes::ZERO, |item| item.sum),
        }
    }

    /// The item with the largest sum, the first by name where several are.
    pub fn largest_item(&self) -> Option<&Item> {
        self.largest_items.first()
    }
}

/// A file that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path below the channel.
    pub path: PathBuf,
    /// Its size: `st_size`, of its target where it is a symbolic link.
    pub size: Bytes,
}

/// A direct sub-folder of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub name: PathBuf,
    /// How many of its files count.
    pub files: u64,
    /// Their sizes, added up.
    pub sum: Bytes,
}

/// How many files there are of which size, in powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The buckets that have files, the smallest sizes first.
    pub buckets: Vec<Bucket>,
}

/// The files of sizes from [`Self::from`] to below [`Self::below`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The smallest size in the bucket: 0 or a power of two.
    pub from: Bytes,
    /// The smallest size that is too large for it; `None` for the last bucket there can be.
    pub below: Option<Bytes>,
    /// How many files.
    pub files: u64,
    /// Their sizes, added up.
    pub sum: Bytes,
}
