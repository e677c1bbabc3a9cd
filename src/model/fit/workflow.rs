//! What the records of a workflow show about the memory of its tasks.

use serde::Serialize;

use super::Declaration;

/// A task of a workflow: a process of Nextflow, a rule of Snakemake, or a task of several sweeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkflowTask {
    /// The name of the task.
    pub task: String,
    /// Number of recorded runs, whatever their outcome.
    pub runs: usize,
    /// What the runs are enough for.
    #[serde(flatten)]
    pub outcome: TaskOutcome,
}

/// Whether the runs of a task are enough for a limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum TaskOutcome {
    /// A limit was fitted.
    Fitted(Box<FittedTask>),
    /// Too little is known: what the task has today stays.
    LeftAlone {
        /// What is missing.
        reason: String,
    },
}

/// The limit of a task, and how far it can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FittedTask {
    /// The limit and the request.
    pub declaration: Declaration,
    /// Number of runs that it was fitted to.
    pub fitted: usize,
    /// Whether the sizes of the inputs were recorded. Otherwise the limit is a constant.
    pub sized: bool,
    /// Whether it was fitted to sampled peaks: the need is at least this, and may be higher.
    pub lower_bound: bool,
    /// Number of recorded runs that need more than the limit.
    pub exceeded: usize,
    /// Failures on the first try per 1000 further runs.
    pub failures_per_1000: f64,
    /// At least this share of further runs fits, with 95 % confidence; `None` if the peaks are lower bounds.
    pub coverage: Option<f64>,
    /// What to know before relying on the limit.
    pub warnings: Vec<String>,
}

impl WorkflowTask {
    /// The limit, if one was fitted.
    pub fn fitted(&self) -> Option<&FittedTask> {
        match &self.outcome {
            TaskOutcome::Fitted(fitted) => Some(fitted),
            TaskOutcome::LeftAlone { .. } => None,
        }
    }

    /// Leaves the task alone, whatever was fitted.
    #[must_use]
    pub fn left_alone(self, reason: impl Into<String>) -> Self {
        Self { outcome: TaskOutcome::LeftAlone { reason: reason.into() }, ..self }
    }
}
