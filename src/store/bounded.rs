//! Bounded reading of files written by others, so that a device or a wrong file cannot exhaust memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The longest line, such as a record, in bytes.
pub const MAX_LINE_BYTES: u64 = 64 << 20;
/// The largest file that is read as a whole, such as a table or a plan, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Reads a text file.
///
/// # Errors
/// It cannot be read, is not UTF-8, or has more than [`MAX_FILE_BYTES`].
pub fn read_text(path: &Path) -> io::Result<String> {
    read_all_text(File::open(path)?)
}

/// Reads an open text file.
///
/// # Errors
/// See [`read_text`].
pub fn read_all_text(reader: impl Read) -> io::Result<String> {
    String::from_utf8(read_all(reader)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

/// Reads a file.
///
/// # Errors
/// It cannot be read, or has more than [`MAX_FILE_BYTES`], or more than [`MAX_LINE_BYTES`] in a line.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?)
}

/// Reads to the end.
///
/// # Errors
/// It cannot be read, or has more than [`MAX_FILE_BYTES`], or more than [`MAX_LINE_BYTES`] in a line.
pub fn read_all(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while read_line(&mut reader, &mut bytes)? > 0 {
        within(bytes.len(), MAX_FILE_BYTES, "the file")?;
    }
    Ok(bytes)
}

/// Appends the next line with its end, and returns how many bytes it has; 0 at the end of the file.
///
/// # Errors
/// It cannot be read, or has more than [`MAX_LINE_BYTES`].
pub(super) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let length = reader.take(MAX_LINE_BYTES + 1).read_until(b'\n', line)?;
    within(length, MAX_LINE_BYTES, "a line")?;
    Ok(length)
}

fn within(length: usize, most: u64, what: &str) -> io::Result<()> {
    if length as u64 > most {
        let message = format!("{what} is larger than {} MiB", most >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_end_is_refused() {
        let mut line = Vec::new();
        let error = read_line(&mut BufReader::new(io::repeat(0)), &mut line).unwrap_err();
        assert_eq!(error.to_string(), "a line is larger than 64 MiB");
        assert!(line.len() as u64 <= MAX_LINE_BYTES + 1);
    }

    #[test]
    fn lines_keep_their_ends() {
        let (mut reader, mut line) = (&b"ab\nc"[..], Vec::new());
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), 3);
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), 1);
        assert_eq!(read_line(&mut reader, &mut line).unwrap(), 0);
        assert_eq!(line, b"ab\nc");
    }
}
