//! Who writes to the folder of a sweep.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FolderError, LOCK};

/// A lock that goes with the process: `flock(2)` on the file `lock`, whose text tells others who holds it.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// Who holds a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that has said who it is.
    Process {
        /// Its number.
        pid: u32,
        /// The machine it is on: folders are shared between machines.
        host: String,
        /// When it began to hold the folder.
        since: Timestamp,
    },
    /// One that has not said it yet.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, host, since } => {
                write!(f, "process {pid} on {host} since {}", since.strftime("%F %T UTC"))
            }
            Self::Unknown => f.write_str("another process"),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Said {
    pid: u32,
    host: String,
    since: Timestamp,
}

impl Lock {
    pub(super) fn take(folder: &Path) -> Result<Self, FolderError> {
        let path = folder.join(LOCK);
        let failed = |source| FolderError::Lock { path: path.clone(), source };
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::Held { path: folder.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        say(&mut file).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The text would only puzzle a reader.
        let _ = self.file.set_len(0);
        // Closing the file is not enough: a child of another thread has it, too, from its fork to its exec.
        let _ = self.file.unlock();
    }
}

fn say(file: &mut File) -> io::Result<()> {
    let host = nix::sys::utsname::uname().map(|name| name.nodename().to_string_lossy().into_owned());
    let host = host.unwrap_or_else(|_| "this machine".to_owned());
    let said = Said { pid: std::process::id(), host, since: Timestamp::now() };
    file.set_len(0)?;
    match file.write_all(serde_json::to_string(&said)?.as_bytes()) {
        // A full disk does not keep the lock from holding.
        Err(error) if super::super::is_out_of_space(&error) => Ok(()),
        result => result,
    }
}

fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read.ok().and_then(|_| serde_json::from_str(&text).ok()) {
        Some(Said { pid, host, since }) => Holder::Process { pid, host, since },
        None => Holder::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Lock::take(folder.path()).unwrap();
        let Err(FolderError::Held { holder: Holder::Process { pid, .. }, .. }) = Lock::take(folder.path()) else {
            panic!("the second got the lock, or was not told");
        };
        assert_eq!(pid, std::process::id());
        drop(first);
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_text_left_by_a_killed_process_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK), "{\"pid\":1,\"host\":\"a\",\"since\":\"2026-01-01T00:00:00Z\"}")
            .unwrap();
        Lock::take(folder.path()).unwrap();
    }
}
