//! The plan of a sweep: cells, each one input case with one choice of parameters.
//!
//! A plan is a pure function of the options and of the contents of the directories, so that two machines with the same
//! data create the same plan. As JSON it is the `plan.json` in a sweep's directory.

mod grid;
mod key;
mod order;
mod parameters;
mod pick;
mod source;

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::observation::RunnerKind;
use super::task::TaskDigest;
use super::units::Bytes;

pub use grid::{GridError, Parameter, combinations, scan};
pub use key::{Conditions, Identity, digest_of_contents, digest_of_listing};
pub use order::{Order, OrderError, in_order};
pub use parameters::{CPUS, Parameters};
pub use pick::{Count, Pick, PickError, grown, picked};
pub use source::{InputSource, Unit};

/// The version of the plan; a reader rejects a higher one and accepts every lower one.
pub const SCHEMA_VERSION: u32 = 1;

/// The plan of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The task to run.
    pub task: PlanTask,
    /// The options, as in a sweep file.
    pub sweep: Map<String, Value>,
    /// The cells in their given order, with unique keys.
    #[serde(serialize_with = "serialize_cells", deserialize_with = "deserialize_cells")]
    pub cells: Vec<Arc<PlanCell>>,
}

impl Plan {
    /// The cell with this key, or the only one whose key has this prefix.
    pub fn cell(&self, key: &str) -> Option<(usize, &PlanCell)> {
        let mut found = self.cells.iter().enumerate().filter(|(_, cell)| cell.key.starts_with(key));
        let (index, first) = found.next()?;
        (!key.is_empty() && found.next().is_none()).then_some((index, first.as_ref()))
    }
}

fn serialize_cells<S: Serializer>(cells: &[Arc<PlanCell>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(cells.iter().map(Arc::as_ref))
}

fn deserialize_cells<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<PlanCell>>, D::Error> {
    Ok(Vec::<PlanCell>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
}

/// The task of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTask {
    /// The task's name; that of the program for a bare command.
    pub name: String,
    /// The digest of its behaviour.
    pub digest: TaskDigest,
    /// How it is run.
    pub runner: RunnerKind,
    /// Its image, if it runs in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digest of the image's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
}

/// One input case with one choice of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCell {
    /// A digest of the task, its image, the case and the contents of its inputs, the parameters and the conditions.
    pub key: String,
    /// The description of the input case.
    pub case: String,
    /// Whether its input is synthetic: derived from the given data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
    /// The parameters.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
    /// The contents of its channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PlanInput>,
}

impl PlanCell {
    /// A title for people: its case and its parameters.
    pub fn title(&self) -> String {
        let case = Some(self.case.clone()).filter(|case| !case.is_empty());
        let parameters = self.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        case.into_iter().chain(parameters).collect::<Vec<_>>().join(", ")
    }

    /// Total input, in bytes.
    pub fn input_bytes(&self) -> Bytes {
        self.inputs.iter().map(|input| input.bytes).sum()
    }
}

/// The content of a channel of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInput {
    /// The channel; `input` for a bare command.
    pub channel: String,
    /// Number of files.
    pub files: u64,
    /// Their total size.
    pub bytes: Bytes,
    /// Number of items.
    pub items: u64,
}

/// The current name of a setting, which older plans and sweep files may have under an earlier one.
pub fn current_name(setting: &str) -> &str {
    match setting {
        "noise-floor" => "idle-peak",
        name => name,
    }
}
