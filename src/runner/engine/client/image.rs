//! Images: their entrypoint and command, pulling them, and reading a file from one without running it.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, CreateImageInfo, ImageInspect};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt};

use super::credentials;
use super::{Allowance, BRISK, CallError, Engine, SLOW, checked_id, is_refusal};
use crate::model::problem::one_line;
use crate::runner::container::runner::{Claim, remove};
use crate::runner::engine::{EngineError, Image, Progress, PullPolicy};
use crate::runner::patience::Patience;

/// The largest file that is read from an image or a container.
const LARGEST: usize = 64 << 20;
/// The largest overhead of an archive of one file.
const LARGEST_HEADER: u64 = 1 << 20;
/// The largest single progress message of a pull.
const LARGEST_MESSAGE: u64 = 1 << 20;
/// The largest number of layers whose progress is added up; engines allow 127.
const MOST_LAYERS: usize = 1000;

impl Engine {
    /// Pulls the image if necessary and returns its properties. `progress_callback` receives the progress of the pull at
    /// least ten times a second, and can cancel it.
    ///
    /// # Errors
    /// If it is missing and cannot or may not be pulled.
    pub fn image(
        &self,
        name: &str,
        pull: PullPolicy,
        progress_callback: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Image, EngineError> {
        check_name(name)?;
        if pull != PullPolicy::Always {
            match self.inspect_image(name) {
                Err(EngineError::Request { status: Some(404), .. }) if pull == PullPolicy::Never => {
                    return Err(EngineError::NoImage { image: name.to_owned() });
                }
                Err(EngineError::Request { status: Some(404), .. }) => {}
                result => return result,
            }
        }
        self.pull(name, progress_callback)?;
        self.inspect_image(name)
    }

    fn inspect_image(&self, name: &str) -> Result<Image, EngineError> {
        let action = format!("inspect the image `{name}`");
        let inspected = self.ask(&action, BRISK, self.docker.inspect_image(name));
        inspected.map(image).map_err(|error| error.explain(action))
    }

    fn pull(
        &self,
        name: &str,
        progress_callback: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(name)).build();
        let pulled = |reason: String| EngineError::Pull { image: name.to_owned(), reason };
        let mut layers = BTreeMap::new();
        let allowance = Allowance::new(LARGEST_MESSAGE);
        let docker = allowance.apply(&self.docker);
        let mut events = std::pin::pin!(docker.create_image(Some(options), None, credentials::for_image(name)));
        let mut last_event = Instant::now();
        loop {
            match self.wait(&mut Patience::new(None), Duration::from_millis(100), events.next()) {
                Some(None) => return Ok(()),
                Some(Some(Ok(event))) => {
                    note(&mut layers, event);
                    allowance.add(LARGEST_MESSAGE);
                    last_event = Instant::now();
                }
                Some(Some(Err(bollard::errors::Error::DockerResponseServerError { message, .. }))) => {
                    return Err(pulled(message.trim().to_owned()));
                }
                Some(Some(Err(bollard::errors::Error::DockerStreamError { error }))) => return Err(pulled(error)),
                Some(Some(Err(error))) => return Err(pulled(one_line(&error))),
                None if last_event.elapsed() > SLOW => {
                    return Err(pulled(format!("the engine has not reported progress for {} s", SLOW.as_secs())));
                }
                None => {}
            }
            let progress = layers.values().fold(Progress::default(), |sum, (loaded, total)| Progress {
                loaded: sum.loaded.saturating_add(*loaded),
                total: sum.total.saturating_add(*total),
            });
            if progress_callback(progress).is_break() {
                return Err(EngineError::PullInterrupted { image: name.to_owned() });
            }
        }
    }

    /// Reads one file of an image, through a container that is created but never started.
    ///
    /// # Errors
    /// If the file does not exist, is not a regular file, is larger than 64 MiB, or the engine does not return it.
    pub fn file_of_image(&self, image: &str, path: &str) -> Result<Vec<u8>, EngineError> {
        check_name(image)?;
        let claim = Claim::new(None, None);
        // It never runs, but an image without a command requires one to create a container.
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["-".to_owned()]),
            labels: Some(std::iter::once(claim.label()).collect()),
            ..ContainerCreateBody::default()
        };
        let action = format!("read the image `{image}`");
        let options = CreateContainerOptionsBuilder::default().name(claim.name()).build();
        let created = self.ask(&action, SLOW, self.docker.create_container(Some(options), body));
        let created = created.map_err(|error| {
            if !matches!(&error, CallError::Refused(error) if is_refusal(error)) {
                // It may have been created nevertheless.
                let _ = self.ask("remove a container", BRISK, remove(&self.docker, claim.name()));
            }
            error.explain(&action)
        })?;
        let id = checked_id(&action, created.id)?;
        let mut patience = Patience::new(None);
        let file = self.file_of_container(&mut patience, &id, path);
        let action = "remove the temporary container";
        let removed = self.call(&mut patience, action, BRISK, remove(&self.docker, &id));
        let file = match file {
            Err(EngineError::Request { status: Some(404), .. }) => {
                Err(EngineError::NoFile { image: image.to_owned(), path: path.to_owned() })
            }
            file => file,
        }?;
        removed.map_err(|error| error.explain(action))?;
        Ok(file)
    }

    /// Reads one file of a container, running or not.
    pub(in crate::runner) fn file_of_container(
        &self,
        patience: &mut Patience<'_>,
        id: &str,
        path: &str,
    ) -> Result<Vec<u8>, EngineError> {
        let action = format!("read {path} of the container");
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let docker = Allowance::new(LARGEST as u64 + LARGEST_HEADER).apply(&self.docker);
        let archive = self
            .call(patience, &action, BRISK, collect(docker.download_from_container(id, Some(options))))
            .map_err(|error| error.explain(&action))?;
        let unreadable =
            |reason: &str| EngineError::Request { action: action.clone(), reason: reason.to_owned(), status: None };
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut entries = archive.entries().map_err(|error| unreadable(&error.to_string()))?;
        let entry = entries.next().ok_or_else(|| unreadable("the engine sent no data"))?;
        let mut entry = entry.map_err(|error| unreadable(&error.to_string()))?;
        if !entry.header().entry_type().is_file() {
            return Err(unreadable("not a regular file"));
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|error| unreadable(&error.to_string()))?;
        Ok(content)
    }
}

fn image(inspected: ImageInspect) -> Image {
    let config = inspected.config.unwrap_or_default();
    Image {
        id: inspected.id,
        digests: inspected.repo_digests.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default(),
        user: config.user.filter(|user| !user.is_empty()),
        stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
    }
}

/// Rejects invalid names, because they become a part of URLs.
fn check_name(image: &str) -> Result<(), EngineError> {
    let is_part = |part: &str| !part.is_empty() && !part.bytes().all(|byte| byte == b'.');
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte);
    if image.bytes().all(is_of_names) && image.split('/').all(is_part) {
        Ok(())
    } else {
        Err(EngineError::ImageName { image: image.to_owned() })
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
            return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than 64 MiB").into());
        }
    }
    Ok(all)
}

/// A name without a tag would be pulled with all its tags.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

/// Stores the state of each layer.
fn note(layers: &mut BTreeMap<String, (u64, u64)>, event: CreateImageInfo) {
    let (Some(layer), Some(detail)) = (event.id, event.progress_detail) else { return };
    let amount = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    if event.status.as_deref() == Some("Downloading")
        && let (Some(loaded), Some(total)) = (amount(detail.current), amount(detail.total))
        && (layers.len() < MOST_LAYERS || layers.contains_key(&layer))
    {
        layers.insert(layer, (loaded, total));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_lead_elsewhere_is_refused() {
        for image in ["a/../../containers/b", "a?force=1", "a#b", "a b", "", "/a", "a//b", "a\n"] {
            assert!(matches!(check_name(image), Err(EngineError::ImageName { .. })), "{image:?}");
        }
        for image in ["alpine", "localhost:5000/a/b_c:1.2-x", "a@sha256:00ff", "0123abcd"] {
            assert!(check_name(image).is_ok(), "{image:?}");
        }
    }

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
