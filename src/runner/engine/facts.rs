//! Properties of an engine.

use nix::sys::utsname;
use serde::{Deserialize, Serialize};

use crate::model::observation::CgroupVersion;

/// What an engine reports about itself and the machine it runs containers on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name, such as `Docker Engine` or `Podman Engine`.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// The version of its API, such as `1.41`.
    pub api: Option<String>,
    /// The driver that creates the cgroups of its containers: `cgroupfs` or `systemd`.
    pub cgroup_driver: Option<String>,
    /// The cgroup version of the machine.
    pub cgroup: Option<CgroupVersion>,
    /// The kernel release of the machine.
    pub kernel: Option<String>,
    /// The host name of the machine.
    pub host: Option<String>,
    /// The CPUs of the machine.
    #[serde(default)]
    pub cpus: Option<u32>,
    /// Whether it can enforce a memory limit; without the controller it ignores limits silently.
    pub limits_memory: bool,
    /// Whether it can limit swap; unknown if absent.
    #[serde(default)]
    pub limits_swap: Option<bool>,
    /// Whether it can limit CPU time; unknown if absent.
    #[serde(default)]
    pub limits_cpu: Option<bool>,
    /// Whether it can choose the CPUs of a container; unknown if absent.
    #[serde(default)]
    pub limits_cpus: Option<bool>,
    /// How the users of its containers map to those of the machine.
    #[serde(default)]
    pub users: UserMapping,
}

/// How the users of an engine's containers map to those of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserMapping {
    /// To those with the same ids.
    #[default]
    Identity,
    /// To those whose ids are higher by this number (dockerd's `userns-remap`).
    Offset(u32),
    /// Root to the user who runs the engine (rootless), the others to subordinate ids of that user.
    Rootless,
}

impl Facts {
    /// Whether it is Podman, which runs a monitor process beside every container.
    pub fn is_podman(&self) -> bool {
        self.name.contains("Podman")
    }

    /// Whether it seems to run on this machine: same kernel release and host name. A peak is trusted only if the cgroup
    /// it was read from is verified to be the container's.
    pub fn seems_local(&self) -> bool {
        let Ok(uname) = utsname::uname() else { return false };
        let same = |said: &Option<String>, is: &std::ffi::OsStr| said.as_deref() == is.to_str();
        same(&self.kernel, uname.release()) && same(&self.host, uname.nodename())
    }
}
