//! How sure it is that the next input fits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::fit::FittedRule;
use crate::model::units::Bytes;
use crate::stats::interval::{confidence, conformal_index, content, inputs_needed};

use super::holdout::Foretold;
use super::points::Points;

/// The confidence that statements are made with.
const CONFIDENCE: f64 = 0.95;
/// The shares of further inputs that people ask for.
const CONTENTS: [f64; 3] = [0.90, 0.95, 0.99];

/// What the number of inputs supports, if further ones come from where these came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Headroom {
    /// Distinct inputs.
    pub inputs: usize,
    /// Of these, so many lie above the rule.
    pub exceeded: usize,
    /// Numbers that were fitted: 1 for a floor or growth alone, 2 for both.
    pub parameters: usize,
    /// At least this share of further inputs fits, with 95 % confidence.
    pub content: f64,
    /// How confident one can be that 95 % of further inputs fit.
    pub confidence_95: f64,
    /// So many more distinct inputs, none of them above the rule, are needed for 95 % with 95 % confidence.
    pub more_needed: usize,
    /// Factors on the rule that cover the next input with a probability of their own.
    pub conformal: Vec<Conformal>,
}

/// A factor on the rule that covers the next input.
///
/// From the scores peak / rule of inputs that a curve was not fitted to; cross-conformal as in Vovk (2015),
/// "Cross-conformal predictors".
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Conformal {
    /// The probability that the next input fits.
    pub content: f64,
    /// What to multiply the rule with; `None` where there are too few inputs.
    pub factor: Option<f64>,
}

pub(super) fn headroom(
    rule: &FittedRule,
    exponent: u32,
    points: &Points,
    foretold: &[Foretold],
    margin: f64,
) -> Headroom {
    let inputs = points.plain.len();
    let limit = |n: f64| rule.limit(Bytes(n as u64)).0 as f64;
    let exceeded = points.plain.iter().filter(|point| point.peak > limit(point.n)).count();
    let parameters = if exponent > 0 && rule.base_bytes > Bytes::ZERO { 2 } else { 1 };
    of(inputs, exceeded, parameters, foretold, margin)
}

/// What so many inputs support, of which so many lie above a rule with so many fitted numbers.
pub(super) fn of(inputs: usize, exceeded: usize, parameters: usize, foretold: &[Foretold], margin: f64) -> Headroom {
    Headroom {
        inputs,
        exceeded,
        parameters,
        content: content(CONFIDENCE, inputs, parameters, exceeded),
        confidence_95: confidence(0.95, inputs, parameters, exceeded),
        more_needed: inputs_needed(0.95, CONFIDENCE, parameters).saturating_sub(inputs),
        conformal: conformal(foretold, margin),
    }
}

fn conformal(foretold: &[Foretold], margin: f64) -> Vec<Conformal> {
    let mut one_each: BTreeMap<usize, f64> = BTreeMap::new();
    for one in foretold {
        one_each.entry(one.place).or_insert(one.peak / (one.limit * margin).max(1.0));
    }
    let mut scores: Vec<f64> = one_each.into_values().collect();
    scores.sort_by(f64::total_cmp);
    let factor = |content| conformal_index(scores.len(), content).map(|index| scores[index]);
    CONTENTS.iter().map(|&content| Conformal { content, factor: factor(content) }).collect()
}
