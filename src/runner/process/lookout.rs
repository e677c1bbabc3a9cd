//! Looks at the processes of a run from time to time: whether one has left the run's cgroup, and whether one hands its
//! work to a daemon. What happens between two looks shows in the page faults or not at all.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::host::HostRoots;
use crate::host::cgroup::{Cgroup, memory_cgroup_in};
use crate::host::processes::{Process, command_line, offspring};
use crate::model::handoff::{Handoff, Recipient};

/// The first look, when a run turns out to last.
const FIRST_AFTER: Duration = Duration::from_millis(10);
/// Looks become less frequent as a run lasts: half of the time it has lasted lies between two, up to this.
const LONGEST_BETWEEN: Duration = Duration::from_millis(400);
/// A look takes longer the more processes there are: at most this part of the time is spent on it.
const SHARE: u32 = 8000;
/// The same for runs that may still be short, whose clients come and go quickly.
const SHARE_WHILE_SHORT: u32 = 50;
const SHORT: Duration = Duration::from_secs(1);

/// The time this thread has spent on a CPU: what looking costs, however busy the machine is.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A process of the task that was seen outside of the run's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// Its name, if known.
    pub(super) name: Option<String>,
    /// Where it was.
    pub(super) cgroup: String,
}

/// What the looks have shown.
#[derive(Debug)]
pub(super) struct Lookout {
    pub(super) roots: HostRoots,
    reaper: i32,
    started: Instant,
    next: Duration,
    pub(super) outside: Option<Outside>,
    pub(super) handoff: Option<Handoff>,
}

impl Lookout {
    pub(super) fn new(roots: &HostRoots, reaper: i32, started: Instant, command: &[String]) -> Self {
        let handoff = Handoff::find(command);
        Self { roots: roots.clone(), reaper, started, next: FIRST_AFTER, outside: None, handoff }
    }

    /// Looks, if it is time to. `own` is the run's cgroup, if it has one.
    pub(super) fn look_in_time(&mut self, own: Option<&Cgroup>) {
        let elapsed = self.started.elapsed();
        if elapsed < self.next || (self.outside.is_some() && self.daemon().is_some()) {
            return;
        }
        let before = cpu_time();
        for pid in offspring(&self.roots, self.reaper).unwrap_or_default() {
            self.look_at(pid, own);
        }
        let between = (elapsed / 2).min(LONGEST_BETWEEN);
        let cost = cpu_time().saturating_sub(before);
        let share = if elapsed < SHORT { SHARE_WHILE_SHORT } else { SHARE };
        self.next = elapsed + between.max(cost * share);
    }

    /// The client that hands work of the task to a daemon of this machine, or to a cluster.
    pub(super) fn daemon(&self) -> Option<&Handoff> {
        self.handoff.as_ref().filter(|handoff| handoff.to != Recipient::OtherMachine)
    }

    /// The client that works on another machine, which is worth a note only.
    pub(super) fn other_machine(&self) -> Option<&Handoff> {
        self.handoff.as_ref().filter(|handoff| handoff.to == Recipient::OtherMachine)
    }

    fn look_at(&mut self, pid: i32, own: Option<&Cgroup>) {
        if self.outside.is_none()
            && let Some(own) = own
            && let Some(cgroup) = self.elsewhere(pid, own)
        {
            let name = std::fs::read_to_string(self.roots.process_file(pid, "comm")).ok();
            self.outside = Some(Outside { name: name.map(|name| name.trim_end().to_owned()), cgroup });
        }
        if self.daemon().is_none()
            && let Some(found) = Handoff::find(&command_line(&self.roots, pid))
        {
            self.handoff = Some(found);
        }
    }

    /// The cgroup of a process, if that is not the run's.
    fn elsewhere(&self, pid: i32, own: &Cgroup) -> Option<String> {
        let now = memory_cgroup_in(&self.roots, own.hierarchy.clone(), &pid.to_string()).ok()?;
        // On v1 a process that is about to end is shown in the root cgroup; it has no program any more.
        let lives = || std::fs::read_link(self.roots.process_file(pid, "exe")).is_ok();
        (!now.path.starts_with(&own.path) && lives()).then(|| now.path.display().to_string())
    }

    /// Takes note of processes that are still there when nothing is left in the run's cgroup.
    pub(super) fn found_outside(&mut self, left: &[Process], own: &Cgroup) {
        for process in left.iter().filter(|process| !process.is_exiting) {
            if self.outside.is_none()
                && let Some(cgroup) = self.elsewhere(process.identity.pid, own)
            {
                self.outside = Some(Outside { name: Some(process.name.clone()), cgroup });
            }
        }
    }
}
