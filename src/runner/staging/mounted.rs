//! Read-only mounts that only this process and its children see.

use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;

/// From now on what is mounted here is seen by nobody else; what others mount is still seen here.
pub(super) fn isolate() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
    Ok(())
}

/// Shows a file or folder at another place as well.
pub(super) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, NONE, MsFlags::MS_BIND, NONE)?)
}

/// Lets nobody write there. A mount is only made read-only by a second call (mount(2)).
pub(super) fn make_read_only(target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // What is locked in an outer namespace, such as noexec, must be asked for again.
    let more = [MsFlags::empty(), MsFlags::MS_NOEXEC];
    let mut result = Ok(());
    for more in more {
        result = mount(NONE, target, NONE, flags | more, NONE);
        if result.is_ok() {
            break;
        }
    }
    Ok(result?)
}

/// Takes away what is mounted there and below.
pub(super) fn unmount(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::MNT_DETACH)?)
}
