//! Images: what they start, pulling them, and reading a file of theirs without running them.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, CreateImageInfo, ImageInspect};
use bollard::query_parameters::{
    CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt};

use super::credentials;
use super::{Engine, EngineError};

/// The largest file that is read out of an image or a container.
const LARGEST: usize = 64 << 20;

/// What an image is and what it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, such as `sha256:…`: the same content has the same one.
    pub id: Option<String>,
    /// Under which digests registries know it.
    pub digests: Vec<String>,
    /// The beginning of what it starts.
    pub entrypoint: Vec<String>,
    /// The rest of what it starts, unless other arguments are given.
    pub command: Vec<String>,
    /// Who it runs as, by name or number, with `:` and a group if need be; root if absent.
    pub user: Option<String>,
    /// The signal it wants to be asked to end with.
    pub stop_signal: Option<String>,
}

impl From<ImageInspect> for Image {
    fn from(image: ImageInspect) -> Self {
        let config = image.config.unwrap_or_default();
        Self {
            id: image.id,
            digests: image.repo_digests.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            user: config.user.filter(|user| !user.is_empty()),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before every use.
    Always,
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Never.
    Never,
}

/// How far a pull has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that have been loaded.
    pub loaded: u64,
    /// Bytes that are known to be loaded in all; grows with each layer that is begun.
    pub total: u64,
}

impl Engine {
    /// Has the image on the engine, pulled if need be, and says what it is. `tell` hears how far the pull has got, at
    /// least ten times a second, and can end it.
    ///
    /// # Errors
    /// Where it is not there and cannot or must not be pulled.
    pub fn image(
        &self,
        name: &str,
        pull: PullPolicy,
        tell: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Image, EngineError> {
        if pull != PullPolicy::Always {
            match self.inspect_image(name) {
                Err(EngineError::Request { status: Some(404), .. }) if pull == PullPolicy::Never => {
                    return Err(EngineError::NoImage { image: name.to_owned() });
                }
                Err(EngineError::Request { status: Some(404), .. }) => {}
                result => return result,
            }
        }
        self.pull(name, tell)?;
        self.inspect_image(name)
    }

    fn inspect_image(&self, name: &str) -> Result<Image, EngineError> {
        let inspected = self.block_on(self.docker.inspect_image(name));
        inspected.map(Image::from).map_err(|error| EngineError::request(format!("look at the image `{name}`"), &error))
    }

    fn pull(&self, name: &str, tell: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(name)).build();
        let pulled = |reason: String| EngineError::Pull { image: name.to_owned(), reason };
        let mut layers = BTreeMap::new();
        self.block_on(async {
            let mut events =
                std::pin::pin!(self.docker.create_image(Some(options), None, credentials::for_image(name)));
            loop {
                match tokio::time::timeout(Duration::from_millis(100), events.next()).await {
                    Ok(None) => return Ok(()),
                    Ok(Some(Ok(event))) => note(&mut layers, event),
                    Ok(Some(Err(bollard::errors::Error::DockerResponseServerError { message, .. }))) => {
                        return Err(pulled(message.trim().to_owned()));
                    }
                    Ok(Some(Err(bollard::errors::Error::DockerStreamError { error }))) => return Err(pulled(error)),
                    Ok(Some(Err(error))) => return Err(pulled(error.to_string())),
                    Err(_) => {}
                }
                let progress = layers.values().fold(Progress::default(), |sum, (loaded, total)| Progress {
                    loaded: sum.loaded + loaded,
                    total: sum.total + total,
                });
                if tell(progress).is_break() {
                    return Err(EngineError::PullInterrupted { image: name.to_owned() });
                }
            }
        })
    }

    /// Reads one file of an image, through a container that is made and never started.
    ///
    /// # Errors
    /// Where the file is not there, is no file, is larger than 64 MiB, or the engine does not hand it out.
    pub fn file_of_image(&self, image: &str, path: &str) -> Result<Vec<u8>, EngineError> {
        // Nothing runs: the word is there because an image without a command cannot be made a container of.
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["-".to_owned()]),
            labels: Some(std::iter::once(crate::runner::container::owner_label()).collect()),
            ..ContainerCreateBody::default()
        };
        self.block_on(async {
            let created = self
                .docker
                .create_container(None::<bollard::query_parameters::CreateContainerOptions>, body)
                .await
                .map_err(|error| EngineError::request(format!("look into the image `{image}`"), &error))?;
            let file = self.file_of_container(&created.id, path).await;
            let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let removed = self.docker.remove_container(&created.id, Some(options)).await;
            let file = match file {
                Err(EngineError::Request { status: Some(404), .. }) => {
                    Err(EngineError::NoFile { image: image.to_owned(), path: path.to_owned() })
                }
                file => file,
            }?;
            removed.map_err(|error| EngineError::request("remove the container that was looked into", &error))?;
            Ok(file)
        })
    }

    /// Reads one file of a container, running or not.
    pub(in crate::runner) async fn file_of_container(&self, id: &str, path: &str) -> Result<Vec<u8>, EngineError> {
        let action = || format!("read {path} of the container");
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let archive = collect(self.docker.download_from_container(id, Some(options)))
            .await
            .map_err(|error| EngineError::request(action(), &error))?;
        let unreadable =
            |reason: &str| EngineError::Request { action: action(), reason: reason.to_owned(), status: None };
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut entries = archive.entries().map_err(|error| unreadable(&error.to_string()))?;
        let entry = entries.next().ok_or_else(|| unreadable("the engine sent nothing"))?;
        let mut entry = entry.map_err(|error| unreadable(&error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            return Err(unreadable("it is not a regular file"));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| unreadable(&error.to_string()))?;
        Ok(content)
    }
}

async fn collect<B: AsRef<[u8]>>(
    chunks: impl Stream<Item = Result<B, bollard::errors::Error>>,
) -> Result<Vec<u8>, bollard::errors::Error> {
    let mut chunks = std::pin::pin!(chunks);
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        all.extend_from_slice(chunk?.as_ref());
        if all.len() > LARGEST {
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "it is larger than 64 MiB").into());
        }
    }
    Ok(all)
}

/// A name without a tag would be pulled with all its tags.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

/// Keeps the state of each layer.
fn note(layers: &mut BTreeMap<String, (u64, u64)>, event: CreateImageInfo) {
    let (Some(layer), Some(detail)) = (event.id, event.progress_detail) else { return };
    let amount = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    if event.status.as_deref() == Some("Downloading")
        && let (Some(loaded), Some(total)) = (amount(detail.current), amount(detail.total))
    {
        layers.insert(layer, (loaded, total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_without_a_tag_gets_one() {
        for (name, full) in [
            ("alpine", "alpine:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("alpine:3", "alpine:3"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(name), full);
        }
    }
}
