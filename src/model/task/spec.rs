//! What the two documents say, before they are put together.
//!
//! Names and values keep the bytes of the document they were read from, for whoever finds something to say about them.

use std::ops::Range;
use std::path::PathBuf;

use crate::model::lint::RuleField;
use crate::model::rule::ScaleRule;

use super::config::Config;
use super::env::EnvType;
use super::resources::Resources;

/// Something with the bytes of the document it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// What was read.
    pub value: T,
    /// Where, in the JSON of its [`Source`](crate::model::document::Source).
    pub span: Range<usize>,
}

/// A task.json: one use of a template, with its data and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// What people call it.
    pub name: String,
    /// The image of the processing container.
    pub image: String,
    /// The template it makes use of.
    pub template: TemplateRef,
    /// Where the input channels have their data; no name twice.
    pub inputs: Vec<Volume>,
    /// Where the output channels put their data; no name twice.
    pub outputs: Vec<Volume>,
    /// Overrides the template's values; no name twice.
    pub env: Vec<EnvSetting>,
    /// Overrides the template's command; an empty one asks for the image's own.
    pub command: Option<Placed<Vec<String>>>,
    /// Replaces the template's resources as a whole.
    pub resources: Option<ResourcesSpec>,
    /// Settings of the container runner.
    pub config: Option<Config>,
}

/// `taskTemplate`: by name or in full.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplateRef {
    /// One of the templates in the image's `processing-container.json`.
    Named(Placed<String>),
    /// A template of its own.
    Inline(Box<TaskTemplate>),
}

/// A channel as a task has it: where its data is.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// The channel of the template.
    pub name: Placed<String>,
    /// Where the data is.
    pub source: VolumeSource,
    /// Replaces the template's rule.
    pub scale_rule: Option<RuleSpec>,
}

/// Where the data of a channel is: `input` in the documented dialect, `volume_source` in the released one.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeSource {
    /// On this machine.
    Host(HostPath),
    /// On a volume of a Kubernetes cluster, as written.
    Kubernetes(serde_json::Value),
}

/// A path as written, absolute or not.
pub type HostPath = Placed<PathBuf>;

/// An environment variable as a task sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvSetting {
    /// Its name: not empty, without `=` and NUL.
    pub name: Placed<String>,
    /// Its value, without NUL.
    pub value: Placed<String>,
}

/// A processing-container.json: what an image can be used for.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessingContainer {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its uses; no identifier twice.
    pub templates: Vec<TaskTemplate>,
}

impl ProcessingContainer {
    /// The template with this identifier.
    pub fn template(&self, identifier: &str) -> Option<&TaskTemplate> {
        self.templates.iter().find(|template| template.identifier.value == identifier)
    }
}

/// One use of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskTemplate {
    /// What tasks call it by.
    pub identifier: Placed<String>,
    /// What it does.
    pub description: String,
    /// Its input channels; no name twice.
    pub inputs: Vec<Mount>,
    /// Its output channels; no name twice.
    pub outputs: Vec<Mount>,
    /// Its parameters; no name twice.
    pub env: Vec<TemplateEnv>,
    /// Its command; an empty one asks for the image's own.
    pub command: Option<Vec<String>>,
    /// What it may use and what is set aside for it, without the scale rules.
    pub resources: Option<ResourcesSpec>,
}

/// A channel as a template has it: where it appears in the container.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// What tasks call it by.
    pub name: Placed<String>,
    /// An absolute path in the container.
    pub mounted_path: String,
    /// What belongs there.
    pub description: Option<String>,
    /// How the memory grows with it.
    pub scale_rule: Option<RuleSpec>,
}

/// A parameter of a template: an environment variable with a default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateEnv {
    /// Its name: not empty, without `=` and NUL.
    pub name: Placed<String>,
    /// Its value where the task has none.
    pub value: Placed<String>,
    /// What kind of value it takes; anything where it is not said.
    pub kind: Option<EnvType>,
    /// The only values it takes; any where they are not said.
    pub choices: Option<Vec<String>>,
    /// Whether a user may change it; not said counts as yes.
    pub adjustable: Option<bool>,
    /// What it does.
    pub description: Option<String>,
}

/// A scale rule and where its fields stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// The rule.
    pub rule: ScaleRule,
    /// Where it stands.
    pub places: RulePlaces,
}

/// Where the values of a scale rule stand.
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
    /// Where a field stands: the whole rule where the field is left out.
    pub fn of(&self, field: RuleField) -> Range<usize> {
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

/// `resources` and where the amounts of memory stand.
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
