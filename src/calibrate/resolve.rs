//! Merges a task.json and a template into the task that runs.
//!
//! The task's fields override the template's, which override the image's. What the platform silently drops becomes a
//! [`Note`]: a channel that only one side has, a value outside of its choices, a directory that does not exist.
//!
//! A relative `host_path` is resolved against the current directory, as it always was, not against the directory of the
//! file.

mod channels;
mod lint;
mod lookup;
mod merge;
mod note;
mod read;
mod render;

use std::path::Path;

use crate::model::document::{Document, Source};
use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::{nearest, quote};
use crate::model::task::{Placed, ProcessingContainer, Task, TaskSpec, TaskTemplate, TemplateEnv, TemplateRef};

use lint::Places;

pub use channels::followed;
pub use lookup::{ContainerFile, LookupError, NoContainer, ProcessingContainers};
pub use note::{Finding, Note, Origin};
pub use read::{ReadError, limit, operator, processing_container, registry, source, task};
pub use render::render;

/// A resolved task, and the notes about it.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The task.
    pub task: Task,
    /// The parameters of the template.
    pub variables: Vec<TemplateEnv>,
    /// Events that the user did not ask for, in order.
    pub notes: Vec<Note>,
    /// Each document with its suspicious parts.
    documents: Vec<(Origin, Source, Vec<Problem>)>,
    places: Places,
}

impl Resolution {
    /// All warnings, by document: what its reader and [`Self::lint`] found suspicious, and the notes.
    pub fn warnings(&self) -> Vec<Flawed> {
        let of_document = |(origin, source, warnings): &(Origin, Source, Vec<Problem>)| {
            let notes = self.notes.iter().filter(|note| note.origin == *origin).map(Note::problem);
            let flawed = source.flawed(warnings.iter().cloned().chain(notes));
            (!flawed.problems.is_empty()).then_some(flawed)
        };
        self.documents.iter().filter_map(of_document).collect()
    }
}

/// Why a task could not be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The image has no such template.
    #[error(transparent)]
    UnknownTemplate(Flawed),
    /// The document of the image is not available.
    #[error("failed to look up the template {} of the image {image}", quote(template))]
    Lookup {
        /// The identifier.
        template: String,
        /// The image.
        image: String,
        /// The reason.
        #[source]
        source: LookupError,
    },
}

/// Merges a task and its template.
///
/// `containers` returns the document of an image; it is only used if the task refers to its template by name. `base` is
/// the absolute directory that relative paths start from.
///
/// # Errors
/// If the template does not exist, or the document that should contain it is not available.
pub fn resolve(
    spec: &Document<TaskSpec>,
    containers: &dyn ProcessingContainers,
    base: &Path,
) -> Result<Resolution, ResolveError> {
    let mut documents = vec![(Origin::Task, spec.source.clone(), spec.warnings.clone())];
    let mut notes = Vec::new();
    let (task, variables, places) = match &spec.content.template {
        TemplateRef::Inline(template) => {
            let task = merge::merge(&spec.content, template, Origin::Task, base, &mut notes);
            (task, template.env.clone(), Places::new(&spec.content, template, Origin::Task))
        }
        TemplateRef::Named(identifier) => {
            let container = look_up(spec, identifier, containers)?;
            let template = find(spec, identifier, &container)?;
            let task = merge::merge(&spec.content, template, Origin::ProcessingContainer, base, &mut notes);
            let places = Places::new(&spec.content, template, Origin::ProcessingContainer);
            let variables = template.env.clone();
            let warnings = about(template, &container);
            documents.push((Origin::ProcessingContainer, container.source, warnings));
            (task, variables, places)
        }
    };
    channels::look_at(&task, &spec.content, spec.source.name(), &mut notes);
    Ok(Resolution { task, variables, notes, documents, places })
}

/// The warnings about a document, without those about its other templates.
fn about(template: &TaskTemplate, container: &Document<ProcessingContainer>) -> Vec<Problem> {
    let is_within = |problem: &Problem, template: &TaskTemplate| {
        problem.span.as_ref().is_some_and(|span| template.span.contains(&span.start))
    };
    let others = || container.content.templates.iter().filter(|other| other.span != template.span);
    let warnings = container.warnings.iter().filter(|problem| !others().any(|other| is_within(problem, other)));
    warnings.cloned().collect()
}

fn look_up(
    spec: &Document<TaskSpec>,
    identifier: &Placed<String>,
    containers: &dyn ProcessingContainers,
) -> Result<Document<ProcessingContainer>, ResolveError> {
    let image = &spec.content.image;
    containers.of_image(image).map_err(|source| ResolveError::Lookup {
        template: identifier.value.clone(),
        image: image.clone(),
        source,
    })
}

fn find<'a>(
    spec: &Document<TaskSpec>,
    identifier: &Placed<String>,
    container: &'a Document<ProcessingContainer>,
) -> Result<&'a TaskTemplate, ResolveError> {
    let name = &identifier.value;
    container.content.template(name).ok_or_else(|| {
        let mut known: Vec<&str> =
            container.content.templates.iter().map(|template| template.identifier.value.as_str()).collect();
        let meant = nearest(name, known.iter().copied());
        // The one that was probably meant first, the others in their order.
        known.sort_by_key(|identifier| Some(*identifier) != meant);
        let quoted: Vec<String> = known.iter().map(|identifier| quote(identifier)).collect();
        let label = match quoted.as_slice() {
            [] => format!("{} has no templates", container.source.name()),
            quoted => format!("expected one of {}", quoted.join(", ")),
        };
        let message = format!("{} has no template {}", container.source.name(), quote(name));
        let problem = Problem::error("unknown-template", message).at(identifier.span.clone()).label(label);
        ResolveError::UnknownTemplate(spec.source.flawed([match meant {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem,
        }]))
    })
}
