//! Being told to end: signals as something that can be waited for.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use highwater::calibrate::monitor::{Cancel, Request};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// SIGINT, SIGTERM, SIGHUP and SIGQUIT, taken one by one instead of ending the program, until this is dropped.
///
/// Those that we were told to ignore, as `nohup` does, are left ignored.
#[derive(Debug)]
pub(crate) struct Signals {
    file: SignalFd,
    before: SigSet,
}

impl Signals {
    /// From now on these signals wait to be taken.
    pub(crate) fn block() -> nix::Result<Self> {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
        let signals: SigSet = signals.into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let file = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        Ok(Self { file, before })
    }

    /// Whether we were told to end since the last request was taken.
    pub(crate) fn is_waiting(&mut self) -> bool {
        self.take().is_some()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // Nothing depends on it any more but how soon a signal ends us.
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
        let signal = Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()?;
        // The terminal sends to all processes in front of it; kill(1) to one.
        Some(Request { signal, task_knows: info.ssi_code == libc::SI_KERNEL })
    }
}

/// Has a program start with no signal blocked, whatever we wait for.
pub(crate) fn unblock_in(command: &mut Command) {
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(std::io::Error::from));
    }
}

/// Has a write beyond the limit on the size of files (`ulimit -f`) fail with EFBIG, instead of ending the program in the
/// middle of a line. What was ignored before stays ignored.
pub(crate) fn report_size_limit() {
    extern "C" fn nothing(_: libc::c_int) {}
    if !is_ignored(Signal::SIGXFSZ) {
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing. Unlike a signal that is ignored, one with a handler is reset by exec, so that
        // tasks start with the disposition that highwater was started with.
        let _ = unsafe { sigaction(Signal::SIGXFSZ, &action) };
    }
}

/// Some programs start others with SIGCHLD ignored, which would take the ends of our children from us.
pub(crate) fn take_note_of_children() {
    // SAFETY: no handler is set, and no thread has been started yet.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}
