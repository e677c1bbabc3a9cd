//! Docker-compatible engines: how to find one, and its properties.

// Without the feature, the same names, and no engine.
#[cfg_attr(not(feature = "containers"), path = "engine/absent.rs")]
pub(super) mod client;
mod contexts;
mod facts;
mod image;

use std::io;
use std::path::PathBuf;

use nix::unistd::geteuid;
use serde::Serialize;

pub use client::{Engine, ask_all};
pub use contexts::ContextError;
pub use facts::{Facts, UserMapping};
pub use image::{Image, Progress, PullPolicy};

/// An address at which an engine may listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Address {
    /// A URL such as `unix:///var/run/docker.sock` or `tcp://host:2375`.
    pub url: String,
    /// Where the address comes from, for messages: `DOCKER_HOST`, `Docker's socket`.
    pub origin: String,
}

impl Address {
    /// The path of the socket, if it is one of this machine.
    pub fn socket(&self) -> Option<PathBuf> {
        self.url.strip_prefix("unix://").map(PathBuf::from)
    }
}

/// The outcome of contacting an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// An engine answered.
    Reachable {
        /// Its name and version, such as `Docker Engine 28.2.2`.
        engine: String,
        /// The version of its API.
        api: Option<String>,
    },
    /// No engine answered.
    Unreachable {
        /// The reason.
        reason: String,
    },
}

/// An address without a usable engine, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAddress {
    /// The address.
    pub address: Address,
    /// The reason.
    pub reason: String,
}

/// Why a request to an engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No engine answers at any of the addresses.
    #[error("failed to find a container engine: {}", list(.tried))]
    NotFound {
        /// The addresses tried.
        tried: Vec<FailedAddress>,
    },
    /// There is an engine, but its socket is not accessible to this user.
    #[error("failed to use the container engine at {socket}")]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// The scheme of the address is not supported.
    #[error("failed to use the container engine at `{url}`: {reason}")]
    Scheme {
        /// The address.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The current docker context cannot be read.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The engine refused a request, or the connection broke.
    #[error("failed to {action}: {reason}")]
    Request {
        /// The request.
        action: String,
        /// The engine's message.
        reason: String,
        /// The HTTP status, if there was an answer.
        status: Option<u16>,
    },
    /// The engine did not answer in time, or not before highwater was asked to stop twice.
    #[error("failed to {action}: the engine does not respond")]
    Unanswered {
        /// The request.
        action: String,
    },
    /// The engine returned an invalid id.
    #[error("failed to {action}: the engine returned `{}`, expected an ID of letters and digits", .id.escape_debug())]
    WrongId {
        /// The request.
        action: String,
        /// The id.
        id: String,
    },
    /// The name of the image is invalid.
    #[error("failed to use the image `{}`: expected a name such as registry.example/team/segment:1.2", .image.escape_debug())]
    ImageName {
        /// The name.
        image: String,
    },
    /// The image is missing and may not be pulled.
    #[error("failed to find the image `{image}` on the engine, and pulling is disabled")]
    NoImage {
        /// The image.
        image: String,
    },
    /// The image could not be pulled.
    #[error("failed to pull the image `{image}`: {reason}")]
    Pull {
        /// The image.
        image: String,
        /// The message of the engine or registry.
        reason: String,
    },
    /// The user interrupted the pull.
    #[error("pulling the image `{image}` was interrupted")]
    PullInterrupted {
        /// The image.
        image: String,
    },
    /// The file does not exist in the image.
    #[error("failed to find {path} in the image `{image}`")]
    NoFile {
        /// The image.
        image: String,
        /// The file.
        path: String,
    },
    /// The threads that communicate with the engine could not be started.
    #[error("failed to connect to the engine")]
    Runtime(#[source] io::Error),
    /// This build cannot use engines.
    #[error("failed to use a container engine: this highwater was built without the feature `containers`")]
    NotBuilt,
}

impl EngineError {
    /// Whether no engine was named, and none found at the usual sockets.
    pub fn is_nobody_named(&self) -> bool {
        match self {
            Self::NotFound { tried } => {
                let usual = sockets();
                tried.iter().all(|one| usual.contains(&one.address))
            }
            _ => false,
        }
    }

    /// What the user can do about it.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NotFound { .. } => Some(
                "start Docker or Podman, or set --host or DOCKER_HOST to its address; to measure without an engine, \
                 run a command of this machine with `highwater run -- CMD`, or a task whose program is on this machine \
                 with --runner process (runner = \"process\" in highwater.toml)"
                    .to_owned(),
            ),
            Self::NotAllowed { .. } => Some(
                "join the group that owns the socket (`sudo usermod -aG docker $USER`, then log in again), use a \
                 rootless engine, or run as root"
                    .to_owned(),
            ),
            Self::Scheme { .. } => Some(
                "forward its socket, as with `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`, and use \
                 --host unix:///tmp/engine.sock"
                    .to_owned(),
            ),
            Self::Unanswered { .. } => Some(
                "restart the engine, or check its log, for example with `journalctl -u docker`; `highwater doctor` \
                 shows which engines respond"
                    .to_owned(),
            ),
            Self::WrongId { .. } => Some("check the address: what listens there is not a container engine".to_owned()),
            Self::ImageName { .. } => Some("check the spelling; `docker images` lists the engine's images".to_owned()),
            Self::NoImage { .. } => Some("pull it with --pull missing, or build it first".to_owned()),
            Self::Pull { .. } => Some(
                "check the spelling of its name; log in to a private registry with `docker login`; an image built \
                 here needs no pull: list local images with `docker images`"
                    .to_owned(),
            ),
            Self::NoFile { path, .. } if path == "/processing-container.json" => Some(
                "copy it into the image (`COPY processing-container.json /`), or put the whole template into the \
                 task.json instead of its name"
                    .to_owned(),
            ),
            Self::NotBuilt => Some(
                "build it with the feature `containers`, or run a command or the program of a task as a process of \
                 this machine"
                    .to_owned(),
            ),
            Self::Context(_)
            | Self::Request { .. }
            | Self::PullInterrupted { .. }
            | Self::NoFile { .. }
            | Self::Runtime(_) => None,
        }
    }
}

fn list(tried: &[FailedAddress]) -> String {
    let each: Vec<String> = tried
        .iter()
        .map(|FailedAddress { address, reason }| format!("{} ({}): {reason}", address.url, address.origin))
        .collect();
    each.join("; ")
}

/// All addresses at which users expect an engine, in order: `DOCKER_HOST`, the current docker context, the usual
/// sockets of Docker, then those of Podman, for root and for the user.
///
/// # Errors
/// Returned beside the addresses: why the current docker context cannot be read.
pub fn addresses() -> (Vec<Address>, Option<ContextError>) {
    let named = docker_host().map(|url| Address { url, origin: "DOCKER_HOST".to_owned() });
    let (context, error) = match contexts::current() {
        Ok(context) => (context, None),
        Err(error) => (None, Some(error)),
    };
    (named.into_iter().chain(context).chain(sockets()).collect(), error)
}

fn docker_host() -> Option<String> {
    std::env::var("DOCKER_HOST").ok().filter(|url| !url.is_empty())
}

fn sockets() -> Vec<Address> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .filter(|directory| !directory.is_empty())
        .map_or_else(|| PathBuf::from(format!("/run/user/{}", geteuid())), PathBuf::from);
    [
        (PathBuf::from("/var/run/docker.sock"), "Docker's socket"),
        (runtime.join("docker.sock"), "rootless Docker's socket"),
        (PathBuf::from("/run/podman/podman.sock"), "Podman's socket"),
        (runtime.join("podman/podman.sock"), "rootless Podman's socket"),
    ]
    .into_iter()
    .map(|(path, origin)| Address { url: format!("unix://{}", path.display()), origin: origin.to_owned() })
    .collect()
}
