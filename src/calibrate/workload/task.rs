//! How a task and its template are found and read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::engine::{EngineOptions, Images};
use crate::calibrate::failure::Failure;
use crate::calibrate::feedback::Feedback;
use crate::calibrate::resolve::{ContainerFile, NoContainer, ProcessingContainers, Resolution, resolve, source, task};
use crate::model::document::{Document, Undefined, Variables};
use crate::model::spelling::{nearest, quote};
use crate::model::task::{EnvSetting, Placed, TaskSpec, TemplateRef, VolumeSource};
use crate::runner::engine::Engine;

/// The variables for Jinja: the UTF-8 part of the environment, and the assignments `KEY=VALUE`.
///
/// # Errors
/// If an assignment is malformed.
pub fn variables(assignments: &[String], undefined: Undefined) -> Result<Variables, Failure> {
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut variables = Variables::with_env(env);
    variables.undefined = undefined;
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
    /// What happens where a template uses a variable that is not defined.
    pub undefined: Undefined,
    /// Directories that replace those of the task, by channel.
    pub channels: BTreeMap<String, PathBuf>,
    /// A file with a `task_form` whose `env` overrides the task's.
    pub conf: Option<PathBuf>,
}

impl TaskOptions {
    /// Reads and resolves a task. Relative paths in it start in the current directory.
    ///
    /// # Errors
    /// If the task or its template is missing or invalid.
    pub fn resolve(&self, path: &Path) -> Result<Resolution, Failure> {
        self.put_together(self.read(path)?, None, &())
    }

    /// Reads and resolves a task, fetching its template from its image if necessary.
    ///
    /// # Errors
    /// If the task or its template is missing or invalid.
    pub fn resolve_with(
        &self,
        path: &Path,
        options: &EngineOptions,
        feedback: &dyn Feedback,
    ) -> Result<Resolution, Failure> {
        let task = self.read(path)?;
        let is_in_image =
            self.processing_container.is_none() && matches!(task.spec.content.template, TemplateRef::Named(_));
        let engine = match is_in_image.then(|| options.engine()) {
            Some(Err(error)) if options.host.is_some() => return Err(error),
            // Without an engine the template is missing, which a file can provide as well.
            asked => asked.and_then(Result::ok),
        };
        self.put_together(task, engine.as_ref().map(|engine| (engine, options)), feedback)
    }

    /// Reads a task without resolving it.
    pub(crate) fn read(&self, path: &Path) -> Result<ReadTask, Failure> {
        let variables = variables(&self.set, self.undefined)?;
        let mut spec = task(path, &variables)?;
        self.replace_channels(&mut spec)?;
        if let Some(path) = &self.conf {
            overlay(&mut spec.content.env, path, &variables)?;
        }
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
            let content = &mut spec.content;
            let mut channels = content.inputs.iter_mut().chain(&mut content.outputs);
            let Some(channel) = channels.find(|channel| channel.name.value == *name) else {
                let channels = content.inputs.iter().chain(&content.outputs);
                let known: Vec<&str> = channels.map(|channel| channel.name.value.as_str()).collect();
                let help = match nearest(name, known.iter().copied()) {
                    Some(nearest) => format!("write `{nearest}`"),
                    None => format!("expected one of: {}", known.join(", ")),
                };
                return Err(Failure::usage(format!("the task has no channel `{name}`"), help));
            };
            channel.source = VolumeSource::Host(Placed { value: folder.clone(), span: channel.name.span.clone() });
        }
        Ok(())
    }
}

/// Overrides variables of a task by those in the `task_form` of a file.
fn overlay(env: &mut Vec<EnvSetting>, path: &Path, variables: &Variables) -> Result<(), Failure> {
    let source = source(path, variables)?;
    let wrong = |found: &str| {
        let help = r#"write {"task_form": {"env": {"NAME": "value"}}}, or an array of {"name": …, "value": …}"#;
        Failure::usage(format!("{}: {found}", path.display()), help)
    };
    let conf: Value = serde_json::from_str(source.json()).map_err(|error| wrong(&error.to_string()))?;
    let form = conf.get("task_form").ok_or_else(|| wrong("`task_form` is missing"))?;
    let text = |name: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(wrong(&format!("the value of {} is neither a string nor a number", quote(name)))),
    };
    let named = |entry: &Value| {
        let name = entry.get("name").and_then(Value::as_str).ok_or_else(|| wrong("a variable has no `name`"))?;
        let value = entry.get("value").ok_or_else(|| wrong(&format!("{} has no `value`", quote(name))))?;
        Ok((name.to_owned(), text(name, value)?))
    };
    let settings: Vec<(String, String)> = match form.get("env") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(all)) => {
            all.iter().map(|(name, value)| Ok((name.clone(), text(name, value)?))).collect::<Result<_, Failure>>()?
        }
        Some(Value::Array(all)) => all.iter().map(named).collect::<Result<_, Failure>>()?,
        Some(_) => return Err(wrong("`env` is neither an object nor an array")),
    };
    for (name, value) in settings {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(wrong(&format!("{} is not a valid variable", quote(&name))));
        }
        match env.iter_mut().find(|setting| setting.name.value == name) {
            Some(setting) => setting.value.value = value,
            None => {
                // The file of the task has no place for it.
                let (name, value) = (Placed { value: name, span: 0..0 }, Placed { value, span: 0..0 });
                env.push(EnvSetting { name, value });
            }
        }
    }
    Ok(())
}

/// A task and the variables it was read with.
pub struct ReadTask {
    spec: Document<TaskSpec>,
    variables: Variables,
}
