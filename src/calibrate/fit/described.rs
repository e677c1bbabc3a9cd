//! The need as base plus growth, and the rule that covers it beyond the largest input that was measured.
//!
//! Most programs need a base and, on top of it, memory that grows with the input. A rule of the Task API is the larger
//! of the two instead. On the inputs measured, and with a margin, such a rule can look as good as any while larger inputs
//! outgrow it: where the sum describes held-out inputs clearly better, it says what larger inputs need.

use crate::model::fit::Form;
use crate::model::units::Bytes;

use super::FitOptions;
use super::choose::{Candidate, Choice, choose, representatives};
use super::holdout::{self, HeldOutPrediction};
use super::points::{Point, Points};
use super::result::Need;
use super::shape::{Curve, Shape, raise};
use super::waste::waste;

/// The exponents of the growth. Programs that sort, or keep an index, lie between the whole ones.
const POWERS: [f64; 7] = [0.0, 0.5, 1.0, 1.25, 1.5, 2.0, 3.0];
/// The sum has to cost less than this share of what the rule costs on held-out inputs …
const MUST_COST: f64 = 0.5;
/// … and of few sizes, which chance can arrange, less than this.
const MUST_COST_IF_FEW: f64 = 0.3;
/// Fewer sizes than this are few.
const FEW_SIZES: usize = 5;
/// The rule has to be enough for inputs this many times the largest one measured.
const BEYOND: [f64; 5] = [1.25, 1.5, 2.0, 3.0, 4.0];
/// … and for this many sizes between the smallest and the largest one.
const BETWEEN: i32 = 64;
/// The waste on all larger inputs weighs this much beside that on the measured ones.
const WEIGHT_BEYOND: f64 = 0.1;

/// A need as base plus growth.
pub(super) struct Described {
    /// The best sum.
    pub(super) best: Candidate,
    /// What it saves on held-out inputs compared with a constant: a share of the cost.
    pub(super) growth_gain: f64,
}

/// Describes the need as base plus growth; `None` if the chosen rule is about as good, or a constant is.
pub(super) fn describe(by_predictor: &[Points], options: &FitOptions, rule: &Choice) -> Option<Described> {
    if options.form != Form::Max || options.max_exponent == 0 {
        return None;
    }
    let sum = choose(by_predictor, &POWERS, &FitOptions { form: Form::Sum, ..*options })?;
    let is_few = by_predictor.get(sum.best.predictor)?.distinct_sizes() < FEW_SIZES;
    let most = if is_few { MUST_COST_IF_FEW } else { MUST_COST } * rule.best.margin.cost;
    (sum.best.power > 0.0 && sum.best.margin.cost < most).then(|| Described {
        growth_gain: 1.0 - sum.best.margin.cost / sum.constant_cost.max(f64::MIN_POSITIVE),
        best: sum.best,
    })
}

impl Described {
    /// The need of an input of n bytes; `None` without points.
    pub(super) fn need(&self, points: &[Point]) -> Option<impl Fn(f64) -> f64 + use<>> {
        let (need, largest) = holdout::whole(self.best.shape, Form::Sum, self.best.power, points)?;
        let power = self.best.power;
        Some(move |n| need.at(raise(n, power, largest)))
    }

    /// The need as base and growth, for people.
    pub(super) fn in_words(&self, points: &[Point]) -> Option<Need> {
        let (need, largest) = holdout::whole(self.best.shape, Form::Sum, self.best.power, points)?;
        let coefficient = need.slope / largest.powf(self.best.power);
        Some(Need { base_bytes: Bytes(need.base.max(0.0) as u64), coefficient, exponent: self.best.power })
    }

    /// The rule that covers the need of these points and of larger inputs with the least waste, with its exponent and
    /// the size that its slope refers to. It has no margin.
    pub(super) fn covering(&self, points: &[Point], options: &FitOptions) -> Option<(Curve, u32, f64)> {
        let need = self.need(points)?;
        let largest = points.iter().map(|point| point.n).fold(0.0, f64::max);
        let smallest = points.iter().map(|point| point.n).fold(largest, f64::min).max(1.0);
        let wall: f64 = points.iter().map(|point| point.wall).sum();
        let mut all: Vec<Point> = points.iter().map(|point| Point { peak: need(point.n), ..*point }).collect();
        all.extend(BEYOND.map(|far| Point {
            input: usize::MAX,
            n: far * largest,
            peak: need(far * largest),
            wall: WEIGHT_BEYOND * wall / BEYOND.len() as f64,
        }));
        // Between measured sizes the need has to be covered, too. These points weigh nothing.
        let step = (largest / smallest).powf(1.0 / f64::from(BETWEEN));
        all.extend((0..=BETWEEN).map(|place| {
            let n = smallest * step.powi(place);
            Point { input: usize::MAX, n, peak: need(n), wall: 0.0 }
        }));
        let cost = |curve: Curve, exponent: u32, largest: f64| -> f64 {
            let limit = |n| curve.at(raise(n, f64::from(exponent), largest)) * (1.0 + 1e-9);
            all.iter().map(|point| waste(limit(point.n), point.peak, point.wall)).sum()
        };
        let curves = (0..=options.max_exponent.min(3)).filter_map(|exponent| {
            let (curve, largest) = holdout::whole(Shape::Envelope, Form::Max, f64::from(exponent), &all)?;
            Some((cost(curve, exponent, largest), curve, exponent, largest))
        });
        let (_, curve, exponent, largest) = curves.min_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((curve, exponent, largest))
    }

    /// What the covering rule gives to held-out points, without a margin.
    pub(super) fn predictions(&self, points: &Points, options: &FitOptions) -> Vec<HeldOutPrediction> {
        let some = representatives(&points.uncensored);
        let inputs: Vec<usize> = some.iter().map(|point| point.input).collect();
        holdout::predict_with(&some, &holdout::splits(&inputs), |seen| {
            let (curve, exponent, largest) = self.covering(seen, options)?;
            Some(move |n| curve.at(raise(n, f64::from(exponent), largest)))
        })
    }
}
