//! The floor: nothing but the system calls that a single thread cannot do without.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;

/// What every peer has to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) files: u64,
    pub(crate) sum: u64,
    pub(crate) max: u64,
}

impl Found {
    pub(crate) fn add(&mut self, size: u64) {
        self.files += 1;
        self.sum += size;
        self.max = self.max.max(size);
    }

    pub(crate) fn merge(self, other: Self) -> Self {
        Self { files: self.files + other.files, sum: self.sum + other.sum, max: self.max.max(other.max) }
    }
}

/// Lists with getdents64 and asks for the size of every `*.dcm` with one fstatat relative to the open directory.
pub(crate) fn walk(root: &Path) -> Found {
    let mut found = Found::default();
    let root = std::ffi::CString::new(root.as_os_str().as_bytes()).expect("no NUL in the path");
    folder(libc::AT_FDCWD, &root, &mut found);
    found
}

fn folder(at: libc::c_int, name: &CStr, found: &mut Found) {
    // SAFETY: `name` ends with a NUL.
    let opened = unsafe { libc::openat(at, name.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    assert!(opened >= 0, "{name:?} can be opened");
    let mut listed = [0u8; 32 * 1024];
    loop {
        // SAFETY: the kernel writes at most as many bytes as the buffer has.
        let length = unsafe { libc::syscall(libc::SYS_getdents64, opened, listed.as_mut_ptr(), listed.len()) };
        let Ok(length @ 1..) = usize::try_from(length) else { break };
        let mut at = 0;
        while at < length {
            let record = u16::from_ne_bytes([listed[at + 16], listed[at + 17]]);
            let kind = listed[at + 18];
            let name = CStr::from_bytes_until_nul(&listed[at + 19..]).expect("a name ends with a NUL");
            if kind == libc::DT_REG {
                if name.to_bytes().ends_with(b".dcm") {
                    found.add(size(opened, name));
                }
            } else if kind == libc::DT_DIR && !matches!(name.to_bytes(), b"." | b"..") {
                folder(opened, name, found);
            }
            at += usize::from(record);
        }
    }
    // SAFETY: opened above, closed only here.
    unsafe { libc::close(opened) };
}

fn size(folder: libc::c_int, name: &CStr) -> u64 {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` ends with a NUL, and there is room for the answer.
    let status = unsafe { libc::fstatat(folder, name.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    assert_eq!(status, 0, "{name:?} has a size");
    // SAFETY: the kernel has filled it in.
    let stat = unsafe { stat.assume_init() };
    stat.st_size.unsigned_abs()
}
