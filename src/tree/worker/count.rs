//! Determines the totals that a file counts for, and adds it to them.

use std::ffi::CStr;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::model::units::Bytes;

use super::super::directory::Directory;
use super::super::error::TreeError;
use super::super::kernel::Stat;
use super::super::kernel::path_buf;
use super::super::options::Counted;
use super::super::queue::{Frame, Names};
use super::super::selection_state::{SelectionState, Stage};
use super::super::tally::DirectoryTally;
use super::Worker;
use crate::model::selection::{GaveUp, Needs};

impl<F: FnMut(u64)> Worker<'_, F> {
    /// Prepares for the files of a directory.
    pub(super) fn enter(&mut self, directory: &Directory) {
        self.tallies.truncate(directory.states.len());
        for (index, state) in directory.states.iter().enumerate() {
            match self.tallies.get_mut(index) {
                Some(tally) => tally.reset(state),
                None => self.tallies.push(DirectoryTally::new(state)),
            }
        }
        let needs_path =
            |state: &SelectionState| self.channel.selections[state.selection].pattern.needs() == Needs::Path;
        if directory.states.iter().any(needs_path) {
            directory.write_path(&mut self.path);
            self.path_length = self.path.len();
        }
    }

    /// Accumulator up what was counted in a directory and postpones its subdirectories.
    pub(super) fn leave(&mut self, directory: &Arc<Directory>, opened: Arc<OwnedFd>, names: Names) {
        let (mut files, mut bytes) = (0, 0u64);
        for tally in &mut self.tallies {
            let sums = &mut self.sums[tally.selection];
            sums.overflowed |= mem::take(&mut tally.overflowed);
            if tally.scope.counts_for_whole() {
                sums.add(tally.files, tally.bytes);
                if let Some((size, name)) = tally.largest() {
                    sums.offer(size, || directory.path_of(name));
                }
            }
            if let (true, Some(item)) = (tally.scope.counts_for_item(), &directory.item) {
                item.add(tally.selection, tally.files, tally.bytes);
            }
            (files, bytes) = (files.max(tally.files), bytes.max(tally.bytes));
        }
        self.channel.report(files, bytes);
        if names.len() > 0 {
            self.put_off(Frame { directory: Arc::clone(directory), opened: Some(opened), names });
        }
    }

    /// Determines the tallies that a file counts for, by its name alone; returns whether there are any.
    #[inline]
    pub(super) fn select(&mut self, directory: &Directory, name: &[u8]) -> bool {
        self.matched.clear();
        let mut has_path = false;
        for (tally, state) in directory.states.iter().enumerate() {
            let selection = &self.channel.selections[state.selection];
            let Stage::Counting { places, base } = state.stage else { continue };
            if !selection.glob.matches(places, name) {
                continue;
            }
            let answer = match selection.pattern.needs() {
                Needs::Name => selection.pattern.matches(name),
                Needs::Path => {
                    if !has_path {
                        self.path.truncate(self.path_length);
                        self.path.extend_from_slice(name);
                        has_path = true;
                    }
                    selection.pattern.matches(&self.path[base..])
                }
            };
            match answer {
                Ok(true) => self.matched.push(tally),
                Ok(false) => {}
                Err(source) => return self.give_up(directory, name, selection.target_regex(), source),
            }
        }
        !self.matched.is_empty()
    }

    #[cold]
    fn give_up(&self, directory: &Directory, name: &[u8], regex: &str, source: GaveUp) -> bool {
        let path = self.channel.path.join(path_buf(&directory.path_of(name)));
        self.channel.fail(TreeError::Regex { regex: regex.to_owned(), path, source });
        false
    }

    /// Adds a file to the selected tallies.
    #[inline]
    pub(super) fn count(&mut self, directory: &Directory, file: &CStr, stat: Stat) {
        for &index in &self.matched {
            let tally = &mut self.tallies[index];
            let is_whole = tally.scope.counts_for_whole();
            if is_whole {
                tally.offer(stat.size, file.to_bytes());
            }
            if let Some(inodes) = &self.channel.inodes {
                let item = directory.item.as_ref().filter(|_| !is_whole).map(|item| item.id);
                if !inodes.is_new(tally.selection, item, &stat) {
                    continue;
                }
            }
            tally.add(stat.size);
            if is_whole {
                self.sums[tally.selection].sort_in(stat.size);
            }
            if let Some(listener) = self.channel.counted {
                listener(Counted {
                    selection: tally.selection,
                    path: &path_buf(&directory.path_of(file.to_bytes())),
                    size: Bytes(stat.size),
                    for_channel: is_whole,
                    for_item: tally.scope.counts_for_item(),
                });
            }
        }
    }
}
