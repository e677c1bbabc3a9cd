//! The container's own cgroup, found through its first process.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::enclosing_cgroup::EnclosingCgroup;
use crate::host::cgroup::{Cgroup, memory_cgroup};
use crate::host::cpus::throttling_in;
use crate::host::machine::Machine;
use crate::host::memory::MemoryReader;
use crate::model::observation::{Events, Throttling};
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// How long the last reading may take after the engine has reported the end.
const LAST: Duration = Duration::from_millis(500);

/// The cgroup of a container, watched until its first process ends.
#[derive(Debug)]
pub(super) struct ContainerCgroup {
    pub(super) cgroup: Cgroup,
    last: Receiver<Last>,
}

/// The counters when its first process had ended, if the cgroup still existed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) peak: Option<Bytes>,
    pub(super) events: Reading<Events>,
}

/// How much its CPU limit has held a container back so far.
pub(super) fn throttling(enclosing: Option<&EnclosingCgroup>, own: Option<&ContainerCgroup>) -> Option<Throttling> {
    match (enclosing, own) {
        (Some(enclosing), _) => enclosing.throttling(),
        (None, own) => throttling_in(&own?.cgroup.path),
    }
}

impl ContainerCgroup {
    /// Finds the cgroup; `None` unless the pid belongs to this machine and its cgroup path contains the container id. A
    /// remote engine reports pids of its own machine, which may belong to any process here.
    pub(super) fn find(machine: &Machine, id: &str, pid: i64) -> Option<Self> {
        let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
        // Opened before the cgroup is read: from then on the pid cannot be reused by another process.
        let ended = pidfd_open(pid).ok()?;
        let cgroup = memory_cgroup(&machine.roots, &pid.to_string()).ok()?;
        if !names(&cgroup, id) {
            return None;
        }
        let (sender, last) = channel();
        let mut reader = MemoryReader::new(&cgroup);
        // Open the files now, so that one read each is left to do at the end.
        reader.peak().ok()?;
        reader.events().ok()?;
        thread::Builder::new()
            .name("last reading".to_owned())
            .spawn(move || {
                wait_for(&ended);
                let peak = reader.peak().ok().and_then(|peak| peak.value());
                let events = reader.events().unwrap_or(Reading::Gone);
                // The receiver is gone if the run was given up.
                let _ = sender.send(Last { peak, events });
            })
            .ok()?;
        Some(Self { cgroup, last })
    }

    /// The last reading; returned once.
    pub(super) fn last(&self) -> Option<Last> {
        self.last.recv_timeout(LAST).ok()
    }
}

/// Whether the last component of the cgroup path is the container's: `ID`, `docker-ID.scope` or `libpod-ID.scope`,
/// which Podman may follow with one more component, `container`.
fn names(cgroup: &Cgroup, id: &str) -> bool {
    !id.is_empty() && cgroup.path.components().rev().take(2).any(|part| part.as_os_str().to_string_lossy().contains(id))
}

fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes two numbers and no pointer.
    let file = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let file = i32::try_from(Errno::result(file)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn wait_for(ended: &OwnedFd) {
    let mut files = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
    while let Err(Errno::EINTR) = poll(&mut files, PollTimeout::NONE) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostRoots;
    use crate::host::machine::Machine;

    #[test]
    fn a_process_whose_cgroup_does_not_name_the_container_is_not_believed() {
        let machine = Machine::read(HostRoots::default()).unwrap();
        let own = i64::from(std::process::id());
        assert!(ContainerCgroup::find(&machine, "0123456789abcdef", own).is_none());
        assert!(ContainerCgroup::find(&machine, "", own).is_none());
        assert!(ContainerCgroup::find(&machine, "0123456789abcdef", 0).is_none());
    }
}
