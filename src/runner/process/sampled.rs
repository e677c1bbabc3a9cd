//! A run without a cgroup: its processes are looked for and added up, which gives a lower bound.

use std::collections::HashSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::Ended;
use crate::host::processes::{descendants, proportional_sizes};
use crate::host::{HostError, HostRoots};
use crate::model::observation::{Exactness, Limits, Peak, PeakSource, Swap};
use crate::model::reading::Reading;
use crate::runner::{FinishError, Finished, Sample, StartError};

/// How long killing may take. A process of another user's, as of a set-user-ID program, cannot be killed at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// The processes below this one that belong to the run: all that were not there before it.
#[derive(Debug)]
pub(super) struct Family {
    roots: HostRoots,
    own: i32,
    strangers: HashSet<i32>,
}

impl Family {
    /// To be made before the run is started. From then on orphans of the run become children of this process, so that
    /// they stay in sight (`PR_SET_CHILD_SUBREAPER`).
    pub(super) fn of_this_process(roots: &HostRoots) -> Result<Self, StartError> {
        // SAFETY: takes a number and no pointer.
        if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
            return Err(StartError::System { action: "adopt orphans", source: io::Error::last_os_error() });
        }
        let own = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let strangers = descendants(roots, own)?.into_iter().collect();
        Ok(Self { roots: roots.clone(), own, strangers })
    }

    fn members(&self) -> Result<Vec<i32>, HostError> {
        let mut members = descendants(&self.roots, self.own)?;
        members.retain(|pid| !self.strangers.contains(pid));
        Ok(members)
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

    pub(super) fn sample(&self) -> Result<Reading<Sample>, HostError> {
        let sizes = proportional_sizes(&self.family.roots, &self.family.members()?);
        Ok(sizes.map(|(current, split)| Sample { current, split: Reading::Value(split) }))
    }

    /// Kills the processes that the run left behind, and says how many there were.
    pub(super) fn kill_rest(&self) -> Result<u64, HostError> {
        let mut killed = HashSet::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.family.members()?;
            if left.is_empty() {
                return Ok(killed.len() as u64);
            }
            if Instant::now() > deadline {
                tracing::warn!("processes {left:?} of the task cannot be killed");
                return Ok(killed.len() as u64);
            }
            for pid in left {
                killed.insert(pid);
                // Both fail for a process that ended just now, and for one whose parent is still to die: the next
                // look at the family tells.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn finish(&self, ended: Ended) -> Result<Finished, FinishError> {
        let leftover = self.kill_rest()?;
        let exactness = Exactness::LowerBound { reason: self.reason.clone(), remedy: self.remedy.clone() };
        let peak = ended.highest.map_or(Reading::Gone, |bytes| {
            Reading::Value(Peak { bytes, source: PeakSource::SampledProcesses, file: None, exactness })
        });
        Ok(Finished {
            end: ended.end,
            peak,
            last: Reading::Gone,
            swap: Swap { peak: Reading::Unsupported, last: Reading::Unsupported },
            limit: Limits { own: Reading::Unsupported, effective: Reading::Unsupported },
            events: Reading::Unsupported,
            cpu: Reading::Value(ended.rusage),
            io: Reading::Unsupported,
            pids_peak: Reading::Unsupported,
            pressure: Reading::Unsupported,
            leftover_processes: Reading::Value(leftover),
        })
    }
}
