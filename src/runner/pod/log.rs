//! The output of a pod, which Kubernetes keeps as one stream.

use std::pin::Pin;
use std::time::Instant;

use bollard::container::LogOutput;
use futures_util::io::{AsyncBufRead, AsyncReadExt};
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};

use super::cluster::{AGAIN, AWAY, ToldAway};
use crate::runner::container::runner::logs::Chunks;

/// The size at which kubelets rotate the log by default. A longer one cannot be read again from its beginning.
const ROTATED: usize = 10 << 20;

/// The log of a container, opened again if the API server restarts.
struct Log {
    pods: Api<Pod>,
    name: String,
    params: LogParams,
    reader: Option<Pin<Box<dyn AsyncBufRead + Send>>>,
    /// How many bytes were read, and how many of them to skip because a reopened log repeats them.
    received: usize,
    skip: usize,
    broken_since: Option<Instant>,
    told_away: ToldAway,
}

/// The output of a container until it ends.
pub(super) fn chunks((pods, told_away): (Api<Pod>, ToldAway), name: String, container: String) -> Chunks {
    let params = LogParams { container: Some(container), follow: true, ..LogParams::default() };
    let log = Log { pods, name, params, reader: None, received: 0, skip: 0, broken_since: None, told_away };
    let parts = stream::try_unfold(log, |mut log| async move { Ok(log.next().await?.map(|part| (part, log))) });
    Box::pin(parts.map(|part: Result<Vec<u8>, kube::Error>| match part {
        Ok(part) => Ok(LogOutput::StdOut { message: part.into() }),
        Err(error) => Err(bollard::errors::Error::IOError { err: std::io::Error::other(error) }),
    }))
}

impl Log {
    /// The next part; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, kube::Error> {
        loop {
            let error = match self.read().await {
                Ok(part) if part.is_empty() => return Ok(None),
                Ok(mut part) => {
                    self.broken_since = None;
                    let known = self.skip.min(part.len());
                    self.skip -= known;
                    self.received += part.len() - known;
                    part.drain(..known);
                    if part.is_empty() {
                        continue;
                    }
                    return Ok(Some(part));
                }
                Err(error) => error,
            };
            let since = *self.broken_since.get_or_insert_with(Instant::now);
            // A pod that is gone has no log any more.
            let is_final = match &error {
                kube::Error::Api(status) if [401, 403].contains(&status.code) => !self.told_away.lacks_rights(),
                kube::Error::Api(status) => (400..500).contains(&status.code),
                _ => false,
            };
            if is_final || self.received >= ROTATED || since.elapsed() > AWAY {
                return Err(error);
            }
            self.reader = None;
            self.skip = self.received;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Reads some bytes; none at the end.
    async fn read(&mut self) -> Result<Vec<u8>, kube::Error> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            closed @ None => closed.insert(Box::pin(self.pods.log_stream(&self.name, &self.params).await?)),
        };
        let mut part = vec![0; 1 << 15];
        let length = reader.read(&mut part).await.map_err(kube::Error::ReadEvents)?;
        part.truncate(length);
        Ok(part)
    }
}
