//! Model selection: picks predictor, exponent and shape by held-out cost.

use crate::stats::trend::kendall_score;

use super::holdout::{self, Care, HeldOutPrediction, Margin};
use super::points::{Point, Points};
use super::shape::Shape;
use super::{FEWEST_INPUTS, FitOptions, GROWTH_MUST_GAIN, coordinates};

/// A rule that grows requires a rank correlation of sizes and peaks of at least this standard normal score. Chance
/// exceeds it once in 15 tasks; three inputs in perfect order reach 1.57.
const GROWTH_MUST_SCORE: f64 = 1.5;
/// A less usual predictor has to cost this share less than a more usual one. Sizes of one input are alike: a choice
/// among many for a small gain makes more of the further runs fail.
const MEASURE_MUST_GAIN: f64 = 0.2;
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
    /// A predictor that costs less than the chosen one, but rises together with it.
    pub(super) rises_with: Option<usize>,
}

/// The exponents that a rule can have.
pub(super) fn exponents(options: &FitOptions) -> Vec<f64> {
    (0..=options.max_exponent.min(3)).map(f64::from).collect()
}

/// Compares every predictor, exponent (`powers`) and shape; `None` if no predictor has enough sizes.
pub(super) fn choose(by_predictor: &[Points], powers: &[f64], options: &FitOptions) -> Option<Choice> {
    let care = options.objective.care(options.failures);
    let (mut floor, mut growing, mut allowed): (Option<Candidate>, _, _) = (None, None, None);
    let mut rises_with = None;
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
            if let Some(known) = best.as_ref().filter(|known| known.predictor != predictor)
                && rise_together(&by_predictor[known.predictor], points)
            {
                let is_better = here.power > 0.0 && is_clearly_better(&here, known, care);
                rises_with = rises_with.or(is_better.then_some(predictor));
                continue;
            }
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
    Some(Choice { best, growth_gain, constant_cost, rises_with })
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
    if best.as_ref().is_none_or(|best| is_clearly_better(&candidate, best, care)) {
        *best = Some(candidate);
    }
}

fn is_clearly_better(candidate: &Candidate, best: &Candidate, care: Care) -> bool {
    let honest = |candidate: &Candidate| holdout::honest_cost(&candidate.predictions, care).unwrap_or(f64::INFINITY);
    let least = 1.0 - MEASURE_MUST_GAIN;
    candidate.margin.cost < best.margin.cost * least && honest(candidate) < honest(best) * least
}

/// Whether two predictors order the inputs in the same way. If the sum of the files is larger wherever the largest file
/// is, no run shows which of them the memory follows.
fn rise_together(one: &Points, other: &Points) -> bool {
    let sizes = |points: &Points| -> Vec<f64> {
        let mut points: Vec<&Point> = points.uncensored.iter().collect();
        points.sort_by_key(|point| point.input);
        points.iter().map(|point| point.n).collect()
    };
    let mut pairs: Vec<(f64, f64)> = sizes(one).into_iter().zip(sizes(other)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    pairs.windows(2).all(|pair| (pair[0].0 < pair[1].0) == (pair[0].1 < pair[1].1))
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
