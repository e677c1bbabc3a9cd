//! Cgroups created by others.

use std::fs;
use std::path::PathBuf;

use highwater::host::HostRoots;
use highwater::host::cgroup::memory_hierarchy;
use highwater::model::observation::CgroupVersion;
use nix::unistd::geteuid;

use super::trial::Host;

/// A cgroup created by others, with one below it to start highwater in. Both are removed in the end.
pub(super) struct Around {
    pub(super) path: PathBuf,
    pub(super) version: CgroupVersion,
}

impl Around {
    /// `None` if only highwater itself can create a cgroup.
    pub(super) fn new(name: &str) -> Option<Self> {
        if !Host::here().has_cgroups() || !geteuid().is_root() {
            return None;
        }
        let hierarchy = memory_hierarchy(&HostRoots::default(), "self").unwrap();
        let top = hierarchy.mount_point;
        let around = Self { path: top.join(format!("{name}-{}", std::process::id())), version: hierarchy.version };
        fs::create_dir(&around.path).unwrap();
        for path in [&top, &around.path] {
            if around.version == CgroupVersion::V2 {
                fs::write(path.join("cgroup.subtree_control"), "+memory").unwrap();
            }
        }
        fs::create_dir(around.inner()).unwrap();
        Some(around)
    }

    pub(super) fn inner(&self) -> PathBuf {
        self.path.join("inner")
    }

    /// Limits the memory of all that runs in it.
    pub(super) fn limit(&self, bytes: u64) {
        let file = match self.version {
            CgroupVersion::V1 => "memory.limit_in_bytes",
            CgroupVersion::V2 => "memory.max",
        };
        self.write(file, &bytes.to_string());
    }

    pub(super) fn write(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).unwrap();
    }
}

impl Drop for Around {
    fn drop(&mut self) {
        for path in [self.inner(), self.path.clone()] {
            // If it cannot be removed, something is still in it, and the test has failed already.
            let _ = fs::remove_dir(path);
        }
    }
}
