//! A fast index of many records for resuming: it decodes only what that needs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bounded::read_line;
use super::read::{ReadError, Unusable, Version, place};
use crate::model::byte_order_mark;
use crate::model::observation::{Observation, Outcome, SCHEMA_VERSION};
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

/// A recorded run of a sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The key of its cell.
    pub cell: Arc<str>,
    /// The number of the run in its cell, counted from 1.
    pub run: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Its peak memory usage.
    pub peak: Reading<Bytes>,
    /// Whether a limit kept the peak from reaching the need.
    pub censored: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// Its wall time.
    pub wall_us: u64,
    /// Whether a search after it found the smallest limit under which the cell succeeds.
    pub has_floor: bool,
}

/// The runs of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    /// The runs of a sweep, in the order of their lines.
    pub recorded: Vec<Recorded>,
    /// The unusable lines.
    pub unusable: Vec<Unusable>,
    /// The cells by key, numbered in order of appearance.
    cells: HashMap<Arc<str>, u32>,
    /// How often each run of each cell is recorded.
    tries: HashMap<(u32, u32), u32>,
}

impl Index {
    /// How often a run of a cell is recorded.
    pub fn tries(&self, cell: &str, run: u32) -> u32 {
        let tries = self.cells.get(cell).and_then(|cell| self.tries.get(&(*cell, run)));
        tries.copied().unwrap_or_default()
    }

    pub(super) fn push(&mut self, observation: &Observation) {
        if let Some(sweep) = &observation.sweep {
            self.add(Recorded {
                cell: sweep.cell.as_str().into(),
                run: sweep.run,
                outcome: observation.outcome,
                peak: observation.peak.as_ref().map(|peak| peak.bytes),
                censored: observation.censored,
                started_at: observation.started_at,
                wall_us: observation.wall_us,
                has_floor: observation.floor.is_some(),
            });
        }
    }

    fn add(&mut self, recorded: Recorded) {
        // All runs of a cell share its key.
        let known = self.cells.get_key_value(&recorded.cell).map(|(key, cell)| (key.clone(), *cell));
        let (key, cell) = known.unwrap_or_else(|| {
            let cell = self.cells.len() as u32;
            self.cells.insert(recorded.cell.clone(), cell);
            (recorded.cell.clone(), cell)
        });
        *self.tries.entry((cell, recorded.run)).or_default() += 1;
        self.recorded.push(Recorded { cell: key, ..recorded });
    }
}

/// The part of a line that is decoded.
#[derive(Deserialize)]
struct Line<'a> {
    schema_version: u64,
    #[serde(borrow)]
    sweep: Option<Sweep<'a>>,
    outcome: Outcome,
    peak: Reading<Peak>,
    censored: bool,
    started_at: Timestamp,
    wall_us: u64,
    floor: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Sweep<'a> {
    #[serde(borrow)]
    cell: Cow<'a, str>,
    run: u32,
}

#[derive(Deserialize)]
struct Peak {
    bytes: Bytes,
}

/// Whether a line is a record: it is parsed to its end, but not decoded completely.
pub(super) fn is_whole(line: &[u8]) -> bool {
    serde_json::from_slice::<Line>(byte_order_mark::strip_bytes(line)).is_ok()
}

/// Reads the index of a record, or of the one in a directory, with one thread per CPU.
///
/// # Errors
/// The file does not exist, cannot be read, or was written by a newer version.
pub fn index(path: &Path) -> Result<Index, ReadError> {
    let path = place(path)?;
    let unreadable = |source| ReadError::Unreadable { path: path.clone(), source };
    let length = std::fs::metadata(&path).map_err(unreadable)?.len();
    // For a few lines, a thread costs more than it saves.
    let threads =
        thread::available_parallelism().map_or(1, NonZero::get).min(8).min(1 + (length >> 20) as usize) as u64;
    let border = |part: u64| length / threads * part;
    let parts: Vec<io::Result<Part>> = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|part| {
                let end = if part + 1 == threads { u64::MAX } else { border(part + 1) };
                let path = &path;
                scope.spawn(move || Part::read(path, border(part), end))
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let mut index = Index::default();
    let mut lines = 0;
    for part in parts {
        let part = part.map_err(unreadable)?;
        if let Some((line, found)) = part.newer {
            return Err(ReadError::Newer { path, line: lines + line, found });
        }
        part.recorded.into_iter().for_each(|recorded| index.add(recorded));
        let unusable = part.unusable.into_iter();
        index.unusable.extend(unusable.map(|unusable| Unusable { line: lines + unusable.line, ..unusable }));
        lines += part.lines;
    }
    Ok(index)
}

/// The index of the lines that begin in one part of the file.
#[derive(Default)]
struct Part {
    lines: usize,
    cells: HashSet<Arc<str>>,
    recorded: Vec<Recorded>,
    unusable: Vec<Unusable>,
    newer: Option<(usize, u64)>,
}

impl Part {
    fn read(path: &Path, start: u64, end: u64) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 18, File::open(path)?);
        let mut part = Self::default();
        let mut at = start;
        let mut text = Vec::new();
        if start > 0 {
            // A line that continues from the previous part belongs to that part.
            at = start - 1;
            reader.seek(SeekFrom::Start(at))?;
            at += reader.skip_until(b'\n')? as u64;
        }
        while at < end && part.newer.is_none() {
            text.clear();
            let length = read_line(&mut reader, &mut text)?;
            if length == 0 {
                break;
            }
            at += length as u64;
            part.lines += 1;
            part.line(&text);
        }
        Ok(part)
    }

    fn line(&mut self, text: &[u8]) {
        let text = byte_order_mark::strip_bytes(text);
        if text.trim_ascii().is_empty() {
            return;
        }
        let newest = u64::from(SCHEMA_VERSION);
        match serde_json::from_slice::<Line>(text) {
            Ok(line) if line.schema_version > newest => self.newer = Some((self.lines, line.schema_version)),
            Ok(Line { sweep: Some(sweep), outcome, peak, censored, started_at, wall_us, floor, .. }) => {
                let known = self.cells.get(sweep.cell.as_ref()).cloned();
                let cell = known.unwrap_or_else(|| {
                    let cell: Arc<str> = sweep.cell.into();
                    self.cells.insert(cell.clone());
                    cell
                });
                self.recorded.push(Recorded {
                    cell,
                    run: sweep.run,
                    outcome,
                    peak: peak.map(|peak| peak.bytes),
                    censored,
                    started_at,
                    wall_us,
                    has_floor: floor.is_some(),
                });
            }
            Ok(Line { sweep: None, .. }) => {}
            Err(error) => match serde_json::from_slice(text) {
                Ok(Version { schema_version: found }) if found > newest => self.newer = Some((self.lines, found)),
                Ok(Version { .. }) | Err(_) => self.unusable.push(Unusable::new(self.lines, text, &error)),
            },
        }
    }
}
