//! Sizes in the order in which they tell most, and whether the memory is known well enough.
//!
//! The smallest and the largest size come first, then always the one farthest from those measured, as a ratio. The
//! memory is known once a curve through the sizes before has predicted the last two: more sizes tell more than repeats.

use std::str::FromStr;

use super::Budget;
use crate::calibrate::curve::Curve;
use crate::model::scalar::small_share;
use crate::stats::summary::distinct;

/// The number of sizes in a row that have to be predicted.
const PREDICTED: usize = 2;
/// Fewer sizes than this predict nothing worth checking.
const FEWEST: usize = 3;

/// When enough sizes are measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Until {
    /// The peaks of two sizes in a row were predicted within this share.
    Predicted(f64),
    /// The next run would make the sweep cost more than this.
    Cost(Budget),
}

impl Until {
    /// The sufficient deviation of a predicted peak, as a share.
    pub(super) fn within(self) -> Option<f64> {
        match self {
            Self::Predicted(within) => Some(within),
            Self::Cost(_) => None,
        }
    }
}

impl FromStr for Until {
    type Err = String;

    /// `10%`, `1h`, or `10GiBh`.
    fn from_str(text: &str) -> Result<Self, String> {
        match small_share(text) {
            Ok(within) => Ok(Self::Predicted(within)),
            Err(expected) if text.trim_end().ends_with('%') => Err(expected),
            Err(_) => {
                let expected = |_| "expected a share such as 10%, or a cost such as 1h or 10GiBh".to_owned();
                text.parse().map(Self::Cost).map_err(expected)
            }
        }
    }
}

/// The sizes of a sweep, and what is known about their memory.
#[derive(Clone, Debug)]
pub struct Adaptive {
    /// The sufficient deviation of a predicted peak: a share; `None` if no number of sizes is enough.
    within: Option<f64>,
    /// The size of each cell, and the group of cells that differ in their size only.
    cells: Vec<(f64, usize)>,
    groups: Vec<Known>,
}

/// What is known about a group.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Sizes and peaks, in the order measured.
    measured: Vec<(f64, f64)>,
    /// The sizes of the runs that were started.
    started: Vec<f64>,
    /// The number of sizes in a row that were predicted.
    in_a_row: usize,
}

impl Adaptive {
    /// Cells with their size and group; `within` is the sufficient deviation of a predicted peak, as a share: without one,
    /// all sizes are measured.
    pub fn new(within: Option<f64>, cells: Vec<(f64, usize)>) -> Self {
        let groups = cells.iter().map(|(_, group)| group + 1).max().unwrap_or(0);
        Self { within, cells, groups: vec![Known::default(); groups] }
    }

    /// The next of these cells to measure; `None` if the memory is known, or while runs in progress may show it.
    pub fn next(&self, pending: impl Iterator<Item = usize>) -> Option<usize> {
        let open = pending.filter_map(|cell| Some((cell, *self.cells.get(cell)?)));
        let of_size = |(cell, (n, group)): (usize, (f64, usize))| {
            let known = self.groups.get(group)?;
            // A size that was begun is finished first, with all of its runs.
            if known.started.contains(&n) {
                return Some((cell, f64::INFINITY, n));
            }
            (!known.is_known()).then(|| (cell, known.distance(n, &self.ends(group)), n))
        };
        let best = open.filter_map(of_size).reduce(|best, other| if other.1 > best.1 { other } else { best });
        best.map(|(cell, ..)| cell)
    }

    /// A run of this cell starts.
    pub fn starts(&mut self, cell: usize) {
        let Some((n, group)) = self.cells.get(cell).copied() else { return };
        if let Some(known) = self.groups.get_mut(group)
            && !known.started.contains(&n)
        {
            known.started.push(n);
        }
    }

    /// A run of this cell had this peak, in bytes.
    pub fn learn(&mut self, cell: usize, peak: f64) {
        self.add(cell, Some(peak));
    }

    /// Assumes that a run of this cell has the peak that is predicted.
    pub(super) fn assume(&mut self, cell: usize) {
        self.add(cell, None);
    }

    fn add(&mut self, cell: usize, peak: Option<f64>) {
        let Some((n, group)) = self.cells.get(cell).copied() else { return };
        self.starts(cell);
        let within = self.within;
        let Some(known) = self.groups.get_mut(group) else { return };
        if let Some(within) = within
            && known.is_new(n)
        {
            let is_predicted = peak.is_none_or(|peak| {
                let predicted = Curve::fit(&known.measured).map_or(f64::NAN, |curve| curve.at(n));
                (predicted / peak.max(1.0) - 1.0).abs() <= within
            });
            known.in_a_row = if is_predicted { known.in_a_row + 1 } else { 0 };
        }
        known.measured.push((n, peak.unwrap_or_default()));
    }

    /// The same sizes; all of them are measured.
    pub(super) fn without_end(&self) -> Self {
        let mut all = Self { within: None, ..self.clone() };
        all.groups.iter_mut().for_each(|known| known.in_a_row = 0);
        all
    }

    /// Whether a run of the size of this cell was started.
    pub(super) fn has_started(&self, cell: usize) -> bool {
        let Some((n, group)) = self.cells.get(cell) else { return false };
        self.groups.get(*group).is_some_and(|known| known.started.contains(n))
    }

    /// Whether no further size is needed.
    pub fn is_known(&self) -> bool {
        self.groups.iter().all(Known::is_known)
    }

    /// The smallest and the largest size of a group.
    fn ends(&self, group: usize) -> [f64; 2] {
        let sizes = || self.cells.iter().filter(|cell| cell.1 == group).map(|(n, _)| *n);
        [sizes().fold(f64::INFINITY, f64::min), sizes().fold(0.0, f64::max)]
    }
}

impl Known {
    /// Whether enough sizes are measured to predict this one, and it is none of them.
    fn is_new(&self, n: f64) -> bool {
        let sizes: Vec<f64> = self.measured.iter().map(|(n, _)| *n).collect();
        let before = distinct(sizes.clone()).len();
        before >= FEWEST && distinct([sizes, vec![n]].concat()).len() > before
    }

    fn is_known(&self) -> bool {
        self.in_a_row >= PREDICTED
    }

    /// How far a size is from those that were started, as the logarithm of a ratio. Both ends come first.
    fn distance(&self, n: f64, [smallest, largest]: &[f64; 2]) -> f64 {
        if n == *smallest || n == *largest {
            return if n == *smallest { 2e6 } else { 1e6 };
        }
        let from = |other: f64| (n.max(1.0) / other.max(1.0)).ln().abs();
        self.started.iter().map(|other| from(*other)).fold(1e5, f64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measures cells until the memory is known; the sizes measured, in order.
    fn measured(sizes: &[f64], peak: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut adaptive = Adaptive::new(Some(0.1), sizes.iter().map(|n| (*n, 0)).collect());
        let mut pending: Vec<usize> = (0..sizes.len()).collect();
        let mut order = Vec::new();
        while let Some(cell) = adaptive.next(pending.iter().copied()) {
            pending.retain(|other| *other != cell);
            adaptive.starts(cell);
            adaptive.learn(cell, peak(sizes[cell]));
            order.push(sizes[cell]);
        }
        assert_eq!(adaptive.is_known(), !pending.is_empty() || order.len() < sizes.len());
        order
    }

    const SIZES: [f64; 13] = [1e6, 1.4e6, 2e6, 2.8e6, 4e6, 5.6e6, 8e6, 11e6, 16e6, 22e6, 32e6, 45e6, 64e6];

    #[test]
    fn the_ends_come_first_and_then_the_widest_gap() {
        assert_eq!(measured(&SIZES, |n| 8e6 + 3.0 * n)[..3], [1e6, 64e6, 8e6]);
    }

    #[test]
    fn a_line_is_known_from_five_sizes() {
        assert_eq!(measured(&SIZES, |n| 8e6 + 3.0 * n).len(), 5);
    }

    #[test]
    fn a_step_takes_more_sizes() {
        assert!(measured(&SIZES, |n| if n > 10e6 { 300e6 } else { 40e6 }).len() > 6);
    }

    #[test]
    fn what_cannot_be_predicted_is_measured_completely() {
        let peaks = [10e6, 300e6, 20e6, 900e6, 30e6, 700e6];
        let wild = |n: f64| SIZES.iter().zip(peaks).find(|(size, _)| **size == n).map_or(0.0, |(_, peak)| peak);
        assert_eq!(measured(&SIZES[..6], wild).len(), 6);
    }

    #[test]
    fn repeats_and_near_equal_sizes_are_no_further_sizes() {
        let mut adaptive = Adaptive::new(Some(0.1), vec![(1e6, 0), (1.005e6, 0), (64e6, 0), (64.1e6, 0), (8e6, 0)]);
        [0, 0, 1, 2, 2, 3, 4].iter().for_each(|cell| adaptive.learn(*cell, 8e6));
        assert!(!adaptive.is_known(), "three sizes predict nothing");
    }

    #[test]
    fn an_end_is_a_share_or_a_cost() {
        assert_eq!("10%".parse(), Ok(Until::Predicted(0.1)));
        assert_eq!("1h".parse(), Ok(Until::Cost(Budget::Time(std::time::Duration::from_secs(3600)))));
        assert_eq!("2GiBh".parse(), Ok(Until::Cost(Budget::Memory(f64::from(1 << 30) * 7200.0))));
        assert_eq!("80%".parse::<Until>(), Err("expected a share from 0.01% to 50%, such as 1% or 0.01".to_owned()));
        let expected = "expected a share such as 10%, or a cost such as 1h or 10GiBh";
        assert_eq!("soon".parse::<Until>(), Err(expected.to_owned()));
    }

    #[test]
    fn without_an_end_all_sizes_are_measured_in_the_order_in_which_they_tell_most() {
        let mut adaptive = Adaptive::new(None, SIZES.iter().map(|n| (*n, 0)).collect());
        let mut pending: Vec<usize> = (0..SIZES.len()).collect();
        while let Some(cell) = adaptive.next(pending.iter().copied()) {
            pending.retain(|other| *other != cell);
            adaptive.learn(cell, 8e6);
        }
        assert!(pending.is_empty() && !adaptive.is_known());
    }

    #[test]
    fn all_runs_of_a_size_that_was_begun_are_made() {
        let mut adaptive = Adaptive::new(Some(0.1), vec![(1.0, 0), (2.0, 0), (3.0, 0)]);
        adaptive.starts(1);
        assert_eq!(adaptive.next([0, 1, 2].into_iter()), Some(1));
    }
}
