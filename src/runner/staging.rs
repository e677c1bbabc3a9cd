//! Stages inputs made of parts of others without copying: by hard links, else by file system clones (`FICLONE`), and by
//! copies only if nothing else works. Single units can also be mounted. Files of other users, to which the kernel allows
//! no hard links, are mounted, or else become symbolic links.

mod bytes;
mod file;
mod lock;
mod page_cache;
mod private;

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statvfs::statvfs;

use self::bytes::{FILE, write_bytes};
use self::file::{CopyMethod, Copying, place};
use self::lock::{MARK, lock, split};
use super::originals::Originals;
use super::view::{Mount, Overlay};
use crate::directory::{Directory, Refusal};
use crate::model::plan::{InputSource, Unit};
use crate::model::units::Bytes;

pub use self::file::Cost;
pub use self::page_cache::{drop_caches, read_all};

/// The most units to mount one by one for a process: each is an entry in a table that is built for every run.
pub const MOST_MOUNTS: usize = 1000;

/// Why an input could not be staged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StagingError {
    /// A file or directory could not be created.
    #[error("failed to {action} {path}")]
    Failed {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("failed to stage {needed} of input: {path} has only {free} free")]
    NoRoom {
        /// The destination.
        path: PathBuf,
        /// The size needed.
        needed: Bytes,
        /// The size available.
        free: Bytes,
    },
    /// The directory contains something that highwater did not create.
    #[error("failed to stage inputs in {path}: it contains other files, which would be removed")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The directory is in use.
    #[error("failed to stage inputs in {path}: another process uses it for staging")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl StagingError {
    /// Whether the disk is full.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::NoRoom { .. } => true,
            Self::Failed { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Occupied { .. } | Self::InUse { .. } => false,
        }
    }

    /// The refusal, if highwater refused something that the system would allow.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Failed { source, .. } => Refusal::behind(source),
            Self::NoRoom { .. } | Self::Occupied { .. } | Self::InUse { .. } => None,
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StagingError + use<> {
    let path = path.to_owned();
    move |source| StagingError::Failed { action, path, source }
}

/// The free space of the file system at a path, in bytes; `None` if unknown.
pub fn free(path: &Path) -> Option<Bytes> {
    let room = statvfs(path).ok().filter(|room| room.blocks() > 0)?;
    Some(Bytes(room.blocks_available().saturating_mul(room.fragment_size())))
}

/// A directory in which inputs are staged. Dropping it removes it with all its contents; what a killed process has left
/// in it is removed when it is opened again.
///
/// It is held open: whatever a task puts in its place, only the contents of this very directory are removed.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    directory: Arc<Directory>,
    /// Its name, and the parent directory.
    name: OsString,
    parent: Directory,
    /// Locked for the lifetime of this value.
    mark: File,
    /// The largest number of units to leave to mounts instead of copying.
    most_mounts: usize,
    /// Whether to leave them to mounts even if they could be linked.
    only_mounts: bool,
    /// Whether to use hard links even if a task could write to the original through them.
    links: bool,
    /// Whether files of other users may become symbolic links.
    symbolic: bool,
}

impl Staging {
    /// Opens the directory for exclusive use. Removes what was staged in it before.
    ///
    /// # Errors
    /// If it cannot be emptied or created, is a symbolic link, contains anything that was not staged, or is in use.
    pub fn open(path: &Path) -> Result<Self, StagingError> {
        let (above, name) = split(path)?;
        // Only symbolic links above the name are followed, because they are the user's.
        let parent = Directory::create_all(&above).map_err(failed("make", &above))?;
        let (directory, mark) = lock(&parent, &name, path)?;
        directory.clear(Some(MARK)).map_err(failed("remove the remains of", path))?;
        let path = above.canonicalize().map_err(failed("find", &above))?.join(&name);
        Ok(Self {
            path,
            directory: Arc::new(directory),
            name,
            parent,
            mark,
            most_mounts: 0,
            only_mounts: false,
            links: true,
            symbolic: true,
        })
    }

    /// Leaves units that would have to be copied to mounts, which the caller makes, if there are no more than this: see
    /// [`Staged::mounts`].
    #[must_use]
    pub fn with_mounts(mut self, most: usize) -> Self {
        self.most_mounts = most;
        self
    }

    /// Leaves units to mounts even if they could be linked, for a task that finds nothing else than them.
    #[must_use]
    pub fn without_links(mut self) -> Self {
        self.only_mounts = true;
        self
    }

    /// Copies what would become symbolic links, which lead nowhere in a container.
    #[must_use]
    pub fn without_symbolic_links(mut self) -> Self {
        self.symbolic = false;
        self
    }

    /// Clones or copies files that this user can write to: through a hard link a task could write to the original.
    #[must_use]
    pub fn without_writable_links(mut self) -> Self {
        self.links = false;
        self
    }

    /// Its path, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The free space, in bytes; `None` if unknown.
    pub fn free(&self) -> Option<Bytes> {
        free(&self.path)
    }

    /// Creates an empty directory with this name.
    ///
    /// # Errors
    /// If it cannot be created, or a task has moved or replaced the staging directory.
    pub fn scratch(&self, name: &str) -> Result<Scratch, StagingError> {
        self.directory.check_at(&self.path).map_err(failed("stage inputs in", &self.path))?;
        let scratch =
            Scratch { path: self.path.join(name), staging: Arc::clone(&self.directory), name: name.to_owned() };
        scratch.remove().map_err(failed("remove the remains of", &scratch.path))?;
        make_directory(&scratch.path)?;
        Ok(scratch)
    }

    /// Stages an input under this name. An input that is used unchanged takes no time and no space.
    ///
    /// # Errors
    /// If something cannot be created or read; nothing is left behind then.
    pub fn stage(&self, name: &str, source: &InputSource) -> Result<Staged, StagingError> {
        match source {
            InputSource::Directory(path) => {
                let input = path.canonicalize().map_err(failed("find", path))?;
                Ok(Staged { scratch: None, ..Staged::at(input) })
            }
            InputSource::Units { root, units } => {
                let scratch = self.scratch(name)?;
                let root = root.canonicalize().map_err(failed("find", root))?;
                let mut staged = Staged::empty(scratch);
                let mountable = units.len() <= self.most_mounts;
                let is_left = mountable && self.only_mounts;
                if is_left || staged.link(&root, units, self.copying(mountable))?.is_none() {
                    staged.leave_to_mounts(&root, units)?;
                }
                Ok(staged)
            }
            InputSource::Bytes { size, from } => {
                let scratch = self.scratch(name)?;
                if let Some(free) = self.free().filter(|free| free < size) {
                    return Err(StagingError::NoRoom { path: self.path.clone(), needed: *size, free });
                }
                let path = scratch.path.join(FILE);
                write_bytes(&path, *size, from)?;
                Ok(Staged { input: path, ..Staged::empty(scratch) })
            }
        }
    }

    /// Removes the directory, its mark last in case we are killed meanwhile.
    fn remove(&self) -> io::Result<()> {
        self.directory.clear(Some(MARK))?;
        self.directory.remove(MARK)?;
        match self.parent.remove_empty(&self.name, &self.directory) {
            // Another process has already locked it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => result,
        }
    }

    fn copying(&self, mounts: bool) -> Copying {
        Copying {
            method: CopyMethod::HardLink,
            links: self.links,
            mounts,
            symbolic: self.symbolic,
            keeps_owners: false,
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("failed to remove {}: {error}", self.path.display());
        }
        // Closing the file is not enough: a child of another thread also holds it between fork and exec.
        let _ = self.mark.unlock();
    }
}

/// A directory that is removed with all its contents when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    staging: Arc<Directory>,
    name: String,
}

impl Scratch {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> io::Result<()> {
        self.staging.remove_all(&self.name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("failed to remove {}: {error}", self.path.display());
        }
    }
}

/// A staged input.
#[derive(Debug)]
pub struct Staged {
    input: PathBuf,
    scratch: Option<Scratch>,
    mounts: Vec<(OsString, PathBuf)>,
    cost: Cost,
    private: Option<Private>,
}

/// The details of a copy that belongs to one run.
#[derive(Debug)]
struct Private {
    overlay: Option<Overlay>,
    /// The state of the copy before the run; for an overlay, its upper directory shows the changes.
    before: Option<Originals>,
}

impl Staged {
    fn at(input: PathBuf) -> Self {
        Self { input, scratch: None, mounts: Vec::new(), cost: Cost::default(), private: None }
    }

    fn empty(scratch: Scratch) -> Self {
        let input = scratch.path.clone();
        Self { scratch: Some(scratch), ..Self::at(input) }
    }

    /// The path to give to the task: a directory, or the file of bytes.
    pub fn input(&self) -> &Path {
        &self.input
    }

    /// The cost of staging it.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// What to mount read-only over the units of the input, by their names in it.
    pub fn mounts(&self) -> &[(OsString, PathBuf)] {
        &self.mounts
    }

    /// Whether it belongs to one run, which may write to it.
    pub fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// The mounts for a process that finds this input at `target`: it and its units read-only, unless it is private.
    pub fn mounts_at(&self, target: &Path) -> Vec<Mount> {
        let read_only = !self.is_private();
        let own = Mount { source: self.input.clone(), target: target.to_owned(), read_only };
        let units = self.mounts.iter().map(|(name, source)| Mount {
            source: source.clone(),
            target: target.join(name),
            read_only: true,
        });
        std::iter::once(own).chain(units).collect()
    }

    /// `None` if copies would be necessary and mounts are to replace them.
    fn link(&mut self, root: &Path, units: &[Unit], mut copying: Copying) -> Result<Option<()>, StagingError> {
        for Unit { name, staged_as } in units {
            let (from, to) = (root.join(name), self.input.join(staged_as));
            let metadata = fs::symlink_metadata(&from).map_err(failed("read", &from))?;
            if self.tree(&from, &to, metadata.file_type(), &mut copying)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn tree(
        &mut self,
        from: &Path,
        to: &Path,
        kind: fs::FileType,
        copying: &mut Copying,
    ) -> Result<Option<()>, StagingError> {
        if kind.is_dir() {
            make_directory(to)?;
            for entry in fs::read_dir(from).map_err(failed("read", from))? {
                let entry = entry.map_err(failed("read", from))?;
                let kind = entry.file_type().map_err(failed("read", from))?;
                let name = entry.file_name();
                if self.tree(&from.join(&name), &to.join(&name), kind, copying)?.is_none() {
                    return Ok(None);
                }
            }
            if copying.keeps_owners {
                private::keep_directory(from, to)?;
            }
            return Ok(Some(()));
        }
        let is_file = kind.is_file() || (kind.is_symlink() && from.is_file());
        if is_file {
            if place(from, to, copying, &mut self.cost)?.is_none() {
                return Ok(None);
            }
        } else if kind.is_symlink() {
            // Links are not followed when sizes are measured, so neither here; its target stays the same.
            let target = match copying.keeps_owners {
                true => fs::read_link(from),
                false => fs::canonicalize(from).or_else(|_| fs::read_link(from)),
            };
            let target = target.map_err(failed("read", from))?;
            std::os::unix::fs::symlink(target, to).map_err(failed("link", to))?;
        }
        // Sockets, pipes and devices are not data.
        Ok(Some(()))
    }

    /// Creates an empty mount point for each unit.
    fn leave_to_mounts(&mut self, root: &Path, units: &[Unit]) -> Result<(), StagingError> {
        if let Some(scratch) = &self.scratch {
            scratch.remove().map_err(failed("remove", &self.input))?;
        }
        make_directory(&self.input)?;
        self.cost = Cost::default();
        for Unit { name, staged_as } in units {
            let (from, to) = (root.join(name), self.input.join(staged_as));
            if from.is_dir() {
                make_directory(&to)?;
            } else {
                File::create_new(&to).map_err(failed("make", &to))?;
            }
            self.mounts.push((staged_as.clone(), from));
        }
        self.cost.mounts = self.mounts.len() as u64;
        Ok(())
    }

    /// The directories of the input, including mounted ones.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        let own = self.overlay().map_or(self.input(), |overlay| &overlay.lower);
        std::iter::once(own).chain(self.mounts.iter().map(|(_, source)| source.as_path()))
    }

    /// Whether anything was staged at all.
    pub fn is_made(&self) -> bool {
        self.scratch.is_some()
    }
}

fn make_directory(path: &Path) -> Result<(), StagingError> {
    DirBuilder::new().mode(0o755).create(path).map_err(failed("make", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel with two items and a link, and a directory for staging beside it.
    fn bench() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let channel = folder.path().join("channel");
        for item in ["a", "b"] {
            fs::create_dir_all(channel.join(item).join("deep")).unwrap();
            fs::write(channel.join(item).join("deep/x.dcm"), "data").unwrap();
        }
        std::os::unix::fs::symlink("deep/x.dcm", channel.join("a/link")).unwrap();
        std::os::unix::fs::symlink("deep", channel.join("a/linked")).unwrap();
        let staging = folder.path().join("staging");
        (folder, channel, staging)
    }

    fn units(root: &Path, names: &[(&str, &str)]) -> InputSource {
        let unit = |(name, staged_as): &(&str, &str)| Unit { name: name.into(), staged_as: staged_as.into() };
        InputSource::Units { root: root.to_owned(), units: names.iter().map(unit).collect() }
    }

    #[test]
    fn items_are_linked_under_their_names_and_go_in_the_end() {
        let (_folder, channel, place) = bench();
        let staging = Staging::open(&place).unwrap();
        let staged = staging.stage("case", &units(&channel, &[("a", "a"), ("a", "a~2")])).unwrap();
        // The file and the link to it, twice.
        assert_eq!((staged.cost().links, staged.cost().copies), (4, 0));
        let input = staged.input().to_owned();
        assert_eq!(fs::read_to_string(input.join("a~2/link")).unwrap(), "data");
        assert!(input.join("a/linked").is_symlink() && input.join("a/linked/x.dcm").exists());
        drop(staged);
        assert!(!input.exists() && place.exists());
        drop(staging);
        assert!(!place.exists());
        assert_eq!(fs::read_to_string(channel.join("a/deep/x.dcm")).unwrap(), "data");
    }

    #[test]
    fn what_a_killed_process_has_left_goes() {
        let (_folder, _channel, place) = bench();
        fs::create_dir_all(place.join("case/deep")).unwrap();
        fs::write(place.join(MARK), "").unwrap();
        let staging = Staging::open(&place).unwrap();
        assert!(!place.join("case").exists());
        drop(staging);
        assert!(!place.exists());
    }

    #[test]
    fn a_folder_that_holds_something_else_is_not_staged_in() {
        let (_folder, channel, _place) = bench();
        for path in [channel.clone(), channel.join("a/deep/x.dcm")] {
            assert!(matches!(Staging::open(&path), Err(StagingError::Occupied { .. })), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(channel.join("a/deep/x.dcm")).unwrap(), "data");
    }

    #[test]
    fn nothing_is_removed_or_staged_through_a_link() {
        let (folder, channel, place) = bench();
        let staging = Staging::open(&place).unwrap();
        let scratch = staging.scratch("run").unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&place, &moved).unwrap();
        std::os::unix::fs::symlink(&channel, &place).unwrap();
        let refusal = staging.stage("a", &units(&channel, &[("b", "b")])).unwrap_err().refusal().cloned();
        assert_eq!(refusal, Some(Refusal::Moved(staging.path().to_owned())));
        drop((scratch, staging));
        assert_eq!(fs::read_dir(moved).unwrap().count(), 0, "what was staged is removed where it is now");
        // The mark does not make the target of a link ours.
        fs::write(channel.join(MARK), "").unwrap();
        assert!(matches!(Staging::open(&place).unwrap_err().refusal(), Some(Refusal::Link(_))));
        assert_eq!(fs::read_to_string(channel.join("a/deep/x.dcm")).unwrap(), "data");
        assert!(channel.join("b/deep/x.dcm").exists());
    }

    #[test]
    fn a_path_where_nothing_can_be_made_is_an_error() {
        for path in ["/proc/highwater-staging", "/proc/highwater/staging"] {
            let error = Staging::open(Path::new(path)).unwrap_err();
            assert!(matches!(error, StagingError::Failed { .. }), "{error}");
        }
    }

    #[test]
    fn a_folder_that_another_stages_in_is_left_alone() {
        let (_folder, channel, place) = bench();
        let first = Staging::open(&place).unwrap();
        let staged = first.stage("case", &units(&channel, &[("a", "a")])).unwrap();
        assert!(matches!(Staging::open(&place), Err(StagingError::InUse { .. })));
        assert!(staged.input().join("a/deep/x.dcm").exists());
        drop((staged, first));
        Staging::open(&place).unwrap();
    }

    #[test]
    fn bytes_are_cut_from_files_or_made_up_and_the_same_each_time() {
        let (_folder, channel, place) = bench();
        let staging = Staging::open(&place).unwrap();
        let stage = |size, from: &[&str]| {
            let from = from.iter().map(|name| channel.join(name)).collect();
            let staged = staging.stage("case", &InputSource::Bytes { size: Bytes(size), from }).unwrap();
            fs::read(staged.input()).unwrap()
        };
        assert_eq!(stage(6, &["a/deep/x.dcm"]), b"datada");
        let made_up = stage(3_000_001, &[]);
        assert_eq!((made_up.len(), &made_up), (3_000_001, &stage(3_000_001, &[])));
        assert_eq!(stage(0, &[]), b"");
        let none = InputSource::Bytes { size: Bytes(u64::MAX), from: Vec::new() };
        assert!(matches!(staging.stage("case", &none), Err(StagingError::NoRoom { .. })));
    }

    #[test]
    fn a_folder_is_used_as_it_is() {
        let (_folder, channel, place) = bench();
        let staging = Staging::open(&place).unwrap();
        let staged = staging.stage("case", &InputSource::Directory(channel.clone())).unwrap();
        assert_eq!(staged.input(), channel.canonicalize().unwrap());
        assert!(!staged.is_made());
        drop(staged);
        assert!(channel.exists());
    }
}
