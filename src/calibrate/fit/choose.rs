//! Model selection: picks predictor, exponent and shape by held-out cost.

use crate::stats::trend::kendall_score;

use super::holdout::{self, Care, HeldOutPrediction, Margin};
use super::points::{Point, Points};
use super::shape::Shape;
use super::{FEWEST_INPUTS, FitOptions, GROWTH_MUST_GAIN, coordinates};

/// A rule that grows requires a rank correlation of sizes and peaks of at least this standard normal score. Chance
/// exceeds it once in 15 tasks; three inputs in perfect order reach 1.57.
const GROWTH_MUST_SCORE: f64 = 1.5;
/// A less usual predictor has to cost this share less than a more usual one: sizes of one input are alike.
const MEASURE_MUST_GAIN: f64 = 0.03;
/// If there are more points, this many represent them while candidates are compared.
const MOST_POINTS: usize = 1500;

/// A curve with its margin.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) predictor: usize,
    /// The exponent of n.
    pub(super) power: f64,
    pub(super) shape: Shape,
    pub(super) margin: Margin,
    /// Its predictions for held-out points, without the margin.
    pub(super) predictions: Vec<HeldOutPrediction>,
}

/// The best candidate.
pub(super) struct Choice {
    pub(super) best: Candidate,
    pub(super) growth_gain: Option<f64>,
    /// The cost of the best constant.
    pub(super) constant_cost: f64,
}

/// The exponents that a rule can have.
pub(super) fn exponents(options: &FitOptions) -> Vec<f64> {
    (0..=options.max_exponent.min(3)).map(f64::from).collect()
}

/// Compares every predictor, exponent (`powers`) and shape; `None` if no predictor has enough sizes.
pub(super) fn choose(by_predictor: &[Points], powers: &[f64], options: &FitOptions) -> Option<Choice> {
    let care = options.objective.care(options.failures);
    let (mut floor, mut growing, mut allowed): (Option<Candidate>, _, _) = (None, None, None);
    for (predictor, points) in by_predictor.iter().enumerate() {
        let (mut floor_here, mut growing_here, mut allowed_here) = (None, None, None);
        if points.distinct_sizes() < FEWEST_INPUTS {
            continue;
        }
        let some = representatives(&points.uncensored);
        let inputs: Vec<usize> = some.iter().map(|point| point.input).collect();
        let splits = holdout::splits(&inputs);
        let ranked = kendall_score(&coordinates(&some)) >= GROWTH_MUST_SCORE;
        for &power in powers {
            for shape in Shape::ALL {
                let predictions = holdout::predict(shape, options.form, power, &some, &splits);
                let Some(margin) = holdout::margin(&predictions, care) else { continue };
                let candidate = Candidate { predictor, power, shape, margin, predictions };
                if power == 0.0 {
                    keep_cheaper(&mut floor_here, candidate);
                } else {
                    if ranked {
                        keep_cheaper(&mut allowed_here, candidate.clone());
                    }
                    keep_cheaper(&mut growing_here, candidate);
                }
            }
        }
        let all = [(&mut floor, floor_here), (&mut growing, growing_here), (&mut allowed, allowed_here)];
        for (best, here) in all {
            let Some(here) = here else { continue };
            keep_measure(best, here, care);
        }
    }
    let floor = floor?;
    let constant_cost = floor.margin.cost;
    let growth_gain = growing.map(|growing| 1.0 - growing.margin.cost / constant_cost.max(f64::MIN_POSITIVE));
    let best = match allowed {
        Some(allowed) if allowed.margin.cost * (1.0 + GROWTH_MUST_GAIN) < floor.margin.cost => allowed,
        Some(_) | None => floor,
    };
    Some(Choice { best, growth_gain, constant_cost })
}

/// Replaces the best candidate with the same predictor if this one costs less.
fn keep_cheaper(best: &mut Option<Candidate>, candidate: Candidate) {
    if best.as_ref().is_none_or(|best| candidate.margin.cost < best.margin.cost) {
        *best = Some(candidate);
    }
}

/// Replaces the best candidate if this one has a clearly better predictor, and not only a margin that was chosen on its
/// test data.
fn keep_measure(best: &mut Option<Candidate>, candidate: Candidate, care: Care) {
    let honest = |candidate: &Candidate| holdout::honest_cost(&candidate.predictions, care).unwrap_or(f64::INFINITY);
    let least = 1.0 - MEASURE_MUST_GAIN;
    let is_better = best.as_ref().is_none_or(|best| {
        candidate.margin.cost < best.margin.cost * least && honest(&candidate) < honest(best) * least
    });
    if is_better {
        *best = Some(candidate);
    }
}

/// All points, or as many as can be compared in reasonable time: spread evenly over the sizes, including the largest
/// peak.
pub(super) fn representatives(points: &[Point]) -> Vec<Point> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let last = points.len() - 1;
    let mut places: Vec<usize> = (0..MOST_POINTS).map(|place| place * last / (MOST_POINTS - 1)).collect();
    let highest = (0..points.len()).max_by(|a, b| points[*a].peak.total_cmp(&points[*b].peak));
    places.extend(highest);
    places.sort_unstable();
    places.dedup();
    places.into_iter().map(|place| points[place]).collect()
}
