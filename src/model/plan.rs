//! What a sweep is to run: cells, each one input case with one choice of parameters.
//!
//! A plan is a pure function of what was asked for and of what lies in the folders, so that two machines with the same
//! data make the same one. As JSON it is the `plan.json` of a sweep's folder.

mod grid;
mod key;
mod material;
mod order;
mod pick;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::observation::RunnerKind;
use super::task::TaskDigest;
use super::units::Bytes;

pub use grid::{GridError, Parameter, combinations, scan};
pub use key::{Conditions, Identity, digest_of_contents, digest_of_listing};
pub use material::{Material, Unit};
pub use order::{Order, OrderError, in_order};
pub use pick::{Count, Pick, PickError, grown, picked};

/// The version of the plan; a reader refuses a higher one and reads every lower one.
pub const SCHEMA_VERSION: u32 = 1;

/// What a sweep is to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// See [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What is run.
    pub task: PlanTask,
    /// What was asked for, as a sweep file has it.
    pub sweep: Map<String, Value>,
    /// The cells, in the order that they were asked for; no key twice.
    pub cells: Vec<PlanCell>,
}

impl Plan {
    /// The cell with this key, or the only one whose key begins like this.
    pub fn cell(&self, key: &str) -> Option<(usize, &PlanCell)> {
        let mut found = self.cells.iter().enumerate().filter(|(_, cell)| cell.key.starts_with(key));
        let first = found.next()?;
        (!key.is_empty() && found.next().is_none()).then_some(first)
    }
}

/// What a plan is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanTask {
    /// The task's name; of a bare command the program's.
    pub name: String,
    /// What it does.
    pub digest: TaskDigest,
    /// What runs it.
    pub runner: RunnerKind,
    /// Its image, where it runs in a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The digest of the image's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
}

/// One input case with one choice of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanCell {
    /// The digest of the task, its image, the case and what is in its inputs, the parameters and the conditions.
    pub key: String,
    /// The input case, in words.
    pub case: String,
    /// Whether its input is made up from the data at hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub synthetic: bool,
    /// The parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// What its channels hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<PlanInput>,
}

impl PlanCell {
    /// All its input, in bytes.
    pub fn input_bytes(&self) -> Bytes {
        self.inputs.iter().map(|input| input.bytes).sum()
    }
}

/// What a channel of a cell holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInput {
    /// The channel; `input` for a bare command.
    pub channel: String,
    /// How many files.
    pub files: u64,
    /// Their sizes, added up.
    pub bytes: Bytes,
    /// How many items.
    pub items: u64,
}

/// The current name of a setting, which older plans and sweep files may have under an earlier one.
pub fn current_name(setting: &str) -> &str {
    match setting {
        "noise-floor" => "idle-peak",
        name => name,
    }
}
