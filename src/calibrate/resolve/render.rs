//! Renders untrusted documents within bounds of time and memory.
//!
//! The engine counts steps, not bytes, and a single step can double a string or compare lists that contain each other.
//! So a template is first rendered in a child process, which the kernel kills at its limits. Only if that succeeds is
//! it rendered here, with the same variables and so at the same cost.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, close, fork};

use crate::model::document::{Source, Variables};
use crate::model::problem::{Flawed, Problem};

/// The memory that rendering may use, beyond what the program already has.
const MEMORY_BYTES: u64 = 128 << 20;
/// The CPU time that rendering may use, in seconds.
const CPU_SECONDS: u64 = 1;
/// A child that neither works nor ends is abandoned after this many seconds.
const WALL_SECONDS: u32 = 120;
/// The bound of the child if `/proc` does not show how much memory it starts with.
const FALLBACK_BYTES: u64 = 1 << 30;

/// Reads a string, and renders it if it is a template. Unlike [`Source::render`], it ends whatever the template does.
///
/// # Errors
/// If the Jinja is invalid, uses undefined variables, or takes more time or memory than any document needs.
pub fn render(name: impl Into<String>, text: impl Into<String>, variables: &Variables) -> Result<Source, Flawed> {
    let (name, text) = (name.into(), text.into());
    if text.len() as u64 > Source::MOST_BYTES {
        let message = format!("larger than {} MiB, the limit for a document", Source::MOST_BYTES >> 20);
        return Err(Flawed { name, text: String::new(), problems: vec![Problem::error("too-large", message)] });
    }
    if Source::is_template(&text)
        && let Err(problem) = attempt(|| drop(Source::render("", text.as_str(), variables)))
    {
        return Err(Flawed { name, text, problems: vec![problem] });
    }
    Source::render(name, text, variables)
}

/// Does the work in a child process; an error names the bound that it reached.
fn attempt(work: impl FnOnce()) -> Result<(), Problem> {
    let failed = |error: io::Error| {
        Problem::error(
            "template-failed",
            format!("failed to start a process to render the Jinja of this file: {error}"),
        )
    };
    let mut before = SigSet::empty();
    // No handler of ours may run in the child, and Ctrl-C ends it together with this process.
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))
        .map_err(|errno| failed(errno.into()))?;
    // SAFETY: the C library keeps its allocator usable in the child of a fork; the child takes no other lock, and
    // leaves only through `_exit`.
    let forked = unsafe { fork() };
    if matches!(forked, Ok(ForkResult::Child)) {
        // A panic must not continue with the parent's code.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| confine().map(|()| work())));
        // SAFETY: takes a number.
        unsafe { libc::_exit(i32::from(!matches!(done, Ok(Ok(()))))) }
    }
    let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let Ok(ForkResult::Parent { child }) = forked else {
        return Err(failed(forked.err().unwrap_or(Errno::EAGAIN).into()));
    };
    let ended = loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            ended => break ended.map_err(|errno| failed(errno.into()))?,
        }
    };
    let help = "look for a value that repeatedly grows from itself, as in {% set a = a ~ a %}";
    match ended {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Signaled(_, Signal::SIGXCPU, _) => {
            let message = format!("the Jinja of this file needs more than {CPU_SECONDS} s of CPU time");
            Err(Problem::error("template-endless", message).help(help))
        }
        WaitStatus::Signaled(_, Signal::SIGABRT | Signal::SIGKILL, _) => {
            let message = format!("the Jinja of this file needs more than {} MiB of memory", MEMORY_BYTES >> 20);
            Err(Problem::error("template-too-long", message).help(help))
        }
        WaitStatus::Signaled(_, Signal::SIGSEGV | Signal::SIGBUS, _) => {
            let message = "the Jinja of this file nests values too deeply";
            Err(Problem::error("template-too-deep", message).help("look for a value that repeatedly contains itself"))
        }
        _ => Err(Problem::error("template-failed", "failed to render the Jinja of this file")),
    }
}

/// Applies the bounds to the calling process, a child with a single thread, and silences it.
fn confine() -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It is expected to be killed, which needs no core dump.
    prctl::set_dumpable(false)?;
    let ending = [Signal::SIGABRT, Signal::SIGALRM, Signal::SIGBUS, Signal::SIGSEGV, Signal::SIGXCPU];
    for number in ending {
        // SAFETY: no handler is set.
        unsafe { signal(number, SigHandler::SigDfl)? };
    }
    pthread_sigmask(SigmaskHow::SIG_UNBLOCK, Some(&ending.into_iter().collect()), None)?;
    // The library reports on stderr that an allocation failed; the parent has a better error.
    let _ = close(libc::STDERR_FILENO);
    bound(Resource::RLIMIT_AS, mapped_bytes().map_or(FALLBACK_BYTES, |bytes| bytes + MEMORY_BYTES))?;
    bound(Resource::RLIMIT_CPU, CPU_SECONDS)?;
    alarm::set(WALL_SECONDS);
    Ok(())
}

/// Sets a limit, unless a lower one is set already.
fn bound(resource: Resource, limit: u64) -> Result<(), Errno> {
    let (soft, hard) = getrlimit(resource)?;
    setrlimit(resource, limit.min(soft), hard)
}

/// The address space of this process.
fn mapped_bytes() -> Option<u64> {
    let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').next()?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(feature = "templates")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_takes_much_memory_or_time_is_refused() {
        for template in include_str!("../../../fixtures/templates/costly.txt").lines() {
            let refused = render("x", template, &Variables::default());
            let code = refused.map_or_else(|flawed| flawed.problems[0].code, |_| "none");
            let codes = ["template-too-long", "template-endless", "template-too-deep", "template-failed"];
            assert!(codes.contains(&code), "{code}: {template}");
        }
    }

    #[test]
    fn a_panic_in_a_child_ends_there() {
        assert_eq!(attempt(|| panic!("expected")).unwrap_err().code, "template-failed");
    }

    #[test]
    fn a_large_template_is_rendered() {
        let text = format!("[{}0]", "{{ env.A }}, \"some text\", ".repeat(40_000));
        let variables = Variables::with_env([("A".to_owned(), "1".to_owned())]);
        assert!(render("x", text, &variables).is_ok());
    }
}
