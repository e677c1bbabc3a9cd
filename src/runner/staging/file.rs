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

use super::original::Original;
use super::{StagingError, failed};
use crate::model::units::Bytes;

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

/// Places a file; `None` where only a copy would do and mounts are to take its place. What comes back is to be watched:
/// through a hard link a task could write to the original.
pub(super) fn place(
    from: &Path,
    to: &Path,
    way: &mut Way,
    mounts: bool,
    cost: &mut Cost,
) -> Result<Option<Option<Original>>, StagingError> {
    if *way == Way::HardLink {
        match linkat(AT_FDCWD, from, AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => {
                cost.links += 1;
                return Original::of(from, to).map(|original| Some(Some(original))).map_err(failed("read", to));
            }
            // Too many links to this one file: the others may do.
            Err(Errno::EMLINK) => {}
            Err(Errno::EXDEV | Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EACCES) => *way = Way::Clone,
            Err(errno) => return Err(failed("link", to)(errno.into())),
        }
    }
    let mut source = File::open(from).map_err(failed("read", from))?;
    let metadata = source.metadata().map_err(failed("read", from))?;
    let mut target = OpenOptions::new();
    target.write(true).create_new(true).mode(metadata.mode() & 0o777);
    let mut target = target.open(to).map_err(failed("make", to))?;
    if *way != Way::Copy {
        match clone(&source, &target) {
            Ok(()) => {
                cost.clones += 1;
                keep_times(&target, &metadata);
                return Ok(Some(None));
            }
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(failed("clone", to)(error)),
            Err(_) if *way == Way::Clone => *way = Way::Copy,
            Err(_) => {}
        }
    }
    if mounts {
        return Ok(None);
    }
    // Not `fs::copy`, which would give the copy of another user's set-user-ID program that right for us.
    io::copy(&mut source, &mut target).map_err(failed("copy", to))?;
    keep_times(&target, &metadata);
    cost.copies += 1;
    cost.copied = cost.copied.saturating_add(Bytes(metadata.len()));
    Ok(Some(None))
}

fn clone(source: &File, target: &File) -> io::Result<()> {
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

/// Bytes that no compression makes smaller, the same for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        // The generator stands still at zero.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Marsaglia's xorshift (2003): random enough for data, and as fast as a disk.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            part.copy_from_slice(&self.0.to_le_bytes()[..part.len()]);
        }
    }
}
