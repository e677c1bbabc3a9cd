//! What a run of a cell will take, from what is known so far.

use std::time::Duration;

use crate::model::units::Bytes;

/// A peak that was seen may be surpassed by so much.
const HEADROOM: f64 = 1.1;

/// What a run will probably take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The most memory it has in use.
    pub memory: Option<Bytes>,
    /// How long it lasts.
    pub time: Option<Duration>,
}

/// What is known of the runs of a sweep.
#[derive(Clone, Debug)]
pub struct Forecast {
    cells: Vec<Known>,
    limit: Option<Bytes>,
}

/// What is known of a cell.
#[derive(Clone, Copy, Debug)]
struct Known {
    input: Bytes,
    predicted: Option<Bytes>,
    peak: Option<Bytes>,
    wall: Option<Duration>,
}

impl Forecast {
    /// Of cells with so much input, and what their rules ask for; no run has more memory than the limit.
    pub fn new(cells: impl IntoIterator<Item = (Bytes, Option<Bytes>)>, limit: Option<Bytes>) -> Self {
        let known = |(input, predicted)| Known { input, predicted, peak: None, wall: None };
        Self { cells: cells.into_iter().map(known).collect(), limit }
    }

    /// A run of a cell had this peak and took so long.
    pub fn learn(&mut self, cell: usize, peak: Option<Bytes>, wall: Duration) {
        if let Some(known) = self.cells.get_mut(cell) {
            known.peak = known.peak.max(peak);
            known.wall = known.wall.max(Some(wall));
        }
    }

    /// What a run of a cell will take. Of its memory: what was seen of the cell, else what its rules ask for or what other
    /// cells say, whichever is more.
    pub fn of(&self, cell: usize) -> Expected {
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
        let seconds = |known: &Known| known.wall.map(|wall| wall.as_secs_f64());
        let time = seconds(known).or_else(|| self.by_others(known.input, seconds));
        Expected { memory, time: time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) }
    }

    /// The most that cells with no more input had, in proportion to the input where that of this one is larger; where
    /// there are none, the least that a larger one had.
    fn by_others(&self, input: Bytes, of: impl Fn(&Known) -> Option<f64>) -> Option<f64> {
        let seen = || self.cells.iter().filter_map(|other| Some((other.input, of(other)?)));
        let smaller = seen().filter(|(bytes, _)| *bytes <= input);
        let scaled = smaller.map(|(bytes, value)| value * input.ratio(bytes).unwrap_or(1.0).max(1.0));
        let larger = seen().filter(|(bytes, _)| *bytes >= input).map(|(_, value)| value);
        // A larger input takes no less: what it took is a bound for this one, and needs no extrapolation.
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
        assert_eq!(forecast.of(0).memory, Some(Bytes(500)));
        assert_eq!(forecast.of(1).memory, None);
        forecast.learn(0, Some(Bytes(100)), Duration::from_secs(3));
        assert_eq!(forecast.of(0), Expected { memory: Some(Bytes(110)), time: Some(Duration::from_secs(3)) });
        assert_eq!(forecast.of(1), Expected { memory: Some(Bytes(220)), time: Some(Duration::from_secs(6)) });
        assert_eq!(forecast.of(2).memory, Some(Bytes(110)), "a larger input bounds a smaller one");
    }

    #[test]
    fn nothing_takes_more_than_its_limit() {
        let mut forecast = Forecast::new([(Bytes(10), None)], Some(Bytes(50)));
        assert_eq!(forecast.of(0).memory, Some(Bytes(50)));
        forecast.learn(0, Some(Bytes(100)), Duration::ZERO);
        assert_eq!(forecast.of(0).memory, Some(Bytes(50)));
    }
}
