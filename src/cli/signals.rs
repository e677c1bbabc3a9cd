//! Being told to end: signals as something that can be waited for.

use std::os::fd::{AsFd, BorrowedFd};

use highwater::calibrate::monitor::{Cancel, Request};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, taken one by one instead of ending the program.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on these signals wait to be taken.
    pub(crate) fn block() -> nix::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
        signals.thread_block()?;
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self)
    }
}

impl Cancel for Signals {
    fn requested(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let info = self.0.read_signal().ok().flatten()?;
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        // The terminal sends to all processes in front of it; kill(1) to one.
        Some(Request { signal, task_knows: info.ssi_code == libc::SI_KERNEL })
    }
}
