//! The contents of the two documents, before they are merged.
//!
//! Names and values keep their spans in the document, for messages.

use std::ops::Range;
use std::path::PathBuf;

use crate::model::rule::ScaleRule;

use super::config::Config;
use super::env::EnvType;
use super::resources::Resources;

/// A value with its span in the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its span in the JSON of its [`Source`](crate::model::document::Source).
    pub span: Range<usize>,
}

/// A field of a scale rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleField {
    /// The rule as a whole.
    Whole,
    /// `complexity` or `scale_factor`
    Formula,
    /// `type`
    Type,
    /// `target_dir`
    TargetDir,
    /// `target_glob`
    TargetGlob,
    /// `target_regex`
    TargetRegex,
}

/// A task.json: a use of a template, with its data and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// Its name.
    pub name: String,
    /// The image of the processing container.
    pub image: String,
    /// Its template.
    pub template: TemplateRef,
    /// The data of the input channels; no name twice.
    pub inputs: Vec<Volume>,
    /// The data of the output channels; no name twice.
    pub outputs: Vec<Volume>,
    /// Overrides the template's values; no name twice.
    pub env: Vec<EnvSetting>,
    /// Overrides the template's command; an empty one selects the image's own.
    pub command: Option<Placed<Vec<String>>>,
    /// Replaces all of the template's resources.
    pub resources: Option<ResourcesSpec>,
    /// Settings of the container runner.
    pub config: Option<Config>,
}

/// `taskTemplate`: by name or in full.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateRef {
    /// One of the templates in the image's `processing-container.json`.
    Named(Placed<String>),
    /// An inline template.
    Inline(Box<TaskTemplate>),
}

/// A channel in a task: the location of its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// The channel of the template.
    pub name: Placed<String>,
    /// The location of the data.
    pub source: VolumeSource,
    /// Replaces the template's rule.
    pub scale_rule: Option<RuleSpec>,
}

/// The location of the data of a channel: `input` in the documented dialect, `volume_source` in the released one.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeSource {
    /// On this machine.
    Host(HostPath),
    /// On a volume of a Kubernetes cluster, as written.
    Kubernetes(serde_json::Value),
}

/// A path as written, absolute or not.
pub type HostPath = Placed<PathBuf>;

/// An environment variable set by a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvSetting {
    /// Its name: not empty, without `=` and NUL.
    pub name: Placed<String>,
    /// Its value, without NUL.
    pub value: Placed<String>,
}

/// A processing-container.json: the uses of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessingContainer {
    /// Its name.
    pub name: String,
    /// Its purpose.
    pub description: String,
    /// Its templates, with unique identifiers.
    pub templates: Vec<TaskTemplate>,
}

impl ProcessingContainer {
    /// The template with this identifier.
    pub fn template(&self, identifier: &str) -> Option<&TaskTemplate> {
        self.templates.iter().find(|template| template.identifier.value == identifier)
    }
}

/// A use of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskTemplate {
    /// The name by which tasks refer to it.
    pub identifier: Placed<String>,
    /// Its purpose.
    pub description: String,
    /// Its input channels; no name twice.
    pub inputs: Vec<Mount>,
    /// Its output channels; no name twice.
    pub outputs: Vec<Mount>,
    /// Its parameters; no name twice.
    pub env: Vec<TemplateEnv>,
    /// Its command; an empty one selects the image's own.
    pub command: Option<Vec<String>>,
    /// Its limits and requests, without the scale rules.
    pub resources: Option<ResourcesSpec>,
    /// Its location in the document, in bytes.
    pub span: Range<usize>,
}

/// A channel in a template: its path in the container.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// The name by which tasks refer to it.
    pub name: Placed<String>,
    /// An absolute path in the container.
    pub mounted_path: String,
    /// Its purpose.
    pub description: Option<String>,
    /// Its scale rule.
    pub scale_rule: Option<RuleSpec>,
}

/// A parameter of a template: an environment variable with a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateEnv {
    /// Its name: not empty, without `=` and NUL.
    pub name: Placed<String>,
    /// Its value unless the task sets one.
    pub value: Placed<String>,
    /// The type of its value; any if absent.
    pub kind: Option<EnvType>,
    /// The only values allowed; any if absent.
    pub choices: Option<Vec<String>>,
    /// Whether a user may change it; yes if absent.
    pub adjustable: Option<bool>,
    /// Its purpose.
    pub description: Option<String>,
}

/// A scale rule, and the locations of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// The rule.
    pub rule: ScaleRule,
    /// Their locations.
    pub places: RulePlaces,
}

/// The locations of the fields of a scale rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePlaces {
    /// The whole rule.
    pub whole: Range<usize>,
    /// The value of `complexity` or `scale_factor`.
    pub formula: Range<usize>,
    /// The value of `type`.
    pub applies_to: Range<usize>,
    /// The value of `target_dir`.
    pub target_dir: Option<Range<usize>>,
    /// The value of `target_glob`.
    pub target_glob: Option<Range<usize>>,
    /// The value of `target_regex`.
    pub target_regex: Option<Range<usize>>,
}

impl RulePlaces {
    /// The location of a field: the whole rule if the field is absent.
    pub fn span(&self, field: RuleField) -> Range<usize> {
        let place = match field {
            RuleField::Whole => None,
            RuleField::Formula => Some(&self.formula),
            RuleField::Type => Some(&self.applies_to),
            RuleField::TargetDir => self.target_dir.as_ref(),
            RuleField::TargetGlob => self.target_glob.as_ref(),
            RuleField::TargetRegex => self.target_regex.as_ref(),
        };
        place.unwrap_or(&self.whole).clone()
    }
}

/// `resources`, and the locations of the amounts of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourcesSpec {
    /// The amounts.
    pub resources: Resources,
    /// All of them.
    pub whole: Range<usize>,
    /// The value of `limits.memory`.
    pub limit: Option<Range<usize>>,
    /// The value of `requests.memory`.
    pub request: Option<Range<usize>>,
}
