//! What commands that read documents share: options, reading, and reporting problems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::resolve::{
    ContainerFile, LookupError, NoContainer, ProcessingContainers, ReadError, Resolution, ResolveError, resolve, task,
};
use highwater::model::document::{Document, Variables};
use highwater::model::lint::Platform;
use highwater::model::spelling::nearest;
use highwater::model::task::{Placed, TaskSpec, VolumeSource};

use highwater::runner::engine::Engine;

use super::engine::{EngineArgs, Images};
use super::exit::Exit;
use super::failure::Failure;
use super::processing_container::lookup_failure;

/// How templates are rendered.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// Set a variable for Jinja, which reads it as custom.KEY; dots in KEY nest. Can be repeated.
    ///
    /// A file that contains {{ … }} or {% … %} is rendered before it is parsed. It can use `env`, the environment
    /// variables of highwater, and `custom`, the variables set here: --set registry.host=localhost is
    /// {{ custom.registry.host }}. An undefined variable is an error; {{ env.HOST | default("localhost") }} provides a
    /// default.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl TemplateArgs {
    /// The UTF-8 part of this process's environment, and the variables that were set.
    pub(crate) fn variables(&self) -> Result<Variables, Failure> {
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let mut variables = Variables::with_env(env);
        for assignment in &self.set {
            variables.set(assignment).map_err(|flawed| Failure::flawed(&flawed))?;
        }
        Ok(variables)
    }

    /// The variables that were set, by key as given.
    pub(crate) fn set(&self) -> BTreeMap<&str, &str> {
        self.set.iter().filter_map(|assignment| assignment.split_once('=')).collect()
    }
}

/// What is not to be put up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Deny {
    /// Treat warnings as errors.
    Warnings,
}

/// Where the task is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TargetArg {
    Docker,
    Kubernetes,
    Both,
}

impl TargetArg {
    pub(crate) fn platform(self) -> Platform {
        match self {
            Self::Docker => Platform::Docker,
            Self::Kubernetes => Platform::Kubernetes,
            Self::Both => Platform::Any,
        }
    }
}

/// How a task and its template are found.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    /// The image's processing-container.json, for a task that calls its template by name.
    ///
    /// This file replaces the one at the root of the image, whichever image the task names.
    #[arg(long, value_name = "FILE")]
    processing_container: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
    /// Directories that replace those of the task, by channel.
    #[arg(skip)]
    pub(crate) channels: BTreeMap<String, PathBuf>,
}

impl TaskArgs {
    /// Reads and resolves a task. Relative paths in it start in the current directory.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Resolution, Failure> {
        self.put_together(self.read(path)?, None)
    }

    /// Reads a task without resolving it.
    pub(crate) fn read(&self, path: &Path) -> Result<ReadTask, Failure> {
        let variables = self.template.variables()?;
        let mut spec = task(path, &variables).map_err(|error| read_failure(&error))?;
        self.replace_channels(&mut spec)?;
        Ok(ReadTask { spec, variables })
    }

    /// Resolves a task; without --processing-container, the engine provides the document of the image.
    pub(crate) fn put_together(
        &self,
        ReadTask { spec, variables }: ReadTask,
        engine: Option<(&Engine, &EngineArgs)>,
    ) -> Result<Resolution, Failure> {
        let base = std::env::current_dir().map_err(|error| Failure::new(Exit::Host, &error, None))?;
        let images = engine.map(|(engine, args)| Images { engine, args, variables: variables.clone() });
        let container = self.processing_container.clone().map(|path| ContainerFile { path, variables });
        let containers: &dyn ProcessingContainers = match (&container, &images) {
            (Some(file), _) => file,
            (None, Some(images)) => images,
            (None, None) => &NoContainer,
        };
        resolve(&spec, containers, &base).map_err(|error| unresolved(&error))
    }

    fn replace_channels(&self, spec: &mut Document<TaskSpec>) -> Result<(), Failure> {
        for (name, folder) in &self.channels {
            let known: Vec<String> = spec.content.inputs.iter().map(|input| input.name.value.clone()).collect();
            let Some(input) = spec.content.inputs.iter_mut().find(|input| input.name.value == *name) else {
                let help = match nearest(name, known.iter().map(String::as_str)) {
                    Some(nearest) => format!("write `{nearest}`"),
                    None => format!("expected one of: {}", known.join(", ")),
                };
                return Err(Failure::new(Exit::Usage, &NoChannel { name: name.clone() }, Some(help)));
            };
            input.source = VolumeSource::Host(Placed { value: folder.clone(), span: input.name.span.clone() });
        }
        Ok(())
    }
}

/// A task and the variables it was read with.
pub(crate) struct ReadTask {
    spec: Document<TaskSpec>,
    variables: Variables,
}

/// A directory cannot be used as an input of the task.
#[derive(Debug, thiserror::Error)]
#[error("the task has no input `{name}`")]
struct NoChannel {
    name: String,
}

/// A document could not be read.
pub(crate) fn read_failure(error: &ReadError) -> Failure {
    match error {
        ReadError::Flawed(flawed) => Failure::flawed(flawed),
        ReadError::Missing { .. }
        | ReadError::Folder { .. }
        | ReadError::TooLarge { .. }
        | ReadError::Unreadable { .. } => Failure::new(Exit::Usage, error, error.help()),
    }
}

fn unresolved(error: &ResolveError) -> Failure {
    match error {
        ResolveError::UnknownTemplate(flawed) => Failure::flawed(flawed),
        ResolveError::Lookup { source: LookupError::Read(error), .. } => read_failure(error),
        ResolveError::Lookup { source: LookupError::NotGiven, .. } => {
            let help = "give the file of the image with --processing-container FILE".to_owned();
            Failure::new(Exit::Usage, error, Some(help))
        }
        ResolveError::Lookup { source: source @ LookupError::Engine(_), .. } => lookup_failure(source),
    }
}
