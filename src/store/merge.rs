//! Records of one plan from several places, joined without doubling anything.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::io;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::folder::{Folder, FolderError, PLAN, RUNS, read_plan};
use super::read::{ReadError, Records, Unusable, read_with};
use crate::directory::Directory;
use crate::model::observation::{Logs, Observation};

/// Why records cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Nobody said what was to be run.
    #[error("none of the folders has a {PLAN}")]
    NoPlan,
    /// Two plans are not the same.
    #[error("the plan of {other} is not that of {first}: they differ in {difference}")]
    OtherPlan {
        /// Whose plan counts.
        first: PathBuf,
        /// Whose plan differs.
        other: PathBuf,
        /// What differs first.
        difference: String,
    },
    /// A record names a file that is not in a directory below `runs`.
    #[error("{path}:{line}: the run names the file {file}, which is not in a directory of its own below `{RUNS}`")]
    Outside {
        /// The file of the record.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The file that it names.
        file: PathBuf,
    },
    /// A record is of a cell that the plan does not have.
    #[error("{path}:{line}: the run is of the cell `{cell}`, which the plan does not have")]
    OtherTask {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key of the cell.
        cell: String,
    },
    /// A record that belongs to no sweep.
    #[error("{path}:{line}: the run belongs to no sweep")]
    NoSweep {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// What a run left behind could not be copied.
    #[error("failed to copy {path}")]
    Copy {
        /// What was to be copied.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An observation has no JSON form.
    #[error("failed to write an observation as JSON")]
    Encode(#[from] serde_json::Error),
}

/// What came of merging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// How many records were added.
    pub added: usize,
    /// How many were there already, or in another of the places.
    pub doubled: usize,
    /// How many there are now.
    pub total: usize,
    /// The lines that could not be used, with their files.
    pub unusable: Vec<(PathBuf, Unusable)>,
}

/// A line on its way into the folder.
struct Line {
    observation: Observation,
    text: String,
    digest: String,
    /// The directory below `runs` in which the run has left something.
    left_in: Option<PathBuf>,
}

/// Joins the records of folders and of single files into a folder, which is made where it is not there.
///
/// A record is there already where its cell, its run and the digest of what was observed are. The result does not depend
/// on the order of the places: lines are sorted by the cells of the plan, then the runs, then the time. The plan is that
/// of `into`, else `plan`, else that of the first place that has one; all must have the same cells.
///
/// # Errors
/// Where something cannot be read or written, plans differ, or records are of something else. The records in `into` are
/// as before then.
pub fn merge(places: &[PathBuf], plan: Option<&str>, into: &Path) -> Result<Merged, MergeError> {
    let plan = common_plan(places, plan, into)?;
    let order = cell_order(&plan);
    let mut merged = Merged::default();
    let mut sources = Vec::new();
    for place in places {
        sources.push(Source::read(place, &order, &mut merged)?);
    }
    let mut folder = Folder::open_or_create(into, &plan)?;
    let mut kept = Source::read(into, &order, &mut Merged::default())?;
    let mut known: HashSet<(String, u32, String)> = kept.lines.iter().filter_map(Line::identity).collect();
    let mut taken: HashSet<PathBuf> = kept.lines.iter().filter_map(|line| line.left_in.clone()).collect();
    for source in sources {
        for line in source.lines {
            if line.identity().is_none_or(|identity| known.insert(identity)) {
                merged.added += 1;
                kept.lines.push(moved(line, &source.folder, folder.directory(), &mut taken)?);
            } else {
                merged.doubled += 1;
            }
        }
    }
    merged.total = kept.lines.len();
    let place = |line: &Line| {
        let sweep = line.observation.sweep.as_ref();
        let cell = sweep.map(|sweep| sweep.cell.clone()).unwrap_or_default();
        let place = order.as_ref().and_then(|order| order.get(&cell).copied());
        (place, cell, sweep.map(|sweep| sweep.run), line.observation.started_at, line.digest.clone())
    };
    kept.lines.sort_by_cached_key(place);
    let mut text: String = kept.lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect();
    // What cannot be used is not ours to throw away.
    kept.unusable.iter().for_each(|line| text.extend([line.as_str(), "\n"]));
    folder.replace_records(&text)?;
    Ok(merged)
}

/// Lines and where they are from.
struct Source {
    folder: PathBuf,
    lines: Vec<Line>,
    /// The texts of the lines that cannot be used.
    unusable: Vec<String>,
}

impl Source {
    fn read(place: &Path, order: &Option<HashMap<String, usize>>, merged: &mut Merged) -> Result<Self, MergeError> {
        // A folder may have records from before its plan was changed; a file by itself is of this plan or of another.
        let order = order.as_ref().filter(|_| !place.join(PLAN).exists());
        let mut lines = Vec::new();
        let mut unusable = Vec::new();
        let mut other = None;
        let Records { path, unusable: told, .. } = read_with(place, |number, text, observation| {
            let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
            match observation {
                Some(observation) => {
                    if let (None, Some(problem)) = (&other, foreign(&observation, order)) {
                        other = Some((number, problem));
                    }
                    lines.push((number, text, observation));
                }
                None => unusable.push(text),
            }
        })?;
        match other {
            Some((line, Some(cell))) => return Err(MergeError::OtherTask { path, line, cell }),
            Some((line, None)) => return Err(MergeError::NoSweep { path, line }),
            None => {}
        }
        let lines = lines.into_iter().map(|(line, text, observation)| {
            let digest = digest(&observation)?;
            let left_in =
                left_in(&observation).map_err(|file| MergeError::Outside { path: path.clone(), line, file })?;
            Ok(Line { observation, text, digest, left_in })
        });
        let lines = lines.collect::<Result<Vec<_>, MergeError>>()?;
        merged.unusable.extend(told.into_iter().map(|unusable| (path.clone(), unusable)));
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { folder, lines, unusable })
    }
}

/// The cell that the plan does not have, or that there is none.
fn foreign(observation: &Observation, order: Option<&HashMap<String, usize>>) -> Option<Option<String>> {
    let Some(sweep) = &observation.sweep else { return Some(None) };
    let known = order.is_none_or(|order| order.contains_key(&sweep.cell));
    (!known).then(|| Some(sweep.cell.clone()))
}

impl Line {
    fn identity(&self) -> Option<(String, u32, String)> {
        let sweep = self.observation.sweep.as_ref()?;
        Some((sweep.cell.clone(), sweep.run, self.digest.clone()))
    }
}

/// What makes an observation the same wherever it is kept: all of it but its samples and the places of its files.
fn digest(observation: &Observation) -> Result<String, serde_json::Error> {
    let mut plain = observation.clone();
    plain.series.samples.clear();
    plain.series.file = None;
    plain.logs = None;
    let digest = Sha256::digest(serde_json::to_vec(&plain)?);
    Ok(digest.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
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
    let (first, text) = plans.first().cloned().ok_or(MergeError::NoPlan)?;
    for (other, plan) in plans {
        if let Some(difference) = difference(&text, &plan) {
            return Err(MergeError::OtherPlan { first, other, difference });
        }
    }
    Ok(text)
}

/// What may differ in what two plans say was asked for: it shows in their cells, or says how often and for how long each
/// is run. What is run, and all that runs beside it, has to be the same: whoever resumes the sweep runs it.
const MAY_DIFFER: [&str; 19] = [
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

/// What two plans differ in. The order of their cells does not matter; a key alone says nothing, anybody can write it.
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
            plan.extend(settings.map(|(name, value)| (format!("--{name}"), value.clone())));
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

/// The place of each cell in the plan; nothing where the plan does not list them.
fn cell_order(plan: &str) -> Option<HashMap<String, usize>> {
    let plan: Value = serde_json::from_str(plan).ok()?;
    let keys = plan.get("cells")?.as_array()?.iter().map(|cell| cell.get("key")?.as_str().map(str::to_owned));
    let keys: Option<Vec<String>> = keys.collect();
    Some(keys?.into_iter().zip(0..).collect())
}

/// The directory below `runs` in which a run has left something; an error names the file that is not in one.
fn left_in(observation: &Observation) -> Result<Option<PathBuf>, PathBuf> {
    let logs = observation.logs.as_ref().map(|logs| [&logs.stdout, &logs.stderr]);
    let mut found = None;
    for file in observation.series.file.iter().chain(logs.into_iter().flatten()) {
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

/// Copies what a run has left into the folder; where its place is taken, to another one.
fn moved(mut line: Line, from: &Path, into: &Directory, taken: &mut HashSet<PathBuf>) -> Result<Line, MergeError> {
    let Some(old) = line.left_in.clone() else { return Ok(line) };
    let mut new = old.clone();
    if !taken.insert(new.clone()) {
        let mut name = old.file_name().unwrap_or_default().to_owned();
        name.push(format!("-{}", line.digest.get(..8).unwrap_or_default()));
        new.set_file_name(name);
        taken.insert(new.clone());
        let place = |file: PathBuf| file.strip_prefix(&old).map(|name| new.join(name)).unwrap_or(file);
        let observation = &mut line.observation;
        observation.series.file = observation.series.file.take().map(place);
        observation.logs =
            observation.logs.take().map(|logs| Logs { stdout: place(logs.stdout), stderr: place(logs.stderr) });
        line.text = serde_json::to_string(&line.observation)?;
    }
    copy(from, &old, into, &new).map_err(|source| MergeError::Copy { path: from.join(&old), source })?;
    Ok(line)
}

fn copy(from: &Path, old: &Path, into: &Directory, new: &Path) -> io::Result<()> {
    let from = if from.as_os_str().is_empty() { Path::new(".") } else { from };
    match Directory::open(from).and_then(|from| from.beneath(old)) {
        Ok(run) => run.copy_files(&into.create_directories(new)?),
        // Somebody has cleaned up: the line is what counts.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
