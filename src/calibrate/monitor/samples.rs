//! The samples of a run.

use std::time::Duration;

use super::ending::Ending;
use super::{Observer, Watched};
use crate::host::HostError;
use crate::model::observation::{Breakdown, ProcessSize, Series, micros};
use crate::model::problem::one_line;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::{Running, Sample};

/// The most samples stored; a longer series is thinned to half of it.
const KEPT: usize = 240;
/// How many of the largest processes are stored.
const LARGEST: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Samples {
    series: Series,
    attempts: u32,
    highest: Option<Breakdown>,
    largest_processes: Vec<ProcessSize>,
    /// The usage when the largest processes were read.
    processes_at: Bytes,
    hugetlb: Option<(Bytes, String)>,
    swap: Option<Bytes>,
    unread: Option<String>,
}

impl Samples {
    /// Whether a usage exceeds that of the highest sample by enough to justify a new sample.
    pub(super) fn is_more(&self, usage: Bytes) -> bool {
        self.highest.is_none_or(|highest| is_more(usage, highest.current))
    }

    /// The usage above which [`Self::is_more`] is true.
    pub(super) fn enough(&self) -> Option<Bytes> {
        self.highest.map(|highest| one_percent_more(highest.current))
    }

    /// The same for the reading of the largest processes.
    pub(super) fn is_more_than_processes(&self, usage: Bytes) -> bool {
        is_more(usage, self.processes_at)
    }

    /// Stores the first reading error.
    pub(super) fn note(&mut self, error: &HostError) {
        self.unread.get_or_insert_with(|| one_line(error));
    }

    /// Stores a sample, and returns its usage.
    pub(super) fn take(
        &mut self,
        sample: Result<Reading<Sample>, HostError>,
        elapsed: Duration,
        observer: &mut dyn Observer,
    ) -> Option<Bytes> {
        self.attempts += 1;
        let sample = match sample {
            Ok(Reading::Value(sample)) => sample,
            // Between the end of the last process and its notification there is nothing to read.
            Ok(Reading::Gone | Reading::Unsupported) => return None,
            Err(error) => {
                self.note(&error);
                return None;
            }
        };
        let sample = breakdown(&sample, elapsed);
        if self.highest.is_none_or(|highest| sample.current >= highest.current) {
            self.highest = Some(sample);
        }
        self.swap = self.swap.max(sample.swap.value());
        observer.sampled(elapsed, sample.current, self.highest.map_or(sample.current, |highest| highest.current));
        self.series.taken += 1;
        self.series.samples.push(sample);
        if self.series.samples.len() >= KEPT {
            thin(&mut self.series.samples);
        }
        Some(sample.current)
    }

    /// Reads the largest processes at this usage; stores them if it is the highest so far.
    pub(super) fn take_processes(&mut self, run: &mut dyn Running, usage: Bytes) {
        let found = run.largest_processes(LARGEST);
        if usage >= self.processes_at && !found.largest.is_empty() {
            self.largest_processes = found.largest;
            self.processes_at = usage;
        }
        if let Some((pages, name)) = found.hugetlb
            && self.hugetlb.as_ref().is_none_or(|(most, _)| pages > *most)
        {
            self.hugetlb = Some((pages, name));
        }
    }

    /// All samples, with the other observations.
    pub(super) fn into_watched(self, wall: Duration, ending: Ending) -> Watched {
        let Self { series, attempts, highest, largest_processes, processes_at, hugetlb, swap, unread } = self;
        let Ending { stop, asked_at, .. } = ending;
        Watched {
            wall,
            stop,
            asked_at,
            series,
            attempts,
            highest,
            largest_processes,
            processes_at,
            hugetlb,
            swap,
            unread,
        }
    }
}

/// Whether `one` exceeds `other` by more than 1 %.
fn is_more(one: Bytes, other: Bytes) -> bool {
    one > one_percent_more(other)
}

fn one_percent_more(usage: Bytes) -> Bytes {
    usage.saturating_add(Bytes(usage.0 / 100))
}

/// Converts a sample taken at this time.
pub(crate) fn breakdown(sample: &Sample, elapsed: Duration) -> Breakdown {
    let part = |of: fn(&crate::host::memory::Split) -> Reading<Bytes>| match &sample.split {
        Reading::Value(split) => of(split),
        Reading::Unsupported => Reading::Unsupported,
        Reading::Gone => Reading::Gone,
    };
    Breakdown {
        at_us: micros(elapsed),
        current: sample.current,
        anon: part(|split| split.anon),
        file: part(|split| split.file),
        shmem: part(|split| split.shmem),
        kernel: part(|split| split.kernel),
        swap: part(|split| split.swap),
    }
}

/// Keeps the larger of every two neighbours.
fn thin(samples: &mut Vec<Breakdown>) {
    *samples = samples
        .chunks(2)
        .filter_map(|pair| {
            pair.iter().copied().reduce(|first, second| if second.current > first.current { second } else { first })
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u64, current: u64) -> Breakdown {
        let none = Reading::Unsupported;
        Breakdown {
            at_us: time,
            current: Bytes(current),
            anon: none,
            file: none,
            shmem: none,
            kernel: none,
            swap: none,
        }
    }

    #[test]
    fn thinning_keeps_the_order_and_the_highest() {
        let mut samples = vec![at(1, 5), at(2, 9), at(3, 7), at(4, 1), at(5, 2)];
        thin(&mut samples);
        assert_eq!(samples, [at(2, 9), at(3, 7), at(5, 2)]);
    }
}
