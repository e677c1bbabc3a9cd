//! One file into a staged input: by the cheapest way that works.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::unistd::linkat;

use super::{StagingError, failed, private};
use crate::model::units::Bytes;
use crate::runner::originals::could_be_written;

/// What staging took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Files that are hard links.
    pub links: u64,
    /// Files that share their blocks with the original.
    pub clones: u64,
    /// Files that had to be copied.
    pub copies: u64,
    /// The bytes of those.
    pub copied: Bytes,
    /// Units that are to be mounted.
    pub mounts: u64,
}

/// The cheapest way that has not failed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    HardLink,
    Clone,
    Copy,
}

/// How files are placed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copying {
    pub(super) way: Way,
    /// Whether a file may be a hard link although a task could write to the original through it.
    pub(super) links: bool,
    /// Whether mounts are to take the place of copies.
    pub(super) mounts: bool,
    /// Whether owners and modes are those of the originals, and links lead to where they say.
    pub(super) keeps_owners: bool,
}

/// Places a file; `None` where only a copy would do and mounts are to take its place.
pub(super) fn place(
    from: &Path,
    to: &Path,
    copying: &mut Copying,
    cost: &mut Cost,
) -> Result<Option<()>, StagingError> {
    let Copying { way, links, mounts, keeps_owners } = copying;
    let may_link = *links || !fs::metadata(from).is_ok_and(|metadata| could_be_written(from, &metadata));
    if *way == Way::HardLink && may_link {
        match linkat(AT_FDCWD, from, AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => {
                cost.links += 1;
                return Ok(Some(()));
            }
            // Too many links to this one file: the others may do.
            Err(Errno::EMLINK) => {}
            Err(Errno::EXDEV | Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EACCES) => *way = Way::Clone,
            Err(errno) => return Err(failed("link", to)(errno.into())),
        }
    }
    let source = File::open(from).map_err(failed("read", from))?;
    let metadata = source.metadata().map_err(failed("read", from))?;
    let mut target = OpenOptions::new();
    target.write(true).create_new(true).mode(metadata.mode() & 0o777);
    let target = target.open(to).map_err(failed("make", to))?;
    if *way != Way::Copy {
        match clone(&source, &target) {
            Ok(()) => {
                cost.clones += 1;
                if *keeps_owners {
                    private::keep_owner(to, &metadata)?;
                }
                keep_times(&target, &metadata);
                return Ok(Some(()));
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(failed("clone", to)(error)),
            Err(_) if *way == Way::Clone => *way = Way::Copy,
            Err(_) => {}
        }
    }
    if *mounts {
        return Ok(None);
    }
    // Not by name: a file that nobody may write to can be written to only as long as it is open.
    io::copy(&mut &source, &mut &target).map_err(failed("copy", to))?;
    if *keeps_owners {
        private::keep_owner(to, &metadata)?;
    }
    keep_times(&target, &metadata);
    cost.copies += 1;
    cost.copied = cost.copied.saturating_add(Bytes(metadata.len()));
    Ok(Some(()))
}

pub(super) fn clone(source: &File, target: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open while the call lasts; it reads nothing else of ours.
    match unsafe { libc::ioctl(target.as_raw_fd(), libc::FICLONE, source.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A file that is newer than its original might be taken for another one; where that cannot be helped nothing is lost.
fn keep_times(target: &File, of: &fs::Metadata) {
    if let Ok(modified) = of.modified() {
        let _ = target.set_modified(modified);
    }
}
