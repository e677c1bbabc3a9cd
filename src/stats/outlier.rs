//! Outliers.

use super::summary;

/// A modified z-score beyond this marks an outlier, as Iglewicz and Hoaglin recommend.
pub const LIMIT: f64 = 3.5;

/// The deviation of each value from the median, in robust standard deviations: the modified z-scores of Iglewicz and
/// Hoaglin (1993), "How to detect and handle outliers".
///
/// `smallest_spread` is the usual variation of the values. It is used if more than half of them are equal, so that the
/// median absolute deviation is zero and would make an outlier of any other value.
pub fn modified_z_scores(values: &[f64], smallest_spread: f64) -> Vec<f64> {
    let (Some(middle), Some(deviation)) = (summary::median(values), summary::median_absolute_deviation(values)) else {
        return Vec::new();
    };
    // 0.6745 is the upper quartile of the standard normal distribution.
    let spread = (deviation / 0.6745).max(smallest_spread).max(f64::MIN_POSITIVE);
    values.iter().map(|value| (value - middle) / spread).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_make_no_outlier_of_a_small_difference() {
        let scores = modified_z_scores(&[0.0, 0.0, 0.0, 0.0, 0.01, 0.5], 0.01);
        assert!(scores[4] < LIMIT);
        assert!(scores[5] > LIMIT);
    }

    #[test]
    fn nothing_has_no_scores() {
        assert!(modified_z_scores(&[], 1.0).is_empty());
    }
}
