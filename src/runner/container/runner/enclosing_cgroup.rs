//! The cgroup around a container: created for it, read after its end, and removed from every hierarchy.
//!
//! With the `cgroupfs` driver the engine gets a path, and creates the container's cgroup below it; with the `systemd`
//! driver it gets the name of a slice. The container's own cgroup disappears with it; ours keeps the peak. runc creates
//! the same path in all v1 hierarchies and leaves it there.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::unistd::geteuid;

use super::oom::OomWatch;
use crate::host::HostError;
use crate::host::cgroup::{Cgroup, Hierarchy, V1Companions, all_hierarchies};
use crate::host::cpus::throttling_in;
use crate::host::machine::Machine;
use crate::host::memory::MemoryReader;
use crate::model::observation::{CgroupVersion, Throttling};
use crate::model::problem::one_line;
use crate::runner::FinishError;
use crate::runner::cgroup_owner::CgroupOwner;
use crate::runner::container::leftovers::{remove_from, stop_slice};
use crate::runner::engine::Engine;
use crate::runner::run_cgroup::{RunCgroup, write_to};

/// Why containers of this engine cannot be placed in a cgroup of our own, if that is known beforehand.
pub(super) fn obstacle(machine: &Machine, engine: &Engine) -> Option<String> {
    let facts = &engine.facts;
    if engine.address.socket().is_none() || !facts.seems_local() {
        return Some("the engine runs on another machine".to_owned());
    }
    if facts.is_podman() {
        return Some("Podman puts its own monitor process next to the container".to_owned());
    }
    let hierarchy = match &machine.memory {
        Ok(hierarchy) => hierarchy,
        Err(problem) => return Some(problem.clone()),
    };
    if facts.cgroup != Some(hierarchy.version) || hierarchy.root != "/" {
        return Some("the engine uses other cgroups than those mounted here".to_owned());
    }
    if !geteuid().is_root() {
        return Some("only root can manage a cgroup around the container".to_owned());
    }
    None
}

/// The cgroup around one container. Dropping it kills the processes in it and removes it.
#[derive(Debug)]
pub(super) struct EnclosingCgroup {
    /// The value given to the engine.
    for_engine: String,
    cgroup: Cgroup,
    /// All hierarchies that it may exist in.
    hierarchies: Vec<Hierarchy>,
    /// Ours from the start, unless systemd creates it.
    own: Option<RunCgroup>,
    /// Notified of OOM kills in the container's own cgroup, if ours does not count them.
    oom: Option<OomWatch>,
    removed: bool,
}

impl EnclosingCgroup {
    /// Creates it, or chooses its name if systemd creates it; `Err` is the reason why not.
    pub(super) fn prepare(machine: &Machine, engine: &Engine) -> Result<Self, String> {
        let hierarchy = machine.memory.clone()?;
        let hierarchies = all_hierarchies(&machine.roots).map_err(|error| one_line(&error))?;
        let top = Cgroup { path: hierarchy.mount_point.clone(), hierarchy };
        if engine.facts.cgroup_driver.as_deref() == Some("systemd") {
            static COUNTER: AtomicU32 = AtomicU32::new(0);
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = CgroupOwner::this().slice(number);
            let cgroup = top.child(&name);
            if cgroup.path.exists() {
                stop_slice(&name);
            }
            return Ok(Self { for_engine: name, cgroup, hierarchies, own: None, oom: None, removed: false });
        }
        let own = RunCgroup::create(&top).map_err(|error| one_line(&error))?;
        let cgroup = own.cgroup().clone();
        // Before Linux 5.11 a v1 cgroup includes those below it only if this is set.
        let switch = cgroup.path.join("memory.use_hierarchy");
        if cgroup.version() == CgroupVersion::V1 && std::fs::read_to_string(&switch).is_ok_and(|on| on.trim() == "0") {
            write_to(&switch, "1").map_err(|error| error.to_string())?;
        }
        let name = cgroup.path.file_name().unwrap_or_default().to_string_lossy();
        Ok(Self { for_engine: format!("/{name}"), cgroup, hierarchies, own: Some(own), oom: None, removed: false })
    }

    /// The value of `CgroupParent` for the engine.
    pub(super) fn for_engine(&self) -> &str {
        &self.for_engine
    }

    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Starts watching for OOM kills in this container; call before it is started.
    pub(super) fn watch_limit(&mut self, engine: &Engine, id: &str) {
        self.oom = OomWatch::begin(engine, &self.cgroup, id);
    }

    /// Whether the OOM watch saw memory run out in the container.
    pub(super) fn ran_out(&self) -> bool {
        self.oom.as_ref().is_some_and(OomWatch::ran_out)
    }

    /// A reader of the memory charged to it. Its files exist once the container has been started.
    pub(super) fn reader(&self) -> MemoryReader {
        MemoryReader::new(&self.cgroup).with_companions(&self.companions())
    }

    /// The same cgroup in the v1 hierarchies that count what the memory controller does not.
    fn companions(&self) -> V1Companions {
        let name = Path::new(self.for_engine.trim_start_matches('/'));
        let with = |file: &str| {
            let v1 = self.hierarchies.iter().filter(|hierarchy| hierarchy.version == CgroupVersion::V1);
            v1.map(|hierarchy| hierarchy.mount_point.join(name)).find(|directory| directory.join(file).exists())
        };
        V1Companions {
            cpuacct: with("cpuacct.usage_user"),
            blkio: with("blkio.throttle.io_service_bytes_recursive"),
            pids: with("pids.peak"),
            cpu: with("cpu.cfs_quota_us"),
        }
    }

    /// How much the CPU limit has held the container back so far. The kernel counts it in the cgroup that has the limit,
    /// which is the container's own, below this one.
    pub(super) fn throttling(&self) -> Option<Throttling> {
        let own = self.companions().cpu.unwrap_or_else(|| self.cgroup.path.clone());
        let below = std::fs::read_dir(own).ok()?.flatten();
        below.filter_map(|entry| throttling_in(&entry.path())).reduce(Throttling::plus)
    }

    /// Whether the container is or was in it: only this container is created in this cgroup.
    pub(super) fn was_used(&self) -> Result<bool, HostError> {
        // An unused cgroup has no memory charged: any charge comes from the container.
        let mut reader = MemoryReader::new(&self.cgroup);
        Ok(reader.peak()?.or(reader.current()?).value().is_some_and(|peak| peak.0 > 0))
    }

    /// Kills the remaining processes in it and removes it from every hierarchy.
    pub(super) fn remove(mut self) -> Result<(), FinishError> {
        self.removed = true;
        self.remove_everywhere()
    }

    fn remove_everywhere(&mut self) -> Result<(), FinishError> {
        if self.own.is_none() && self.cgroup.path.exists() {
            stop_slice(&self.for_engine);
        }
        if let Some(own) = self.own.take() {
            own.remove()?;
        }
        remove_from(&self.hierarchies, Path::new(self.for_engine.trim_start_matches('/')))
    }
}

impl Drop for EnclosingCgroup {
    fn drop(&mut self) {
        if !self.removed
            && let Err(error) = self.remove_everywhere()
        {
            tracing::warn!("{}", one_line(&error));
        }
    }
}
