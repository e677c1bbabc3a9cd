//! A directory of the channel that is not completely read, and its path back to the channel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::items::ItemTally;
use super::kernel::{self, Access, Links, c_string};
use super::selection_state::SelectionState;

/// The longest path passed to the kernel at once; `PATH_MAX` is 4096 including the NUL.
const LONGEST_PATH: usize = 4000;

/// A directory with the states of the selections in it.
#[derive(Debug)]
pub(super) struct Directory {
    parent: Option<Arc<Directory>>,
    /// Its name in its parent, several components if a `target_dir` went through a link; empty for the channel.
    name: Box<[u8]>,
    /// The symbolic links that its path, relative to its parent, may go through.
    links: Links,
    pub(super) states: Arc<[SelectionState]>,
    /// The item it belongs to, if any.
    pub(super) item: Option<Arc<ItemTally>>,
}

impl Directory {
    /// The channel itself.
    pub(super) fn channel(states: Vec<SelectionState>) -> Arc<Self> {
        Arc::new(Self { parent: None, name: Box::default(), links: Links::No, states: states.into(), item: None })
    }

    /// A subdirectory; `item` is given if it is one itself.
    pub(super) fn below(
        parent: &Arc<Self>,
        name: &[u8],
        states: Arc<[SelectionState]>,
        item: Option<Arc<ItemTally>>,
    ) -> Arc<Self> {
        let item = item.or_else(|| parent.item.clone());
        Arc::new(Self { parent: Some(Arc::clone(parent)), name: name.into(), links: Links::No, states, item })
    }

    /// A directory that `path`, relative to `parent`, reaches through a symbolic link; `item` is given if it is one.
    pub(super) fn linked(
        parent: &Arc<Self>,
        path: &[u8],
        states: Vec<SelectionState>,
        links: Links,
        item: Option<Arc<ItemTally>>,
    ) -> Arc<Self> {
        let item = item.or_else(|| parent.item.clone());
        Arc::new(Self { parent: Some(Arc::clone(parent)), name: path.into(), links, states: states.into(), item })
    }

    /// Whether this is the channel itself.
    pub(super) fn is_channel(&self) -> bool {
        self.parent.is_none()
    }

    /// The length of its path relative to the channel with a trailing slash; 0 for the channel.
    pub(super) fn path_length(&self) -> usize {
        self.ancestors().map(|directory| directory.name.len() + 1).sum()
    }

    /// Writes its path relative to the channel, with a trailing slash, to `path`.
    pub(super) fn write_path(&self, path: &mut Vec<u8>) {
        path.clear();
        path.resize(self.path_length(), b'/');
        let mut end = path.len();
        for directory in self.ancestors() {
            let start = end - 1 - directory.name.len();
            path[start..end - 1].copy_from_slice(&directory.name);
            end = start;
        }
    }

    /// The path of an entry of this directory, relative to the channel.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        self.write_path(&mut path);
        path.extend_from_slice(name);
        path
    }

    /// This directory and its ancestors, without the channel.
    fn ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |directory| directory.parent.as_deref())
            .filter(|directory| !directory.is_channel())
    }

    /// Opens the directory again, from the channel down.
    pub(super) fn reopen(&self, channel: BorrowedFd<'_>, access: Access) -> Result<OwnedFd, Errno> {
        let mut path = Vec::new();
        self.write_path(&mut path);
        let links = self.ancestors().map(|directory| directory.links).max().unwrap_or(Links::No);
        let mut rest = path.as_slice();
        let mut passed: Option<OwnedFd> = None;
        loop {
            let at = passed.as_ref().map_or(channel, AsFd::as_fd);
            if rest.len() <= LONGEST_PATH {
                let last = if rest.is_empty() { c".".to_owned() } else { c_string(rest)? };
                return kernel::open_path(at, &last, access, links);
            }
            let end = rest[..LONGEST_PATH].iter().rposition(|&byte| byte == b'/').ok_or(Errno::ENAMETOOLONG)?;
            passed = Some(kernel::open_path(at, &c_string(&rest[..end])?, Access::Pass, links)?);
            rest = &rest[end + 1..];
        }
    }
}

impl Drop for Directory {
    /// Drops the ancestors one by one: a deep tree would overflow the stack otherwise.
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(mut directory) = above.and_then(Arc::into_inner) {
            above = directory.parent.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together_from_the_names() {
        let channel = Directory::channel(Vec::new());
        let item = Directory::below(&channel, b"p1", Vec::new().into(), None);
        let series = Directory::below(&item, b"ct", Vec::new().into(), None);
        assert_eq!(channel.path_of(b"a"), b"a");
        assert_eq!(series.path_of(b"a.dcm"), b"p1/ct/a.dcm");
        assert_eq!(series.path_length(), 6);
    }

    #[test]
    fn letting_go_of_a_deep_tree_does_not_need_a_deep_stack() {
        let mut directory = Directory::channel(Vec::new());
        for _ in 0..200_000 {
            directory = Directory::below(&directory, b"d", Vec::new().into(), None);
        }
        drop(directory);
    }
}
