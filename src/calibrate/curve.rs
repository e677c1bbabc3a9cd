//! A cost over a size, fitted to what was measured so far.

use crate::stats::summary::median;

/// The exponents that are tried.
const EXPONENTS: [f64; 10] = [0.5, 0.75, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0];
/// A straight line is kept unless its mean relative residual exceeds that of the best exponent by this factor,
const BETTER: f64 = 1.5;
/// and by this much, which is the usual scatter of times.
const SCATTER: f64 = 0.02;
/// With more points than this, only some of them are fitted.
const MOST_POINTS: usize = 200;
/// The smallest cost: relative residuals need one above 0.
const LEAST: f64 = 1e-6;

/// The cost `base + slope · (n / largest) ** exponent`; neither base nor slope is negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Curve {
    base: f64,
    slope: f64,
    exponent: f64,
    /// The largest size of a point.
    largest: f64,
    /// The mean relative residual.
    scatter: f64,
    /// By how much a cost may exceed the curve, as a share.
    excess: f64,
    /// The number of distinct sizes.
    pub(crate) sizes: usize,
}

impl Curve {
    /// Fits it to points of size and cost: one size gives a cost in proportion to the size, two a line or a power
    /// through them, and more the curve with the least relative residuals, in which outliers have little weight.
    pub(crate) fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let step = points.len().div_ceil(MOST_POINTS).max(1);
        let points: Vec<(f64, f64)> = points.iter().step_by(step).map(|(n, cost)| (*n, cost.max(LEAST))).collect();
        let mut sizes: Vec<f64> = points.iter().map(|(n, _)| *n).collect();
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.dedup();
        let largest = *sizes.last()?;
        let sizes_seen = sizes.len();
        let zero = Self { base: 0.0, slope: 0.0, exponent: 1.0, largest, scatter: 0.0, excess: 0.0, sizes: sizes_seen };
        let at = |size: f64| {
            let costs: Vec<f64> = points.iter().filter(|(n, _)| *n == size).map(|(_, cost)| *cost).collect();
            Some((median(&costs)?, costs.into_iter().fold(0.0, f64::max)))
        };
        match sizes.as_slice() {
            [one] => {
                let (cost, most) = at(*one)?;
                let (base, slope) = if *one > 0.0 { (0.0, cost) } else { (cost, 0.0) };
                Some(Self { base, slope, excess: most / cost - 1.0, ..zero })
            }
            [small, large] => {
                let ((of_small, _), (of_large, _)) = (at(*small)?, at(*large)?);
                Some(zero.through((small / large, of_small), of_large))
            }
            _ => Some(zero.best(&points)),
        }
    }

    /// The curves of all exponents that describe the points about as well as the best one does.
    pub(crate) fn plausible(points: &[(f64, f64)]) -> Vec<Self> {
        match Self::fit(points) {
            Some(curve) if curve.sizes > 2 => curve.good(points),
            curve => curve.into_iter().collect(),
        }
    }

    /// A line through a point and the one at 1, or a power where the line would start below 0.
    fn through(self, (small, of_small): (f64, f64), of_large: f64) -> Self {
        let slope = (of_large - of_small) / (1.0 - small);
        let base = of_large - slope;
        if slope < 0.0 {
            Self { base: (of_small * of_large).sqrt(), ..self }
        } else if base < 0.0 {
            let exponent = (of_small / of_large).ln() / small.ln();
            Self { slope: of_large, exponent: exponent.min(EXPONENTS[9]), ..self }
        } else {
            Self { base, slope, ..self }
        }
    }

    /// The curve whose exponent is nearest to 1 among those that fit well.
    fn best(self, points: &[(f64, f64)]) -> Self {
        let off = |curve: &Self| (curve.exponent - 1.0).abs();
        let best = self.good(points).into_iter().min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(self);
        Self { excess: 3.0 * best.scatter, ..best }
    }

    fn good(self, points: &[(f64, f64)]) -> Vec<Self> {
        let curves = EXPONENTS.map(|exponent| Self { exponent, ..self }.with_exponent(points));
        let least = curves.iter().map(|curve| curve.scatter).fold(f64::INFINITY, f64::min);
        curves.into_iter().filter(|curve| curve.scatter <= least * BETTER + SCATTER).collect()
    }

    /// The base and slope with the least relative residuals; large residuals count by their amount, not its square.
    fn with_exponent(mut self, points: &[(f64, f64)]) -> Self {
        let rows: Vec<(f64, f64)> =
            points.iter().map(|(n, cost)| (1.0 / cost, (n / self.largest).powf(self.exponent) / cost)).collect();
        let mut weights = vec![1.0; rows.len()];
        for _ in 0..10 {
            let mut sums = [0.0; 5];
            for ((unit, power), weight) in rows.iter().zip(&weights) {
                let terms = [unit * unit, unit * power, power * power, *unit, *power];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += weight * term);
            }
            let [units, mixed, powers, unit, power] = sums;
            let determinant = units * powers - mixed * mixed;
            self.base = (unit * powers - power * mixed) / determinant;
            self.slope = (power * units - unit * mixed) / determinant;
            if self.base.is_nan() || self.base < 0.0 {
                (self.base, self.slope) = (0.0, power / powers);
            } else if self.slope < 0.0 {
                (self.base, self.slope) = (unit / units, 0.0);
            }
            let residuals = rows.iter().map(|(unit, power)| (self.base * unit + self.slope * power - 1.0).abs());
            let residuals: Vec<f64> = residuals.collect();
            self.scatter = residuals.iter().sum::<f64>() / residuals.len() as f64;
            let usual = 2.0 * median(&residuals).unwrap_or(0.0).max(SCATTER / 2.0);
            weights = residuals.iter().map(|residual| (usual / residual).min(1.0)).collect();
        }
        self
    }

    /// The cost at a size.
    pub(crate) fn at(&self, n: f64) -> f64 {
        if self.largest <= 0.0 { self.base } else { self.base + self.slope * (n / self.largest).powf(self.exponent) }
    }

    /// A cost that is hardly exceeded: above the curve by the scatter, and by more beyond the largest size.
    pub(crate) fn upper(&self, n: f64) -> f64 {
        // Nothing is known of smaller inputs than a single one, but that they cost no more.
        let n = if self.sizes == 1 { n.max(self.largest) } else { n };
        let doublings = if self.largest > 0.0 { (n / self.largest).max(1.0).log2() } else { 0.0 };
        self.at(n) * (1.0 + self.excess + 0.05 * doublings)
    }
}
