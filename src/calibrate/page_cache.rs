//! Recognises runs that peaked above other runs of the same cell because of page cache.
//!
//! A file is charged to the run that reads it first, so a run with cold caches peaks higher than its repeats. The kernel
//! can reclaim that part: it is not needed.

use crate::model::observation::Observation;
use crate::model::units::Bytes;

/// A larger peak is worth a word only from this share of the usual one on.
const LEAST_EXCESS: f64 = 0.05;
/// The page cache of a cold start is at least this many times that of any other run,
const FAR_ABOVE: f64 = 2.0;
/// and exceeds it by this share of the peak.
const LEAST_COLD: f64 = 0.1;
/// The share of the excess that page cache has to explain.
const EXPLAINED: f64 = 0.8;

/// What a peak contained.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageCache {
    /// The page cache at the highest sample, without shared memory; unknown for many lower bounds.
    file: Option<Bytes>,
    error_bound: Bytes,
}

impl PageCache {
    pub(super) fn new(observation: &Observation) -> Self {
        let file = observation.breakdown.as_ref().value().and_then(|breakdown| breakdown.file.value());
        let error_bound = observation.peak.as_ref().value().map(|peak| peak.exactness.error_bound());
        Self { file, error_bound: error_bound.unwrap_or_default() }
    }
}

/// How much of each run's peak is page cache that another run of the same cell did without; `None` if nothing worth a
/// word. That is never so for all of them.
pub(super) fn excesses(runs: &[(Bytes, PageCache)]) -> Vec<Option<Bytes>> {
    // The usual of the other runs is that of the lower half: several first runs may have been cold.
    let lower = |mut values: Vec<u64>| {
        values.sort_unstable();
        values.get(values.len().saturating_sub(1) / 2).copied()
    };
    let of_run = |(place, (peak, cache)): (usize, &(Bytes, PageCache))| {
        let others = || runs.iter().enumerate().filter(move |(other, _)| *other != place).map(|(_, other)| other);
        let usual = lower(others().map(|(peak, _)| peak.0).collect())?;
        let excess = peak.0.checked_sub(usual)?;
        let usual_file = lower(others().filter_map(|(_, cache)| cache.file).map(|file| file.0).collect())?;
        let more_file = cache.file?.0.checked_sub(usual_file)?;
        let is_large = excess > cache.error_bound.0 && excess as f64 > usual as f64 * LEAST_EXCESS;
        (is_large && more_file as f64 >= excess as f64 * EXPLAINED).then_some(Bytes(excess))
    };
    runs.iter().enumerate().map(of_run).collect()
}

/// A run with far more page cache than all others, though one of them had an input at least as large: its index, its page
/// cache, and the most of the others. Runs are given by peak, page cache and size of the input; two show nothing.
pub(super) fn cold_start(runs: impl Iterator<Item = (Bytes, PageCache, f64)> + Clone) -> Option<(usize, Bytes, Bytes)> {
    let files = || runs.clone().enumerate().filter_map(|(place, (_, cache, _))| Some((cache.file?, place)));
    let (file, place) = files().max()?;
    let others = files().filter(|(_, other)| *other != place).map(|(file, _)| file).max()?;
    let (peak, cache, n) = runs.clone().nth(place)?;
    let more = file.saturating_sub(others);
    let is_far = file.0 as f64 >= FAR_ABOVE * others.0 as f64
        && more.0 as f64 > LEAST_COLD * peak.0 as f64
        && more > cache.error_bound;
    let is_largest = || runs.clone().enumerate().all(|(other, (.., size))| other == place || size < n);
    (is_far && files().count() > 2 && !is_largest()).then_some((place, file, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_start_has_far_more_page_cache_than_larger_inputs() {
        let mib = |mib: u64| Bytes(mib << 20);
        let found = |runs: &[(u64, u64, f64)]| {
            let run = |(peak, file, n): &(u64, u64, f64)| {
                (mib(*peak), PageCache { file: Some(mib(*file)), error_bound: mib(1) }, *n)
            };
            cold_start(runs.iter().map(run)).map(|(place, file, others)| (place, file.0 >> 20, others.0 >> 20))
        };
        assert_eq!(found(&[(32, 24, 1.0), (9, 0, 2.0), (10, 1, 4.0)]), Some((0, 24, 1)));
        assert_eq!(found(&[(9, 0, 1.0), (10, 1, 2.0), (32, 24, 4.0)]), None, "the largest input may have to be read");
        assert_eq!(found(&[(32, 24, 1.0), (40, 20, 2.0), (60, 20, 4.0)]), None, "others are no better");
        assert_eq!(found(&[(320, 24, 1.0), (300, 0, 2.0), (310, 1, 4.0)]), None, "it hardly matters");
        assert_eq!(found(&[(32, 24, 1.0), (9, 0, 2.0)]), None, "two runs show nothing");
    }

    fn runs(runs: &[(u64, u64)]) -> Vec<Option<u64>> {
        let mib = |mib: u64| Bytes(mib << 20);
        let run = |(peak, file): &(u64, u64)| (mib(*peak), PageCache { file: Some(mib(*file)), error_bound: mib(1) });
        let runs: Vec<(Bytes, PageCache)> = runs.iter().map(run).collect();
        excesses(&runs).into_iter().map(|excess| excess.map(|bytes| bytes.0 >> 20)).collect()
    }

    #[test]
    fn a_cold_run_peaks_higher_by_its_page_cache() {
        assert_eq!(runs(&[(225, 118), (107, 0), (108, 1)]), [Some(118), None, None]);
        assert_eq!(runs(&[(225, 118), (107, 0)]), [Some(118), None], "two runs show it, too");
        assert_eq!(runs(&[(225, 118), (224, 117), (107, 0)]), [Some(118), Some(117), None]);
    }

    #[test]
    fn other_memory_is_needed() {
        assert_eq!(runs(&[(225, 20), (107, 0), (108, 1)]), [None, None, None]);
        assert_eq!(runs(&[(110, 4), (107, 0), (108, 1)]), [None, None, None], "a small difference is usual");
        assert_eq!(runs(&[(225, 118), (225, 118)]), [None, None], "each run reads the files");
        assert_eq!(runs(&[(225, 118)]), [None]);
        assert_eq!(runs(&[]), []);
    }

    #[test]
    fn an_unknown_composition_shows_nothing() {
        let unknown = |peak| (Bytes(peak), PageCache::default());
        assert_eq!(excesses(&[unknown(200), unknown(100)]), [None, None]);
    }
}
