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

use super::maker::Maker;
use super::{FinishError, StartError};
use crate::host::HostRoots;
use crate::host::cgroup::{Cgroup, counts_huge_pages};
use crate::host::processes::{LargestProcesses, is_ending, largest_processes};
use crate::model::observation::CgroupVersion;
use crate::model::units::Bytes;

/// How long emptying and removing may take. A process in an uninterruptible wait dies only when that ends.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// How much longer it may take while a killed process is ending: the kernel takes back some gigabytes a second.
pub(super) const LONGEST_ENDING: Duration = Duration::from_secs(60);

/// The largest amount that is charged at once (x86-64 and most others).
const HUGE_PAGE: u64 = 2 << 20;

/// The number of cgroups made by this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A cgroup of a run's own. Dropping it kills what is in it and removes it.
#[derive(Debug)]
pub(super) struct OwnCgroup {
    cgroup: Cgroup,
    /// What a new process joins through: the folder on v2, `tasks` on v1.
    door: File,
    removed: bool,
}

impl OwnCgroup {
    /// Makes a new cgroup below `parent`.
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
            let cgroup = parent.child(&Maker::this().cgroup(number));
            match std::fs::create_dir(&cgroup.path) {
                // Left by a highwater of the same number that was killed. What others made is not ours to empty; an empty
                // one goes, and the next name is free.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => drop(std::fs::remove_dir(&cgroup.path)),
                result => {
                    result.map_err(failed("create the cgroup", &cgroup.path))?;
                    break cgroup;
                }
            }
        };
        if cgroup.version() == CgroupVersion::V1 {
            // Without it (the default before Linux 5.11) cgroups that the task makes below would not be counted.
            let _ = write_to(&cgroup.path.join("memory.use_hierarchy"), "1");
        }
        let door = match cgroup.version() {
            CgroupVersion::V1 => OpenOptions::new().read(true).write(true).open(cgroup.path.join("tasks")),
            CgroupVersion::V2 => File::open(&cgroup.path),
        };
        match door {
            Ok(door) => Ok(Self { cgroup, door, removed: false }),
            Err(source) => {
                // What was just made is empty; where it cannot be removed, the error at hand says more.
                let _ = std::fs::remove_dir(&cgroup.path);
                Err(failed("open the cgroup", &cgroup.path)(source))
            }
        }
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    pub(super) fn door(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }

    /// Sets the limit of memory, and lets nothing be swapped out beyond it.
    pub(super) fn limit(&self, limit: Bytes) -> Result<(), StartError> {
        match self.cgroup.version() {
            CgroupVersion::V1 => {
                self.write("memory.limit_in_bytes", &limit.0.to_string())?;
                self.write_if_there("memory.swappiness", "0")?;
                // With the same limit for both, it is that of memory and swap together which is felt first, and not every
                // kernel counts how often. Charges come in up to a huge page.
                let together = limit.0.saturating_add(HUGE_PAGE);
                self.write_if_there("memory.memsw.limit_in_bytes", &together.to_string())
            }
            CgroupVersion::V2 => {
                self.write("memory.max", &limit.0.to_string())?;
                self.write_if_there("memory.swap.max", "0")
            }
        }
    }

    /// A kernel that does not account for swap has no such file; it need not be limited either.
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

    /// Kills everything in it and waits until it is empty; says how many processes there were.
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

    /// Whether an open file tells that there is nothing in it. That is how most runs end.
    fn is_empty(&self) -> bool {
        let is_alone = || std::fs::metadata(&self.cgroup.path).is_ok_and(|metadata| metadata.nlink() == 2);
        self.cgroup.version() == CgroupVersion::V1
            && self.door.read_at(&mut [0], 0).is_ok_and(|read| read == 0)
            && is_alone()
    }

    /// Leaves it to the reaper.
    pub(super) fn leave(mut self) -> Result<(), FinishError> {
        self.removed = true;
        Ok(())
    }

    /// Removes it, with all that the task made below it.
    pub(super) fn remove(mut self) -> Result<(), FinishError> {
        self.removed = true;
        destroy(&self.cgroup).map_err(|source| FinishError::Cgroup {
            action: "remove the cgroup",
            path: self.cgroup.path.clone(),
            source,
        })
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = destroy(&self.cgroup)
        {
            tracing::warn!("failed to remove the cgroup {}: {error}", self.cgroup.path.display());
        }
    }
}

/// Removes the empty cgroups of highwaters that were killed before they started the task.
fn remove_abandoned(parent: &Cgroup) {
    for entry in std::fs::read_dir(&parent.path).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(Maker::parse).and_then(Maker::is_gone) == Some(true) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// The largest processes of a cgroup and of those below it.
pub(super) fn largest_in(roots: &HostRoots, cgroup: &Cgroup, most: usize) -> LargestProcesses {
    let mut pids = Vec::new();
    // Those that could be listed are better than none.
    let _ = processes(&cgroup.path, &mut pids);
    let mut found = largest_processes(roots, &pids, most);
    found.hugetlb = found.hugetlb.filter(|_| !counts_huge_pages(roots));
    found
}

/// Kills everything in a cgroup and removes it, with all that lies below it.
pub(super) fn destroy(cgroup: &Cgroup) -> io::Result<()> {
    let deadline = Instant::now() + KILL_TIMEOUT;
    loop {
        match remove_tree(&cgroup.path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            // Something is still in it, or has just gone and is not yet accounted for.
            Err(_) => {
                kill_all(cgroup)?;
                thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

/// Tries once to remove a cgroup, with all that lies below it; what is still in it is sent SIGKILL. Says whether it is gone.
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

/// Whether there is a process in the cgroup at `path` or in those below it, in any pid namespace.
pub(super) fn has_processes(path: &Path) -> bool {
    match std::fs::read(path.join("cgroup.procs")) {
        Ok(list) if list.is_empty() => {}
        Err(error) if is_gone(&error) => return false,
        // A list that cannot be read, such as that of a threaded cgroup, may have one.
        Ok(_) | Err(_) => return true,
    }
    folders(path).is_ok_and(|folders| folders.iter().any(|folder| has_processes(folder)))
}

/// Kills everything in a cgroup and those below it, and waits until it is empty; returns how many processes there were.
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
    // v2 kills all at once (Linux 5.14+), which even a fork bomb does not outrun.
    if cgroup.version() == CgroupVersion::V2 && write_to(&cgroup.path.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    // Stopped first, so that none makes another one while the rest is being killed.
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        for pid in processes {
            let _ = kill(Pid::from_raw(*pid), signal);
        }
    }
}

/// The processes of the cgroup at `path` and of all below it.
fn processes(path: &Path, found: &mut Vec<i32>) -> io::Result<()> {
    match std::fs::read_to_string(path.join("cgroup.procs")) {
        // A process outside of our pid namespace is listed as 0, which as a target would be our own process group.
        Ok(list) => found.extend(list.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid: &i32| *pid > 0)),
        Err(error) if is_gone(&error) => return Ok(()),
        // A threaded cgroup of the task's own has no list of processes; the cgroup above it has.
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
        Err(error) => return Err(error),
    }
    for folder in folders(path)? {
        processes(&folder, found)?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    // Nearly always there is nothing below, and one call does.
    match std::fs::remove_dir(path) {
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
        result => return result,
    }
    for folder in folders(path)? {
        match remove_tree(&folder) {
            // Whoever made it has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    std::fs::remove_dir(path)
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    // A folder of cgroups has two links, and one more for each folder in it.
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.nlink() == 2) {
        return Ok(folders);
    }
    let entries = match std::fs::read_dir(path) {
        Err(error) if is_gone(&error) => return Ok(folders),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// Writes to a file of the kernel's, which must not be created or truncated.
pub(super) fn write_to(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
