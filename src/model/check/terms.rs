//! On which terms a run is judged: thresholds, and how often a task is run.

use serde::{Deserialize, Serialize};

use crate::model::units::Bytes;

/// What counts as a change.
///
/// Memory is nearly deterministic, so a gate that only asked for so many standard deviations would, where no run differs
/// from another, either pass everything or fail for a page. Growth has to be beyond *both* thresholds, whatever the spread
/// is, and beyond three standard errors of the difference where there is a spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Growth over the baseline by more than this share. 3 % by default: more than the peaks of most tasks differ by.
    pub relative: f64,
    /// And by more than this. 4 MiB by default: what the kernel's batching and a changed library may add anywhere.
    pub absolute: Bytes,
    /// With at least so many runs on either side. 3 by default: below that one odd run is half of the evidence.
    pub min_samples: usize,
    /// Fitted rules are compared up to so many times the largest input measured. 4 by default.
    pub horizon: f64,
    /// A limit of more than so many times the highest peak could be lowered. 2 by default.
    pub wasteful: f64,
    /// What to make of a cell that the baseline has and nobody ran.
    pub vanished: Reaction,
    /// What to make of a cell that the baseline does not have.
    pub new: Reaction,
    /// What to make of a task that has no baseline, only amounts that it may use at most. To fail is to end with status 5.
    pub no_baseline: Reaction,
    /// What to make of a lower bound that shows neither that a cell stays within what it may use, or within the baseline,
    /// nor that it does not. To fail is to end with status 5.
    pub not_verified: Reaction,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            relative: 0.03,
            absolute: Bytes::mib(4),
            min_samples: 3,
            horizon: 4.0,
            wasteful: 2.0,
            vanished: Reaction::Fail,
            new: Reaction::Warn,
            no_baseline: Reaction::Fail,
            not_verified: Reaction::Fail,
        }
    }
}

/// What to make of something that may be meant or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// The check fails.
    Fail,
    /// It is told.
    Warn,
    /// Nothing.
    Ignore,
}

impl Reaction {
    /// The names by which a user chooses.
    pub const NAMES: [&str; 3] = ["fail", "warn", "ignore"];

    /// The reaction of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "fail" => Some(Self::Fail),
            "warn" => Some(Self::Warn),
            "ignore" => Some(Self::Ignore),
            _ => None,
        }
    }
}

/// How often a task is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// Runs of a cell in a check. 3 by default.
    pub runs: u32,
    /// Runs of a cell for a baseline: every check stands on them. Twice as many by default.
    pub baseline_runs: u32,
    /// How often a cell that seems to have grown is run again, `runs` times each, before it is called. 2 by default: where
    /// one run in ten is off, two of three are once in 36 times, and in three rounds of three once in 46,000.
    pub confirm: u32,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { runs: 3, baseline_runs: 6, confirm: 2 }
    }
}

/// Why terms make no sense.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TermError {
    /// The relative threshold is no share.
    #[error("the relative threshold is {0}, expected a share from 0.1% to 1000%")]
    Relative(f64),
    /// The absolute threshold is nothing.
    #[error("the absolute threshold is 0, expected a positive size such as 4MiB")]
    Absolute,
    /// Fewer samples than have a middle that one odd run does not move.
    #[error("{0} samples cannot distinguish growth from an outlier, expected at least 2")]
    Samples(usize),
    /// More samples are asked for than there are runs.
    #[error("{min_samples} samples are required, but each cell runs only {runs} times")]
    Runs {
        /// What is asked for.
        min_samples: usize,
        /// What there can be.
        runs: u32,
    },
    /// The horizon lies inside of what was measured.
    #[error("the horizon is {0} times the largest input, expected a number from 1 to 1000")]
    Horizon(f64),
    /// A limit at the peak would be called wasteful.
    #[error("the threshold for wasteful is {0}, expected a number greater than 1")]
    Wasteful(f64),
}

impl Terms {
    /// The same terms, if they make sense.
    ///
    /// # Errors
    /// The first that makes none.
    pub fn sensible(self) -> Result<Self, TermError> {
        match () {
            () if !(0.001..=10.0).contains(&self.relative) => Err(TermError::Relative(self.relative)),
            () if self.absolute == Bytes::ZERO => Err(TermError::Absolute),
            () if self.min_samples < 2 => Err(TermError::Samples(self.min_samples)),
            () if !(1.0..=1000.0).contains(&self.horizon) => Err(TermError::Horizon(self.horizon)),
            () if !(self.wasteful.is_finite() && self.wasteful > 1.0) => Err(TermError::Wasteful(self.wasteful)),
            () => Ok(self),
        }
    }

    /// The least amount that is beyond both thresholds over `base`: what is more than this has grown.
    pub fn allowed(&self, base: Bytes) -> Bytes {
        base.saturating_add(self.tolerance(base))
    }

    /// By how much `base` may be left without a word: the larger one of the two thresholds.
    pub fn tolerance(&self, base: Bytes) -> Bytes {
        // A float beyond the largest integer becomes the largest integer.
        Bytes((base.0 as f64 * self.relative).ceil() as u64).max(self.absolute)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_has_to_pass_both_thresholds() {
        let terms = Terms::default();
        assert_eq!(terms.allowed(Bytes::mib(10)), Bytes::mib(14));
        assert_eq!(terms.allowed(Bytes::mib(1000)), Bytes::mib(1030));
        assert_eq!(terms.allowed(Bytes(u64::MAX)), Bytes(u64::MAX));
    }

    #[test]
    fn terms_that_make_no_sense_are_refused() {
        let terms = Terms::default();
        assert!(terms.sensible().is_ok());
        let refused = |terms: Terms| terms.sensible().unwrap_err().to_string();
        assert!(refused(Terms { relative: 0.0, ..terms }).starts_with("the relative threshold is 0"));
        assert!(refused(Terms { relative: f64::NAN, ..terms }).contains("NaN"));
        assert!(refused(Terms { absolute: Bytes::ZERO, ..terms }).contains("4MiB"));
        assert!(refused(Terms { min_samples: 1, ..terms }).contains("at least 2"));
        assert!(refused(Terms { horizon: 0.5, ..terms }).contains("from 1 to 1000"));
        assert!(refused(Terms { wasteful: 1.0, ..terms }).contains("greater than 1"));
    }
}
