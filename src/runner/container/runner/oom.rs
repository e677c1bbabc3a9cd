//! Detects OOM kills in a container's own cgroup on v1.
//!
//! v1 counts OOM kills only in the cgroup where they occur, which disappears with the container, and an engine may not
//! report the notification it got for a container that is gone before it looks. So highwater registers as well: an
//! eventfd(2) on `memory.oom_control` counts every time that nothing was left to reclaim, and once the removal of the
//! cgroup (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control").

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::host::cgroup::Cgroup;
use crate::model::observation::CgroupVersion;
use crate::runner::engine::Engine;
use crate::runner::run_cgroup::write_to;

/// The interval at which to check for the cgroup: the engine creates it some ten milliseconds before the task starts.
const EVERY: Duration = Duration::from_millis(1);
/// How long after the end the kernel may take to report the removal.
const LAST: Duration = Duration::from_millis(200);

/// Watches from before the task starts.
#[derive(Debug)]
pub(super) struct OomWatch {
    notified: Arc<OnceLock<EventFd>>,
}

impl OomWatch {
    /// Waits for the container's cgroup below `parent`; `None` if the counter of the parent includes those below it.
    pub(super) fn begin(engine: &Engine, parent: &Cgroup, id: &str) -> Option<Self> {
        if parent.version() != CgroupVersion::V1 {
            return None;
        }
        let leaves = [id.to_owned(), format!("docker-{id}.scope")].map(|name| parent.path.join(name));
        let notified = Arc::new(OnceLock::new());
        let waiting = Arc::downgrade(&notified);
        engine.spawn(async move {
            // Until the run is over.
            while let Some(notified) = waiting.upgrade() {
                if let Some(leaf) = leaves.iter().find(|leaf| leaf.exists()) {
                    match listen(leaf) {
                        Ok(events) => drop(notified.set(events)),
                        Err(error) => tracing::debug!("cannot watch for OOM events in {}: {error}", leaf.display()),
                    }
                    return;
                }
                drop(notified);
                tokio::time::sleep(EVERY).await;
            }
        });
        Some(Self { notified })
    }

    /// Whether memory ran out; call when the container has ended.
    pub(super) fn ran_out(&self) -> bool {
        let Some(events) = self.notified.get() else { return false };
        let end = Instant::now() + LAST;
        let mut count = 0;
        // One of the two is the removal, which is always notified.
        while count < 2 {
            let left = end.saturating_duration_since(Instant::now());
            let mut files = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            match poll(&mut files, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
                Ok(1..) => count += events.read().unwrap_or_default(),
                Ok(_) => break,
                Err(_) => {}
            }
        }
        count >= 2
    }
}

fn listen(leaf: &Path) -> io::Result<EventFd> {
    let events = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = File::open(leaf.join("memory.oom_control"))?;
    let pair = format!("{} {}", events.as_fd().as_raw_fd(), control.as_raw_fd());
    write_to(&leaf.join("cgroup.event_control"), &pair)?;
    Ok(events)
}
