//! What a curve is worth on inputs that it was not fitted to, and the margin that follows from it.

use crate::model::fit::Form;

use super::points::Point;
use super::shape::{Curve, Datum, Shape, raise, raised};

/// The sizes are divided into so many parts, each of them left out once in a round.
const PARTS: usize = 5;
/// Beside the rounds the largest fifth is left out, as often as this: rules are used on larger inputs than measured.
const LARGEST_LEFT_OUT: usize = 2;

/// In so many parts margins are chosen on one part of the points and judged on the other.
const FOLDS: usize = 10;

/// Which points are left out together, by their places. The points are in ascending order of size; `inputs` names each of
/// them, so that the same inputs are left out together by whatever size they are ordered.
pub(super) fn splits(inputs: &[usize]) -> Vec<Vec<usize>> {
    let count = inputs.len();
    if count < 2 {
        return Vec::new();
    }
    // Few points are divided in many ways, so that the result does not hang on one of them.
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
    splits.extend(vec![(largest..count).collect(); LARGEST_LEFT_OUT]);
    splits
}

/// A number that looks like chance and is always the same: SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn scrambled(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a curve said about a point it had not seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Foretold {
    /// The place of the point.
    pub(super) place: usize,
    /// What the curve gave it, in bytes.
    pub(super) limit: f64,
    /// What it needed, in bytes.
    pub(super) peak: f64,
    /// In seconds.
    pub(super) wall: f64,
}

/// Fits the shape without each part in turn and asks it for the points of the part.
pub(super) fn foretell(
    shape: Shape,
    form: Form,
    exponent: u32,
    points: &[Point],
    splits: &[Vec<usize>],
) -> Vec<Foretold> {
    let mut foretold = Vec::new();
    let mut near = None;
    for held in splits {
        let mut is_held = vec![false; points.len()];
        for &place in held {
            is_held[place] = true;
        }
        let seen: Vec<Point> =
            points.iter().zip(&is_held).filter(|(_, is_held)| !**is_held).map(|(point, _)| *point).collect();
        let largest = seen.iter().map(|point| point.n).fold(0.0, f64::max);
        // Most curves have seen nearly the same points.
        if let Some(curve) = shape.fit(form, exponent > 0, &raised(&seen, exponent, largest), near) {
            near = Some(curve);
            foretold.extend(held.iter().map(|&place| {
                let Point { n, peak, wall, .. } = points[place];
                Foretold { place, limit: curve.at(raise(n, exponent, largest)), peak, wall }
            }));
        }
    }
    foretold
}

/// How careful to be: what a failure costs beside its waste, and how far the next run may be from those seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Care {
    /// The price of a failed run, in units of what an average run occupies.
    pub(super) failure_price: f64,
    /// How far a further run may lie from a seen one, in units of how far the seen ones lie above their middle.
    pub(super) widening: f64,
    /// How far two runs of nearly constant need may differ all the same: a share of the peak.
    pub(super) jitter: f64,
}

/// The margin that is best for a shape, and what it then costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margin {
    /// Base and slope are multiplied with this.
    pub(super) factor: f64,
    /// Waste and price of failures, in byte-seconds per foretold point.
    pub(super) cost: f64,
}

/// The factors that are tried: 0.3 to 4, close together around 1.
fn factors() -> impl Iterator<Item = f64> {
    const ABOVE: [f64; 26] = [
        0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.22, 0.26, 0.3, 0.35, 0.4,
        0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0,
    ];
    (0..41).map(|step| 0.3 * 1.03_f64.powi(step)).chain(ABOVE.into_iter().map(|share| 1.0 + share))
}

/// Quantiles of the Laplace distribution with deviation 1, at eight evenly spread probabilities: a further run lies as
/// often above a seen one as below, mostly near it and now and then far away.
const NEIGHBOURS: [f64; 8] = [-1.470, -0.694, -0.332, -0.094, 0.094, 0.332, 0.694, 1.470];

/// Chooses the margin that costs least on the foretold points and their neighbourhood.
pub(super) fn margin(foretold: &[Foretold], care: Care) -> Option<Margin> {
    let costs = Costs::new(foretold, foretold, care);
    factors().map(|factor| Margin { factor, cost: costs.at(factor) }).min_by(|a, b| a.cost.total_cmp(&b.cost))
}

/// What the foretold points cost where the margin for each is chosen on others. What [`margin`] says flatters curves whose
/// large margin happens to meet the few points that weigh most.
pub(super) fn honest_cost(foretold: &[Foretold], care: Care) -> Option<f64> {
    let folds = FOLDS.min(foretold.iter().map(|one| one.place + 1).max()?);
    let mut cost = 0.0;
    for fold in 0..folds {
        let (own, others): (Vec<Foretold>, Vec<Foretold>) = foretold.iter().partition(|one| one.place % folds == fold);
        if own.is_empty() {
            continue;
        }
        let chosen_by = Costs::new(&others, foretold, care);
        let factor = factors().min_by(|a, b| chosen_by.at(*a).total_cmp(&chosen_by.at(*b)))?;
        cost += Costs::new(&own, foretold, care).at(factor) * own.len() as f64;
    }
    Some(cost / foretold.len() as f64)
}

/// What points cost for any factor on what a curve gave them.
struct Costs {
    needs: Needs,
    /// What a failure costs beside its waste.
    price: f64,
    points: f64,
}

impl Costs {
    /// Of `some` points, each with the neighbourhood that all of them suggest.
    fn new(some: &[Foretold], all: &[Foretold], care: Care) -> Self {
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

    /// Byte-seconds for each point.
    fn at(&self, factor: f64) -> f64 {
        let (wasted, failed) = self.needs.at(factor);
        (wasted / NEIGHBOURS.len() as f64 + self.price * failed) / self.points
    }
}

/// What many runs need, in units of what a curve gives them: waste and failures of all of them for any factor on the
/// curve, in a few look-ups.
struct Needs {
    /// Peak / limit, ascending.
    ratios: Vec<f64>,
    /// limit · wall of all runs before this place.
    weight: Vec<f64>,
    /// peak · wall of all runs before this place.
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

    /// The waste for this factor on all limits, and the share of runs that fail at first.
    ///
    /// A run that fits after j failed tries wastes wall · ((2^(j+1) − 1) · limit − peak), see [`waste`](super::waste()).
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

/// How far the upper half of the relative residuals lies above their middle, on average.
fn upper_spread(foretold: &[Foretold]) -> f64 {
    let mut residuals: Vec<f64> = foretold.iter().map(|one| (one.peak / one.limit.max(1.0)).ln()).collect();
    residuals.sort_by(f64::total_cmp);
    let upper = &residuals[residuals.len() / 2..];
    match upper.first() {
        Some(middle) => upper.iter().map(|residual| residual - middle).sum::<f64>() / upper.len() as f64,
        None => 0.0,
    }
}

/// The points of one split or of all data as [`Datum`], for a curve over their largest size.
pub(super) fn whole(shape: Shape, form: Form, exponent: u32, points: &[Point]) -> Option<(Curve, f64)> {
    let largest = points.iter().map(|point| point.n).fold(0.0, f64::max);
    let data: Vec<Datum> = raised(points, exponent, largest);
    shape.fit(form, exponent > 0, &data, None).map(|curve| (curve, largest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::fit::waste;

    #[test]
    fn every_point_is_left_out_equally_often_and_the_largest_more() {
        for count in [3, 4, 5, 6, 20, 100, 1000] {
            let mut left_out = vec![0; count];
            for place in splits(&(0..count).collect::<Vec<_>>()).into_iter().flatten() {
                left_out[place] += 1;
            }
            let least = left_out[0];
            assert!(least >= 1);
            assert!(left_out.iter().all(|times| *times == least || *times == least + LARGEST_LEFT_OUT), "{left_out:?}");
            assert_eq!(left_out[count - 1], least + LARGEST_LEFT_OUT);
        }
    }

    #[test]
    fn the_same_inputs_are_left_out_together_in_any_order() {
        let (ordered, shuffled) = ([0, 1, 2, 3, 4, 5, 6], [3, 1, 6, 0, 2, 5, 4]);
        let named = |inputs: &[usize]| -> Vec<Vec<usize>> {
            let mut splits = splits(inputs);
            splits.truncate(splits.len() - LARGEST_LEFT_OUT);
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
        let foretold = vec![Foretold { place: 0, limit: 100.0, peak: 100.0, wall: 1.0 }; 20];
        let care = Care { failure_price: 3.0, widening: 0.05, jitter: 0.003 };
        let margin = margin(&foretold, care).unwrap();
        assert!((1.0..1.03).contains(&margin.factor), "{margin:?}");
    }

    #[test]
    fn more_care_never_makes_the_margin_smaller() {
        let foretold: Vec<Foretold> =
            (0..40).map(|place| Foretold { place, limit: 100.0, peak: 60.0 + place as f64, wall: 1.0 }).collect();
        let factor =
            |failure_price| margin(&foretold, Care { failure_price, widening: 0.1, jitter: 0.002 }).unwrap().factor;
        assert!(factor(1.0) <= factor(4.0) && factor(4.0) <= factor(20.0));
    }
}
