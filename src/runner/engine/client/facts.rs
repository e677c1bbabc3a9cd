//! Properties of an engine: queried once, cached for ten minutes as long as its socket is the same.
//!
//! A query takes 20 to 60 ms, because the engine runs its helpers to get their versions; a container takes 170 ms.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use bollard::{ClientVersion, Docker};
use futures_util::future::join;
use serde::{Deserialize, Serialize};

use crate::model::observation::CgroupVersion;
use crate::runner::cache;
use crate::runner::engine::{Address, Facts, UserMapping};

impl UserMapping {
    /// dockerd names its data directory after the user that root maps to: `/var/lib/docker/100000.100000`.
    fn new(options: &[String], data: Option<&str>) -> Self {
        let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
        if has("name=rootless") {
            return Self::Rootless;
        }
        let root = data.and_then(|path| path.trim_end_matches('/').rsplit('/').next()?.split_once('.')?.0.parse().ok());
        root.filter(|_| has("name=userns")).map_or(Self::Identity, Self::Offset)
    }
}

impl Facts {
    /// The API version to use: the engine's, unless that is newer than the client's.
    pub(super) fn client_version(&self) -> Option<ClientVersion> {
        let (major, minor) = self.api.as_deref()?.split_once('.')?;
        let own = bollard::API_DEFAULT_VERSION;
        let (major_version, minor_version) = (major.parse().ok()?, minor.parse().ok()?);
        Some(if (major_version, minor_version) < (own.major_version, own.minor_version) {
            ClientVersion { major_version, minor_version }
        } else {
            ClientVersion { major_version: own.major_version, minor_version: own.minor_version }
        })
    }
}

/// The name of the engine among its components.
pub(super) fn name_of(version: &bollard::models::SystemVersion) -> String {
    let component = version.components.as_ref().and_then(|components| components.first());
    match component.map(|component| component.name.as_str()) {
        Some("Engine") => "Docker Engine".to_owned(),
        Some(name) => name.to_owned(),
        None => "engine".to_owned(),
    }
}

pub(super) async fn ask(docker: &Docker) -> Result<Facts, bollard::errors::Error> {
    // The oldest API version works without knowing the engine's.
    let version = docker.clone().negotiate_version();
    let docker = version.await?;
    let (version, info) = join(docker.version(), docker.info()).await;
    let (version, info) = (version?, info?);
    use bollard::models::SystemInfoCgroupVersionEnum as V;
    Ok(Facts {
        name: name_of(&version),
        version: version.version,
        api: version.api_version,
        cgroup_driver: info.cgroup_driver.map(|driver| driver.to_string()).filter(|driver| !driver.is_empty()),
        cgroup: match info.cgroup_version {
            Some(V::_1) => Some(CgroupVersion::V1),
            Some(V::_2) => Some(CgroupVersion::V2),
            Some(V::EMPTY) | None => None,
        },
        kernel: info.kernel_version.or(version.kernel_version),
        host: info.name,
        cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).filter(|cpus| *cpus > 0),
        limits_memory: info.memory_limit.unwrap_or(true),
        limits_swap: info.swap_limit,
        limits_cpu: info.cpu_cfs_quota,
        limits_cpus: info.cpu_set,
        users: UserMapping::new(&info.security_options.unwrap_or_default(), info.docker_root_dir.as_deref()),
    })
}

/// A cache entry; a socket that was created anew belongs to another engine.
#[derive(Serialize, Deserialize)]
struct CacheEntry {
    url: String,
    socket: (u64, u64, i64, i64),
    facts: Facts,
}

/// How long an entry is valid.
const FRESH: Duration = Duration::from_secs(600);

pub(super) fn remembered(address: &Address) -> Option<Facts> {
    let path = file(address)?;
    // A socket may outlive its engine: systemd listens at it for whichever is started next.
    let age = fs::metadata(&path).ok()?.modified().ok()?.elapsed().ok()?;
    if age > FRESH {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    let met: CacheEntry = serde_json::from_str(&text).ok()?;
    (met.url == address.url && met.socket == socket(address)?).then_some(met.facts)
}

pub(super) fn remember(address: &Address, facts: &Facts) {
    let (Some(path), Some(socket)) = (file(address), socket(address)) else { return };
    let met = CacheEntry { url: address.url.clone(), socket, facts: facts.clone() };
    let Ok(text) = serde_json::to_string(&met) else { return };
    cache::write(&path, &text);
}

fn socket(address: &Address) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::metadata(address.socket()?).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}

fn file(address: &Address) -> Option<PathBuf> {
    cache::file("engines", &format!("{}.json", address.url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_containers_are_mapped_as_the_engine_says() {
        let mapping = |options: &[&str], data: &str| {
            UserMapping::new(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>(), Some(data))
        };
        assert_eq!(mapping(&["name=seccomp,profile=builtin"], "/var/lib/docker"), UserMapping::Identity);
        assert_eq!(mapping(&["name=seccomp", "name=userns"], "/var/lib/docker/1000.1001"), UserMapping::Offset(1000));
        assert_eq!(mapping(&["name=rootless"], "/home/a/.local/share/docker"), UserMapping::Rootless);
        assert_eq!(mapping(&[], "/data/1000.1000"), UserMapping::Identity);
    }
}
