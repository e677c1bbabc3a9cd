//! Recognises runs that peaked above other runs of the same cell because of page cache.
//!
//! A file is charged to the run that reads it first, so a run with cold caches peaks higher than its repeats. The kernel
//! can reclaim that part: it is not needed.

use crate::model::observation::Observation;
use crate::model::units::Bytes;

/// A larger peak is worth a word only from this share of the usual one on.
const LEAST_EXCESS: f64 = 0.05;
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

#[cfg(test)]
mod tests {
    use super::*;

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
