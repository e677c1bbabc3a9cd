//! Requests to end, as signals that can be waited for.

use std::os::fd::{AsFd, BorrowedFd};

use highwater::calibrate::monitor::{Cancel, Request};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Catches SIGINT, SIGTERM, SIGHUP and SIGQUIT one by one instead of letting them end the program, until dropped.
///
/// Signals that were ignored at the start, as under `nohup`, stay ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    file: SignalFd,
    before: SigSet,
    /// The first signal that was taken.
    first: Option<highwater::model::signal::Signal>,
}

impl Signals {
    /// Blocks these signals so that they can be taken.
    pub(crate) fn block() -> nix::Result<Self> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
        let signals: SigSet = signals.into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let file = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { file, before, first: None })
    }

    /// The first signal that has arrived. A run that had just ended by itself took it in vain: it keeps its outcome, so that
    /// only this tells.
    pub(crate) fn ended_by(&mut self) -> Option<highwater::model::signal::Signal> {
        self.take();
        self.first
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // An error only delays when a signal ends the program.
        let _ = self.before.thread_set_mask();
    }
}

fn is_ignored(signal: Signal) -> bool {
    // SAFETY: a sigaction is numbers and sets of bits, for which zero is valid; the call only writes to it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as i32, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

impl Cancel for Signals {
    fn requested(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let info = self.file.read_signal().ok().flatten()?;
        let signal = highwater::model::signal::Signal(i32::try_from(info.ssi_signo).ok()?);
        self.first.get_or_insert(signal);
        // The terminal signals the whole foreground process group; kill(1) signals one process.
        Some(Request { signal, task_knows: info.ssi_code == libc::SI_KERNEL })
    }
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) fail with EFBIG instead of killing the program in the
/// middle of a line. If the signal was ignored before, it stays ignored.
pub(crate) fn report_size_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    if !is_ignored(Signal::SIGXFSZ) {
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing. Unlike an ignored signal, exec resets one with a handler, so that tasks
        // start with the disposition that highwater was started with.
        let _ = unsafe { sigaction(Signal::SIGXFSZ, &action) };
    }
}

/// Resets SIGCHLD: some parents ignore it, and the kernel would then discard the exit statuses of child processes.
pub(crate) fn take_note_of_children() {
    // SAFETY: no handler is set, and no thread has been started yet.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}
