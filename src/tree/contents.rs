//! Digests of a few blocks of each file of a channel: a cheap way to detect different contents.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};

use super::error::TreeError;
use crate::model::units::Bytes;

/// The digest of the first, the middle and the last block of a file.
pub type ContentDigest = [u8; 16];

/// Volumes from the same scanner have the same header and begin and end with air; they differ in the middle.
const BLOCK: u64 = 4096;

/// The fewest files per thread.
const WORTH_A_THREAD: usize = 64;

/// Reads a few blocks of each file below the root. Files that only the task may read have no digest.
pub(super) fn read(
    root: &Path,
    files: &BTreeMap<PathBuf, Bytes>,
) -> Result<BTreeMap<PathBuf, ContentDigest>, TreeError> {
    let paths: Vec<&PathBuf> = files.keys().collect();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    let share = paths.len().div_ceil(threads).max(WORTH_A_THREAD);
    let read_share = |paths: &[&PathBuf]| {
        let mut digests = Vec::with_capacity(paths.len());
        for path in paths {
            let path = root.join(path);
            digests.push(digest(&path).map_err(|source| TreeError::UnreadableFile { path, source })?);
        }
        Ok(digests)
    };
    let shares: Vec<Result<Vec<Option<ContentDigest>>, TreeError>> = thread::scope(|scope| {
        let shares: Vec<_> = paths.chunks(share).map(|paths| scope.spawn(|| read_share(paths))).collect();
        shares.into_iter().map(|share| share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let digests = shares.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten();
    Ok(paths.into_iter().cloned().zip(digests).filter_map(|(path, digest)| Some((path, digest?))).collect())
}

fn digest(path: &Path) -> io::Result<Option<ContentDigest>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(error),
    };
    // Read-ahead would put pages into the page cache before the task reads them, so that they are not charged to the
    // task.
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    if size <= 3 * BLOCK {
        read_block(&file, 0, size, &mut hash)?;
    } else {
        for start in [0, (size - BLOCK) / 2, size - BLOCK] {
            read_block(&file, start, BLOCK, &mut hash)?;
        }
    }
    Ok(hash.finalize().first_chunk().copied())
}

/// Reads less if the file has been truncated.
fn read_block(file: &File, mut start: u64, length: u64, hash: &mut Sha256) -> io::Result<()> {
    let mut block = [0; BLOCK as usize];
    let end = start + length;
    while start < end {
        let wanted = usize::try_from(end - start).unwrap_or(block.len()).min(block.len());
        match file.read_at(&mut block[..wanted], start) {
            Ok(0) => break,
            Ok(count) => {
                hash.update(&block[..count]);
                start += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_beginning_middle_and_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ct.raw");
        let written = |changes: &[usize]| {
            let mut content = vec![0; 1 << 20];
            changes.iter().for_each(|at| content[*at] = 1);
            std::fs::write(&path, content).unwrap();
            digest(&path).unwrap().unwrap()
        };
        let plain = written(&[]);
        assert_eq!(written(&[]), plain);
        for at in [0, 4095, 1 << 19, (1 << 20) - 1] {
            assert_ne!(written(&[at]), plain, "{at}");
        }
    }

    #[test]
    fn small_files_are_read_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let files: BTreeMap<PathBuf, Bytes> = (0..200_u64).map(|n| (n.to_string().into(), Bytes(n * 60))).collect();
        for (path, size) in &files {
            std::fs::write(directory.path().join(path), vec![7; usize::try_from(size.0).unwrap()]).unwrap();
        }
        let before = read(directory.path(), &files).unwrap();
        assert_eq!(before.len(), 200);
        let mut content = vec![7; 199 * 60];
        content[5000] = 8;
        std::fs::write(directory.path().join("199"), content).unwrap();
        let after = read(directory.path(), &files).unwrap();
        let changed: Vec<_> = after.iter().filter(|(path, digest)| before[*path] != **digest).collect();
        assert_eq!(changed.iter().map(|(path, _)| path.to_str().unwrap()).collect::<Vec<_>>(), ["199"]);
    }
}
