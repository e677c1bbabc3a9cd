//! Trends: whether one quantity grows with another, robust against a few wild values.

use super::summary;

/// Every pair is compared; more points than this are represented by this many evenly spread ones.
const MOST_POINTS: usize = 400;

/// Kendall's rank correlation as a standard normal score: above 1.64 the ranks agree more than by chance in 19 of 20
/// cases. 0 for fewer than two points.
///
/// Kendall (1938), "A new measure of rank correlation"; ties count as neither agreement nor disagreement.
pub fn kendall_score(points: &[(f64, f64)]) -> f64 {
    let points = thinned(points);
    let mut agreement = 0.0;
    for (place, &(x, y)) in points.iter().enumerate() {
        for &(other_x, other_y) in &points[..place] {
            let product = (x - other_x) * (y - other_y);
            if product != 0.0 {
                agreement += product.signum();
            }
        }
    }
    let deviation = kendall_deviation(points.len());
    if deviation > 0.0 { agreement / deviation } else { 0.0 }
}

/// The standard deviation of agreements minus disagreements, without any relation.
fn kendall_deviation(count: usize) -> f64 {
    let count = count as f64;
    (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt()
}

/// A slope and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Slope {
    /// The median of the slopes between any two points.
    pub estimate: f64,
    /// The lower end of the 95 % confidence interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The slope of y over x with its 95 % confidence interval. `None` if no two points differ in x.
///
/// Theil (1950) and Sen (1968), "Estimates of the regression coefficient based on Kendall's tau".
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let points = thinned(points);
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (place, &(x, y)) in points.iter().enumerate() {
        slopes.extend(points[..place].iter().filter(|(other, _)| *other != x).map(|(ox, oy)| (y - oy) / (x - ox)));
    }
    slopes.sort_by(f64::total_cmp);
    let last = slopes.len().checked_sub(1)?;
    let half = 1.96 * kendall_deviation(points.len()) / 2.0;
    let middle = slopes.len() as f64 / 2.0;
    let low = (middle - half).floor().max(0.0) as usize;
    let high = ((middle + half).ceil() as usize).min(last);
    Some(Slope { estimate: summary::median(&slopes)?, low: slopes[low.min(last)], high: slopes[high] })
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = sorted.len() - 1;
    (0..MOST_POINTS).map(|place| sorted[place * last / (MOST_POINTS - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_whatever_one_point_says() {
        let mut points: Vec<(f64, f64)> = (0..20).map(|x| (f64::from(x), 3.0 * f64::from(x) + 1.0)).collect();
        points[7].1 = 1e6;
        let slope = slope(&points).unwrap();
        assert!((slope.estimate - 3.0).abs() < 1e-9, "{slope:?}");
        assert!(slope.low <= 3.0 && 3.0 <= slope.high);
        assert!(kendall_score(&points) > 4.0);
    }

    #[test]
    fn the_interval_of_noise_holds_zero() {
        let points: Vec<(f64, f64)> = (0..30).map(|x| (f64::from(x), f64::from(x * 7919 % 31))).collect();
        let slope = slope(&points).unwrap();
        assert!(slope.low < 0.0 && 0.0 < slope.high, "{slope:?}");
        assert!(kendall_score(&points).abs() < 1.64);
    }

    #[test]
    fn one_size_has_no_slope() {
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(kendall_score(&[(1.0, 2.0)]), 0.0);
    }

    #[test]
    fn three_points_in_order_are_the_least_that_can_speak_for_growth() {
        assert!(kendall_score(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]) > 1.5);
    }
}
