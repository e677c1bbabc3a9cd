//! What a run wrote: its size, and where it is kept.

use std::path::{Path, PathBuf};

use crate::calibrate::failure::{Category, Failed, Failure, NO_ROOM};
use crate::directory::Directory;
use crate::model::units::Bytes;
use crate::tree;

/// The size of all files in these directories; `None` if there are none, or one of them cannot be read.
pub(super) fn size_of_outputs(directories: &[PathBuf]) -> Option<Bytes> {
    let sizes = directories.iter().map(|directory| match tree::list(directory, &options()) {
        Ok(listing) => Some(listing.bytes()),
        Err(error) => {
            tracing::debug!("failed to read the size of an output: {error}");
            None
        }
    });
    let sizes: Vec<Bytes> = sizes.collect::<Option<_>>()?;
    (!sizes.is_empty()).then(|| sizes.into_iter().sum())
}

/// Each file once, and nothing that cannot be read.
fn options() -> tree::Options<'static> {
    tree::Options { strict: true, count_each_inode_once: true, ..tree::Options::default() }
}

/// Moves the outputs of a run to where they are kept, or copies them to another file system.
pub(super) fn keep_outputs(from: &Path, to: &Path) -> Result<(), Failure> {
    if std::fs::read_dir(from).is_ok_and(|mut entries| entries.next().is_none()) {
        return Ok(());
    }
    let kept = match std::fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            let copied = std::fs::create_dir(to).and_then(|()| Directory::open(to));
            copied.and_then(|to| Directory::open(from)?.copy_all(&to))
        }
        result => result,
    };
    kept.map_err(|source| not_kept(to, source))
}

pub(super) fn not_kept(to: &Path, source: std::io::Error) -> Failure {
    let help = (source.kind() == std::io::ErrorKind::StorageFull).then(|| NO_ROOM.to_owned());
    let doing = format!("keep the outputs of a run in {}", to.display());
    Failure::new(Category::Host, Failed::to(doing, source), help)
}
