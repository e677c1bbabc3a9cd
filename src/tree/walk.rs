//! Reads a whole channel.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};

use crate::model::units::Bytes;

use super::channel::{Channel, lock};
use super::directory::Directory;
use super::error::TreeError;
use super::kernel::{self, Access};
use super::options::Options;
use super::selection_state;
use super::tally::Accumulator;
use super::totals::{Survey, Totals};
use super::worker::Worker;
use crate::model::selection::Selection;

/// After this many names another thread is likely to pay off: about a millisecond of work.
const WORTH_A_THREAD: u64 = 1000;

/// The most threads by default: beyond it the kernel's own locks eat the gain.
const MOST_THREADS: usize = 8;

/// The most directories that a thread keeps open to return to them.
const MOST_KEPT_OPEN: usize = 64;

/// How often to report progress to the caller.
const NEWS: Duration = Duration::from_millis(100);

/// A walk needs little stack: the way back is on the heap.
const STACK: usize = 512 * 1024;

/// Reads the channel `root` once and sums up what each selection counts.
///
/// Semantics are those of [`Selection`]; a symbolic link to a directory is followed only where a component of the glob other
/// than `**` matches its name, as in `ct/*.dcm`, and as an item if it leads to a directory of the channel; one to a file counts with its target's size, hidden files count, a hard link counts each time.
///
/// # Errors
/// If the channel cannot be read at all, if a regex exceeds its backtracking limit, if it is cancelled, and, if it is
/// strict, if anything was excluded that should have been counted. Otherwise single unreadable or vanished files are
/// listed in [`Survey::excluded`].
pub fn survey(root: &Path, selections: &[Selection], options: &Options<'_>) -> Result<Survey, TreeError> {
    let mut threads =
        options.threads.or_else(|| thread::available_parallelism().ok().map(most)).map_or(1, NonZeroUsize::get);
    let channel = Channel::open(root, selections, options, |root| descriptors(root, &mut threads))?;
    let root_directory = Directory::channel(selection_state::of_channel(selections));
    let opened = kernel::open_directory(channel.root.as_fd(), c".", Access::List, false)
        .map_err(|errno| TreeError::Unreadable { path: root.to_owned(), source: errno.into() })?;

    let pool = WorkPool { channel: &channel, threads, done: Mutex::new(Vec::new()) };
    let threads = thread::scope(|scope| {
        let mut working = 1;
        let mut reported = Instant::now();
        let mut me = Worker::new(&channel, |met| {
            if working == 1 && threads > 1 && met > WORTH_A_THREAD {
                working = pool.hire(scope);
            }
            if let Some(callback) = options.progress.filter(|_| reported.elapsed() >= NEWS) {
                reported = Instant::now();
                channel.progress().into_iter().for_each(callback);
            }
        });
        me.read(root_directory, opened);
        me.work(true);
        pool.hand_in(me);
        working
    });
    let done = pool.done.into_inner().unwrap_or_default();
    conclude(&channel, done, options.strict, threads)
}

fn most(available: NonZeroUsize) -> NonZeroUsize {
    NonZeroUsize::new(MOST_THREADS).map_or(available, |most| available.min(most))
}

/// How many directories each thread may keep open; reduces the number of threads if descriptors are scarce.
fn descriptors(root: &OwnedFd, threads: &mut usize) -> usize {
    // The kernel uses the lowest free number: those below are taken.
    let taken = u64::try_from(root.as_raw_fd()).unwrap_or(0) + 1;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    let free = usize::try_from(limit.saturating_sub(taken)).unwrap_or(usize::MAX);
    // Each thread has the current directory open, its parent, and briefly a third.
    *threads = (*threads).min(free / 8).max(1);
    (free / *threads / 2).saturating_sub(3).min(MOST_KEPT_OPEN)
}

/// The threads on a channel.
struct WorkPool<'c> {
    channel: &'c Channel<'c>,
    threads: usize,
    done: Mutex<Vec<Done>>,
}

/// The result of a thread.
struct Done {
    sums: Vec<Accumulator>,
    directories: u64,
}

impl<'c> WorkPool<'c> {
    /// Starts the other threads; returns the total number.
    fn hire<'s>(&'s self, scope: &'s thread::Scope<'s, '_>) -> usize {
        self.channel.queue.open(self.threads);
        let start = |_: &usize| {
            let name = "survey".to_owned();
            let started = thread::Builder::new().name(name).stack_size(STACK).spawn_scoped(scope, || {
                let _alarm = Alarm(self.channel);
                let mut worker = Worker::new(self.channel, |_| {});
                worker.work(false);
                self.hand_in(worker);
            });
            // With fewer threads it only takes longer.
            started.is_ok()
        };
        1 + (1..self.threads).filter(start).count()
    }

    fn hand_in<F>(&self, worker: Worker<'_, F>) {
        let Worker { sums, directories, .. } = worker;
        lock(&self.done).push(Done { sums, directories });
    }
}

/// Stops the other threads if one panics: they would wait for it for ever.
struct Alarm<'c>(&'c Channel<'c>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

fn conclude(channel: &Channel<'_>, done: Vec<Done>, strict: bool, threads: usize) -> Result<Survey, TreeError> {
    if let Some(failure) = channel.take_failure() {
        return Err(failure);
    }
    let excluded = channel.collected().into_excluded();
    if strict && excluded.troubles() > 0 {
        return Err(TreeError::Incomplete(excluded));
    }
    let mut sums: Vec<Accumulator> = channel.selections.iter().map(|_| Accumulator::new()).collect();
    let mut directories = 0;
    for part in done {
        directories += part.directories;
        sums.iter_mut().zip(part.sums).for_each(|(sum, part)| sum.merge(part));
    }
    let overflowed = channel.board.overflowed.load(Ordering::Relaxed);
    if overflowed || sums.iter().any(|sums| sums.overflowed) {
        return Err(TreeError::Overflow { path: channel.path.to_owned() });
    }
    let podiums = std::mem::take(&mut *channel.board.podiums());
    let totals = sums.iter().zip(podiums).zip(channel.selections).map(|((sums, podium), selection)| Totals {
        files: sums.files,
        sum: Bytes(sums.bytes),
        largest_file: sums.largest_file(),
        items: if selection.items { podium.items } else { 0 },
        item_files: podium.files,
        empty_items: if selection.items { podium.empty } else { 0 },
        largest_items: podium.largest,
        histogram: sums.histogram(),
    });
    Ok(Survey { root: channel.path.to_owned(), totals: totals.collect(), excluded, directories, threads })
}
