//! Whether a cell has grown.

use crate::model::check::report::Samples;
use crate::model::check::terms::Terms;
use crate::model::units::Bytes;
use crate::stats::summary;

/// A difference has to be beyond so many standard errors: by chance one in 740 is.
const STANDARD_ERRORS: f64 = 3.0;
/// The standard error of a median in units of that of a mean, for normal noise: √(π/2).
const OF_A_MEDIAN: f64 = 1.2533;
/// From a median absolute deviation to a standard deviation, for normal noise.
const OF_A_DEVIATION: f64 = 1.4826;

/// What has become of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing beyond the thresholds and the noise.
    None,
    /// It needs more.
    Grown,
    /// It needs less.
    Shrunk,
}

/// The peaks of a cell, round by round: the first runs, and those that were to confirm a suspicion.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    all: Vec<Bytes>,
    each: Vec<Bytes>,
}

impl Rounds {
    pub(super) fn of(rounds: &[Vec<Bytes>]) -> Self {
        let each = rounds.iter().filter_map(|round| Samples::of(round.clone())).map(|round| round.median).collect();
        Self { all: rounds.concat(), each }
    }

    pub(super) fn median(&self) -> Option<Bytes> {
        Samples::of(self.all.clone()).map(|all| all.median)
    }

    /// The medians of the rounds.
    pub(super) fn each(&self) -> &[Bytes] {
        &self.each
    }
}

/// Whether the median has left that of the baseline: beyond both thresholds, beyond the noise, and in every round.
pub(super) fn change(then: &Samples, now: &Rounds, terms: &Terms) -> Change {
    let Some(median) = now.median() else { return Change::None };
    let difference = median.0.abs_diff(then.median.0) as f64;
    if difference <= noise(then, now) {
        return Change::None;
    }
    let tolerance = terms.tolerance(then.median);
    let above = then.median.saturating_add(tolerance);
    let below = then.median.saturating_sub(tolerance);
    if median > above && now.each.iter().all(|round| *round > above) {
        Change::Grown
    } else if median < below && now.each.iter().all(|round| *round < below) {
        Change::Shrunk
    } else {
        Change::None
    }
}

/// What the medians of unchanged runs may differ by: three standard errors. Zero where no run differs from another.
pub(super) fn noise(then: &Samples, now: &Rounds) -> f64 {
    let middle = now.median().unwrap_or(then.median);
    let mut distances = distances(&then.peaks, then.median);
    distances.extend(self::distances(&now.all, middle));
    let deviation = summary::median(&distances).unwrap_or(0.0) * OF_A_DEVIATION;
    let counts = 1.0 / then.peaks.len().max(1) as f64 + 1.0 / now.all.len().max(1) as f64;
    STANDARD_ERRORS * OF_A_MEDIAN * deviation * counts.sqrt()
}

/// How far the peaks are from their median, without one of them: the median itself is a peak, and its distance of zero is
/// no evidence of little noise.
fn distances(peaks: &[Bytes], median: Bytes) -> Vec<f64> {
    let mut distances: Vec<f64> = peaks.iter().map(|peak| peak.0.abs_diff(median.0) as f64).collect();
    distances.sort_by(f64::total_cmp);
    distances.into_iter().skip(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(mib: &[u64]) -> Samples {
        Samples::of(mib.iter().copied().map(Bytes::mib).collect()).unwrap()
    }

    fn now(rounds: &[&[u64]]) -> Rounds {
        let rounds: Vec<Vec<Bytes>> =
            rounds.iter().map(|round| round.iter().copied().map(Bytes::mib).collect()).collect();
        Rounds::of(&rounds)
    }

    #[test]
    fn without_any_spread_the_thresholds_decide() {
        let then = samples(&[200, 200, 200]);
        let terms = Terms::default();
        assert_eq!(change(&then, &now(&[&[206, 206, 206]]), &terms), Change::None);
        assert_eq!(change(&then, &now(&[&[207, 207, 207]]), &terms), Change::Grown);
        assert_eq!(change(&then, &now(&[&[193, 193, 193]]), &terms), Change::Shrunk);
    }

    #[test]
    fn a_page_is_no_growth_where_no_run_differs() {
        let then = Samples::of(vec![Bytes(1 << 20); 6]).unwrap();
        let page = Rounds::of(&[vec![Bytes((1 << 20) + 4096); 3]]);
        assert_eq!(change(&then, &page, &Terms::default()), Change::None);
    }

    #[test]
    fn one_wild_run_is_no_growth() {
        assert_eq!(change(&samples(&[200, 200, 201]), &now(&[&[200, 900, 200]]), &Terms::default()), Change::None);
    }

    #[test]
    fn growth_within_the_noise_is_none() {
        let then = samples(&[180, 200, 230]);
        assert_eq!(change(&then, &now(&[&[190, 212, 235]]), &Terms::default()), Change::None);
        assert_eq!(change(&then, &now(&[&[390, 400, 435]]), &Terms::default()), Change::Grown);
    }

    #[test]
    fn a_round_that_does_not_confirm_it_takes_growth_back() {
        let then = samples(&[200, 200, 200]);
        assert_eq!(change(&then, &now(&[&[220, 220, 220], &[200, 200, 200]]), &Terms::default()), Change::None);
        assert_eq!(change(&then, &now(&[&[220, 220, 220], &[221, 221, 221]]), &Terms::default()), Change::Grown);
    }
}
