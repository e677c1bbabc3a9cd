//! Predicts what the scale rules of a task request, given the sizes of its channels.
//!
//! As JSON a [`Prediction`] has the fields of the types here, in their order; amounts are whole numbers of bytes,
//! unknown values are `null`. [`SCHEMA_VERSION`] increases when a field changes its meaning or is removed; new fields
//! may be added at any time.

mod consumer;
mod kubernetes_rounding;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule::{Mode, ScaleRule};
use super::task::ChannelKind;
use super::units::Bytes;

pub use consumer::{Demand, docker, kubernetes};
pub(in crate::model) use kubernetes_rounding::OneDecimal;

/// The version of the JSON form of a [`Prediction`].
pub const SCHEMA_VERSION: u32 = 1;

/// What the scale rules of a task request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Prediction {
    /// The version of this form of JSON.
    pub schema_version: u32,
    /// The task.
    pub task: TaskName,
    /// Inputs first, each kind in the order of the template.
    pub channels: Vec<ChannelPrediction>,
    /// The amount for a Docker container.
    pub docker: DockerPrediction,
    /// The amounts for a Kubernetes pod.
    pub kubernetes: KubernetesPrediction,
    /// Whether every rule has a value. If not, the amounts above are minimums.
    pub complete: bool,
}

/// The task of a prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TaskName {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: Option<String>,
    /// The identifier of its template.
    pub template: Option<String>,
    /// The digest of its behaviour.
    pub digest: super::task::TaskDigest,
}

/// A channel, its size, and the value of its rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ChannelPrediction {
    /// Its name.
    pub name: String,
    /// The direction of the data.
    pub kind: ChannelKind,
    /// Its directory on this machine, for display: bytes that are not UTF-8 are replaced.
    pub host_path: Option<String>,
    /// Its size.
    pub size: ChannelSize,
    /// Its rule.
    pub rule: Option<RulePrediction>,
}

/// The size of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ChannelSize {
    /// It was measured.
    Known {
        /// All of its files, whether its rule counts them or not.
        all: Sizes,
        /// What was excluded: counts by reason, in alphabetical order.
        #[serde(rename = "left_out")]
        excluded: Vec<Excluded>,
    },
    /// It could not be measured.
    Unknown {
        /// The reason.
        reason: String,
    },
    /// It was not measured because it is an output.
    NotSurveyed,
}

/// The number and sizes of files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Sizes {
    /// Number of files.
    pub files: u64,
    /// Their total size.
    pub sum: Bytes,
    /// The largest file, by its path relative to the channel.
    pub largest_file: Option<Named>,
    /// Number of items: directories directly in the channel.
    pub items: u64,
    /// The item with the largest total size, by its name.
    pub largest_item: Option<Named>,
}

impl Sizes {
    /// The n of a rule: 0 without files, as the contract says.
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
#[non_exhaustive]
pub struct Named {
    /// Its path, for display: bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Its size.
    pub bytes: Bytes,
}

/// Files and directories that were excluded for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Excluded {
    /// The reason, such as `unreadable` or `linked-folder`.
    pub reason: String,
    /// Their number.
    pub count: u64,
    /// Whether the sizes may be too small because of it; otherwise it is excluded by contract.
    pub trouble: bool,
    /// The first of them, by its path relative to the channel.
    pub first: Option<String>,
}

/// A rule and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RulePrediction {
    /// The rule, in its dialect.
    pub scale_rule: ScaleRule,
    /// The files that it counts; `null` if the channel could not be measured.
    pub selected: Option<Sizes>,
    /// The size that the rule is applied to.
    pub n: Option<Bytes>,
    /// What the rule requests; `null` if n is unknown or the rule has no usable result for it.
    pub value: Option<Bytes>,
    /// Why there is no value.
    pub problem: Option<String>,
}

impl RulePrediction {
    /// A rule for a channel of unknown size.
    pub fn without_value(scale_rule: ScaleRule) -> Self {
        Self { scale_rule, selected: None, n: None, value: None, problem: None }
    }
}

/// The amount for a Docker container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DockerPrediction {
    /// Its limit; `null` if none is requested, or less than 10 bytes.
    pub limit: Option<DockerAmount>,
}

/// An amount as passed to Docker: without a margin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DockerAmount {
    /// The amount.
    pub bytes: Bytes,
    /// What requested it.
    pub decided_by: Decider,
}

/// The amounts for a Kubernetes pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KubernetesPrediction {
    /// Its limit; `null` if none is requested, or less than 10 bytes.
    pub limit: Option<KubernetesAmount>,
    /// Its request; `null` if none is requested, or less than 10 bytes. Kubernetes then uses the limit.
    pub request: Option<KubernetesAmount>,
}

/// An amount as passed to Kubernetes: with a margin, and rounded to one decimal of a binary unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KubernetesAmount {
    /// The requested amount, without the margin.
    pub asked: Bytes,
    /// The margin: a tenth.
    pub margin: Bytes,
    /// Their sum as written, such as `70.4Gi`.
    pub written: String,
    /// The written amount in bytes: what the pod really gets.
    pub bytes: Bytes,
    /// What requested it.
    pub decided_by: Decider,
}

/// What requested the largest amount.
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
