//! Accumulator up sizes: per directory first, then per thread, then in total.

use std::cmp::Ordering;

use crate::model::units::Bytes;

use super::kernel::path_buf;
use super::selection_state::{Scope, SelectionState};
use super::totals::{Bucket, File, Histogram};

/// What one selection counted in the current directory.
#[derive(Debug)]
pub(super) struct DirectoryTally {
    pub(super) selection: usize,
    pub(super) scope: Scope,
    pub(super) files: u64,
    pub(super) bytes: u64,
    has_largest: bool,
    largest: u64,
    largest_name: Vec<u8>,
    pub(super) overflowed: bool,
}

impl DirectoryTally {
    pub(super) fn new(state: &SelectionState) -> Self {
        Self {
            selection: state.selection,
            scope: state.scope,
            files: 0,
            bytes: 0,
            has_largest: false,
            largest: 0,
            largest_name: Vec::new(),
            overflowed: false,
        }
    }

    /// Resets it for another directory.
    pub(super) fn reset(&mut self, state: &SelectionState) {
        (self.selection, self.scope) = (state.selection, state.scope);
        (self.files, self.bytes, self.has_largest) = (0, 0, false);
    }

    #[inline]
    pub(super) fn add(&mut self, size: u64) {
        self.files += 1;
        let (sum, overflowed) = self.bytes.overflowing_add(size);
        self.bytes = sum;
        self.overflowed |= overflowed;
    }

    /// Remembers the file if none before was larger, or equally large with a smaller name.
    #[inline]
    pub(super) fn offer(&mut self, size: u64, name: &[u8]) {
        let is_better = match size.cmp(&self.largest) {
            Ordering::Greater => true,
            Ordering::Equal => !self.has_largest || name < self.largest_name.as_slice(),
            Ordering::Less => !self.has_largest,
        };
        if is_better {
            (self.has_largest, self.largest) = (true, size);
            self.largest_name.clear();
            self.largest_name.extend_from_slice(name);
        }
    }

    pub(super) fn largest(&self) -> Option<(u64, &[u8])> {
        self.has_largest.then_some((self.largest, &self.largest_name))
    }
}

/// What one thread, and in the end all of them, counted for one selection.
#[derive(Debug)]
pub(super) struct Accumulator {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) overflowed: bool,
    /// Size and path.
    largest: Option<(u64, Vec<u8>)>,
    /// Number and total size of files by the number of binary digits of the size.
    histogram: Box<[(u64, u64); 65]>,
}

impl Accumulator {
    pub(super) fn new() -> Self {
        Self { files: 0, bytes: 0, overflowed: false, largest: None, histogram: Box::new([(0, 0); 65]) }
    }

    #[inline]
    pub(super) fn sort_in(&mut self, size: u64) {
        let bucket = &mut self.histogram[(u64::BITS - size.leading_zeros()) as usize];
        // If these overflow, so does the sum.
        *bucket = (bucket.0 + 1, bucket.1.wrapping_add(size));
    }

    pub(super) fn add(&mut self, files: u64, bytes: u64) {
        self.files += files;
        let (sum, overflowed) = self.bytes.overflowing_add(bytes);
        self.bytes = sum;
        self.overflowed |= overflowed;
    }

    /// Remembers a file if none before was larger, or equally large with a smaller path. The path is computed only
    /// then.
    pub(super) fn offer(&mut self, size: u64, path: impl FnOnce() -> Vec<u8>) {
        match &mut self.largest {
            Some((largest, _)) if size < *largest => {}
            Some((largest, known)) if size == *largest => {
                let path = path();
                if path < *known {
                    *known = path;
                }
            }
            largest => *largest = Some((size, path())),
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.add(other.files, other.bytes);
        self.overflowed |= other.overflowed;
        if let Some((size, path)) = other.largest {
            self.offer(size, || path);
        }
        for (mine, theirs) in self.histogram.iter_mut().zip(*other.histogram) {
            *mine = (mine.0 + theirs.0, mine.1.wrapping_add(theirs.1));
        }
    }

    pub(super) fn largest_file(&self) -> Option<File> {
        let (size, path) = self.largest.as_ref()?;
        Some(File { path: path_buf(path), size: Bytes(*size) })
    }

    pub(super) fn histogram(&self) -> Histogram {
        let power = |digits: usize| u32::try_from(digits).ok().and_then(|digits| 1u64.checked_shl(digits)).map(Bytes);
        let buckets = self.histogram.iter().enumerate().filter(|(_, (files, _))| *files > 0);
        let buckets = buckets.map(|(digits, &(files, bytes))| Bucket {
            from: digits.checked_sub(1).and_then(power).unwrap_or(Bytes::ZERO),
            below: power(digits),
            files,
            sum: Bytes(bytes),
        });
        Histogram { buckets: buckets.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_has_a_bucket_per_power_of_two() {
        let mut sums = Accumulator::new();
        for size in [0, 1, 2, 3, 4, u64::MAX] {
            sums.sort_in(size);
        }
        let buckets: Vec<_> =
            sums.histogram().buckets.iter().map(|b| (b.from.0, b.below.map(|b| b.0), b.files)).collect();
        assert_eq!(buckets, [(0, Some(1), 1), (1, Some(2), 1), (2, Some(4), 2), (4, Some(8), 1), (1 << 63, None, 1)]);
    }

    #[test]
    fn of_equally_large_files_the_first_by_path_is_the_largest() {
        let mut sums = Accumulator::new();
        for (size, path) in [(5, "b/x"), (5, "a/z"), (5, "a/y"), (4, "a/a")] {
            sums.offer(size, || path.into());
        }
        assert_eq!(sums.largest_file().map(|file| file.path), Some("a/y".into()));
    }
}
