//! Directories that highwater writes to on shared machines, such as that of a sweep.
//!
//! Another user may have created the whole directory, or a symbolic link, a pipe or a file under a name that highwater is
//! going to use. So names are looked up relative to the open directory and never followed, files are created exclusively,
//! and root works only in its own directories. Symbolic links in a path given by the user are followed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, User, geteuid, symlinkat, unlinkat};

/// Why highwater does not use something in a directory although the system would allow it. The source of an [`io::Error`].
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A symbolic link, which may lead anywhere.
    #[error("{0} is a symbolic link, which is not followed here")]
    Link(PathBuf),
    /// A pipe, a device, a socket or a directory where a file is expected.
    #[error("{0} is not a regular file")]
    NotAFile(PathBuf),
    /// A file with a second name, in a directory that other users may write to.
    #[error("{0} is a hard link that another user may have made")]
    HardLink(PathBuf),
    /// A directory or file of another user, who could read, replace or redirect what root writes there.
    #[error("{path} belongs to {owner}, but highwater runs as {runs_as}")]
    OtherOwner {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: String,
        /// The user that highwater runs as.
        runs_as: String,
    },
    /// A path that leads out of the directory.
    #[error("{path} is not a path below {directory}")]
    Outside {
        /// The path.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
    },
    /// The name of a directory in use no longer refers to it.
    #[error("{0} was moved, replaced or removed while it was in use")]
    Moved(PathBuf),
}

impl Refusal {
    /// The refusal behind an error of this module; `None` for an error of the system.
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// What a user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Link(_) | Self::NotAFile(_) | Self::HardLink(_) => {
                "remove it if it is not yours, or use another directory"
            }
            Self::OtherOwner { .. } => "use a directory of your own, or run highwater as its owner",
            Self::Moved(_) => "do not move it while highwater runs; check whether the task did",
            Self::Outside { .. } => "check what wrote the path: highwater writes no path that leads outside",
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        Self::other(refusal)
    }
}

/// An open directory. A name in it is a single component, and not followed if it is a symbolic link.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    file: File,
}

impl Directory {
    /// Opens a directory at a path given by the user.
    ///
    /// # Errors
    /// If it cannot be opened or is not a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        // The flag also keeps open(2) from waiting for the writer of a pipe.
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Opens a directory at a path given by the user, creating it and its parents if needed.
    ///
    /// # Errors
    /// See [`Directory::open`].
    pub fn create_all(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(mode_of_new_directories()).create(path)?;
        Self::open(path)
    }

    /// Opens a directory of our own: for root, neither it nor a symbolic link at its path may belong to another user.
    ///
    /// # Errors
    /// See [`Directory::open`] and [`Refusal::OtherOwner`].
    pub fn open_own(path: &Path) -> io::Result<Self> {
        Self::open(path)?.into_own()
    }

    fn into_own(self) -> io::Result<Self> {
        self.check_owner()?;
        let named = fs::symlink_metadata(&self.path)?;
        if named.is_symlink() {
            self.check_trusted(&self.path, named.uid())?;
        }
        Ok(self)
    }

    /// Opens a directory of our own, creating it and its parents if needed.
    ///
    /// # Errors
    /// See [`Directory::open_own`].
    pub fn create_own(path: &Path) -> io::Result<Self> {
        Self::create_all(path)?.into_own()
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory in it.
    ///
    /// # Errors
    /// If it does not exist or is a symbolic link; for root, if it belongs to another user.
    pub fn directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let directory = self.enter(name.as_ref())?;
        directory.check_owner()?;
        Ok(directory)
    }

    /// Opens a directory in it, creating it if needed.
    ///
    /// # Errors
    /// See [`Directory::directory`].
    pub fn create_directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        match mkdirat(&self.file, name.as_ref(), Mode::from_bits_truncate(mode_of_new_directories())) {
            Ok(()) | Err(Errno::EEXIST) => self.directory(name),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens the directory at a relative path in it, creating every missing component.
    ///
    /// # Errors
    /// See [`Directory::directory`]; [`Refusal::Outside`] for a path with `..`.
    pub fn create_directories(&self, relative: &Path) -> io::Result<Self> {
        let names = self.names(relative)?;
        names.into_iter().try_fold(self.try_clone()?, |directory, name| directory.create_directory(name))
    }

    /// Opens the directory at a relative path in it, for reading, whoever owns it.
    ///
    /// # Errors
    /// If it does not exist; [`Refusal::Link`] for a symbolic link in the path, [`Refusal::Outside`] for a path with `..`.
    pub fn beneath(&self, relative: &Path) -> io::Result<Self> {
        let names = self.names(relative)?;
        names.into_iter().try_fold(self.try_clone()?, |directory, name| directory.enter(name))
    }

    /// Opens the regular file at a relative path in it, for reading, whoever owns it.
    ///
    /// # Errors
    /// See [`Directory::beneath`]; [`Refusal::NotAFile`].
    pub fn read(&self, relative: &Path) -> io::Result<File> {
        let name = relative.file_name().ok_or_else(|| self.outside(relative))?;
        let directory = self.beneath(relative.parent().unwrap_or(Path::new("")))?;
        directory.open_file(name, OFlag::O_RDONLY)
    }

    /// The text of a file in it.
    ///
    /// # Errors
    /// See [`Directory::read`]; if it is not UTF-8.
    pub fn read_to_string(&self, name: &str) -> io::Result<String> {
        let mut text = String::new();
        self.read(Path::new(name))?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Creates a new file.
    ///
    /// # Errors
    /// If the name is taken, or the file cannot be created.
    pub fn create_new(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o666);
        Ok(File::from(openat(&self.file, name.as_ref(), flags, mode)?))
    }

    /// Creates a file, replacing what has its name, which is not opened: it may be anything but a directory.
    ///
    /// # Errors
    /// If the old file cannot be removed, or the new one cannot be created.
    pub fn create(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.remove(name.as_ref())?;
        self.create_new(name)
    }

    /// Opens a file of our own for reading and writing, creating it if needed.
    ///
    /// # Errors
    /// If it cannot be opened or is not a regular file; for root, if it belongs to another user.
    pub fn open_or_create(&self, name: impl AsRef<OsStr>, append: bool) -> io::Result<File> {
        let append = if append { OFlag::O_APPEND } else { OFlag::empty() };
        loop {
            match self.open_file(name.as_ref(), OFlag::O_RDWR | append) {
                Ok(file) => {
                    self.check_own(name.as_ref(), &file)?;
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            match self.create_new(name.as_ref()) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                // It is opened again because files are created without O_APPEND; another process may have been faster.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Copies a regular file into another directory, replacing what has its name there. The copy belongs to us and drops the
    /// set-user-ID bit, which another user may have set.
    fn copy_file(&self, name: impl AsRef<OsStr>, to: &Self) -> io::Result<()> {
        let mut from = self.open_file(name.as_ref(), OFlag::O_RDONLY)?;
        let mut copy = to.create(name)?;
        io::copy(&mut from, &mut copy)?;
        copy.set_permissions(Permissions::from_mode(from.metadata()?.mode() & 0o777))
    }

    /// Copies everything in it into another directory. Symbolic links stay links.
    ///
    /// # Errors
    /// If something cannot be read or written.
    pub fn copy_all(&self, to: &Self) -> io::Result<()> {
        for name in self.entries()? {
            match self.kind(&name)? {
                SFlag::S_IFDIR => self.enter(&name)?.copy_all(&to.create_directory(&name)?)?,
                SFlag::S_IFLNK => symlinkat(&*readlinkat(&self.file, &*name)?, &to.file, &*name)?,
                SFlag::S_IFREG => self.copy_file(&name, to)?,
                // A socket, a pipe or a device is not data.
                _ => {}
            }
        }
        Ok(())
    }

    /// Copies the files directly in it into another directory.
    ///
    /// # Errors
    /// If something cannot be read or written; [`Refusal::Link`] for a symbolic link.
    pub fn copy_files(&self, to: &Self) -> io::Result<()> {
        for name in self.entries()? {
            match self.kind(&name)? {
                SFlag::S_IFREG => self.copy_file(&name, to)?,
                SFlag::S_IFLNK => return Err(Refusal::Link(self.path.join(name)).into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The names in it.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn entries(&self) -> io::Result<Vec<OsString>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(&self.file, ".", flags, Mode::empty())?.iter() {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn kind(&self, name: &OsStr) -> nix::Result<SFlag> {
        let found = fstatat(&self.file, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT)
    }

    /// Replaces a file atomically: the new one is written under another name, synced and renamed.
    ///
    /// # Errors
    /// If it cannot be written; the old one is kept then.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_with(name, |file| file.write_all(bytes))
    }

    /// Like [`Directory::replace`], with `write` writing the new file.
    ///
    /// # Errors
    /// See [`Directory::replace`].
    pub fn replace_with(&self, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let new = format!("{name}.new");
        let replaced = self.create(&new).and_then(|mut file| {
            write(&mut file)?;
            file.sync_all()?;
            Ok(renameat(&self.file, new.as_str(), &self.file, name)?)
        });
        if replaced.is_err() {
            let _ = self.remove(&new);
        }
        replaced?;
        self.sync()
    }

    /// Removes a file or a symbolic link, if it exists.
    ///
    /// # Errors
    /// If it is a directory or cannot be removed.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.unlink(name.as_ref(), UnlinkatFlags::NoRemoveDir)
    }

    fn unlink(&self, name: &OsStr, flags: UnlinkatFlags) -> io::Result<()> {
        match unlinkat(&self.file, name, flags) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes a file, or a directory with everything in it, if it exists. Symbolic links are not followed, and our own
    /// directories are removed regardless of their mode.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.make_writable()?;
        self.remove_tree(name.as_ref())
    }

    /// Removes everything in it, except for the name `kept`.
    ///
    /// # Errors
    /// See [`Directory::remove_all`].
    pub fn clear(&self, kept: Option<&str>) -> io::Result<()> {
        self.make_writable()?;
        for name in self.entries()? {
            if kept.is_none_or(|kept| name != kept) {
                self.remove_tree(&name)?;
            }
        }
        Ok(())
    }

    fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        match self.kind(name) {
            Ok(SFlag::S_IFDIR) => {
                self.enter_any_mode(name)?.clear(None)?;
                self.unlink(name, UnlinkatFlags::RemoveDir)
            }
            Ok(_) => self.remove(name),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes an empty directory in it.
    ///
    /// # Errors
    /// [`Refusal::Moved`] if the name no longer refers to `directory`; if it cannot be removed.
    pub fn remove_empty(&self, name: impl AsRef<OsStr>, directory: &Self) -> io::Result<()> {
        if !self.is_at(name.as_ref(), &directory.file) {
            return Err(Refusal::Moved(self.path.join(name.as_ref())).into());
        }
        Ok(unlinkat(&self.file, name.as_ref(), UnlinkatFlags::RemoveDir)?)
    }

    /// Whether this name in it refers to this open file.
    pub fn is_at(&self, name: impl AsRef<OsStr>, file: &File) -> bool {
        is_at(self.file.as_fd(), Path::new(name.as_ref()), file)
    }

    /// Checks that a path, which is not followed if it is a symbolic link, refers to it.
    ///
    /// # Errors
    /// [`Refusal::Moved`].
    pub fn check_at(&self, path: &Path) -> io::Result<()> {
        if is_at(AT_FDCWD, path, &self.file) { Ok(()) } else { Err(Refusal::Moved(path.to_owned()).into()) }
    }

    /// The open directory itself.
    pub fn as_file(&self) -> &File {
        &self.file
    }

    /// Makes it writable for its owner. If that is not us, removing what is in it will fail.
    fn make_writable(&self) -> io::Result<()> {
        let mode = self.file.metadata()?.mode();
        if mode & 0o700 != 0o700 {
            let _ = self.file.set_permissions(open_to_owner(mode));
        }
        Ok(())
    }

    /// Opens a directory in it, changing its mode first if that is needed and it is ours.
    fn enter_any_mode(&self, name: &OsStr) -> io::Result<Self> {
        match self.enter(name) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            entered => return entered,
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = File::from(openat(&self.file, name, flags, Mode::empty())?);
        let mode = found.metadata()?.mode();
        // fchmod(2) refuses such a descriptor, but this path refers to the open directory and to nothing else.
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        fs::set_permissions(path, open_to_owner(mode))?;
        self.enter(name)
    }

    /// Whether this name exists, even as a dangling symbolic link.
    pub fn has(&self, name: &str) -> bool {
        fstatat(&self.file, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Syncs the names in it to disk.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Root works only in its own directories: another owner could replace what is in them at any time.
    fn check_owner(&self) -> io::Result<()> {
        self.check_trusted(&self.path, self.file.metadata()?.uid())
    }

    /// Refuses to write to a file that may be another user's.
    fn check_own(&self, name: &OsStr, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        let path = self.path.join(name);
        self.check_trusted(&path, found.uid())?;
        let is_open_to_others = self.file.metadata()?.mode() & 0o022 != 0;
        if geteuid().is_root() && is_open_to_others && found.nlink() > 1 {
            return Err(Refusal::HardLink(path).into());
        }
        Ok(())
    }

    /// Refuses root a file or directory of another user; for other users the system decides.
    fn check_trusted(&self, path: &Path, owner: u32) -> io::Result<()> {
        if !geteuid().is_root() || self.is_ours(owner) {
            return Ok(());
        }
        Err(other_owner(path, owner))
    }

    /// Refuses a file that another user has created, even if we are not root.
    ///
    /// # Errors
    /// [`Refusal::OtherOwner`].
    pub fn check_made_by_us(&self, name: &str, file: &File) -> io::Result<()> {
        let owner = file.metadata()?.uid();
        if self.is_ours(owner) { Ok(()) } else { Err(other_owner(&self.path.join(name), owner)) }
    }

    /// Whether this user runs highwater, directly or through sudo.
    fn is_ours(&self, owner: u32) -> bool {
        let euid = geteuid();
        let by_sudo = || std::env::var("SUDO_UID").is_ok_and(|uid| uid.parse() == Ok(owner));
        euid.as_raw() == owner || euid.is_root() && by_sudo() || self.owner_of_new_files() == Some(owner)
    }

    /// Some file systems give all files one owner (FAT, 9p, NFS with squashed root): creates a file to find out.
    fn owner_of_new_files(&self) -> Option<u32> {
        let name = format!(".highwater-{}", std::process::id());
        let created = self.create_new(&name).ok()?;
        let _ = self.remove(&name);
        Some(created.metadata().ok()?.uid())
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { path: self.path.clone(), file: self.file.try_clone()? })
    }

    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(&self.file, name, flags, Mode::empty()).map_err(|errno| self.explain(name, errno))?;
        Ok(Self { path, file: File::from(opened) })
    }

    /// Opens a regular file, without waiting for the writer of a pipe.
    fn open_file(&self, name: &OsStr, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let opened: Result<OwnedFd, Errno> = openat(&self.file, name, flags, Mode::empty());
        let file = File::from(opened.map_err(|errno| self.explain(name, errno))?);
        if !file.metadata()?.is_file() {
            return Err(Refusal::NotAFile(self.path.join(name)).into());
        }
        Ok(file)
    }

    /// The components of a relative path without `..`.
    fn names<'a>(&self, relative: &'a Path) -> Result<Vec<&'a OsStr>, Refusal> {
        let components = relative.components().filter(|component| *component != Component::CurDir);
        let name = |component| match component {
            Component::Normal(name) => Ok(name),
            Component::CurDir | Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                Err(self.outside(relative))
            }
        };
        components.map(name).collect()
    }

    fn outside(&self, path: &Path) -> Refusal {
        Refusal::Outside { path: path.to_owned(), directory: self.path.clone() }
    }

    /// The kernel reports a symbolic link that it does not follow as ELOOP or ENOTDIR.
    fn explain(&self, name: &OsStr, errno: Errno) -> io::Error {
        match self.kind(name) {
            Ok(SFlag::S_IFLNK) => Refusal::Link(self.path.join(name)).into(),
            Ok(SFlag::S_IFDIR) if errno == Errno::EISDIR => Refusal::NotAFile(self.path.join(name)).into(),
            _ => errno.into(),
        }
    }
}

fn is_at(directory: BorrowedFd<'_>, path: &Path, file: &File) -> bool {
    let there = fstatat(directory, path, AtFlags::AT_SYMLINK_NOFOLLOW);
    matches!((there, file.metadata()), (Ok(there), Ok(file)) if (there.st_dev, there.st_ino) == (file.dev(), file.ino()))
}

/// Creates a file, replacing what has its name without following or opening it: for files with a fixed name in a directory
/// that the user has named.
///
/// # Errors
/// See [`Directory::create`].
pub fn create_file(path: &Path) -> io::Result<File> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Directory::open(parent)?.create(name)
}

/// Whatever the umask, only root may create names in a directory that root works in.
fn mode_of_new_directories() -> u32 {
    if geteuid().is_root() { 0o755 } else { 0o777 }
}

fn open_to_owner(mode: u32) -> Permissions {
    Permissions::from_mode(mode & 0o7777 | 0o700)
}

fn other_owner(path: &Path, owner: u32) -> io::Error {
    let name = |uid: Uid| match User::from_uid(uid) {
        Ok(Some(user)) => format!("the user {}", user.name),
        Ok(None) | Err(_) => format!("the user {uid}"),
    };
    let (owner, runs_as) = (name(Uid::from_raw(owner)), name(geteuid()));
    Refusal::OtherOwner { path: path.to_owned(), owner, runs_as }.into()
}

#[cfg(test)]
mod tests;
