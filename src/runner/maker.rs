//! Whose a cgroup is: said by its name, so that what a killed highwater left behind is found.
//!
//! A number of a process means nothing in another pid namespace, as that of a container: there the name says the
//! namespace, too, and only who is in it can tell whether the process is still there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// The beginning of the name of every cgroup that highwater makes itself.
const PREFIX: &str = "highwater-";
/// The beginning of the name of a slice. Without `-`: systemd puts `a-b.slice` below `a.slice`.
const SLICE_PREFIX: &str = "highwater_";
const SLICE: &str = ".slice";

/// The first pid namespace, that of the machine (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The process that a cgroup was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maker {
    pid: u32,
    namespace: u64,
}

impl Maker {
    pub(super) fn this() -> Self {
        Self { pid: std::process::id(), namespace: pid_namespace().unwrap_or(FIRST_NAMESPACE) }
    }

    /// `highwater-PID-N`, elsewhere than in the first namespace `highwater-PID-N-NAMESPACE`.
    pub(super) fn cgroup(self, number: u32) -> String {
        format!("{PREFIX}{}", self.numbers(number, '-'))
    }

    /// `highwater_PID_N.slice`, elsewhere than in the first namespace `highwater_PID_N_NAMESPACE.slice`.
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

    /// Who made the cgroup with this name; `None` where it is none of ours.
    pub(super) fn parse(name: &str) -> Option<Self> {
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

    /// Whether it is no more; `None` where only those in its namespace can tell.
    pub(super) fn is_gone(self) -> Option<bool> {
        (pid_namespace()? == self.namespace).then(|| !Path::new("/proc").join(self.pid.to_string()).exists())
    }
}

/// Whether a cgroup with this name is a slice that systemd knows.
pub(super) fn is_slice(name: &str) -> bool {
    name.starts_with(SLICE_PREFIX)
}

/// The pid namespace that this process is in, which it never leaves (`pid_namespaces(7)`).
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
            let maker = Maker { pid: 12, namespace };
            for name in [maker.cgroup(3), maker.slice(3)] {
                assert_eq!(Maker::parse(&name), Some(maker), "{name}");
            }
        }
        assert_eq!(Maker { pid: 12, namespace: FIRST_NAMESPACE }.cgroup(0), "highwater-12-0");
        assert_eq!(Maker { pid: 12, namespace: 7 }.slice(0), "highwater_12_0_7.slice");
    }

    #[test]
    fn only_names_of_ours_have_a_maker() {
        for other in ["highwater", "highwater-", "highwater-a-b", "highwater-12", "highwater_12_3", "docker", "12-0"] {
            assert_eq!(Maker::parse(other), None, "{other}");
        }
    }

    #[test]
    fn nobody_can_tell_of_another_namespace() {
        assert_eq!(Maker::this().is_gone(), Some(false));
        assert_eq!(Maker { namespace: 7, ..Maker::this() }.is_gone(), None);
    }
}
