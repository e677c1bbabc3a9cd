//! Connections to an engine, one per request. Each response is limited to its allowance.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bollard::errors::Error;
use bollard::{BollardRequest, Docker};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, Uri, client};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The largest response to a request without an allowance of its own.
const LARGEST_ANSWER: u64 = 8 << 20;

/// The default port of an engine, as for the docker command.
const DEFAULT_PORT: u16 = 2375;

/// Where an engine listens.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Socket(PathBuf),
    Port(String),
}

impl Endpoint {
    /// The endpoint of `HOST`, `HOST:PORT` or `HOST:PORT/PATH`.
    pub(super) fn port(address: &str) -> Self {
        let host = address.split('/').next().unwrap_or(address);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Self::Port(if has_port { host.to_owned() } else { format!("{host}:{DEFAULT_PORT}") })
    }
}

/// How many bytes an engine may send in response to a request.
#[derive(Clone, Debug)]
pub(in crate::runner) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    pub(in crate::runner) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Allows more bytes, for example because received ones were consumed.
    pub(in crate::runner) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A client whose responses are limited to this allowance.
    pub(in crate::runner) fn apply(&self, docker: &Docker) -> Docker {
        let allowance = self.clone();
        docker.clone().with_request_modifier(move |mut request| {
            request.extensions_mut().insert(allowance.clone());
            request
        })
    }
}

/// Sends a request over a connection of its own.
pub(super) async fn send(endpoint: Endpoint, request: BollardRequest) -> Result<Response<Incoming>, Error> {
    match endpoint {
        Endpoint::Socket(path) => exchange(UnixStream::connect(path).await?, "localhost", request).await,
        Endpoint::Port(host) => exchange(TcpStream::connect(&host).await?, &host, request).await,
    }
}

async fn exchange<S>(stream: S, host: &str, mut request: BollardRequest) -> Result<Response<Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let allowance = request.extensions_mut().remove().unwrap_or_else(|| Allowance::new(LARGEST_ANSWER));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse::<Uri>()?;
    *request.uri_mut() = path;
    let host = HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static("localhost"));
    request.headers_mut().insert(HOST, host);
    let bounded = Bounded { stream, allowance, received: 0 };
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(bounded)).await?;
    // The task ends with the answer, or when the caller stops waiting for it.
    drop(tokio::spawn(connection.with_upgrades()));
    Ok(sender.send_request(request).await?)
}

/// A connection over which no more than its allowance can be received.
struct Bounded<S> {
    stream: S,
    allowance: Allowance,
    received: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.received += (buffer.filled().len() - before) as u64;
        let allowed = self.allowance.0.load(Ordering::Relaxed);
        Poll::Ready(if self.received > allowed {
            let text = format!("the response is larger than the limit of {allowed} bytes");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, text))
        } else {
            Ok(())
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_gets_that_of_docker() {
        for (address, expected) in [
            ("host", "host:2375"),
            ("host:99", "host:99"),
            ("host:99/v1", "host:99"),
            ("[::1]:99", "[::1]:99"),
            ("[::1]", "[::1]:2375"),
        ] {
            assert!(matches!(Endpoint::port(address), Endpoint::Port(port) if port == expected), "{address}");
        }
    }
}
