//! Reads the machine: cgroups, processes and the facts a measurement depends on.
//!
//! Everything is read below a [`HostRoots`], so that a recorded tree works as well as the running machine.

#[doc(hidden)]
pub mod batch;
pub mod cgroup;
pub mod cpus;
mod files;
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub mod gpu;
pub mod machine;
#[doc(hidden)]
pub mod memory;
#[doc(hidden)]
pub mod mounts;
#[doc(hidden)]
pub mod processes;

use std::io;
use std::path::{Path, PathBuf};

/// The two file systems through which the kernel reports its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys/fs/cgroup`; mount points below that path are looked up here.
    pub sys_fs_cgroup: PathBuf,
}

impl Default for HostRoots {
    /// The running machine.
    fn default() -> Self {
        Self { proc: PathBuf::from("/proc"), sys_fs_cgroup: PathBuf::from("/sys/fs/cgroup") }
    }
}

impl HostRoots {
    /// The recorded machine below `tree`: `tree/proc` and `tree/sys/fs/cgroup`.
    pub fn recorded(tree: &Path) -> Self {
        Self { proc: tree.join("proc"), sys_fs_cgroup: tree.join("sys/fs/cgroup") }
    }

    /// A file of a process.
    pub fn process_file(&self, pid: i32, name: &str) -> PathBuf {
        self.proc.join(pid.to_string()).join(name)
    }

    /// `/sys/devices/system`, with what the machine has of CPUs and NUMA nodes.
    fn devices(&self) -> PathBuf {
        let sys = self.sys_fs_cgroup.ancestors().nth(2).unwrap_or(Path::new("/sys"));
        sys.join("devices/system")
    }

    /// The path at which to open a path of the described machine.
    fn locate(&self, path: &Path) -> PathBuf {
        match path.strip_prefix("/sys/fs/cgroup") {
            // Joining an empty path would add a slash.
            Ok(below) if below.as_os_str().is_empty() => self.sys_fs_cgroup.clone(),
            Ok(below) => self.sys_fs_cgroup.join(below),
            Err(_) => path.to_owned(),
        }
    }
}

/// Why the state of the machine could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// A file could not be read.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The content of a file differs from the kernel's documentation.
    #[error("failed to parse {path}:{line}: found `{found}`, expected {expected}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The text found.
        found: String,
        /// What the kernel's documentation says.
        expected: &'static str,
    },
    /// No hierarchy carries the memory controller.
    #[error(
        "failed to find the memory controller: neither a cgroup v1 mount with `memory` nor a cgroup2 mount in {mountinfo}"
    )]
    NoMemoryController {
        /// The list of mounts.
        mountinfo: PathBuf,
    },
    /// The process is in no cgroup of the hierarchy.
    #[error("failed to find the cgroup of the process: no line for the memory controller in {path}")]
    NoCgroupLine {
        /// The list of the process's cgroups.
        path: PathBuf,
    },
    /// The cgroup is outside of what this mount namespace shows.
    #[error("failed to reach cgroup `{cgroup}`: the mount at {mount_point} shows only what is below `{root}`")]
    OutOfReach {
        /// The name of the cgroup in the kernel.
        cgroup: String,
        /// Where the hierarchy is mounted.
        mount_point: PathBuf,
        /// The part of the hierarchy that is mounted there.
        root: String,
    },
    /// The cgroup has been removed.
    #[error("failed to reach cgroup `{cgroup}`: it has been removed")]
    Removed {
        /// The name of the cgroup in the kernel.
        cgroup: String,
    },
}
