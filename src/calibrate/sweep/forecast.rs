//! Predicts what a run of a cell will take, from what is known so far.

use std::time::Duration;

use crate::model::units::Bytes;

/// A known peak may be exceeded by this factor.
const HEADROOM: f64 = 1.1;

/// The predicted cost of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its peak.
    pub memory: Option<Bytes>,
    /// Its time.
    pub time: Option<Duration>,
}

/// The known runs of a sweep.
#[derive(Clone, Debug)]
pub struct Forecast {
    cells: Vec<CellHistory>,
    limit: Option<Bytes>,
}

/// The known runs of a cell.
#[derive(Clone, Copy, Debug)]
struct CellHistory {
    input: Bytes,
    predicted: Option<Bytes>,
    peak: Option<Bytes>,
    wall: Option<Duration>,
}

impl Forecast {
    /// Creates it from the input size and the predicted memory of each cell; no run uses more memory than the limit.
    pub fn new(cells: impl IntoIterator<Item = (Bytes, Option<Bytes>)>, limit: Option<Bytes>) -> Self {
        let known = |(input, predicted)| CellHistory { input, predicted, peak: None, wall: None };
        Self { cells: cells.into_iter().map(known).collect(), limit }
    }

    /// Adds the peak and time of a run of a cell.
    pub fn learn(&mut self, cell: usize, peak: Option<Bytes>, wall: Duration) {
        if let Some(known) = self.cells.get_mut(cell) {
            known.peak = known.peak.max(peak);
            known.wall = known.wall.max(Some(wall));
        }
    }

    /// Predicts the cost of a run of a cell. Its memory is the known peak of the cell, else the maximum of the
    /// prediction of its rules and the estimate from other cells.
    pub fn expected(&self, cell: usize) -> Expected {
        let Some(known) = self.cells.get(cell) else { return Expected { memory: None, time: None } };
        let memory = match known.peak {
            Some(peak) => Some(times(peak, HEADROOM)),
            None => {
                let seen = self.by_others(known.input, |other| other.peak.map(|peak| peak.0 as f64));
                known.predicted.max(seen.map(|bytes| times(Bytes(bytes as u64), HEADROOM)))
            }
        };
        let memory = match (memory, self.limit) {
            (Some(memory), Some(limit)) => Some(memory.min(limit)),
            (None, limit) => limit,
            (memory, None) => memory,
        };
        let seconds = |known: &CellHistory| known.wall.map(|wall| wall.as_secs_f64());
        let time = seconds(known).or_else(|| self.by_others(known.input, seconds));
        Expected { memory, time: time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) }
    }

    /// The maximum of the cells with no larger input, scaled up if the input of this one is larger; if there are none,
    /// the minimum of those with a larger input.
    fn by_others(&self, input: Bytes, of: impl Fn(&CellHistory) -> Option<f64>) -> Option<f64> {
        let seen = || self.cells.iter().filter_map(|other| Some((other.input, of(other)?)));
        let smaller = seen().filter(|(bytes, _)| *bytes <= input);
        let scaled = smaller.map(|(bytes, value)| value * input.ratio(bytes).unwrap_or(1.0).max(1.0));
        let larger = seen().filter(|(bytes, _)| *bytes >= input).map(|(_, value)| value);
        // A larger input takes at least as much: its cost is a bound for this cell and needs no extrapolation.
        larger.reduce(f64::min).or_else(|| scaled.reduce(f64::max))
    }
}

fn times(bytes: Bytes, factor: f64) -> Bytes {
    Bytes((bytes.0 as f64 * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_counts_before_what_was_predicted() {
        let mut forecast = Forecast::new([(Bytes(10), Some(Bytes(500))), (Bytes(20), None), (Bytes(5), None)], None);
        assert_eq!(forecast.expected(0).memory, Some(Bytes(500)));
        assert_eq!(forecast.expected(1).memory, None);
        forecast.learn(0, Some(Bytes(100)), Duration::from_secs(3));
        assert_eq!(forecast.expected(0), Expected { memory: Some(Bytes(110)), time: Some(Duration::from_secs(3)) });
        assert_eq!(forecast.expected(1), Expected { memory: Some(Bytes(220)), time: Some(Duration::from_secs(6)) });
        assert_eq!(forecast.expected(2).memory, Some(Bytes(110)), "a larger input bounds a smaller one");
    }

    #[test]
    fn nothing_takes_more_than_its_limit() {
        let mut forecast = Forecast::new([(Bytes(10), None)], Some(Bytes(50)));
        assert_eq!(forecast.expected(0).memory, Some(Bytes(50)));
        forecast.learn(0, Some(Bytes(100)), Duration::ZERO);
        assert_eq!(forecast.expected(0).memory, Some(Bytes(50)));
    }
}
