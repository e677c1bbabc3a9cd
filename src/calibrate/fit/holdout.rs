//! Cross-validation: the cost of a curve on held-out inputs, and the margin that follows from it.

use crate::model::fit::Form;

use super::points::Point;
use super::shape::{Curve, Datum, Shape, raise, raised};

/// The sizes are divided into this many parts, each of which is held out once per round.
const PARTS: usize = 5;
/// In addition, the largest fifth is held out this many times, because rules are used on larger inputs than measured.
const LARGEST_HELD_OUT: usize = 2;

/// Number of folds: margins are chosen on the other points and judged on one fold.
const FOLDS: usize = 10;

/// The indices of points to hold out together. The points are sorted by size; `inputs` identifies each of them, so that
/// the same inputs are held out together whatever size they are sorted by.
pub(super) fn splits(inputs: &[usize]) -> Vec<Vec<usize>> {
    let count = inputs.len();
    if count < 2 {
        return Vec::new();
    }
    // Few points are split in many ways, so that the result does not depend on one split.
    let rounds: u64 = match count {
        0..=24 => 8,
        25..=64 => 4,
        65..=256 => 3,
        _ => 1,
    };
    let parts = PARTS.min(count);
    let mut splits = Vec::new();
    for round in 0..if count <= PARTS { 1 } else { rounds } {
        let mut places: Vec<usize> = (0..count).collect();
        places.sort_by_key(|place| scrambled(round << 32 | inputs[*place] as u64));
        splits.extend((0..parts).map(|part| places.iter().skip(part).step_by(parts).copied().collect()));
    }
    let largest = count - (count / PARTS).max(1);
    splits.extend(vec![(largest..count).collect(); LARGEST_HELD_OUT]);
    splits
}

/// A deterministic pseudo-random number: SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn scrambled(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The prediction of a curve for a held-out point.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldOutPrediction {
    /// The index of the point.
    pub(super) place: usize,
    /// The limit from the curve, in bytes.
    pub(super) limit: f64,
    /// The need, in bytes.
    pub(super) peak: f64,
    /// In seconds.
    pub(super) wall: f64,
}

/// Fits the shape without each part in turn and predicts the points of the part.
pub(super) fn predict(
    shape: Shape,
    form: Form,
    power: f64,
    points: &[Point],
    splits: &[Vec<usize>],
) -> Vec<HeldOutPrediction> {
    let mut near = None;
    predict_with(points, splits, |seen| {
        let largest = largest(seen);
        // Most curves are fitted to nearly the same points.
        let curve = shape.fit(form, power > 0.0, &raised(seen, power, largest), near)?;
        near = Some(curve);
        Some(move |n| curve.at(raise(n, power, largest)))
    })
}

/// Fits without each part in turn, and predicts the limits of the points of the part.
pub(super) fn predict_with<L: Fn(f64) -> f64>(
    points: &[Point],
    splits: &[Vec<usize>],
    mut fit: impl FnMut(&[Point]) -> Option<L>,
) -> Vec<HeldOutPrediction> {
    let mut predictions = Vec::new();
    for held in splits {
        let mut is_held = vec![false; points.len()];
        for &place in held {
            is_held[place] = true;
        }
        let seen: Vec<Point> =
            points.iter().zip(&is_held).filter(|(_, is_held)| !**is_held).map(|(point, _)| *point).collect();
        if let Some(limit) = fit(&seen) {
            predictions.extend(held.iter().map(|&place| {
                let Point { n, peak, wall, .. } = points[place];
                HeldOutPrediction { place, limit: limit(n), peak, wall }
            }));
        }
    }
    predictions
}

/// How careful to be: the price of a failure beside its waste, and how far the next run may deviate from those seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Care {
    /// The price of a failed run, relative to the memory-time of an average run.
    pub(super) failure_price: f64,
    /// How far a further run may deviate from a seen one, relative to the upper spread of those seen.
    pub(super) widening: f64,
    /// How far two runs of nearly constant need may differ nevertheless: a share of the peak.
    pub(super) jitter: f64,
}

/// The best margin of a shape, and its cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    /// Base and slope are multiplied by this.
    pub(super) factor: f64,
    /// Waste and price of failures, in byte-seconds per predicted point.
    pub(super) cost: f64,
}

/// The factors to try: 0.3 to 4, most closely spaced around 1.
fn factors() -> impl Iterator<Item = f64> {
    const ABOVE: [f64; 26] = [
        0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3, 0.35, 0.4,
        0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0,
    ];
    (0..41).map(|step| 0.3 * 1.03_f64.powi(step)).chain(ABOVE.into_iter().map(|share| 1.0 + share))
}

/// Quantiles of the Laplace distribution with deviation 1, at eight evenly spaced probabilities: a further run is as
/// often above a seen one as below, usually near it and occasionally far away.
const NEIGHBOURS: [f64; 8] = [-1.470, -0.694, -0.332, -0.094, 0.094, 0.332, 0.694, 1.470];

/// Chooses the margin with the lowest cost on the predicted points and their neighbourhood.
pub(super) fn margin(predictions: &[HeldOutPrediction], care: Care) -> Option<Margin> {
    let costs = Costs::new(predictions, predictions, care);
    factors().map(|factor| Margin { factor, cost: costs.at(factor) }).min_by(|a, b| a.cost.total_cmp(&b.cost))
}

/// The cost on the predicted points if the margin for each is chosen on others. The cost from [`margin`] flatters
/// curves whose large margin happens to cover the few points that weigh most.
pub(super) fn honest_cost(predictions: &[HeldOutPrediction], care: Care) -> Option<f64> {
    let folds = FOLDS.min(predictions.iter().map(|one| one.place + 1).max()?);
    let mut cost = 0.0;
    for fold in 0..folds {
        let (own, others): (Vec<HeldOutPrediction>, Vec<HeldOutPrediction>) =
            predictions.iter().partition(|one| one.place % folds == fold);
        if own.is_empty() {
            continue;
        }
        let chosen_by = Costs::new(&others, predictions, care);
        let factor = factors().min_by(|a, b| chosen_by.at(*a).total_cmp(&chosen_by.at(*b)))?;
        cost += Costs::new(&own, predictions, care).at(factor) * own.len() as f64;
    }
    Some(cost / predictions.len() as f64)
}

/// The cost of points for any factor on their predictions.
struct Costs {
    needs: Needs,
    /// The price of a failure beside its waste.
    price: f64,
    points: f64,
}

impl Costs {
    /// The costs of `some` points, each with the neighbourhood derived from all of them.
    fn new(some: &[HeldOutPrediction], all: &[HeldOutPrediction], care: Care) -> Self {
        let width = care.widening * upper_spread(all) + care.jitter;
        let nearby = NEIGHBOURS.map(|distance| (width * distance).exp());
        let occupied: f64 = all.iter().map(|one| one.peak * one.wall).sum();
        let needs = Needs::new(some.iter().flat_map(|one| {
            let limit = one.limit.max(1.0);
            nearby.map(|near| (one.peak * near / limit, limit * one.wall))
        }));
        let points = some.len() as f64;
        Self { needs, price: care.failure_price * occupied * points / all.len() as f64, points }
    }

    /// Byte-seconds per point.
    fn at(&self, factor: f64) -> f64 {
        let (wasted, failed) = self.needs.at(factor);
        (wasted / NEIGHBOURS.len() as f64 + self.price * failed) / self.points
    }
}

/// The needs of many runs relative to a curve, for computing waste and failures of all of them for any factor on the
/// curve in a few look-ups.
struct Needs {
    /// Peak / limit, ascending.
    ratios: Vec<f64>,
    /// limit · wall of all runs before this index.
    weight: Vec<f64>,
    /// peak · wall of all runs before this index.
    needed: Vec<f64>,
}

impl Needs {
    /// From pairs of peak / limit and limit · wall.
    fn new(runs: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut runs: Vec<(f64, f64)> = runs.collect();
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut weight, mut needed) = (vec![0.0], vec![0.0]);
        let (mut weights, mut needs) = (0.0, 0.0);
        for (ratio, more) in &runs {
            weights += more;
            needs += more * ratio;
            weight.push(weights);
            needed.push(needs);
        }
        Self { ratios: runs.into_iter().map(|(ratio, _)| ratio).collect(), weight, needed }
    }

    /// The waste for this factor on all limits, and the share of runs that fail on the first try.
    ///
    /// A run that fits after j failed tries wastes wall · ((2^(j+1) − 1) · limit − peak), see
    /// [`waste`](super::waste()).
    fn at(&self, factor: f64) -> (f64, f64) {
        let fitting = |factor: f64| self.ratios.partition_point(|ratio| *ratio <= factor);
        let at_once = fitting(factor);
        let (mut wasted, mut from, mut given) = (0.0, 0, factor);
        let mut doubled = factor;
        // Doubling zero, infinity or NaN would never end.
        while from < self.ratios.len() && given.is_finite() && given > 0.0 {
            let to = fitting(doubled);
            wasted += given * (self.weight[to] - self.weight[from]) - (self.needed[to] - self.needed[from]);
            from = to;
            doubled *= 2.0;
            given += doubled;
        }
        (wasted, (self.ratios.len() - at_once) as f64 / self.ratios.len().max(1) as f64)
    }
}

/// The mean deviation of the upper half of the relative residuals from their median.
pub(super) fn upper_spread(predictions: &[HeldOutPrediction]) -> f64 {
    let mut residuals: Vec<f64> = predictions.iter().map(|one| (one.peak / one.limit.max(1.0)).ln()).collect();
    residuals.sort_by(f64::total_cmp);
    let upper = &residuals[residuals.len() / 2..];
    match upper.first() {
        Some(middle) => upper.iter().map(|residual| residual - middle).sum::<f64>() / upper.len() as f64,
        None => 0.0,
    }
}

/// Fits a curve to all points as [`Datum`], scaled by their largest size; also returns that size.
pub(super) fn whole(shape: Shape, form: Form, power: f64, points: &[Point]) -> Option<(Curve, f64)> {
    let largest = largest(points);
    let data: Vec<Datum> = raised(points, power, largest);
    shape.fit(form, power > 0.0, &data, None).map(|curve| (curve, largest))
}

fn largest(points: &[Point]) -> f64 {
    points.iter().map(|point| point.n).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::fit::waste;

    #[test]
    fn every_point_is_left_out_equally_often_and_the_largest_more() {
        for count in [3, 4, 5, 6, 20, 100, 1000] {
            let mut held_out_times = vec![0; count];
            for place in splits(&(0..count).collect::<Vec<_>>()).into_iter().flatten() {
                held_out_times[place] += 1;
            }
            let least = held_out_times[0];
            assert!(least >= 1);
            assert!(
                held_out_times.iter().all(|times| *times == least || *times == least + LARGEST_HELD_OUT),
                "{held_out_times:?}"
            );
            assert_eq!(held_out_times[count - 1], least + LARGEST_HELD_OUT);
        }
    }

    #[test]
    fn the_same_inputs_are_left_out_together_in_any_order() {
        let (ordered, shuffled) = ([0, 1, 2, 3, 4, 5, 6], [3, 1, 6, 0, 2, 5, 4]);
        let named = |inputs: &[usize]| -> Vec<Vec<usize>> {
            let mut splits = splits(inputs);
            splits.truncate(splits.len() - LARGEST_HELD_OUT);
            let names = |split: Vec<usize>| split.into_iter().map(|place| inputs[place]).collect();
            splits.into_iter().map(names).collect()
        };
        assert_eq!(named(&ordered), named(&shuffled));
    }

    #[test]
    fn needs_are_summed_as_single_runs_would_be() {
        let runs: Vec<(f64, f64)> =
            (0..50).map(|place| (scrambled(place) as f64 / 2e18, 1.0 + scrambled(place + 99) as f64 / 1e19)).collect();
        let needs = Needs::new(runs.iter().copied());
        for factor in [0.01, 0.3, 1.0, 4.0, 20.0] {
            let wasted: f64 = runs.iter().map(|(ratio, weight)| weight * waste(1e9 * factor, 1e9 * ratio, 1e-9)).sum();
            let failed = runs.iter().filter(|(ratio, _)| *ratio > factor).count() as f64 / 50.0;
            let (summed, share) = needs.at(factor);
            assert!((summed - wasted).abs() < 1e-6 * wasted, "{summed} is not {wasted}");
            assert_eq!(share, failed);
        }
    }

    #[test]
    fn constant_need_gets_a_small_margin() {
        let predictions = vec![HeldOutPrediction { place: 0, limit: 100.0, peak: 100.0, wall: 1.0 }; 20];
        let care = Care { failure_price: 3.0, widening: 0.05, jitter: 0.003 };
        let margin = margin(&predictions, care).unwrap();
        assert!((1.0..1.03).contains(&margin.factor), "{margin:?}");
    }

    #[test]
    fn more_care_never_makes_the_margin_smaller() {
        let predictions: Vec<HeldOutPrediction> = (0..40)
            .map(|place| HeldOutPrediction { place, limit: 100.0, peak: 60.0 + place as f64, wall: 1.0 })
            .collect();
        let factor =
            |failure_price| margin(&predictions, Care { failure_price, widening: 0.1, jitter: 0.002 }).unwrap().factor;
        assert!(factor(1.0) <= factor(4.0) && factor(4.0) <= factor(20.0));
    }
}
