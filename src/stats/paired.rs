//! What pairs of runs, made in turns, show of the ratio between two commands.

/// The confidence of an interval.
pub const CONFIDENCE: f64 = 0.95;

/// How many times as much the second of each pair is.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ratio {
    /// The median of the Walsh averages of the ratios, taken on their logarithms (Hodges and Lehmann 1963).
    pub ratio: f64,
    /// The range that it lies in with a confidence of at least 95 %; `None` with fewer than six pairs.
    pub interval: Option<(f64, f64)>,
}

impl Ratio {
    /// The ratio of these pairs of positive values; `None` without any.
    ///
    /// The interval inverts the signed-rank test (Wilcoxon 1945): exact for whatever distribution, if differences of the
    /// logarithms are spread alike to both sides.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        let logarithms: Vec<f64> = pairs.iter().map(|(first, second)| (second / first).ln()).collect();
        if logarithms.is_empty() || !logarithms.iter().all(|logarithm| logarithm.is_finite()) {
            return None;
        }
        let mut averages = Vec::with_capacity(logarithms.len() * (logarithms.len() + 1) / 2);
        for (index, one) in logarithms.iter().enumerate() {
            averages.extend(logarithms[index..].iter().map(|other| f64::midpoint(*one, *other)));
        }
        averages.sort_by(f64::total_cmp);
        let middle = super::summary::median(&averages)?;
        let interval = left_out(logarithms.len()).map(|below| {
            let last = averages.len() - 1;
            (averages[below].exp(), averages[last - below].exp())
        });
        Some(Self { ratio: middle.exp(), interval })
    }

    /// Whether the interval excludes that both are the same.
    pub fn differs(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 1.0 || high < 1.0)
    }
}

/// How many of the sorted averages lie outside of the interval on each side; `None` with too few pairs.
fn left_out(pairs: usize) -> Option<usize> {
    // The chance of each sum of ranks: the distribution of the signed-rank statistic. Each rank is in it or not.
    let most = pairs * (pairs + 1) / 2;
    let mut chances = vec![0.0_f64; most + 1];
    chances[0] = 1.0;
    for rank in 1..=pairs {
        for sum in (0..=most).rev() {
            let with = if sum >= rank { chances[sum - rank] } else { 0.0 };
            chances[sum] = f64::midpoint(chances[sum], with);
        }
    }
    let mut chance = 0.0;
    let mut below = 0_usize;
    for set in chances {
        chance += set;
        if 2.0 * chance > 1.0 - CONFIDENCE {
            break;
        }
        below += 1;
    }
    below.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_of_the_tables_of_the_signed_rank_test() {
        // The critical values of a two-sided test at 5 %, as tables have them.
        assert_eq!([5, 6, 7, 8, 10, 20].map(left_out), [None, Some(0), Some(2), Some(3), Some(8), Some(52)]);
    }

    #[test]
    fn a_constant_ratio_is_found_and_noise_is_not_taken_for_one() {
        let doubled: Vec<(f64, f64)> = (1..=10).map(|n| (f64::from(n), 2.0 * f64::from(n))).collect();
        let ratio = Ratio::of(&doubled).unwrap();
        assert!((ratio.ratio - 2.0).abs() < 1e-9 && ratio.differs(), "{ratio:?}");
        let noise = [(100.0, 103.0), (100.0, 98.0), (99.0, 101.0), (102.0, 100.0), (100.0, 100.5), (101.0, 99.0)];
        assert!(!Ratio::of(&noise).unwrap().differs());
        assert_eq!(Ratio::of(&doubled[..5]).unwrap().interval, None);
        assert_eq!(Ratio::of(&[]), None);
        let many: Vec<(f64, f64)> = (1..=1100).map(|n| (100.0, 100.0 + f64::from(n % 7))).collect();
        assert!(Ratio::of(&many).unwrap().interval.is_some_and(|(low, high)| low < high));
        assert_eq!(Ratio::of(&[(0.0, 1.0)]), None);
    }
}
