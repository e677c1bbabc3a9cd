//! What a number of runs supports: content, confidence, and how many more are needed.
//!
//! A rule that lies above all of N independent inputs and has d fitted coefficients leaves a share of more than ε of
//! the further inputs above it with a probability of at most
//!
//! ```text
//! Σ (i < d) C(N, i) · εⁱ · (1 − ε)^(N − i)
//! ```
//!
//! (Campi and Garatti 2008, "The exact feasibility of randomized solutions of uncertain convex programs"). With d = 1
//! this is Wilks' bound for the maximum of a sample (1941), 1 − pᴺ ≥ γ. If the rule lies below r of the inputs, d
//! becomes r + d and the sum is multiplied by C(r + d − 1, r) (Campi and Garatti 2011, "A sampling-and-discarding
//! approach to chance-constrained optimization").

/// The confidence that a rule holds for the share `content` of further inputs: between 0 and 1.
///
/// `inputs` is the number of distinct inputs measured, `parameters` that of fitted coefficients, `exceeded` that of
/// inputs above the rule.
pub fn confidence(content: f64, inputs: usize, parameters: usize, exceeded: usize) -> f64 {
    if inputs == 0 || content >= 1.0 {
        return 0.0;
    }
    if content <= 0.0 {
        return 1.0;
    }
    let supports = exceeded + parameters.max(1);
    if supports > inputs {
        return 0.0;
    }
    let choices: f64 = (0..exceeded).map(|i| ((supports - 1 - i) as f64 / (i + 1) as f64).ln()).sum();
    (1.0 - (choices + ln_lower_tail(inputs, supports, 1.0 - content)).exp()).clamp(0.0, 1.0)
}

/// The logarithm of the probability of fewer than `below` hits in `count` tries that each hit with `chance`.
fn ln_lower_tail(count: usize, below: usize, chance: f64) -> f64 {
    let odds = (chance / (1.0 - chance)).ln();
    let mut term = count as f64 * (1.0 - chance).ln();
    let mut sum = term;
    for hits in 1..below.min(count + 1) {
        term += ((count - hits + 1) as f64 / hits as f64).ln() + odds;
        // ln(eᵃ + eᵇ) without overflow.
        let (large, small) = if sum > term { (sum, term) } else { (term, sum) };
        sum = large + (small - large).exp().ln_1p();
    }
    sum
}

/// The share of further inputs that the rule holds for with this confidence: the inverse of [`confidence`].
pub fn content(confidence_asked: f64, inputs: usize, parameters: usize, exceeded: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if confidence(middle, inputs, parameters, exceeded) >= confidence_asked {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The number of distinct inputs that a rule above all of them needs for this content and confidence, both below 1.
pub fn inputs_needed(content: f64, confidence_asked: f64, parameters: usize) -> usize {
    let enough = |inputs: usize| confidence(content, inputs, parameters, 0) >= confidence_asked;
    let mut high = 1;
    while !enough(high) && high < 1 << 24 {
        high *= 2;
    }
    let mut low = high / 2;
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The index of the lowest of `count` ascending scores that covers the next one with probability `content`. `None` with
/// too few: 9 are needed for 90 %, 19 for 95 %, 99 for 99 %.
///
/// Split conformal prediction: Vovk, Gammerman and Shafer (2005), "Algorithmic learning in a random world".
pub fn conformal_index(count: usize, content: f64) -> Option<usize> {
    // Slightly below, because 0.9 · 10 would be rounded up from 9.000000000000002.
    let rank = ((count + 1) as f64 * content - 1e-9).ceil() as usize;
    (1..=count).contains(&rank).then(|| rank - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fitted_number_needs_as_many_inputs_as_wilks_says() {
        assert_eq!(inputs_needed(0.90, 0.95, 1), 29);
        assert_eq!(inputs_needed(0.95, 0.95, 1), 59);
        assert_eq!(inputs_needed(0.99, 0.95, 1), 299);
    }

    #[test]
    fn two_fitted_numbers_need_more() {
        assert_eq!(inputs_needed(0.95, 0.95, 2), 93);
    }

    #[test]
    fn content_and_confidence_are_inverse() {
        for (inputs, parameters, exceeded) in [(20, 1, 0), (59, 2, 0), (1000, 2, 7), (100_000, 2, 5000)] {
            let p = content(0.95, inputs, parameters, exceeded);
            assert!((confidence(p, inputs, parameters, exceeded) - 0.95).abs() < 1e-6, "{p}");
        }
    }

    #[test]
    fn what_lies_above_the_rule_costs_confidence() {
        assert!(confidence(0.9, 50, 1, 1) < confidence(0.9, 50, 1, 0));
        assert_eq!(confidence(0.9, 1, 2, 0), 0.0);
        assert_eq!(confidence(0.9, 0, 1, 0), 0.0);
    }

    #[test]
    fn conformal_scores_need_their_number() {
        assert_eq!(conformal_index(8, 0.9), None);
        assert_eq!(conformal_index(9, 0.9), Some(8));
        assert_eq!(conformal_index(18, 0.95), None);
        assert_eq!(conformal_index(19, 0.95), Some(18));
        assert_eq!(conformal_index(99, 0.99), Some(98));
        assert_eq!(conformal_index(100, 0.9), Some(90));
    }
}
