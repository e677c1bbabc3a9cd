//! Which container engine is used, and documents in images.

use std::ops::ControlFlow;

use crate::calibrate::failure::Failure;
use crate::calibrate::feedback::Feedback;
use crate::calibrate::resolve::{LookupError, ProcessingContainers, ReadError, render};
use crate::model::byte_order_mark;
use crate::model::document::{Document, Source, Variables};
use crate::model::task::ProcessingContainer;
use crate::runner::engine::{Engine, EngineError, Image, Progress, PullPolicy};

/// The file in an image that describes its templates.
pub const PROCESSING_CONTAINER: &str = "/processing-container.json";

/// Which engine, and what it may do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Its address, such as `unix:///run/podman/podman.sock`; if absent, the usual ones are tried.
    pub host: Option<String>,
    /// When to pull an image.
    pub pull: PullPolicy,
}

impl EngineOptions {
    /// Finds the engine.
    ///
    /// # Errors
    /// If there is none, or it does not answer.
    pub fn engine(&self) -> Result<Engine, Failure> {
        Ok(Engine::find(self.host.as_deref())?)
    }

    /// Finds or pulls the image.
    ///
    /// # Errors
    /// If the engine does not have it and cannot pull it.
    pub fn image(&self, engine: &Engine, name: &str, feedback: &dyn Feedback) -> Result<Image, EngineError> {
        let mut tell = |progress: Progress| {
            feedback.pulling(name, Some(progress));
            ControlFlow::Continue(())
        };
        let image = engine.image(name, self.pull, &mut tell);
        feedback.pulling(name, None);
        image
    }
}

/// Reads documents from images.
pub struct Images<'a> {
    /// Has the images.
    pub engine: &'a Engine,
    /// When to pull them.
    pub options: &'a EngineOptions,
    /// For templates in the documents.
    pub variables: Variables,
    /// Told about pulls.
    pub feedback: &'a dyn Feedback,
}

impl Images<'_> {
    /// The source of the document at the root of an image.
    ///
    /// # Errors
    /// If the image or the document in it cannot be read.
    pub fn source(&self, image: &str) -> Result<Source, LookupError> {
        let failed = |error: EngineError| LookupError::Engine(Box::new(error));
        self.options.image(self.engine, image, self.feedback).map_err(failed)?;
        let bytes = self.engine.file_of_image(image, PROCESSING_CONTAINER).map_err(failed)?;
        let name = format!("{image}:{PROCESSING_CONTAINER}");
        let text = String::from_utf8_lossy(&bytes);
        render(name, byte_order_mark::strip(&text), &self.variables)
            .map_err(|flawed| LookupError::Read(ReadError::Flawed(flawed)))
    }
}

impl ProcessingContainers for Images<'_> {
    fn of_image(&self, image: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        Document::processing_container(self.source(image)?)
            .map_err(|flawed| LookupError::Read(ReadError::Flawed(flawed)))
    }
}
