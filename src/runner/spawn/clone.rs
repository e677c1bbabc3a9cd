//! System calls that create a process, the cheapest first.
//!
//! `clone3(2)` with `CLONE_VM | CLONE_VFORK` copies no page tables and causes no page faults afterwards, like
//! `posix_spawn(3)`, which however does not support cgroups. If it is not available, fork is used.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};

use super::{Plan, Spawned};

/// Assumed page faults of a child with memory of its own, which cannot report them before it executes the program.
const FORKED: u64 = 64;

/// From `linux/sched.h`; the constants of the libc crate have an unsuitable type.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Starts a process that follows the plan, inside of a v2 cgroup if one is given.
pub(super) fn start(into_cgroup: Option<BorrowedFd<'_>>, plan: &mut Plan<'_>) -> io::Result<Spawned> {
    match clone3(into_cgroup, plan) {
        // Linux before 5.5, or a seccomp filter that does not know the call, as in older container engines.
        Err(error) if into_cgroup.is_none() && is_unknown(&error) => plan.with_pipe(fork),
        result => result,
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOSYS | Errno::EINVAL | Errno::EPERM))
}

fn fork(plan: &mut Plan<'_>) -> io::Result<Spawned> {
    // SAFETY: the child only does what signal-safety(7) lists, and never returns.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => plan.become_program(),
        pid => pid,
    };
    // SAFETY: takes two numbers. The child has not been waited for, so its pid is still valid.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if pidfd < 0 {
        let error = io::Error::last_os_error();
        super::kill_and_reap(pid);
        return Err(error);
    }
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(Spawned { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) }, faults: FORKED })
}

/// The size of the child's stack: it makes a few system calls and no deep calls.
#[cfg(target_arch = "x86_64")]
const STACK: usize = 64 * 1024;

#[cfg(target_arch = "x86_64")]
fn clone3(into_cgroup: Option<BorrowedFd<'_>>, plan: &mut Plan<'_>) -> io::Result<Spawned> {
    let mut stack: Vec<std::mem::MaybeUninit<u128>> = Vec::with_capacity(STACK / size_of::<u128>());
    let mut pidfd: RawFd = -1;
    let mut arguments = arguments(into_cgroup, &mut pidfd);
    arguments.flags |= (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | CLONE_CLEAR_SIGHAND;
    arguments.stack = stack.as_mut_ptr() as u64;
    arguments.stack_size = STACK as u64;
    // A handler of ours must not run in the child, where it would modify our memory.
    let mut before = SigSet::empty();
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
    let result: i64;
    // SAFETY: the child starts on a stack of its own, large enough and aligned to 16 bytes, and goes to `enter`, which
    // does not return. This thread continues only when the child has executed a program or has ended, so everything the
    // child was given outlives its use. The call clobbers rcx and r11; the child finds r12 unchanged.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call {enter}",
            "ud2",
            "2:",
            enter = sym enter,
            in("r12") std::ptr::from_mut(plan),
            in("rdi") &raw mut arguments,
            in("rsi") size_of::<libc::clone_args>(),
            inlateout("rax") libc::SYS_clone3 => result,
            out("rcx") _,
            out("r11") _,
        );
    }
    nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    drop(stack);
    finish(result, pidfd)
}

/// Where the child starts.
#[cfg(target_arch = "x86_64")]
extern "C" fn enter(plan: *mut Plan<'static>) -> ! {
    // SAFETY: the parent made the pointer from a reference; it waits and does not touch the plan meanwhile.
    unsafe { &mut *plan }.become_program()
}

/// Other processors pay for a copy of the page tables, because assembly for them would be untested.
#[cfg(not(target_arch = "x86_64"))]
fn clone3(into_cgroup: Option<BorrowedFd<'_>>, plan: &mut Plan<'_>) -> io::Result<Spawned> {
    plan.with_pipe(|plan| copy(into_cgroup, plan))
}

#[cfg(not(target_arch = "x86_64"))]
fn copy(into_cgroup: Option<BorrowedFd<'_>>, plan: &mut Plan<'_>) -> io::Result<Spawned> {
    let mut pidfd: RawFd = -1;
    let mut arguments = arguments(into_cgroup, &mut pidfd);
    // SAFETY: without CLONE_VM the child has memory of its own, as after fork(2). `arguments` outlives the call and
    // its size is given; the child only does what signal-safety(7) lists, and never returns.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => plan.become_program(),
        pid => finish(pid, pidfd),
    }
}

fn arguments(into_cgroup: Option<BorrowedFd<'_>>, pidfd: &mut RawFd) -> libc::clone_args {
    // SAFETY: all fields are numbers, for which zero is the documented default.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = libc::CLONE_PIDFD as u64;
    arguments.pidfd = std::ptr::from_mut(pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(directory) = into_cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = directory.as_raw_fd() as u64;
    }
    arguments
}

/// Converts the kernel's result: a pid, or a negative error.
fn finish(result: i64, pidfd: RawFd) -> io::Result<Spawned> {
    let number = i32::try_from(result).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
    if number < 0 {
        return Err(io::Error::from_raw_os_error(-number));
    }
    // SAFETY: the kernel has just created this descriptor, with O_CLOEXEC, and nothing else owns it.
    Ok(Spawned { pid: number, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) }, faults: FORKED })
}
