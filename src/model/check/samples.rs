//! The peaks of a cell, and what they come to.

use serde::{Deserialize, Serialize};

use crate::model::observation::{Exactness, Peak};
use crate::model::units::Bytes;

/// The peak of a run: the need of the task is at least and at most this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// The peak.
    pub bytes: Bytes,
    /// An upper bound of the need: the peak itself if it is exact, `None` if it is a lower bound without an upper one.
    pub at_most: Option<Bytes>,
}

impl Sample {
    /// A sample with an exact peak.
    pub const fn exact(bytes: Bytes) -> Self {
        Self { bytes, at_most: Some(bytes) }
    }

    /// A sample with a peak that is a lower bound.
    pub fn lower_bound(bytes: Bytes, at_most: Option<Bytes>) -> Self {
        // Counters are read one after the other, and charged in batches.
        Self { bytes, at_most: at_most.map(|most| most.max(bytes)) }
    }

    /// Whether the peak is exactly the need of the task.
    pub fn is_exact(&self) -> bool {
        self.at_most == Some(self.bytes)
    }
}

impl From<&Peak> for Sample {
    fn from(peak: &Peak) -> Self {
        match peak.exactness {
            Exactness::Exact { .. } => Self::exact(peak.bytes),
            Exactness::LowerBound { .. } => {
                Self::lower_bound(peak.bytes, peak.upper_bound.as_ref().map(|most| most.bytes))
            }
        }
    }
}

/// Peaks of a cell and what they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The middle one.
    #[serde(rename = "median_bytes")]
    pub median: Bytes,
    /// The median distance from the median.
    #[serde(rename = "spread_bytes")]
    pub spread: Bytes,
    /// The peaks in ascending order.
    #[serde(rename = "samples_bytes")]
    pub peaks: Vec<Bytes>,
    /// An upper bound of each peak: itself if it is exact, `null` if it is a lower bound without an upper one. Empty if
    /// all are exact.
    #[serde(rename = "at_most_bytes", default, skip_serializing_if = "Vec::is_empty")]
    pub at_most: Vec<Option<Bytes>>,
}

impl Samples {
    /// The statistics of the samples; `None` without samples.
    pub fn new(mut samples: Vec<Sample>) -> Option<Self> {
        samples.sort_unstable();
        let peaks: Vec<Bytes> = samples.iter().map(|sample| sample.bytes).collect();
        let median = middle(&peaks)?;
        let mut distances: Vec<Bytes> = peaks.iter().map(|peak| Bytes(peak.0.abs_diff(median.0))).collect();
        distances.sort_unstable();
        let exact = samples.iter().all(Sample::is_exact);
        let at_most = if exact { Vec::new() } else { samples.iter().map(|sample| sample.at_most).collect() };
        Some(Self { median, spread: middle(&distances)?, peaks, at_most })
    }

    /// The samples, in ascending order.
    pub fn samples(&self) -> impl DoubleEndedIterator<Item = Sample> {
        self.peaks.iter().enumerate().map(|(place, bytes)| Sample {
            bytes: *bytes,
            at_most: self.at_most.get(place).copied().unwrap_or(Some(*bytes)),
        })
    }

    /// The highest peak.
    pub fn highest(&self) -> Bytes {
        self.peaks.last().copied().unwrap_or(self.median)
    }

    /// Whether all peaks are exact.
    pub fn is_exact(&self) -> bool {
        self.at_most.is_empty()
    }

    /// The same samples as if each was exact.
    pub fn lowest_case(&self) -> Self {
        Self { at_most: Vec::new(), ..self.clone() }
    }

    /// The same samples as if each was exact and as high as it can be; `None` if nothing bounds one of them.
    pub fn highest_case(&self) -> Option<Self> {
        if self.is_exact() {
            return Some(self.clone());
        }
        Self::new(self.at_most.iter().map(|most| most.map(Sample::exact)).collect::<Option<_>>()?)
    }

    /// The median in words: `200 MiB`, `at least 200 MiB`, or `at least 200 MiB and at most 240 MiB`.
    pub fn words(&self) -> String {
        match self.highest_case() {
            Some(_) if self.is_exact() => self.median.to_string(),
            Some(most) => format!("at least {} and at most {}", self.median, most.median),
            None => format!("at least {}", self.median),
        }
    }
}

/// The median of sorted amounts; the mean of two middle ones is rounded down.
fn middle(sorted: &[Bytes]) -> Option<Bytes> {
    let upper = sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    let lower = sorted.get(sorted.len() / 2 - 1)?;
    Some(Bytes(lower.0 + (upper.0 - lower.0) / 2))
}
