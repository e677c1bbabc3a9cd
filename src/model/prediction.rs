//! What the scale rules of a task ask for, given the sizes of its channels.
//!
//! As JSON a [`Prediction`] has the fields of the types here, in their order; amounts are whole numbers of bytes, what
//! is not known is `null`. [`SCHEMA_VERSION`] grows when a field changes its meaning or goes away; new fields may come
//! at any time.

mod consumer;
mod written;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::{Mode, ScaleRule};
use super::task::ChannelKind;
use super::units::Bytes;

pub use consumer::{Demand, docker, kubernetes};
pub(in crate::model) use written::OneDecimal;

/// The version of the JSON form of a [`Prediction`].
pub const SCHEMA_VERSION: u32 = 1;

/// What the scale rules of a task ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prediction {
    /// The version of this form of JSON.
    pub schema_version: u32,
    /// The task.
    pub task: TaskName,
    /// Inputs first, each kind in the order of the template.
    pub channels: Vec<ChannelPrediction>,
    /// What a Docker container gets.
    pub docker: DockerPrediction,
    /// What a Kubernetes pod gets.
    pub kubernetes: KubernetesPrediction,
    /// Whether every rule has a value. Where one has none, the amounts above are the least that can be.
    pub complete: bool,
}

/// Which task a prediction is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskName {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
    /// The identifier of its template.
    pub template: Option<String>,
    /// The digest of what it does.
    pub digest: super::task::TaskDigest,
}

/// A channel, what it holds, and what its rule makes of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelPrediction {
    /// Its name.
    pub name: String,
    /// Which way the data goes.
    pub kind: ChannelKind,
    /// Its folder on this machine, for showing: bytes that are not UTF-8 are replaced.
    pub host_path: Option<String>,
    /// What it holds.
    pub size: ChannelSize,
    /// Its rule.
    pub rule: Option<RulePrediction>,
}

/// What a channel holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ChannelSize {
    /// It was read.
    Known {
        /// All of its files, whatever its rule counts.
        all: Sizes,
        /// What was not counted; by count, the reasons in alphabetical order.
        left_out: Vec<LeftOut>,
    },
    /// It could not be read.
    Unknown {
        /// Why.
        reason: String,
    },
    /// Nobody looked: it is an output.
    NotSurveyed,
}

/// How many files there are, and their sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sizes {
    /// How many files.
    pub files: u64,
    /// Their sizes, added up.
    pub sum: Bytes,
    /// The largest file, by its path below the channel.
    pub largest_file: Option<Named>,
    /// How many items there are: folders directly in the channel.
    pub items: u64,
    /// The item whose files have the largest sum, by its name.
    pub largest_item: Option<Named>,
}

impl Sizes {
    /// The n of a rule: nothing counts as 0, as the contract has it.
    pub fn n(&self, mode: Mode) -> Bytes {
        let of = |named: &Option<Named>| named.as_ref().map_or(Bytes::ZERO, |named| named.bytes);
        match mode {
            Mode::Sum => self.sum,
            Mode::MaxFileSize => of(&self.largest_file),
            Mode::MaxItemSum => of(&self.largest_item),
        }
    }
}

/// A file or an item with its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Its path, for showing: bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its size.
    pub bytes: Bytes,
}

/// Files and folders that were not counted for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// The reason, such as `unreadable` or `linked-folder`.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Whether the sizes may be too small because of it; else it is left out by contract.
    pub trouble: bool,
    /// The first of them, by its path below the channel.
    pub first: Option<String>,
}

/// A rule and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RulePrediction {
    /// The rule, in its dialect.
    pub scale_rule: ScaleRule,
    /// The files that it counts; `null` where the channel could not be read.
    pub selected: Option<Sizes>,
    /// The size that goes into the rule.
    pub n: Option<Bytes>,
    /// What the rule asks for; `null` where n is not known or the rule has no usable result for it.
    pub value: Option<Bytes>,
    /// Why there is no value.
    pub problem: Option<String>,
}

impl RulePrediction {
    /// A rule whose channel has no size.
    pub fn without_value(scale_rule: ScaleRule) -> Self {
        Self { scale_rule, selected: None, n: None, value: None, problem: None }
    }
}

/// What a Docker container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DockerPrediction {
    /// Its limit; `null` where nothing asks for one, or for less than 10 bytes.
    pub limit: Option<DockerAmount>,
}

/// An amount as Docker gets it: without a margin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DockerAmount {
    /// The amount.
    pub bytes: Bytes,
    /// Who asked for so much.
    pub decided_by: Decider,
}

/// What a Kubernetes pod gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubernetesPrediction {
    /// Its limit; `null` where nothing asks for one, or for less than 10 bytes.
    pub limit: Option<KubernetesAmount>,
    /// Its request; `null` where nothing asks for one, or for less than 10 bytes. Kubernetes then takes the limit.
    pub request: Option<KubernetesAmount>,
}

/// An amount as Kubernetes gets it: with a margin, and rounded to one decimal of a binary unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KubernetesAmount {
    /// What was asked for, without the margin.
    pub asked: Bytes,
    /// The margin: a tenth.
    pub margin: Bytes,
    /// Both together as they are written, such as `70.4Gi`.
    pub written: String,
    /// What is written, in bytes: what the pod really gets.
    pub bytes: Bytes,
    /// Who asked for so much.
    pub decided_by: Decider,
}

/// Who asked for the largest amount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Decider {
    /// `resources` of the task or the template.
    Resources,
    /// The rule of a channel.
    Rule {
        /// The channel.
        channel: String,
    },
}

impl std::fmt::Display for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Resources => f.write_str("resources"),
            Self::Rule { channel } => write!(f, "rule of {channel}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_that_goes_into_a_rule_depends_on_its_mode() {
        let named = |bytes| Some(Named { path: "x".to_owned(), bytes: Bytes(bytes) });
        let sizes = Sizes { files: 3, sum: Bytes(9), largest_file: named(4), items: 2, largest_item: named(6) };
        assert_eq!(sizes.n(Mode::Sum), Bytes(9));
        assert_eq!(sizes.n(Mode::MaxFileSize), Bytes(4));
        assert_eq!(sizes.n(Mode::MaxItemSum), Bytes(6));
        assert_eq!(Sizes::default().n(Mode::MaxItemSum), Bytes::ZERO);
    }
}
