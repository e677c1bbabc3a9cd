//! Where the document of an image comes from.

use std::path::PathBuf;

use crate::model::document::{Document, Variables};
use crate::model::task::ProcessingContainer;

use super::read::{self, ReadError};

/// Knows the `processing-container.json` of images.
pub trait ProcessingContainers {
    /// The document at the root of an image.
    ///
    /// # Errors
    /// It cannot be had, or is not as it should be.
    fn of_image(&self, image: &str) -> Result<Document<ProcessingContainer>, LookupError>;
}

/// Why the document of an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Nobody said where it is.
    #[error("its processing-container.json is unknown")]
    NotGiven,
    /// It was found, and is not as it should be.
    #[error("its processing-container.json is invalid")]
    Read(#[source] ReadError),
    /// A container engine could not give it.
    #[error("failed to read its processing-container.json from the image")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A file that stands for the one in the image, whatever the image.
#[derive(Clone, Debug)]
pub struct ContainerFile {
    /// The file.
    pub path: PathBuf,
    /// What its templates may refer to.
    pub variables: Variables,
}

impl ProcessingContainers for ContainerFile {
    fn of_image(&self, _: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        read::processing_container(&self.path, &self.variables).map_err(LookupError::Read)
    }
}

/// Knows no image: enough for tasks that have their template in them.
#[derive(Clone, Copy, Debug)]
pub struct NoContainer;

impl ProcessingContainers for NoContainer {
    fn of_image(&self, _: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        Err(LookupError::NotGiven)
    }
}
