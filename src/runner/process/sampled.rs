//! A run without a cgroup: its processes are looked for and added up, which gives a lower bound.

use super::Ended;
use super::lookout::Lookout;
use crate::host::processes::{Identity, Process, descendants, proportional_sizes};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Exactness, Limits, Peak, PeakSource};
use crate::model::reading::Reading;
use crate::runner::{FinishError, Finished, Sample};

/// The share of a page changes with the number of those who share it: where somebody came or went between two readings,
/// the shares add up to too much. How often to try for a sum during which nobody did.
const ATTEMPTS: usize = 3;

fn living(members: &[Process]) -> Vec<Identity> {
    members.iter().filter(|process| !process.is_zombie).map(|process| process.identity).collect()
}

#[derive(Debug)]
pub(super) struct Sampled {
    roots: HostRoots,
    /// Below it are the processes of the run.
    reaper: i32,
    reason: String,
    remedy: String,
}

impl Sampled {
    pub(super) fn new(roots: &HostRoots, reaper: i32, reason: String, remedy: String) -> Self {
        Self { roots: roots.clone(), reaper, reason, remedy }
    }

    pub(super) fn sample(&self) -> Result<Reading<Sample>, HostError> {
        let mut living = living(&descendants(&self.roots, self.reaper)?);
        for _ in 0..ATTEMPTS {
            let pids: Vec<i32> = living.iter().map(|identity| identity.pid).collect();
            let sizes = proportional_sizes(&self.roots, &pids);
            let now = self::living(&descendants(&self.roots, self.reaper)?);
            if now == living {
                return Ok(sizes.map(|(current, split)| Sample { current, split: Reading::Value(split) }));
            }
            living = now;
        }
        // Where processes come and go all the time there is no such sum, but any one of them is at least in use.
        let sizes = living.iter().map(|identity| proportional_sizes(&self.roots, &[identity.pid]));
        let largest = sizes.filter_map(Reading::value).max_by_key(|(current, _)| *current);
        Ok(largest
            .map_or(Reading::Gone, |(current, split)| Reading::Value(Sample { current, split: Reading::Value(split) })))
    }

    pub(super) fn finish(&self, ended: Ended, _lookout: &Lookout) -> Result<Finished, FinishError> {
        let exactness = Exactness::LowerBound { reason: self.reason.clone(), remedy: self.remedy.clone() };
        let peak = ended.highest.map_or(Reading::Gone, |bytes| {
            Reading::Value(Peak {
                bytes,
                source: PeakSource::SampledProcesses,
                file: None,
                exactness,
                upper_bound: None,
            })
        });
        Ok(Finished {
            end: ended.end,
            peak,
            last: Reading::Gone,
            swap_peak: Reading::Unsupported,
            limit: Limits::UNSUPPORTED,
            held_back_from_above: false,
            events: Reading::Unsupported,
            cpu: ended.rusage,
            io: Reading::Unsupported,
            pids_peak: Reading::Unsupported,
            pressure: Reading::Unsupported,
            leftover_processes: Reading::Unsupported,
            survivors: Vec::new(),
            problems: Vec::new(),
            contained: None,
        })
    }
}
