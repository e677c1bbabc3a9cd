//! Where a cgroup for a run can be created, and why not elsewhere.
//!
//! The limits that apply to highwater must apply to the task, so a run's cgroup is created below the one that highwater
//! was started in. If that is impossible, because on v2 a cgroup with processes cannot delegate controllers, it is
//! created beside it, and every limit in between is copied.

mod limits;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;

pub use self::limits::Limits;
use super::StartError;
use super::cgroup_owner::CgroupOwner;
use super::run_cgroup::{RunCgroup, write_to};
use crate::host::HostError;
use crate::host::cgroup::{Cgroup, memory_cgroup_in};
use crate::host::machine::Machine;
use crate::host::memory::MemoryReader;
use crate::model::observation::CgroupVersion;
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// A cgroup that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its directory.
    pub path: PathBuf,
    /// The obstacle.
    pub obstacle: Obstacle,
}

/// Why a cgroup cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The file system is mounted read-only.
    #[error("it is mounted read-only")]
    ReadOnly,
    /// Permission denied.
    #[error("permission denied")]
    Denied,
    /// It has processes of its own, so it cannot delegate controllers (`no internal processes`).
    #[error("it contains processes, so its controllers cannot be delegated")]
    HasProcesses,
    /// It has no memory controller to delegate.
    #[error("it has no memory controller")]
    NoController,
    /// The limits that apply to highwater would not apply below it and cannot be copied.
    #[error("the limits of {} would not apply there, and cannot be copied: {reason}", .from.display())]
    Limits {
        /// The cgroup that has the limits.
        from: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Another reason.
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

/// Searches for a cgroup in which the cgroups of runs can be created, from this process's own one upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The cgroup that this process is in.
    own: Option<Cgroup>,
    /// Those that have not been refused, nearest first.
    candidates: VecDeque<Cgroup>,
    /// The cgroups that cannot be used.
    pub refusals: Vec<Refusal>,
    /// Why no cgroup could be examined, if so.
    pub unreadable: Option<String>,
    /// The cgroup version, if a memory controller was found.
    pub version: Option<CgroupVersion>,
    /// Whether the caller wants no cgroup.
    unwanted: bool,
}

/// A cgroup for one run.
#[derive(Debug)]
pub(super) struct PlacedCgroup {
    pub(super) own: RunCgroup,
    /// Reads it.
    pub(super) reader: MemoryReader,
    /// Whether the kernel reports its peak (v1; v2 since Linux 5.19).
    pub(super) keeps_peak: bool,
    /// The cgroup whose limits were copied to it, if it is not below that one.
    pub(super) copied_from: Option<PathBuf>,
    /// The memory limit that was copied, in bytes.
    pub(super) copied_limit: Option<Bytes>,
}

impl Placement {
    /// Determines the candidates; nothing is tried yet.
    pub fn new(machine: &Machine) -> Self {
        let (own, unreadable) = match own_or_top(machine) {
            Ok(own) => (Some(own), None),
            Err(reason) => (None, Some(reason)),
        };
        let candidates = own.iter().flat_map(within_the_job).collect();
        let version = machine.facts.cgroup;
        Self { own, candidates, refusals: Vec::new(), unreadable, version, unwanted: false }
    }

    /// Uses no cgroup.
    #[must_use]
    pub fn none(self) -> Self {
        Self { candidates: VecDeque::new(), unwanted: true, ..self }
    }

    /// The nearest cgroup that is not refused. After [`Self::try_out`] it is one in which a cgroup can be created.
    pub fn nearest(&self) -> Option<&Cgroup> {
        self.candidates.front()
    }

    /// Creates a cgroup and removes it again. `None` if that is not possible, else whether the kernel reports its peak.
    ///
    /// Whether a process may join it is known only when one does.
    pub fn try_out(&mut self) -> Option<bool> {
        let PlacedCgroup { own, keeps_peak, .. } = self.enter()?;
        if let Err(error) = own.remove() {
            self.refuse(Obstacle::from(&error as &dyn std::error::Error));
            return self.try_out();
        }
        Some(keeps_peak)
    }

    /// Creates a cgroup in the nearest candidate that allows it. Candidates that do not are refused permanently.
    pub(super) fn enter(&mut self) -> Option<PlacedCgroup> {
        while let (Some(own), Some(parent)) = (&self.own, self.candidates.front()) {
            match enter_below(parent).and_then(|entered| copy_limits(own, parent, entered)) {
                Ok(entered) => return Some(entered),
                Err(obstacle) => self.refuse(obstacle),
            }
        }
        None
    }

    /// Refuses the nearest candidate.
    pub(super) fn refuse(&mut self, obstacle: Obstacle) {
        if let Some(Cgroup { path, .. }) = self.candidates.pop_front() {
            self.refusals.push(Refusal { path, obstacle });
        }
    }

    /// Why runs cannot have a cgroup, as a sentence.
    pub fn reason(&self) -> String {
        if self.unwanted {
            return "--cgroup never was given".to_owned();
        }
        match (&self.unreadable, self.refusals.as_slice()) {
            (Some(unreadable), _) => unreadable.clone(),
            (None, []) => "no cgroup was found".to_owned(),
            (None, [nearest, ..]) => {
                format!("no cgroup can be created in {}: {}", nearest.path.display(), nearest.obstacle)
            }
        }
    }

    /// What would make exact measurement possible, as a sentence.
    pub fn remedy(&self) -> String {
        if self.unwanted {
            return "omit --cgroup never".to_owned();
        }
        let inside_container = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"]
            .iter()
            .any(|trace| Path::new(trace).exists());
        let is = |obstacle: &Obstacle| self.refusals.iter().any(|refusal| refusal.obstacle == *obstacle);
        let root = geteuid().is_root();
        match self.version {
            None => "mount the cgroup file system with its memory controller at /sys/fs/cgroup".to_owned(),
            Some(_) if is(&Obstacle::NoController) => {
                "boot with the memory controller enabled (`cgroup_enable=memory`, without `cgroup_disable=memory`)"
                    .to_owned()
            }
            Some(_) if inside_container && is(&Obstacle::ReadOnly) => {
                let user = if root { "" } else { " and highwater in it as root" };
                format!("start the container with --privileged{user}, or measure from outside it")
            }
            Some(CgroupVersion::V2) if !root => {
                "run as root, from a login session with a systemd user manager (highwater then requests a scope), or \
                 in a cgroup that is delegated to you"
                    .to_owned()
            }
            Some(CgroupVersion::V1) if !root => {
                "run as root: cgroup v1 cannot be delegated to ordinary users safely".to_owned()
            }
            Some(_) if is(&Obstacle::HasProcesses) => {
                "start highwater in a delegated cgroup, such as with `systemd-run --scope -p Delegate=yes`".to_owned()
            }
            Some(_) if is(&Obstacle::ReadOnly) => "mount the cgroup file system writable".to_owned(),
            Some(_) => "start highwater in a cgroup in which root may create others".to_owned(),
        }
    }
}

/// Our own cgroup, or the top of the mount if our own lies outside of it.
fn own_or_top(machine: &Machine) -> Result<Cgroup, String> {
    let hierarchy = machine.memory.clone()?;
    match memory_cgroup_in(&machine.roots, hierarchy.clone(), "self") {
        // On v2 the limits of our own cgroup could not be copied either.
        Err(HostError::OutOfReach { .. } | HostError::Removed { .. }) if hierarchy.version == CgroupVersion::V1 => {
            Ok(Cgroup { path: hierarchy.mount_point.clone(), hierarchy })
        }
        result => result.map_err(|error| one_line(&error)),
    }
}

/// The cgroup and those above it, up to the one of the enclosing batch job or pod: a process outside of that would not
/// end with it.
fn within_the_job(own: &Cgroup) -> Vec<Cgroup> {
    let mut found = Vec::new();
    for cgroup in own.ancestry() {
        let is_the_job = cgroup.path.file_name().and_then(|name| name.to_str()).is_some_and(is_job_or_pod);
        found.push(cgroup);
        if is_the_job {
            break;
        }
    }
    found
}

/// Whether a cgroup has the name of a Slurm job (`job_7`) or a Kubernetes pod (`pod<uid>`, with the systemd driver
/// `kubepods-…-pod<uid>.slice`; the uid of a static pod has no dashes).
fn is_job_or_pod(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_uid = |text: &str| {
        [32, 36].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-_".contains(&byte))
    };
    let in_slice = || name.strip_prefix("kubepods")?.strip_suffix(".slice")?.rsplit_once("-pod");
    name.strip_prefix("job_").is_some_and(is_number)
        || name.strip_prefix("pod").is_some_and(is_uid)
        || in_slice().is_some_and(|(_, uid)| is_uid(uid))
}

/// Creates a cgroup with the memory controller below `parent`.
fn enter_below(parent: &Cgroup) -> Result<PlacedCgroup, Obstacle> {
    if parent.hierarchy.read_only {
        return Err(Obstacle::ReadOnly);
    }
    if let Some(entered) = make_below(parent)? {
        return Ok(entered);
    }
    match hand_down_memory(parent) {
        Err(Obstacle::HasProcesses) if is_ours_to_arrange(parent) => vacate(parent)?,
        result => result?,
    }
    make_below(parent)?.ok_or(Obstacle::NoController)
}

/// Copies the limits of `own` and of the cgroups between it and `parent` to a cgroup created below `parent`.
fn copy_limits(own: &Cgroup, parent: &Cgroup, entered: PlacedCgroup) -> Result<PlacedCgroup, Obstacle> {
    let skipped = own.ancestry().take_while(|cgroup| cgroup.path != parent.path);
    let mut tightest = Limits::default();
    let mut from = None;
    for cgroup in skipped {
        let limits = Limits::read(&cgroup);
        if limits != Limits::default() {
            from.get_or_insert(cgroup.path);
            tightest = tightest.and(limits);
        }
    }
    let Some(from) = from else { return Ok(entered) };
    match tightest.write(entered.own.cgroup()) {
        Ok(()) => Ok(PlacedCgroup { copied_from: Some(from), copied_limit: tightest.memory_max.map(Bytes), ..entered }),
        Err(error) => Err(Obstacle::Limits { from, reason: error.to_string() }),
    }
}

/// The cgroup to which the processes of a cgroup are moved, so that it can delegate controllers.
const LEAF: &str = "highwater-leaf";

/// Whether all processes of a cgroup belong to one task or container: the cgroup of a run of an enclosing highwater, or
/// the root of a cgroup namespace, as in a container. The machine's own root has no `cgroup.type`.
fn is_ours_to_arrange(cgroup: &Cgroup) -> bool {
    let name = cgroup.path.file_name().and_then(|name| name.to_str());
    let is_a_run = name.is_some_and(|name| CgroupOwner::parse(name).is_some());
    let is_root_of_namespace =
        || cgroup.is_top() && cgroup.hierarchy.root == "/" && cgroup.path.join("cgroup.type").exists();
    is_a_run || is_root_of_namespace()
}

/// Moves the processes of a cgroup to a leaf below it, and delegates the memory controller.
fn vacate(cgroup: &Cgroup) -> Result<(), Obstacle> {
    let leaf = cgroup.path.join(LEAF);
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(Obstacle::from(&error)),
        _ => {}
    }
    // Processes may fork meanwhile.
    for _ in 0..VACATING_ATTEMPTS {
        let list = std::fs::read_to_string(cgroup.path.join("cgroup.procs")).map_err(|error| Obstacle::from(&error))?;
        for pid in list.lines() {
            match write_to(&leaf.join("cgroup.procs"), pid) {
                Err(error) if error.raw_os_error() != Some(Errno::ESRCH as i32) => return Err(Obstacle::from(&error)),
                _ => {}
            }
        }
        match hand_down_memory(cgroup) {
            Err(Obstacle::HasProcesses) => {}
            result => return result,
        }
    }
    Err(Obstacle::HasProcesses)
}

/// How often to try to move all processes of a cgroup.
const VACATING_ATTEMPTS: usize = 20;

/// Creates a cgroup below `parent`; `None` if it has no memory controller.
fn make_below(parent: &Cgroup) -> Result<Option<PlacedCgroup>, Obstacle> {
    let own = RunCgroup::create(parent).map_err(|error| match error {
        StartError::Cgroup { source, .. } => Obstacle::from(&source),
        other => Obstacle::from(&other as &dyn std::error::Error),
    })?;
    let mut reader = MemoryReader::new(own.cgroup());
    let unread = |error: HostError| Obstacle::from(&error as &dyn std::error::Error);
    let current = reader.current().map_err(unread)?;
    let peak = reader.peak().map_err(unread)?;
    Ok(match current {
        Reading::Value(_) => {
            let keeps_peak = matches!(peak, Reading::Value(_));
            Some(PlacedCgroup { own, reader, keeps_peak, copied_from: None, copied_limit: None })
        }
        Reading::Unsupported | Reading::Gone => None,
    })
}

/// Enables the memory controller for the cgroups below. It stays enabled, because others may come to rely on it.
///
/// Only a cgroup without processes allows that (`no internal processes`, cgroup-v2.rst); the root is exempt.
fn hand_down_memory(parent: &Cgroup) -> Result<(), Obstacle> {
    match write_to(&parent.path.join("cgroup.subtree_control"), "+memory") {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Err(Obstacle::HasProcesses),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Obstacle::NoController),
        Err(error) => Err(Obstacle::from(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::cgroup::Hierarchy;

    fn highest(path: &str) -> String {
        let hierarchy = Hierarchy {
            version: CgroupVersion::V2,
            mount_point: PathBuf::from("/sys/fs/cgroup"),
            root: "/".to_owned(),
            read_only: false,
        };
        let own = Cgroup { path: hierarchy.mount_point.join(path), hierarchy };
        let highest = within_the_job(&own).pop().unwrap().path;
        highest.strip_prefix("/sys/fs/cgroup").unwrap().display().to_string()
    }

    #[test]
    fn no_cgroup_above_a_batch_job_or_a_pod_is_considered() {
        let uid = "0f5e1c5a-7d2b-4c7e-9f2a-1b2c3d4e5f60";
        assert_eq!(
            highest("system.slice/slurmstepd.scope/job_7/step_0/user/task_0"),
            "system.slice/slurmstepd.scope/job_7"
        );
        assert_eq!(highest(&format!("kubepods/burstable/pod{uid}/abc")), format!("kubepods/burstable/pod{uid}"));
        let slice = format!("kubepods.slice/kubepods-burstable-pod{}.slice", uid.replace('-', "_"));
        assert_eq!(highest(&format!("{slice}/cri-containerd-abc.scope")), slice);
        let fixed = "kubepods/pod0f5e1c5a7d2b4c7e9f2a1b2c3d4e5f60";
        assert_eq!(highest(&format!("{fixed}/abc")), fixed);
    }

    #[test]
    fn elsewhere_every_cgroup_above_is() {
        for path in ["user.slice/session-1.scope", "jobs/job_x/a", "podman/a", "system.slice/a.service"] {
            assert_eq!(highest(path), "", "{path}");
        }
    }
}
