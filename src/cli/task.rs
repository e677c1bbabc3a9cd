//! What commands that read documents share: options, reading, and reporting problems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::resolve::Resolution;
use highwater::calibrate::workload::{self, TaskOptions};
use highwater::model::document::Variables;
use highwater::model::lint::Platform;

use super::failure::Failure;

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
        Ok(workload::variables(&self.set)?)
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
}

impl TaskArgs {
    pub(crate) fn options(&self) -> TaskOptions {
        let mut options = TaskOptions::default();
        options.processing_container.clone_from(&self.processing_container);
        options.set.clone_from(&self.template.set);
        options
    }

    /// Reads and resolves a task. Relative paths in it start in the current directory.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Resolution, Failure> {
        Ok(self.options().resolve(path)?)
    }
}
