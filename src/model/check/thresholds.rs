//! The thresholds of a check, and the number of runs of a task.

use serde::{Deserialize, Serialize};

use super::growth::{GrowthThresholds, ResourceThresholds};
use crate::model::scalar::RELATIVE;
use crate::model::units::Bytes;

/// The definition of a change.
///
/// Memory is nearly deterministic, so a gate that used only standard deviations would, if no run differs from another,
/// either pass everything or fail for a single page. Growth has to exceed *both* thresholds, whatever the spread is,
/// and what the scatter of the task's runs explains if there is a spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Growth over the baseline must exceed this share. Default 3 %, which is more than the peaks of most tasks vary.
    pub relative: f64,
    /// Growth must also exceed this amount. Default 4 MiB, which batched charges and a changed library may add
    /// anywhere. Below [`Thresholds::SCALED_BELOW`] it shrinks with the peak: a task of 3 MiB that doubles has grown.
    pub absolute: Bytes,
    /// The fewest runs on either side. Default 3: with fewer, one outlier is half of the evidence.
    pub min_samples: usize,
    /// Fitted rules are compared up to this many times the largest input measured. Default 4.
    pub horizon: f64,
    /// A limit above this many times the highest peak could be lowered. Default 2.
    pub wasteful: f64,
    /// The reaction to a cell of the baseline that was not run.
    pub vanished: Reaction,
    /// The reaction to a cell that is missing in the baseline.
    pub new: Reaction,
    /// The reaction to a task without baseline, which has only allowances. To fail means exit status 5.
    pub no_baseline: Reaction,
    /// The reaction to a lower bound that shows neither that a cell stays within its allowance, or within the baseline,
    /// nor that it does not. To fail means exit status 5.
    pub not_verified: Reaction,
    /// Which other resources are compared. Default: none.
    #[serde(flatten)]
    pub resources: ResourceThresholds,
}

impl Default for Thresholds {
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
            resources: ResourceThresholds::default(),
        }
    }
}

/// The reaction to something that may be intended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// The check fails.
    Fail,
    /// It is reported.
    Warn,
    /// Nothing happens.
    Ignore,
}

impl Reaction {
    /// The names in configuration files and options.
    pub const NAMES: [(&str, Self); 3] = [("fail", Self::Fail), ("warn", Self::Warn), ("ignore", Self::Ignore)];
}

/// The number of runs of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats {
    /// Runs of a cell in a check. Default 3.
    pub runs: u32,
    /// Runs of a cell for a baseline, on which every check depends. Default: twice as many.
    pub baseline_runs: u32,
    /// How many times a cell that seems to have grown is run again, `runs` times each, before it is reported. Default
    /// 2: if one run in ten is an outlier, two of three are once in 36 times, and in three rounds of three once in
    /// 46,000.
    pub confirm: u32,
}

impl Default for Repeats {
    fn default() -> Self {
        Self { runs: 3, baseline_runs: 6, confirm: 2 }
    }
}

/// Why thresholds are invalid.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// The relative threshold is not a share.
    #[error("the relative threshold is {0}, expected a share from 0.1% to 1000%")]
    Relative(f64),
    /// The absolute threshold is 0.
    #[error("the absolute threshold is 0, expected a positive amount, such as 4MiB")]
    Absolute,
    /// So few samples that a single outlier moves their median.
    #[error("{0} samples cannot distinguish growth from an outlier, expected at least 2")]
    Samples(usize),
    /// More samples are required than there are runs.
    #[error("{min_samples} samples are required, but each cell runs only {runs} times")]
    Runs {
        /// The number required.
        min_samples: usize,
        /// The number available.
        runs: u32,
    },
    /// The horizon is inside the measured range.
    #[error("the horizon is {0} times the largest input, expected a number from 1 to 1000")]
    Horizon(f64),
    /// A limit at the peak would count as wasteful.
    #[error("the threshold for wasteful is {0}, expected a number greater than 1")]
    Wasteful(f64),
}

impl ThresholdError {
    /// The name of the threshold in the configuration file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relative(_) => "relative",
            Self::Absolute => "absolute",
            Self::Samples(_) | Self::Runs { .. } => "min-samples",
            Self::Horizon(_) => "horizon",
            Self::Wasteful(_) => "wasteful",
        }
    }
}

impl Thresholds {
    /// Validates the thresholds.
    ///
    /// # Errors
    /// The first one that is invalid.
    pub fn sensible(self) -> Result<Self, ThresholdError> {
        match () {
            () if !RELATIVE.contains(&self.relative) => Err(ThresholdError::Relative(self.relative)),
            () if self.absolute == Bytes::ZERO => Err(ThresholdError::Absolute),
            () if self.min_samples < 2 => Err(ThresholdError::Samples(self.min_samples)),
            () if !(1.0..=1000.0).contains(&self.horizon) => Err(ThresholdError::Horizon(self.horizon)),
            () if !(self.wasteful.is_finite() && self.wasteful > 1.0) => Err(ThresholdError::Wasteful(self.wasteful)),
            () => Ok(self),
        }
    }

    /// The absolute threshold holds as it is for peaks from here on.
    pub const SCALED_BELOW: Bytes = Bytes::mib(40);

    /// The tolerance for peaks that the kernel may count up to `error_bound` too high.
    pub fn tolerance(&self, error_bound: Bytes) -> Tolerance {
        Tolerance {
            relative: self.relative,
            absolute: self.absolute,
            least: error_bound.max(LEAST),
            scaled_below: Self::SCALED_BELOW,
        }
    }
}

impl GrowthThresholds {
    /// The tolerance for amounts that no counter counts too high.
    pub(crate) fn tolerance(self) -> Tolerance {
        Tolerance { relative: self.relative, absolute: self.absolute, least: Bytes::ZERO, scaled_below: Bytes::ZERO }
    }
}

/// What even a machine with a single CPU may count too much: the kernel charges up to 64 pages at once.
const LEAST: Bytes = Bytes(64 * 4096);

/// Both thresholds, and the error of the kernel's counters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub(super) relative: f64,
    pub(super) absolute: Bytes,
    pub(super) least: Bytes,
    /// The absolute threshold shrinks with amounts below this.
    pub(super) scaled_below: Bytes,
}

impl Tolerance {
    /// The tolerated deviation from `base`: the larger one of the two thresholds.
    pub fn around(&self, base: Bytes) -> Bytes {
        let scale = base.ratio(self.scaled_below).unwrap_or(1.0).min(1.0);
        let scaled = Bytes((self.absolute.0 as f64 * scale) as u64);
        // A float beyond the largest integer saturates to it.
        Bytes((base.0 as f64 * self.relative).ceil() as u64).max(scaled.max(self.least.min(self.absolute)))
    }

    /// The largest amount that has not grown over `base`.
    pub fn above(&self, base: Bytes) -> Bytes {
        base.saturating_add(self.around(base))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_has_to_pass_both_thresholds() {
        let tolerance = Thresholds::default().tolerance(Bytes::ZERO);
        assert_eq!(tolerance.above(Bytes::mib(40)), Bytes::mib(44));
        assert_eq!(tolerance.above(Bytes::mib(1000)), Bytes::mib(1030));
        assert_eq!(tolerance.above(Bytes(u64::MAX)), Bytes(u64::MAX));
    }

    #[test]
    fn the_absolute_threshold_does_not_hide_that_a_small_task_doubles() {
        let kib = |kib: u64| Bytes(kib << 10);
        let around = |base: u64, bound: u64| Thresholds::default().tolerance(kib(bound)).around(kib(base));
        assert_eq!(around(20 << 10, 512), Bytes::mib(2));
        assert_eq!(around(3 << 10, 512), kib(512), "what two CPUs explain");
        assert_eq!(around(3 << 10, 0), Bytes((3 << 20) / 10), "a tenth, as at 40 MiB");
        assert_eq!(around(0, 64 << 10), Bytes::mib(4), "never more than the threshold");
    }

    #[test]
    fn terms_that_make_no_sense_are_refused() {
        let thresholds = Thresholds::default();
        assert!(thresholds.sensible().is_ok());
        let refused = |thresholds: Thresholds| thresholds.sensible().unwrap_err().to_string();
        assert!(refused(Thresholds { relative: 0.0, ..thresholds }).starts_with("the relative threshold is 0"));
        assert!(refused(Thresholds { relative: f64::NAN, ..thresholds }).contains("NaN"));
        assert!(refused(Thresholds { absolute: Bytes::ZERO, ..thresholds }).contains("4MiB"));
        assert!(refused(Thresholds { min_samples: 1, ..thresholds }).contains("at least 2"));
        assert!(refused(Thresholds { horizon: 0.5, ..thresholds }).contains("from 1 to 1000"));
        assert!(refused(Thresholds { wasteful: 1.0, ..thresholds }).contains("greater than 1"));
    }
}
