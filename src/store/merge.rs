//! Merges records of one plan from several sources without duplicates.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::folder::{Folder, FolderError, PLAN, read_plan};
use super::read::RUNS;
use super::read::{self, OBSERVATIONS, ReadError, Source, Unusable};
use crate::directory::Directory;
use crate::model::observation::{Logs, Observation};
use crate::model::plan::current_name;
use crate::model::timestamp::Timestamp;

/// Records cannot be merged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A directory cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// There is no plan.
    #[error("none of the directories has a {PLAN}")]
    NoPlan,
    /// Two plans differ.
    #[error("the plans of {first} and {other} differ in {difference}")]
    OtherPlan {
        /// The source of the reference plan.
        first: PathBuf,
        /// The source of the plan that differs.
        other: PathBuf,
        /// The first difference.
        difference: String,
    },
    /// A record names a file that is not in a directory below `runs`.
    #[error("{path}:{line}: the record names the file {file}, which is not in a directory of a run below `{RUNS}`")]
    Outside {
        /// The file of the record.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The file that the record names.
        file: PathBuf,
    },
    /// A record belongs to a cell that the plan does not have.
    #[error("{path}:{line}: the run belongs to the cell `{cell}`, which is not in the plan")]
    OtherTask {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key of the cell.
        cell: String,
    },
    /// A record does not belong to a sweep.
    #[error("{path}:{line}: the run does not belong to a sweep")]
    NoSweep {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The output of a run could not be copied.
    #[error("failed to copy {path}")]
    Copy {
        /// The path to be copied.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// An observation has no JSON form.
    #[error("failed to write an observation as JSON")]
    Encode(#[from] serde_json::Error),
}

/// The result of merging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The number of records added.
    pub added: usize,
    /// The number of duplicates.
    pub doubled: usize,
    /// The number of records now.
    pub total: usize,
    /// The unusable lines, with their files.
    pub unusable: Vec<(PathBuf, Unusable)>,
    /// The cells of the plan without a record: index and key, in the order of the plan.
    pub missing: Vec<(usize, String)>,
}

/// The most files to copy lines from that are open at a time.
const MOST_OPEN: usize = 64;

/// A line to merge: its location, and what identifies and sorts it. It is small, because there may be millions.
#[derive(Clone, Copy)]
struct Line {
    /// The index of its file in [`Sources::all`].
    source: u32,
    /// Whether its run has files in a directory below `runs`.
    has_left: bool,
    /// Whether that directory is renamed.
    renamed: bool,
    /// The offset in its file, in bytes.
    offset: u64,
    length: usize,
    /// The index of its cell in [`Lines::cells`].
    cell: u32,
    run: u32,
    started_at: Timestamp,
    digest: Digest,
}

/// What identifies an observation wherever it is stored.
pub(super) type Digest = [u8; 16];

/// Merges the records of directories and single files into a directory, which is created if missing.
///
/// A record is a duplicate if its cell, its run and the digest of its observation are present. The result does not
/// depend on the order of the sources: lines are sorted by the cells of the plan, then by run, then by time. The plan
/// is that of `into`, else `plan`, else that of the first source that has one; all must have the same cells.
///
/// # Errors
/// Something cannot be read or written, plans differ, or records belong to something else. The records in `into` are
/// then unchanged.
pub fn merge(places: &[PathBuf], plan: Option<&str>, into: &Path) -> Result<Merged, MergeError> {
    let plan = common_plan(places, plan, into)?;
    let order = cell_order(&plan);
    let mut lines = Lines::default();
    let mut merged = Merged::default();
    for place in places {
        merged.unusable.extend(lines.read(place, order.as_ref())?.1);
    }
    let added = std::mem::take(&mut lines.all);
    let mut folder = Folder::open_or_create(into, &plan)?;
    folder.forget_recorded();
    let (unusable, _) = lines.read(into, order.as_ref())?;
    let mut known: HashSet<_> = lines.all.iter().map(Line::identity).collect();
    let mut taken = HashSet::new();
    for line in lines.all.iter().filter(|line| line.has_left) {
        taken.extend(lines.sources.left_in(line)?.map(|folder| fingerprint(folder.as_os_str().as_bytes())));
    }
    for line in added {
        if known.insert(line.identity()) {
            merged.added += 1;
            let renamed = line.has_left && lines.sources.copy_left(&line, folder.directory(), &mut taken)?;
            lines.all.push(Line { renamed, ..line });
        } else {
            merged.doubled += 1;
        }
    }
    drop((known, taken));
    merged.total = lines.all.len();
    merged.missing = lines.missing(order.as_ref());
    let ranks = lines.ranks(order.as_ref());
    // Of duplicates, lines of `into` come first.
    lines.all.sort_by_key(|line| (ranks[line.cell as usize], line.run, line.started_at, line.digest));
    let Lines { all, mut sources, .. } = lines;
    folder.replace_records(|out| {
        for line in &all {
            let text = if line.renamed { sources.renamed(line)? } else { sources.text(line)? };
            write_line(out, &text, into)?;
        }
        // Keep unusable lines: they are not highwater's to delete.
        unusable.iter().try_for_each(|text| write_line(out, text, into))
    })?;
    Ok(merged)
}

/// The lines of all sources.
#[derive(Default)]
struct Lines {
    all: Vec<Line>,
    sources: Sources,
    /// The keys of the cells, in order of appearance.
    cells: Vec<String>,
    by_key: HashMap<String, u32>,
}

/// The unusable lines and what is wrong with them.
type UnusableLines = (Vec<Vec<u8>>, Vec<(PathBuf, Unusable)>);

impl Lines {
    /// Adds the lines of a directory or a file.
    fn read(&mut self, place: &Path, order: Option<&HashMap<String, usize>>) -> Result<UnusableLines, MergeError> {
        // A directory may have records from before its plan changed; every line of a single file must belong to this
        // plan.
        let order = order.filter(|_| !place.join(PLAN).exists());
        let source = Source::open(place)?.rereadable()?;
        let number = self.sources.all.len() as u32;
        let (mut texts, mut unusable) = (Vec::new(), Vec::new());
        let mut failed = None;
        let path = source.path().to_owned();
        source.each_line::<Observation>(|line, observation| {
            let added = match observation {
                Ok(observation) => self.add(number, line, observation, order, &path),
                Err(error) => {
                    texts.push(line.text.trim_ascii().to_owned());
                    unusable.push((path.clone(), Unusable::new(line.number, line.text, &error)));
                    Ok(())
                }
            };
            failed = failed.take().or(added.err());
        })?;
        self.sources.add(source)?;
        failed.map_or(Ok((texts, unusable)), Err)
    }

    fn add(
        &mut self,
        source: u32,
        line: &read::Line<'_>,
        observation: Observation,
        order: Option<&HashMap<String, usize>>,
        path: &Path,
    ) -> Result<(), MergeError> {
        let Some(sweep) = &observation.sweep else {
            return Err(MergeError::NoSweep { path: path.to_owned(), line: line.number });
        };
        if order.is_some_and(|order| !order.contains_key(&sweep.cell)) {
            let (path, cell) = (path.to_owned(), sweep.cell.clone());
            return Err(MergeError::OtherTask { path, line: line.number, cell });
        }
        let cell = match self.by_key.get(&sweep.cell) {
            Some(cell) => *cell,
            None => {
                let cell = self.cells.len() as u32;
                self.cells.push(sweep.cell.clone());
                self.by_key.insert(sweep.cell.clone(), cell);
                cell
            }
        };
        let left = left_in(&Left::from(&observation));
        let left = left.map_err(|file| MergeError::Outside { path: path.to_owned(), line: line.number, file })?;
        let text = line.text.trim_ascii_start();
        self.all.push(Line {
            source,
            has_left: left.is_some(),
            renamed: false,
            offset: line.offset + (line.text.len() - text.len()) as u64,
            length: text.trim_ascii_end().len(),
            cell,
            run: sweep.run,
            started_at: observation.started_at,
            digest: digest(observation)?,
        });
        Ok(())
    }

    /// The cells without a line.
    fn missing(&self, order: Option<&HashMap<String, usize>>) -> Vec<(usize, String)> {
        let missing = order.into_iter().flatten().filter(|(key, _)| !self.by_key.contains_key(*key));
        let mut missing: Vec<(usize, String)> = missing.map(|(key, index)| (*index, key.clone())).collect();
        missing.sort_unstable();
        missing
    }

    /// The sort rank of each cell. Cells that the plan does not have come first, by key.
    fn ranks(&self, order: Option<&HashMap<String, usize>>) -> Vec<u32> {
        let key = |cell: &u32| {
            let name = &self.cells[*cell as usize];
            (order.and_then(|order| order.get(name).copied()), name)
        };
        let mut sorted: Vec<u32> = (0..self.cells.len() as u32).collect();
        sorted.sort_by(|a, b| key(a).cmp(&key(b)));
        let mut ranks = vec![0; sorted.len()];
        sorted.into_iter().zip(0..).for_each(|(cell, rank)| ranks[cell as usize] = rank);
        ranks
    }
}

impl Line {
    fn identity(&self) -> (u32, u32, Digest) {
        (self.cell, self.run, self.digest)
    }
}

/// The files with the lines, for reading these again.
#[derive(Default)]
struct Sources {
    all: Vec<SourceFile>,
    open: HashMap<u32, File>,
}

struct SourceFile {
    path: PathBuf,
    /// The identity of the file when its lines were found.
    inode: u64,
    /// The copy of a pipe.
    spooled: Option<File>,
}

impl Sources {
    fn add(&mut self, source: Source) -> Result<(), MergeError> {
        let path = source.path().to_owned();
        let (file, spooled) = source.into_file();
        let inode = file.metadata().map_err(|source| unreadable(&path, source))?.ino();
        self.all.push(SourceFile { path, inode, spooled: spooled.then_some(file) });
        Ok(())
    }

    /// The content of a line, without its end.
    fn text(&mut self, line: &Line) -> Result<Vec<u8>, MergeError> {
        let source = &self.all[line.source as usize];
        let mut text = vec![0; line.length];
        let file = source.spooled.as_ref().map_or_else(|| open(&mut self.open, line.source, source), Ok);
        let read = file.and_then(|file| file.read_exact_at(&mut text, line.offset));
        read.map_err(|error| unreadable(&source.path, error))?;
        Ok(text)
    }

    /// Reads a line again, decoding the fields of `T`.
    fn read<T: DeserializeOwned>(&mut self, line: &Line) -> Result<T, MergeError> {
        Ok(serde_json::from_slice(&self.text(line)?)?)
    }

    /// The directory with the output of a run.
    fn left_in(&mut self, line: &Line) -> Result<Option<PathBuf>, MergeError> {
        // A file elsewhere was refused when the line was first read.
        Ok(left_in(&self.read(line)?).unwrap_or_default())
    }

    /// Copies the output of a run, and returns whether its directory must be renamed because its name is taken.
    fn copy_left(&mut self, line: &Line, into: &Directory, taken: &mut HashSet<Digest>) -> Result<bool, MergeError> {
        let Some(old) = self.left_in(line)? else { return Ok(false) };
        let renamed = !taken.insert(fingerprint(old.as_os_str().as_bytes()));
        let new = if renamed { other_name(&old, line.digest) } else { old.clone() };
        if renamed {
            taken.insert(fingerprint(new.as_os_str().as_bytes()));
        }
        let from = self.all[line.source as usize].path.parent().unwrap_or(Path::new(""));
        copy(from, &old, into, &new).map_err(|source| MergeError::Copy { path: from.join(&old), source })?;
        Ok(renamed)
    }

    /// The content of a line whose run's directory is renamed.
    fn renamed(&mut self, line: &Line) -> Result<Vec<u8>, MergeError> {
        let mut observation: Observation = self.read(line)?;
        if let Ok(Some(old)) = left_in(&Left::from(&observation)) {
            let new = other_name(&old, line.digest);
            rename_left(&mut observation, &old, &new);
        }
        Ok(serde_json::to_vec(&observation)?)
    }
}

/// Opens a file unless it is already open.
fn open<'a>(open: &'a mut HashMap<u32, File>, number: u32, source: &SourceFile) -> io::Result<&'a File> {
    if open.len() >= MOST_OPEN && !open.contains_key(&number) {
        open.clear();
    }
    match open.entry(number) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(new) => {
            let file = File::open(&source.path)?;
            if file.metadata()?.ino() != source.inode {
                return Err(io::Error::other("it was replaced by another file during the merge"));
            }
            Ok(new.insert(file))
        }
    }
}

fn write_line(out: &mut dyn Write, text: &[u8], into: &Path) -> Result<(), MergeError> {
    let written = out.write_all(text).and_then(|()| out.write_all(b"\n"));
    written.map_err(|source| FolderError::Keep { path: into.join(OBSERVATIONS), source }.into())
}

fn unreadable(path: &Path, source: io::Error) -> MergeError {
    ReadError::Unreadable { path: path.to_owned(), source }.into()
}

/// The digest of an observation without its samples and the paths of its files.
pub(super) fn digest(mut observation: Observation) -> Result<Digest, serde_json::Error> {
    observation.series.samples.clear();
    observation.series.file = None;
    observation.logs = None;
    Ok(fingerprint(&serde_json::to_vec(&observation)?))
}

fn fingerprint(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).first_chunk().copied().unwrap_or_default()
}

fn common_plan(places: &[PathBuf], plan: Option<&str>, into: &Path) -> Result<String, MergeError> {
    let mut plans: Vec<(PathBuf, String)> = Vec::new();
    for place in std::iter::once(into).chain(places.iter().map(PathBuf::as_path)) {
        match read_plan(place) {
            Ok(plan) => plans.push((place.to_owned(), plan)),
            Err(FolderError::NoPlan(_)) => {}
            // A single file of records has no plan.
            Err(FolderError::ReadPlan { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error.into()),
        }
        if let (Some(plan), true) = (plan, plans.is_empty() || place == into) {
            plans.push((PathBuf::from("--plan"), plan.to_owned()));
        }
    }
    let Some((first, text)) = plans.first().cloned() else {
        for path in places {
            std::fs::metadata(path).map_err(|source| ReadError::Unreadable { path: path.clone(), source })?;
        }
        return Err(MergeError::NoPlan);
    };
    for (other, plan) in plans {
        if let Some(difference) = difference(&text, &plan) {
            return Err(MergeError::OtherPlan { first, other, difference });
        }
    }
    Ok(text)
}

/// The settings in which two plans may differ: they show in the cells, or determine how often and how long each cell
/// runs; or they are paths of the task, whose digest is compared, and of its data. The command and its hooks must be the same, because
/// resuming the sweep executes them.
const MAY_DIFFER: [&str; 23] = [
    "task",
    "processing-container",
    "conf",
    "data",
    "input",
    "items",
    "pick",
    "grow",
    "size",
    "param",
    "scan",
    "pair",
    "runs",
    "min-runs",
    "max-runs",
    "precision",
    "warmup",
    "order",
    "floor",
    "slowdown",
    "timeout",
    "kill-after",
    "sample-interval",
];

/// The first difference between two plans. The order of cells does not matter. Equal keys prove nothing, because they
/// can be forged.
fn difference(one: &str, other: &str) -> Option<String> {
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (mut one, mut other) = (value(one), value(other));
    for plan in [&mut one, &mut other] {
        if let Some(cells) = plan.get_mut("cells").and_then(Value::as_array_mut) {
            cells.sort_by_cached_key(|cell| cell.get("key").map(Value::to_string));
        }
        let Some(plan) = plan.as_object_mut() else { continue };
        if let Some(settings) = plan.remove("sweep").as_ref().and_then(Value::as_object) {
            let settings = settings.iter().filter(|(name, _)| !MAY_DIFFER.contains(&name.as_str()));
            plan.extend(settings.map(|(name, value)| (format!("--{}", current_name(name)), value.clone())));
        }
    }
    let part = |plan: &Value, name: &str| plan.get(name).cloned();
    let names = [&one, &other].into_iter().filter_map(Value::as_object).flat_map(|plan| plan.keys());
    let name = names.into_iter().find(|name| part(&one, name) != part(&other, name))?;
    let cells = |plan: &Value| plan.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (mine, theirs) = (cells(&one), cells(&other));
    let cell = mine.iter().find(|cell| !theirs.contains(cell)).or(theirs.iter().find(|cell| !mine.contains(cell)));
    Some(match cell.filter(|_| name == "cells").and_then(|cell| cell.get("key")?.as_str()) {
        Some(key) => format!("the cell `{key}`"),
        None => format!("`{name}`"),
    })
}

/// The index of each cell in the plan; `None` if the plan does not list them.
fn cell_order(plan: &str) -> Option<HashMap<String, usize>> {
    #[derive(Deserialize)]
    struct Plan {
        cells: Vec<Cell>,
    }
    #[derive(Deserialize)]
    struct Cell {
        key: String,
    }
    let Plan { cells } = serde_json::from_str(plan).ok()?;
    Some(cells.into_iter().map(|cell| cell.key).zip(0..).collect())
}

/// The files of a run as named in its record.
#[derive(Deserialize)]
pub(super) struct Left {
    series: LeftSeries,
    logs: Option<Logs>,
}

#[derive(Deserialize)]
struct LeftSeries {
    file: Option<PathBuf>,
}

impl From<&Observation> for Left {
    fn from(observation: &Observation) -> Self {
        Self { series: LeftSeries { file: observation.series.file.clone() }, logs: observation.logs.clone() }
    }
}

/// The directory below `runs` with a run's files; the error is a file outside of it.
pub(super) fn left_in(left: &Left) -> Result<Option<PathBuf>, PathBuf> {
    let logs = left.logs.as_ref().map(|logs| [&logs.stdout, &logs.stderr]);
    let mut found = None;
    for file in left.series.file.iter().chain(logs.into_iter().flatten()) {
        let mut components = file.components();
        if components.next() != Some(Component::Normal(RUNS.as_ref())) {
            continue;
        }
        match (components.next(), components.next(), components.next()) {
            (Some(Component::Normal(run)), Some(Component::Normal(_)), None) => {
                found.get_or_insert_with(|| Path::new(RUNS).join(run));
            }
            _ => return Err(file.clone()),
        }
    }
    Ok(found)
}

/// Renames the directory of a run in its record.
pub(super) fn rename_left(observation: &mut Observation, old: &Path, new: &Path) {
    let place = |file: PathBuf| file.strip_prefix(old).map(|name| new.join(name)).unwrap_or(file);
    observation.series.file = observation.series.file.take().map(place);
    observation.logs =
        observation.logs.take().map(|logs| Logs { stdout: place(logs.stdout), stderr: place(logs.stderr) });
}

/// A new name for a run's directory if its own is taken.
pub(super) fn other_name(old: &Path, digest: Digest) -> PathBuf {
    let mut name = old.file_name().unwrap_or_default().to_owned();
    let [a, b, c, d, ..] = digest;
    name.push(format!("-{a:02x}{b:02x}{c:02x}{d:02x}"));
    old.with_file_name(name)
}

pub(super) fn copy(from: &Path, old: &Path, into: &Directory, new: &Path) -> io::Result<()> {
    let from = if from.as_os_str().is_empty() { Path::new(".") } else { from };
    match Directory::open(from).and_then(|from| from.beneath(old)) {
        Ok(run) => run.copy_files(&into.create_directories(new)?),
        // The files were removed by the user; the line is what counts.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
