//! The best rule in hindsight, as a reference for evaluation.

use crate::model::fit::{Censoring, Form, RunTable};

use super::shape::{Curve, Datum, raised};
use super::waste::waste;
use super::{Point, points};

/// The most doublings of a limit in the search.
const TRIES: i32 = 6;
/// Slopes between 0 and twice the steepest sensible one are tried in this many steps, …
const STEPS: i32 = 80;
/// … then the neighbourhoods of the best of them in steps of a sixth, and so on.
const ZOOMS: usize = 4;
const KEPT: usize = 4;
const FINER: i32 = 6;

/// The least waste, in byte-seconds, of any rule base + a · n^k on these very runs, with base and a not below 0 and k
/// up to `max_exponent`.
///
/// For each slope the best base is computed exactly: the waste is piecewise linear in the base, growing between the
/// values at which a run just fits or just fits after some doublings. The slopes are searched on a grid that is refined
/// four times around its best values.
pub fn oracle(table: &RunTable, predictor: usize, max_exponent: u32) -> f64 {
    let timed = points::is_timed(table);
    let uncensored = table.runs.iter().filter(|run| run.censoring == Censoring::None);
    let runs: Vec<Point> = uncensored
        .enumerate()
        .filter_map(|(input, run)| {
            let n = run.sizes.get(predictor)?.0 as f64;
            Some(Point { input, n, peak: run.peak.0 as f64, wall: run.wall_seconds.filter(|_| timed).unwrap_or(1.0) })
        })
        .collect();
    let largest = runs.iter().map(|run| run.n).fold(0.0, f64::max);
    let best = |exponent| best_of_exponent(&raised(&runs, f64::from(exponent), largest));
    (1..=max_exponent.max(1)).map(best).fold(f64::INFINITY, f64::min)
}

fn best_of_exponent(data: &[Datum]) -> f64 {
    let range = |value: fn(&Datum) -> f64| {
        let (low, high) = data.iter().map(value).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        high - low
    };
    let steepest = range(|datum| datum.peak) / range(|datum| datum.x);
    let unit = if steepest.is_finite() { steepest } else { 0.0 };
    let mut sweep = Sweep::new(data);
    let mut step = 1.0 / f64::from(STEPS / 2);
    let mut tried: Vec<(f64, f64)> = Vec::new();
    for place in 0..=STEPS {
        let slope = f64::from(place) * step;
        tried.push((sweep.least(slope * unit), slope));
    }
    for _ in 0..ZOOMS {
        tried.sort_by(|a, b| a.0.total_cmp(&b.0));
        tried.truncate(KEPT);
        for (_, centre) in tried.clone() {
            for place in -FINER..=FINER {
                let slope = centre + f64::from(place) * step / f64::from(FINER);
                if slope >= 0.0 {
                    tried.push((sweep.least(slope * unit), slope));
                }
            }
        }
        step /= f64::from(FINER);
    }
    tried.iter().map(|(cost, _)| *cost).fold(f64::INFINITY, f64::min)
}

/// The waste for all bases with one slope.
struct Sweep<'a> {
    data: &'a [Datum],
    /// Bases at which one more try becomes necessary, with the weight and weighted growth that this adds.
    events: Vec<(f64, f64, f64)>,
}

impl<'a> Sweep<'a> {
    fn new(data: &'a [Datum]) -> Self {
        Self { data, events: Vec::new() }
    }

    /// The least waste for this slope.
    ///
    /// A run that fits after j failed tries wastes wall · ((2^(j+1) − 1) · limit − peak).
    fn least(&mut self, slope: f64) -> f64 {
        self.events.clear();
        let (mut weight, mut constant) = (0.0, 0.0);
        let mut lowest: f64 = 0.0;
        for datum in self.data {
            let growth = slope * datum.x;
            weight += datum.wall;
            constant += datum.wall * (growth - datum.peak);
            for try_ in 0..TRIES {
                let more = datum.wall * f64::from(1 << (try_ + 1));
                self.events.push((datum.peak / f64::from(1 << try_) - growth, more, more * growth));
            }
            lowest = lowest.max(datum.peak / f64::from(1 << TRIES) - growth);
        }
        self.events.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut least = f64::INFINITY;
        for &(base, more_weight, more_growth) in &self.events {
            if base < lowest {
                break;
            }
            least = least.min(weight * base + constant);
            weight += more_weight;
            constant += more_growth;
        }
        least.min(self.at(lowest, slope))
    }

    fn at(&self, base: f64, slope: f64) -> f64 {
        let curve = Curve { form: Form::Sum, base, slope };
        self.data.iter().map(|datum| waste(curve.at(datum.x), datum.peak, datum.wall)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::fit::holdout::scrambled;
    use crate::model::fit::SizedRun;
    use crate::model::units::Bytes;

    fn table(runs: &[(u64, u64)]) -> RunTable {
        let runs = runs.iter().map(|&(n, peak)| SizedRun {
            sizes: vec![Bytes(n)],
            peak: Bytes(peak),
            censoring: Censoring::None,
            wall_seconds: None,
        });
        RunTable { predictors: vec!["n".into()], runs: runs.collect() }
    }

    /// Tries every line through two points, including halved peaks, and every constant and line from the origin.
    fn exhaustive(runs: &[(u64, u64)]) -> f64 {
        let marks: Vec<(f64, f64)> = runs
            .iter()
            .flat_map(|&(n, peak)| (0..4).map(move |try_| (n as f64, peak as f64 / f64::from(1 << try_))))
            .collect();
        let mut rules: Vec<(f64, f64)> = vec![];
        for a in &marks {
            rules.push((a.1, 0.0));
            rules.push((0.0, a.1 / a.0));
            for b in &marks {
                let slope = (b.1 - a.1) / (b.0 - a.0);
                if slope.is_finite() && slope >= 0.0 && a.1 - slope * a.0 >= 0.0 {
                    rules.push((a.1 - slope * a.0, slope));
                }
            }
        }
        let cost = |(base, slope): &(f64, f64)| -> f64 {
            runs.iter().map(|&(n, peak)| waste((base + slope * n as f64) * (1.0 + 1e-12), peak as f64, 1.0)).sum()
        };
        rules.iter().map(cost).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn no_line_through_two_runs_is_better() {
        for seed in 0..40 {
            let number = |place: u64, range: u64| scrambled(seed * 1000 + place) % range;
            let runs: Vec<(u64, u64)> = (0..12)
                .map(|place| {
                    let n = 100 + number(place, 900);
                    (n, 500 + n * (seed % 4) + number(100 + place, 400) * (1 + number(200 + place, 5) / 4))
                })
                .collect();
            let (found, best) = (oracle(&table(&runs), 0, 1), exhaustive(&runs));
            assert!(found <= best * 1.002, "seed {seed}: {found} is more than {best}");
            assert!(found >= best * 0.998 - 1.0, "seed {seed}: {found} is less than {best}");
        }
    }

    #[test]
    fn a_perfect_line_costs_nothing() {
        let runs: Vec<(u64, u64)> = (1..30).map(|n| (n * 100, 1000 + n * 300)).collect();
        assert!(oracle(&table(&runs), 0, 2) < 1.0);
    }
}
