//! Predicts what a run of a cell will take, from a curve through what was measured so far.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::OnceLock;
use std::time::Duration;

use crate::calibrate::curve::Curve;
use crate::model::units::Bytes;
use crate::stats::summary::median;

/// A known peak may be exceeded by this factor.
const HEADROOM: f64 = 1.1;
/// From this number of sizes on, what was measured counts more than what rules predict, or other groups of cells tell.
const ENOUGH: usize = 3;

/// The predicted cost of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its peak.
    pub memory: Option<Bytes>,
    /// Its time.
    pub time: Option<Duration>,
}

/// A cell, before its first run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ForecastCell {
    /// What its cost depends on: the size of its input, or a numeric parameter.
    pub n: f64,
    /// The group of cells that differ in `n` only; groups count from 0.
    pub group: usize,
    /// The memory that its rules predict.
    pub predicted: Option<Bytes>,
}

/// A run of a cell that has ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct PastRun {
    /// Its peak.
    pub peak: Option<Bytes>,
    /// Its time.
    pub wall: Duration,
    /// The time of all that belongs to it, such as staging its input; unknown for runs of an earlier sweep.
    pub elapsed: Option<Duration>,
}

/// The known runs of a sweep.
#[derive(Clone, Debug)]
pub struct Forecast {
    cells: Vec<CellHistory>,
    limit: Option<Bytes>,
    memory: Curves,
    wall: Curves,
    /// The time around the first run of a cell, and around each later one.
    first: Curves,
    later: Curves,
}

/// The known runs of a cell.
#[derive(Clone, Debug)]
struct CellHistory {
    cell: ForecastCell,
    peak: Option<Bytes>,
    walls: Vec<f64>,
    has_begun: bool,
}

impl Forecast {
    /// Creates it from the cells; no run uses more memory than the limit.
    pub fn new(cells: impl IntoIterator<Item = ForecastCell>, limit: Option<Bytes>) -> Self {
        let known = |cell| CellHistory { cell, peak: None, walls: Vec::new(), has_begun: false };
        let cells: Vec<CellHistory> = cells.into_iter().map(known).collect();
        let groups = cells.iter().map(|known| known.cell.group + 1).max().unwrap_or_default();
        let curves = || Curves { groups: vec![Group::default(); groups], all: Group::default(), best_known: 0 };
        Self { cells, limit, memory: curves(), wall: curves(), first: curves(), later: curves() }
    }

    /// Adds a run of a cell.
    pub fn learn(&mut self, cell: usize, run: PastRun) {
        let Some(known) = self.cells.get_mut(cell) else { return };
        let wall = run.wall.as_secs_f64();
        known.peak = known.peak.max(run.peak);
        known.walls.push(wall);
        if let Some(peak) = known.peak {
            self.memory.set(cell, &known.cell, peak.0 as f64);
        }
        if let Some(wall) = median(&known.walls) {
            self.wall.set(cell, &known.cell, wall);
        }
        if let Some(elapsed) = run.elapsed {
            let around = (elapsed.as_secs_f64() - wall).max(0.0);
            let curves = if known.has_begun { &mut self.later } else { &mut self.first };
            known.has_begun = true;
            curves.set(cell, &known.cell, around);
        }
    }

    /// Predicts the cost of a run of a cell: from its own runs, else from the curve through other cells. Until enough
    /// of them are known, its memory is not less than its rules predict.
    pub fn expected(&self, cell: usize) -> Expected {
        let Some(known) = self.cells.get(cell) else { return Expected { memory: None, time: None } };
        let memory = match (known.peak, self.memory.estimate(&known.cell)) {
            (Some(peak), _) => Some(times(peak.0 as f64)),
            (None, Some(other)) if other.sizes >= ENOUGH => Some(times(other.upper)),
            (None, other) => known.cell.predicted.max(other.map(|other| times(other.upper))),
        };
        let memory = match (memory, self.limit) {
            (Some(memory), Some(limit)) => Some(memory.min(limit)),
            (None, limit) => limit,
            (memory, None) => memory,
        };
        Expected { memory, time: self.wall(known).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) }
    }

    fn wall(&self, known: &CellHistory) -> Option<f64> {
        median(&known.walls).or_else(|| self.wall.estimate(&known.cell).map(|estimate| estimate.usual))
    }

    /// The time of runs in this order, at most `jobs` at a time and within the memory, with all that belongs to them;
    /// none before anything is known. Those in progress come with their time so far.
    pub fn time_left(
        &self,
        running: impl IntoIterator<Item = (usize, Duration)>,
        pending: impl IntoIterator<Item = usize>,
        jobs: usize,
        capacity: Option<Bytes>,
    ) -> Option<Duration> {
        let mut begun: Vec<bool> = self.cells.iter().map(|known| known.has_begun).collect();
        let mut whole = |cell: usize| {
            let known = self.cells.get(cell)?;
            let curves = if std::mem::replace(&mut begun[cell], true) { &self.later } else { &self.first };
            let around = curves.estimate(&known.cell).map_or(0.0, |estimate| estimate.usual);
            let whole = Duration::try_from_secs_f64(self.wall(known)? + around).ok()?;
            Some((whole, self.expected(cell).memory))
        };
        let mut ends = BinaryHeap::new();
        for (cell, since) in running {
            let (whole, memory) = whole(cell)?;
            ends.push(Reverse((whole.saturating_sub(since), memory.unwrap_or_default())));
        }
        let mut used: Bytes = ends.iter().map(|Reverse((_, memory))| *memory).sum();
        let mut now = Duration::ZERO;
        for cell in pending {
            let (whole, memory) = whole(cell)?;
            // A run of unknown memory runs alone.
            let memory = memory.or(capacity).unwrap_or_default();
            let fits = |used: Bytes| capacity.is_none_or(|capacity| used.saturating_add(memory) <= capacity);
            while ends.len() >= jobs || !fits(used) {
                let Some(Reverse((ended, freed))) = ends.pop() else { break };
                (now, used) = (ended, Bytes(used.0.saturating_sub(freed.0)));
            }
            used = used.saturating_add(memory);
            ends.push(Reverse((now.saturating_add(whole), memory)));
        }
        Some(ends.into_iter().map(|Reverse((end, _))| end).max().unwrap_or_default())
    }
}

/// One cost of all cells, by their groups.
#[derive(Clone, Debug)]
struct Curves {
    groups: Vec<Group>,
    all: Group,
    /// The group with the most known cells.
    best_known: usize,
}

/// The known costs of cells that differ in their size only.
#[derive(Clone, Debug, Default)]
struct Group {
    /// The point of each cell.
    places: HashMap<usize, usize>,
    /// Their sizes and costs.
    points: Vec<(f64, f64)>,
    /// Fitted when it is needed.
    curve: OnceLock<Option<Curve>>,
}

impl Group {
    fn set(&mut self, cell: usize, point: (f64, f64)) {
        let place = *self.places.entry(cell).or_insert(self.points.len());
        match self.points.get_mut(place) {
            Some(known) => *known = point,
            None => self.points.push(point),
        }
        self.curve = OnceLock::new();
    }

    fn curve(&self) -> Option<&Curve> {
        self.curve.get_or_init(|| Curve::fit(&self.points)).as_ref()
    }
}

/// An estimate of a cost.
#[derive(Clone, Copy)]
struct Estimate {
    usual: f64,
    upper: f64,
    /// The number of distinct sizes it is drawn from.
    sizes: usize,
}

impl Curves {
    fn set(&mut self, cell: usize, of: &ForecastCell, cost: f64) {
        let point = (of.n, cost);
        self.all.set(cell, point);
        let most = self.groups.get(self.best_known).map_or(0, |group| group.points.len());
        if let Some(group) = self.groups.get_mut(of.group) {
            group.set(cell, point);
            if group.points.len() > most {
                self.best_known = of.group;
            }
        }
    }

    /// From the cells of the same group; while these are few, from the best known group, scaled to them.
    fn estimate(&self, cell: &ForecastCell) -> Option<Estimate> {
        let group = self.groups.get(cell.group)?;
        let best = self.groups.get(self.best_known).and_then(Group::curve).filter(|best| best.sizes >= ENOUGH);
        let (curve, factor) = match (group.curve(), best) {
            (Some(own), Some(best)) if own.sizes < ENOUGH => {
                let ratios: Vec<f64> = group.points.iter().map(|(n, cost)| cost / best.at(*n)).collect();
                (best, median(&ratios).filter(|ratio| ratio.is_finite()).unwrap_or(1.0))
            }
            (Some(own), _) => (own, 1.0),
            (None, _) => (self.all.curve()?, 1.0),
        };
        let (usual, upper) = (curve.at(cell.n) * factor, curve.upper(cell.n) * factor);
        Some(Estimate { usual, upper, sizes: curve.sizes })
    }
}

fn times(bytes: f64) -> Bytes {
    Bytes((bytes * HEADROOM) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(sizes: &[f64]) -> Vec<ForecastCell> {
        sizes.iter().map(|n| ForecastCell { n: *n, ..ForecastCell::default() }).collect()
    }

    fn run(peak: u64, seconds: f64) -> PastRun {
        PastRun { peak: Some(Bytes(peak)), wall: Duration::from_secs_f64(seconds), elapsed: None }
    }

    #[test]
    fn what_was_seen_counts_before_what_was_predicted() {
        let mut cells = cells(&[10.0, 20.0, 5.0]);
        cells[0].predicted = Some(Bytes(500));
        let mut forecast = Forecast::new(cells, None);
        assert_eq!(forecast.expected(0).memory, Some(Bytes(500)));
        assert_eq!(forecast.expected(1).memory, None);
        forecast.learn(0, run(100, 3.0));
        assert_eq!(forecast.expected(0), Expected { memory: Some(Bytes(110)), time: Some(Duration::from_secs(3)) });
        let twice = forecast.expected(1).memory.unwrap().0;
        assert!((220..=240).contains(&twice), "in proportion to the size: {twice}");
        assert_eq!(forecast.expected(1).time, Some(Duration::from_secs(6)));
        assert_eq!(forecast.expected(2).memory, Some(Bytes(110)), "a larger input bounds a smaller one");
    }

    #[test]
    fn nothing_takes_more_than_its_limit() {
        let mut forecast = Forecast::new(cells(&[10.0]), Some(Bytes(50)));
        assert_eq!(forecast.expected(0).memory, Some(Bytes(50)));
        forecast.learn(0, run(100, 0.0));
        assert_eq!(forecast.expected(0).memory, Some(Bytes(50)));
    }

    /// Seconds, or MiB, by the size of the input.
    type Cost = fn(f64) -> f64;
    const COSTS: [(&str, Cost); 5] = [
        ("linear", |n| 2.0 * n),
        ("constant and linear", |n| 20.0 + n),
        ("nearly constant", |n| 30.0 + 0.05 * n),
        ("n^1.5", |n| n.powf(1.5)),
        ("n log n", |n| n * (1e6 * n).ln() / 7.0),
    ];
    /// A range of 60.
    const SIZES: [f64; 9] = [1.0, 1.7, 2.8, 4.6, 7.7, 13.0, 21.0, 36.0, 60.0];

    /// Small first, large first, and shuffled in several ways.
    fn orders() -> impl Iterator<Item = Vec<usize>> {
        let shuffled = (1..=20).map(|seed| {
            let order = crate::model::plan::in_order(crate::model::plan::Order::Shuffled(seed), SIZES.len(), 1);
            order.into_iter().map(|(cell, _)| cell).collect()
        });
        [(0..SIZES.len()).collect(), (0..SIZES.len()).rev().collect()].into_iter().chain(shuffled)
    }

    /// A scatter of 1 %, the same in every test.
    fn scattered(cell: usize) -> f64 {
        [1.005, 0.99, 1.01, 0.99, 1.0, 1.01, 0.99, 1.005, 0.99][cell]
    }

    #[test]
    fn from_the_third_cell_on_the_time_left_is_right_within_30_percent_or_3_seconds() {
        for (name, cost) in COSTS {
            for order in orders() {
                let mut forecast = Forecast::new(cells(&SIZES), None);
                let time = |cell: &usize| cost(SIZES[*cell]) * scattered(*cell);
                for (done, cell) in order.iter().enumerate() {
                    forecast.learn(*cell, run(1, time(cell)));
                    let to_come = &order[done + 1..];
                    let told = forecast.time_left([], to_come.iter().copied(), 1, None).unwrap().as_secs_f64();
                    let actual: f64 = to_come.iter().map(time).sum();
                    let error = (told - actual).abs();
                    assert!(
                        done < 2 || error <= 3.0 || error <= 0.3 * actual,
                        "{name}, {:?}, then {:?}: {told:.1} s for {actual:.1} s",
                        order[..=done].iter().map(|cell| SIZES[*cell]).collect::<Vec<_>>(),
                        to_come.iter().map(|cell| SIZES[*cell]).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    #[test]
    fn memory_to_come_is_not_more_than_reserved_and_not_much_less() {
        for (name, cost) in COSTS {
            for order in orders() {
                let mut forecast = Forecast::new(cells(&SIZES), None);
                let peak = |cell: usize| cost(SIZES[cell]) * scattered(cell) * Bytes::MIB.0 as f64;
                for (done, cell) in order.iter().enumerate() {
                    forecast.learn(*cell, run(peak(*cell) as u64, 1.0));
                    for next in order[done + 1..].iter().filter(|_| done >= 2) {
                        let share = forecast.expected(*next).memory.unwrap().0 as f64 / peak(*next);
                        let seen: Vec<f64> = order[..=done].iter().map(|cell| SIZES[*cell]).collect();
                        assert!((0.9..=2.0).contains(&share), "{name}, {seen:?}, {}: {share}", SIZES[*next]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_group_of_cells_follows_the_curve_of_the_others() {
        let cell = |n: f64, group| ForecastCell { n, group, predicted: None };
        let sizes = [1.0, 10.0, 60.0];
        let all = (0..2).flat_map(|group| sizes.map(|n| cell(n, group)));
        let mut forecast = Forecast::new(all, None);
        for (place, n) in sizes.into_iter().enumerate() {
            forecast.learn(place, run(1, 10.0 + n));
        }
        forecast.learn(3, run(1, 5.5));
        assert!((34.0..36.0).contains(&forecast.expected(5).time.unwrap().as_secs_f64()));
    }

    #[test]
    fn runs_at_the_same_time_take_less_and_no_less_than_their_memory_allows() {
        let mut forecast = Forecast::new(cells(&[1.0; 4]), None);
        forecast.learn(0, run(100, 10.0));
        let left = |jobs, capacity| {
            let left = forecast.time_left([(0, Duration::from_secs(4))], [1, 2, 3], jobs, Some(Bytes(capacity)));
            left.unwrap().as_secs()
        };
        assert_eq!((left(1, 1000), left(2, 1000), left(4, 1000), left(4, 150)), (36, 20, 10, 36));
    }

    #[test]
    fn what_belongs_to_a_run_takes_time_too() {
        let mut forecast = Forecast::new(cells(&[10.0, 20.0]), None);
        let one = |elapsed| PastRun { elapsed: Some(Duration::from_secs(elapsed)), ..run(1, 1.0) };
        forecast.learn(0, one(4));
        forecast.learn(0, one(2));
        let left = forecast.time_left([], [0, 1, 1], 1, None);
        assert_eq!(left, Some(Duration::from_secs(2 + (2 + 6) + (2 + 2))), "the input is staged once");
    }

    #[test]
    fn nothing_is_told_before_the_first_run() {
        let forecast = Forecast::new(cells(&[1.0]), None);
        assert_eq!(forecast.time_left([], [0], 1, None), None);
    }
}
