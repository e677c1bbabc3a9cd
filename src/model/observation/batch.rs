//! The batch job that a run was part of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job of a batch system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Batch {
    /// The batch system.
    pub system: BatchSystem,
    /// The job; of an array, the array's.
    pub job: String,
    /// The index in the array, if it is an array.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_task: Option<u32>,
    /// How often the job was started again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// The node, if it is not in the description of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl Batch {
    /// A job of Slurm, or a task of an array.
    pub fn slurm(job: impl Into<String>, array_task: Option<u32>) -> Self {
        Self { system: BatchSystem::Slurm, job: job.into(), array_task, restarts: None, node: None }
    }
}

/// A batch system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum BatchSystem {
    /// Slurm.
    Slurm,
}
