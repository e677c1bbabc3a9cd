//! The data stored of each run: only what the cells need.

use crate::calibrate::page_cache::{PageCache, excesses};
use crate::model::observation::Observation;
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

/// The data stored of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) cell: u32,
    /// Its index in the records.
    pub(super) index: u32,
    pub(super) started_at: Timestamp,
    pub(super) number: u32,
    pub(super) succeeded: bool,
    pub(super) censored: bool,
    pub(super) swapped: bool,
    /// Whether the page cache was set up for this run, so that being the first makes no difference.
    pub(super) had_a_cache_of_its_own: bool,
    pub(super) peak: Option<Bytes>,
    pub(super) cache: PageCache,
    /// The part of its peak that is page cache which other runs of the cell did without.
    pub(super) excess: Option<Bytes>,
    pub(super) wall_us: u64,
    /// The share of the time that something waited for memory.
    pub(super) waited_for_memory: f64,
    pub(super) cpu_us: Option<u64>,
    /// Whether other runs were on the same CPUs.
    pub(super) is_disturbed: bool,
}

impl Run {
    pub(super) fn new(cell: u32, index: u32, number: u32, observation: &Observation) -> Self {
        let swapped = observation.swap.peak.or(observation.swap.highest_sampled).value();
        let waited_for_memory = match observation.pressure {
            Reading::Value(pressure) if observation.wall_us > 0 => pressure.some_us as f64 / observation.wall_us as f64,
            Reading::Value(_) | Reading::Unsupported | Reading::Gone => 0.0,
        };
        let peak = observation.peak.as_ref().value().map(|peak| peak.bytes);
        Self {
            cell,
            index,
            started_at: observation.started_at,
            number,
            succeeded: observation.outcome.succeeded(),
            censored: observation.censored,
            swapped: swapped.is_some_and(|bytes| bytes > Bytes::ZERO),
            had_a_cache_of_its_own: observation.cache.is_some(),
            peak,
            cache: PageCache::new(observation),
            excess: None,
            wall_us: observation.wall_us,
            waited_for_memory,
            cpu_us: observation.cpu.value().map(|cpu| cpu.user_us + cpu.system_us),
            is_disturbed: observation.is_time_disturbed(),
        }
    }

    pub(super) fn wall_seconds(&self) -> f64 {
        self.wall_us as f64 / 1e6
    }
}

/// Marks the runs of a cell that peaked above the others because of page cache.
pub(super) fn find_page_cache(runs: &mut [Run]) {
    let plain = runs.iter_mut().filter(|run| run.succeeded && !run.censored);
    let (plain, peaks): (Vec<&mut Run>, Vec<(Bytes, PageCache)>) = plain
        .filter_map(|run| {
            let peak = (run.peak?, run.cache);
            Some((run, peak))
        })
        .unzip();
    plain.into_iter().zip(excesses(&peaks)).for_each(|(run, excess)| run.excess = excess);
}
