//! An input private to one run: clones, an overlay or copies of the originals.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::bytes::FILE;
use super::file::{CopyMethod, Copying, clone, keep_owner};
use super::{InputSource, Private, Staged, Staging, StagingError, failed, make_directory};
use crate::host::mounts::Mounts;
use crate::model::units::Bytes;
use crate::runner::originals::{Change, Originals, walk};
use crate::runner::view::{Overlay, View};

/// How to copy the files of a private input. Links keep their targets: those within the input stay within the copy.
const COPYING: Copying =
    Copying { method: CopyMethod::Clone, links: false, mounts: false, symbolic: false, keeps_owners: true };

impl Staging {
    /// Creates a private copy of a staged input of this size for one run: clones if the file system supports them, else
    /// an overlay if the caller can mount one, else copies. Owners and modes are those of the originals, as far as this
    /// user may set them.
    ///
    /// # Errors
    /// If something cannot be created or read, or the disk has no space for copies; nothing is left behind then.
    pub fn private(
        &self,
        name: &str,
        (staged, source): (&Staged, &InputSource),
        size: Bytes,
        can_mount: bool,
    ) -> Result<Staged, StagingError> {
        let scratch = self.scratch(name)?;
        let input = scratch.path.join("input");
        let mut copy = Staged { input: input.clone(), ..Staged::empty(scratch) };
        if !self.clones(source, staged) {
            if can_mount && let Some(overlay) = overlay(staged, &input)? {
                copy.private = Some(Private { overlay: Some(overlay), before: None });
                return Ok(copy);
            }
            if let Some(free) = self.free().filter(|free| *free < size) {
                return Err(StagingError::NoRoom { path: self.path.clone(), needed: size, free });
            }
        }
        let mut copying = COPYING;
        match source {
            InputSource::Directory(root) => {
                let root = root.canonicalize().map_err(failed("find", root))?;
                let kind = fs::metadata(&root).map_err(failed("read", &root))?.file_type();
                copy.tree(&root, &input, kind, &mut copying)?;
            }
            InputSource::Units { root, units } => {
                let root = root.canonicalize().map_err(failed("find", root))?;
                make_directory(&input)?;
                copy.link(&root, units, copying)?;
                keep_directory(&root, &input)?;
            }
            InputSource::Bytes { .. } => {
                make_directory(&input)?;
                copy.input = input.join(FILE);
                let kind = fs::metadata(&staged.input).map_err(failed("read", &staged.input))?.file_type();
                let to = copy.input.clone();
                copy.tree(&staged.input, &to, kind, &mut copying)?;
            }
        }
        let before = Originals::read([input.as_path()], []).map_err(failed("read", &input))?;
        copy.private = Some(Private { overlay: None, before: Some(before) });
        Ok(copy)
    }

    /// Whether the first non-empty file can be cloned to here.
    fn clones(&self, source: &InputSource, staged: &Staged) -> bool {
        let roots = match source {
            InputSource::Directory(root) => vec![root.clone()],
            InputSource::Units { root, units } => units.iter().map(|unit| root.join(&unit.name)).collect(),
            InputSource::Bytes { .. } => vec![staged.input.clone()],
        };
        let Some(from) = roots.iter().find_map(|root| first_file(root)) else { return false };
        let cloned = File::open(from).and_then(|from| clone(&from, &self.directory.create("clone")?));
        let _ = self.directory.remove("clone");
        cloned.is_ok()
    }
}

/// The first non-empty file at or below a path.
fn first_file(path: &Path) -> Option<PathBuf> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if metadata.is_dir() {
        return fs::read_dir(path).ok()?.filter_map(Result::ok).find_map(|entry| first_file(&entry.path()));
    }
    (metadata.is_file() && metadata.len() > 0).then(|| path.to_owned())
}

/// An overlay over a staged input, if it shows the same data and can be mounted: it does not show mounts below.
fn overlay(staged: &Staged, target: &Path) -> Result<Option<Overlay>, StagingError> {
    let lower = staged.input.clone();
    let has_mounts = Mounts::read().map_or(true, |mounts| mounts.below(&lower).next().is_some());
    if !geteuid().is_root() || has_mounts || !staged.mounts.is_empty() || !lower.is_dir() {
        return Ok(None);
    }
    let (upper, work) = (target.with_file_name("upper"), target.with_file_name("work"));
    for folder in [target, &upper, &work] {
        make_directory(folder)?;
    }
    // The mount shows the owner and mode of the upper directory.
    keep_directory(&lower, &upper)?;
    let overlay = Overlay { lower, upper, work, target: target.to_owned() };
    match View::open(&[], std::slice::from_ref(&overlay)) {
        Ok(_) => Ok(Some(overlay)),
        Err(error) => {
            tracing::debug!("no overlay for {}: {error}", target.display());
            fs::remove_dir(target).map_err(failed("remove", target))?;
            Ok(None)
        }
    }
}

impl Staged {
    /// The overlay to mount for a process that gets this input, if any.
    pub fn overlay(&self) -> Option<&Overlay> {
        self.private.as_ref()?.overlay.as_ref()
    }

    /// How a private input was created, for messages; `None` if it is not private.
    pub fn describe_private(&self) -> Option<&'static str> {
        let private = self.private.as_ref()?;
        Some(match (&private.overlay, self.cost.copies) {
            (Some(_), _) => "an overlay",
            (None, 0) => "clones",
            (None, _) => "copies",
        })
    }

    /// Moves what a run has created or changed in its private input to a directory, which is created if there is
    /// anything.
    ///
    /// # Errors
    /// If something cannot be read, created or moved.
    pub fn keep_changes(&self, to: &Path) -> io::Result<()> {
        let (from, changed) = match &self.private {
            Some(Private { overlay: Some(overlay), .. }) => {
                let mut changed = Vec::new();
                walk(&overlay.upper, &[], &mut |path, _| changed.push(path.to_owned()));
                (overlay.upper.as_path(), changed)
            }
            Some(Private { before: Some(before), .. }) => {
                let changes = before.changes(&[]).into_iter().filter_map(|change| match change {
                    Change::Created(path) | Change::Changed(path) => Some(path),
                    Change::Removed(_) => None,
                });
                (before.roots()[0].as_path(), changes.collect())
            }
            Some(Private { overlay: None, before: None }) | None => return Ok(()),
        };
        for path in changed {
            let metadata = fs::symlink_metadata(&path)?;
            let kind = metadata.file_type();
            // An overlay marks a removed file with a device.
            if metadata.is_dir() || kind.is_char_device() {
                continue;
            }
            let target = to.join(path.strip_prefix(from).unwrap_or(&path));
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            if kind.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, target)?;
            } else if kind.is_file() && fs::rename(&path, &target).is_err() {
                fs::copy(&path, &target)?;
            }
        }
        Ok(())
    }
}

/// Sets owner, mode and time of a copied directory to those of its original. If the original is not writable because
/// another user owns it, the copy is, because it belongs to this user.
pub(super) fn keep_directory(from: &Path, to: &Path) -> Result<(), StagingError> {
    let metadata = fs::metadata(from).map_err(failed("read", from))?;
    keep_owner(to, &metadata)?;
    if !geteuid().is_root() {
        let mode = metadata.mode() & 0o7777 | 0o700;
        fs::set_permissions(to, fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", to))?;
    }
    if let (Ok(folder), Ok(modified)) = (File::open(to), metadata.modified()) {
        let _ = folder.set_modified(modified);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::Unit;

    /// What is left of an input with two items by a run that changes, removes and creates one file each.
    #[test]
    fn a_private_copy_can_be_written_to_and_what_changed_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("data");
        for item in ["a", "b"] {
            fs::create_dir_all(root.join(item)).unwrap();
            fs::write(root.join(item).join("x"), item).unwrap();
        }
        fs::set_permissions(root.join("a/x"), fs::Permissions::from_mode(0o444)).unwrap();
        let staging = Staging::open(&folder.path().join("staging")).unwrap();
        let units = ["a", "b"].map(|name| Unit::same(name.into())).to_vec();
        for source in [InputSource::Directory(root.clone()), InputSource::Units { root: root.clone(), units }] {
            let staged = staging.stage("case", &source).unwrap();
            let copy = staging.private("run", (&staged, &source), Bytes(2), false).unwrap();
            let input = copy.input();
            assert_eq!(fs::metadata(input.join("a/x")).unwrap().mode() & 0o777, 0o444);
            fs::remove_file(input.join("a/x")).unwrap();
            fs::write(input.join("b/x"), "changed").unwrap();
            fs::create_dir(input.join("b/out")).unwrap();
            fs::write(input.join("b/out/mask"), "made").unwrap();
            let kept = folder.path().join("kept");
            copy.keep_changes(&kept).unwrap();
            assert_eq!(fs::read_to_string(kept.join("b/x")).unwrap(), "changed");
            assert_eq!(fs::read_to_string(kept.join("b/out/mask")).unwrap(), "made");
            assert!(!kept.join("a").exists());
            fs::remove_dir_all(&kept).unwrap();
            assert_eq!(fs::read_to_string(root.join("a/x")).unwrap(), "a");
            assert_eq!(fs::read_to_string(root.join("b/x")).unwrap(), "b");
            assert!(!root.join("b/out").exists());
        }
    }
}
