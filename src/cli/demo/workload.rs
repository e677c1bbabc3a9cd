//! `highwater workload`: the task of the demonstration, whose memory need is known so that results can be verified.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use highwater::model::units::Bytes;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;

/// Bytes kept in memory per byte of input.
pub(crate) const BYTES_PER_BYTE: u64 = 3;
/// The minimum kept in memory.
pub(crate) const FLOOR: Bytes = Bytes::mib(24);

/// The memory kept for an input of this size: the formula that the demonstration is verified against.
pub(crate) fn need(input: Bytes) -> Bytes {
    FLOOR.max(Bytes(input.0.saturating_mul(BYTES_PER_BYTE)))
}

/// Read a file, or all files below a directory, and keep memory in proportion to their size.
#[derive(Debug, Args)]
pub(crate) struct WorkloadArgs {
    /// File or directory to read.
    input: PathBuf,
}

pub(crate) fn run(args: &WorkloadArgs) -> Result<Exit, Failure> {
    let size = read(&args.input).map_err(|error| Failure::new(Exit::Usage, &error, None))?;
    let Ok(length) = usize::try_from(need(size).0) else { return Ok(Exit::Host) };
    // Non-zero bytes, because the kernel would not allocate zeroed pages.
    black_box(vec![1_u8; length]);
    Ok(Exit::Done)
}

/// Reads all files through one small buffer.
fn read(path: &Path) -> io::Result<Bytes> {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                left.push(entry?.path());
            }
            continue;
        }
        let mut file = File::open(path)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => total += length as u64,
            }
        }
    }
    Ok(Bytes(total))
}
