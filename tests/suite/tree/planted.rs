//! Trees on a disk, created for a test.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::mkfifo;
use tempfile::TempDir;

/// One entry of a tree.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: char,
    pub(super) path: PathBuf,
    pub(super) value: OsString,
}

impl Entry {
    /// Creates the entry below `root`, with its parent directories.
    pub(super) fn plant(&self, root: &Path) {
        let path = root.join(&self.path);
        fs::create_dir_all(if self.kind == 'd' { &path } else { path.parent().unwrap() }).unwrap();
        match self.kind {
            'd' => {}
            'f' => File::create(&path).unwrap().set_len(self.value.to_str().unwrap().parse().unwrap()).unwrap(),
            'l' => symlink(&self.value, &path).unwrap(),
            'h' => fs::hard_link(root.join(&self.value), &path).unwrap(),
            'p' => mkfifo(&path, Mode::S_IRUSR).unwrap(),
            's' => mknod(&path, SFlag::S_IFSOCK, Mode::S_IRUSR, 0).unwrap(),
            other => panic!("no such kind of entry: {other}"),
        }
    }
}

/// A temporary directory with these files of these sizes.
pub(super) fn with_files(files: &[(&str, u64)]) -> TempDir {
    let channel = tempfile::tempdir().unwrap();
    for (path, size) in files {
        file(channel.path(), path, *size);
    }
    channel
}

pub(super) fn file(root: &Path, path: impl AsRef<Path>, size: u64) {
    Entry { kind: 'f', path: path.as_ref().to_owned(), value: size.to_string().into() }.plant(root);
}

pub(super) fn link(root: &Path, path: impl AsRef<Path>, target: impl AsRef<Path>) {
    Entry { kind: 'l', path: path.as_ref().to_owned(), value: target.as_ref().into() }.plant(root);
}

/// The lines of a table without its comments, split at the tabs.
pub(super) fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

/// The bytes of a name in a table, with the escapes `\n`, `\t`, `\\` and `\xNN`.
pub(super) fn unescaped(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                (u8::from_str_radix(&digits, 16).unwrap(), after)
            }
            other => other,
        };
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes)
}
