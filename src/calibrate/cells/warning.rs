//! Warnings about a cell: what was seen, why it may be so, and what to try.

use std::fmt;

use serde::Serialize;

use super::run::Run;
use super::{Cell, CellBuilder, Reason, Spread};
use crate::model::observation::Outcome;
use crate::model::units::Bytes;

/// Warn about a robust standard deviation above this share of the median.
const LARGE_SPREAD: f64 = 0.05;
/// Warn about the first run if it takes this many times as long as any other …
const MUCH_SLOWER: f64 = 1.25;
/// … and this much longer: times of milliseconds always vary.
const LONGER_SECONDS: f64 = 0.1;
/// Warn about the first run if its peak is this many times that of any other.
const MUCH_LARGER: f64 = 1.05;
/// The largest share of the time that may be spent waiting for memory.
const LONG_WAIT: f64 = 0.01;

/// A warning about the runs of a cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Warning {
    /// The first run took longer than all others.
    FirstRunSlower {
        /// Its time divided by the longest of the others.
        times: f64,
    },
    /// The first run had a larger peak than all others.
    FirstRunLarger {
        /// Its peak divided by the largest of the others.
        times: f64,
    },
    /// Some runs peaked above the others by page cache, which the kernel can reclaim.
    PageCache {
        /// Number of runs.
        runs: usize,
        /// The most that one of them peaked above the others.
        most_bytes: Bytes,
    },
    /// The peaks differ by more than their error bounds explain.
    SpreadTooLarge {
        /// Their robust standard deviation, as a share of the median.
        relative: f64,
    },
    /// Memory ran out in some runs.
    AtTheLimit {
        /// Number of runs.
        runs: usize,
        /// The limit, if known.
        limit_bytes: Option<Bytes>,
    },
    /// Memory was swapped out in some runs.
    Swapping {
        /// Number of runs.
        runs: usize,
    },
    /// Some runs waited for memory, because others needed it too or a limit was close.
    ShortOfMemory {
        /// Number of runs.
        runs: usize,
        /// The largest share of the time spent waiting.
        share: f64,
    },
    /// The times of some runs are disturbed by others that were on the same CPUs.
    TimesDisturbed {
        /// Number of runs.
        runs: usize,
    },
    /// Some runs took longer for the same work.
    OtherLoad {
        /// Number of runs.
        runs: usize,
    },
    /// Some peaks are lower bounds.
    LowerBound {
        /// Number of runs.
        runs: usize,
        /// An upper bound of all of them, if each has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        at_most_bytes: Option<Bytes>,
        /// Why the first of them is a lower bound.
        reason: String,
        /// How to make it exact.
        remedy: String,
    },
    /// Some runs did not succeed.
    Failed {
        /// Number of runs.
        runs: usize,
    },
    /// Some runs were lost, with their engine or on a cluster.
    Lost {
        /// Number of runs.
        runs: usize,
        /// Why the first of them was.
        reason: String,
    },
}

impl Warning {
    /// A short label for a table.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::FirstRunSlower { .. } => "first slower",
            Self::FirstRunLarger { .. } => "first larger",
            Self::PageCache { .. } => "page cache",
            Self::SpreadTooLarge { .. } => "spread",
            Self::AtTheLimit { .. } => "at the limit",
            Self::Swapping { .. } => "swapping",
            Self::ShortOfMemory { .. } => "short of memory",
            Self::TimesDisturbed { .. } => "disturbed",
            Self::OtherLoad { .. } => "other load",
            Self::LowerBound { .. } => "lower bound",
            Self::Failed { .. } => "failed",
            Self::Lost { .. } => "lost",
        }
    }

    /// What to try.
    pub fn remedy(&self) -> &str {
        match self {
            Self::FirstRunSlower { .. } | Self::FirstRunLarger { .. } => {
                "add a warm-up run (--warmup 1), or start every run with a cold cache (--cache cold)"
            }
            Self::PageCache { .. } => {
                "read everything before (--cache warm), or start every run with a cold cache (--cache cold); `fit` does \
                 not count these runs"
            }
            Self::SpreadTooLarge { .. } => {
                "increase the number of runs (--min-runs 5 --precision 0.02); check the task for threads, random \
                 seeds and caches"
            }
            Self::AtTheLimit { .. } => {
                "raise or remove the limit (--limit, or --max-mem on Slurm): such a peak does not show the need"
            }
            Self::Swapping { .. } => {
                "leave more memory free (--jobs 1), or turn swap off: the peak does not include swap"
            }
            Self::ShortOfMemory { .. } => "run fewer jobs at a time (--jobs 1), or raise the limit (--limit)",
            Self::TimesDisturbed { .. } => {
                "give each run CPUs of its own (--pin), or run one at a time (--jobs 1); peaks are not affected"
            }
            Self::OtherLoad { .. } => "use an idle machine; times are affected, peaks are not",
            Self::LowerBound { remedy, .. } => remedy,
            Self::Failed { .. } => "read their output (highwater logs), then run them again (--retry failed)",
            Self::Lost { .. } => "repeat the command: a sweep makes the runs that are missing",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |runs: usize| if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") };
        match self {
            Self::FirstRunSlower { times } => {
                write!(f, "the first run took {times:.1} times as long as any other: the caches were cold")
            }
            Self::FirstRunLarger { times } => {
                write!(f, "the peak of the first run is {times:.2} times that of any other: the caches were cold")
            }
            Self::PageCache { runs, most_bytes } => write!(
                f,
                "{} peaked up to {most_bytes} above the others, all of it page cache of files that the other runs \
                 found in memory: the kernel can reclaim it",
                count(*runs)
            ),
            Self::SpreadTooLarge { relative } => {
                write!(f, "the peaks vary by {:.0} % of their median", relative * 100.0)
            }
            Self::AtTheLimit { runs, limit_bytes: Some(limit) } => {
                write!(f, "memory ran out in {}, with a limit of {limit}", count(*runs))
            }
            Self::AtTheLimit { runs, limit_bytes: None } => write!(f, "memory ran out in {}", count(*runs)),
            Self::Swapping { runs } => write!(f, "memory was swapped out in {}", count(*runs)),
            Self::ShortOfMemory { runs, share } => {
                write!(f, "{} waited for memory, up to {:.0} % of the time", count(*runs), share * 100.0)
            }
            Self::TimesDisturbed { runs } => {
                write!(f, "the times are disturbed in {}: other runs were on the same CPUs", count(*runs))
            }
            Self::OtherLoad { runs } => {
                write!(f, "{} took longer for the same work: other load, or a slow disk", count(*runs))
            }
            Self::LowerBound { runs, at_most_bytes, reason, .. } => {
                let most = at_most_bytes.map_or_else(String::new, |most| format!(", at most {most}"));
                write!(f, "the peak is a lower bound in {}{most}: {reason}", count(*runs))
            }
            Self::Failed { runs } => write!(f, "{} failed", count(*runs)),
            Self::Lost { runs: 1, reason } => write!(f, "1 run was lost: {reason}"),
            Self::Lost { runs, reason } => write!(f, "{runs} runs were lost: {reason}"),
        }
    }
}

/// The warnings of a cell, whose runs are sorted by their starts.
pub(super) fn warnings(builder: &mut CellBuilder, runs: &[Run]) -> Vec<Warning> {
    let good: Vec<&Run> = runs.iter().filter(|run| run.succeeded).collect();
    let error_bound = builder.error_bound.0 as f64;
    let mut warnings = Vec::new();
    // A search for the minimum limit makes runs fail at a limit on purpose.
    if builder.floor.is_none() {
        warnings.extend((builder.failed > 0).then_some(Warning::Failed { runs: builder.failed }));
        let at_the_limit = Warning::AtTheLimit { runs: builder.censored, limit_bytes: builder.limit };
        warnings.extend((builder.censored > 0).then_some(at_the_limit));
    }
    warnings.extend(builder.lost.take().map(|(runs, reason)| Warning::Lost { runs, reason }));
    warnings.extend(spread(&builder.cell, error_bound));
    warnings.extend(page_cache(&good));
    warnings.extend(first_run(runs, &good, error_bound));
    warnings.extend(host(&builder.cell, &good));
    warnings.extend(builder.lower_bounds.take().map(|bounds| Warning::LowerBound {
        runs: bounds.runs,
        at_most_bytes: bounds.at_most,
        reason: bounds.reason,
        remedy: bounds.remedy,
    }));
    warnings
}

/// Whether the task itself failed. An interrupted run says nothing about it, and a sweep repeats it anyway.
pub(super) fn failed(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Skipped { .. } | Outcome::Interrupted { .. } | Outcome::EngineLost | Outcome::Lost => false,
        Outcome::Exited { .. } | Outcome::Signalled { .. } | Outcome::OomKilled | Outcome::TimedOut { .. } => {
            !outcome.succeeded()
        }
    }
}

fn spread(cell: &Cell, error_bound: f64) -> Option<Warning> {
    let peaks = cell.peak_bytes.filter(|peaks| peaks.median_absolute_deviation > error_bound)?;
    let relative = peaks.relative().filter(|relative| *relative > LARGE_SPREAD)?;
    Some(Warning::SpreadTooLarge { relative })
}

fn page_cache(good: &[&Run]) -> Option<Warning> {
    let most_bytes = good.iter().filter_map(|run| run.excess).max()?;
    Some(Warning::PageCache { runs: good.iter().filter(|run| run.excess.is_some()).count(), most_bytes })
}

/// Compares the first run with all others, to detect that it alone had cold caches.
fn first_run(runs: &[Run], good: &[&Run], error_bound: f64) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let (Some((first, others @ [_, _, ..])), Some(started)) = (good.split_first(), runs.first()) else {
        return warnings;
    };
    if !std::ptr::eq(*first, started) || first.had_a_cache_of_its_own {
        return warnings;
    }
    let seconds = first.wall_seconds();
    let slowest = others.iter().map(|run| run.wall_seconds()).fold(0.0, f64::max);
    if slowest > 0.0 && seconds > slowest * MUCH_SLOWER && seconds - slowest > LONGER_SECONDS {
        warnings.push(Warning::FirstRunSlower { times: seconds / slowest });
    }
    let bytes = |run: &Run| run.peak.map(|peak| peak.0 as f64);
    let largest = others.iter().filter_map(|run| bytes(run)).fold(0.0, f64::max);
    if let Some(peak) = bytes(first)
        && first.excess.is_none()
        && largest > 0.0
        && peak > largest * MUCH_LARGER
        && peak - largest > error_bound
    {
        warnings.push(Warning::FirstRunLarger { times: peak / largest });
    }
    warnings
}

/// Effects of the rest of the machine on the runs.
fn host(cell: &Cell, good: &[&Run]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let swapping = good.iter().filter(|run| run.swapped).count();
    if swapping > 0 {
        warnings.push(Warning::Swapping { runs: swapping });
    }
    let waits = good.iter().map(|run| run.waited_for_memory).filter(|share| *share > LONG_WAIT);
    if let Some(spread) = Spread::new(&waits.collect::<Vec<_>>()) {
        warnings.push(Warning::ShortOfMemory { runs: spread.count, share: spread.most });
    }
    let disturbed = good.iter().filter(|run| run.is_disturbed).count();
    if disturbed > 0 {
        warnings.push(Warning::TimesDisturbed { runs: disturbed });
    }
    let waited = cell.outliers.iter().filter(|outlier| outlier.reason == Reason::Waited).count();
    if waited > 0 {
        warnings.push(Warning::OtherLoad { runs: waited });
    }
    warnings
}
