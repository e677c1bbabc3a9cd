//! The system calls of a survey: opening, listing and asking for sizes, always relative to an open folder.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlink};
use nix::libc;
use nix::sys::stat::{Mode, fstat, fstatat};

/// What a name in a folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Folder,
    Link,
    /// A FIFO, a socket or a device.
    Special,
    /// The file system does not say: one more question has to be asked.
    Unknown,
}

/// One name in a folder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a CStr,
    pub(super) kind: Kind,
}

/// What `stat` says about a file, as far as a survey needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stat {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// What an open folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// To list it.
    List,
    /// To pass through: needs no permission to list.
    Pass,
}

/// Which symbolic links a path may lead through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// None.
    No,
    /// Those that stay below the folder the path is relative to.
    Beneath,
    /// All.
    Anywhere,
}

impl Access {
    fn flags(self) -> OFlag {
        let folder = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match self {
            Self::List => folder | OFlag::O_RDONLY,
            Self::Pass => folder | OFlag::O_PATH,
        }
    }
}

/// Opens a folder; the last component may be a symbolic link only where `follow` says so.
pub(super) fn open_folder<P: NixPath + ?Sized>(
    at: BorrowedFd<'_>,
    path: &P,
    access: Access,
    follow: bool,
) -> Result<OwnedFd, Errno> {
    let flags = if follow { access.flags() } else { access.flags() | OFlag::O_NOFOLLOW };
    openat(at, path, flags, Mode::empty())
}

/// Opens a folder by its path from `root`.
///
/// `EXDEV` means that the path leads out of `root`, `ELOOP` that it has a link that may not be followed.
pub(super) fn open_path(root: BorrowedFd<'_>, path: &CStr, access: Access, links: Links) -> Result<OwnedFd, Errno> {
    let resolve = match links {
        Links::Anywhere => return open_folder(root, path, access, true),
        Links::Beneath => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Links::No => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    loop {
        match openat2(root, path, OpenHow::new().flags(access.flags()).resolve(resolve)) {
            // A rename elsewhere on the machine made the kernel unsure; it says to ask again.
            Err(Errno::EAGAIN) => {}
            // Kernels before 5.6 lack it, some sandboxes forbid it.
            Err(Errno::ENOSYS | Errno::EPERM) => return open_and_compare(root, path, access, links),
            answer => return answer,
        }
    }
}

/// The same without `openat2`: where the open folder turns out to be is compared with where it should be.
fn open_and_compare(root: BorrowedFd<'_>, path: &CStr, access: Access, links: Links) -> Result<OwnedFd, Errno> {
    let place = |folder: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
        readlink(link.as_str()).map(PathBuf::from)
    };
    let opened = open_folder(root, path, access, true)?;
    let (channel, found) = (place(root)?, place(opened.as_fd())?);
    let named = channel.join(OsStr::from_bytes(path.to_bytes()));
    match links {
        Links::Anywhere => Ok(opened),
        Links::Beneath if found.starts_with(&channel) => Ok(opened),
        Links::Beneath => Err(Errno::EXDEV),
        // Compared by components: `.` and slashes in a row make no difference.
        Links::No if found == named => Ok(opened),
        Links::No => Err(Errno::ELOOP),
    }
}

/// Fills `buffer` with the next names of a folder and says how many bytes they take; 0 after the last.
pub(super) fn list(folder: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which is ours for the whole call.
    let length = unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            folder.as_raw_fd(),
            buffer.as_mut_ptr().cast::<libc::c_void>(),
            buffer.len(),
        )
    };
    Errno::result(length).map(|length| usize::try_from(length).unwrap_or(0))
}

/// The names in what [`list`] wrote, without `.` and `..`.
pub(super) fn entries(mut listed: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    /// Where `d_reclen`, `d_type` and `d_name` are in a `linux_dirent64`.
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
                libc::DT_DIR => Kind::Folder,
                libc::DT_LNK => Kind::Link,
                libc::DT_UNKNOWN if matches!(name.to_bytes(), b"." | b"..") => continue,
                libc::DT_UNKNOWN => Kind::Unknown,
                _ => Kind::Special,
            };
            return Some(Entry { name, kind });
        }
    })
}

/// What a name in a folder is; of the target of a symbolic link where `follow` says so.
pub(super) fn stat(folder: BorrowedFd<'_>, name: &CStr, follow: bool) -> Result<Stat, Errno> {
    let flags = if follow { AtFlags::AT_NO_AUTOMOUNT } else { AtFlags::AT_NO_AUTOMOUNT | AtFlags::AT_SYMLINK_NOFOLLOW };
    let stat = fstatat(folder, name, flags)?;
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::Regular,
        libc::S_IFDIR => Kind::Folder,
        libc::S_IFLNK => Kind::Link,
        _ => Kind::Special,
    };
    Ok(Stat { kind, size: u64::try_from(stat.st_size).unwrap_or(0), device: stat.st_dev, inode: stat.st_ino })
}

/// The device an open folder is on.
pub(super) fn device(folder: BorrowedFd<'_>) -> Result<u64, Errno> {
    fstat(folder).map(|stat| stat.st_dev)
}
