//! Takes records of single files into the directory of a sweep that is open for writing, while they are being written.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::folder::Folder;
use super::merge::{Left, MergeError, copy, digest, left_in, other_name, rename_left};
use super::read::Source;
use crate::model::observation::Observation;

impl Folder {
    /// The runs in single files of records that are not recorded here yet, ready for [`append_all`](Self::append_all): the
    /// files of their output are copied here. Unusable lines are skipped: the last one may be incomplete because it is
    /// being written.
    ///
    /// `is_recorded` tells whether a run is recorded here; `None` if its cell is not in the plan.
    ///
    /// # Errors
    /// Something cannot be read or written, or records belong to something else.
    pub fn adopt(
        &self,
        files: &[PathBuf],
        is_recorded: impl Fn(&Observation) -> Option<bool>,
    ) -> Result<Vec<Observation>, MergeError> {
        let (mut adopted, mut known) = (Vec::new(), HashSet::new());
        for path in files {
            let mut failed = None;
            Source::open(path)?.each_line::<Observation>(|line, observation| {
                let Ok(observation) = observation else { return };
                let identity =
                    |run: &Observation| run.sweep.as_ref().map(|sweep| (sweep.cell.clone(), sweep.run, run.started_at));
                let adoption = match is_recorded(&observation) {
                    Some(false) if known.insert(identity(&observation)) => {
                        self.copy_output(observation, path, line.number).map(|observation| adopted.push(observation))
                    }
                    Some(_) => Ok(()),
                    None => Err(foreign(observation, path, line.number)),
                };
                failed = failed.take().or(adoption.err());
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        Ok(adopted)
    }

    /// Copies the output of a run, and names it in its record.
    fn copy_output(&self, mut observation: Observation, path: &Path, line: usize) -> Result<Observation, MergeError> {
        let left = left_in(&Left::from(&observation));
        let left = left.map_err(|file| MergeError::Outside { path: path.to_owned(), line, file })?;
        if let Some(old) = left {
            let mut new = old.clone();
            if self.directory().beneath(&old).is_ok() {
                // It belongs to another run, or to this one if highwater was killed before it was recorded.
                new = other_name(&old, digest(observation.clone())?);
                rename_left(&mut observation, &old, &new);
            }
            let from = path.parent().unwrap_or(Path::new(""));
            let copied = copy(from, &old, self.directory(), &new);
            copied.map_err(|source| MergeError::Copy { path: from.join(&old), source })?;
        }
        Ok(observation)
    }
}

fn foreign(observation: Observation, path: &Path, line: usize) -> MergeError {
    let path = path.to_owned();
    match observation.sweep {
        Some(sweep) => MergeError::OtherTask { path, line, cell: sweep.cell },
        None => MergeError::NoSweep { path, line },
    }
}
