//! Docker-compatible engines: where one may be listening, and whether it does.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use nix::unistd::geteuid;
use serde::Serialize;

use crate::model::problem::one_line;

/// An engine that does not answer within this time is not there for us.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where an engine may be listening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// A URL such as `unix:///var/run/docker.sock` or `tcp://host:2375`.
    pub url: String,
    /// How we came to it, for people: `DOCKER_HOST`, `the default socket`.
    pub origin: &'static str,
}

/// What came of asking at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// An engine answered.
    Reachable {
        /// Its name and version, such as `Docker Engine 28.2.2`.
        engine: String,
        /// The version of its interface.
        api: Option<String>,
    },
    /// Nobody did.
    Unreachable {
        /// Why not.
        reason: String,
    },
}

/// All addresses at which users expect an engine to be looked for, the first one first: `DOCKER_HOST`, the default
/// sockets of Docker, then those of Podman, for root and for the user.
pub fn addresses() -> Vec<Address> {
    let mut addresses = Vec::new();
    if let Some(url) = env::var("DOCKER_HOST").ok().filter(|url| !url.is_empty()) {
        addresses.push(Address { url, origin: "DOCKER_HOST" });
    }
    let runtime =
        env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from(format!("/run/user/{}", geteuid())), PathBuf::from);
    let mut socket = |path: &Path, origin| {
        addresses.push(Address { url: format!("unix://{}", path.display()), origin });
    };
    socket(Path::new("/var/run/docker.sock"), "Docker's socket");
    socket(&runtime.join("docker.sock"), "rootless Docker's socket");
    socket(Path::new("/run/podman/podman.sock"), "Podman's socket");
    socket(&runtime.join("podman/podman.sock"), "rootless Podman's socket");
    addresses
}

/// Asks at an address who is there.
pub async fn ask(address: &Address) -> Answer {
    let asked = tokio::time::timeout(PATIENCE, version(&address.url)).await;
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(reason)) => Answer::Unreachable { reason },
        Err(_) => Answer::Unreachable { reason: format!("no answer within {} s", PATIENCE.as_secs()) },
    }
}

async fn version(url: &str) -> Result<Answer, String> {
    // The client's own error for a socket that is not there does not say which one it is, and why.
    if let Some(path) = url.strip_prefix("unix://")
        && let Err(error) = std::os::unix::net::UnixStream::connect(path)
    {
        return Err(error.to_string());
    }
    let engine = connect(url).map_err(|error| one_line(&error))?;
    let version = engine.version().await.map_err(|error| one_line(&error))?;
    let name = version
        .components
        .as_ref()
        .and_then(|components| components.first())
        .map_or("engine", |component| component.name.as_str());
    Ok(Answer::Reachable {
        engine: format!("{name} {}", version.version.as_deref().unwrap_or("of unknown version")),
        api: version.api_version,
    })
}

/// A client of the engine at this URL. Nothing is sent yet.
fn connect(url: &str) -> Result<Docker, bollard::errors::Error> {
    let seconds = PATIENCE.as_secs();
    if url.starts_with("unix://") {
        Docker::connect_with_unix(url, seconds, API_DEFAULT_VERSION)
    } else {
        Docker::connect_with_http(url, seconds, API_DEFAULT_VERSION)
    }
}
