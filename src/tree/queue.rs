//! Distributes the work on a channel over threads.
//!
//! Each thread goes depth first through directories of its own. While fewer work items are waiting than there are
//! threads, it gives some away: a block of names of a large directory, or half of the directories it postponed first.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::directory::Directory;

/// Work for any thread.
#[derive(Debug)]
pub(super) enum Work {
    /// Names of a large directory, as listed by the kernel.
    Names { directory: Arc<Directory>, opened: Arc<OwnedFd>, listed: Vec<u8> },
    /// Subdirectories of a directory.
    Frame(Frame),
}

/// Subdirectories that are still to be read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) directory: Arc<Directory>,
    /// The open directory, unless it had to be closed in the meantime.
    pub(super) opened: Option<Arc<OwnedFd>>,
    pub(super) names: Names,
}

/// Names in one block of memory, taken from the end.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Each terminated by a NUL.
    bytes: Vec<u8>,
    count: usize,
}

impl Names {
    pub(super) fn push(&mut self, name: &std::ffi::CStr) {
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.count += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Moves the last name, with its NUL, to `name`.
    pub(super) fn pop(&mut self, name: &mut Vec<u8>) -> bool {
        name.clear();
        if self.count == 0 {
            return false;
        }
        let start = self.start_of_last();
        name.extend_from_slice(&self.bytes[start..]);
        self.bytes.truncate(start);
        self.count -= 1;
        true
    }

    /// Takes about half of the names: at least one, and leaves at least one if there are two.
    fn split(&mut self) -> Self {
        let after_nul =
            |bytes: &[u8], from: usize| bytes.get(from..)?.iter().position(|&byte| byte == 0).map(|nul| from + nul + 1);
        let middle =
            after_nul(&self.bytes, self.bytes.len().saturating_sub(1) / 2).filter(|&middle| middle < self.bytes.len());
        let start = middle.unwrap_or_else(|| self.start_of_last());
        let bytes = self.bytes.split_off(start);
        let count = bytes.iter().filter(|&&byte| byte == 0).count();
        self.count -= count;
        self.bytes.shrink_to_fit();
        Self { bytes, count }
    }

    fn start_of_last(&self) -> usize {
        let before = &self.bytes[..self.bytes.len().saturating_sub(1)];
        before.iter().rposition(|&byte| byte == 0).map_or(0, |nul| nul + 1)
    }
}

impl Frame {
    /// Takes about half of the subdirectories for another thread.
    pub(super) fn split(&mut self) -> Self {
        Self { directory: Arc::clone(&self.directory), opened: self.opened.clone(), names: self.names.split() }
    }
}

/// The waiting work, and the number of working threads.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// The most work items that may wait; 0 while one thread works alone.
    capacity: AtomicUsize,
    /// The number of waiting items, readable without the lock.
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct State {
    work: VecDeque<Work>,
    /// Number of threads that have work.
    working: usize,
    is_over: bool,
}

/// The answer to a thread that requests work.
#[derive(Debug)]
pub(super) enum Next {
    Work(Work),
    /// Nothing yet.
    Later,
    /// There is no more work.
    Over,
}

impl Queue {
    /// Creates a queue for a single thread, which already works.
    pub(super) fn new() -> Self {
        let state = State { work: VecDeque::new(), working: 1, is_over: false };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            capacity: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether a thread should give away more work.
    #[inline]
    pub(super) fn is_hungry(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < self.capacity.load(Ordering::Relaxed)
    }

    /// Opens the queue for this many threads, one of which already works.
    pub(super) fn open(&self, threads: usize) {
        self.capacity.store(threads, Ordering::Relaxed);
    }

    pub(super) fn push(&self, work: Work) {
        let mut state = self.state();
        state.work.push_back(work);
        self.waiting.store(state.work.len(), Ordering::Relaxed);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes work for a thread that `has_worked` until now; waits at most for this time.
    pub(super) fn next(&self, has_worked: bool, patience: Duration) -> Next {
        let mut state = self.state();
        if has_worked {
            state.working -= 1;
        }
        if state.work.is_empty() && state.working > 0 && !state.is_over {
            state = self.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_over {
            return Next::Over;
        }
        if let Some(work) = state.work.pop_front() {
            self.waiting.store(state.work.len(), Ordering::Relaxed);
            state.working += 1;
            return Next::Work(work);
        }
        if state.working > 0 {
            return Next::Later;
        }
        state.is_over = true;
        self.changed.notify_all();
        Next::Over
    }

    /// Gives back all work of a thread that cannot continue, unless it is the last working one, and waits a moment.
    pub(super) fn give_back(&self, work: &mut VecDeque<Frame>) -> bool {
        let mut state = self.state();
        if state.working < 2 {
            return false;
        }
        state.work.extend(work.drain(..).map(Work::Frame));
        self.waiting.store(state.work.len(), Ordering::Relaxed);
        let _waited = self.changed.wait_timeout(state, Duration::from_millis(1));
        true
    }

    /// Ends all threads, whatever work is left.
    pub(super) fn close(&self) {
        self.state().is_over = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&std::ffi::CStr]) -> Names {
        let mut names = Names::default();
        of.iter().for_each(|name| names.push(name));
        names
    }

    fn drain(mut names: Names) -> Vec<String> {
        let mut name = Vec::new();
        let mut all = Vec::new();
        while names.pop(&mut name) {
            all.push(String::from_utf8_lossy(&name[..name.len() - 1]).into_owned());
        }
        all
    }

    #[test]
    fn names_come_back_from_the_end() {
        assert_eq!(drain(names(&[c"a", c"bc", c"d"])), ["d", "bc", "a"]);
        assert!(drain(Names::default()).is_empty());
    }

    #[test]
    fn half_of_the_names_can_be_given_away() {
        for (all, kept, given) in [
            (names(&[c"a", c"b", c"c", c"d"]), vec!["b", "a"], vec!["d", "c"]),
            (names(&[c"a name that is long", c"b"]), vec!["a name that is long"], vec!["b"]),
            (names(&[c"a", c"a name that is long"]), vec!["a"], vec!["a name that is long"]),
            (names(&[c"a", c"a name that is long", c"c"]), vec!["a name that is long", "a"], vec!["c"]),
            (names(&[c"only"]), vec![], vec!["only"]),
        ] {
            let mut rest = all;
            let half = rest.split();
            assert_eq!((rest.len(), half.len()), (kept.len(), given.len()));
            assert_eq!(
                (drain(rest), drain(half)),
                (kept.iter().map(ToString::to_string).collect(), given.iter().map(ToString::to_string).collect())
            );
        }
    }

    #[test]
    fn the_last_thread_ends_it() {
        let queue = Queue::new();
        assert!(!queue.is_hungry());
        assert!(matches!(queue.next(true, Duration::ZERO), Next::Over));
    }
}
