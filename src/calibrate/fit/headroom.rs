//! The probability that the next input fits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::fit::{Factor, FittedRule};
use crate::model::units::Bytes;
use crate::stats::interval::{confidence, conformal_index, content, inputs_needed};

use super::holdout::HeldOutPrediction;
use super::points::Points;

/// The confidence of statements.
const CONFIDENCE: f64 = 0.95;
/// The shares of further inputs that users ask for.
const CONTENTS: [f64; 3] = [0.90, 0.95, 0.99];

/// What the number of inputs supports, if further inputs come from the same source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Headroom {
    /// Distinct inputs.
    pub inputs: usize,
    /// Number of inputs above the rule.
    pub exceeded: usize,
    /// Number of fitted coefficients: 1 for a base or growth alone, 2 for both.
    pub parameters: usize,
    /// At least this share of further inputs fits, with 95 % confidence.
    pub content: f64,
    /// The confidence that 95 % of further inputs fit.
    pub confidence_95: f64,
    /// How many more distinct inputs below the rule are needed for 95 % with 95 % confidence.
    pub more_needed: usize,
    /// Factors on the rule that cover the next input, with their probabilities.
    pub conformal: Vec<Factor>,
}

pub(super) fn headroom(
    rule: &FittedRule,
    exponent: u32,
    points: &Points,
    predictions: &[HeldOutPrediction],
    margin: f64,
) -> Headroom {
    let inputs = points.uncensored.len();
    let limit = |n: f64| rule.limit(Bytes(n as u64)).0 as f64;
    let exceeded = points.uncensored.iter().filter(|point| point.peak > limit(point.n)).count();
    let parameters = if exponent > 0 && rule.base_bytes > Bytes::ZERO { 2 } else { 1 };
    from_counts(inputs, exceeded, parameters, predictions, margin)
}

/// The headroom of a rule with this many fitted coefficients, given the number of inputs and of those above it.
pub(super) fn from_counts(
    inputs: usize,
    exceeded: usize,
    parameters: usize,
    predictions: &[HeldOutPrediction],
    margin: f64,
) -> Headroom {
    Headroom {
        inputs,
        exceeded,
        parameters,
        content: content(CONFIDENCE, inputs, parameters, exceeded),
        confidence_95: confidence(0.95, inputs, parameters, exceeded),
        more_needed: inputs_needed(0.95, CONFIDENCE, parameters).saturating_sub(inputs),
        conformal: conformal(predictions, margin),
    }
}

/// Computed from the scores peak / rule of held-out inputs; cross-conformal as in Vovk (2015), "Cross-conformal
/// predictors".
fn conformal(predictions: &[HeldOutPrediction], margin: f64) -> Vec<Factor> {
    let mut one_each: BTreeMap<usize, f64> = BTreeMap::new();
    for one in predictions {
        one_each.entry(one.place).or_insert(one.peak / (one.limit * margin).max(1.0));
    }
    let mut scores: Vec<f64> = one_each.into_values().collect();
    scores.sort_by(f64::total_cmp);
    let factor = |content| conformal_index(scores.len(), content).map(|index| scores[index]);
    CONTENTS.iter().map(|&content| Factor { content, factor: factor(content) }).collect()
}
