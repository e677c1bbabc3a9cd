//! The facts about a machine that a measurement depends on.

use nix::sys::utsname;
use nix::unistd::{SysconfVar, sysconf};
use procfs::Meminfo;

use super::cgroup::{self, memory_hierarchy};
use super::{HostError, HostRoots};
use crate::model::observation::Host;
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// The kernel charges memory to a cgroup in batches of up to this many pages for each CPU.
const PAGES_PER_BATCH: u64 = 64;

/// Describes the machine.
///
/// # Errors
/// Where the kernel does not tell its name, its page size or its number of CPUs.
pub fn describe(roots: &HostRoots) -> Result<Host, HostError> {
    let uname = utsname::uname().map_err(|errno| unread("uname(2)", errno))?;
    let memory = cgroup::read::<Meminfo>(&roots.proc.join("meminfo"));
    let amount = |of: fn(&Meminfo) -> u64| match &memory {
        Ok(memory) => Reading::Value(Bytes(of(memory))),
        Err(_) => Reading::Unsupported,
    };
    Ok(Host {
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        cpus: u32::try_from(configured(SysconfVar::_NPROCESSORS_ONLN, "the number of CPUs")?).unwrap_or(u32::MAX),
        page_bytes: Bytes(configured(SysconfVar::PAGE_SIZE, "the page size")?),
        memory_bytes: amount(|memory| memory.mem_total),
        swap_bytes: amount(|memory| memory.swap_total),
        cgroup: memory_hierarchy(roots, "self").ok().map(|hierarchy| hierarchy.version),
    })
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
        let host = describe(&HostRoots::default()).unwrap();
        assert!(host.cpus >= 1);
        assert!(host.page_bytes >= Bytes(4096));
        assert!(noise(&host) >= Bytes(256 << 10));
    }
}
