//! Small kernel files: read whole, kept open, parsed with locations in errors.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::HostError;
use crate::model::reading::Reading;

/// `memory.stat` is the largest of these files: about 1.5 KiB on Linux 6.12. Clearing a larger buffer would take longer
/// than the kernel takes to answer.
const USUAL: usize = 4 * 1024;

/// No known file is longer.
const LONGEST: usize = 64 * 1024;

/// A kernel file that is opened at most once and read repeatedly.
#[derive(Debug)]
pub(super) struct KernelFile {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Unopened,
    Open(File),
    Absent,
    None,
}

impl KernelFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, state: State::Unopened }
    }

    /// A file that does not exist in this cgroup version.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), state: State::None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Passes the text to `parse`. An absent file is `Unsupported`, a file whose cgroup or process has disappeared
    /// `Gone`.
    pub(super) fn read<T>(
        &mut self,
        parse: impl FnOnce(&Path, &str) -> Result<T, HostError>,
    ) -> Result<Reading<T>, HostError> {
        if matches!(self.state, State::Unopened) {
            self.state = match File::open(&self.path) {
                Ok(file) => State::Open(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => State::Absent,
                Err(source) => return classify(&self.path, source),
            };
        }
        let file = match &self.state {
            State::Open(file) => file,
            State::None => return Ok(Reading::Unsupported),
            State::Absent | State::Unopened => return Ok(absent(&self.path)),
        };
        let mut usual = [0; USUAL];
        let mut longer = Vec::new();
        let mut text: &[u8] = match read_whole(file, &mut usual) {
            Ok(length) => &usual[..length],
            Err(source) => return classify(&self.path, source),
        };
        if text.len() == USUAL {
            longer.resize(LONGEST, 0);
            text = match read_whole(file, &mut longer) {
                Ok(length) => &longer[..length],
                Err(source) => return classify(&self.path, source),
            };
        }
        if text.len() == LONGEST {
            // A truncated number would be parsed as a different one.
            let source = io::Error::new(io::ErrorKind::InvalidData, "the file is unexpectedly large");
            return Err(HostError::Read { path: self.path.clone(), source });
        }
        let text = str::from_utf8(text).map_err(|_| HostError::Parse {
            path: self.path.clone(),
            line: 1,
            found: String::from_utf8_lossy(text).into_owned(),
            expected: "UTF-8 text",
        })?;
        parse(&self.path, text).map(Reading::Value)
    }
}

/// The kernel generates such a file at once, so that one call gets all of it that fits into the buffer.
fn read_whole(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A missing file in an existing directory is unsupported; without the directory its cgroup is gone.
fn absent<T>(path: &Path) -> Reading<T> {
    match path.parent() {
        Some(directory) if !directory.exists() => Reading::Gone,
        _ => Reading::Unsupported,
    }
}

/// The one place that maps errors to readings: after `rmdir` an open file of a cgroup gives `ENODEV`, a file of a dead
/// process `ESRCH`, and a controller that is not enabled here `EOPNOTSUPP`.
fn classify<T>(path: &Path, source: io::Error) -> Result<Reading<T>, HostError> {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENODEV | Errno::ESRCH) => Ok(Reading::Gone),
        Some(Errno::EOPNOTSUPP) => Ok(Reading::Unsupported),
        Some(Errno::ENOENT) => Ok(absent(path)),
        _ => Err(HostError::Read { path: path.to_owned(), source }),
    }
}

/// Parses a file with one number.
pub(super) fn number(path: &Path, text: &str) -> Result<u64, HostError> {
    text.trim_end().parse().map_err(|_| HostError::Parse {
        path: path.to_owned(),
        line: 1,
        found: text.trim_end().to_owned(),
        expected: "an integer",
    })
}

/// Parses a file with one number or the word `max`.
pub(super) fn number_or_max(path: &Path, text: &str) -> Result<Option<u64>, HostError> {
    if text.trim_end() == "max" { Ok(None) } else { number(path, text).map(Some) }
}

/// The values of the given keys in a file of `key number` lines; `None` for an absent key.
pub(super) fn keyed<const N: usize>(path: &Path, text: &str, keys: [&str; N]) -> Result<[Option<u64>; N], HostError> {
    let mut values = [None; N];
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        if let Some(place) = keys.iter().position(|wanted| *wanted == key) {
            values[place] = Some(value.trim().parse().map_err(|_| HostError::Parse {
                path: path.to_owned(),
                line: index + 1,
                found: line.to_owned(),
                expected: "a key and an integer",
            })?);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parse_error_names_file_and_line() {
        let error = keyed(Path::new("/x/memory.stat"), "anon 1\nfile many\n", ["file"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to parse /x/memory.stat:2: found `file many`, expected a key and an integer"
        );
    }

    #[test]
    fn an_absent_file_is_unsupported_and_an_absent_folder_gone() {
        let directory = tempfile::tempdir().unwrap();
        let mut absent = KernelFile::new(directory.path().join("memory.peak"));
        assert_eq!(absent.read(number).unwrap(), Reading::Unsupported);
        let mut gone = KernelFile::new(directory.path().join("removed/memory.peak"));
        assert_eq!(gone.read(number).unwrap(), Reading::Gone);
    }

    #[test]
    fn an_empty_file_is_an_error_and_never_zero() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.peak");
        std::fs::write(&path, "").unwrap();
        assert!(KernelFile::new(path).read(number).is_err());
    }
}
