//! Reading a channel from its beginning to its end.

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
use super::error::TreeError;
use super::folder::Folder;
use super::kernel::{self, Access};
use super::options::Options;
use super::selection::Selection;
use super::tally::Sums;
use super::totals::{Survey, Totals};
use super::watch;
use super::worker::Worker;

/// After so many names it is likely that another thread will pay: about a millisecond of work.
const WORTH_A_THREAD: u64 = 1000;

/// The most threads without being asked for more: beyond it the kernel's own locks take the gain.
const MOST_THREADS: usize = 8;

/// The most folders one thread keeps open for coming back to them.
const MOST_KEPT_OPEN: usize = 64;

/// How often the caller is told how far it is.
const NEWS: Duration = Duration::from_millis(100);

/// A walk needs little stack: the way back is on the heap.
const STACK: usize = 512 * 1024;

/// Reads the channel `root` once and adds up what each selection counts.
///
/// Semantics are those of [`Selection`]; symbolic links to folders are not entered, those to files count with their
/// target's size, hidden files count, a hard link counts each time.
///
/// # Errors
/// When the channel cannot be read at all, when a regex gives up, when it is cancelled, and, where it is strict, when
/// anything was left out that should have been counted. Otherwise single unreadable or vanished files are listed in
/// [`Survey::left_out`].
pub fn survey(root: &Path, selections: &[Selection], options: &Options<'_>) -> Result<Survey, TreeError> {
    let mut threads =
        options.threads.or_else(|| thread::available_parallelism().ok().map(most)).map_or(1, NonZeroUsize::get);
    let channel = Channel::open(root, selections, options, |root| descriptors(root, &mut threads))?;
    let root_folder = Folder::channel(watch::of_channel(selections));
    let opened = kernel::open_folder(channel.root.as_fd(), c".", Access::List, false)
        .map_err(|errno| TreeError::Unreadable { path: root.to_owned(), source: errno.into() })?;

    let crew = Crew { channel: &channel, threads, done: Mutex::new(Vec::new()) };
    let threads = thread::scope(|scope| {
        let mut working = 1;
        let mut told = Instant::now();
        let mut me = Worker::new(&channel, |met| {
            if working == 1 && threads > 1 && met > WORTH_A_THREAD {
                working = crew.hire(scope);
            }
            if let Some(tell) = options.progress.filter(|_| told.elapsed() >= NEWS) {
                told = Instant::now();
                channel.progress().into_iter().for_each(tell);
            }
        });
        me.read(root_folder, opened);
        me.work(true);
        crew.hand_in(me);
        working
    });
    let done = crew.done.into_inner().unwrap_or_default();
    conclude(&channel, done, options.strict, threads)
}

fn most(available: NonZeroUsize) -> NonZeroUsize {
    NonZeroUsize::new(MOST_THREADS).map_or(available, |most| available.min(most))
}

/// How many folders each thread may keep open; fewer threads where descriptors are few.
fn descriptors(root: &OwnedFd, threads: &mut usize) -> usize {
    // The kernel hands out the lowest free number: those below are taken.
    let taken = u64::try_from(root.as_raw_fd()).unwrap_or(0) + 1;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    let free = usize::try_from(limit.saturating_sub(taken)).unwrap_or(usize::MAX);
    // Each thread has a folder open that it reads, one that it comes from, and for a moment a third.
    *threads = (*threads).min(free / 8).max(1);
    (free / *threads / 2).saturating_sub(3).min(MOST_KEPT_OPEN)
}

/// The threads on a channel.
struct Crew<'c> {
    channel: &'c Channel<'c>,
    threads: usize,
    done: Mutex<Vec<Done>>,
}

/// What a thread has to show at the end.
struct Done {
    sums: Vec<Sums>,
    folders: u64,
}

impl<'c> Crew<'c> {
    /// Starts the other threads; says how many there are then.
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
        let Worker { sums, folders, .. } = worker;
        lock(&self.done).push(Done { sums, folders });
    }
}

/// Sends the others home when a thread panics: they would wait for it for ever.
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
    let left_out = channel.collected().into_left_out();
    if strict && left_out.troubles() > 0 {
        return Err(TreeError::Incomplete(left_out));
    }
    let mut sums: Vec<Sums> = channel.selections.iter().map(|_| Sums::new()).collect();
    let mut folders = 0;
    for part in done {
        folders += part.folders;
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
    Ok(Survey { root: channel.path.to_owned(), totals: totals.collect(), left_out, folders, threads })
}
