//! Facts about a machine that affect measurements.

use nix::sys::sysinfo::{SysInfo, sysinfo};
use nix::sys::utsname;
use nix::unistd::{SysconfVar, sysconf};
use procfs::Meminfo;

use super::cgroup::{self, Cgroup, Hierarchy, memory_cgroup, memory_hierarchy};
use super::memory::MemoryReader;
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
    /// The roots it is read from.
    pub roots: HostRoots,
    /// Its description in a record.
    pub facts: Host,
    /// The hierarchy with the memory controller, or why there is none.
    pub memory: Result<Hierarchy, String>,
}

impl Machine {
    /// Reads the machine.
    ///
    /// # Errors
    /// If the kernel does not report its name, its page size or its number of CPUs.
    pub fn read(roots: HostRoots) -> Result<Self, HostError> {
        let uname = utsname::uname().map_err(|errno| unread("uname(2)", errno))?;
        let amounts = sysinfo();
        let amount = |of: fn(&SysInfo) -> u64| match &amounts {
            Ok(amounts) => Reading::Value(Bytes(of(amounts))),
            Err(_) => Reading::Unsupported,
        };
        let memory = memory_hierarchy(&roots, "self");
        let facts = Host {
            name: Some(uname.nodename().to_string_lossy().into_owned()).filter(|name| !name.is_empty()),
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

/// The error bound of a kernel peak on this machine.
pub fn error_bound(host: &Host) -> Bytes {
    Bytes(host.page_bytes.0.saturating_mul(PAGES_PER_BATCH).saturating_mul(u64::from(host.cpus)))
}

/// The memory available for new work now, in bytes: `MemAvailable`, or less if the limits of this process's cgroups
/// leave less.
pub fn available(roots: &HostRoots) -> Reading<Bytes> {
    match cgroup::read::<Meminfo>(&roots.proc.join("meminfo")) {
        Ok(Meminfo { mem_available: Some(available), .. }) => {
            let below_limits =
                memory_cgroup(roots, "self").ok().and_then(|own| own.ancestry().filter_map(room_in).min());
            Reading::Value(below_limits.map_or(Bytes(available), |room| room.min(Bytes(available))))
        }
        _ => Reading::Unsupported,
    }
}

/// How much more memory a cgroup may use, if it has a limit. Like in `MemAvailable`, page cache counts as free.
fn room_in(cgroup: Cgroup) -> Option<Bytes> {
    let mut reader = MemoryReader::new(&cgroup);
    let limits = [reader.limit(), reader.throttled_above()];
    let limit = limits.into_iter().filter_map(|limit| limit.ok()?.value()?).min()?;
    let used = reader.current().ok()?.value()?;
    let page_cache = reader.split().ok()?.value().and_then(|split| split.file.value()).unwrap_or(Bytes::ZERO);
    Some(limit.saturating_sub(used.saturating_sub(page_cache)))
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
        assert!(error_bound(&host) >= Bytes(256 << 10));
    }

    #[test]
    fn the_limits_that_this_process_lives_under_bound_what_is_available() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let lines = std::fs::read_to_string("/proc/meminfo").unwrap();
        let lines = lines.lines().filter(|line| !line.starts_with("MemAvailable:")).chain(["MemAvailable: 5000 kB"]);
        write("proc/meminfo", &lines.map(|line| format!("{line}\n")).collect::<String>());
        write("proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        write("proc/self/cgroup", "0::/pod/job\n");
        let available = || available(&HostRoots::recorded(tree.path())).value().map(|Bytes(bytes)| bytes / 1024);
        assert_eq!(available(), Some(5000));
        for (cgroup, max, current, file) in [("pod/", 4000, 1500, 0), ("pod/job/", 3000, 1000, 200)] {
            write(&format!("sys/fs/cgroup/{cgroup}memory.max"), &format!("{}\n", max * 1024));
            write(&format!("sys/fs/cgroup/{cgroup}memory.current"), &format!("{}\n", current * 1024));
            write(&format!("sys/fs/cgroup/{cgroup}memory.stat"), &format!("file {}\nshmem 0\n", file * 1024));
        }
        assert_eq!(available(), Some(2200));
        write("sys/fs/cgroup/pod/memory.max", &format!("{}\n", 2000 * 1024));
        assert_eq!(available(), Some(500));
        write("sys/fs/cgroup/pod/job/memory.high", "0\n");
        assert_eq!(available(), Some(0));
    }
}
