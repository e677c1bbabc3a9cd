//! Follows `target_dir` by name or through symbolic links, and handles other links.

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::super::directory::Directory;
use super::super::error::TreeError;
use super::super::excluded::Reason;
use super::super::items::ItemTally;
use super::super::kernel::{self, Access, Entry, Kind, Links};
use super::super::kernel::{c_string, path_buf};
use super::super::queue::Names;
use super::super::selection_state::{self, SelectionState, Stage};
use super::{LISTING, Worker};

impl<'c, F: FnMut(u64)> Worker<'c, F> {
    /// Searches only for the next components of each `target_dir`.
    pub(super) fn seek(&mut self, directory: &Arc<Directory>, opened: BorrowedFd<'_>, names: &mut Names) {
        let states = Arc::clone(&directory.states);
        let mut sought: Vec<&[u8]> = states.iter().filter_map(|state| self.sought(state)).collect();
        sought.sort_unstable();
        sought.dedup();
        for name in sought {
            let Ok(file) = c_string(name) else { continue };
            match kernel::stat(opened, &file, false) {
                Ok(stat) => self.entry(directory, opened, Entry { name: &file, kind: stat.kind }, names),
                Err(Errno::ENOENT) => {}
                Err(errno) => self.exclude(directory, name, Reason::from_errno(errno)),
            }
        }
    }

    fn sought(&self, state: &SelectionState) -> Option<&'c [u8]> {
        match state.stage {
            Stage::Seeking(next) => Some(&self.channel.selections[state.selection].dir[next]),
            Stage::Counting { .. } => None,
        }
    }

    /// Handles a symbolic link: its target counts if it is a file, and is entered only if `target_dir` or a glob goes
    /// through it.
    pub(super) fn link(&mut self, directory: &Arc<Directory>, opened: BorrowedFd<'_>, file: &CStr) {
        let name = file.to_bytes();
        let is_followed = self.follow(directory, name);
        let is_selected = self.select(directory, name);
        match kernel::stat(opened, file, true) {
            Ok(stat) => match stat.kind {
                Kind::Regular if is_selected => self.count(directory, file, stat),
                Kind::Directory => {
                    self.enter_linked_item(directory, name);
                    if !self.enter_link(directory, name) && !is_followed {
                        self.exclude(directory, name, Reason::LinkedFolder);
                    }
                }
                Kind::Special if is_selected => self.exclude(directory, name, Reason::Special),
                Kind::Regular | Kind::Special | Kind::Link | Kind::Unknown => {}
            },
            Err(_) if is_followed || !is_selected => {}
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                let is_there = kernel::stat(opened, file, false).is_ok();
                self.exclude(directory, name, if is_there { Reason::DanglingLink } else { Reason::Vanished });
            }
            Err(errno) => self.exclude(directory, name, Reason::from_errno(errno)),
        }
    }

    /// Follows each `target_dir` that goes through the link `name`; returns whether any does.
    fn follow(&mut self, directory: &Arc<Directory>, name: &[u8]) -> bool {
        let seeking: Vec<SelectionState> =
            directory.states.iter().filter(|state| self.sought(state) == Some(name)).copied().collect();
        for state in &seeking {
            self.follow_one(directory, *state);
        }
        !seeking.is_empty()
    }

    fn follow_one(&mut self, directory: &Arc<Directory>, state: SelectionState) {
        let Stage::Seeking(next) = state.stage else { return };
        let selection = &self.channel.selections[state.selection];
        let rest = selection.dir[next..].join(&b'/');
        let arrived = state.arrive(selection, directory.path_length() + rest.len() + 1);
        let target = Directory::linked(directory, &rest, vec![arrived], self.channel.links(), None);
        match target.reopen(self.channel.root.as_fd(), Access::List) {
            Ok(opened) => self.detour(target, opened),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                self.exclude(directory, &rest, Reason::DanglingLink);
            }
            Err(Errno::EXDEV) if state.scope.counts_for_whole() => {
                let path = self.channel.path.join(path_buf(&directory.path_of(&rest)));
                self.channel.fail(TreeError::Outside { path });
            }
            Err(errno) => self.exclude(directory, &rest, Reason::from_errno(errno)),
        }
    }

    /// Reads the directory behind a link if a glob names it, as Python does, wherever it is; returns whether one does.
    /// A loop ends with the glob, each of whose names enters one link.
    fn enter_link(&mut self, directory: &Arc<Directory>, name: &[u8]) -> bool {
        let states = selection_state::of_link(&directory.states, self.channel.selections, name);
        if states.is_empty() {
            return false;
        }
        let target = Directory::linked(directory, name, states, Links::Anywhere, None);
        match target.reopen(self.channel.root.as_fd(), Access::List) {
            Ok(opened) => self.detour(target, opened),
            Err(errno) => self.exclude(directory, name, Reason::from_errno(errno)),
        }
        true
    }

    /// Reads an item that is a link. One that leads out of the channel leads nowhere for the task, which sees only the
    /// channel.
    fn enter_linked_item(&mut self, directory: &Arc<Directory>, name: &[u8]) {
        if !directory.is_channel() || !self.channel.has_items {
            return;
        }
        let states: Vec<SelectionState> = selection_state::of_linked_item(self.channel.selections, name).collect();
        let links = self.channel.links();
        let target = Directory::linked(directory, name, Vec::new(), links, None);
        match target.reopen(self.channel.root.as_fd(), Access::List) {
            Ok(opened) => {
                let item = ItemTally::new(name, &self.channel.board);
                self.detour(Directory::linked(directory, name, states, links, Some(item)), opened);
            }
            Err(Errno::EXDEV) => {}
            Err(errno) => self.exclude(directory, name, Reason::from_errno(errno)),
        }
    }

    /// Reads another directory in the middle of the current one.
    fn detour(&mut self, directory: Arc<Directory>, opened: OwnedFd) {
        let tallies = mem::take(&mut self.tallies);
        let path = mem::take(&mut self.path);
        let path_length = self.path_length;
        let listing = mem::replace(&mut self.listing, vec![0; LISTING]);
        self.read(directory, opened);
        (self.tallies, self.path, self.path_length, self.listing) = (tallies, path, path_length, listing);
    }
}
