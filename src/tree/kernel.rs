//! The system calls of a survey: opening, listing and stat, always relative to an open directory.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlink};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};

/// The type of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    Link,
    /// A FIFO, a socket or a device.
    Special,
    /// The file system does not report it: stat has to be called.
    Unknown,
}

/// A directory entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a CStr,
    pub(super) kind: Kind,
}

/// The result of `stat`, as far as a survey needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// The purpose of an open directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Listing it.
    List,
    /// Traversing it, which needs no permission to list.
    Pass,
}

/// Which symbolic links a path may go through, the fewest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Links {
    /// None.
    No,
    /// Those that stay below the directory the path is relative to.
    Beneath,
    /// All.
    Anywhere,
}

impl Access {
    fn flags(self) -> OFlag {
        let directory = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match self {
            Self::List => directory | OFlag::O_RDONLY,
            Self::Pass => directory | OFlag::O_PATH,
        }
    }
}

/// Opens a directory; the last component may be a symbolic link only if `follow` is true.
pub(super) fn open_directory<P: NixPath + ?Sized>(
    at: BorrowedFd<'_>,
    path: &P,
    access: Access,
    follow: bool,
) -> Result<OwnedFd, Errno> {
    let flags = if follow { access.flags() } else { access.flags() | OFlag::O_NOFOLLOW };
    openat(at, path, flags, Mode::empty())
}

/// Opens a directory by its path from `root`.
///
/// `EXDEV` means that the path leads out of `root`, `ELOOP` that it contains a link that may not be followed.
pub(super) fn open_path(root: BorrowedFd<'_>, path: &CStr, access: Access, links: Links) -> Result<OwnedFd, Errno> {
    let resolve = match links {
        Links::Anywhere => return open_directory(root, path, access, true),
        Links::Beneath => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Links::No => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    loop {
        match openat2(root, path, OpenHow::new().flags(access.flags()).resolve(resolve)) {
            // A concurrent rename elsewhere: the kernel requests a retry.
            Err(Errno::EAGAIN) => {}
            // Kernels before 5.6 lack it, and some sandboxes forbid it.
            Err(Errno::ENOSYS | Errno::EPERM) => return open_and_compare(root, path, access, links),
            answer => return answer,
        }
    }
}

/// The same without `openat2`: compares where the open directory is with where it should be.
fn open_and_compare(root: BorrowedFd<'_>, path: &CStr, access: Access, links: Links) -> Result<OwnedFd, Errno> {
    let place = |directory: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        readlink(link.as_str()).map(PathBuf::from)
    };
    let opened = open_directory(root, path, access, true)?;
    let (channel, found) = (place(root)?, place(opened.as_fd())?);
    let named = channel.join(OsStr::from_bytes(path.to_bytes()));
    match links {
        Links::Anywhere => Ok(opened),
        Links::Beneath if found.starts_with(&channel) => Ok(opened),
        Links::Beneath => Err(Errno::EXDEV),
        // Compares components: `.` and repeated slashes make no difference.
        Links::No if found == named => Ok(opened),
        Links::No => Err(Errno::ELOOP),
    }
}

/// Fills `buffer` with the next names of a directory and returns their length in bytes; 0 after the last.
pub(super) fn list(directory: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which is ours for the whole call.
    let length = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            buffer.as_mut_ptr().cast::<libc::c_void>(),
            buffer.len(),
        )
    };
    Errno::result(length).map(|length| usize::try_from(length).unwrap_or(0))
}

/// The names in the buffer of [`list`], without `.` and `..`.
pub(super) fn entries(mut listed: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    /// The offsets of `d_reclen`, `d_type` and `d_name` in a `linux_dirent64`.
    const LENGTH: usize = 16;
    const KIND: usize = 18;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        loop {
            let length = u16::from_ne_bytes([*listed.get(LENGTH)?, *listed.get(LENGTH + 1)?]);
            let (record, rest) = listed.split_at_checked(usize::from(length))?;
            listed = rest;
            let name = CStr::from_bytes_until_nul(record.get(NAME..)?).ok()?;
            let kind = match *record.get(KIND)? {
                libc::DT_REG => Kind::Regular,
                libc::DT_DIR if matches!(name.to_bytes(), b"." | b"..") => continue,
                libc::DT_DIR => Kind::Directory,
                libc::DT_LNK => Kind::Link,
                libc::DT_UNKNOWN if matches!(name.to_bytes(), b"." | b"..") => continue,
                libc::DT_UNKNOWN => Kind::Unknown,
                _ => Kind::Special,
            };
            return Some(Entry { name, kind });
        }
    })
}

/// The stat of a directory entry; of the target of a symbolic link if `follow` is true.
pub(super) fn stat(directory: BorrowedFd<'_>, name: &CStr, follow: bool) -> Result<Stat, Errno> {
    let flags = if follow { AtFlags::AT_NO_AUTOMOUNT } else { AtFlags::AT_NO_AUTOMOUNT | AtFlags::AT_SYMLINK_NOFOLLOW };
    let stat = fstatat(directory, name, flags)?;
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::Regular,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Link,
        _ => Kind::Special,
    };
    Ok(Stat { kind, size: u64::try_from(stat.st_size).unwrap_or(0), device: stat.st_dev, inode: stat.st_ino })
}

/// The device of an open directory.
pub(super) fn device(directory: BorrowedFd<'_>) -> Result<u64, Errno> {
    fstat(directory).map(|stat| stat.st_dev)
}

/// Converts a name for a system call.
pub(super) fn c_string(name: &[u8]) -> Result<CString, Errno> {
    CString::new(name).map_err(|_| Errno::ENOENT)
}

/// Converts a path for the rest of the program.
pub(super) fn path_buf(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}
