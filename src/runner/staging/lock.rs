//! The directory in which inputs are staged, and its lock.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::{StagingError, failed};
use crate::directory::Directory;

/// Marks a directory as one for staging, so that its contents may be removed; locked while it is in use.
pub(super) const MARK: &str = ".highwater-staging";

/// The parent directory of a path, and its name there.
pub(super) fn split(path: &Path) -> Result<(PathBuf, OsString), StagingError> {
    let named = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().map_err(failed("find", path))?,
    };
    match (named.parent(), named.file_name()) {
        (Some(above), Some(name)) => {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            Ok((above.to_owned(), name.to_owned()))
        }
        // The root directory.
        _ => Err(StagingError::Occupied { path: path.to_owned() }),
    }
}

/// Creates the directory and its mark if missing, and locks it. A mark of another user does not permit removing the
/// contents of the directory.
pub(super) fn lock(parent: &Directory, name: &OsStr, path: &Path) -> Result<(Directory, File), StagingError> {
    let mark = path.join(MARK);
    loop {
        let made = match parent.create_directory(name) {
            // Another process may just have removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => parent.create_directory(name),
            made => made,
        };
        let directory = match made {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(StagingError::Occupied { path: path.to_owned() });
            }
            directory => directory.map_err(failed("make", path))?,
        };
        let entries = directory.entries().map_err(failed("read", path))?;
        if !entries.is_empty() && !entries.iter().any(|entry| entry == MARK) {
            return Err(StagingError::Occupied { path: path.to_owned() });
        }
        let file = match directory.open_or_create(MARK, false) {
            // As above.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !parent.is_at(name, directory.as_file()) => {
                continue;
            }
            file => file.map_err(failed("make", &mark))?,
        };
        directory.check_made_by_us(MARK, &file).map_err(failed("make", &mark))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StagingError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => tracing::debug!("{} cannot be locked: {error}", mark.display()),
        }
        // A lock on a file that was removed before it was locked excludes no one.
        if directory.is_at(MARK, &file) {
            return Ok((directory, file));
        }
    }
}
