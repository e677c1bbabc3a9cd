//! Repairs a record whose last line has no end.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::super::index;
use super::super::read::OBSERVATIONS;
use super::FolderError;
use crate::directory::Directory;

/// An incomplete last line that was removed, left by a killed writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// Its size in bytes.
    pub bytes: u64,
}

/// The block size when searching backwards for the end of a line.
const STEP: u64 = 64 * 1024;

/// Removes an incomplete last line. If it is a complete record without a line end, adds that, so that no data is lost.
pub(super) fn mend(folder: &Directory) -> Result<Option<Torn>, FolderError> {
    let mended = folder.open_or_create(OBSERVATIONS, false).and_then(|mut file| mend_file(&mut file));
    mended.map_err(|source| FolderError::Mend { path: folder.path().join(OBSERVATIONS), source })
}

fn mend_file(file: &mut File) -> io::Result<Option<Torn>> {
    let length = file.seek(SeekFrom::End(0))?;
    let start = last_line(file, length)?;
    if start == length {
        return Ok(None);
    }
    let mut line = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.read_to_end(&mut line)?;
    let torn = if index::is_whole(&line) {
        file.write_all(b"\n")?;
        None
    } else {
        file.set_len(start)?;
        Some(Torn { bytes: length - start })
    };
    file.sync_all()?;
    Ok(torn)
}

/// The start of the line that has no end; the end of the file if every line has one.
fn last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(found) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + found as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(text: &[u8]) -> (Vec<u8>, Option<Torn>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("observations.jsonl");
        std::fs::write(&path, text).unwrap();
        let torn = mend(&Directory::open(folder.path()).unwrap()).unwrap();
        (std::fs::read(&path).unwrap(), torn)
    }

    #[test]
    fn only_a_torn_last_line_goes() {
        assert_eq!(mended(b""), (b"".to_vec(), None));
        assert_eq!(mended(b"{}\nno json\n"), (b"{}\nno json\n".to_vec(), None));
        assert_eq!(mended(b"{}\n{\"schema"), (b"{}\n".to_vec(), Some(Torn { bytes: 8 })));
        assert_eq!(mended(b"{\"schema"), (b"".to_vec(), Some(Torn { bytes: 8 })));
    }

    #[test]
    fn a_long_torn_line_goes_too() {
        let mut text = b"{}\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 3 * STEP as usize));
        assert_eq!(mended(&text), (b"{}\n".to_vec(), Some(Torn { bytes: 3 * STEP })));
    }
}
