//! Encodes the owning process in the name of a cgroup so that leftovers can be cleaned up.
//!
//! A pid is meaningless in another pid namespace, such as that of a container: there the name includes the namespace,
//! and only a process in it can check whether the owner still exists.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// The prefix of the name of every cgroup that highwater creates itself.
const PREFIX: &str = "highwater-";
/// The prefix of the name of a slice. Without `-`: systemd puts `a-b.slice` below `a.slice`.
const SLICE_PREFIX: &str = "highwater_";
const SLICE: &str = ".slice";

/// The initial pid namespace, that of the machine (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The process that created a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CgroupOwner {
    pid: u32,
    namespace: u64,
}

impl CgroupOwner {
    pub(crate) fn this() -> Self {
        Self { pid: std::process::id(), namespace: pid_namespace().unwrap_or(FIRST_NAMESPACE) }
    }

    /// `highwater-PID-N`, or `highwater-PID-N-NAMESPACE` outside the initial namespace.
    pub(crate) fn cgroup(self, number: u32) -> String {
        format!("{PREFIX}{}", self.numbers(number, '-'))
    }

    /// `highwater_PID_N.slice`, or `highwater_PID_N_NAMESPACE.slice` outside the initial namespace.
    #[cfg(any(test, feature = "containers"))]
    pub(super) fn slice(self, number: u32) -> String {
        format!("{SLICE_PREFIX}{}{SLICE}", self.numbers(number, '_'))
    }

    fn numbers(self, number: u32, between: char) -> String {
        let Self { pid, namespace } = self;
        match namespace {
            FIRST_NAMESPACE => format!("{pid}{between}{number}"),
            elsewhere => format!("{pid}{between}{number}{between}{elsewhere}"),
        }
    }

    /// The owner of the cgroup with this name; `None` if it is not one of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (rest, between) = match name.strip_prefix(PREFIX) {
            Some(rest) => (rest, '-'),
            None => (name.strip_prefix(SLICE_PREFIX)?.strip_suffix(SLICE)?, '_'),
        };
        let mut numbers = rest.split(between);
        let pid = numbers.next()?.parse().ok()?;
        numbers.next()?.parse::<u32>().ok()?;
        let namespace = numbers.next().map_or(Some(FIRST_NAMESPACE), |number| number.parse().ok())?;
        numbers.next().is_none().then_some(Self { pid, namespace })
    }

    /// Whether the process has ended; `None` if only processes in its namespace can tell.
    pub(crate) fn is_gone(self) -> Option<bool> {
        (pid_namespace()? == self.namespace).then(|| !Path::new("/proc").join(self.pid.to_string()).exists())
    }
}

/// Whether a cgroup with this name is a systemd slice.
pub(super) fn is_slice(name: &str) -> bool {
    name.starts_with(SLICE_PREFIX)
}

/// The pid namespace of this process, which never changes (`pid_namespaces(7)`).
pub(super) fn pid_namespace() -> Option<u64> {
    static OWN: OnceLock<Option<u64>> = OnceLock::new();
    *OWN.get_or_init(|| fs::metadata("/proc/self/ns/pid").ok().map(|metadata| metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_maker() {
        for namespace in [FIRST_NAMESPACE, 4_026_532_200] {
            let owner = CgroupOwner { pid: 12, namespace };
            for name in [owner.cgroup(3), owner.slice(3)] {
                assert_eq!(CgroupOwner::parse(&name), Some(owner), "{name}");
            }
        }
        assert_eq!(CgroupOwner { pid: 12, namespace: FIRST_NAMESPACE }.cgroup(0), "highwater-12-0");
        assert_eq!(CgroupOwner { pid: 12, namespace: 7 }.slice(0), "highwater_12_0_7.slice");
    }

    #[test]
    fn only_names_of_ours_have_a_maker() {
        for other in ["highwater", "highwater-", "highwater-a-b", "highwater-12", "highwater_12_3", "docker", "12-0"] {
            assert_eq!(CgroupOwner::parse(other), None, "{other}");
        }
    }

    #[test]
    fn nobody_can_tell_of_another_namespace() {
        assert_eq!(CgroupOwner::this().is_gone(), Some(false));
        assert_eq!(CgroupOwner { namespace: 7, ..CgroupOwner::this() }.is_gone(), None);
    }
}
