//! What stands in for engines in a build without the feature `containers`: none is ever found.

use std::convert::Infallible;
use std::io;
use std::ops::ControlFlow;

use super::{Address, Answer, EngineError, Facts, Image, Progress, PullPolicy};
use crate::model::problem::one_line;

/// An engine, which this build cannot connect to.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Where it listens.
    pub address: Address,
    /// Its properties.
    pub facts: Facts,
    never: Infallible,
}

impl Engine {
    /// Finds no engine.
    ///
    /// # Errors
    /// Always.
    pub fn find(_host: Option<&str>) -> Result<Self, EngineError> {
        Err(EngineError::NotBuilt)
    }

    /// Connects to no engine.
    ///
    /// # Errors
    /// Always.
    pub fn open(_address: Address) -> Result<Self, EngineError> {
        Err(EngineError::NotBuilt)
    }

    /// An image of the engine.
    ///
    /// # Errors
    /// Never called: without the feature, no engine can be created.
    pub fn image(
        &self,
        _name: &str,
        _pull: PullPolicy,
        _progress_callback: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Image, EngineError> {
        match self.never {}
    }

    /// A file of an image.
    ///
    /// # Errors
    /// Never called: without the feature, no engine can be created.
    pub fn file_of_image(&self, _image: &str, _path: &str) -> Result<Vec<u8>, EngineError> {
        match self.never {}
    }

    /// Anything of an engine that does not exist.
    pub(in crate::runner) fn never<T>(&self) -> T {
        match self.never {}
    }
}

/// No container is known.
pub(in crate::runner) fn started_since(_seconds: i64) -> Vec<String> {
    Vec::new()
}

/// Asks no engine.
///
/// # Errors
/// None.
pub fn ask_all(addresses: &[Address]) -> io::Result<Vec<Answer>> {
    let answer = Answer::Unreachable { reason: one_line(&EngineError::NotBuilt) };
    Ok(vec![answer; addresses.len()])
}
