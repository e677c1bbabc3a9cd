//! Looks up the document of an image.

use std::path::PathBuf;

use crate::model::document::{Document, Variables};
use crate::model::task::ProcessingContainer;

use super::read::{self, ReadError};

/// Provides the `processing-container.json` of images.
pub trait ProcessingContainers {
    /// The document at the root of an image.
    ///
    /// # Errors
    /// If it is not available or invalid.
    fn of_image(&self, image: &str) -> Result<Document<ProcessingContainer>, LookupError>;
}

/// Why the document of an image is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// Its location was not given.
    #[error("its processing-container.json is unknown")]
    NotGiven,
    /// It was found, but is invalid.
    #[error("its processing-container.json is invalid")]
    Read(#[source] ReadError),
    /// A container engine did not return it.
    #[error("failed to read its processing-container.json from the image")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A file that replaces the one in the image, for any image.
#[derive(Clone, Debug)]
pub struct ContainerFile {
    /// The file.
    pub path: PathBuf,
    /// The variables that its templates may use.
    pub variables: Variables,
}

impl ProcessingContainers for ContainerFile {
    fn of_image(&self, _: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        read::processing_container(&self.path, &self.variables).map_err(LookupError::Read)
    }
}

/// Provides no document: sufficient for tasks that contain their template.
#[derive(Clone, Copy, Debug)]
pub struct NoContainer;

impl ProcessingContainers for NoContainer {
    fn of_image(&self, _: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        Err(LookupError::NotGiven)
    }
}
