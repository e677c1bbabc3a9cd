//! Keeps the data that a user names as input unchanged while tasks run.
//!
//! A process sees them read-only, at every path that leads to them, in a mount namespace of its own. Writes that this
//! does not prevent, such as by a daemon or through a second hard link, or where mount namespaces are not available,
//! are detected: the state of every file is compared with its state before the first run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

use super::view::{Mount, Overlay, View, ViewError};
use crate::host::mounts::Mounts;
use crate::model::problem::one_line;

/// If links in an input lead to more files outside of it than this, their common directory is mounted instead.
const MOST_LINKED_FILES: usize = 1000;

/// Data that must not change.
#[derive(Debug)]
pub struct Originals {
    /// Without symbolic links in their paths.
    roots: Vec<PathBuf>,
    /// Paths in the roots that may be written to.
    except: Vec<PathBuf>,
    states: BTreeMap<PathBuf, State>,
    /// Targets of links in the roots that lie outside of them.
    linked: Vec<PathBuf>,
    could_be_written: bool,
}

/// A hash of what changes when a file is written to or its mode or owner is set. It excludes the inode's change time,
/// which every new hard link to the file updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u64);

impl State {
    fn new(metadata: &fs::Metadata) -> Self {
        let mut hash = DefaultHasher::new();
        (metadata.mode(), metadata.uid(), metadata.gid()).hash(&mut hash);
        if !metadata.is_dir() {
            (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()).hash(&mut hash);
        }
        Self(hash.finish())
    }
}

/// What happened to a file or directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Its content, mode or owner changed.
    Changed(PathBuf),
    /// It was created.
    Created(PathBuf),
    /// It was removed.
    Removed(PathBuf),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(path) => write!(f, "{} was changed", path.display()),
            Self::Created(path) => write!(f, "{} was created", path.display()),
            Self::Removed(path) => write!(f, "{} was removed", path.display()),
        }
    }
}

impl Originals {
    /// Reads the state of everything at and below these paths, except for what lies below `except`.
    ///
    /// # Errors
    /// If a path does not exist. Unreadable paths below it are skipped: the task cannot read them either.
    pub fn read<'a>(
        roots: impl IntoIterator<Item = &'a Path>,
        except: impl IntoIterator<Item = &'a Path>,
    ) -> io::Result<Self> {
        let mut roots = roots.into_iter().map(Path::canonicalize).collect::<io::Result<Vec<_>>>()?;
        roots.sort();
        // A root inside another one is sorted after it.
        roots.dedup_by(|later, earlier| later.starts_with(earlier));
        // An output that is also an input counts as input.
        let except = except.into_iter().filter_map(|path| path.canonicalize().ok());
        let except = except.filter(|path| !roots.contains(path)).collect();
        let mut originals =
            Self { roots, except, states: BTreeMap::new(), linked: Vec::new(), could_be_written: geteuid().is_root() };
        for root in originals.roots.clone() {
            let links = originals.read_tree(&root);
            links.iter().for_each(|link| originals.follow(link));
        }
        originals.linked.sort();
        originals.linked.dedup_by(|later, earlier| later.starts_with(earlier));
        Ok(originals)
    }

    /// Reads the state of everything at and below a path, and returns the symbolic links there.
    fn read_tree(&mut self, root: &Path) -> Vec<PathBuf> {
        let mut links = Vec::new();
        walk(root, &self.except, &mut |path, metadata| {
            self.states.insert(path.to_owned(), State::new(metadata));
            if metadata.is_symlink() {
                links.push(path.to_owned());
            } else {
                self.could_be_written = self.could_be_written || could_be_written(path, metadata);
            }
        });
        links
    }

    /// Reads the target of a link in the roots, without following the links in it.
    fn follow(&mut self, link: &Path) {
        let Ok(target) = link.canonicalize() else { return };
        let is_inside = self.roots.iter().any(|root| target.starts_with(root));
        // A directory above the input is not part of the data.
        let is_above = self.roots.iter().any(|root| root.starts_with(&target));
        if !is_inside && !is_above && (target.is_file() || target.is_dir()) {
            // Another link may lead to it, or to a directory above it.
            if !self.states.contains_key(&target) {
                self.read_tree(&target);
            }
            self.linked.push(target);
        }
    }

    /// The roots, without symbolic links in their paths.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Whether a path without symbolic links lies in the roots and may not be written to.
    pub fn holds(&self, path: &Path) -> bool {
        let is_in = |paths: &[PathBuf]| paths.iter().any(|root| path.starts_with(root));
        is_in(&self.roots) && !is_in(&self.except)
    }

    /// Whether this user could write to any of them, or set their modes.
    pub fn could_be_written(&self) -> bool {
        self.could_be_written
    }

    /// The changes below these paths, or in all data if no path is given.
    pub fn changes(&self, below: &[PathBuf]) -> Vec<Change> {
        let below = if below.is_empty() { self.roots.as_slice() } else { below };
        let mut changes = Vec::new();
        for root in below.iter().chain(&self.linked) {
            let mut before: BTreeMap<&Path, State> = self
                .states
                .range::<PathBuf, _>(root..)
                .take_while(|(path, _)| path.starts_with(root))
                .map(|(path, state)| (path.as_path(), *state))
                .collect();
            walk(root, &self.except, &mut |path, metadata| match before.remove(path) {
                None => changes.push(Change::Created(path.to_owned())),
                Some(state) if state != State::new(metadata) => changes.push(Change::Changed(path.to_owned())),
                Some(_) => {}
            });
            changes.extend(before.into_keys().map(|path| Change::Removed(path.to_owned())));
        }
        changes.sort();
        // A path may be in the roots and the target of a link.
        changes.dedup();
        changes
    }

    /// Every path at which they are visible.
    ///
    /// # Errors
    /// If the mounts of this process cannot be read.
    pub fn names(&self) -> io::Result<Vec<PathBuf>> {
        let mounts = Mounts::read()?;
        let mut names = Vec::new();
        for path in self.roots.iter().chain(&self.linked_places(MOST_LINKED_FILES)) {
            names.push(path.clone());
            names.extend(mounts.other_names(path)?);
        }
        Ok(names)
    }

    /// The targets of links, or their common directory if there are more than `most` files and nothing else in it that
    /// the task may need to write to.
    fn linked_places(&self, most: usize) -> Vec<PathBuf> {
        let Some(mut above) = self.linked.first().cloned().filter(|_| self.linked.len() > most) else {
            return self.linked.clone();
        };
        for path in &self.linked {
            while !path.starts_with(&above) || *path == above {
                above.pop();
            }
        }
        let here = std::env::current_dir().ok();
        let mut others = self.roots.iter().chain(&self.except).chain(here.as_ref());
        let is_shared = others.any(|path| path.starts_with(&above)) || std::env::temp_dir().starts_with(&above);
        if is_shared { Vec::new() } else { vec![above] }
    }

    /// Mounts that make the data read-only at every path, except for what may be written to.
    ///
    /// # Errors
    /// As for [`Originals::names`].
    pub fn read_only(&self) -> io::Result<Vec<Mount>> {
        let in_place = |path: PathBuf, read_only| Mount { source: path.clone(), target: path, read_only };
        let mut mounts: Vec<Mount> = self.names()?.into_iter().map(|path| in_place(path, true)).collect();
        for path in &self.except {
            if mounts.iter().any(|mount| path.starts_with(&mount.target)) {
                mounts.push(in_place(path.clone(), false));
            }
        }
        Ok(mounts)
    }
}

/// Calls `with` for a path and everything below it, without following links.
pub(super) fn walk(path: &Path, except: &[PathBuf], with: &mut dyn FnMut(&Path, &fs::Metadata)) {
    if except.iter().any(|except| path == except) {
        return;
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    with(path, &metadata);
    if metadata.is_dir() {
        let Ok(entries) = fs::read_dir(path) else { return };
        for entry in entries.filter_map(Result::ok) {
            walk(&entry.path(), except, with);
        }
    }
}

pub(super) fn could_be_written(path: &Path, metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() || access(path, AccessFlags::W_OK).is_ok()
}

/// Protects the originals from changes.
#[derive(Debug)]
pub struct Guard {
    originals: Originals,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Tasks see them read-only, through these mounts.
    Mounts { mounts: Vec<Mount>, has_user_namespace: bool },
    /// This user cannot write to them.
    Unneeded,
    /// Changes are only detected.
    Watch { reason: Option<String> },
}

impl Guard {
    /// Protects the originals from a process with read-only mounts, if that is necessary and possible.
    pub fn new(originals: Originals) -> Self {
        if !originals.could_be_written() {
            return Self { originals, kind: Kind::Unneeded };
        }
        let kind = match originals.read_only() {
            Ok(mounts) => match View::open(&mounts, &[]) {
                Ok(view) => Kind::Mounts { mounts, has_user_namespace: view.has_user_namespace() },
                Err(error) => Kind::Watch { reason: Some(one_line(&error)) },
            },
            Err(error) => Kind::Watch { reason: Some(format!("failed to read the mounts: {error}")) },
        };
        Self { originals, kind }
    }

    /// Only detects changes: for containers, which have mounts of their own, and for tasks that cannot run in a mount
    /// namespace, with the reason.
    pub fn watch(originals: Originals, reason: Option<String>) -> Self {
        Self { originals, kind: Kind::Watch { reason } }
    }

    /// The protected data.
    pub fn originals(&self) -> &Originals {
        &self.originals
    }

    /// Whether a task that is started in [`Guard::view`] cannot write to the originals.
    pub fn protects(&self) -> bool {
        matches!(self.kind, Kind::Mounts { .. })
    }

    /// Whether a process may find its input in a mount namespace, be it to protect the originals or to show them elsewhere.
    pub fn allows_mounts(&self) -> bool {
        !matches!(self.kind, Kind::Watch { .. })
    }

    /// Whether such a namespace can be created.
    pub fn can_mount(&self) -> bool {
        match self.kind {
            Kind::Mounts { .. } => true,
            Kind::Unneeded => self.originals.read_only().is_ok_and(|mounts| View::open(&mounts, &[]).is_ok()),
            Kind::Watch { .. } => false,
        }
    }

    /// Whether a task could write to the originals if it finds them.
    pub fn could_be_written_to(&self) -> bool {
        !self.protects() && self.originals.could_be_written()
    }

    /// Why a task could write to them and changes are only detected.
    pub fn obstacle(&self) -> Option<&str> {
        match &self.kind {
            Kind::Watch { reason } => reason.as_deref(),
            Kind::Mounts { .. } | Kind::Unneeded => None,
        }
    }

    /// Whether the task runs in a user namespace for the protection.
    pub fn has_user_namespace(&self) -> bool {
        matches!(self.kind, Kind::Mounts { has_user_namespace: true, .. })
    }

    /// The mounts that protect the originals; none if changes are only detected.
    pub fn mounts(&self) -> &[Mount] {
        match &self.kind {
            Kind::Mounts { mounts, .. } => mounts,
            Kind::Watch { .. } | Kind::Unneeded => &[],
        }
    }

    /// A mount namespace in which the originals are read-only, with further mounts; `None` if it would equal the
    /// current one.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn view(&self, more: &[Mount], overlays: &[Overlay]) -> Result<Option<View>, ViewError> {
        let mounts = [more, self.mounts()].concat();
        if mounts.is_empty() && overlays.is_empty() { Ok(None) } else { View::open(&mounts, overlays).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data with an item `a`, a link to a file and one to a directory outside.
    fn data() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        fs::create_dir_all(path.join("data/a")).unwrap();
        fs::write(path.join("data/a/x"), "data").unwrap();
        fs::create_dir(path.join("store")).unwrap();
        fs::write(path.join("store/y"), "data").unwrap();
        std::os::unix::fs::symlink("../../store/y", path.join("data/a/y")).unwrap();
        std::os::unix::fs::symlink("..", path.join("data/up")).unwrap();
        (directory, path)
    }

    fn read(path: &Path) -> Originals {
        Originals::read([path.join("data").as_path()], []).unwrap()
    }

    #[test]
    fn every_kind_of_change_is_named() {
        let (_directory, path) = data();
        let originals = read(&path);
        assert_eq!(originals.changes(&[]), []);
        fs::write(path.join("data/a/x"), "more data").unwrap();
        fs::write(path.join("data/a/z"), "").unwrap();
        fs::write(path.join("store/y"), "more data").unwrap();
        fs::remove_file(path.join("data/up")).unwrap();
        let expected = [
            Change::Changed(path.join("data/a/x")),
            Change::Changed(path.join("store/y")),
            Change::Created(path.join("data/a/z")),
            Change::Removed(path.join("data/up")),
        ];
        assert_eq!(originals.changes(&[]), expected);
        assert_eq!(originals.changes(&[path.join("data/a")]).len(), 3);
    }

    #[test]
    fn what_links_lead_to_is_guarded_but_not_what_lies_above_the_input() {
        let (_directory, path) = data();
        let originals = read(&path);
        assert!(originals.could_be_written());
        assert_eq!(originals.names().unwrap(), [path.join("data"), path.join("store/y")]);
    }

    #[test]
    fn changes_behind_a_link_to_a_directory_are_named() {
        let (_directory, path) = data();
        fs::create_dir(path.join("far")).unwrap();
        fs::write(path.join("far/x"), "data").unwrap();
        fs::write(path.join("far/y"), "data").unwrap();
        std::os::unix::fs::symlink("../far", path.join("data/far")).unwrap();
        // A second link into the same directory is not a second change.
        std::os::unix::fs::symlink("../far/x", path.join("data/x")).unwrap();
        let originals = read(&path);
        assert_eq!(originals.changes(&[]), []);
        fs::write(path.join("far/x"), "more data").unwrap();
        fs::remove_file(path.join("far/y")).unwrap();
        fs::write(path.join("far/z"), "").unwrap();
        let expected = [
            Change::Changed(path.join("far/x")),
            Change::Created(path.join("far/z")),
            Change::Removed(path.join("far/y")),
        ];
        assert_eq!(originals.changes(&[]), expected);
        assert_eq!(originals.changes(&[path.join("data")]), expected);
        assert_eq!(originals.changes(&[path.join("far")]), expected);
    }

    #[test]
    fn what_lies_behind_a_link_to_a_directory_could_be_written() {
        let (_directory, path) = data();
        let mut originals = read(&path);
        originals.could_be_written = false;
        originals.follow(&path.join("data/a/y"));
        assert!(!originals.could_be_written(), "it was read before");
        fs::create_dir(path.join("far")).unwrap();
        fs::write(path.join("far/x"), "data").unwrap();
        std::os::unix::fs::symlink("../far", path.join("data/far")).unwrap();
        originals.follow(&path.join("data/far"));
        assert!(originals.could_be_written() && originals.states.contains_key(&path.join("far/x")));
    }

    #[test]
    fn many_linked_files_are_guarded_by_the_directory_above_them() {
        let (_directory, path) = data();
        for name in ["1", "2"] {
            fs::create_dir(path.join("store").join(name)).unwrap();
            fs::write(path.join("store").join(name).join("z"), "data").unwrap();
            std::os::unix::fs::symlink(format!("../store/{name}/z"), path.join("data").join(name)).unwrap();
        }
        let originals = read(&path);
        assert_eq!(originals.linked_places(3).len(), 3);
        assert_eq!(originals.linked_places(2), [path.join("store")]);
        // The directory above is that of the input, too.
        fs::write(path.join("w"), "data").unwrap();
        std::os::unix::fs::symlink("../w", path.join("data/w")).unwrap();
        assert_eq!(read(&path).linked_places(2), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_is_excepted_is_neither_watched_nor_read_only() {
        let (_directory, path) = data();
        let out = path.join("data/out");
        fs::create_dir(&out).unwrap();
        let originals = Originals::read([path.join("data").as_path()], [out.as_path()]).unwrap();
        fs::write(out.join("mask"), "").unwrap();
        assert_eq!(originals.changes(&[]), []);
        let mounts = originals.read_only().unwrap();
        let read_only = |path: &Path| mounts.iter().find(|mount| mount.target == path).map(|mount| mount.read_only);
        assert_eq!((read_only(&path.join("data")), read_only(&out)), (Some(true), Some(false)));
    }
}
