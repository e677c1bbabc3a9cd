//! The mounts of this process, and every path at which they show the same files.
//!
//! See `proc_pid_mountinfo(5)`. The procfs crate neither unescapes paths nor accepts those that are not UTF-8.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    id: u64,
    /// Major and minor number of the file system's device, as the kernel prints them.
    device: String,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    /// The mount point.
    target: PathBuf,
    /// The options of this mount, such as `rw,nosuid,relatime`.
    options: String,
}

impl MountPoint {
    /// The mount point.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Whether this mount has an option such as `nosuid`.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|known| known == option)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let text = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
        let id = text(fields.next()?)?.parse().ok()?;
        let device = text(fields.nth(1)?)?;
        let root = unescape(fields.next()?);
        let target = unescape(fields.next()?);
        let options = text(fields.next()?)?;
        Some(Self { id, device, root, target, options })
    }

    /// The path at which this mount shows a path relative to the root of its file system.
    fn shows(&self, inside: &Path) -> Option<PathBuf> {
        let below = inside.strip_prefix(&self.root).ok()?;
        // Joining an empty path would add a slash.
        Some(if below.as_os_str().is_empty() { self.target.clone() } else { self.target.join(below) })
    }
}

/// The kernel escapes white space and backslashes as octal numbers.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// All mounts of this process, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<MountPoint>);

impl Mounts {
    /// Reads the mounts of this process.
    ///
    /// # Errors
    /// If `/proc` is not mounted, or the file cannot be read.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/self/mountinfo")?))
    }

    fn parse(text: &[u8]) -> Self {
        Self(text.split(|byte| *byte == b'\n').filter_map(MountPoint::parse).collect())
    }

    /// The mounts below this path, which must not contain symbolic links.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a MountPoint> {
        self.0.iter().filter(move |mount| mount.target != path && mount.target.starts_with(path))
    }

    /// The mount that this path is on.
    ///
    /// # Errors
    /// If the path does not exist, or its mount is not listed.
    pub fn containing(&self, path: &Path) -> io::Result<&MountPoint> {
        // The longest mount point above a path is not always its mount: another mount may hide it.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
        let mount = self.0.iter().find(|mount| Some(mount.id) == id);
        mount.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its mount is not in /proc/self/mountinfo"))
    }

    /// The other paths at which this file or directory, a part of it, or something mounted below it appears through bind
    /// mounts and other mounts of the same file system. The path must not contain symbolic links.
    ///
    /// # Errors
    /// As for [`Mounts::containing`].
    pub fn other_names(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let own = self.containing(path)?;
        let inside = own.root.join(path.strip_prefix(&own.target).unwrap_or(Path::new("")));
        let regions = self.below(path).map(|mount| (&mount.device, mount.root.clone(), mount.target.clone()));
        let mut names = Vec::new();
        for (device, inside, shown) in std::iter::once((&own.device, inside, path.to_owned())).chain(regions) {
            for mount in self.0.iter().filter(|mount| mount.device == *device) {
                let (name, original) = match mount.shows(&inside) {
                    Some(name) => (name, shown.clone()),
                    // Only a part of it is mounted there.
                    None => match mount.root.strip_prefix(&inside) {
                        Ok(part) => (mount.target.clone(), shown.join(part)),
                        Err(_) => continue,
                    },
                };
                if !name.starts_with(path) && !names.contains(&name) && is_same(&name, &original) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }
}

/// Whether both paths refer to the same file: another mount may hide one of them.
fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_white_space_and_backslashes_are_read() {
        let text = b"36 35 98:0 /mnt1 /mnt/with\\040space rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
                     37 35 98:0 / /mnt/back\\134slash ro,nosuid - ext3 /dev/root rw\n\
                     not a mount\n";
        let mounts = Mounts::parse(text);
        let targets: Vec<_> = mounts.0.iter().map(MountPoint::target).collect();
        assert_eq!(targets, [Path::new("/mnt/with space"), Path::new("/mnt/back\\slash")]);
        assert!(mounts.0[1].has("nosuid") && !mounts.0[0].has("nosuid"));
        assert_eq!(mounts.0[0].shows(Path::new("/mnt1/a")), Some(PathBuf::from("/mnt/with space/a")));
        assert_eq!(mounts.0[0].shows(Path::new("/mnt1")), Some(PathBuf::from("/mnt/with space")));
        assert_eq!(mounts.0[0].shows(Path::new("/mnt2")), None);
    }

    #[test]
    fn the_mount_of_a_path_is_found() {
        let mounts = Mounts::read().unwrap();
        assert_eq!(mounts.containing(Path::new("/proc/self")).unwrap().target(), Path::new("/proc"));
        assert!(mounts.below(Path::new("/")).any(|mount| mount.target() == Path::new("/proc")));
        assert!(mounts.containing(Path::new("/highwater-test/none")).is_err());
    }
}
