//! Curves through points: three ways to choose base and growth for the runs of a task.

use crate::model::fit::Form;
use crate::stats::summary::spread;

use super::points::Point;
use super::waste::waste;

/// If there are more points, this many values of base and of slope are tried.
const MOST_CANDIDATES: usize = 40;
/// The rounding error between two computations of one number.
const ROUNDING: f64 = 1e-9;

/// A point with its size raised to the exponent under consideration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datum {
    /// (n / largest n)^power: between 0 and 1, so that cubes of terabytes stay in range.
    pub(super) x: f64,
    /// In bytes.
    pub(super) peak: f64,
    /// In seconds.
    pub(super) wall: f64,
}

/// The points as a function of n^power, with `largest` scaled to 1.
pub(super) fn raised(points: &[Point], power: f64, largest: f64) -> Vec<Datum> {
    points.iter().map(|point| Datum { x: raise(point.n, power, largest), peak: point.peak, wall: point.wall }).collect()
}

/// (n / largest)^power.
pub(super) fn raise(n: f64, power: f64, largest: f64) -> f64 {
    if largest <= 0.0 {
        0.0
    } else if power.fract() == 0.0 {
        // Faster, and rounded less.
        (n / largest).powi(power as i32)
    } else {
        (n / largest).powf(power)
    }
}

/// A rule as a function of [`Datum::x`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Curve {
    pub(super) form: Form,
    /// In bytes.
    pub(super) base: f64,
    /// In bytes at x = 1.
    pub(super) slope: f64,
}

impl Curve {
    pub(super) fn at(self, x: f64) -> f64 {
        let growth = self.slope * x;
        match self.form {
            Form::Max if growth > self.base => growth,
            Form::Max => self.base,
            Form::Sum => self.base + growth,
        }
    }

    pub(super) fn times(self, factor: f64) -> Self {
        Self { base: self.base * factor, slope: self.slope * factor, ..self }
    }

    fn waste(self, data: &[Datum]) -> f64 {
        data.iter().map(|datum| waste(self.at(datum.x) * (1.0 + ROUNDING), datum.peak, datum.wall)).sum()
    }

    fn covers(self, datum: &Datum) -> bool {
        self.at(datum.x) * (1.0 + ROUNDING) >= datum.peak
    }
}

/// The criterion for the best curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Least waste among the curves that are below no run.
    Envelope,
    /// Least waste, including failed tries.
    LeastWaste,
    /// The smallest mean relative deviation from the runs.
    Centre,
}

impl Shape {
    pub(super) const ALL: [Self; 3] = [Self::Envelope, Self::LeastWaste, Self::Centre];

    /// The best curve of this shape; only constants unless `grows`. `None` if no size is above 0.
    ///
    /// A curve `near` the probable best one saves time and does not change the result.
    pub(super) fn fit(self, form: Form, grows: bool, data: &[Datum], near: Option<Curve>) -> Option<Curve> {
        match self {
            Self::Envelope => best(envelopes(form, grows, data), None, |curve, least| {
                data.iter().all(|datum| curve.covers(datum)).then(|| curve.waste(data)).filter(|cost| *cost < least)
            }),
            Self::LeastWaste => best(candidates(form, grows, data), near, |curve, least| {
                up_to(least, data, |datum| waste(curve.at(datum.x) * (1.0 + ROUNDING), datum.peak, datum.wall))
            }),
            Self::Centre => best(candidates(form, grows, data), near, |curve, least| {
                up_to(least, data, |datum| {
                    // One more byte, to avoid dividing by zero.
                    let limit = curve.at(datum.x) + 1.0;
                    if limit > datum.peak { limit / datum.peak - 1.0 } else { datum.peak / limit - 1.0 }
                })
            }),
        }
    }
}

/// The sum of the costs; `None` as soon as it reaches `least`.
fn up_to(least: f64, data: &[Datum], cost: impl Fn(&Datum) -> f64) -> Option<f64> {
    let mut sum = 0.0;
    for datum in data {
        sum += cost(datum);
        if sum >= least {
            return None;
        }
    }
    Some(sum)
}

/// The cheapest curve. Starts with the one closest to `near`, so that the sums of the others end early.
fn best(mut curves: Vec<Curve>, near: Option<Curve>, cost: impl Fn(Curve, f64) -> Option<f64>) -> Option<Curve> {
    if let Some(near) = near {
        let apart = |curve: &Curve| (curve.base - near.base).abs() + (curve.slope - near.slope).abs();
        let closest = (0..curves.len()).min_by(|a, b| apart(&curves[*a]).total_cmp(&apart(&curves[*b])));
        closest.into_iter().for_each(|closest| curves.swap(0, closest));
    }
    let mut least = (f64::INFINITY, None);
    for curve in curves {
        if let Some(cost) = cost(curve, least.0) {
            least = (cost, Some(curve));
        }
    }
    least.1
}

/// Curves that are below no point; with few points, they include the best of all.
fn envelopes(form: Form, grows: bool, data: &[Datum]) -> Vec<Curve> {
    let highest = data.iter().map(|datum| datum.peak).fold(0.0, f64::max);
    if !grows {
        return vec![Curve { form, base: highest, slope: 0.0 }];
    }
    match form {
        Form::Max => bases(data)
            .into_iter()
            .map(|base| Curve { form, base, slope: steepest(data.iter().filter(|datum| datum.peak > base)) })
            .filter(|curve| curve.slope.is_finite() && curve.slope > 0.0)
            .collect(),
        Form::Sum => hull_edges(data)
            .chain(std::iter::once((0.0, steepest(data.iter()))))
            .map(|(base, slope)| Curve { form, base, slope })
            .filter(|curve| curve.base >= 0.0 && curve.slope.is_finite() && curve.slope > 0.0)
            .collect(),
    }
}

/// The slope of the steepest line from the origin to a point; infinite if one of them has size 0.
fn steepest<'a>(data: impl Iterator<Item = &'a Datum>) -> f64 {
    data.map(|datum| datum.peak / datum.x).fold(0.0, f64::max)
}

/// Intercept and slope of the edges of the upper convex hull, from left to right.
fn hull_edges(data: &[Datum]) -> impl Iterator<Item = (f64, f64)> {
    let mut sorted = data.to_vec();
    sorted.sort_by(|a, b| a.x.total_cmp(&b.x).then(b.peak.total_cmp(&a.peak)));
    sorted.dedup_by(|later, first| later.x == first.x);
    let mut hull: Vec<Datum> = Vec::new();
    for datum in sorted {
        while let [.., first, second] = hull.as_slice()
            && (second.peak - first.peak) * (datum.x - first.x) <= (datum.peak - first.peak) * (second.x - first.x)
        {
            hull.pop();
        }
        hull.push(datum);
    }
    let edges: Vec<(f64, f64)> = hull.windows(2).filter_map(|pair| line(&pair[0], &pair[1])).collect();
    edges.into_iter()
}

/// Intercept and slope of the line through two points.
fn line(a: &Datum, b: &Datum) -> Option<(f64, f64)> {
    let slope = (b.peak - a.peak) / (b.x - a.x);
    slope.is_finite().then_some((a.peak - slope * a.x, slope))
}

/// Curves through one or two of the points: all of them if there are few points.
fn candidates(form: Form, grows: bool, data: &[Datum]) -> Vec<Curve> {
    if !grows {
        return bases(data).into_iter().map(|base| Curve { form, base, slope: 0.0 }).collect();
    }
    let slopes = slopes_from_origin(data);
    let mut curves: Vec<Curve> = slopes.iter().map(|&slope| Curve { form, base: 0.0, slope }).collect();
    match form {
        Form::Max => {
            let bases = bases(data);
            let rightmost = data.iter().map(|datum| datum.x).fold(0.0, f64::max);
            for &slope in &slopes {
                let below = bases.iter().filter(|base| **base > 0.0 && **base < slope * rightmost);
                curves.extend(below.map(|&base| Curve { form, base, slope }));
            }
        }
        Form::Sum => curves.extend(lines(data).map(|(base, slope)| Curve { form, base, slope })),
    }
    curves
}

fn bases(data: &[Datum]) -> Vec<f64> {
    let mut bases = spread(data.iter().map(|datum| datum.peak).collect(), MOST_CANDIDATES);
    bases.insert(0, 0.0);
    bases
}

fn slopes_from_origin(data: &[Datum]) -> Vec<f64> {
    let slopes = data.iter().filter(|datum| datum.x > 0.0).map(|datum| datum.peak / datum.x).collect();
    spread(slopes, MOST_CANDIDATES)
}

/// Intercept and slope of growing lines with a positive intercept.
fn lines(data: &[Datum]) -> impl Iterator<Item = (f64, f64)> {
    let some: Vec<Datum> = (0..data.len().min(MOST_CANDIDATES))
        .map(|place| data[place * (data.len() - 1) / (data.len().min(MOST_CANDIDATES) - 1).max(1)])
        .collect();
    let mut lines: Vec<(f64, f64)> = Vec::with_capacity(some.len() * some.len() / 2);
    for (place, a) in some.iter().enumerate() {
        lines.extend(some[..place].iter().filter_map(|b| line(a, b)));
    }
    if data.len() > MOST_CANDIDATES {
        let slopes = spread(lines.into_iter().map(|(_, slope)| slope).collect(), MOST_CANDIDATES);
        lines = slopes
            .into_iter()
            .flat_map(|slope| {
                let residuals = data.iter().map(|datum| datum.peak - slope * datum.x).collect();
                spread(residuals, MOST_CANDIDATES / 2).into_iter().map(move |base| (base, slope))
            })
            .collect();
    }
    lines.into_iter().filter(|(base, slope)| *base > 0.0 && *slope > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(points: &[(f64, f64)]) -> Vec<Datum> {
        points.iter().map(|&(x, peak)| Datum { x, peak, wall: 1.0 }).collect()
    }

    #[test]
    fn the_envelope_of_a_line_is_the_line() {
        let data = data(&[(0.1, 110.0), (0.4, 140.0), (0.7, 165.0), (1.0, 200.0)]);
        let curve = Shape::Envelope.fit(Form::Sum, true, &data, None).unwrap();
        assert!((curve.base - 100.0).abs() < 1e-6 && (curve.slope - 100.0).abs() < 1e-6, "{curve:?}");
    }

    #[test]
    fn the_envelope_of_a_floor_that_is_left_has_the_break() {
        let data = data(&[(0.1, 300.0), (0.2, 290.0), (0.3, 300.0), (0.5, 500.0), (0.8, 790.0), (1.0, 1000.0)]);
        let curve = Shape::Envelope.fit(Form::Max, true, &data, None).unwrap();
        assert_eq!((curve.base, curve.slope), (300.0, 1000.0));
    }

    #[test]
    fn one_wild_point_does_not_move_the_centre() {
        let data = data(&[(0.2, 20.0), (0.4, 40.0), (0.5, 900.0), (0.6, 60.0), (0.8, 80.0), (1.0, 100.0)]);
        let curve = Shape::Centre.fit(Form::Max, true, &data, None).unwrap();
        assert!((curve.at(1.0) - 100.0).abs() < 1e-6, "{curve:?}");
    }

    #[test]
    fn least_waste_lets_a_rare_large_run_fail() {
        let mut points = vec![(0.5, 10.0); 50];
        points.push((0.5, 100.0));
        let curve = Shape::LeastWaste.fit(Form::Max, false, &data(&points), None).unwrap();
        assert_eq!(curve.base, 10.0);
    }

    #[test]
    fn sizes_of_zero_have_a_floor_and_no_growth() {
        let data = data(&[(0.0, 10.0), (0.0, 12.0)]);
        for shape in Shape::ALL {
            assert_eq!(shape.fit(Form::Max, true, &data, None).filter(|curve| !curve.slope.is_finite()), None);
            assert!(shape.fit(Form::Max, false, &data, None).is_some());
        }
    }
}
