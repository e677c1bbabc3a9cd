//! How a task and its template are found and read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::engine::{EngineOptions, Images};
use crate::calibrate::failure::Failure;
use crate::calibrate::feedback::Feedback;
use crate::calibrate::resolve::{ContainerFile, NoContainer, ProcessingContainers, Resolution, resolve, task};
use crate::model::document::{Document, Variables};
use crate::model::spelling::nearest;
use crate::model::task::{Placed, TaskSpec, VolumeSource};
use crate::runner::engine::Engine;

/// The variables for Jinja: the UTF-8 part of the environment, and the assignments `KEY=VALUE`.
///
/// # Errors
/// If an assignment is malformed.
pub fn variables(assignments: &[String]) -> Result<Variables, Failure> {
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut variables = Variables::with_env(env);
    for assignment in assignments {
        variables.set(assignment)?;
    }
    Ok(variables)
}

/// How a task and its template are found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TaskOptions {
    /// The image's processing-container.json, for a task that calls its template by name.
    pub processing_container: Option<PathBuf>,
    /// Variables for Jinja, as `KEY=VALUE`.
    pub set: Vec<String>,
    /// Directories that replace those of the task, by channel.
    pub channels: BTreeMap<String, PathBuf>,
}

impl TaskOptions {
    /// Reads and resolves a task. Relative paths in it start in the current directory.
    ///
    /// # Errors
    /// If the task or its template is missing or invalid.
    pub fn resolve(&self, path: &Path) -> Result<Resolution, Failure> {
        self.put_together(self.read(path)?, None, &())
    }

    /// Reads a task without resolving it.
    pub(crate) fn read(&self, path: &Path) -> Result<ReadTask, Failure> {
        let variables = variables(&self.set)?;
        let mut spec = task(path, &variables)?;
        self.replace_channels(&mut spec)?;
        Ok(ReadTask { spec, variables })
    }

    /// Resolves a task; without --processing-container, the engine provides the document of the image.
    pub(crate) fn put_together(
        &self,
        ReadTask { spec, variables }: ReadTask,
        engine: Option<(&Engine, &EngineOptions)>,
        feedback: &dyn Feedback,
    ) -> Result<Resolution, Failure> {
        let base = std::env::current_dir().map_err(Failure::host)?;
        let images = engine.map(|(engine, options)| Images { engine, options, variables: variables.clone(), feedback });
        let container = self.processing_container.clone().map(|path| ContainerFile { path, variables });
        let containers: &dyn ProcessingContainers = match (&container, &images) {
            (Some(file), _) => file,
            (None, Some(images)) => images,
            (None, None) => &NoContainer,
        };
        Ok(resolve(&spec, containers, &base)?)
    }

    fn replace_channels(&self, spec: &mut Document<TaskSpec>) -> Result<(), Failure> {
        for (name, folder) in &self.channels {
            let known: Vec<String> = spec.content.inputs.iter().map(|input| input.name.value.clone()).collect();
            let Some(input) = spec.content.inputs.iter_mut().find(|input| input.name.value == *name) else {
                let help = match nearest(name, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("write `{nearest}`"),
                    None => format!("expected one of: {}", known.join(", ")),
                };
                return Err(Failure::usage(format!("the task has no input `{name}`"), help));
            };
            input.source = VolumeSource::Host(Placed { value: folder.clone(), span: input.name.span.clone() });
        }
        Ok(())
    }
}

/// A task and the variables it was read with.
pub struct ReadTask {
    spec: Document<TaskSpec>,
    variables: Variables,
}
