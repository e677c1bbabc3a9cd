//! The lock on the directory of a sweep.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use procfs::FromRead;
use procfs::process::Stat;
use serde::{Deserialize, Serialize};

use super::{FolderError, LOCK};
use crate::directory::Directory;
use crate::model::timestamp::Timestamp;

/// How long the child of a killed process may hold the lock, on a busy machine.
const FROM_FORK_TO_EXEC: Duration = Duration::from_secs(2);

/// A lock that ends with the process: `flock(2)` on the file `lock`, whose content identifies the holder.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// The process that holds a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that has identified itself.
    Process {
        /// Its PID.
        pid: u32,
        /// Its machine: directories may be shared between machines.
        host: String,
        /// When it took the lock.
        since: Timestamp,
    },
    /// A process that has not identified itself yet.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, host, since } => {
                write!(f, "process {pid} on {host} since {}", since.0.strftime("%F %T UTC"))
            }
            Self::Unknown => f.write_str("another process"),
        }
    }
}

impl Holder {
    /// Whether it has ended. A child that it forked may still hold the lock until it executes another program.
    fn is_gone(&self) -> bool {
        let Self::Process { pid, host, .. } = self else { return false };
        *host == this_host() && i32::try_from(*pid).is_ok_and(has_ended)
    }
}

/// Whether a process is not there any more, or was killed and its parent has not taken note yet.
fn has_ended(pid: i32) -> bool {
    let is_zombie = || Stat::from_file(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.state == 'Z');
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) || is_zombie()
}

#[derive(Deserialize, Serialize)]
struct HolderRecord {
    pid: u32,
    host: String,
    since: Timestamp,
}

impl Lock {
    pub(super) fn take(folder: &Directory) -> Result<Self, FolderError> {
        let path = folder.path().join(LOCK);
        let failed = |source| FolderError::Lock { path: path.clone(), source };
        let mut file = folder.open_or_create(LOCK, false).map_err(failed)?;
        let asked = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&mut file);
                    if !holder.is_gone() || asked.elapsed() > FROM_FORK_TO_EXEC {
                        return Err(FolderError::Held { path: folder.path().to_owned(), holder });
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        write_holder(&mut file).map_err(failed)?;
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Outdated content would confuse a reader.
        let _ = self.file.set_len(0);
        // Closing the file is not enough: a child of another thread holds it, too, between fork and exec.
        let _ = self.file.unlock();
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    let said = HolderRecord { pid: std::process::id(), host: this_host(), since: Timestamp::now() };
    file.set_len(0)?;
    match file.write_all(serde_json::to_string(&said)?.as_bytes()) {
        // The lock holds even if the disk is full.
        Err(error) if super::super::is_out_of_space(&error) => Ok(()),
        result => result,
    }
}

fn this_host() -> String {
    let host = nix::sys::utsname::uname().map(|name| name.nodename().to_string_lossy().into_owned());
    host.unwrap_or_else(|_| "this machine".to_owned())
}

fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    match read.ok().and_then(|_| serde_json::from_str(&text).ok()) {
        Some(HolderRecord { pid, host, since }) => Holder::Process { pid, host, since },
        None => Holder::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(folder: &tempfile::TempDir) -> Result<Lock, FolderError> {
        Lock::take(&Directory::open(folder.path()).unwrap())
    }

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(&folder).unwrap();
        let Err(FolderError::Held { holder: Holder::Process { pid, .. }, .. }) = take(&folder) else {
            panic!("the second got the lock, or was not told");
        };
        assert_eq!(pid, std::process::id());
        drop(first);
        take(&folder).unwrap();
    }

    #[test]
    fn what_a_killed_process_has_forked_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        // Not waited for until the end: its parent may not have noticed yet.
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let id = nix::sys::wait::Id::Pid(Pid::from_raw(i32::try_from(ended.id()).unwrap()));
        nix::sys::wait::waitid(id, nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT)
            .unwrap();
        let said = HolderRecord { pid: ended.id(), host: this_host(), since: Timestamp::now() };
        std::fs::write(folder.path().join(LOCK), serde_json::to_string(&said).unwrap()).unwrap();
        let forked = File::open(folder.path().join(LOCK)).unwrap();
        forked.lock().unwrap();
        thread::scope(|scope| {
            let next = scope.spawn(|| take(&folder));
            let asked = Instant::now();
            while !next.is_finished() && asked.elapsed() < Duration::from_millis(100) {
                thread::yield_now();
            }
            forked.unlock().unwrap();
            next.join().unwrap().unwrap();
        });
        ended.wait().unwrap();
    }

    #[test]
    fn a_text_left_by_a_killed_process_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOCK), "{\"pid\":1,\"host\":\"a\",\"since\":\"2026-01-01T00:00:00Z\"}")
            .unwrap();
        take(&folder).unwrap();
    }
}
