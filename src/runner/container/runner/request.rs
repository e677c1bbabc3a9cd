//! The request that creates a container.

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HostConfig, Mount, MountType, ResourcesUlimits,
};

use super::{Bind, Claim, ContainerLaunch};
use crate::model::units::Bytes;
use crate::runner::container::{ContainerResources, Device, Gpus, MemorySwap};
use crate::runner::engine::Image;
use crate::runner::probe;

/// The body of the request. With a probe, the probe replaces the entrypoint and starts it.
pub(super) fn body(
    launch: &ContainerLaunch,
    claim: &Claim,
    image: &Image,
    parent: Option<&str>,
    with_probe: bool,
) -> ContainerCreateBody {
    let (entrypoint, command) = if with_probe {
        (Some(probe::entrypoint()), Some(launch.words(image)))
    } else {
        (launch.entrypoint.clone(), launch.command.clone())
    };
    let limit = launch.limit.map(bytes);
    let labels = launch.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    ContainerCreateBody {
        image: Some(launch.image.clone()),
        entrypoint,
        cmd: command,
        env: Some(launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        working_dir: launch.working_directory.clone(),
        user: launch.user.clone(),
        labels: Some(labels.chain([claim.label()]).collect()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            cgroup_parent: parent.map(str::to_owned),
            network_mode: launch.network.clone(),
            mounts: Some(launch.mounts.iter().map(mount).collect()),
            memory: limit,
            cpuset_cpus: launch.cpuset.as_ref().map(ToString::to_string),
            // Memory and swap together: by default, nothing is swapped out beyond the limit.
            memory_swap: match launch.resources.memory_swap {
                Some(MemorySwap::Total(total)) => Some(bytes(total)),
                Some(MemorySwap::Unlimited) => Some(-1),
                None => limit,
            },
            ..host_config(&launch.resources)
        }),
        ..ContainerCreateBody::default()
    }
}

fn mount(bind: &Bind) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.to_string_lossy().into_owned()),
        target: Some(bind.target.clone()),
        read_only: Some(bind.read_only),
        ..Mount::default()
    }
}

/// The resources beside memory and swap.
fn host_config(resources: &ContainerResources) -> HostConfig {
    let files = resources.devices.iter().filter_map(|device| match device {
        Device::File { source, target, access } => Some(DeviceMapping {
            path_on_host: Some(source.clone()),
            path_in_container: Some(target.clone()),
            cgroup_permissions: Some(access.clone()),
        }),
        Device::Cdi(_) => None,
    });
    let cdi = resources.devices.iter().filter_map(|device| match device {
        Device::Cdi(name) => Some(name.clone()),
        Device::File { .. } => None,
    });
    let cdi = DeviceRequest {
        driver: Some("cdi".to_owned()),
        device_ids: Some(cdi.collect()).filter(|names: &Vec<String>| !names.is_empty()),
        ..DeviceRequest::default()
    };
    let gpus = resources.gpus.as_ref().filter(|gpus| !gpus.is_none()).map(gpus_request);
    let ulimits = resources.ulimits.iter().map(|ulimit| ResourcesUlimits {
        name: Some(ulimit.name.clone()),
        soft: Some(ulimit.soft),
        hard: Some(ulimit.hard),
    });
    let tmpfs = resources.tmpfs.iter().map(|tmpfs| (tmpfs.path.clone(), tmpfs.options.clone()));
    HostConfig {
        nano_cpus: resources.cpus.map(|cpus| i64::try_from(cpus.nano).unwrap_or(i64::MAX)),
        devices: some(files.collect()),
        device_requests: some(gpus.into_iter().chain(cdi.device_ids.is_some().then_some(cdi)).collect()),
        shm_size: resources.shm_size.map(bytes),
        tmpfs: Some(tmpfs.collect()).filter(|tmpfs: &std::collections::HashMap<_, _>| !tmpfs.is_empty()),
        ulimits: some(ulimits.collect()),
        ..HostConfig::default()
    }
}

/// As the command line of Docker requests GPUs.
fn gpus_request(gpus: &Gpus) -> DeviceRequest {
    let capabilities = gpus.capabilities.iter().cloned().chain(["gpu".to_owned()]).collect();
    DeviceRequest {
        driver: gpus.driver.clone(),
        count: gpus.count,
        device_ids: some(gpus.ids.clone()),
        capabilities: Some(vec![capabilities]),
        options: Some(gpus.options.clone().into_iter().collect()),
    }
}

fn bytes(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

fn some<T>(values: Vec<T>) -> Option<Vec<T>> {
    Some(values).filter(|values| !values.is_empty())
}
