//! Larger inputs than were measured: what the rule gives them, and up to which size it is enough.

use serde::Serialize;

use crate::model::fit::{FittedRule, Form};
use crate::model::units::Bytes;

use super::described::Described;
use super::points::{Point, Points};
use super::result::Evidence;
use super::shape::{Curve, raise};

/// Sizes and peaks rise together if their rank correlation reaches this standard normal score. By chance, one task in
/// four does.
const RISES: f64 = 0.7;
/// … and if the need grows by this share up to the largest input.
const RISES_BY: f64 = 0.02;
/// Such a rule grows in proportion to n from here on, relative to the largest input. In that range it gives inputs about
/// as large as those measured no more than before.
const GROWS_FROM: f64 = 1.1;
/// Nothing is said about inputs larger than this, relative to the largest one measured.
pub(in crate::calibrate) const FARTHEST: f64 = 4.0;
/// The sizes to try, each this much larger than the one before.
const STEP: f64 = 1.01;

/// The sizes up to which a rule is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Inputs up to this size fit into the limit.
    pub limit: Bytes,
    /// Inputs up to this size typically need no more than the request.
    pub request: Bytes,
    /// Whether the limit is enough for all sizes that can be judged: up to 4 times the largest one measured.
    pub all_judged: bool,
}

/// The curve, its exponent, and the size that its slope refers to, with growth beyond the largest input if sizes and
/// peaks rise together but not so clearly that the growth was worth its cost on the measured inputs.
pub(super) fn beyond(
    (curve, exponent, largest): (Curve, u32, f64),
    points: &Points,
    evidence: &Evidence,
) -> (Curve, u32, f64) {
    let top = points.uncensored.last().map_or(0.0, |point| point.n);
    let at_top = curve.at(raise(top, f64::from(exponent), largest));
    let grows = exponent > 0 && curve.base < at_top;
    let rises =
        evidence.rank_score >= RISES && evidence.slope.is_some_and(|slope| slope.estimate * top >= RISES_BY * at_top);
    if curve.form != Form::Max || grows || !rises {
        return (curve, exponent, largest);
    }
    (Curve { base: at_top, slope: at_top / GROWS_FROM, ..curve }, 1, top)
}

/// Up to which size the rule and the request are enough.
///
/// The need is the described one. Where the runs do not describe it, it is that of a typical run, and beyond the largest
/// input it grows by the upper end of the slope's confidence interval.
pub(super) fn reach(
    rule: &FittedRule,
    request: &FittedRule,
    described: Option<&Described>,
    points: &Points,
    evidence: &Evidence,
) -> Option<Reach> {
    let (smallest, largest) = (points.uncensored.first()?.n, points.uncensored.last()?.n);
    let steepest = evidence.slope.map_or(0.0, |slope| slope.high).max(0.0);
    let typical = |n: f64| request.limit(Bytes(n as u64)).0 as f64;
    // Where the consumer can add, the rule for a typical run is base plus growth itself.
    let steepest = if rule.form == Form::Sum { 0.0 } else { steepest };
    let sum = described.and_then(|described| described.need(&points.uncensored));
    let need = |n: f64| match &sum {
        Some(sum) => sum(n),
        None => typical(n).max(typical(n.min(largest)) + steepest * (n - largest).max(0.0)),
    };
    // If the largest inputs were measured to need more, the limit is not enough for them.
    let needs_more = |point: &&Point| rule.limit(Bytes(point.n as u64)).0 < point.peak as u64;
    let covered = points.uncensored.len() - points.uncensored.iter().rev().take_while(needs_more).count();
    let measured: Vec<f64> = points.uncensored.iter().map(|point| point.n).collect();
    let up_to = |rule: &FittedRule| {
        let is_enough = |n: f64| rule.limit(Bytes(n as u64)).0 as f64 * (1.0 + 1e-6) >= need(n);
        enough_up_to(&measured, covered, is_enough)
    };
    let (limit, request) = (up_to(rule), up_to(request));
    (limit >= smallest).then_some(Reach {
        limit: Bytes(limit as u64),
        request: Bytes(request as u64),
        all_judged: limit >= largest * FARTHEST,
    })
}

/// The largest size up to which every size is enough; 0 if not even the smallest is. `measured` is in ascending order, and
/// the first `covered` of them were not measured to need more. If that is all of them, larger sizes are tried, too.
pub(in crate::calibrate) fn enough_up_to(measured: &[f64], covered: usize, is_enough: impl Fn(f64) -> bool) -> f64 {
    let largest = measured.last().copied().unwrap_or(0.0);
    let sizes = std::iter::successors(Some(largest.max(1.0)), |n| Some(n * STEP));
    let larger = sizes.take_while(|n| *n < largest * FARTHEST).chain([largest * FARTHEST]);
    let larger = larger.filter(|_| covered == measured.len());
    measured.iter().take(covered).copied().chain(larger).take_while(|n| is_enough(*n)).fold(0.0, f64::max)
}
