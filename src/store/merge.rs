//! Records of one plan from several places, joined without doubling anything.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::folder::{Folder, FolderError, PLAN, RUNS, read_plan};
use super::read::{ReadError, Records, Unusable, read_with};
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
    #[error("the plan of {other} is not that of {first}")]
    OtherPlan {
        /// Whose plan counts.
        first: PathBuf,
        /// Whose plan differs.
        other: PathBuf,
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
    let mut taken: HashSet<PathBuf> = kept.lines.iter().filter_map(|line| left_in(&line.observation)).collect();
    for source in sources {
        for line in source.lines {
            if line.identity().is_none_or(|identity| known.insert(identity)) {
                merged.added += 1;
                kept.lines.push(moved(line, &source.folder, into, &mut taken)?);
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
                    lines.push((text, observation));
                }
                None => unusable.push(text),
            }
        })?;
        match other {
            Some((line, Some(cell))) => return Err(MergeError::OtherTask { path, line, cell }),
            Some((line, None)) => return Err(MergeError::NoSweep { path, line }),
            None => {}
        }
        let lines = lines.into_iter().map(|(text, observation)| {
            let digest = digest(&observation)?;
            Ok(Line { observation, text, digest })
        });
        let lines = lines.collect::<Result<Vec<_>, serde_json::Error>>()?;
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
    match plans.into_iter().find(|(_, plan)| !same(plan, &text)) {
        Some((other, _)) => Err(MergeError::OtherPlan { first, other }),
        None => Ok(text),
    }
}

/// Whether two plans have the same cells, whatever else was asked for: the keys say what is run, on what, and how. Plans
/// that do not list them have to be the same as a whole.
fn same(one: &str, other: &str) -> bool {
    match (cell_order(one), cell_order(other)) {
        (Some(one), Some(other)) => one.len() == other.len() && one.keys().all(|key| other.contains_key(key)),
        (Some(_), None) | (None, Some(_)) => false,
        (None, None) => {
            let value = |text: &str| serde_json::from_str::<Value>(text).ok();
            value(one) == value(other)
        }
    }
}

/// The place of each cell in the plan; nothing where the plan does not list them.
fn cell_order(plan: &str) -> Option<HashMap<String, usize>> {
    let plan: Value = serde_json::from_str(plan).ok()?;
    let keys = plan.get("cells")?.as_array()?.iter().map(|cell| cell.get("key")?.as_str().map(str::to_owned));
    let keys: Option<Vec<String>> = keys.collect();
    Some(keys?.into_iter().zip(0..).collect())
}

/// The folder below `runs` in which a run has left something.
fn left_in(observation: &Observation) -> Option<PathBuf> {
    let logs = observation.logs.as_ref().map(|logs| &logs.stdout);
    let file = observation.series.file.as_ref().or(logs)?;
    file.parent().filter(|folder| folder.parent() == Some(Path::new(RUNS))).map(Path::to_owned)
}

/// Copies what a run has left into the folder; where its place is taken, to another one.
fn moved(mut line: Line, from: &Path, into: &Path, taken: &mut HashSet<PathBuf>) -> Result<Line, MergeError> {
    let Some(old) = left_in(&line.observation) else { return Ok(line) };
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
    copy(&from.join(&old), &into.join(&new))?;
    Ok(line)
}

fn copy(from: &Path, to: &Path) -> Result<(), MergeError> {
    let failed = |source| MergeError::Copy { path: from.to_owned(), source };
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        // Somebody has cleaned up: the line is what counts.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    fs::create_dir_all(to).map_err(failed)?;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            let path = entry.path();
            fs::copy(&path, to.join(entry.file_name())).map_err(|source| MergeError::Copy { path, source })?;
        }
    }
    Ok(())
}
