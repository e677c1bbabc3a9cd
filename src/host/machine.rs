//! The facts about a machine that a measurement depends on.

use nix::sys::sysinfo::{SysInfo, sysinfo};
use nix::sys::utsname;
use nix::unistd::{SysconfVar, sysconf};
use procfs::Meminfo;

use super::cgroup::{self, Hierarchy, memory_hierarchy};
use super::{HostError, HostRoots};
use crate::model::observation::Host;
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// The kernel charges memory to a cgroup in batches of up to this many pages for each CPU.
const PAGES_PER_BATCH: u64 = 64;

/// A machine, read once.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where it is read.
    pub roots: HostRoots,
    /// What a record says of it.
    pub facts: Host,
    /// The hierarchy that carries the memory controller, or why none was found.
    pub memory: Result<Hierarchy, String>,
}

impl Machine {
    /// Reads the machine.
    ///
    /// # Errors
    /// Where the kernel does not tell its name, its page size or its number of CPUs.
    pub fn read(roots: HostRoots) -> Result<Self, HostError> {
        let uname = utsname::uname().map_err(|errno| unread("uname(2)", errno))?;
        let amounts = sysinfo();
        let amount = |of: fn(&SysInfo) -> u64| match &amounts {
            Ok(amounts) => Reading::Value(Bytes(of(amounts))),
            Err(_) => Reading::Unsupported,
        };
        let memory = memory_hierarchy(&roots, "self");
        let facts = Host {
            kernel: uname.release().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            cpus: u32::try_from(configured(SysconfVar::_NPROCESSORS_ONLN, "the number of CPUs")?).unwrap_or(u32::MAX),
            page_bytes: Bytes(configured(SysconfVar::PAGE_SIZE, "the page size")?),
            memory_bytes: amount(SysInfo::ram_total),
            swap_bytes: amount(SysInfo::swap_total),
            cgroup: memory.as_ref().ok().map(|hierarchy| hierarchy.version),
        };
        Ok(Self { roots, facts, memory: memory.map_err(|error| one_line(&error)) })
    }
}

/// How much too high a peak of the kernel's can be on this machine.
pub fn noise(host: &Host) -> Bytes {
    Bytes(host.page_bytes.0.saturating_mul(PAGES_PER_BATCH).saturating_mul(u64::from(host.cpus)))
}

/// The memory that could be given to new work now (`MemAvailable`), in bytes.
pub fn available(roots: &HostRoots) -> Reading<Bytes> {
    match cgroup::read::<Meminfo>(&roots.proc.join("meminfo")) {
        Ok(Meminfo { mem_available: Some(available), .. }) => Reading::Value(Bytes(available)),
        _ => Reading::Unsupported,
    }
}

fn configured(variable: SysconfVar, name: &str) -> Result<u64, HostError> {
    let value = sysconf(variable).map_err(|errno| unread(name, errno))?;
    value.and_then(|value| u64::try_from(value).ok()).ok_or_else(|| unread(name, nix::errno::Errno::EINVAL))
}

fn unread(name: &str, errno: nix::errno::Errno) -> HostError {
    HostError::Read { path: name.into(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu_and_pages() {
        let host = Machine::read(HostRoots::default()).unwrap().facts;
        assert!(host.cpus >= 1);
        assert!(host.page_bytes >= Bytes(4096));
        assert!(noise(&host) >= Bytes(256 << 10));
    }
}
