//! Encodes the owning process in a label of the container so that leftovers can be cleaned up.
//!
//! An image that is committed from a container inherits the labels of the container, and every container of that image
//! inherits them in turn. So the label repeats what a container cannot inherit: its own name and, if the name is not
//! unique, the digest of its image, which an image cannot contain.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use procfs::FromRead;
use procfs::process::Stat;

use crate::runner::cgroup_owner::pid_namespace;

/// The name of the label.
pub(super) const LABEL: &str = "highwater.owner";

/// The beginning of the names that highwater gives to containers.
const PREFIX: &str = "highwater-";

/// A process, identified across machines and reboots by the boot id, its pid, when it was started (in ticks) and its pid
/// namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct Owner {
    boot: String,
    pub(in crate::runner) pid: i32,
    started: u64,
    namespace: u64,
    user: u32,
}

impl Owner {
    /// This process.
    fn this() -> Option<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self { boot, pid, started: start_time(pid)?, namespace: pid_namespace()?, user: geteuid().as_raw() })
    }

    /// The owner of a container with this label, these names and this image; `None` if the label was not made for this
    /// container.
    pub(in crate::runner) fn of_container(label: &str, names: &[String], image_id: &str) -> Option<Self> {
        let mut parts = label.splitn(7, ':');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            started: parts.next()?.parse().ok()?,
            namespace: parts.next()?.parse().ok()?,
            user: parts.next()?.parse().ok()?,
        };
        let (name, image) = (parts.next()?, parts.next());
        let has_name = names.iter().any(|own| own.trim_start_matches('/') == name);
        let has_image = image.map_or(name.starts_with(PREFIX), |image| digest(image) == digest(image_id));
        (has_name && has_image).then_some(owner)
    }

    /// Whether the process has ended; `None` if that cannot be determined from here: it belongs to another machine,
    /// another container or an earlier boot of this machine.
    pub(in crate::runner) fn is_gone(&self) -> Option<bool> {
        let own = Self::this()?;
        let is_known = own.boot == self.boot && own.namespace == self.namespace;
        is_known.then(|| match start_time(self.pid) {
            Some(started) => started != self.started,
            // A process of another user may be hidden (the `hidepid` mount option of /proc).
            None => kill(Pid::from_raw(self.pid), None) == Err(Errno::ESRCH),
        })
    }

    /// Whether it belongs to another user, whose containers we must not remove.
    pub(in crate::runner) fn is_of_another_user(&self) -> bool {
        let own = geteuid();
        !own.is_root() && own.as_raw() != self.user
    }
}

/// When a process was started, in ticks since the boot.
fn start_time(pid: i32) -> Option<u64> {
    Stat::from_file(format!("/proc/{pid}/stat")).ok().map(|stat| stat.starttime)
}

fn digest(image_id: &str) -> &str {
    image_id.strip_prefix("sha256:").unwrap_or(image_id)
}

/// The name and the label of a container to be created, which prove that it is ours.
#[derive(Clone, Debug)]
pub(in crate::runner) struct Claim {
    name: String,
    label: String,
    is_unique: bool,
}

impl Claim {
    /// A claim to a container of this image with this name, or with a unique one.
    pub(in crate::runner) fn new(name: Option<&str>, image_id: Option<&str>) -> Self {
        let owner = match Owner::this() {
            Some(Owner { boot, pid, started, namespace, user }) => format!("{boot}:{pid}:{started}:{namespace}:{user}"),
            None => format!("unknown:{}:0:0:0", std::process::id()),
        };
        match name {
            // Another container may take the name later.
            Some(name) => {
                let label = format!("{owner}:{name}:{}", image_id.unwrap_or("unknown"));
                Self { name: name.to_owned(), label, is_unique: false }
            }
            None => {
                let name = unique_name();
                Self { label: format!("{owner}:{name}"), name, is_unique: true }
            }
        }
    }

    pub(in crate::runner) fn name(&self) -> &str {
        &self.name
    }

    /// The name, if no other container has ever had it.
    pub(super) fn unique_name(&self) -> Option<&str> {
        self.is_unique.then_some(&self.name)
    }

    pub(in crate::runner) fn label(&self) -> (String, String) {
        (LABEL.to_owned(), self.label.clone())
    }
}

fn unique_name() -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{PREFIX}{}-{}", std::process::id(), random.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str) -> Vec<String> {
        vec![format!("/{name}")]
    }

    #[test]
    fn this_process_is_alive_and_another_start_of_its_number_is_not() {
        let claim = Claim::new(None, None);
        let own = Owner::of_container(&claim.label().1, &names(claim.name()), "").unwrap();
        assert_eq!((own.is_gone(), own.is_of_another_user()), (Some(false), false));
        assert_eq!(Owner { started: own.started + 1, ..own.clone() }.is_gone(), Some(true));
        assert_eq!(Owner { namespace: 7, ..own.clone() }.is_gone(), None);
        assert_eq!(Owner { boot: "another".to_owned(), ..own }.is_gone(), None);
    }

    #[test]
    fn a_label_that_was_inherited_from_an_image_claims_nothing() {
        let unique = Claim::new(None, Some("sha256:aa"));
        let label = unique.label().1;
        assert!(Owner::of_container(&label, &names(unique.name()), "sha256:aa").is_some());
        assert_eq!(Owner::of_container(&label, &names("eager_noether"), "sha256:bb"), None);
        let named = Claim::new(Some("segment"), Some("sha256:aa")).label().1;
        assert!(Owner::of_container(&named, &names("segment"), "aa").is_some());
        assert_eq!(Owner::of_container(&named, &names("segment"), "sha256:bb"), None);
        assert_eq!(Owner::of_container(&named, &names("another"), "sha256:aa"), None);
    }

    #[test]
    fn a_malformed_label_names_no_owner() {
        for label in ["someone", "boot:1:2:3", "boot:1:2:3:0", "boot:1:2:3:0:name"] {
            assert_eq!(Owner::of_container(label, &names("name"), "sha256:aa"), None, "{label}");
        }
    }
}
