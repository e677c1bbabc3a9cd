//! Where a cgroup for a run can be made, and why not elsewhere.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::StartError;
use super::own_cgroup::{OwnCgroup, write_to};
use crate::host::HostError;
use crate::host::cgroup::{Cgroup, memory_cgroup_in};
use crate::host::machine::Machine;
use crate::host::memory::MemoryReader;
use crate::model::observation::CgroupVersion;
use crate::model::problem::one_line;
use crate::model::reading::Reading;

/// A cgroup that does not do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its folder.
    pub path: PathBuf,
    /// What was in the way.
    pub obstacle: Obstacle,
}

/// What is in the way of a cgroup of our own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The file system does not let anybody write.
    #[error("it is mounted read-only")]
    ReadOnly,
    /// It does not let us.
    #[error("permission denied")]
    Denied,
    /// It has processes of its own, which keeps its controllers from those below (`no internal processes`).
    #[error("it has processes of its own, so that its controllers cannot be handed down")]
    HasProcesses,
    /// It has no memory controller to hand down.
    #[error("it has no memory controller")]
    NoController,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl From<&io::Error> for Obstacle {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Other(error.to_string()),
        }
    }
}

impl From<&dyn std::error::Error> for Obstacle {
    fn from(error: &dyn std::error::Error) -> Self {
        Self::Other(one_line(error))
    }
}

/// The search for a cgroup below which runs can have cgroups of their own: from this process's own one upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Those that have not been refused, the nearest first.
    candidates: VecDeque<Cgroup>,
    /// The cgroups that do not do.
    pub refusals: Vec<Refusal>,
    /// Why no cgroup could be looked at, where that is so.
    pub unreadable: Option<String>,
    /// The version of the interface, where a memory controller was found.
    pub version: Option<CgroupVersion>,
    /// Whether the caller wants none.
    unwanted: bool,
}

/// A cgroup for one run.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) own: OwnCgroup,
    /// Reads it.
    pub(super) reader: MemoryReader,
    /// Whether the kernel keeps a peak for it (v1; v2 since Linux 5.19).
    pub(super) keeps_peak: bool,
}

impl Placement {
    /// Finds out where to look; nothing is tried yet.
    pub fn new(machine: &Machine) -> Self {
        let (candidates, unreadable) = match own_or_top(machine) {
            Ok(own) => (own.ancestry().collect(), None),
            Err(reason) => (VecDeque::new(), Some(reason)),
        };
        let version = machine.facts.cgroup;
        Self { candidates, refusals: Vec::new(), unreadable, version, unwanted: false }
    }

    /// Finds nothing, because nothing is wanted.
    #[must_use]
    pub fn none(self) -> Self {
        Self { candidates: VecDeque::new(), unwanted: true, ..self }
    }

    /// The nearest cgroup that is not refused. After [`Self::try_out`] it is one in which a cgroup can be made.
    pub fn nearest(&self) -> Option<&Cgroup> {
        self.candidates.front()
    }

    /// Makes a cgroup and removes it again: whether one can be had, and then whether the kernel keeps its peak.
    ///
    /// That a process may enter it is known only when one does.
    pub fn try_out(&mut self) -> Option<bool> {
        let Entered { own, keeps_peak, .. } = self.enter()?;
        if let Err(error) = own.remove() {
            self.refuse(Obstacle::from(&error as &dyn std::error::Error));
            return self.try_out();
        }
        Some(keeps_peak)
    }

    /// Makes a cgroup in the nearest place that lets us. Places that do not are refused for good.
    pub(super) fn enter(&mut self) -> Option<Entered> {
        while let Some(parent) = self.candidates.front() {
            match enter_below(parent) {
                Ok(entered) => return Some(entered),
                Err(obstacle) => self.refuse(obstacle),
            }
        }
        None
    }

    /// Gives up the nearest place.
    pub(super) fn refuse(&mut self, obstacle: Obstacle) {
        if let Some(Cgroup { path, .. }) = self.candidates.pop_front() {
            self.refusals.push(Refusal { path, obstacle });
        }
    }

    /// In one sentence, why no run can have a cgroup of its own.
    pub fn reason(&self) -> String {
        if self.unwanted {
            return "no cgroup was to be used".to_owned();
        }
        match (&self.unreadable, self.refusals.as_slice()) {
            (Some(unreadable), _) => unreadable.clone(),
            (None, []) => "no cgroup was found".to_owned(),
            (None, [nearest, ..]) => {
                format!("no cgroup can be made in {}: {}", nearest.path.display(), nearest.obstacle)
            }
        }
    }

    /// In one sentence, what would make runs measurable exactly.
    pub fn remedy(&self) -> String {
        if self.unwanted {
            return "let a cgroup be used".to_owned();
        }
        let inside_container = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"]
            .iter()
            .any(|trace| Path::new(trace).exists());
        let is = |obstacle: &Obstacle| self.refusals.iter().any(|refusal| refusal.obstacle == *obstacle);
        let root = geteuid().is_root();
        match self.version {
            None => "mount the cgroup file system with its memory controller at /sys/fs/cgroup".to_owned(),
            Some(_) if is(&Obstacle::NoController) => {
                "boot with the memory controller switched on (`cgroup_enable=memory`, without `cgroup_disable=memory`)"
                    .to_owned()
            }
            Some(_) if inside_container => {
                "start the container with --privileged and --cgroupns=host, or measure from outside of it".to_owned()
            }
            Some(CgroupVersion::V2) if !root => {
                "run as root, or within a delegated cgroup: with a systemd user manager (`loginctl enable-linger`) \
                 highwater asks for a scope by itself"
                    .to_owned()
            }
            Some(CgroupVersion::V1) if !root => {
                "run as root: cgroup v1 cannot be handed to ordinary users safely".to_owned()
            }
            Some(_) if is(&Obstacle::HasProcesses) => {
                "start highwater in a cgroup that is delegated to it, such as by `systemd-run --scope -p Delegate=yes`"
                    .to_owned()
            }
            Some(_) => "mount the cgroup file system writable".to_owned(),
        }
    }
}

/// The own cgroup, or where that lies outside of the mount, what the mount shows.
fn own_or_top(machine: &Machine) -> Result<Cgroup, String> {
    let hierarchy = machine.memory.clone()?;
    match memory_cgroup_in(&machine.roots, hierarchy.clone(), "self") {
        Err(HostError::OutOfReach { .. } | HostError::Removed { .. }) => {
            Ok(Cgroup { path: hierarchy.mount_point.clone(), hierarchy })
        }
        result => result.map_err(|error| one_line(&error)),
    }
}

/// Makes a cgroup that has the memory controller below `parent`.
fn enter_below(parent: &Cgroup) -> Result<Entered, Obstacle> {
    if parent.hierarchy.read_only {
        return Err(Obstacle::ReadOnly);
    }
    if let Some(entered) = make_below(parent)? {
        return Ok(entered);
    }
    hand_down_memory(parent)?;
    make_below(parent)?.ok_or(Obstacle::NoController)
}

/// Makes a cgroup below `parent`; `None` where it has no memory controller.
fn make_below(parent: &Cgroup) -> Result<Option<Entered>, Obstacle> {
    let own = OwnCgroup::create(parent).map_err(|error| match error {
        StartError::Cgroup { source, .. } => Obstacle::from(&source),
        other => Obstacle::from(&other as &dyn std::error::Error),
    })?;
    let mut reader = MemoryReader::new(own.cgroup());
    let unread = |error: HostError| Obstacle::from(&error as &dyn std::error::Error);
    let current = reader.current().map_err(unread)?;
    let peak = reader.peak().map_err(unread)?;
    Ok(match current {
        Reading::Value(_) => Some(Entered { own, reader, keeps_peak: matches!(peak, Reading::Value(_)) }),
        Reading::Unsupported | Reading::Gone => None,
    })
}

/// Lets the cgroups below have the memory controller, which stays so: others may come to rely on it.
///
/// Only a cgroup without processes can (`no internal processes`, cgroup-v2.rst); the root is exempt.
fn hand_down_memory(parent: &Cgroup) -> Result<(), Obstacle> {
    match write_to(&parent.path.join("cgroup.subtree_control"), "+memory") {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Err(Obstacle::HasProcesses),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Obstacle::NoController),
        Err(error) => Err(Obstacle::from(&error)),
    }
}
