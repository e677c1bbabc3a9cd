//! One thread on its way through a channel.

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
use super::crew::{Frame, Names, Next, Work};
use super::folder::{Folder, path_buf};
use super::items::ItemTally;
use super::kernel::{self, Access, Entry, Kind};
use super::left_out::Reason;
use super::tally::{Lane, Sums};
use super::watch::{self, Stage};

/// The bytes of names that are asked for at a time: some 800 names.
const LISTING: usize = 32 * 1024;

/// The fewest bytes of names that are worth another thread's time.
const WORTH_SHARING: usize = LISTING / 4;

/// How long to wait for work before looking whether the caller wants to know something.
const PATIENCE: Duration = Duration::from_millis(50);

/// A thread with its own sums.
pub(super) struct Worker<'c, F> {
    channel: &'c Channel<'c>,
    /// Told between folders, and between blocks of names of a large one, how many names this thread has met.
    between: F,
    /// The way back: folders whose sub-folders are still to be read, the deepest last.
    frames: VecDeque<Frame>,
    /// One for each watch of the folder that is being read.
    lanes: Vec<Lane>,
    /// One for each selection.
    pub(super) sums: Vec<Sums>,
    pub(super) folders: u64,
    met: u64,
    listing: Vec<u8>,
    /// The path of the folder that is being read, where a pattern needs it, and behind it the name of a file.
    path: Vec<u8>,
    path_length: usize,
    /// Which lanes the file counts for that is being looked at.
    matched: Vec<usize>,
    name: Vec<u8>,
}

impl<'c, F: FnMut(u64)> Worker<'c, F> {
    pub(super) fn new(channel: &'c Channel<'c>, between: F) -> Self {
        Self {
            channel,
            between,
            frames: VecDeque::new(),
            lanes: Vec::new(),
            sums: channel.selections.iter().map(|_| Sums::new()).collect(),
            folders: 0,
            met: 0,
            listing: vec![0; LISTING],
            path: Vec::new(),
            path_length: 0,
            matched: Vec::new(),
            name: Vec::new(),
        }
    }

    /// Works until everything is done, or somebody stopped it.
    pub(super) fn work(&mut self, mut has_work: bool) {
        loop {
            while !self.frames.is_empty() && !self.channel.is_stopped() {
                self.share();
                self.next_folder();
                (self.between)(self.met);
            }
            if self.channel.is_stopped() {
                self.channel.queue.close();
                return;
            }
            match self.channel.queue.next(has_work, PATIENCE) {
                Next::Work(Work::Frame(frame)) => self.frames.push_back(frame),
                Next::Work(Work::Names { folder, opened, listed }) => self.read_names(folder, opened, &listed),
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

    /// Gives half of what was put off for longest to whoever waits.
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

    /// Opens and reads the next sub-folder of the deepest folder.
    fn next_folder(&mut self) {
        let Some(mut frame) = self.frames.pop_back() else { return };
        let mut name = mem::take(&mut self.name);
        if frame.names.pop(&mut name) {
            let parent = Arc::clone(&frame.folder);
            let opened = frame.opened.take();
            // The last sub-folder needs no way back: a chain of any depth keeps one folder open.
            if frame.names.len() > 0 {
                self.put_off(Frame { opened: opened.clone(), ..frame });
            }
            if let Ok(file) = CStr::from_bytes_with_nul(&name) {
                self.open_sub_folder(&parent, opened, file);
            }
        }
        self.name = name;
    }

    fn open_sub_folder(&mut self, parent: &Arc<Folder>, opened: Option<Arc<OwnedFd>>, file: &CStr) {
        let folder = self.sub_folder(parent, file.to_bytes());
        if folder.watches.is_empty() {
            return;
        }
        let access = if is_passed_through(&folder) { Access::Pass } else { Access::List };
        let root = self.channel.root.as_fd();
        let by_path = || folder.reopen(root, access, self.channel.links());
        let mut answer = match &opened {
            Some(opened) => kernel::open_folder(opened.as_fd(), file, access, false),
            None => by_path(),
        };
        // Closed before the sub-folder is read where nobody else needs it.
        drop(opened);
        if is_scarcity(&answer) {
            self.channel.become_scarce();
            self.frames.iter_mut().for_each(|frame| frame.opened = None);
            answer = by_path();
        }
        match answer {
            Ok(opened) => self.read(folder, opened),
            Err(_) if is_scarcity(&answer) && self.give_back(parent, file) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP) => self.leave_out_folder(&folder, Reason::Vanished),
            Err(errno) => self.leave_out_folder(&folder, Reason::of(errno)),
        }
    }

    /// Leaves a folder that cannot be opened for now, and everything else there is to do, to the other threads, if any.
    fn give_back(&mut self, parent: &Arc<Folder>, file: &CStr) -> bool {
        let mut names = Names::default();
        names.push(file);
        self.frames.push_back(Frame { folder: Arc::clone(parent), opened: None, names });
        let is_given = self.channel.queue.give_back(&mut self.frames);
        if !is_given {
            self.frames.pop_back();
        }
        is_given
    }

    /// Keeps a folder for later, and open only as far as there are descriptors to spare.
    fn put_off(&mut self, mut frame: Frame) {
        if self.channel.is_scarce() {
            frame.opened = None;
        }
        self.frames.push_back(frame);
        if let Some(index) = self.frames.len().checked_sub(self.channel.kept_open + 1) {
            self.frames[index].opened = None;
        }
    }

    fn sub_folder(&self, parent: &Arc<Folder>, name: &[u8]) -> Arc<Folder> {
        let selections = self.channel.selections;
        if parent.is_channel() && self.channel.has_items {
            let watches = watch::of_item(&parent.watches, selections, name, self.channel.inodes.is_none());
            return Folder::below(parent, name, watches.into(), Some(ItemTally::new(name, &self.channel.board)));
        }
        let watches = if watch::stay_the_same(&parent.watches, selections, name) {
            Arc::clone(&parent.watches)
        } else {
            let base = parent.path_length() + name.len() + 1;
            watch::of_sub_folder(&parent.watches, selections, name, base).into()
        };
        Folder::below(parent, name, watches, None)
    }

    /// Reads an open folder: counts its files and puts off its sub-folders.
    pub(super) fn read(&mut self, folder: Arc<Folder>, opened: OwnedFd) {
        if self.channel.is_elsewhere(opened.as_fd()) {
            return self.leave_out_folder(&folder, Reason::OtherFileSystem);
        }
        let opened = Arc::new(opened);
        self.folders += 1;
        self.enter(&folder);
        let mut names = Names::default();
        if is_passed_through(&folder) && !self.needs_listing(&folder) {
            self.seek(&folder, opened.as_fd(), &mut names);
        } else {
            self.list(&folder, &opened, &mut names);
        }
        self.leave(&folder, opened, names);
    }

    /// Whether the sub-folders of a folder have to be known, though no file in it counts.
    fn needs_listing(&self, folder: &Folder) -> bool {
        folder.is_channel() && self.channel.has_items
    }

    fn list(&mut self, folder: &Arc<Folder>, opened: &Arc<OwnedFd>, names: &mut Names) {
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
                    let (folder, opened) = (Arc::clone(folder), Arc::clone(opened));
                    self.channel.queue.push(Work::Names { folder, opened, listed });
                }
                Ok(length) => self.entries(folder, opened.as_fd(), &listing[..length], names),
                Err(Errno::ENOENT) => break,
                Err(errno) => {
                    self.leave_out_folder(folder, Reason::of(errno));
                    break;
                }
            }
        }
        self.listing = listing;
    }

    /// Reads names that another thread listed.
    fn read_names(&mut self, folder: Arc<Folder>, opened: Arc<OwnedFd>, listed: &[u8]) {
        self.enter(&folder);
        let mut names = Names::default();
        self.entries(&folder, opened.as_fd(), listed, &mut names);
        self.leave(&folder, opened, names);
    }

    fn entries(&mut self, folder: &Arc<Folder>, opened: BorrowedFd<'_>, listed: &[u8], names: &mut Names) {
        for entry in kernel::entries(listed) {
            self.met += 1;
            self.entry(folder, opened, entry, names);
        }
    }

    #[inline]
    fn entry(&mut self, folder: &Arc<Folder>, opened: BorrowedFd<'_>, entry: Entry<'_>, names: &mut Names) {
        match entry.kind {
            Kind::Regular => {
                if self.select(folder, entry.name.to_bytes()) {
                    match kernel::stat(opened, entry.name, false) {
                        Ok(stat) if stat.kind == Kind::Regular => self.count(folder, entry.name, stat),
                        Ok(_) => self.leave_out(folder, entry.name.to_bytes(), Reason::Vanished),
                        Err(errno) => self.leave_out(folder, entry.name.to_bytes(), Reason::of(errno)),
                    }
                }
            }
            Kind::Folder => {
                let name = entry.name.to_bytes();
                if self.needs_listing(folder) || watch::wants(&folder.watches, self.channel.selections, name) {
                    names.push(entry.name);
                }
            }
            Kind::Link => self.link(folder, opened, entry.name),
            Kind::Special => {
                if self.select(folder, entry.name.to_bytes()) {
                    self.leave_out(folder, entry.name.to_bytes(), Reason::Special);
                }
            }
            Kind::Unknown => match kernel::stat(opened, entry.name, false) {
                // Asking a second time for a file is the price of a file system that does not say what it lists.
                Ok(stat) => self.entry(folder, opened, Entry { kind: stat.kind, ..entry }, names),
                Err(errno) => self.leave_out(folder, entry.name.to_bytes(), Reason::of(errno)),
            },
        }
    }

    fn leave_out_folder(&self, folder: &Folder, reason: Reason) {
        let mut path = Vec::new();
        folder.write_path(&mut path);
        path.pop();
        self.channel.leave_out(path_buf(&path), reason);
    }

    #[cold]
    fn leave_out(&self, folder: &Folder, name: &[u8], reason: Reason) {
        self.channel.leave_out(path_buf(&folder.path_of(name)), reason);
    }
}

/// Whether no file of a folder counts: a `target_dir` is still to be found in it.
fn is_passed_through(folder: &Folder) -> bool {
    folder.watches.iter().all(|watch| matches!(watch.stage, Stage::Seeking(_)))
}

fn is_scarcity(answer: &Result<OwnedFd, Errno>) -> bool {
    matches!(answer, Err(Errno::EMFILE | Errno::ENFILE))
}
