//! Reads records: returns every usable line, and what is wrong with the others.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::bounded::{self, MAX_LINE_BYTES};
use crate::directory::{Directory, Refusal};
use crate::model::byte_order_mark;
use crate::model::observation::{Observation, SCHEMA_VERSION, Series};

/// The file with the observations in a directory of records.
pub const OBSERVATIONS: &str = "observations.jsonl";
/// The subdirectory for the output of runs.
pub const RUNS: &str = "runs";

/// Records could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file does not exist or cannot be read.
    #[error("failed to read the records {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The directory does not contain records.
    #[error("the directory {0} has no {OBSERVATIONS}")]
    NoRecords(PathBuf),
    /// No line of the file is a record.
    #[error("{path} has no records: line {line} is not a record ({reason})")]
    NotRecords {
        /// The file.
        path: PathBuf,
        /// The first line that is not empty, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
        /// Whether it looks like the header of a table.
        is_table: bool,
    },
    /// A line exceeds the size limit for a record.
    #[error("{path}:{line}: the line is larger than {} MiB, the limit for a record", MAX_LINE_BYTES >> 20)]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A newer highwater wrote them.
    #[error("{path}:{line}: the record has schema version {found}, this highwater supports up to {SCHEMA_VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The version found.
        found: u64,
    },
}

/// The content of a file of records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    /// The file that was read.
    pub path: PathBuf,
    /// The observations in order.
    pub observations: Vec<Observation>,
    /// The unusable lines.
    pub unusable: Vec<Unusable>,
}

impl Records {
    /// Resolves the path of a file that a record names, such as its output, against the directory of the record.
    pub fn beside(&self, file: &Path) -> PathBuf {
        beside(&self.path, file)
    }

    /// All samples kept of a run: those beside the record if there are more, else those in it.
    ///
    /// # Errors
    /// The file beside the record cannot be read or is not a series.
    pub fn series(&self, series: &Series) -> Result<Series, ReadError> {
        let Some(file) = &series.file else { return Ok(series.clone()) };
        let path = self.beside(file);
        let parse =
            |text: Vec<u8>| serde_json::from_slice(byte_order_mark::strip_bytes(&text)).map_err(io::Error::from);
        match open_beside(&self.path, file).and_then(bounded::read_all).and_then(parse) {
            Ok(whole) => Ok(whole),
            // Removed by the user, or not copied along with the record.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(series.clone()),
            Err(source) => Err(ReadError::Unreadable { path, source }),
        }
    }
}

/// A line that is not an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it is the last one and has no end, because its writer was killed.
    pub torn: bool,
    /// Whether it ends too early: `torn`, or what is left of such a line after which another writer went on.
    pub cut: bool,
}

impl Unusable {
    pub(super) fn new(line: usize, text: &[u8], error: &serde_json::Error) -> Self {
        let torn = !text.ends_with(b"\n");
        // Without the line break, which would be an error of its own inside a string.
        let cut =
            torn || serde_json::from_slice::<IgnoredAny>(text.trim_ascii_end()).is_err_and(|error| error.is_eof());
        Self { line, reason: error.to_string(), torn, cut }
    }

    /// That the line of this file was skipped, and why.
    pub fn describe(&self, path: &Path) -> String {
        let what = if self.cut { "incomplete, because its writer was killed" } else { self.reason.as_str() };
        format!("{}:{}: skipped: {what}", path.display(), self.line)
    }
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) schema_version: u64,
}

/// A file of records, open for reading. It is read up to the end it had when it was opened, so that every pass over it
/// sees the same records, even while a sweep appends to them.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: File,
    /// What was already read of a pipe, to be read again first.
    start: Vec<u8>,
    /// The length in bytes; `u64::MAX` for a pipe and for standard input, which is read as one.
    end: u64,
    /// Whether it is the copy of a pipe.
    spooled: bool,
}

/// A non-empty line of a file of records.
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    /// Its offset in bytes.
    pub(super) offset: u64,
    pub(super) text: &'a [u8],
}

/// Whether a line looks like the names of the columns of a table.
fn is_header(line: &[u8]) -> bool {
    line.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'"')
        && line.iter().any(|byte| matches!(byte, b',' | b'\t'))
}

impl Source {
    /// Opens a file of records, or the one in a directory of records.
    ///
    /// # Errors
    /// It does not exist or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let path = place(path)?;
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) => {
                let end = if metadata.is_file() { metadata.len() } else { u64::MAX };
                Ok(Self { path, file, start: Vec::new(), end, spooled: false })
            }
            Err(source) => Err(ReadError::Unreadable { path, source }),
        }
    }

    /// Opens standard input, to be read from where it is.
    ///
    /// # Errors
    /// It cannot be duplicated, because too many files are open.
    pub fn stdin() -> Result<Self, ReadError> {
        let path = PathBuf::from("standard input");
        match io::stdin().as_fd().try_clone_to_owned() {
            Ok(file) => Ok(Self { path, file: file.into(), start: Vec::new(), end: u64::MAX, spooled: false }),
            Err(source) => Err(ReadError::Unreadable { path, source }),
        }
    }

    /// Whether the file begins as records do, with an object in JSON. A later pass over it reads its start again, even
    /// of a pipe.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn begins_as_records(&mut self) -> io::Result<bool> {
        let mut start = Vec::new();
        self.reader()?.take(4096).read_to_end(&mut start)?;
        let is_object = byte_order_mark::strip_bytes(&start).trim_ascii_start().starts_with(b"{");
        if self.is_pipe() {
            self.start = start;
        }
        Ok(is_object)
    }

    /// Reads the whole file, to be parsed as something else than records.
    ///
    /// # Errors
    /// See [`bounded::read_all`].
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        bounded::read_all(self.reader()?)
    }

    /// Reads from the start, or what is left of a pipe.
    fn reader(&self) -> io::Result<impl Read> {
        if !self.is_pipe() {
            (&self.file).rewind()?;
        }
        Ok(self.start.chain((&self.file).take(self.end)))
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves the path of a file that a record names, as [`Records::beside`] does.
    pub fn beside(&self, file: &Path) -> PathBuf {
        beside(&self.path, file)
    }

    /// Opens a file that a record names, such as its output. Because another user may have written the record, only a
    /// file below `runs` or in the directory of the record's logs, beside the record, is opened, or one below its
    /// directory that has the name of a log, and no symbolic link is followed.
    ///
    /// # Errors
    /// The file does not exist; [`Refusal`] if it is elsewhere.
    pub fn open_beside(&self, file: &Path) -> io::Result<File> {
        open_beside(&self.path, file)
    }

    /// Opens a file of output that a record names in this directory, which the user trusts, or else beside the record.
    ///
    /// # Errors
    /// See [`Self::open_beside`].
    pub fn open_log(&self, file: &Path, directory: Option<&Path>) -> io::Result<File> {
        match (directory, file.file_name()) {
            (Some(directory), Some(name)) => Directory::open(directory)?.read(Path::new(name)),
            (_, _) => self.open_beside(file),
        }
    }

    /// Makes the source readable more than once: a pipe is copied into a temporary file.
    ///
    /// # Errors
    /// The pipe cannot be read or the file cannot be written.
    pub fn rereadable(self) -> Result<Self, ReadError> {
        if !self.is_pipe() {
            return Ok(self);
        }
        let unreadable = |source| ReadError::Unreadable { path: self.path.clone(), source };
        let mut copy = BufWriter::new(tempfile::tempfile().map_err(unreadable)?);
        let mut lines = 0;
        self.lines(|line| {
            // Keep empty lines, so that line numbers stay the same.
            let blank = line.number - lines - 1;
            lines = line.number;
            let written = (0..blank).try_for_each(|_| copy.write_all(b"\n")).and_then(|()| copy.write_all(line.text));
            written.map(|()| true).map_err(unreadable)
        })?;
        let file = copy.into_inner().map_err(|error| unreadable(error.into_error()))?;
        let end = file.metadata().map_err(unreadable)?.len();
        Ok(Self { file, start: Vec::new(), end, spooled: true, ..self })
    }

    /// The file to read from, and whether it is the copy of a pipe.
    pub(super) fn into_file(self) -> (File, bool) {
        (self.file, self.spooled)
    }

    fn is_pipe(&self) -> bool {
        self.end == u64::MAX
    }

    /// Passes each record to `take` in order, without keeping any. Returns the unusable lines.
    ///
    /// # Errors
    /// The file cannot be read, has lines but no records, or a newer version wrote a record.
    pub fn each(&self, mut take: impl FnMut(Observation)) -> Result<Vec<Unusable>, ReadError> {
        self.try_each(|observation| {
            take(observation);
            Ok(())
        })
    }

    /// Like [`Source::each`], until `take` fails.
    ///
    /// # Errors
    /// The error of `take`; or those of [`Source::each`].
    pub fn try_each<E: From<ReadError>>(
        &self,
        mut take: impl FnMut(Observation) -> Result<(), E>,
    ) -> Result<Vec<Unusable>, E> {
        let (mut unusable, mut has_records, mut is_table) = (Vec::<Unusable>::new(), false, false);
        let mut failed = None;
        self.records(|line, observation| {
            match observation {
                Ok(observation) => {
                    has_records = true;
                    failed = take(observation).err();
                }
                Err(error) => {
                    is_table |= unusable.is_empty() && is_header(line.text);
                    unusable.push(Unusable::new(line.number, line.text, &error));
                }
            }
            failed.is_none()
        })?;
        match unusable.first() {
            // Another kind of file. A file whose first record was interrupted is not.
            Some(Unusable { line, reason, torn: false, .. }) if !has_records => {
                Err(ReadError::NotRecords { path: self.path.clone(), line: *line, reason: reason.clone(), is_table }
                    .into())
            }
            Some(_) | None => failed.map_or(Ok(unusable), Err),
        }
    }

    /// Passes on every non-empty line with its value: `T` has the fields that are needed.
    pub(super) fn each_line<T: DeserializeOwned>(
        &self,
        mut take: impl FnMut(&Line<'_>, Result<T, serde_json::Error>),
    ) -> Result<(), ReadError> {
        self.records(|line, record| {
            take(line, record);
            true
        })
    }

    /// Like [`Source::each_line`], until `take` returns `false`.
    fn records<T: DeserializeOwned>(
        &self,
        mut take: impl FnMut(&Line<'_>, Result<T, serde_json::Error>) -> bool,
    ) -> Result<(), ReadError> {
        self.lines(|line| {
            if let Some(found) = version(line.text)
                && found > u64::from(SCHEMA_VERSION)
            {
                return Err(ReadError::Newer { path: self.path.clone(), line: line.number, found });
            }
            Ok(take(line, serde_json::from_slice(line.text)))
        })
    }

    /// Passes on every non-empty line, until `take` returns `false`.
    fn lines(&self, mut take: impl FnMut(&Line<'_>) -> Result<bool, ReadError>) -> Result<(), ReadError> {
        let unreadable = |source| ReadError::Unreadable { path: self.path.clone(), source };
        let mut reader = BufReader::with_capacity(1 << 16, self.reader().map_err(unreadable)?);
        let mut text = Vec::new();
        let mut offset = 0;
        for number in 1.. {
            text.clear();
            let length = match bounded::read_line(&mut reader, &mut text) {
                Ok(0) => break,
                Ok(length) => length as u64,
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(ReadError::LongLine { path: self.path.clone(), line: number });
                }
                Err(source) => return Err(unreadable(source)),
            };
            offset += length;
            // A file that was concatenated from others may have several byte order marks.
            let text = byte_order_mark::strip_bytes(&text);
            let line = Line { number, offset: offset - text.len() as u64, text };
            if !text.trim_ascii().is_empty() && !take(&line)? {
                break;
            }
        }
        Ok(())
    }
}

/// The version of a record; `None` if the line is not a record.
fn version(text: &[u8]) -> Option<u64> {
    // Lines that highwater wrote begin with the version, so the rest need not be parsed.
    if text.starts_with(FIRST_FIELD) && text.get(FIRST_FIELD.len() + 1) == Some(&b',') {
        let digit = text.get(FIRST_FIELD.len()).filter(|digit| digit.is_ascii_digit());
        return digit.map(|digit| u64::from(digit - b'0'));
    }
    serde_json::from_slice(text).ok().map(|Version { schema_version }| schema_version)
}

const FIRST_FIELD: &[u8] = br#"{"schema_version":"#;

/// Whether highwater gives a file with the output of a run such a name.
pub fn is_log(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().as_bytes();
    ["stdout.log", "stderr.log"].iter().any(|end| name.ends_with(end.as_bytes()))
}

fn open_beside(record: &Path, file: &Path) -> io::Result<File> {
    let parent = record.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base = std::path::absolute(parent)?;
    let directory = Directory::open(&base)?;
    let logs = PathBuf::from(record.with_extension("logs").file_name().unwrap_or_default());
    let relative = file.strip_prefix(&base).unwrap_or(file);
    let found = if relative.starts_with(RUNS) || relative.starts_with(&logs) || relative.is_relative() && is_log(file) {
        directory.read(relative)
    } else {
        Err(Refusal::Outside { path: file.to_owned(), directory: base }.into())
    };
    match (found, file.file_name()) {
        // The record was moved together with its logs.
        (Err(error), Some(name)) => directory.read(&logs.join(name)).map_err(|_| error),
        (found, _) => found,
    }
}

fn beside(record: &Path, file: &Path) -> PathBuf {
    record.parent().map_or_else(|| file.to_owned(), |folder| folder.join(file))
}

/// Reads a file of records, or the one in a directory of records, into memory; use [`Source::each`] for large files.
/// Unusable lines are skipped.
///
/// # Errors
/// The file does not exist, cannot be read, or was written by a newer version.
pub fn read(path: &Path) -> Result<Records, ReadError> {
    let source = Source::open(path)?;
    let mut observations = Vec::new();
    let unusable = source.each(|observation| observations.push(observation))?;
    Ok(Records { path: source.path, observations, unusable })
}

/// The file of records at a path: the path itself, or the file in the directory.
pub(super) fn place(path: &Path) -> Result<PathBuf, ReadError> {
    let found = fs::metadata(path).map_err(|source| ReadError::Unreadable { path: path.to_owned(), source })?;
    if !found.is_dir() {
        return Ok(path.to_owned());
    }
    let inside = path.join(OBSERVATIONS);
    if inside.exists() { Ok(inside) } else { Err(ReadError::NoRecords(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    fn record() -> &'static str {
        include_str!("../../fixtures/records/older-keys/observations.jsonl").lines().next().unwrap()
    }

    #[test]
    fn lines_that_are_no_observations_are_told_and_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OBSERVATIONS), format!("{{}}\n{}\n{{\"schema_version\":1,\"to", record()))
            .unwrap();
        let records = read(folder.path()).unwrap();
        let lines: Vec<_> = records.unusable.iter().map(|unusable| (unusable.line, unusable.torn)).collect();
        assert_eq!((records.observations.len(), lines), (1, vec![(1, false), (3, true)]));
    }

    #[test]
    fn a_line_that_was_cut_is_told_as_such_also_if_another_writer_went_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OBSERVATIONS);
        fs::write(&path, format!("{0}\n{{\"to\n{0}\n", record())).unwrap();
        let [cut] = &read(&path).unwrap().unusable[..] else { panic!("one line is cut") };
        assert!(cut.describe(&path).ends_with(":2: skipped: incomplete, because its writer was killed"));
    }

    #[test]
    fn a_file_without_any_record_is_refused_unless_its_first_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OBSERVATIONS);
        fs::write(&path, "\n{}\n[]\n").unwrap();
        assert!(matches!(read(&path), Err(ReadError::NotRecords { line: 2, is_table: false, .. })));
        fs::write(&path, "input_bytes,peak_bytes\n1,2\n").unwrap();
        assert!(matches!(read(&path), Err(ReadError::NotRecords { line: 1, is_table: true, .. })));
        fs::write(&path, "{\"schema_version\":1,\"to").unwrap();
        assert_eq!(read(&path).unwrap().unusable.len(), 1);
    }

    #[test]
    fn a_newer_record_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(OBSERVATIONS), "\n{\"schema_version\":3}\n").unwrap();
        assert!(matches!(read(folder.path()), Err(ReadError::Newer { line: 2, found: 3, .. })));
        assert!(matches!(read(&folder.path().join("..")), Err(ReadError::NoRecords(_))));
    }

    #[test]
    fn every_pass_sees_the_same_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OBSERVATIONS);
        fs::write(&path, format!("{}\n\n{{}}\n", record())).unwrap();
        let source = Source::open(&path).unwrap();
        let lines = |source: &Source| source.each(|_| {}).unwrap().iter().map(|line| line.line).collect::<Vec<_>>();
        assert_eq!(lines(&source), [3]);
        fs::write(&path, format!("{}\n\n{{}}\n{{}}\n", record())).unwrap();
        assert_eq!(lines(&source), [3]);
    }

    #[test]
    fn lines_of_a_pipe_keep_their_numbers() {
        let (reader, mut writer) = io::pipe().unwrap();
        let text = format!("\n{}\n{{}}\n\n{{}}\n", record());
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        let pipe = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
        let mut source = Source::open(&pipe).unwrap();
        assert!(source.begins_as_records().unwrap());
        let source = source.rereadable().unwrap();
        for _ in 0..2 {
            let lines: Vec<_> = source.each(|_| {}).unwrap().iter().map(|line| line.line).collect();
            assert_eq!(lines, [3, 5]);
        }
    }
}
