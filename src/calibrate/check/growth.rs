//! Decides whether a cell has grown.

use crate::model::check::report::{Sample, Samples};
use crate::model::check::thresholds::Thresholds;
use crate::model::units::Bytes;
use crate::stats::summary;

/// A difference has to exceed this many standard errors, which happens by chance once in 740.
const STANDARD_ERRORS: f64 = 3.0;
/// The standard error of a median relative to that of a mean, for normal noise: √(π/2).
const OF_A_MEDIAN: f64 = 1.2533;
/// The standard deviation relative to a median absolute deviation, for normal noise.
const OF_A_DEVIATION: f64 = 1.4826;

/// The change of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// None beyond the thresholds and the noise.
    None,
    /// It needs more.
    Grown,
    /// It needs less.
    Shrunk,
    /// It may need more: a lower bound cannot decide.
    NotVerified,
}

/// The peaks of a cell by round: the first runs, and those to confirm a suspicion.
#[derive(Clone, Debug)]
pub(super) struct Rounds {
    all: Vec<Bytes>,
    each: Vec<Bytes>,
}

impl Rounds {
    /// The peaks as if each was exact.
    pub(super) fn lowest_case(rounds: &[Vec<Sample>]) -> Self {
        let rounds = rounds.iter().map(|round| round.iter().map(|sample| sample.bytes).collect());
        Self::new(rounds.collect())
    }

    /// The peaks as if each was at its upper bound; `None` if one of them has none.
    fn highest_case(rounds: &[Vec<Sample>]) -> Option<Self> {
        let most = |round: &Vec<Sample>| round.iter().map(|sample| sample.at_most).collect::<Option<Vec<Bytes>>>();
        rounds.iter().map(most).collect::<Option<_>>().map(Self::new)
    }

    fn new(rounds: Vec<Vec<Bytes>>) -> Self {
        Self { each: rounds.iter().filter_map(|round| median(round)).collect(), all: rounds.concat() }
    }

    pub(super) fn median(&self) -> Option<Bytes> {
        median(&self.all)
    }

    /// The medians of the rounds.
    pub(super) fn each(&self) -> &[Bytes] {
        &self.each
    }
}

fn median(peaks: &[Bytes]) -> Option<Bytes> {
    Samples::new(peaks.iter().copied().map(Sample::exact).collect()).map(|samples| samples.median)
}

/// Whether a cell needs more or less than in the baseline, as far as the peaks show: growth is certain if the least
/// that is needed now is more than the most that was needed then.
pub(super) fn change(then: &Samples, now: &[Vec<Sample>], thresholds: &Thresholds) -> Change {
    let change = |then: Option<Samples>, now: Option<Rounds>| Some(change_of(&then?, &now?, thresholds));
    let (lowest_now, highest_now) = (|| Some(Rounds::lowest_case(now)), || Rounds::highest_case(now));
    if change(then.highest_case(), lowest_now()) == Some(Change::Grown) {
        return Change::Grown;
    }
    match change(Some(then.lowest_case()), highest_now()) {
        Some(Change::Grown | Change::NotVerified) | None => Change::NotVerified,
        Some(certain @ (Change::None | Change::Shrunk)) => certain,
    }
}

/// Whether the median differs from that of the baseline: beyond both thresholds, beyond the noise, and in every round.
fn change_of(then: &Samples, now: &Rounds, thresholds: &Thresholds) -> Change {
    let Some(median) = now.median() else { return Change::None };
    let difference = median.0.abs_diff(then.median.0) as f64;
    if difference <= noise(then, now) {
        return Change::None;
    }
    let tolerance = thresholds.tolerance(then.median);
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

/// What the medians of unchanged runs may differ by: three standard errors. Zero if no run differs from another.
pub(super) fn noise(then: &Samples, now: &Rounds) -> f64 {
    let middle = now.median().unwrap_or(then.median);
    let mut distances = distances(&then.peaks, then.median);
    distances.extend(self::distances(&now.all, middle));
    let deviation = summary::median(&distances).unwrap_or(0.0) * OF_A_DEVIATION;
    let counts = 1.0 / then.peaks.len().max(1) as f64 + 1.0 / now.all.len().max(1) as f64;
    STANDARD_ERRORS * OF_A_MEDIAN * deviation * counts.sqrt()
}

/// The distances of the peaks from their median, except for one: the median itself is a peak, and its distance of zero
/// does not show that noise is low.
fn distances(peaks: &[Bytes], median: Bytes) -> Vec<f64> {
    let mut distances: Vec<f64> = peaks.iter().map(|peak| peak.0.abs_diff(median.0) as f64).collect();
    distances.sort_by(f64::total_cmp);
    distances.into_iter().skip(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(mib: &[u64]) -> Vec<Sample> {
        mib.iter().copied().map(Bytes::mib).map(Sample::exact).collect()
    }

    fn samples(mib: &[u64]) -> Samples {
        Samples::new(exact(mib)).unwrap()
    }

    fn now(rounds: &[&[u64]]) -> Vec<Vec<Sample>> {
        rounds.iter().map(|round| exact(round)).collect()
    }

    #[test]
    fn without_any_spread_the_thresholds_decide() {
        let then = samples(&[200, 200, 200]);
        let thresholds = Thresholds::default();
        assert_eq!(change(&then, &now(&[&[206, 206, 206]]), &thresholds), Change::None);
        assert_eq!(change(&then, &now(&[&[207, 207, 207]]), &thresholds), Change::Grown);
        assert_eq!(change(&then, &now(&[&[193, 193, 193]]), &thresholds), Change::Shrunk);
    }

    #[test]
    fn a_page_is_no_growth_where_no_run_differs() {
        let then = Samples::new(vec![Sample::exact(Bytes(1 << 20)); 6]).unwrap();
        let page = vec![Sample::exact(Bytes((1 << 20) + 4096)); 3];
        assert_eq!(change(&then, &[page], &Thresholds::default()), Change::None);
    }

    #[test]
    fn one_wild_run_is_no_growth() {
        assert_eq!(change(&samples(&[200, 200, 201]), &now(&[&[200, 900, 200]]), &Thresholds::default()), Change::None);
    }

    #[test]
    fn growth_within_the_noise_is_none() {
        let then = samples(&[180, 200, 230]);
        assert_eq!(change(&then, &now(&[&[190, 212, 235]]), &Thresholds::default()), Change::None);
        assert_eq!(change(&then, &now(&[&[390, 400, 435]]), &Thresholds::default()), Change::Grown);
    }

    #[test]
    fn a_round_that_does_not_confirm_it_takes_growth_back() {
        let then = samples(&[200, 200, 200]);
        assert_eq!(change(&then, &now(&[&[220, 220, 220], &[200, 200, 200]]), &Thresholds::default()), Change::None);
        assert_eq!(change(&then, &now(&[&[220, 220, 220], &[221, 221, 221]]), &Thresholds::default()), Change::Grown);
    }
}
