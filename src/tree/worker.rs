//! A thread that reads a channel.

mod count;
mod links;

use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::channel::Channel;
use super::directory::Directory;
use super::excluded::Reason;
use super::items::ItemTally;
use super::kernel::path_buf;
use super::kernel::{self, Access, Entry, Kind};
use super::queue::{Frame, Names, Next, Work};
use super::selection_state::{self, Stage};
use super::tally::{Accumulator, DirectoryTally};

/// The size of a listing: some 800 names.
const LISTING: usize = 32 * 1024;

/// The fewest bytes of names that are worth sharing with another thread.
const WORTH_SHARING: usize = LISTING / 4;

/// How long to wait for work before checking for requests of the caller.
const PATIENCE: Duration = Duration::from_millis(50);

/// A thread with its own sums.
pub(super) struct Worker<'c, F> {
    channel: &'c Channel<'c>,
    /// Called between directories, and between blocks of names of a large one, with the number of names so far.
    between: F,
    /// The way back: directories whose subdirectories are still to be read, the deepest last.
    frames: VecDeque<Frame>,
    /// One for each state of the current directory.
    tallies: Vec<DirectoryTally>,
    /// One for each selection.
    pub(super) sums: Vec<Accumulator>,
    pub(super) directories: u64,
    met: u64,
    listing: Vec<u8>,
    /// The path of the current directory, if a pattern needs it, followed by the name of a file.
    path: Vec<u8>,
    path_length: usize,
    /// The tallies that the current file counts for.
    matched: Vec<usize>,
    name: Vec<u8>,
}

impl<'c, F: FnMut(u64)> Worker<'c, F> {
    pub(super) fn new(channel: &'c Channel<'c>, between: F) -> Self {
        Self {
            channel,
            between,
            frames: VecDeque::new(),
            tallies: Vec::new(),
            sums: channel.selections.iter().map(|_| Accumulator::new()).collect(),
            directories: 0,
            met: 0,
            listing: vec![0; LISTING],
            path: Vec::new(),
            path_length: 0,
            matched: Vec::new(),
            name: Vec::new(),
        }
    }

    /// Works until everything is done or stopped.
    pub(super) fn work(&mut self, mut has_work: bool) {
        loop {
            while !self.frames.is_empty() && !self.channel.is_stopped() {
                self.share();
                self.next_directory();
                (self.between)(self.met);
            }
            if self.channel.is_stopped() {
                self.channel.queue.close();
                return;
            }
            match self.channel.queue.next(has_work, PATIENCE) {
                Next::Work(Work::Frame(frame)) => self.frames.push_back(frame),
                Next::Work(Work::Names { directory, opened, listed }) => self.read_names(directory, opened, &listed),
                Next::Later => {
                    has_work = false;
                    (self.between)(self.met);
                    continue;
                }
                Next::Over => return,
            }
            has_work = true;
        }
    }

    /// Gives half of the work that was postponed first to a waiting thread.
    fn share(&mut self) {
        while self.channel.queue.is_hungry() {
            let is_spare = |&(index, frame): &(usize, &Frame)| frame.names.len() > 1 || index + 1 < self.frames.len();
            let Some((index, _)) = self.frames.iter().enumerate().find(is_spare) else { return };
            let half = self.frames[index].split();
            if self.frames[index].names.len() == 0 {
                self.frames.remove(index);
            }
            self.channel.queue.push(Work::Frame(half));
        }
    }

    /// Opens and reads the next subdirectory of the deepest directory.
    fn next_directory(&mut self) {
        let Some(mut frame) = self.frames.pop_back() else { return };
        let mut name = mem::take(&mut self.name);
        if frame.names.pop(&mut name) {
            let parent = Arc::clone(&frame.directory);
            let opened = frame.opened.take();
            // The last subdirectory needs no way back: a chain of any depth keeps one directory open.
            if frame.names.len() > 0 {
                self.put_off(Frame { opened: opened.clone(), ..frame });
            }
            if let Ok(file) = CStr::from_bytes_with_nul(&name) {
                self.open_subdirectory(&parent, opened, file);
            }
        }
        self.name = name;
    }

    fn open_subdirectory(&mut self, parent: &Arc<Directory>, opened: Option<Arc<OwnedFd>>, file: &CStr) {
        let directory = self.subdirectory(parent, file.to_bytes());
        if directory.states.is_empty() {
            return;
        }
        let access = if is_passed_through(&directory) { Access::Pass } else { Access::List };
        let root = self.channel.root.as_fd();
        let by_path = || directory.reopen(root, access);
        let mut answer = match &opened {
            Some(opened) => kernel::open_directory(opened.as_fd(), file, access, false),
            None => by_path(),
        };
        // Closed before the subdirectory is read unless it is needed elsewhere.
        drop(opened);
        if is_scarcity(&answer) {
            self.channel.become_scarce();
            self.frames.iter_mut().for_each(|frame| frame.opened = None);
            answer = by_path();
        }
        match answer {
            Ok(opened) => self.read(directory, opened),
            Err(_) if is_scarcity(&answer) && self.give_back(parent, file) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => self.exclude_directory(&directory, Reason::Vanished),
            Err(errno) => self.exclude_directory(&directory, Reason::from_errno(errno)),
        }
    }

    /// Leaves a directory that cannot be opened now, and all other work, to the other threads, if any.
    fn give_back(&mut self, parent: &Arc<Directory>, file: &CStr) -> bool {
        let mut names = Names::default();
        names.push(file);
        self.frames.push_back(Frame { directory: Arc::clone(parent), opened: None, names });
        let is_given = self.channel.queue.give_back(&mut self.frames);
        if !is_given {
            self.frames.pop_back();
        }
        is_given
    }

    /// Postpones a directory, and keeps it open only if there are enough descriptors.
    fn put_off(&mut self, mut frame: Frame) {
        if self.channel.is_scarce() {
            frame.opened = None;
        }
        self.frames.push_back(frame);
        if let Some(index) = self.frames.len().checked_sub(self.channel.kept_open + 1) {
            self.frames[index].opened = None;
        }
    }

    fn subdirectory(&self, parent: &Arc<Directory>, name: &[u8]) -> Arc<Directory> {
        let selections = self.channel.selections;
        if parent.is_channel() && self.channel.has_items {
            let states = selection_state::of_item(&parent.states, selections, name, self.channel.inodes.is_none());
            return Directory::below(parent, name, states.into(), Some(ItemTally::new(name, &self.channel.board)));
        }
        let states = if selection_state::stay_the_same(&parent.states, selections, name) {
            Arc::clone(&parent.states)
        } else {
            let base = parent.path_length() + name.len() + 1;
            selection_state::of_subdirectory(&parent.states, selections, name, base).into()
        };
        Directory::below(parent, name, states, None)
    }

    /// Reads an open directory: counts its files and postpones its subdirectories.
    pub(super) fn read(&mut self, directory: Arc<Directory>, opened: OwnedFd) {
        if self.channel.is_elsewhere(opened.as_fd()) {
            return self.exclude_directory(&directory, Reason::OtherFileSystem);
        }
        let opened = Arc::new(opened);
        self.directories += 1;
        self.enter(&directory);
        let mut names = Names::default();
        if is_passed_through(&directory) && !self.needs_listing(&directory) {
            self.seek(&directory, opened.as_fd(), &mut names);
        } else {
            self.list(&directory, &opened, &mut names);
        }
        self.leave(&directory, opened, names);
    }

    /// Whether the subdirectories of a directory have to be known, although no file in it counts.
    fn needs_listing(&self, directory: &Directory) -> bool {
        directory.is_channel() && self.channel.has_items
    }

    fn list(&mut self, directory: &Arc<Directory>, opened: &Arc<OwnedFd>, names: &mut Names) {
        let mut listing = mem::take(&mut self.listing);
        while !self.channel.is_stopped() {
            (self.between)(self.met);
            match kernel::list(opened.as_fd(), &mut listing) {
                Ok(0) => break,
                Ok(length)
                    if length >= WORTH_SHARING && self.channel.queue.is_hungry() && !self.channel.is_scarce() =>
                {
                    let mut listed = mem::replace(&mut listing, vec![0; LISTING]);
                    listed.truncate(length);
                    let (directory, opened) = (Arc::clone(directory), Arc::clone(opened));
                    self.channel.queue.push(Work::Names { directory, opened, listed });
                }
                Ok(length) => self.entries(directory, opened.as_fd(), &listing[..length], names),
                Err(Errno::ENOENT) => break,
                Err(errno) => {
                    self.exclude_directory(directory, Reason::from_errno(errno));
                    break;
                }
            }
        }
        self.listing = listing;
    }

    /// Processes names that another thread listed.
    fn read_names(&mut self, directory: Arc<Directory>, opened: Arc<OwnedFd>, listed: &[u8]) {
        self.enter(&directory);
        let mut names = Names::default();
        self.entries(&directory, opened.as_fd(), listed, &mut names);
        self.leave(&directory, opened, names);
    }

    fn entries(&mut self, directory: &Arc<Directory>, opened: BorrowedFd<'_>, listed: &[u8], names: &mut Names) {
        for entry in kernel::entries(listed) {
            self.met += 1;
            self.entry(directory, opened, entry, names);
        }
    }

    #[inline]
    fn entry(&mut self, directory: &Arc<Directory>, opened: BorrowedFd<'_>, entry: Entry<'_>, names: &mut Names) {
        match entry.kind {
            Kind::Regular => {
                if self.select(directory, entry.name.to_bytes()) {
                    match kernel::stat(opened, entry.name, false) {
                        Ok(stat) if stat.kind == Kind::Regular => self.count(directory, entry.name, stat),
                        Ok(_) => self.exclude(directory, entry.name.to_bytes(), Reason::Vanished),
                        Err(errno) => self.exclude(directory, entry.name.to_bytes(), Reason::from_errno(errno)),
                    }
                }
            }
            Kind::Directory => {
                let name = entry.name.to_bytes();
                if self.needs_listing(directory)
                    || selection_state::wants(&directory.states, self.channel.selections, name)
                {
                    names.push(entry.name);
                }
            }
            Kind::Link => self.link(directory, opened, entry.name),
            Kind::Special => {
                if self.select(directory, entry.name.to_bytes()) {
                    self.exclude(directory, entry.name.to_bytes(), Reason::Special);
                }
            }
            Kind::Unknown => match kernel::stat(opened, entry.name, false) {
                // A second stat is the price of a file system that does not report file types.
                Ok(stat) => self.entry(directory, opened, Entry { kind: stat.kind, ..entry }, names),
                Err(errno) => self.exclude(directory, entry.name.to_bytes(), Reason::from_errno(errno)),
            },
        }
    }

    fn exclude_directory(&self, directory: &Directory, reason: Reason) {
        let mut path = Vec::new();
        directory.write_path(&mut path);
        path.pop();
        self.channel.exclude(path_buf(&path), reason);
    }

    #[cold]
    fn exclude(&self, directory: &Directory, name: &[u8], reason: Reason) {
        self.channel.exclude(path_buf(&directory.path_of(name)), reason);
    }
}

/// Whether no file of a directory counts: a `target_dir` is still to be found in it.
fn is_passed_through(directory: &Directory) -> bool {
    directory.states.iter().all(|state| matches!(state.stage, Stage::Seeking(_)))
}

fn is_scarcity(answer: &Result<OwnedFd, Errno>) -> bool {
    matches!(answer, Err(Errno::EMFILE | Errno::ENFILE))
}
