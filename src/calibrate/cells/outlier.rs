//! Runs that deviate from the others of their cell, and why.

use serde::Serialize;

use super::Spread;
use super::run::Run;
use crate::stats::{outlier, summary};

/// The least spread of peaks as a share of their median: no smaller one makes outliers,
const LEAST_PEAK_SPREAD: f64 = 0.01;
/// nor one of times,
const LEAST_TIME_SPREAD: f64 = 0.03;
/// or of this many seconds.
const LEAST_SECONDS: f64 = 0.01;
/// Factors that make the median absolute deviation of 2, 3 … 9 values as large as that of many (Croux and Rousseeuw,
/// 1992, "Time-efficient algorithms for two highly robust estimators of scale").
const SMALL_SAMPLE: [f64; 8] = [1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107];

/// A run that deviates from the others of its cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// The run of the cell, counted from 1.
    pub run: u32,
    /// The quantity that deviates.
    pub what: OutlierKind,
    /// The value divided by the median of the cell.
    pub ratio: f64,
    /// The probable reason.
    pub reason: Reason,
}

/// A quantity of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutlierKind {
    /// Its peak.
    Peak,
    /// Its time.
    Time,
}

/// The probable reason for an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It read files that were not cached yet, and other runs found in the cache.
    PageCache,
    /// It was the first run, so the files it read were not cached yet.
    First,
    /// Memory was swapped out.
    Swapped,
    /// Memory ran short: a limit was reached, or the run waited for memory.
    ShortOfMemory,
    /// It took longer for the same CPU time: it waited for something else.
    Waited,
    /// Unknown from the record.
    Unknown,
}

impl Reason {
    /// The reason in words, to follow "run 3 took twice as long:".
    pub const fn words(self) -> &'static str {
        match self {
            Self::PageCache => "page cache of files that other runs found in memory",
            Self::First => "first run, with cold caches",
            Self::Swapped => "memory was swapped out",
            Self::ShortOfMemory => "it ran short of memory",
            Self::Waited => "it waited, for example because of other load or a slow disk",
            Self::Unknown => "the record shows no cause",
        }
    }
}

/// The robust standard deviations of the peaks and of the times of a cell, as shares of their medians.
pub(super) fn scatter(runs: &[Run]) -> [Option<f64>; 2] {
    let good = || runs.iter().filter(|run| run.succeeded);
    let of_values = |values: Vec<f64>| {
        let factor = SMALL_SAMPLE.get(values.len().checked_sub(2)?).copied().unwrap_or(1.0);
        Some(Spread::new(&values)?.relative()? * factor)
    };
    let peaks = good().filter_map(|run| run.peak).map(|peak| peak.0 as f64).collect();
    [of_values(peaks), of_values(good().map(Run::wall_seconds).collect())]
}

/// The usual scatter of several cells.
pub(super) fn pooled(cells: &[[Option<f64>; 2]]) -> [f64; 2] {
    [0, 1].map(|what| summary::median(&cells.iter().filter_map(|cell| cell[what]).collect::<Vec<_>>()).unwrap_or(0.0))
}

/// The runs of a cell whose peaks or times deviate. `error_bound` is that of the peaks, in bytes, and `usual` the relative
/// scatter of peaks and of times in the cells of the task.
pub(super) fn outliers(
    (measured, peaks): (&[&Run], &[f64]),
    (good, times): (&[&Run], &[f64]),
    error_bound: f64,
    [of_peaks, of_times]: [f64; 2],
) -> Vec<Outlier> {
    let least = (error_bound, of_peaks.max(LEAST_PEAK_SPREAD));
    let mut outliers = deviating(measured, peaks, least, OutlierKind::Peak);
    let least = (LEAST_SECONDS, of_times.max(LEAST_TIME_SPREAD));
    outliers.extend(deviating(good, times, least, OutlierKind::Time));
    outliers
}

/// The runs that deviate from the others by more than usual; `least` is the least spread, absolute and relative.
fn deviating(runs: &[&Run], values: &[f64], least: (f64, f64), what: OutlierKind) -> Vec<Outlier> {
    let Some(median) = summary::median(values).filter(|median| *median > 0.0) else { return Vec::new() };
    let scores = outlier::modified_z_scores(values, least.0.max(median * least.1));
    let odd = runs.iter().zip(values).zip(scores).filter(|(_, score)| score.abs() > outlier::LIMIT);
    let outlier = |((run, value), score): ((&&Run, &f64), f64)| Outlier {
        run: run.number,
        what,
        ratio: value / median,
        reason: reason(run, runs, what, score > 0.0),
    };
    odd.map(outlier).collect()
}

fn reason(run: &Run, runs: &[&Run], what: OutlierKind, above: bool) -> Reason {
    if run.swapped {
        Reason::Swapped
    } else if run.censored || run.waited_for_memory > 0.01 {
        Reason::ShortOfMemory
    } else if what == OutlierKind::Peak && run.excess.is_some() {
        Reason::PageCache
    } else if above && runs.first().is_some_and(|first| std::ptr::eq(*first, run)) && !run.had_a_cache_of_its_own {
        Reason::First
    } else if what == OutlierKind::Time && above && worked_as_usual(run, runs) {
        Reason::Waited
    } else {
        Reason::Unknown
    }
}

/// Whether a run took as much CPU time as the others.
fn worked_as_usual(run: &Run, runs: &[&Run]) -> bool {
    let work = |run: &Run| run.cpu_us.map(|cpu| cpu as f64);
    let usual = summary::median(&runs.iter().filter_map(|run| work(run)).collect::<Vec<_>>());
    work(run).zip(usual).is_some_and(|(work, usual)| work <= usual * 1.1)
}
