//! Whose a container is: said by a label, so that what a killed highwater left behind is found.

use std::fs;

use procfs::FromRead;
use procfs::process::Stat;

use crate::runner::maker::pid_namespace;

/// The name of the label.
pub(super) const LABEL: &str = "highwater.owner";

/// A process, told apart from all others of all machines: the boot, its number, when it was started (in ticks), and the
/// pid namespace in which that is its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    boot: String,
    pub(super) pid: i32,
    started: u64,
    namespace: u64,
}

impl Owner {
    /// A process of our own namespace.
    fn of(pid: i32) -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let started = Stat::from_file(format!("/proc/{pid}/stat")).ok()?.starttime;
        Some(Self { boot, pid, started, namespace: pid_namespace()? })
    }

    /// The owner that a label names.
    pub(super) fn parse(label: &str) -> Option<Self> {
        let mut parts = label.split(':');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            namespace: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(owner)
    }

    /// Whether it is known to be no more: a process of this machine's that has ended, or of a boot that is over.
    ///
    /// `None` where it belongs to another machine or container, or to this one before it was started anew; nobody can
    /// tell which.
    pub(super) fn is_gone(&self) -> Option<bool> {
        let own = Self::of(i32::try_from(std::process::id()).ok()?)?;
        (own.boot == self.boot && own.namespace == self.namespace).then(|| Self::of(self.pid).as_ref() != Some(self))
    }
}

/// The label of the containers of this process.
pub(in crate::runner) fn label() -> (String, String) {
    let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
    let value = match Owner::of(pid) {
        Some(Owner { boot, pid, started, namespace }) => format!("{boot}:{pid}:{started}:{namespace}"),
        None => format!("unknown:{pid}:0:0"),
    };
    (LABEL.to_owned(), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_of_its_number_is_not() {
        let own = Owner::parse(&label().1).unwrap();
        assert_eq!(own.is_gone(), Some(false));
        assert_eq!(Owner { started: own.started + 1, ..own.clone() }.is_gone(), Some(true));
        assert_eq!(Owner { namespace: 7, ..own.clone() }.is_gone(), None);
        assert_eq!(Owner { boot: "another".to_owned(), ..own }.is_gone(), None);
    }

    #[test]
    fn a_label_of_somebody_else_is_no_owner() {
        assert_eq!(Owner::parse("somebody"), None);
        assert_eq!(Owner::parse("boot:1:2"), None);
        assert_eq!(Owner::parse("boot:1:2:3:4"), None);
    }
}
