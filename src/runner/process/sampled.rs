//! A run without a cgroup of its own: its processes are looked for and added up, which gives a lower bound.
//!
//! The bound is of the memory that is charged to the run. Files that its processes have mapped are not in it: their pages
//! are charged to whoever read them first, which may have been before the run.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::Ended;
use super::in_cgroup::Problems;
use super::surrounding::Surrounding;
use crate::host::memory::Split;
use crate::host::processes::{Identity, Process, descendants, proportional_sizes, resident};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Exactness, Limits, Peak, PeakSource};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::{FinishError, Finished, Sample, StartError};

/// How long killing may take. A process of another user's, as of a set-user-ID program, cannot be killed at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The share of a page changes with the number of those who share it: where somebody came or went between two readings,
/// the shares add up to too much. How often to try for a sum during which nobody did.
const ATTEMPTS: usize = 3;

fn living(members: &[Process]) -> Vec<Identity> {
    members.iter().filter(|process| !process.is_zombie).map(|process| process.identity).collect()
}

/// Whose are the orphans cannot be told apart for two runs of one process.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// The processes below this one that belong to the run: all that were not there before it.
#[derive(Debug)]
pub(super) struct Family {
    roots: HostRoots,
    own: i32,
    strangers: HashSet<Identity>,
}

impl Family {
    /// To be made before the run is started. From then on orphans of the run become children of this process, so that
    /// they stay in sight (`PR_SET_CHILD_SUBREAPER`).
    pub(super) fn of_this_process(roots: &HostRoots) -> Result<Self, StartError> {
        let failed = |source| StartError::System { action: "watch a task without a cgroup", source };
        let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let strangers = descendants(roots, own)?.into_iter().map(|process| process.identity).collect();
        if UNDER_WAY.swap(true, Ordering::AcqRel) {
            return Err(failed(io::Error::other("another one is under way in this process")));
        }
        let family = Self { roots: roots.clone(), own, strangers };
        // SAFETY: takes a number and no pointer.
        match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
            0 => Ok(family),
            _ => Err(failed(io::Error::last_os_error())),
        }
    }

    fn members(&self) -> Result<Vec<Process>, HostError> {
        let mut members = descendants(&self.roots, self.own)?;
        members.retain(|process| !self.strangers.contains(&process.identity));
        Ok(members)
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        UNDER_WAY.store(false, Ordering::Release);
    }
}

#[derive(Debug)]
pub(super) struct Sampled {
    family: Family,
    reason: String,
    remedy: String,
    surrounding: Option<Surrounding>,
    /// The most that one process alone had between two samples.
    largest: Option<Bytes>,
    /// The largest extent of mapped files that each process was seen with.
    mapped: HashMap<Identity, Bytes>,
}

impl Sampled {
    pub(super) fn new(family: Family, surrounding: Option<Surrounding>, reason: String, remedy: String) -> Self {
        Self { family, reason, remedy, surrounding, largest: None, mapped: HashMap::new() }
    }

    pub(super) fn sample(&mut self, first: i32) -> Result<Reading<Sample>, HostError> {
        let members = self.family.members()?;
        for orphan in members.iter().filter(|process| process.is_zombie && process.parent == self.family.own) {
            // The first process is waited for at the end; its descendants have nobody else any more.
            if orphan.identity.pid != first {
                let _ = waitpid(Pid::from_raw(orphan.identity.pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        let mut living = living(&members);
        self.look_at_each(&living);
        for _ in 0..ATTEMPTS {
            let pids: Vec<i32> = living.iter().map(|identity| identity.pid).collect();
            let sizes = proportional_sizes(&self.family.roots, &pids);
            let now = self::living(&self.family.members()?);
            if now == living {
                return Ok(charged(sizes));
            }
            living = now;
        }
        // Where processes come and go all the time there is no such sum, but any one of them is at least in use.
        let sizes = living.iter().map(|identity| proportional_sizes(&self.family.roots, &[identity.pid]));
        let samples = sizes.filter_map(|sizes| charged(sizes).value());
        Ok(samples.max_by_key(|sample| sample.current).map_or(Reading::Gone, Reading::Value))
    }

    /// Looks what each process has had at most since it executed its program, and whether it is where it was started.
    ///
    /// A high-water mark has mapped files in it. How many were resident at that time is not known, but not more than were
    /// mapped: what was mapped for a moment only, between two samples, is the one thing that this does not see.
    fn look_at_each(&mut self, living: &[Identity]) {
        for identity in living {
            if let Reading::Value(resident) = resident(&self.family.roots, identity.pid) {
                let mapped = self.mapped.entry(*identity).or_default();
                *mapped = resident.mapped.max(*mapped);
                self.largest = self.largest.max(Some(resident.highest.saturating_sub(*mapped)));
            }
            if let Some(surrounding) = &mut self.surrounding {
                surrounding.look_for(&self.family.roots, identity.pid);
            }
        }
        self.mapped.retain(|identity, _| living.contains(identity));
    }

    /// Kills the processes that the run left behind; says how many there were, and which of them are still there.
    pub(super) fn kill_rest(&self) -> Result<(u64, Vec<i32>), HostError> {
        let mut killed = HashSet::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.family.members()?;
            if left.is_empty() || Instant::now() > deadline {
                let survivors = living(&left).into_iter().map(|identity| identity.pid).collect();
                return Ok((killed.len() as u64, survivors));
            }
            for Process { identity, is_zombie, .. } in left {
                let pid = Pid::from_raw(identity.pid);
                if !is_zombie {
                    killed.insert(identity);
                    // It may have ended just now; the next look at the family tells.
                    let _ = kill(pid, Signal::SIGKILL);
                }
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn finish(&mut self, ended: Ended) -> Result<Finished, FinishError> {
        let (leftover, survivors) = self.kill_rest()?;
        let mut problems = Problems::default();
        if !survivors.is_empty() {
            problems.0.push(format!("processes {survivors:?} survive SIGKILL, and go on"));
        }
        let (upper_bound, limit, held_back, events) = match &mut self.surrounding {
            Some(surrounding) => (
                surrounding.upper_bound(&mut problems),
                surrounding.limits(),
                surrounding.held_back(),
                surrounding.events(&mut problems),
            ),
            None => (None, Limits::UNSUPPORTED, false, Reading::Unsupported),
        };
        let lower_bound = ended.highest.max(self.largest);
        problems.0.extend(self.larger_resident(ended.largest_rss, lower_bound));
        let exactness = Exactness::LowerBound { reason: self.reason.clone(), remedy: self.remedy.clone() };
        let peak = lower_bound.map_or(Reading::Gone, |bytes| {
            // Shared memory may be charged to others, too.
            let bytes = upper_bound.as_ref().map_or(bytes, |bound| bytes.min(bound.bytes));
            Reading::Value(Peak { bytes, source: PeakSource::SampledProcesses, file: None, exactness, upper_bound })
        });
        Ok(Finished {
            end: ended.end,
            peak,
            last: Reading::Gone,
            swap_peak: Reading::Unsupported,
            limit,
            held_back_from_above: held_back,
            events,
            cpu: Reading::Value(ended.rusage),
            io: Reading::Unsupported,
            pids_peak: Reading::Unsupported,
            pressure: Reading::Unsupported,
            leftover_processes: Reading::Value(leftover),
            survivors: Vec::new(),
            problems: problems.0,
            contained: None,
        })
    }

    /// A note for a run whose largest process had much more resident than the samples show.
    ///
    /// `ru_maxrss` is no lower bound: it has mapped files in it, of which nobody knows how many, and what the process had
    /// before it executed its program, which for the first one is what this process has.
    fn larger_resident(&self, largest_rss: Bytes, lower_bound: Option<Bytes>) -> Option<String> {
        let inherited = resident(&self.family.roots, self.family.own).value()?.highest;
        let known = lower_bound.unwrap_or(Bytes::ZERO).saturating_add(lower_bound.unwrap_or(Bytes::ZERO));
        (largest_rss > inherited && largest_rss > known).then(|| {
            format!(
                "the largest process of the task had up to {largest_rss} resident, between two samples or in mapped files, \
                 which may be charged to others"
            )
        })
    }
}

/// What is charged to the run for certain: neither mapped files, nor what the kernel needs for it.
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
