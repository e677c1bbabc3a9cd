//! The page cache before a run: dropped as far as permitted, or filled.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::{geteuid, sync};

use crate::model::observation::Dropped;

/// Writing to this file drops clean pages, directory entries and inodes of the whole machine
/// (Documentation/admin-guide/sysctl/vm.rst).
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// Drops the page cache: of the whole machine if permitted, else that of the input files (`posix_fadvise(2)` with
/// `POSIX_FADV_DONTNEED`), which needs only read permission. Pages that are mapped by a process stay.
///
/// # Errors
/// If a file cannot be read.
pub fn drop_caches<'a>(inputs: impl IntoIterator<Item = &'a Path>) -> io::Result<Dropped> {
    for input in inputs {
        files(input, &mut |file| {
            // Dirty pages cannot be dropped.
            let _ = file.sync_data();
            match posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED) {
                Ok(()) | Err(Errno::ESPIPE) => Ok(()),
                Err(errno) => Err(errno.into()),
            }
        })?;
    }
    if geteuid().is_root() {
        sync();
        // Root in a container may not be permitted to.
        if fs::write(DROP_CACHES, "3").is_ok() {
            return Ok(Dropped::Everything);
        }
    }
    Ok(Dropped::Inputs)
}

/// Reads all input files once.
///
/// # Errors
/// If a file cannot be read.
pub fn read_all<'a>(inputs: impl IntoIterator<Item = &'a Path>) -> io::Result<()> {
    let mut block = vec![0; 1 << 18];
    for input in inputs {
        files(input, &mut |mut file| {
            while file.read(&mut block)? > 0 {}
            Ok(())
        })?;
    }
    Ok(())
}

/// Calls `with` for every regular file at or below the path.
fn files(path: &Path, with: &mut dyn FnMut(File) -> io::Result<()>) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        return with(File::open(path)?);
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Links to directories are not followed, as when sizes are measured.
            if !kind.is_symlink() || entry.path().is_file() {
                files(&entry.path(), with)?;
            }
        }
    }
    Ok(())
}
