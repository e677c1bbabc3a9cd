//! Checks the processes of a run from time to time: whether one has left the run's cgroup, and whether one delegates
//! its work to a daemon. Events between two checks show only in the page faults, if at all.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::host::HostRoots;
use crate::host::cgroup::{Cgroup, memory_cgroup_in};
use crate::host::processes::{Process, command_line, offspring};
use crate::model::handoff::{Handoff, Recipient};

/// The first check, for runs that last longer.
const FIRST_AFTER: Duration = Duration::from_millis(10);
/// Checks become less frequent as a run lasts: the interval is half of the time so far, up to this.
const LONGEST_BETWEEN: Duration = Duration::from_millis(400);
/// A check takes longer with more processes: at most this fraction of the time is spent on checks.
const SHARE: u32 = 8000;
/// The same while a run may still be short, because clients of a short run come and go quickly.
const SHARE_WHILE_SHORT: u32 = 50;
const SHORT: Duration = Duration::from_secs(1);

/// The CPU time of this thread: the cost of checks, however busy the machine is.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// A process of the task that was seen outside of the run's cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// Its name, if known.
    pub(super) name: Option<String>,
    /// Its cgroup.
    pub(super) cgroup: String,
}

/// The findings of all checks.
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

    /// Checks, if it is time. `own` is the run's cgroup, if it has one.
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

    /// The client that delegates work of the task to a daemon of this machine or to a cluster.
    pub(super) fn daemon(&self) -> Option<&Handoff> {
        self.handoff.as_ref().filter(|handoff| handoff.to != Recipient::OtherMachine)
    }

    /// The client that works on another machine, which is only worth a note.
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

    /// The cgroup of a process, if it is not the run's.
    fn elsewhere(&self, pid: i32, own: &Cgroup) -> Option<String> {
        let now = memory_cgroup_in(&self.roots, own.hierarchy.clone(), &pid.to_string()).ok()?;
        // v1 shows a process that is about to end in the root cgroup; it has no executable any more.
        let lives = || std::fs::read_link(self.roots.process_file(pid, "exe")).is_ok();
        (!now.path.starts_with(&own.path) && lives()).then(|| now.path.display().to_string())
    }

    /// Records processes that still exist when the run's cgroup is empty.
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
