//! Output files named by the user: every command writes them the same way.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, ErrorKind, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use highwater::calibrate::failure::Failed;
use highwater::directory::Directory;
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::stat::fstat;
use nix::unistd::{AccessFlags, access, geteuid};
use tempfile::TempPath;

use super::exit::Exit;
use super::failure::Failure;

/// The kernel's limit on symbolic links in a path.
const MOST_LINKS: usize = 40;
/// The number of temporary files left behind by killed processes that are tolerated.
const MOST_LEFT: u32 = 1000;

/// Writes a file atomically: readers see the old content or the new one, never a part.
///
/// A symbolic link is followed and stays a link, and an existing file keeps its mode and owner. A file that cannot be
/// replaced is overwritten in place: a device or pipe, a file in a read-only directory, a mounted file, or one whose
/// owner only root could restore.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    try_write(path, &mut Content::Bytes(bytes)).map_err(|source| unwritten(path, source))
}

/// Writes a file of a fixed name into a directory named by the user. Follows the user's own symbolic link as [`write`]
/// does, but replaces one that another user put there.
pub(crate) fn write_into(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = directory.join(name);
    let is_own_link = |there: &Metadata| there.is_symlink() && there.uid() == geteuid().as_raw();
    if fs::symlink_metadata(&path).is_ok_and(|there| is_own_link(&there)) {
        return write(&path, bytes);
    }
    let written = Directory::open(directory).and_then(|directory| directory.replace(name, bytes));
    written.map_err(|source| unwritten(&path, source))
}

/// Writes a file as [`write`] does, piece by piece. `write` is called again if the file turns out not to be
/// replaceable.
pub(crate) fn write_with(path: &Path, write: &mut Writing<'_>) -> Result<(), Failure> {
    try_write(path, &mut Content::Pieces(write)).map_err(|source| unwritten(path, source))
}

/// Writes the content of a file each time it is called.
pub(crate) type Writing<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// The content to write.
enum Content<'a, 'b> {
    Bytes(&'a [u8]),
    Pieces(&'a mut Writing<'b>),
}

impl Content<'_, '_> {
    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => out.write_all(bytes),
            Self::Pieces(write) => {
                let mut out = BufWriter::new(out);
                write(&mut out)?;
                out.flush()
            }
        }
    }
}

/// Checks that a file can be written, so that no computation or run is wasted.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    try_check(path).map_err(|source| unwritten(path, source))
}

/// Whether writing appends to earlier output, as with a pipe.
pub(crate) fn is_stream(path: &Path) -> bool {
    matches!(Target::find(path), Ok(Target::Stream(_)))
}

/// The failure of writing a file named by the user.
pub(crate) fn unwritten(path: &Path, source: io::Error) -> Failure {
    let help = match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => "remove the symbolic link, or name another file",
        Some(Errno::ENOSPC | Errno::EDQUOT) => "make room on the disk, or name a file on another one",
        Some(Errno::EFBIG) => "raise the limit on the size of files (`ulimit -f`)",
        Some(_) | None => "name a file that you may write to, in a directory that exists",
    };
    Failure::new(Exit::Host, Failed::writing(path, source), Some(help.to_owned()))
}

/// The destination of the bytes.
enum Target {
    /// A pipe, a device, or an open file such as `/dev/stdout`.
    Stream(Metadata),
    /// A regular file, after following all links; it need not exist.
    File { path: PathBuf, old: Option<Metadata> },
}

impl Target {
    fn find(path: &Path) -> io::Result<Self> {
        // Let the kernel follow the links first: it refuses loops, and other users' links in /tmp.
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => Ok(Self::Stream(found)),
            Ok(found) => Ok(match behind_links(path)? {
                Some(path) => Self::File { path, old: Some(found) },
                None => Self::Stream(found),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if path.as_os_str().as_bytes().ends_with(b"/") {
                    return Err(ErrorKind::IsADirectory.into());
                }
                behind_links(path)?.map(|path| Self::File { path, old: None }).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// The file that a path leads to; `None` for a file that a process has open (`/proc/self/fd/1`).
fn behind_links(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(_) if is_descriptor(&path) => return Ok(None),
            Ok(next) => path = folder_of(&path).join(next),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(Some(path));
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::ELOOP.into())
}

fn is_descriptor(path: &Path) -> bool {
    fs::canonicalize(folder_of(path)).is_ok_and(|folder| folder.starts_with("/proc") && folder.ends_with("fd"))
}

/// The directory of a file, which need not exist.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn try_check(path: &Path) -> io::Result<()> {
    match Target::find(path)? {
        Target::Stream(_) => access(path, AccessFlags::W_OK)?,
        Target::File { path, old: Some(_) } => access(&path, AccessFlags::W_OK)?,
        // Only an attempt shows it: root may write everywhere, yet cannot create files in /proc.
        Target::File { path, old: None } => drop(create_beside(&path, 0o600)?),
    }
    Ok(())
}

fn try_write(path: &Path, content: &mut Content<'_, '_>) -> io::Result<()> {
    match Target::find(path)? {
        Target::Stream(found) => match append(path, &found, content) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        },
        Target::File { path, old: None } => replace(&path, None, content),
        Target::File { path, old: Some(old) } => {
            access(&path, AccessFlags::W_OK)?;
            match replace(&path, Some(&old), content) {
                Err(error) if is_refused(&error) => overwrite(&path, content),
                result => result,
            }
        }
    }
}

/// Whether a file cannot be replaced for a reason that still allows overwriting its content.
fn is_refused(error: &io::Error) -> bool {
    let refused = [Errno::EACCES, Errno::EPERM, Errno::EBUSY, Errno::EROFS].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|errno| refused.contains(&errno))
}

fn append(path: &Path, found: &Metadata, content: &mut Content<'_, '_>) -> io::Result<()> {
    // Append, because the shell keeps writing to the same stdout.
    if fstat(io::stdout()).is_ok_and(|own| (own.st_dev, own.st_ino) == (found.dev(), found.ino())) {
        let mut stdout = io::stdout().lock();
        return content.write_to(&mut stdout).and_then(|()| stdout.flush());
    }
    content.write_to(&mut OpenOptions::new().append(true).open(path)?)
}

/// Writes a temporary file in the same directory and renames it.
fn replace(path: &Path, old: Option<&Metadata>, content: &mut Content<'_, '_>) -> io::Result<()> {
    // A private file's replacement is never readable by others, not even briefly. The umask applies to a new file.
    let mode = if old.is_some() { 0o600 } else { 0o666 };
    let (mut file, temporary) = create_beside(path, mode)?;
    content.write_to(&mut file)?;
    if let Some(old) = old {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // In a user namespace the owner may have no ID: EINVAL.
            fchown(&file, Some(old.uid()), Some(old.gid())).map_err(|_| io::Error::from(Errno::EPERM))?;
        }
        // Set the mode last: changing the owner clears some of its bits.
        file.set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.sync_all()?;
    temporary.persist(path)?;
    // Ignore a directory that is unreadable or on a file system without sync: the file is written.
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Creates a temporary file in the directory of another; it is removed unless it replaces that one.
fn create_beside(path: &Path, mode: u32) -> io::Result<(File, TempPath)> {
    for number in 0..MOST_LEFT {
        let temporary = folder_of(path).join(format!(".highwater-{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            // Left behind by a killed process with the same PID.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            created => return Ok((created?, TempPath::try_from_path(temporary)?)),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

/// Overwrites a file in place. If the new content does not fit, keeps the old one, provided its length is known.
fn overwrite(path: &Path, content: &mut Content<'_, '_>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let old = file.metadata()?.len();
    if let Content::Bytes(bytes) = content {
        let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
        if let Err(errno @ (Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG)) = posix_fallocate(&file, 0, length) {
            file.set_len(old)?;
            return Err(errno.into());
        }
    }
    content.write_to(&mut file)?;
    let length = file.stream_position()?;
    file.set_len(length)?;
    file.sync_all()
}
