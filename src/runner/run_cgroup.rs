//! A cgroup that holds one run and nothing else.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup_owner::CgroupOwner;
use super::{FinishError, StartError};
use crate::host::HostRoots;
use crate::host::cgroup::{Cgroup, counts_huge_pages};
use crate::host::processes::{FindProcesses, LargestProcesses, is_ending, largest_processes, offspring};
use crate::model::observation::CgroupVersion;
use crate::model::units::Bytes;

/// How long emptying and removing may take. A process in an uninterruptible wait dies only when the wait ends.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much longer it may take while a killed process is ending: the kernel frees some gigabytes a second.
pub(super) const LONGEST_ENDING: Duration = Duration::from_secs(60);

/// The largest amount charged at once (x86-64 and most others).
const HUGE_PAGE: u64 = 2 << 20;

/// The number of cgroups created by this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The cgroup of one run. Dropping it kills the processes in it and removes it.
#[derive(Debug)]
pub(super) struct RunCgroup {
    cgroup: Cgroup,
    /// The file through which a new process joins: the directory on v2, `tasks` on v1.
    procs: File,
    removed: bool,
}

impl RunCgroup {
    /// Creates a cgroup below `parent`.
    pub(super) fn create(parent: &Cgroup) -> Result<Self, StartError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Cgroup { action, path, source }
        };
        let cgroup = loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            if number == 0 {
                remove_abandoned(parent);
            }
            let cgroup = parent.child(&CgroupOwner::this().cgroup(number));
            match std::fs::create_dir(&cgroup.path) {
                // Left by a killed highwater with the same pid. Only an empty one is removed, because others may have
                // created it; then the next name is tried.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(std::fs::remove_dir(&cgroup.path)),
                result => {
                    result.map_err(failed("create the cgroup", &cgroup.path))?;
                    break cgroup;
                }
            }
        };
        if cgroup.version() == CgroupVersion::V1 {
            // Without it (the default before Linux 5.11) cgroups that the task creates below would not be counted.
            let _ = write_to(&cgroup.path.join("memory.use_hierarchy"), "1");
        }
        let procs = match cgroup.version() {
            CgroupVersion::V1 => OpenOptions::new().read(true).write(true).open(cgroup.path.join("tasks")),
            CgroupVersion::V2 => File::open(&cgroup.path),
        };
        match procs {
            Ok(procs) => Ok(Self { cgroup, procs, removed: false }),
            Err(source) => {
                // It was just created and is empty; if it cannot be removed, the original error is more useful.
                let _ = std::fs::remove_dir(&cgroup.path);
                Err(failed("open the cgroup", &cgroup.path)(source))
            }
        }
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(super) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }

    /// Sets the memory limit and disables swap beyond it.
    pub(super) fn limit(&self, limit: Bytes) -> Result<(), StartError> {
        match self.cgroup.version() {
            CgroupVersion::V1 => {
                self.write("memory.limit_in_bytes", &limit.0.to_string())?;
                self.write_if_there("memory.swappiness", "0")?;
                // With the same value for both, the combined limit of memory and swap would be reached first, and not
                // every kernel counts that. Charges are at most a huge page.
                let together = limit.0.saturating_add(HUGE_PAGE);
                self.write_if_there("memory.memsw.limit_in_bytes", &together.to_string())
            }
            CgroupVersion::V2 => {
                self.write("memory.max", &limit.0.to_string())?;
                self.write_if_there("memory.swap.max", "0")
            }
        }
    }

    /// Writes to a file if it exists. A kernel without swap accounting has no such file and needs no limit either.
    fn write_if_there(&self, name: &str, value: &str) -> Result<(), StartError> {
        match self.write(name, value) {
            Err(StartError::Cgroup { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn write(&self, name: &str, value: &str) -> Result<(), StartError> {
        let path = self.cgroup.path.join(name);
        write_to(&path, value).map_err(|source| StartError::Cgroup { action: "set the limit in", path, source })
    }

    /// Kills everything in it and waits until it is empty; returns the number of processes killed.
    pub(super) fn kill_all(&self) -> Result<u64, FinishError> {
        if self.is_empty() {
            return Ok(0);
        }
        kill_all(&self.cgroup).map_err(|source| FinishError::Cgroup {
            action: "empty the cgroup",
            path: self.cgroup.path.clone(),
            source,
        })
    }

    /// Whether the open file shows that the cgroup is empty, as most runs leave it.
    fn is_empty(&self) -> bool {
        let is_alone = || std::fs::metadata(&self.cgroup.path).is_ok_and(|metadata| metadata.nlink() == 2);
        self.cgroup.version() == CgroupVersion::V1
            && self.procs.read_at(&mut [0], 0).is_ok_and(|read| read == 0)
            && is_alone()
    }

    /// Leaves the removal to the reaper.
    pub(super) fn leave(mut self) -> Result<(), FinishError> {
        self.removed = true;
        Ok(())
    }

    /// Removes it, with everything that the task created below it.
    pub(super) fn remove(mut self) -> Result<(), FinishError> {
        self.removed = true;
        destroy(&self.cgroup).map_err(|source| FinishError::Cgroup {
            action: "remove the cgroup",
            path: self.cgroup.path.clone(),
            source,
        })
    }
}

impl Drop for RunCgroup {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = destroy(&self.cgroup)
        {
            tracing::warn!("failed to remove the cgroup {}: {error}", self.cgroup.path.display());
        }
    }
}

/// Removes the empty cgroups of highwater processes that were killed before they started the task.
fn remove_abandoned(parent: &Cgroup) {
    for entry in std::fs::read_dir(&parent.path).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(CgroupOwner::parse).and_then(CgroupOwner::is_gone) == Some(true) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// The largest processes in a cgroup and below it.
pub(super) fn largest_in(roots: &HostRoots, cgroup: &Cgroup, most: usize) -> LargestProcesses {
    let mut pids = Vec::new();
    // An incomplete list is better than none.
    let _ = processes(&cgroup.path, &mut pids);
    let mut found = largest_processes(roots, &pids, most);
    found.hugetlb = found.hugetlb.filter(|_| !counts_huge_pages(roots));
    found
}

/// Finds the processes of a run in its cgroup and below it, and those that descend from a process.
#[derive(Clone, Debug)]
pub(super) struct Members {
    pub(super) roots: HostRoots,
    pub(super) cgroup: Option<PathBuf>,
    pub(super) ancestor: Option<i32>,
}

impl FindProcesses for Members {
    fn quick(&self) -> Vec<i32> {
        match &self.cgroup {
            Some(cgroup) => {
                let mut pids = Vec::new();
                // An incomplete list is better than none.
                let _ = processes(cgroup, &mut pids);
                pids
            }
            None => self.descendants(),
        }
    }

    fn all(&self) -> Vec<i32> {
        let mut pids = self.quick();
        if self.cgroup.is_some() {
            pids.extend(self.descendants());
        }
        pids
    }
}

impl Members {
    fn descendants(&self) -> Vec<i32> {
        self.ancestor.and_then(|ancestor| offspring(&self.roots, ancestor)).unwrap_or_default()
    }
}

/// Kills everything in a cgroup and removes it, with everything below it.
pub(super) fn destroy(cgroup: &Cgroup) -> io::Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        match remove_tree(&cgroup.path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            // Something is still in it, or has just ended and is not yet accounted for.
            Err(_) => {
                kill_all(cgroup)?;
                thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

/// Tries once to remove a cgroup with everything below it, and sends SIGKILL to the processes in it. Returns whether it
/// is gone.
pub(super) fn try_to_destroy(cgroup: &Cgroup) -> bool {
    let is_gone = || remove_tree(&cgroup.path).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true);
    if is_gone() {
        return true;
    }
    let mut left = Vec::new();
    if processes(&cgroup.path, &mut left).is_ok() {
        send_kill(cgroup, &left);
    }
    is_gone()
}

/// Whether there is a process in the cgroup at `path` or below it, in any pid namespace.
#[cfg(feature = "containers")]
pub(super) fn has_processes(path: &Path) -> bool {
    match std::fs::read(path.join("cgroup.procs")) {
        Ok(list) if list.is_empty() => {}
        Err(error) if is_gone(&error) => return false,
        // A list that cannot be read, such as that of a threaded cgroup, may contain one.
        Ok(_) | Err(_) => return true,
    }
    directories(path).is_ok_and(|directories| directories.iter().any(|directory| has_processes(directory)))
}

/// Kills everything in a cgroup and below it, and waits until it is empty; returns the number of processes killed.
pub(super) fn kill_all(cgroup: &Cgroup) -> io::Result<u64> {
    let mut seen = HashSet::new();
    let deadline = Instant::now() + KILL_TIMEOUT;
    let mut pause = Duration::from_micros(50);
    loop {
        let mut left = Vec::new();
        processes(&cgroup.path, &mut left)?;
        if left.is_empty() {
            return Ok(seen.len() as u64);
        }
        let roots = HostRoots::default();
        if Instant::now() > deadline
            && (Instant::now() > deadline + LONGEST_ENDING || !left.iter().any(|pid| is_ending(&roots, *pid)))
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("processes {left:?} survive SIGKILL")));
        }
        let known = seen.len();
        seen.extend(left.iter().copied());
        send_kill(cgroup, &left);
        if seen.len() == known {
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }
}

/// Sends SIGKILL to the processes of a cgroup.
fn send_kill(cgroup: &Cgroup, processes: &[i32]) {
    // v2 kills all at once (Linux 5.14+), so that even a fork bomb cannot escape.
    if cgroup.version() == CgroupVersion::V2 && write_to(&cgroup.path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Stop them first, so that none forks while the rest is being killed.
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in processes {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }
}

/// Adds the processes in the cgroup at `path` and below it.
fn processes(path: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    match std::fs::read_to_string(path.join("cgroup.procs")) {
        // A process outside of our pid namespace is listed as 0, and signalling 0 would reach our own process group.
        Ok(list) => found.extend(list.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid: &i32| *pid > 0)),
        Err(error) if is_gone(&error) => return Ok(()),
        // A threaded cgroup created by the task has no list of processes; the cgroup above it has.
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
        Err(error) => return Err(error),
    }
    for directory in directories(path)? {
        processes(&directory, found)?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    // Usually there is nothing below it, and one call suffices.
    match std::fs::remove_dir(path) {
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
        result => return result,
    }
    for directory in directories(path)? {
        match remove_tree(&directory) {
            // Its owner has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    std::fs::remove_dir(path)
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut directories = Vec::new();
    // A cgroup directory has two links, and one more for each directory in it.
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.nlink() == 2) {
        return Ok(directories);
    }
    let entries = match std::fs::read_dir(path) {
        Err(error) if is_gone(&error) => return Ok(directories),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            directories.push(entry.path());
        }
    }
    Ok(directories)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// Writes to a kernel file, which must not be created or truncated.
pub(super) fn write_to(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
