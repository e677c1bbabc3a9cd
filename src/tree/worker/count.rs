//! Which totals a file goes to, and adding it to them.

use std::ffi::CStr;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::model::units::Bytes;

use super::super::crew::{Frame, Names};
use super::super::error::TreeError;
use super::super::folder::{Folder, path_buf};
use super::super::kernel::Stat;
use super::super::options::Counted;
use super::super::regex::{GaveUp, Needs};
use super::super::tally::Lane;
use super::super::watch::{Stage, Watch};
use super::Worker;

impl<F: FnMut(u64)> Worker<'_, F> {
    /// Prepares for the files of a folder.
    pub(super) fn enter(&mut self, folder: &Folder) {
        self.lanes.truncate(folder.watches.len());
        for (index, watch) in folder.watches.iter().enumerate() {
            match self.lanes.get_mut(index) {
                Some(lane) => lane.reset(watch),
                None => self.lanes.push(Lane::new(watch)),
            }
        }
        let needs_path = |watch: &Watch| self.channel.selections[watch.selection].pattern.needs() == Needs::Path;
        if folder.watches.iter().any(needs_path) {
            folder.write_path(&mut self.path);
            self.path_length = self.path.len();
        }
    }

    /// Adds up what was counted in a folder and puts off its sub-folders.
    pub(super) fn leave(&mut self, folder: &Arc<Folder>, opened: Arc<OwnedFd>, names: Names) {
        let (mut files, mut bytes) = (0, 0u64);
        for lane in &mut self.lanes {
            let sums = &mut self.sums[lane.selection];
            sums.overflowed |= mem::take(&mut lane.overflowed);
            if lane.scope.counts_for_whole() {
                sums.add(lane.files, lane.bytes);
                if let Some((size, name)) = lane.largest() {
                    sums.offer(size, || folder.path_of(name));
                }
            }
            if let (true, Some(item)) = (lane.scope.counts_for_item(), &folder.item) {
                item.add(lane.selection, lane.files, lane.bytes);
            }
            (files, bytes) = (files.max(lane.files), bytes.max(lane.bytes));
        }
        self.channel.report(files, bytes);
        if names.len() > 0 {
            self.put_off(Frame { folder: Arc::clone(folder), opened: Some(opened), names });
        }
    }

    /// Finds out which lanes a file counts for, by its name alone; whether for any.
    #[inline]
    pub(super) fn select(&mut self, folder: &Folder, name: &[u8]) -> bool {
        self.matched.clear();
        let mut has_path = false;
        for (lane, watch) in folder.watches.iter().enumerate() {
            let selection = &self.channel.selections[watch.selection];
            let Stage::Counting { places, base } = watch.stage else { continue };
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
                Ok(true) => self.matched.push(lane),
                Ok(false) => {}
                Err(source) => return self.give_up(folder, name, selection.target_regex(), source),
            }
        }
        !self.matched.is_empty()
    }

    #[cold]
    fn give_up(&self, folder: &Folder, name: &[u8], regex: &str, source: GaveUp) -> bool {
        let path = self.channel.path.join(path_buf(&folder.path_of(name)));
        self.channel.fail(TreeError::Regex { regex: regex.to_owned(), path, source });
        false
    }

    /// Adds a file to the lanes that were selected.
    #[inline]
    pub(super) fn count(&mut self, folder: &Folder, file: &CStr, stat: Stat) {
        for &index in &self.matched {
            let lane = &mut self.lanes[index];
            let is_whole = lane.scope.counts_for_whole();
            if is_whole {
                lane.offer(stat.size, file.to_bytes());
            }
            if let Some(inodes) = &self.channel.inodes {
                let item = folder.item.as_ref().filter(|_| !is_whole).map(|item| item.id);
                if !inodes.is_new(lane.selection, item, &stat) {
                    continue;
                }
            }
            lane.add(stat.size);
            if is_whole {
                self.sums[lane.selection].sort_in(stat.size);
            }
            if let Some(tell) = self.channel.counted {
                tell(Counted {
                    selection: lane.selection,
                    path: &path_buf(&folder.path_of(file.to_bytes())),
                    size: Bytes(stat.size),
                    for_channel: is_whole,
                    for_item: lane.scope.counts_for_item(),
                });
            }
        }
    }
}
