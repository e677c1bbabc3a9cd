//! A run without a cgroup: its processes are looked for and added up, which gives a lower bound.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::Ended;
use crate::host::processes::{Identity, Process, descendants, proportional_sizes};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Exactness, Limits, Peak, PeakSource};
use crate::model::reading::Reading;
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
}

impl Sampled {
    pub(super) fn new(family: Family, reason: String, remedy: String) -> Self {
        Self { family, reason, remedy }
    }

    pub(super) fn sample(&self, first: i32) -> Result<Reading<Sample>, HostError> {
        let members = self.family.members()?;
        for orphan in members.iter().filter(|process| process.is_zombie && process.parent == self.family.own) {
            // The first process is waited for at the end; its descendants have nobody else any more.
            if orphan.identity.pid != first {
                let _ = waitpid(Pid::from_raw(orphan.identity.pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        let mut living = living(&members);
        for _ in 0..ATTEMPTS {
            let pids: Vec<i32> = living.iter().map(|identity| identity.pid).collect();
            let sizes = proportional_sizes(&self.family.roots, &pids);
            let now = self::living(&self.family.members()?);
            if now == living {
                return Ok(sizes.map(|(current, split)| Sample { current, split: Reading::Value(split) }));
            }
            living = now;
        }
        // Where processes come and go all the time there is no such sum, but any one of them is at least in use.
        let sizes = living.iter().map(|identity| proportional_sizes(&self.family.roots, &[identity.pid]));
        let largest = sizes.filter_map(Reading::value).max_by_key(|(current, _)| *current);
        Ok(largest
            .map_or(Reading::Gone, |(current, split)| Reading::Value(Sample { current, split: Reading::Value(split) })))
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

    pub(super) fn finish(&self, ended: Ended) -> Result<Finished, FinishError> {
        let (leftover, survivors) = self.kill_rest()?;
        let problem = (!survivors.is_empty()).then(|| format!("processes {survivors:?} survive SIGKILL, and go on"));
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
            cpu: Reading::Value(ended.rusage),
            io: Reading::Unsupported,
            pids_peak: Reading::Unsupported,
            pressure: Reading::Unsupported,
            leftover_processes: Reading::Value(leftover),
            survivors: Vec::new(),
            problems: problem.into_iter().collect(),
            contained: None,
        })
    }
}
