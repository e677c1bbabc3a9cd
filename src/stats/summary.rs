//! Averages and quantiles.

/// The median; the mean of the two middle values if their number is even. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The `q` quantile, with linear interpolation between values.
///
/// Definition 7 of Hyndman and Fan (1996), "Sample quantiles in statistical packages". `None` without values; `q` is
/// clamped to 0 to 1.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Some(below + (above - below) * place.fract())
}

/// The arithmetic mean. `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The geometric mean of positive values. `None` without values.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logarithms: Vec<f64> = values.iter().map(|value| value.ln()).collect();
    mean(&logarithms).map(f64::exp)
}

/// The median absolute deviation from the median. `None` without values.
pub fn median_absolute_deviation(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    median(&distances)
}

/// At most `count` of the values, in ascending order and evenly spread over their ranks, including the smallest and the
/// largest.
pub fn spread(mut values: Vec<f64>, count: usize) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values.dedup();
    if values.len() <= count || count < 2 {
        return values;
    }
    let last = values.len() - 1;
    (0..count).map(|place| values[place * last / (count - 1)]).collect()
}

/// Sizes that differ by no more than this share tell the same.
const SAME: f64 = 0.01;

/// The values that differ from each other by more than 1 %, in ascending order: near-equal ones count once.
pub fn distinct(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values.dedup_by(|next, kept| *next <= *kept * (1.0 + SAME));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_equal_values_count_once() {
        assert_eq!(distinct(vec![200.0, 100.0, 100.5, 101.0, 102.1, 0.0, 0.0]), [0.0, 100.0, 102.1, 200.0]);
        assert!(distinct(Vec::new()).is_empty());
    }

    #[test]
    fn quantiles_interpolate_between_ranks() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(&values), Some(2.5));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&values, 0.25), Some(1.75));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_wild_value_does_not_move_the_median_absolute_deviation() {
        assert_eq!(median_absolute_deviation(&[1.0, 2.0, 3.0, 4.0, 1e9]), Some(1.0));
    }

    #[test]
    fn a_spread_keeps_both_ends() {
        let thinned = spread((0..1000).map(f64::from).collect(), 10);
        assert_eq!(thinned.len(), 10);
        assert_eq!((thinned[0], thinned[9]), (0.0, 999.0));
        assert_eq!(spread(vec![2.0, 1.0, 2.0], 10), [1.0, 2.0]);
    }
}
