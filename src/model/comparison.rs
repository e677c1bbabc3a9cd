//! Compares predicted limits and requests with an observed peak.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observation::{Exactness, Observation};
use super::prediction::Prediction;
use super::reading::Reading;
use super::units::Bytes;

/// The observed peak of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedPeak {
    /// The peak seen.
    pub bytes: Bytes,
    /// Whether the run may have used more than was seen.
    pub lower_bound: bool,
    /// An upper bound of a lower bound, if there is one.
    pub at_most: Option<Bytes>,
    /// Whether the run reached its limit: without the limit it might have used more.
    pub censored: bool,
}

impl ObservedPeak {
    /// The peak of a recorded run; `None` if it has none.
    pub fn from_observation(observation: &Observation) -> Option<Self> {
        let Reading::Value(peak) = &observation.peak else { return None };
        let lower_bound = match peak.exactness {
            Exactness::Exact { .. } => false,
            Exactness::LowerBound { .. } => true,
        };
        let at_most = peak.upper_bound.as_ref().map(|most| most.bytes.max(peak.bytes)).filter(|_| lower_bound);
        Some(Self { bytes: peak.bytes, lower_bound, at_most, censored: observation.censored })
    }
}

/// The multiples of the peak at which an amount is tight or wasteful.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Thresholds {
    /// Below this many times the peak an amount is tight. Default 1.05: peaks of the same task on the same input vary
    /// by some per cent, and rounding to one decimal of a unit removes up to a twentieth.
    pub tight: f64,
    /// Above this many times the peak an amount is wasteful. Default 2: the same task would fit twice.
    pub wasteful: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { tight: 1.05, wasteful: 2.0 }
    }
}

impl Thresholds {
    /// Creates consistent thresholds.
    ///
    /// # Errors
    /// If they are not numbers from 1 on, or an amount could be tight and wasteful at the same time.
    pub fn new(tight: f64, wasteful: f64) -> Result<Self, ThresholdError> {
        match () {
            () if !(tight.is_finite() && tight >= 1.0) => Err(ThresholdError::Tight(tight)),
            () if !(wasteful.is_finite() && wasteful >= tight) => Err(ThresholdError::Wasteful { wasteful, tight }),
            () => Ok(Self { tight, wasteful }),
        }
    }
}

/// Why two thresholds are invalid.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// The first is below 1.
    #[error("the threshold for tight is {0}, expected a number of at least 1")]
    Tight(f64),
    /// The second is below the first.
    #[error("the threshold for wasteful is {wasteful}, expected at least {tight}, the threshold for tight")]
    Wasteful {
        /// The second.
        wasteful: f64,
        /// The first.
        tight: f64,
    },
}

/// The verdict about an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Below the peak: as a limit it kills the task, as a request it lets the node run out of memory.
    TooLow,
    /// Hardly more than the peak.
    Tight,
    /// Enough, and not much more.
    Ok,
    /// Much more than the peak.
    Wasteful,
    /// The run reached its limit, so its need is unknown; the amount is not known to be too low.
    Censored,
    /// The peak is a lower bound, and nothing shows that the run stayed below the amount.
    NotVerified,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TooLow => "too low",
            Self::Tight => "tight",
            Self::Ok => "ok",
            Self::Wasteful => "wasteful",
            Self::Censored => "censored",
            Self::NotVerified => "not verified",
        })
    }
}

/// The recipient and kind of an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The limit of a Docker container.
    DockerLimit,
    /// The limit of a Kubernetes pod.
    KubernetesLimit,
    /// The request of a Kubernetes pod.
    KubernetesRequest,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DockerLimit => "Docker limit",
            Self::KubernetesLimit => "Kubernetes limit",
            Self::KubernetesRequest => "Kubernetes request",
        })
    }
}

/// An amount compared with the peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The recipient and kind.
    pub target: Target,
    /// The amount, on Kubernetes with margin and rounding; `null` if none is set.
    pub amount: Option<Bytes>,
    /// The amount divided by the peak; `null` without an amount or without a peak.
    pub ratio: Option<f64>,
    /// The verdict; `null` if no amount is set.
    pub verdict: Option<Verdict>,
    /// Whether the verdict would be the same if the run had used more than was seen, or if rules without a value had
    /// one.
    pub certain: bool,
}

/// All amounts of a prediction compared with the peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The peak.
    pub peak: Bytes,
    /// Whether the peak may have been higher.
    pub lower_bound: bool,
    /// An upper bound of the peak; `null` if the peak is exact or there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bytes>,
    /// Whether the run reached its limit.
    pub censored: bool,
    /// The thresholds of the verdicts.
    pub thresholds: Thresholds,
    /// Docker's limit, then Kubernetes' limit and request.
    pub amounts: Vec<Compared>,
}

impl Comparison {
    /// Compares the amounts of a prediction with the peak of a run.
    pub fn new(prediction: &Prediction, peak: ObservedPeak, thresholds: Thresholds) -> Self {
        let amounts = [
            (Target::DockerLimit, prediction.docker.limit.as_ref().map(|amount| amount.bytes)),
            (Target::KubernetesLimit, prediction.kubernetes.limit.as_ref().map(|amount| amount.bytes)),
            (Target::KubernetesRequest, prediction.kubernetes.request.as_ref().map(|amount| amount.bytes)),
        ];
        let compared = amounts.map(|(target, amount)| {
            let verdict = amount.map(|amount| thresholds.judge(amount, peak));
            // A higher peak does not improve an amount that is too low, and a rule without a value does not lower an
            // amount that is wasteful.
            let certain = match verdict {
                Some(Verdict::TooLow) => prediction.complete,
                Some(Verdict::Wasteful) => true,
                Some(Verdict::Tight | Verdict::Ok) => prediction.complete,
                Some(Verdict::Censored | Verdict::NotVerified) => false,
                None => prediction.complete,
            };
            Compared { target, amount, ratio: amount.and_then(|amount| amount.ratio(peak.bytes)), verdict, certain }
        });
        Self {
            peak: peak.bytes,
            lower_bound: peak.lower_bound,
            at_most: peak.at_most,
            censored: peak.censored,
            thresholds,
            amounts: compared.into(),
        }
    }
}

impl Thresholds {
    /// The verdict about an amount for a run with this peak. An amount equal to the peak is enough: the kernel allows
    /// it. A lower bound can show that an amount is too low; for the other verdicts its upper bound is used.
    pub fn judge(&self, amount: Bytes, peak: ObservedPeak) -> Verdict {
        let most = if peak.lower_bound { peak.at_most } else { Some(peak.bytes) };
        let (amount, seen, used) =
            (amount.0 as f64, peak.bytes.0 as f64, most.map_or(f64::INFINITY, |most| most.0 as f64));
        match () {
            () if amount < seen => Verdict::TooLow,
            () if peak.censored => Verdict::Censored,
            () if amount < used => Verdict::NotVerified,
            () if amount < self.tight * used => Verdict::Tight,
            () if amount > self.wasteful * used => Verdict::Wasteful,
            () => Verdict::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(bytes: u64) -> ObservedPeak {
        ObservedPeak { bytes: Bytes(bytes), lower_bound: false, at_most: None, censored: false }
    }

    #[test]
    fn verdicts_change_at_the_thresholds() {
        let verdict = |amount| Thresholds::default().judge(Bytes(amount), exact(1000));
        assert_eq!(verdict(0), Verdict::TooLow);
        assert_eq!(verdict(999), Verdict::TooLow);
        assert_eq!(verdict(1000), Verdict::Tight);
        assert_eq!(verdict(1049), Verdict::Tight);
        assert_eq!(verdict(1050), Verdict::Ok);
        assert_eq!(verdict(2000), Verdict::Ok);
        assert_eq!(verdict(2001), Verdict::Wasteful);
    }

    #[test]
    fn a_run_that_reached_its_limit_proves_nothing_but_too_low() {
        let censored = ObservedPeak { censored: true, ..exact(1000) };
        assert_eq!(Thresholds::default().judge(Bytes(999), censored), Verdict::TooLow);
        assert_eq!(Thresholds::default().judge(Bytes(1000), censored), Verdict::Censored);
        assert_eq!(Thresholds::default().judge(Bytes(9000), censored), Verdict::Censored);
    }

    #[test]
    fn a_lower_bound_proves_nothing_but_too_low_and_an_upper_bound_is_judged() {
        let verdict = |amount, most: Option<u64>| {
            let peak = ObservedPeak { lower_bound: true, at_most: most.map(Bytes), ..exact(1000) };
            Thresholds::default().judge(Bytes(amount), peak)
        };
        assert_eq!(
            [999, 1000, 9000].map(|amount| verdict(amount, None)),
            [Verdict::TooLow, Verdict::NotVerified, Verdict::NotVerified]
        );
        assert_eq!(
            [999, 1999, 2000, 2100, 4001].map(|amount| verdict(amount, Some(2000))),
            [Verdict::TooLow, Verdict::NotVerified, Verdict::Tight, Verdict::Ok, Verdict::Wasteful]
        );
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        assert!(Thresholds::new(1.0, 1.0).is_ok());
        assert_eq!(Thresholds::new(0.9, 2.0), Err(ThresholdError::Tight(0.9)));
        assert!(matches!(Thresholds::new(f64::NAN, 2.0), Err(ThresholdError::Tight(_))));
        assert_eq!(Thresholds::new(1.5, 1.2), Err(ThresholdError::Wasteful { wasteful: 1.2, tight: 1.5 }));
    }
}
