//! The totals of items, while and after their files are counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::units::Bytes;

use super::kernel::path_buf;
use super::totals::Item;

/// How many of the largest items are stored.
const KEPT: usize = 10;

/// The files of one item that were counted so far, by any thread.
///
/// Every directory of the item holds a reference: when the last one is dropped, the item is added to the board.
#[derive(Debug)]
pub(super) struct ItemTally {
    /// Distinguishes items, even after one of them is gone.
    pub(super) id: u64,
    name: Box<[u8]>,
    /// One for each selection.
    sums: Box<[ItemSum]>,
    board: Arc<Board>,
}

#[derive(Debug, Default)]
struct ItemSum {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl ItemTally {
    pub(super) fn new(name: &[u8], board: &Arc<Board>) -> Arc<Self> {
        let id = board.named.fetch_add(1, Ordering::Relaxed);
        let sums = (0..board.selections).map(|_| ItemSum::default()).collect();
        Arc::new(Self { id, name: name.into(), sums, board: Arc::clone(board) })
    }

    pub(super) fn add(&self, selection: usize, files: u64, bytes: u64) {
        let sum = &self.sums[selection];
        sum.files.fetch_add(files, Ordering::Relaxed);
        if sum.bytes.fetch_add(bytes, Ordering::Relaxed).checked_add(bytes).is_none() {
            self.board.overflowed.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for ItemTally {
    fn drop(&mut self) {
        let mut podiums = self.board.podiums();
        for (podium, sum) in podiums.iter_mut().zip(&mut self.sums) {
            podium.enter(&self.name, *sum.files.get_mut(), *sum.bytes.get_mut());
        }
    }
}

/// Collects finished items.
#[derive(Debug)]
pub(super) struct Board {
    selections: usize,
    named: AtomicU64,
    podiums: Mutex<Vec<Podium>>,
    /// Whether the size of an item overflowed.
    pub(super) overflowed: AtomicBool,
}

/// The statistics of the items of one selection.
#[derive(Clone, Debug, Default)]
pub(super) struct Podium {
    pub(super) items: u64,
    pub(super) files: u64,
    pub(super) empty: u64,
    /// The largest first; of equal ones the first by name.
    pub(super) largest: Vec<Item>,
}

impl Board {
    pub(super) fn new(selections: usize) -> Arc<Self> {
        Arc::new(Self {
            selections,
            named: AtomicU64::new(0),
            podiums: Mutex::new(vec![Podium::default(); selections]),
            overflowed: AtomicBool::new(false),
        })
    }

    pub(super) fn podiums(&self) -> MutexGuard<'_, Vec<Podium>> {
        self.podiums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Podium {
    fn enter(&mut self, name: &[u8], files: u64, bytes: u64) {
        self.items += 1;
        self.files += files;
        if files == 0 {
            self.empty += 1;
            return;
        }
        if self.largest.len() == KEPT && self.largest.last().is_some_and(|last| last.sum.0 > bytes) {
            return;
        }
        let item = Item { name: path_buf(name), files, sum: Bytes(bytes) };
        let place = self.largest.partition_point(|other| {
            (std::cmp::Reverse(other.sum), &other.name) < (std::cmp::Reverse(item.sum), &item.name)
        });
        self.largest.insert(place, item);
        self.largest.truncate(KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_items_come_first_and_equal_ones_by_name() {
        let mut podium = Podium::default();
        for (name, bytes) in [("c", 5), ("a", 5), ("b", 9), ("d", 1)] {
            podium.enter(name.as_bytes(), 1, bytes);
        }
        podium.enter(b"e", 0, 0);
        let names: Vec<_> = podium.largest.iter().map(|item| item.name.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["b", "a", "c", "d"]);
        assert_eq!((podium.items, podium.empty), (5, 1));
    }

    #[test]
    fn an_item_is_entered_when_nothing_holds_on_to_it() {
        let board = Board::new(1);
        let item = ItemTally::new(b"p1", &board);
        let other = Arc::clone(&item);
        item.add(0, 2, 7);
        drop(item);
        assert_eq!(board.podiums()[0].items, 0);
        drop(other);
        assert_eq!(board.podiums()[0].largest[0].sum, Bytes(7));
    }
}
