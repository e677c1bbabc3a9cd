//! A run without a cgroup of its own: the memory of its processes is sampled and summed, which gives a lower bound.
//!
//! The bound covers the memory that is charged to the run. It excludes mapped files: their pages are charged to whoever
//! read them first, which may have been before the run.

use std::collections::HashMap;

use super::WaitResult;
use super::in_cgroup::Problems;
use super::lookout::Lookout;
use super::surrounding::Surrounding;
use crate::host::memory::Split;
use crate::host::processes::{Identity, Process, proportional_sizes, quick_descendants, resident, uses_memory_of};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Exactness, Limits, Peak, PeakSource, Warning};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::{FinishError, Finished, Sample};

/// The proportional share of a page changes with the number of processes that share it: if one started or ended between
/// two readings, the sum of the shares is too large. This is how often to retry.
const ATTEMPTS: usize = 3;

/// The processes that hold memory of their own, and where: executing a program changes the shares of others, too.
fn holders(roots: &HostRoots, members: &[Process]) -> Vec<(Identity, u64)> {
    let by_pid: HashMap<i32, &Process> = members.iter().map(|process| (process.identity.pid, process)).collect();
    let borrows =
        |process: &Process| by_pid.get(&process.parent).is_some_and(|parent| uses_memory_of(roots, parent, process));
    let holds = |process: &&Process| !process.is_zombie && !process.is_exiting && !borrows(process);
    members.iter().filter(holds).map(|process| (process.identity, process.addresses.stack)).collect()
}

#[derive(Debug)]
pub(super) struct Sampled {
    roots: HostRoots,
    /// The ancestor of all processes of the run.
    reaper: i32,
    reason: String,
    remedy: String,
    surrounding: Option<Surrounding>,
    /// The most memory that a single process had between two samples.
    largest: Option<Bytes>,
    /// The largest extent of mapped files seen of each process.
    mapped: HashMap<Identity, Bytes>,
}

impl Sampled {
    pub(super) fn new(
        roots: &HostRoots,
        reaper: i32,
        surrounding: Option<Surrounding>,
        reason: String,
        remedy: String,
    ) -> Self {
        Self { roots: roots.clone(), reaper, reason, remedy, surrounding, largest: None, mapped: HashMap::new() }
    }

    pub(super) fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        let holders = |sampled: &Self| {
            quick_descendants(&sampled.roots, sampled.reaper).map(|members| holders(&sampled.roots, &members))
        };
        let mut known = holders(self)?;
        self.look_at_each(&known);
        for _ in 0..ATTEMPTS {
            let pids: Vec<i32> = known.iter().map(|(identity, _)| identity.pid).collect();
            let sizes = proportional_sizes(&self.roots, &pids);
            let now = holders(self)?;
            if now == known {
                return Ok(charged(sizes));
            }
            known = now;
        }
        // If processes start and end all the time there is no such sum, but the memory of any one is a lower bound.
        let sizes = known.iter().map(|(identity, _)| proportional_sizes(&self.roots, &[identity.pid]));
        let samples = sizes.filter_map(|sizes| charged(sizes).value());
        Ok(samples.max_by_key(|sample| sample.current).map_or(Reading::Gone, Reading::Value))
    }

    /// Reads the high-water mark of each process since it executed its program, and checks that it is where it was
    /// started.
    ///
    /// The mark includes mapped files. How many of their pages were resident at that time is unknown, but not more than
    /// were mapped. The one thing this misses is a mapping that only existed between two samples.
    fn look_at_each(&mut self, known: &[(Identity, u64)]) {
        for (identity, _) in known {
            if let Reading::Value(resident) = resident(&self.roots, identity.pid) {
                let mapped = self.mapped.entry(*identity).or_default();
                *mapped = resident.mapped.max(*mapped);
                self.largest = self.largest.max(Some(resident.highest.saturating_sub(*mapped)));
            }
            if let Some(surrounding) = &mut self.surrounding {
                surrounding.look_for(&self.roots, identity.pid);
            }
        }
        self.mapped.retain(|identity, _| known.iter().any(|(known, _)| known == identity));
    }

    pub(super) fn finish(&mut self, ended: WaitResult, lookout: &Lookout) -> Result<Finished, FinishError> {
        let mut problems = Problems::default();
        let (upper_bound, limit, held_back, events) = match &mut self.surrounding {
            Some(surrounding) => (
                surrounding.upper_bound(&mut problems),
                surrounding.limits(),
                surrounding.held_back(),
                surrounding.events(&mut problems),
            ),
            None => (None, Limits::UNSUPPORTED, false, Reading::Unsupported),
        };
        // What a daemon does for the task is charged elsewhere.
        let upper_bound = upper_bound.filter(|_| lookout.daemon().is_none());
        let lower_bound = ended.highest.max(self.largest);
        problems.0.extend(ended.largest_rss.and_then(|rss| self.larger_resident(rss, lower_bound)));
        let (reason, remedy) = match lookout.daemon() {
            Some(handoff) => (handoff.reason(), handoff.remedy().to_owned()),
            None => (self.reason.clone(), self.remedy.clone()),
        };
        let exactness = Exactness::LowerBound { reason, remedy };
        let peak = lower_bound.map_or(Reading::Gone, |bytes| {
            // Shared memory may be charged to other processes, too.
            let bytes = upper_bound.as_ref().map_or(bytes, |bound| bytes.min(bound.bytes));
            Reading::Value(Peak { bytes, source: PeakSource::SampledProcesses, file: None, exactness, upper_bound })
        });
        Ok(Finished {
            last: Reading::Gone,
            limit,
            held_back_from_above: held_back,
            events,
            cpu: ended.rusage,
            problems: problems.0,
            ..Finished::new(ended.end, peak)
        })
    }

    /// Warns about a run whose largest process had a much larger resident set than the samples show.
    ///
    /// `ru_maxrss` is not a lower bound: it includes an unknown amount of mapped files, and the memory of the process
    /// before it executed its program, which for the first process is that of its parent.
    fn larger_resident(&self, largest_rss: Bytes, lower_bound: Option<Bytes>) -> Option<Warning> {
        let inherited = resident(&self.roots, self.reaper).value()?.highest;
        let known = lower_bound.unwrap_or(Bytes::ZERO).saturating_add(lower_bound.unwrap_or(Bytes::ZERO));
        (largest_rss > inherited && largest_rss > known).then_some(Warning::LargerResident { bytes: largest_rss })
    }
}

/// What is certainly charged to the run: neither mapped files nor kernel memory.
fn charged(sizes: Reading<(Bytes, Split)>) -> Reading<Sample> {
    match sizes {
        Reading::Value((_, Split { anon: Reading::Value(anon), shmem: Reading::Value(shmem), .. })) => {
            let split = Split {
                anon: Reading::Value(anon),
                shmem: Reading::Value(shmem),
                file: Reading::Unsupported,
                kernel: Reading::Unsupported,
                swap: Reading::Unsupported,
            };
            Reading::Value(Sample { current: anon.saturating_add(shmem), split: Reading::Value(split) })
        }
        Reading::Value(_) | Reading::Unsupported => Reading::Unsupported,
        Reading::Gone => Reading::Gone,
    }
}
