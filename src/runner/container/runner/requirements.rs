//! What an engine needs for the resources of a container, checked before anything is run.

use std::path::Path;

use super::{ContainerError, ContainerRunner};
use crate::model::observation::Warning;
use crate::model::units::Bytes;
use crate::runner::container::{ContainerResources, Device, MemorySwap};
use crate::runner::engine::Engine;
use crate::runner::engine::client::BRISK;

/// With this program in its PATH, Docker provides the GPUs of NVIDIA without a runtime or CDI.
const NVIDIA_HOOK: &str = "nvidia-container-runtime-hook";

impl ContainerRunner {
    /// Checks that the engine has what the container is to get.
    ///
    /// # Errors
    /// If it does not, or would ignore an option.
    pub fn require(engine: &Engine, resources: &ContainerResources) -> Result<(), ContainerError> {
        let facts = &engine.facts;
        if let Some(wanted) = resources.cpus {
            if facts.limits_cpu == Some(false) {
                let reason = "the engine has no CPU controller to enforce it";
                return Err(ContainerError::OptionNotKept { option: "--cpus", reason });
            }
            if let Some(cpus) = facts.cpus.filter(|cpus| wanted.nano > u64::from(*cpus) * 1_000_000_000) {
                return Err(ContainerError::TooManyCpus { wanted, cpus });
            }
        }
        if resources.memory_swap.is_some() && facts.limits_swap == Some(false) {
            let reason = "the engine's kernel does not account swap";
            return Err(ContainerError::OptionNotKept { option: "--memory-swap", reason });
        }
        for device in &resources.devices {
            match device {
                Device::File { source, .. }
                    if facts.seems_local() && matches!(Path::new(source).try_exists(), Ok(false)) =>
                {
                    return Err(ContainerError::NoDevice { device: source.clone() });
                }
                Device::Cdi(name) if facts.is_podman() => {
                    return Err(ContainerError::NoGpus {
                        option: format!("--device {name}"),
                        reason: "Podman ignores CDI devices in requests of this kind".to_owned(),
                        remedy: "name the device files, such as --device /dev/fuse, or use Docker",
                    });
                }
                Device::File { .. } | Device::Cdi(_) => {}
            }
        }
        match &resources.gpus {
            Some(gpus) if !gpus.is_none() => require_gpus(engine, &format!("--gpus {gpus}")),
            Some(_) | None => Ok(()),
        }
    }
}

impl ContainerRunner {
    /// Checks that the engine can keep a container on CPUs of this machine.
    ///
    /// # Errors
    /// If it runs elsewhere, or has no cpuset controller.
    pub fn require_cpuset(engine: &Engine) -> Result<(), ContainerError> {
        let refused = |reason| Err(ContainerError::OptionNotKept { option: "--pin", reason });
        if !engine.facts.seems_local() {
            return refused("the engine runs on another machine, whose CPUs highwater does not know");
        }
        if engine.facts.limits_cpus == Some(false) {
            return refused("the engine has no cpuset controller to enforce it");
        }
        Ok(())
    }
}

/// The limit of memory and swap must include the memory limit.
pub(super) fn require_swap_above(limit: Option<Bytes>, resources: &ContainerResources) -> Result<(), ContainerError> {
    match (limit, resources.memory_swap) {
        (_, None) | (Some(_), Some(MemorySwap::Unlimited)) => Ok(()),
        (None, Some(_)) => Err(ContainerError::SwapWithoutLimit),
        (Some(limit), Some(MemorySwap::Total(total))) if total < limit => {
            Err(ContainerError::SwapBelowLimit { total, limit })
        }
        (Some(_), Some(MemorySwap::Total(_))) => Ok(()),
    }
}

/// What the resources mean for the peak.
pub(super) fn notes(limit: Option<Bytes>, resources: &ContainerResources) -> Vec<Warning> {
    let swap = limit.zip(resources.memory_swap).and_then(|(limit, swap)| match swap {
        MemorySwap::Unlimited => Some(None),
        MemorySwap::Total(total) => Some(Some(total.saturating_sub(limit))).filter(|swap| *swap != Some(Bytes::ZERO)),
    });
    let directories = Some(resources.in_memory()).filter(|directories| !directories.is_empty());
    let swap = swap.map(|swap_bytes| Warning::SwapAllowed { swap_bytes });
    swap.into_iter().chain(directories.map(|directories| Warning::InMemory { directories })).collect()
}

/// What to do about an engine without GPUs.
pub(super) const NO_GPUS: &str = "install the NVIDIA Container Toolkit for the engine, name other devices with --device, or \
                                  run without a GPU with --gpus 0";

/// Checks that the engine can provide GPUs. One elsewhere may have the hook, and reports by itself if it has not.
fn require_gpus(engine: &Engine, option: &str) -> Result<(), ContainerError> {
    let refused = |reason: &str, remedy| {
        Err(ContainerError::NoGpus { option: option.to_owned(), reason: reason.to_owned(), remedy })
    };
    if engine.facts.is_podman() {
        let remedy = "use Docker, name devices with --device, or run without a GPU with --gpus 0";
        return refused("Podman ignores requests for GPUs of this kind", remedy);
    }
    if !engine.facts.seems_local() {
        return Ok(());
    }
    // Not from the cache: a toolkit may have been installed a minute ago.
    let action = "ask the engine for its runtimes";
    let info = engine.ask(action, BRISK, engine.docker.info()).map_err(|error| error.explain(action))?;
    let has_runtime = info.runtimes.iter().flat_map(|runtimes| runtimes.keys()).any(|name| name.contains("nvidia"));
    let is_gpu = |id: &String| id.starts_with("nvidia.com/");
    let has_cdi = info.discovered_devices.iter().flatten().filter_map(|device| device.id.as_ref()).any(is_gpu);
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let has_hook = folders.iter().any(|folder| Path::new(folder).join(NVIDIA_HOOK).exists());
    if has_runtime || has_cdi || has_hook {
        return Ok(());
    }
    refused("the engine has neither the NVIDIA runtime nor a CDI device of nvidia.com", NO_GPUS)
}
