//! Finds the memory controller, and the cgroup of a process.
//!
//! See `cgroups(7)`, `proc_pid_cgroup(5)` and `proc_pid_mountinfo(5)`.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use procfs::process::MountInfo;
use procfs::{FromRead, ProcError, ProcessCGroups};

use super::{HostError, HostRoots};
use crate::model::observation::CgroupVersion;

/// A mounted hierarchy with the memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its cgroup version.
    pub version: CgroupVersion,
    /// Its mount point, as a path to open (below the roots).
    pub mount_point: PathBuf,
    /// The cgroup that the mount point shows: `/` unless only a part of the hierarchy was mounted.
    pub root: String,
    /// Whether the mount or the file system is read-only.
    pub read_only: bool,
}

/// A cgroup of the memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The hierarchy it belongs to.
    pub hierarchy: Hierarchy,
    /// Its directory.
    pub path: PathBuf,
}

impl Cgroup {
    /// Its cgroup version.
    pub const fn version(&self) -> CgroupVersion {
        self.hierarchy.version
    }

    /// The cgroup with this name directly below.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self { hierarchy: self.hierarchy.clone(), path: self.path.join(name) }
    }

    /// The parent cgroup; `None` at the mount point.
    pub fn parent(&self) -> Option<Self> {
        if self.is_top() {
            return None;
        }
        Some(Self { hierarchy: self.hierarchy.clone(), path: self.path.parent()?.to_owned() })
    }

    /// Whether no cgroup above it is reachable.
    pub fn is_top(&self) -> bool {
        self.path == self.hierarchy.mount_point
    }

    /// Its name in `/proc/PID/cgroup`.
    pub fn name_in_proc(&self) -> String {
        let below = self.path.strip_prefix(&self.hierarchy.mount_point).unwrap_or(Path::new(""));
        Path::new(&self.hierarchy.root).join(below).to_string_lossy().into_owned()
    }

    /// Itself, then all its ancestors.
    pub fn ancestry(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(self.clone()), Self::parent)
    }
}

/// The hierarchy of the memory controller among the mounts of `pid`.
///
/// On a hybrid host the controller is in exactly one hierarchy: a v1 mount with it comes first.
///
/// # Errors
/// If the list of mounts cannot be read or contains no such hierarchy.
pub fn memory_hierarchy(roots: &HostRoots, pid: &str) -> Result<Hierarchy, HostError> {
    let mountinfo = roots.proc.join(pid).join("mountinfo");
    let mounts = cgroup_mounts(&mountinfo)?;
    let mut found = hierarchies(roots, &mounts, "memory");
    found.sort_by_key(|hierarchy| (hierarchy.version == CgroupVersion::V2, hierarchy.root.len()));
    found.into_iter().next().ok_or(HostError::NoMemoryController { mountinfo })
}

/// The cgroups of a process in the v1 hierarchies that count what the memory controller does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct V1Companions {
    /// The directory with `cpuacct.usage_user`.
    pub cpuacct: Option<PathBuf>,
    /// The directory with `blkio.throttle.io_service_bytes_recursive`.
    pub blkio: Option<PathBuf>,
    /// The directory with `pids.peak`.
    pub pids: Option<PathBuf>,
    /// The directory with `cpu.stat`.
    pub cpu: Option<PathBuf>,
}

/// Finds the companions of a process. They count for this process alone only if each of them contains nothing else,
/// like those of a container.
///
/// # Errors
/// If the lists of mounts or of the process's cgroups cannot be read.
pub fn v1_companions(roots: &HostRoots, pid: &str) -> Result<V1Companions, HostError> {
    let mounts = cgroup_mounts(&roots.proc.join("self/mountinfo"))?;
    let ProcessCGroups(lines) = read(&roots.proc.join(pid).join("cgroup"))?;
    let directory = |controller: &str| {
        let line = lines.iter().find(|line| line.controllers.iter().any(|known| known == controller))?;
        let mut found = hierarchies(roots, &mounts, controller);
        found.retain(|hierarchy| hierarchy.version == CgroupVersion::V1);
        found.sort_by_key(|hierarchy| hierarchy.root.len());
        found.iter().find_map(|hierarchy| below(hierarchy, &line.pathname))
    };
    Ok(V1Companions {
        cpuacct: directory("cpuacct"),
        blkio: directory("blkio"),
        pids: directory("pids"),
        cpu: directory("cpu"),
    })
}

/// The mounts of cgroup file systems, of either version.
fn cgroup_mounts(mountinfo: &Path) -> Result<Vec<MountInfo>, HostError> {
    // Such a file reports no size; without a preallocated buffer it would be read in many small pieces.
    let mut text = Vec::with_capacity(8 * 1024);
    File::open(mountinfo)
        .and_then(|mut file| file.read_to_end(&mut text))
        .map_err(|source| HostError::Read { path: mountinfo.to_owned(), source })?;
    // Mount points of other file systems may have names in any encoding.
    let text = String::from_utf8_lossy(&text);
    // A host with many containers has thousands of mounts; only these need to be parsed.
    let lines = (1..).zip(text.lines()).filter(|(_, line)| line.contains(" - cgroup"));
    lines
        .map(|(number, line)| {
            MountInfo::from_line(line).map_err(|_| HostError::Parse {
                path: mountinfo.to_owned(),
                line: number,
                found: line.to_owned(),
                expected: "a mount as proc_pid_mountinfo(5) describes it",
            })
        })
        .collect()
}

/// All mounted hierarchies of this process, with any controllers.
///
/// # Errors
/// If the list of mounts cannot be read.
pub fn all_hierarchies(roots: &HostRoots) -> Result<Vec<Hierarchy>, HostError> {
    let mounts = cgroup_mounts(&roots.proc.join("self/mountinfo"))?;
    Ok(mounts.iter().filter_map(|mount| hierarchy(roots, mount)).collect())
}

/// Whether cgroups count hugetlbfs huge pages as memory: v2 does if it is mounted with `memory_hugetlb_accounting`
/// (Linux 6.6+).
pub fn counts_huge_pages(roots: &HostRoots) -> bool {
    let mounts = cgroup_mounts(&roots.proc.join("self/mountinfo")).unwrap_or_default();
    let has_v1_memory = mounts.iter().any(|mount| mount.super_options.contains_key("memory"));
    !has_v1_memory && mounts.iter().any(|mount| mount.super_options.contains_key("memory_hugetlb_accounting"))
}

/// The mounted hierarchies that have a controller, or may have: for v2 that depends on its files. The topmost mount
/// comes first.
fn hierarchies(roots: &HostRoots, mounts: &[MountInfo], controller: &str) -> Vec<Hierarchy> {
    let carries = |mount: &MountInfo| mount.fs_type == "cgroup2" || mount.super_options.contains_key(controller);
    mounts.iter().rev().filter(|mount| carries(mount)).filter_map(|mount| hierarchy(roots, mount)).collect()
}

fn hierarchy(roots: &HostRoots, mount: &MountInfo) -> Option<Hierarchy> {
    let version = match mount.fs_type.as_str() {
        "cgroup" => CgroupVersion::V1,
        "cgroup2" => CgroupVersion::V2,
        _ => return None,
    };
    Some(Hierarchy {
        version,
        mount_point: roots.locate(&unescape(&mount.mount_point.to_string_lossy())),
        root: unescape(&mount.root).to_string_lossy().into_owned(),
        read_only: mount.mount_options.contains_key("ro") || mount.super_options.contains_key("ro"),
    })
}

/// The memory cgroup of `pid`; `self` is this process.
///
/// # Errors
/// If the process is gone, no hierarchy has the controller, or the cgroup has been removed or is outside of what is
/// mounted here (another cgroup namespace).
pub fn memory_cgroup(roots: &HostRoots, pid: &str) -> Result<Cgroup, HostError> {
    // Our own mounts: the paths of another process's namespace are not valid here.
    let hierarchy = memory_hierarchy(roots, "self")?;
    memory_cgroup_in(roots, hierarchy, pid)
}

/// The same in a known hierarchy.
///
/// # Errors
/// See [`memory_cgroup`].
pub fn memory_cgroup_in(roots: &HostRoots, hierarchy: Hierarchy, pid: &str) -> Result<Cgroup, HostError> {
    let list = roots.proc.join(pid).join("cgroup");
    let ProcessCGroups(lines) = read(&list)?;
    let line = lines.into_iter().find(|line| match hierarchy.version {
        CgroupVersion::V1 => line.controllers.iter().any(|controller| controller == "memory"),
        CgroupVersion::V2 => line.hierarchy == 0 && line.controllers.is_empty(),
    });
    let cgroup = line.ok_or(HostError::NoCgroupLine { path: list })?.pathname;
    if let Some(removed) = cgroup.strip_suffix(" (deleted)") {
        return Err(HostError::Removed { cgroup: removed.to_owned() });
    }
    match below(&hierarchy, &cgroup) {
        Some(path) => Ok(Cgroup { hierarchy, path }),
        None => Err(HostError::OutOfReach { cgroup, mount_point: hierarchy.mount_point, root: hierarchy.root }),
    }
}

/// The path of a cgroup below the mount point, unless it is outside of what is mounted there.
fn below(hierarchy: &Hierarchy, cgroup: &str) -> Option<PathBuf> {
    // Both paths are relative to the root of our cgroup namespace; those outside of it start with `/..`.
    let below = Path::new(cgroup).strip_prefix(&hierarchy.root).ok()?;
    let mount_point = &hierarchy.mount_point;
    match below.components().any(|part| part == Component::ParentDir) {
        true => None,
        false if below.as_os_str().is_empty() => Some(mount_point.clone()),
        false => Some(mount_point.join(below)),
    }
}

/// Parses a file of `/proc` and keeps its path in every error.
pub(super) fn read<T: FromRead>(path: &Path) -> Result<T, HostError> {
    T::from_file(path).map_err(|error| {
        let source = match error {
            ProcError::NotFound(_) => std::io::ErrorKind::NotFound.into(),
            ProcError::PermissionDenied(_) => std::io::ErrorKind::PermissionDenied.into(),
            ProcError::Io(source, _) => source,
            ProcError::Incomplete(_) => {
                std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the file is incomplete")
            }
            ProcError::Other(message) => std::io::Error::new(std::io::ErrorKind::InvalidData, message),
            ProcError::InternalError(error) => std::io::Error::new(std::io::ErrorKind::InvalidData, error.msg),
        };
        HostError::Read { path: path.to_owned(), source }
    })
}

/// `mountinfo` writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";

    /// A machine whose `self` has these two files.
    fn machine(mountinfo: &str, cgroup: &str) -> (tempfile::TempDir, HostRoots) {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("proc/self");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("mountinfo"), mountinfo).unwrap();
        std::fs::write(own.join("cgroup"), cgroup).unwrap();
        let roots = HostRoots::recorded(directory.path());
        (directory, roots)
    }

    fn path_below_roots(mountinfo: &str, cgroup: &str) -> Result<String, HostError> {
        let (_directory, roots) = machine(mountinfo, cgroup);
        let found = memory_cgroup(&roots, "self")?;
        Ok(found.path.strip_prefix(&roots.sys_fs_cgroup).unwrap().display().to_string())
    }

    #[test]
    fn v2_is_found_through_the_unnamed_line() {
        assert_eq!(path_below_roots(V2, "0::/user.slice/a.scope\n").unwrap(), "user.slice/a.scope");
        assert_eq!(path_below_roots(V2, "0::/\n").unwrap(), "");
    }

    #[test]
    fn on_a_hybrid_host_the_controller_is_where_v1_has_it() {
        let mounts = format!("{V2}{V1}");
        let lines = "4:memory:/job/7\n1:name=systemd:/init.scope\n0::/init.scope\n";
        assert_eq!(path_below_roots(&mounts, lines).unwrap(), "memory/job/7");
    }

    #[test]
    fn a_part_of_the_hierarchy_mounted_in_a_container_is_the_top() {
        let mounts = V1.replace(" / /sys", " /docker/abc /sys");
        assert_eq!(path_below_roots(&mounts, "4:memory:/docker/abc/task\n").unwrap(), "memory/task");
        let outside = path_below_roots(&mounts, "4:memory:/other\n").unwrap_err();
        assert!(matches!(outside, HostError::OutOfReach { .. }), "{outside}");
    }

    #[test]
    fn a_cgroup_of_another_namespace_is_out_of_reach() {
        let error = path_below_roots(V2, "0::/../../system.slice\n").unwrap_err();
        assert!(matches!(error, HostError::OutOfReach { .. }), "{error}");
    }

    #[test]
    fn a_removed_cgroup_is_said_to_be_removed() {
        let error = path_below_roots(V2, "0::/gone (deleted)\n").unwrap_err();
        assert_eq!(error.to_string(), "failed to reach cgroup `/gone`: it has been removed");
    }

    #[test]
    fn without_any_hierarchy_it_says_where_it_looked() {
        let error = path_below_roots("22 1 0:21 / /proc rw - proc proc rw\n", "0::/\n").unwrap_err();
        assert!(matches!(error, HostError::NoMemoryController { .. }), "{error}");
    }

    #[test]
    fn escaped_characters_of_a_mount_point_are_restored() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(r"/a\9"), Path::new(r"/a\9"));
    }
}
