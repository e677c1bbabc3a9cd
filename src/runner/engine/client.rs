//! A connection to an engine.

mod credentials;
mod facts;
mod image;
mod running;
mod transport;

use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker};
use futures_util::future::join_all;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use super::{Address, Answer, EngineError, Facts, FailedAddress, contexts, docker_host, sockets};
use crate::model::problem::one_line;
use crate::runner::patience::Patience;
use crate::runner::threads::{Threads, readable};

pub(in crate::runner) use running::started_since;
pub(in crate::runner) use transport::Allowance;
use transport::Endpoint;

/// An engine that does not answer a simple question within this time counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long creating or starting a container may take, for example with a large image on a slow disk.
pub(in crate::runner) const SLOW: Duration = Duration::from_secs(300);
/// How long other requests may take, such as inspecting an image.
pub(in crate::runner) const BRISK: Duration = Duration::from_secs(60);
/// The longest accepted id; those of Docker and Podman have 64 characters.
const LONGEST_ID: usize = 128;

/// Why a request to the engine has no result.
#[derive(Debug)]
pub(in crate::runner) enum CallError {
    /// The engine refused it, or the connection failed.
    Refused(bollard::errors::Error),
    /// The engine did not answer in time.
    Unanswered,
}

/// Whether the engine refused the request, so that it had no effect; after a connection failure that is unknown.
pub(in crate::runner) const fn is_refusal(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { .. })
}

impl CallError {
    /// The error for the request to do this.
    pub(in crate::runner) fn explain(self, action: impl Into<String>) -> EngineError {
        match self {
            Self::Refused(error) => EngineError::request(action, &error),
            Self::Unanswered => EngineError::Unanswered { action: action.into() },
        }
    }
}

/// A connection to an engine.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(in crate::runner) docker: Docker,
    pub(in crate::runner) threads: Arc<Threads>,
    /// Where it listens.
    pub address: Address,
    /// Its properties.
    pub facts: Facts,
}

impl Engine {
    /// Finds the engine that users expect: `host` if given, else `DOCKER_HOST`, else the current docker context, else
    /// the first that listens at a usual socket: Docker's, rootless Docker's, Podman's, rootless Podman's.
    ///
    /// # Errors
    /// If none answers, or the named one cannot be used.
    pub fn find(host: Option<&str>) -> Result<Self, EngineError> {
        let mut tried = Vec::new();
        let mut forbidden = None;
        for address in candidates(host)? {
            match Self::open(address.clone()) {
                Ok(engine) => return Ok(engine),
                Err(EngineError::NotFound { tried: one }) => tried.extend(one),
                Err(error @ EngineError::NotAllowed { .. }) => {
                    forbidden.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(forbidden.unwrap_or(EngineError::NotFound { tried }))
    }

    /// Connects to the engine at this address.
    ///
    /// # Errors
    /// If it does not answer, or its scheme is not supported.
    pub fn open(address: Address) -> Result<Self, EngineError> {
        let not_found =
            |reason| EngineError::NotFound { tried: vec![FailedAddress { address: address.clone(), reason }] };
        let threads = Threads::start("engine").map_err(EngineError::Runtime)?;
        let in_time = |seconds: Duration| not_found(format!("no response within {} s", seconds.as_secs()));
        if let Some(socket) = address.socket() {
            // The client's own error names neither the socket nor the reason.
            let connecting = async { tokio::time::timeout(PATIENCE, UnixStream::connect(&socket)).await };
            match threads.handle.block_on(connecting) {
                Ok(Ok(_)) => {}
                Ok(Err(source)) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(EngineError::NotAllowed { socket, source });
                }
                Ok(Err(source)) => return Err(not_found(source.to_string())),
                Err(_) => return Err(in_time(PATIENCE)),
            }
        }
        let remembered = facts::remembered(&address);
        let version = remembered.as_ref().and_then(Facts::client_version);
        let docker = client(&address.url, SLOW, version.as_ref().unwrap_or(API_DEFAULT_VERSION))?;
        let facts = match (remembered, version) {
            (Some(facts), Some(_)) => facts,
            (Some(_) | None, _) => {
                let asked = async { tokio::time::timeout(PATIENCE * 5, facts::ask(&docker)).await };
                let facts = threads
                    .handle
                    .block_on(asked)
                    .map_err(|_| in_time(PATIENCE * 5))?
                    .map_err(|error| not_found(one_line(&error)))?;
                facts::remember(&address, &facts);
                facts
            }
        };
        let docker = match facts.client_version() {
            Some(version) => client(&address.url, SLOW, &version)?,
            None => docker,
        };
        Ok(Self { docker, threads: Arc::new(threads), address, facts })
    }

    /// Waits for an answer as long as `patience` allows, and `most` at most. Notes an unanswered request in `patience`.
    pub(in crate::runner) fn call<T>(
        &self,
        patience: &mut Patience<'_>,
        action: &str,
        most: Duration,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, CallError> {
        let answer = self.wait(patience, most, request).ok_or_else(|| {
            patience.note_unanswered(action);
            CallError::Unanswered
        })?;
        answer.map_err(CallError::Refused)
    }

    /// Waits for a future as long as `patience` allows, and `most` at most.
    pub(in crate::runner) fn wait<T>(
        &self,
        patience: &mut Patience<'_>,
        most: Duration,
        wanted: impl Future<Output = T>,
    ) -> Option<T> {
        self.threads.wait(patience, most, wanted)
    }

    /// Waits until the file can be read, as long as `patience` allows, and `most` at most.
    pub(in crate::runner) fn wait_readable(&self, patience: &mut Patience<'_>, most: Duration, file: BorrowedFd<'_>) {
        self.wait(patience, most, readable(Some(file)));
    }

    /// Waits for the answer to a single request, which cannot be cancelled.
    pub(in crate::runner) fn ask<T>(
        &self,
        action: &str,
        most: Duration,
        request: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, CallError> {
        self.call(&mut Patience::new(None), action, most, request)
    }

    /// Runs a future in the background.
    pub(in crate::runner) fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        drop(self.threads.handle.spawn(future));
    }
}

/// Checks an id returned by the engine, which becomes a part of URLs.
pub(in crate::runner) fn checked_id(action: &str, id: String) -> Result<String, EngineError> {
    let is_id = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { Ok(id) } else { Err(EngineError::WrongId { action: action.to_owned(), id }) }
}

/// The addresses to try: only the one that the user has named, if any.
fn candidates(host: Option<&str>) -> Result<Vec<Address>, EngineError> {
    if let Some(url) = host {
        return Ok(vec![Address { url: url.to_owned(), origin: "--host".to_owned() }]);
    }
    if let Some(url) = docker_host() {
        return Ok(vec![Address { url, origin: "DOCKER_HOST".to_owned() }]);
    }
    match contexts::current()? {
        Some(address) => Ok(vec![address]),
        None => Ok(sockets()),
    }
}

impl EngineError {
    /// A request that failed.
    pub(in crate::runner) fn request(action: impl Into<String>, error: &bollard::errors::Error) -> Self {
        let (reason, status) = match error {
            bollard::errors::Error::DockerResponseServerError { status_code, message } => {
                (format!("the engine reports: {}", message.trim()), Some(*status_code))
            }
            other => (one_line(other), None),
        };
        Self::Request { action: action.into(), reason, status }
    }
}

/// Asks the engines at these addresses, all at the same time, for their names and versions.
///
/// # Errors
/// If this process can have no more file descriptors.
pub fn ask_all(addresses: &[Address]) -> io::Result<Vec<Answer>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answers = runtime.block_on(join_all(addresses.iter().map(ask)));
    // Resolving a host name can take arbitrarily long.
    runtime.shutdown_background();
    Ok(answers)
}

async fn ask(address: &Address) -> Answer {
    let asked = tokio::time::timeout(PATIENCE, version(&address.url)).await;
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(reason)) => Answer::Unreachable { reason },
        Err(_) => Answer::Unreachable { reason: format!("no response within {} s", PATIENCE.as_secs()) },
    }
}

async fn version(url: &str) -> Result<Answer, String> {
    // The client's own error for a missing socket names neither the socket nor the reason.
    if let Some(path) = url.strip_prefix("unix://")
        && let Err(error) = UnixStream::connect(path).await
    {
        return Err(error.to_string());
    }
    // The caller's timeout is shorter, so that it reports the error.
    let engine = client(url, PATIENCE * 2, API_DEFAULT_VERSION).map_err(|error| error.to_string())?;
    let version = engine.version().await.map_err(|error| one_line(&error))?;
    Ok(Answer::Reachable {
        engine: format!("{} {}", facts::name_of(&version), version.version.as_deref().unwrap_or("of unknown version")),
        api: version.api_version,
    })
}

/// A client of the engine at this URL. Nothing is sent yet.
fn client(url: &str, patience: Duration, version: &ClientVersion) -> Result<Docker, EngineError> {
    let refused = |reason: &str| EngineError::Scheme { url: url.to_owned(), reason: reason.to_owned() };
    let endpoint = match url.split_once("://") {
        Some(("unix", path)) => Endpoint::Socket(PathBuf::from(path)),
        Some(("tcp", _)) if tls_wanted() => return Err(refused("TLS is not supported (DOCKER_TLS_VERIFY)")),
        Some(("tcp" | "http", address)) => Endpoint::port(address),
        Some(("https", _)) => return Err(refused("TLS is not supported")),
        Some((scheme, _)) => return Err(refused(&format!("`{scheme}://` addresses are not supported"))),
        None => return Err(refused("expected an address such as unix:///var/run/docker.sock or tcp://host:2375")),
    };
    let transport = move |request: BollardRequest| transport::send(endpoint.clone(), request);
    // The client requires a URL, but the transport knows where to connect.
    Docker::connect_with_custom_transport(transport, Some("http://localhost"), patience.as_secs(), version)
        .map_err(|error| EngineError::request("connect to the engine", &error))
}

fn tls_wanted() -> bool {
    std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty())
}
