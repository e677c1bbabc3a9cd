//! Inputs of a given number of bytes, cut from files or generated.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::{StagingError, failed};
use crate::model::units::Bytes;

/// The file name of generated and cut inputs.
pub(super) const FILE: &str = "input.bin";

/// The size of each write.
const BLOCK: usize = 1 << 20;

/// Writes a file of `size` bytes, from the files or random.
pub(super) fn write_bytes(path: &Path, size: Bytes, from: &[PathBuf]) -> Result<(), StagingError> {
    let mut file = File::create_new(path).map_err(failed("make", path))?;
    let mut block = vec![0; BLOCK];
    let mut left = size.0;
    let mut random = Random::new(size.0);
    let mut sources = from.iter().cycle();
    let mut source: Option<File> = None;
    let mut barren = 0;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
        let part = &mut block[..most];
        let length = if from.is_empty() || barren > from.len() {
            random.fill(part);
            most
        } else {
            let read = match &mut source {
                Some(file) => file.read(part).map_err(failed("read the input for", path))?,
                None => 0,
            };
            if read == 0 {
                source = match sources.next() {
                    Some(next) => Some(File::open(next).map_err(failed("read", next))?),
                    None => None,
                };
                barren += 1;
                continue;
            }
            barren = 0;
            read
        };
        file.write_all(&block[..length]).map_err(failed("write", path))?;
        left -= length as u64;
    }
    file.sync_data().map_err(failed("write", path))
}

/// Incompressible bytes, the same for the same seed.
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        // The generator is stuck at zero.
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Marsaglia's xorshift (2003): random enough for data, and as fast as a disk.
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            part.copy_from_slice(&self.0.to_le_bytes()[..part.len()]);
        }
    }
}
