//! Decides whether a cell has grown.

use crate::model::check::report::{Sample, Samples};
use crate::model::check::thresholds::Tolerance;
use crate::model::units::Bytes;
use crate::stats::summary;

/// A difference has to exceed this many standard errors. With two rounds that confirm it, and noise of 10 % in five
/// cells, this gives some two false alarms in 10,000 checks (`just gate-noise`).
const STANDARD_ERRORS: f64 = 3.4;
/// The standard error of a median relative to that of a mean, for normal noise: √(π/2).
const OF_A_MEDIAN: f64 = 1.2533;
/// The standard deviation relative to a median absolute deviation, for normal noise.
const OF_A_DEVIATION: f64 = 1.4826;
/// A deviation beyond this many standard deviations is an outlier and counts as this many.
const OUTLIER: f64 = 2.5;
/// A cell has a scatter of its own if it is this many times that of the task, or less than this part of it: both are
/// rare in cells that scatter alike.
const OWN_SCATTER: (f64, f64) = (0.25, 2.0);

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
    /// The median of each round; `None` if the cell did not run in it.
    each: Vec<Option<Bytes>>,
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
        Self { each: rounds.iter().map(|round| median(round)).collect(), all: rounds.concat() }
    }

    pub(super) fn median(&self) -> Option<Bytes> {
        median(&self.all)
    }

    /// The medians of the rounds.
    pub(super) fn each(&self) -> impl Iterator<Item = Bytes> {
        self.each.iter().copied().flatten()
    }
}

fn median(peaks: &[Bytes]) -> Option<Bytes> {
    Samples::new(peaks.iter().copied().map(Sample::exact).collect()).map(|samples| samples.median)
}

/// How much repeated runs of a task scatter, as a share of their peaks.
///
/// A cell has too few runs to tell. All cells of a task together have enough, if they scatter alike in relation to their
/// peaks, as those of a garbage-collected program do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scatter(f64);

impl Scatter {
    /// The scatter of the runs in each group around their own median.
    pub(super) fn pooled<'a>(groups: impl Iterator<Item = &'a [Bytes]>) -> Self {
        Self(deviation(&groups.flat_map(residuals).collect::<Vec<_>>()))
    }

    /// The share by which the medians of unchanged runs may differ. Zero if no run differs from another.
    pub(super) fn noise(self, then: &Samples, now: &Rounds) -> f64 {
        STANDARD_ERRORS * self.standard_error(then, now)
    }

    fn standard_error(self, then: &Samples, now: &Rounds) -> f64 {
        let own = deviation(&[residuals(&then.peaks), residuals(&now.all)].concat());
        let (low, high) = OWN_SCATTER;
        let scatter = if (low * self.0..=high * self.0).contains(&own) { self.0 } else { own };
        let counts = 1.0 / then.peaks.len().max(1) as f64 + 1.0 / now.all.len().max(1) as f64;
        OF_A_MEDIAN * scatter * counts.sqrt()
    }
}

/// The distances of the logarithms of peaks from that of their median, except for one: the median itself is a peak, and
/// its distance of zero does not show that noise is low.
fn residuals(peaks: &[Bytes]) -> Vec<f64> {
    let Some(middle) = median(peaks) else { return Vec::new() };
    let mut distances: Vec<f64> = peaks.iter().map(|peak| log_ratio(*peak, middle).abs()).collect();
    distances.sort_by(f64::total_cmp);
    distances.into_iter().skip(1).collect()
}

/// The standard deviation, with outliers drawn in.
fn deviation(residuals: &[f64]) -> f64 {
    let usual = OF_A_DEVIATION * summary::median(residuals).unwrap_or(0.0);
    let squares: Vec<f64> = residuals.iter().map(|residual| residual.min(OUTLIER * usual).powi(2)).collect();
    summary::mean(&squares).unwrap_or(0.0).sqrt()
}

fn log_ratio(now: Bytes, then: Bytes) -> f64 {
    (now.0.max(1) as f64 / then.0.max(1) as f64).ln()
}

/// Whether a cell needs more or less than in the baseline, as far as the peaks show: growth is certain if the least
/// that is needed now is more than the most that was needed then.
pub(super) fn change(then: &Samples, now: &[Vec<Sample>], tolerance: &Tolerance, scatter: Scatter) -> Change {
    let change = |then: Option<Samples>, now: Option<Rounds>| Some(change_of(&then?, &now?, tolerance, scatter));
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
fn change_of(then: &Samples, now: &Rounds, tolerance: &Tolerance, scatter: Scatter) -> Change {
    let Some(median) = now.median() else { return Change::None };
    if log_ratio(median, then.median).abs() <= scatter.noise(then, now) {
        return Change::None;
    }
    let above = tolerance.above(then.median);
    let below = then.median.saturating_sub(tolerance.around(then.median));
    if median > above && now.each().all(|round| round > above) {
        Change::Grown
    } else if median < below && now.each().all(|round| round < below) {
        Change::Shrunk
    } else {
        Change::None
    }
}

/// A cell of the baseline and its current runs, all with exact peaks.
pub(super) struct Pair<'a> {
    pub(super) then: &'a Samples,
    pub(super) now: Rounds,
}

/// The growth of all cells together, as a share: beyond the relative threshold in every round, beyond the noise of their
/// mean, and beyond both thresholds in most of the cells. So noise that hides the growth of each cell does not hide that
/// of the task.
pub(super) fn growth_together(
    cells: &[Pair<'_>],
    relative: f64,
    tolerance: &Tolerance,
    scatter: Scatter,
) -> Option<f64> {
    let grown = |cell: &Pair<'_>| cell.now.median().is_some_and(|now| now > tolerance.above(cell.then.median));
    if cells.len() < 2 || cells.iter().filter(|cell| grown(cell)).count() * 2 <= cells.len() {
        return None;
    }
    let mean = |peak: &dyn Fn(&Rounds) -> Option<Bytes>| {
        let growth = |cell: &Pair<'_>| Some(log_ratio(peak(&cell.now)?, cell.then.median));
        summary::mean(&cells.iter().filter_map(growth).collect::<Vec<_>>())
    };
    let rounds = cells.iter().map(|cell| cell.now.each.len()).max().unwrap_or(0);
    if !(0..rounds).all(|round| mean(&|now| *now.each.get(round)?).is_none_or(|growth| growth > relative.ln_1p())) {
        return None;
    }
    let variance: f64 = cells.iter().map(|cell| scatter.standard_error(cell.then, &cell.now).powi(2)).sum();
    let growth = mean(&Rounds::median)?;
    (growth > STANDARD_ERRORS * variance.sqrt() / cells.len() as f64).then(|| growth.exp_m1())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::check::thresholds::Thresholds;

    fn exact(mib: &[u64]) -> Vec<Sample> {
        mib.iter().copied().map(Bytes::mib).map(Sample::exact).collect()
    }

    fn samples(mib: &[u64]) -> Samples {
        Samples::new(exact(mib)).unwrap()
    }

    fn now(rounds: &[&[u64]]) -> Vec<Vec<Sample>> {
        rounds.iter().map(|round| exact(round)).collect()
    }

    fn tolerance() -> Tolerance {
        Thresholds::default().tolerance(Bytes::ZERO)
    }

    /// The change of a cell whose task scatters as its own runs do.
    fn change(then: &Samples, now: &[Vec<Sample>]) -> Change {
        let all: Vec<Bytes> = now.concat().iter().map(|sample| sample.bytes).collect();
        super::change(then, now, &tolerance(), Scatter::pooled([then.peaks.as_slice(), &all].into_iter()))
    }

    #[test]
    fn without_any_spread_the_thresholds_decide() {
        let then = samples(&[200, 200, 200]);
        assert_eq!(change(&then, &now(&[&[206, 206, 206]])), Change::None);
        assert_eq!(change(&then, &now(&[&[207, 207, 207]])), Change::Grown);
        assert_eq!(change(&then, &now(&[&[193, 193, 193]])), Change::Shrunk);
    }

    #[test]
    fn a_page_is_no_growth_where_no_run_differs() {
        let then = Samples::new(vec![Sample::exact(Bytes(1 << 20)); 6]).unwrap();
        let page = vec![Sample::exact(Bytes((1 << 20) + 4096)); 3];
        assert_eq!(change(&then, &[page]), Change::None);
    }

    #[test]
    fn a_small_task_that_doubles_has_grown() {
        assert_eq!(change(&samples(&[3, 3, 3]), &now(&[&[6, 6, 6]])), Change::Grown);
    }

    #[test]
    fn one_wild_run_is_no_growth() {
        assert_eq!(change(&samples(&[200, 200, 201]), &now(&[&[200, 900, 200]])), Change::None);
    }

    #[test]
    fn growth_within_the_noise_is_none() {
        let then = samples(&[180, 200, 230]);
        assert_eq!(change(&then, &now(&[&[190, 212, 235]])), Change::None);
        assert_eq!(change(&then, &now(&[&[390, 400, 435]])), Change::Grown);
    }

    #[test]
    fn a_round_that_does_not_confirm_it_takes_growth_back() {
        let then = samples(&[200, 200, 200]);
        assert_eq!(change(&then, &now(&[&[220, 220, 220], &[200, 200, 200]])), Change::None);
        assert_eq!(change(&then, &now(&[&[220, 220, 220], &[221, 221, 221]])), Change::Grown);
    }

    #[test]
    fn the_task_tells_how_much_a_cell_scatters_unless_the_cell_clearly_differs() {
        let (alike, quiet) = (samples(&[190, 200, 201]), samples(&[200, 200, 200]));
        let more = now(&[&[220, 221, 230]]);
        let change = |then: &Samples, scatter: f64| super::change(then, &more, &tolerance(), Scatter(scatter));
        assert_eq!(change(&alike, 0.02), Change::Grown, "its own scatter is within twice that of the task");
        assert_eq!(change(&alike, 0.05), Change::None, "as noisy as its task, though its own runs happen to agree");
        assert_eq!(change(&quiet, 0.5), Change::Grown, "a quiet cell of a noisy task");
        assert_eq!(change(&samples(&[150, 200, 260]), 0.001), Change::None, "a noisy cell of a quiet task");
    }

    #[test]
    fn an_outlier_hardly_adds_to_the_scatter() {
        let scatter = |mib: &[u64]| Scatter::pooled([samples(mib).peaks.as_slice()].into_iter()).0;
        assert_eq!(scatter(&[200, 200, 200, 200, 900]), 0.0);
        let (usual, with_outlier) = (scatter(&[96, 98, 100, 102, 104]), scatter(&[96, 98, 100, 102, 900]));
        assert!(with_outlier < 2.0 * usual, "{usual} {with_outlier}");
    }

    #[test]
    fn cells_may_grow_together_though_none_shows_it() {
        let pairs = |rounds: &[&[u64]]| {
            let then = samples(&[180, 200, 220]);
            let pair = |then| Pair { then, now: Rounds::lowest_case(&now(rounds)) };
            let together =
                |cells: &[Pair<'_>]| growth_together(cells, 0.03, &tolerance(), Scatter(0.1)).map(|it| it > 0.15);
            let all = together(&[&then; 6].map(pair));
            (together(&[pair(&then)]), all)
        };
        assert_eq!(pairs(&[&[210, 240, 260]]), (None, Some(true)));
        assert_eq!(pairs(&[&[210, 240, 260], &[190, 202, 220]]), (None, None), "the second round does not confirm it");
        assert_eq!(pairs(&[&[198, 206, 220]]), (None, None));
    }
}
