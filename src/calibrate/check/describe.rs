//! Describes the needs of cells by the simplest rule.
//!
//! `fit` searches for a rule to give tasks: the cheapest one, with headroom, on the safe side if evidence is scarce.
//! Two such rules may differ a lot although the runs hardly do. Detecting a change of the task takes the opposite: the
//! rule that states what the task needs, no more and no less, with the lowest possible exponent.

use crate::model::check::thresholds::Tolerance;
use crate::model::fit::{FittedRule, Form};
use crate::model::units::Bytes;
use crate::stats::summary::{mean, spread};

/// If there are more cells, this many values of base and of coefficient are tried.
const MOST_CANDIDATES: usize = 40;
/// Significant digits of coefficients: two machines compute the same ones.
const DIGITS: usize = 6;

/// A rule, and how well it describes its cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Description {
    pub(super) rule: FittedRule,
    /// The largest relative deviation of a cell.
    pub(super) worst: f64,
    /// Whether every cell is within the tolerance.
    pub(super) fits: bool,
}

/// The simplest rule that describes sizes and medians within the tolerance; the closest if none does. `None` without
/// cells.
pub(super) fn describe(cells: &[(Bytes, Bytes)], exponents: &[u32], tolerance: &Tolerance) -> Option<Description> {
    let mut closest: Option<(f64, Description)> = None;
    for &exponent in exponents {
        for form in [Form::Max, Form::Sum] {
            let Some((loss, rule)) = best(cells, form, exponent) else { continue };
            let found = description(rule, cells, tolerance);
            if found.fits {
                return Some(found);
            }
            // A higher exponent is not worth it unless it is clearly closer.
            if closest.as_ref().is_none_or(|(least, _)| loss < 0.5 * least) {
                closest = Some((loss, found));
            }
        }
    }
    closest.map(|(_, found)| found)
}

fn description(rule: FittedRule, cells: &[(Bytes, Bytes)], tolerance: &Tolerance) -> Description {
    let distance = |(n, median): &(Bytes, Bytes)| (rule.limit(*n), *median);
    let fits = cells.iter().map(distance).all(|(said, is)| said.0.abs_diff(is.0) <= tolerance.around(said).0);
    let worst = cells.iter().map(distance).map(|(said, is)| relative(said, is).abs()).fold(0.0, f64::max);
    Description { rule, worst, fits }
}

fn relative(said: Bytes, is: Bytes) -> f64 {
    (is.0 as f64 - said.0 as f64) / said.0.max(1) as f64
}

/// The rule of this form with the least squares of relative deviations, and their sum.
fn best(cells: &[(Bytes, Bytes)], form: Form, exponent: u32) -> Option<(f64, FittedRule)> {
    let power = exponent.cast_signed();
    let floors = || spread(cells.iter().map(|(_, median)| median.0 as f64).collect(), MOST_CANDIDATES);
    let mut candidates: Vec<(f64, f64)> = Vec::new();
    match (exponent, form) {
        (0, Form::Max) => {
            let all: Vec<f64> = cells.iter().map(|(_, median)| median.0 as f64).collect();
            candidates.extend(mean(&all).map(|mean| (mean, 0.0)));
        }
        (0, Form::Sum) => {}
        (_, Form::Max) => {
            let slopes =
                cells.iter().filter(|(n, _)| n.0 > 0).map(|(n, median)| median.0 as f64 / (n.0 as f64).powi(power));
            let slopes = spread(slopes.collect(), MOST_CANDIDATES);
            let floors: Vec<f64> = [0.0].into_iter().chain(floors()).collect();
            candidates.extend(floors.iter().flat_map(|floor| slopes.iter().map(|slope| (*floor, *slope))));
        }
        (_, Form::Sum) => candidates.extend(line(cells, power)),
    }
    let rule = |(floor, slope): (f64, f64)| {
        let coefficient = format!("{slope:.DIGITS$e}").parse().unwrap_or(slope);
        FittedRule { form, base_bytes: Bytes(floor.round() as u64), coefficient, exponent }
    };
    let judged = |candidate: (f64, f64)| {
        let rule = rule(candidate);
        (cells.iter().map(|(n, median)| relative(rule.limit(*n), *median).powi(2)).sum::<f64>(), rule)
    };
    let least = |a: &(f64, FittedRule), b: &(f64, FittedRule)| a.0.total_cmp(&b.0);
    let found = candidates.into_iter().map(judged).min_by(least)?;
    let refined = refine(cells, found.1).map(judged);
    std::iter::once(found).chain(refined).min_by(least)
}

/// Base and coefficient from all cells that each of them decides, instead of from one.
fn refine(cells: &[(Bytes, Bytes)], rule: FittedRule) -> Option<(f64, f64)> {
    if rule.exponent == 0 || rule.form == Form::Sum {
        return None;
    }
    let power = rule.exponent.cast_signed();
    let growth = |n: Bytes| rule.coefficient * (n.0 as f64).powi(power);
    let is_low = |n: Bytes| growth(n) <= rule.base_bytes.0 as f64;
    let low: Vec<f64> = cells.iter().filter(|(n, _)| is_low(*n)).map(|(_, median)| median.0 as f64).collect();
    let high = cells.iter().filter(|(n, _)| !is_low(*n) && n.0 > 0);
    let high: Vec<f64> = high.map(|(n, median)| median.0 as f64 / (n.0 as f64).powi(power)).collect();
    Some((mean(&low).unwrap_or(0.0), mean(&high)?))
}

/// Intercept and slope of the weighted least-squares line over n^power: each cell counts by its relative deviation.
fn line(cells: &[(Bytes, Bytes)], power: i32) -> Option<(f64, f64)> {
    let largest = cells.iter().map(|(n, _)| n.0).max().filter(|largest| *largest > 0)? as f64;
    let (mut w, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (n, median) in cells {
        let (at, need) = ((n.0 as f64 / largest).powi(power), median.0 as f64);
        let weight = 1.0 / need.max(1.0).powi(2);
        w += weight;
        x += weight * at;
        y += weight * need;
        xx += weight * at * at;
        xy += weight * at * need;
    }
    let slope = (w * xy - x * y) / (w * xx - x * x);
    let floor = (y - slope * x) / w;
    (slope.is_finite() && slope > 0.0 && floor >= 0.0).then(|| (floor, slope / largest.powi(power)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::check::thresholds::Thresholds;

    fn tolerance() -> Tolerance {
        Thresholds::default().tolerance(Bytes::ZERO)
    }

    fn described(need: impl Fn(f64) -> f64) -> FittedRule {
        let sizes = [16_u64, 32, 64, 128, 256, 512].map(|mib| mib << 20);
        let cells: Vec<_> = sizes.iter().map(|&n| (Bytes(n), Bytes(need(n as f64) as u64))).collect();
        let found = describe(&cells, &[0, 1, 2, 3], &tolerance()).unwrap();
        assert!(found.fits, "{found:?}");
        found.rule
    }

    #[test]
    fn the_simplest_rule_that_fits_is_taken() {
        let mib = f64::from(1 << 20);
        assert_eq!(described(|_| 100.0 * mib).to_string(), "104857600");
        assert_eq!(described(|n| n.max(100.0 * mib)).to_string(), "max(104857600, 1*n)");
        assert_eq!(described(|n| 50.0 * mib + 2.0 * n).to_string(), "52428800 + 2*n");
        let squared = described(|n| (n * n / (256.0 * mib)).max(100.0 * mib));
        assert_eq!((squared.exponent, squared.base_bytes), (2, Bytes::mib(100)));
    }

    #[test]
    fn what_no_rule_describes_has_the_closest() {
        let cells = [(1, 10), (2, 90), (3, 20), (4, 80)].map(|(n, mib)| (Bytes::mib(n), Bytes::mib(mib)));
        let found = describe(&cells, &[0, 1, 2, 3], &tolerance()).unwrap();
        assert!(!found.fits && found.worst > 0.1);
    }

    #[test]
    fn nothing_is_described_by_nothing() {
        assert_eq!(describe(&[], &[0, 1], &tolerance()), None);
        let zeros = [(Bytes::ZERO, Bytes::mib(1)); 3];
        assert!(describe(&zeros, &[0, 1, 2, 3], &tolerance()).is_some());
    }
}
