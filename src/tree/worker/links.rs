//! Where a `target_dir` leads, by name or through a symbolic link, and what other links are worth.

use std::ffi::CStr;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::super::crew::Names;
use super::super::error::TreeError;
use super::super::folder::{Folder, c_string, path_buf};
use super::super::kernel::{self, Access, Entry, Kind};
use super::super::left_out::Reason;
use super::super::watch::{Stage, Watch};
use super::{LISTING, Worker};

impl<'c, F: FnMut(u64)> Worker<'c, F> {
    /// Looks for nothing but the next components of each `target_dir`.
    pub(super) fn seek(&mut self, folder: &Arc<Folder>, opened: BorrowedFd<'_>, names: &mut Names) {
        let watches = Arc::clone(&folder.watches);
        let mut sought: Vec<&[u8]> = watches.iter().filter_map(|watch| self.sought(watch)).collect();
        sought.sort_unstable();
        sought.dedup();
        for name in sought {
            let Ok(file) = c_string(name) else { continue };
            match kernel::stat(opened, &file, false) {
                Ok(stat) => self.entry(folder, opened, Entry { name: &file, kind: stat.kind }, names),
                Err(Errno::ENOENT) => {}
                Err(errno) => self.leave_out(folder, name, Reason::of(errno)),
            }
        }
    }

    fn sought(&self, watch: &Watch) -> Option<&'c [u8]> {
        match watch.stage {
            Stage::Seeking(next) => Some(&self.channel.selections[watch.selection].dir[next]),
            Stage::Counting { .. } => None,
        }
    }

    /// A symbolic link: its target counts where it is a file, and is entered only where `target_dir` leads through it.
    pub(super) fn link(&mut self, folder: &Arc<Folder>, opened: BorrowedFd<'_>, file: &CStr) {
        let name = file.to_bytes();
        let is_followed = self.follow(folder, name);
        let is_selected = self.select(folder, name);
        match kernel::stat(opened, file, true) {
            Ok(stat) => match stat.kind {
                Kind::Regular if is_selected => self.count(folder, file, stat),
                Kind::Folder if !is_followed => self.leave_out(folder, name, Reason::LinkedFolder),
                Kind::Special if is_selected => self.leave_out(folder, name, Reason::Special),
                Kind::Regular | Kind::Folder | Kind::Special | Kind::Link | Kind::Unknown => {}
            },
            Err(_) if is_followed || !is_selected => {}
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                let is_there = kernel::stat(opened, file, false).is_ok();
                self.leave_out(folder, name, if is_there { Reason::DanglingLink } else { Reason::Vanished });
            }
            Err(errno) => self.leave_out(folder, name, Reason::of(errno)),
        }
    }

    /// Goes where a `target_dir` leads through the link `name`; whether any does.
    fn follow(&mut self, folder: &Arc<Folder>, name: &[u8]) -> bool {
        let seeking: Vec<Watch> =
            folder.watches.iter().filter(|watch| self.sought(watch) == Some(name)).copied().collect();
        for watch in &seeking {
            self.follow_one(folder, *watch);
        }
        !seeking.is_empty()
    }

    fn follow_one(&mut self, folder: &Arc<Folder>, watch: Watch) {
        let Stage::Seeking(next) = watch.stage else { return };
        let selection = &self.channel.selections[watch.selection];
        let rest = selection.dir[next..].join(&b'/');
        let arrived = watch.arrive(selection, folder.path_length() + rest.len() + 1);
        let target = Folder::linked(folder, &rest, vec![arrived]);
        match target.reopen(self.channel.root.as_fd(), Access::List, self.channel.links()) {
            Ok(opened) => self.detour(target, opened),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                self.leave_out(folder, &rest, Reason::DanglingLink);
            }
            Err(Errno::EXDEV) if watch.scope.counts_for_whole() => {
                let path = self.channel.path.join(path_buf(&folder.path_of(&rest)));
                self.channel.fail(TreeError::Outside { path });
            }
            Err(errno) => self.leave_out(folder, &rest, Reason::of(errno)),
        }
    }

    /// Reads another folder while one is being read.
    fn detour(&mut self, folder: Arc<Folder>, opened: OwnedFd) {
        let lanes = mem::take(&mut self.lanes);
        let path = mem::take(&mut self.path);
        let path_length = self.path_length;
        let listing = mem::replace(&mut self.listing, vec![0; LISTING]);
        self.read(folder, opened);
        (self.lanes, self.path, self.path_length, self.listing) = (lanes, path, path_length, listing);
    }
}
