//! The two documents of the Task API: parsed once, with all problems and their locations reported together.
//!
//! Accepts both dialects, and files that mix them: `complexity` and `scale_factor`, `input` and `volume_source`, with
//! and without `api_version`. A file that contains Jinja is rendered first, see [`Variables`].

mod container;
mod edit;
#[cfg(feature = "templates")]
mod jinja;
mod lint;
#[cfg_attr(not(feature = "templates"), allow(dead_code, reason = "only a template has places to map"))]
mod place;
mod rule;
mod source;
mod task;
mod template;
mod variables;

use super::located::{Format, Read, Reader, Value, json};
use super::problem::{Flawed, Problem};
use super::task::{ProcessingContainer, TaskSpec};

pub use edit::{Change, EditError, Edited};
pub use source::Source;
pub use variables::{Undefined, Variables};

/// A kind of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schema {
    /// A `task.json`.
    Task,
    /// A `processing-container.json`.
    ProcessingContainer,
}

impl Schema {
    /// Detects the kind of a document from its fields; `None` if they are ambiguous.
    pub fn detect(source: &Source) -> Option<Self> {
        let value = json::parse(source.json()).ok()?;
        let object = value.as_object()?;
        let has = |name: &str| object.properties.iter().any(|property| property.name.as_str() == name);
        match (has("templates"), has("taskTemplate") || has("image")) {
            (true, false) => Some(Self::ProcessingContainer),
            (false, true) => Some(Self::Task),
            (true, true) | (false, false) => None,
        }
    }

    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::ProcessingContainer => "processing-container",
        }
    }
}

/// The content of a document, with the text it was read from.
#[derive(Clone, Debug)]
pub struct Document<T> {
    /// The content.
    pub content: T,
    /// The text that the spans in [`Self::content`] point into.
    pub source: Source,
    /// Suspicious parts; the spans point into the source too.
    pub warnings: Vec<Problem>,
}

impl<T> Document<T> {
    fn read(source: Source, read: impl FnOnce(&mut Reader<'_>, &Value<'_>) -> Read<T>) -> Result<Self, Flawed> {
        let value = match json::parse(source.json()) {
            Ok(node) => json::value(node),
            Err(problem) => return Err(source.flawed([problem])),
        };
        let mut reader = Reader::new(Format::Json, source.json());
        let content = read(&mut reader, &value);
        let (problems, usable) = reader.finish();
        match content {
            Ok(content) if usable => Ok(Self { content, warnings: problems, source }),
            Ok(_) | Err(_) => Err(source.flawed(problems)),
        }
    }

    /// The warnings as problems of the file; `None` if there are none.
    pub fn flawed(&self) -> Option<Flawed> {
        let flawed = self.source.flawed(self.warnings.iter().cloned());
        (!flawed.problems.is_empty()).then_some(flawed)
    }
}

impl Document<TaskSpec> {
    /// Reads a task.json.
    ///
    /// # Errors
    /// All problems, including warnings.
    pub fn task(source: Source) -> Result<Self, Flawed> {
        Self::read(source, task::task)
    }
}

impl Document<ProcessingContainer> {
    /// Reads a processing-container.json.
    ///
    /// # Errors
    /// All problems, including warnings.
    pub fn processing_container(source: Source) -> Result<Self, Flawed> {
        Self::read(source, container::container)
    }
}
