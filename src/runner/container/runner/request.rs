//! The request that creates a container.

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};

use super::{Bind, Claim, ContainerLaunch};
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
    let limit = launch.limit.map(|limit| i64::try_from(limit.0).unwrap_or(i64::MAX));
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
            // Memory and swap together: nothing is swapped out beyond the limit.
            memory_swap: limit,
            ..HostConfig::default()
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
