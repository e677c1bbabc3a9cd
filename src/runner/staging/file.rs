//! Places one file in a staged input in the cheapest way that works.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::{geteuid, linkat};

use super::{StagingError, failed};
use crate::model::units::Bytes;
use crate::runner::originals::could_be_written;

/// The cost of staging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Files that are hard links.
    pub links: u64,
    /// Files that are symbolic links, because the kernel allows no hard links to files of other users
    /// (`fs.protected_hardlinks`).
    pub symbolic: u64,
    /// Files that share their blocks with the original.
    pub clones: u64,
    /// Files that were copied.
    pub copies: u64,
    /// The bytes copied.
    pub copied: Bytes,
    /// Units to mount.
    pub mounts: u64,
}

/// The cheapest way that has not failed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CopyMethod {
    HardLink,
    Clone,
    Copy,
}

/// How to place files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copying {
    pub(super) method: CopyMethod,
    /// Whether to use hard links even if a task could write to the original through them.
    pub(super) links: bool,
    /// Whether mounts are to replace copies.
    pub(super) mounts: bool,
    /// Whether files of other users may become symbolic links.
    pub(super) symbolic: bool,
    /// Whether to keep owners and modes, and the targets of links.
    pub(super) keeps_owners: bool,
}

/// Places a file; `None` if a copy would be necessary and mounts are to replace copies.
pub(super) fn place(
    from: &Path,
    to: &Path,
    copying: &mut Copying,
    cost: &mut Cost,
) -> Result<Option<()>, StagingError> {
    let Copying { method, links, mounts, symbolic, keeps_owners } = copying;
    let may_link = *links || !fs::metadata(from).is_ok_and(|metadata| could_be_written(from, &metadata));
    if *method == CopyMethod::HardLink && may_link {
        match linkat(AT_FDCWD, from, AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => {
                cost.links += 1;
                return Ok(Some(()));
            }
            // This file has too many links; others may not.
            Err(Errno::EMLINK) => {}
            // Neither does this one say anything about others.
            Err(Errno::EPERM) if (*mounts || *symbolic) && is_protected(from) => {
                if *mounts {
                    return Ok(None);
                }
                let target = fs::canonicalize(from).map_err(failed("find", from))?;
                symlink(target, to).map_err(failed("link", to))?;
                cost.symbolic += 1;
                return Ok(Some(()));
            }
            Err(Errno::EXDEV | Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EACCES) => {
                *method = CopyMethod::Clone
            }
            Err(errno) => return Err(failed("link", to)(errno.into())),
        }
    }
    let source = File::open(from).map_err(failed("read", from))?;
    let metadata = source.metadata().map_err(failed("read", from))?;
    let mut target = OpenOptions::new();
    target.write(true).create_new(true).mode(metadata.mode() & 0o777);
    let target = target.open(to).map_err(failed("make", to))?;
    if *method != CopyMethod::Copy {
        match clone(&source, &target) {
            Ok(()) => {
                cost.clones += 1;
                if *keeps_owners {
                    keep_owner(to, &metadata)?;
                }
                keep_times(&target, &metadata);
                return Ok(Some(()));
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(failed("clone", to)(error)),
            Err(_) if *method == CopyMethod::Clone => *method = CopyMethod::Copy,
            Err(_) => {}
        }
    }
    if *mounts {
        return Ok(None);
    }
    // Not by name: a file without write permission is writable only as long as it is open.
    io::copy(&mut &source, &mut &target).map_err(failed("copy", to))?;
    if *keeps_owners {
        keep_owner(to, &metadata)?;
    }
    keep_times(&target, &metadata);
    cost.copies += 1;
    cost.copied = cost.copied.saturating_add(Bytes(metadata.len()));
    Ok(Some(()))
}

/// Whether a file belongs to another user and this one cannot write to it: with `fs.protected_hardlinks`, the kernel allows
/// no hard links to it (`proc_sys_fs(5)`).
fn is_protected(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !could_be_written(path, &metadata))
}

pub(super) fn clone(source: &File, target: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open during the call, which accesses no memory of ours.
    match unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A file newer than its original might be mistaken for another one; if its time cannot be set, nothing is lost.
fn keep_times(target: &File, of: &fs::Metadata) {
    if let Ok(modified) = of.modified() {
        let _ = target.set_modified(modified);
    }
}

/// Sets the owner and mode of a copied file to those of its original, as far as this user may.
pub(super) fn keep_owner(to: &Path, of: &fs::Metadata) -> Result<(), StagingError> {
    if geteuid().is_root() {
        chown(to, Some(of.uid()), Some(of.gid())).map_err(failed("set the owner of", to))?;
    }
    fs::set_permissions(to, fs::Permissions::from_mode(of.mode() & 0o7777)).map_err(failed("set the mode of", to))
}
