//! A process that outlives a highwater that is killed, and does its cleaning for it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2};

use super::own_cgroup::destroy;
use crate::host::cgroup::Cgroup;

/// Watches over one cgroup. Dropping it dismisses it.
#[derive(Debug)]
pub(super) struct Guardian {
    pid: i32,
    /// Closed by the kernel, should highwater be killed: that is what the guardian waits for.
    lifeline: File,
}

impl Guardian {
    /// Posts a guardian for this cgroup.
    pub(super) fn post(cgroup: &Cgroup) -> io::Result<Self> {
        let (watch, lifeline) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the C library makes its allocator usable in the child of a fork; the child takes no other lock, and
        // leaves by `_exit` alone.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(lifeline);
                stand_guard(File::from(watch), cgroup)
            }
            pid => Ok(Self { pid, lifeline: File::from(lifeline) }),
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // A guardian that was killed by somebody cannot hear; it must be waited for all the same.
        let _ = self.lifeline.write_all(b".");
        let _ = waitpid(Pid::from_raw(self.pid), None);
    }
}

fn stand_guard(mut watch: File, cgroup: &Cgroup) -> ! {
    detach(&watch);
    let mut word = [0];
    loop {
        match watch.read(&mut word) {
            Ok(0) => break drop(destroy(cgroup)),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    // SAFETY: ends this process; nothing of the parent's is flushed or dropped twice.
    unsafe { libc::_exit(0) }
}

/// Leaves the terminal and its signals, and lets go of everybody's files: a reader at the other end of highwater's
/// stdout must not wait for the guardian.
fn detach(watch: &File) {
    let watch = watch.as_raw_fd();
    // SAFETY: system calls on numbers; the files that are closed are not used by this process any more.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_IGN);
        }
        for file in 0..watch {
            libc::close(file);
        }
        libc::syscall(libc::SYS_close_range, watch + 1, u32::MAX, 0);
        libc::chdir(c"/".as_ptr());
    }
}
