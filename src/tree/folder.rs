//! A folder of the channel while something in it is still to be read, and its way back to the channel.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use super::items::ItemTally;
use super::kernel::{self, Access, Links};
use super::watch::Watch;

/// The longest path that is handed to the kernel at once; `PATH_MAX` is 4096 with the NUL.
const LONGEST_PATH: usize = 4000;

/// A folder with what is looked for in it.
#[derive(Debug)]
pub(super) struct Folder {
    parent: Option<Arc<Folder>>,
    /// Its name in its parent, several components where a `target_dir` led through a link; empty for the channel.
    name: Box<[u8]>,
    /// Whether it was reached through a symbolic link: then its path cannot be walked without following one.
    is_linked: bool,
    pub(super) watches: Arc<[Watch]>,
    /// The item it belongs to.
    pub(super) item: Option<Arc<ItemTally>>,
}

impl Folder {
    /// The channel itself.
    pub(super) fn channel(watches: Vec<Watch>) -> Arc<Self> {
        Arc::new(Self { parent: None, name: Box::default(), is_linked: false, watches: watches.into(), item: None })
    }

    /// A sub-folder; `item` is where it is one itself.
    pub(super) fn below(
        parent: &Arc<Self>,
        name: &[u8],
        watches: Arc<[Watch]>,
        item: Option<Arc<ItemTally>>,
    ) -> Arc<Self> {
        let item = item.or_else(|| parent.item.clone());
        Arc::new(Self { parent: Some(Arc::clone(parent)), name: name.into(), is_linked: false, watches, item })
    }

    /// A folder that `path`, from `parent`, leads to through a symbolic link.
    pub(super) fn linked(parent: &Arc<Self>, path: &[u8], watches: Vec<Watch>) -> Arc<Self> {
        let (parent, item) = (Some(Arc::clone(parent)), parent.item.clone());
        Arc::new(Self { parent, name: path.into(), is_linked: true, watches: watches.into(), item })
    }

    /// Whether this is the channel itself.
    pub(super) fn is_channel(&self) -> bool {
        self.parent.is_none()
    }

    /// The length of its path below the channel with a slash at the end; 0 for the channel.
    pub(super) fn path_length(&self) -> usize {
        self.ancestors().map(|folder| folder.name.len() + 1).sum()
    }

    /// Writes its path below the channel, with a slash at the end, to `path`.
    pub(super) fn write_path(&self, path: &mut Vec<u8>) {
        path.clear();
        path.resize(self.path_length(), b'/');
        let mut end = path.len();
        for folder in self.ancestors() {
            let start = end - 1 - folder.name.len();
            path[start..end - 1].copy_from_slice(&folder.name);
            end = start;
        }
    }

    /// The path of something in this folder, below the channel.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::new();
        self.write_path(&mut path);
        path.extend_from_slice(name);
        path
    }

    /// This folder and those above it, without the channel.
    fn ancestors(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |folder| folder.parent.as_deref()).filter(|folder| !folder.is_channel())
    }

    /// Opens the folder once more, from the channel down.
    pub(super) fn reopen(&self, channel: BorrowedFd<'_>, access: Access, links: Links) -> Result<OwnedFd, Errno> {
        let mut path = Vec::new();
        self.write_path(&mut path);
        let links = if self.ancestors().any(|folder| folder.is_linked) { links } else { Links::No };
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

impl Drop for Folder {
    /// Lets go of the folders above one by one: a deep tree would overflow the stack otherwise.
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(mut folder) = above.and_then(Arc::into_inner) {
            above = folder.parent.take();
        }
    }
}

pub(super) fn c_string(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::ENOENT)
}

/// A path as the rest of the program knows it.
pub(super) fn path_buf(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together_from_the_names() {
        let channel = Folder::channel(Vec::new());
        let item = Folder::below(&channel, b"p1", Vec::new().into(), None);
        let series = Folder::below(&item, b"ct", Vec::new().into(), None);
        assert_eq!(channel.path_of(b"a"), b"a");
        assert_eq!(series.path_of(b"a.dcm"), b"p1/ct/a.dcm");
        assert_eq!(series.path_length(), 6);
    }

    #[test]
    fn letting_go_of_a_deep_tree_does_not_need_a_deep_stack() {
        let mut folder = Folder::channel(Vec::new());
        for _ in 0..200_000 {
            folder = Folder::below(&folder, b"d", Vec::new().into(), None);
        }
        drop(folder);
    }
}
