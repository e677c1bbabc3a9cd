//! Runs that others started with the probe in front of the command.

use crate::model::observation::{Batch, PodFacts};
use crate::model::timestamp::Timestamp;
use crate::runner::Finished;

/// A run that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProductionRun {
    /// Its pod, if it ran in one: the UID, the container and the restarts identify the run.
    pub pod: Option<PodFacts>,
    /// Its job, if it was part of one.
    pub batch: Option<Batch>,
    /// The command after that of the probe.
    pub command: Vec<String>,
    /// The annotations of the run itself, without prefix.
    pub annotations: Vec<(String, String)>,
    /// When it started, by the clock of its machine.
    pub started_at: Timestamp,
    /// The measurements.
    pub finished: Finished,
}

/// Why there is no run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The reason, one of a few.
    pub reason: &'static str,
    /// What its engine says about it, which is not to be trusted; may be empty.
    pub detail: String,
}

impl Missing {
    /// A reason, and what the engine says about it.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// The annotations in the value of `HIGHWATER_ANNOTATIONS`: `task=segment input.scans=12Mi`. A word without `=` has the
/// empty value, which no annotation may have.
pub(super) fn annotations(text: Option<&str>) -> Vec<(String, String)> {
    let words = text.into_iter().flat_map(str::split_whitespace);
    words
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}
