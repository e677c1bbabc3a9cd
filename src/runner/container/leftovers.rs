//! Containers and cgroups left behind by a killed highwater.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;

use crate::host::HostRoots;
use crate::host::cgroup::{Cgroup, Hierarchy, all_hierarchies};
use crate::runner::FinishError;
use crate::runner::cgroup_owner::{CgroupOwner, is_slice};
use crate::runner::engine::EngineError;
use crate::runner::patience::wait_for_child;
use crate::runner::run_cgroup::destroy;

/// How long systemd may take to stop a slice.
const STOP: Duration = Duration::from_secs(10);

/// A leftover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A container, by its name or id.
    Container(String),
    /// An object of a Kubernetes cluster.
    Object {
        /// Its kind, such as `pod`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A cgroup, by its path below each hierarchy.
    Cgroup(PathBuf),
    /// A temporary Git worktree, by its directory.
    Worktree(PathBuf),
}

impl fmt::Display for Removed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container(name) => write!(formatter, "container {name}"),
            Self::Object { kind, name } => write!(formatter, "{kind} {name}"),
            Self::Cgroup(path) => write!(formatter, "cgroup /{}", path.display()),
            Self::Worktree(path) => write!(formatter, "worktree {}", path.display()),
        }
    }
}

/// The leftovers that were found, and what happened to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Removed, or removable with `look_only`.
    pub removed: Vec<Removed>,
    /// Created by a highwater that cannot be checked from here: on another machine, in another container, or before
    /// this machine was rebooted.
    pub foreign: Vec<Removed>,
    /// Left by a highwater of another user; only that user or root may remove it.
    pub of_others: Vec<Removed>,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// Why leftovers could not be searched for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeftoverError {
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The state of the host could not be read.
    #[error(transparent)]
    Host(#[from] crate::host::HostError),
}

impl Leftovers {
    /// Whether to remove a leftover, given whether its owner is gone (`None` if unknown). Records what is kept.
    pub(crate) fn is_to_be_removed(
        &mut self,
        found: &Removed,
        gone: Option<bool>,
        of_another_user: bool,
        foreign: bool,
    ) -> bool {
        match gone {
            Some(false) => return false,
            None if !foreign => self.foreign.push(found.clone()),
            // Each attempt would take seconds and fail.
            Some(true) | None if of_another_user => self.of_others.push(found.clone()),
            Some(true) | None => return true,
        }
        false
    }
}

/// Removes the leftovers in all cgroup hierarchies.
pub(super) fn remove_cgroups(
    look_only: bool,
    foreign: bool,
    leftovers: &mut Leftovers,
) -> Result<(), crate::host::HostError> {
    let hierarchies = all_hierarchies(&HostRoots::default())?;
    let mut found = BTreeMap::new();
    for hierarchy in hierarchies.iter().filter(|hierarchy| !hierarchy.read_only) {
        search(hierarchy, &hierarchy.mount_point, &mut found);
    }
    let user = geteuid();
    for (path, (owner, uid)) in found {
        let of_another_user = !user.is_root() && user.as_raw() != uid;
        let cgroup = Removed::Cgroup(path.clone());
        if !leftovers.is_to_be_removed(&cgroup, owner.is_gone(), of_another_user, foreign) {
            continue;
        }
        if !look_only {
            if let Some(slice) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_slice(name)) {
                stop_slice(slice);
            }
            if let Err(error) = remove_from(&hierarchies, &path) {
                leftovers.failed.push(crate::model::problem::one_line(&error));
                continue;
            }
        }
        leftovers.removed.push(cgroup);
    }
    Ok(())
}

/// Finds our cgroups below a directory, with the user that owns each; does not descend into them.
fn search(hierarchy: &Hierarchy, directory: &Path, found: &mut BTreeMap<PathBuf, (CgroupOwner, u32)>) {
    // A cgroup that disappears during the search is not a leftover.
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        match entry.file_name().to_str().and_then(CgroupOwner::parse) {
            Some(owner) => {
                if let (Ok(below), Ok(metadata)) = (path.strip_prefix(&hierarchy.mount_point), entry.metadata()) {
                    found.insert(below.to_owned(), (owner, metadata.uid()));
                }
            }
            None => search(hierarchy, &path, found),
        }
    }
}

/// Removes the cgroup with this path from these hierarchies, with everything in it.
pub(super) fn remove_from(hierarchies: &[Hierarchy], below: &Path) -> Result<(), FinishError> {
    let mut result = Ok(());
    for hierarchy in hierarchies.iter().filter(|hierarchy| !hierarchy.read_only) {
        let cgroup = Cgroup { hierarchy: hierarchy.clone(), path: hierarchy.mount_point.join(below) };
        let removed = destroy(&cgroup).map_err(|source| FinishError::Cgroup {
            action: "remove the cgroup",
            path: cgroup.path,
            source,
        });
        // Continue after one that stays.
        result = result.and(removed);
    }
    result
}

/// Makes systemd stop the slice. If that fails, its cgroup is removed nevertheless.
pub(super) fn stop_slice(name: &str) {
    let started = Command::new("systemctl")
        .args(["stop", "--quiet", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let stopped = started.and_then(|mut child| wait_for_child(&mut child, STOP));
    if !stopped.as_ref().is_ok_and(|status| status.is_some_and(|status| status.success())) {
        tracing::debug!("systemctl could not stop {name}: {stopped:?}");
    }
}
