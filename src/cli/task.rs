//! What commands that read documents share: options, reading, and reporting problems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::argument::channel;
use highwater::calibrate::resolve::Resolution;
use highwater::calibrate::workload::{self, TaskOptions};
use highwater::model::document::{Undefined, Variables};
use highwater::model::lint::Platform;

use super::engine::EngineArgs;
use super::failure::Failure;
use super::feedback::Terminal;

/// How templates are rendered.
#[derive(Debug, Args)]
pub(crate) struct TemplateArgs {
    /// Set a variable for Jinja, which reads it as custom.KEY; dots in KEY nest. Can be repeated.
    ///
    /// A file that contains {{ … }} or {% … %} is rendered before it is parsed. It can use `env`, the environment
    /// variables of highwater, and `custom`, the variables set here: --set registry.host=localhost is
    /// {{ custom.registry.host }}. A file .env beside it adds to `env` what the environment does not have;
    /// {{ env.HOST | default("localhost") }} provides a default.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How to treat undefined variables in Jinja.
    ///
    /// Each variable left empty produces a warning.
    #[arg(long, value_name = "WHAT", default_value = "config", hide_default_value = true)]
    undefined: UndefinedArg,
}

/// How to treat undefined variables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum UndefinedArg {
    /// Empty where only "config" depends on it, such as a registry's password, an error elsewhere [default]
    #[default]
    Config,
    /// Empty everywhere
    Empty,
    /// An error everywhere
    Error,
}

impl TemplateArgs {
    /// The UTF-8 part of this process's environment, and the variables that were set.
    pub(crate) fn variables(&self) -> Result<Variables, Failure> {
        Ok(workload::variables(&self.set, self.undefined())?)
    }

    fn undefined(&self) -> Undefined {
        match self.undefined {
            UndefinedArg::Config => Undefined::Config,
            UndefinedArg::Empty => Undefined::Empty,
            UndefinedArg::Error => Undefined::Error,
        }
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
    /// Where the data of a channel are on this machine. Can be repeated.
    ///
    /// For a channel whose "volume_source" is a volume of a cluster, or instead of the directory in the task.
    #[arg(long, value_name = "CHANNEL=DIR", value_parser = channel)]
    data: Vec<(String, PathBuf)>,
    /// Values for the task's variables, as a platform passes them on: {"task_form": {"env": …}}.
    ///
    /// "env" is an object of names and values, or an array of objects with "name" and "value". They override the task's.
    #[arg(long, value_name = "FILE.json")]
    conf: Option<PathBuf>,
    #[command(flatten)]
    template: TemplateArgs,
}

impl TaskArgs {
    pub(crate) fn options(&self) -> TaskOptions {
        let mut options = TaskOptions::default();
        options.processing_container.clone_from(&self.processing_container);
        options.set.clone_from(&self.template.set);
        options.undefined = self.template.undefined();
        options.channels = self.data.iter().cloned().collect();
        options.conf.clone_from(&self.conf);
        options
    }

    /// Reads and resolves a task. Relative paths in it start in the current directory. The engine is asked only for a
    /// template in an image.
    pub(crate) fn resolve(&self, path: &Path, engine: &EngineArgs) -> Result<Resolution, Failure> {
        Ok(self.options().resolve_with(path, &engine.options(), &Terminal::default())?)
    }
}
