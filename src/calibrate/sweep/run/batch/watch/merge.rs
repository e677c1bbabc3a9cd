//! Merges the records of the cells into those of the sweep, and reports them.

use std::rc::Rc;
use std::time::Duration;

use super::super::super::jobs::SLURM;
use super::super::CELLS;
use super::{Watch, scheduled};
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::sweep::planned::past;
use crate::calibrate::sweep::{Left, Retry};
use crate::model::observation::Observation;
use crate::store;

/// The number of record files whose new records are in memory at a time.
const AT_A_TIME: usize = 1_000;

impl Watch<'_> {
    /// Merges the new records of these cells, and reports them; whether there are any.
    pub(super) fn merge(&mut self, cells: &[usize], report: bool) -> Result<bool, Failure> {
        let mut changed = Vec::new();
        for cell in cells.iter().copied() {
            let path = self.places.paths.cell(&self.sweep.planned.cells[cell].planned.key);
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if length > 0 && std::mem::replace(&mut self.read[cell], length) != length {
                changed.push(path);
            }
        }
        let mut has_new = false;
        for files in changed.chunks(AT_A_TIME) {
            let is_recorded = |run: &Observation| {
                let sweep = run.sweep.as_ref()?;
                let cell = *self.cells.get(sweep.cell.as_str())?;
                Some(self.runs_of(cell).any(|known| known.run == sweep.run && known.started_at == run.started_at))
            };
            let new = self.folder.adopt(files, is_recorded).map_err(unmerged)?;
            if new.is_empty() {
                continue;
            }
            has_new = true;
            self.folder.append_all(&new).map_err(Failure::from)?;
            self.schedule = Rc::new(scheduled(self.sweep, Retry::Interrupted, &self.folder));
            self.learn();
            if report {
                self.report(new)?;
            }
        }
        Ok(has_new)
    }

    /// Takes note of newly recorded runs.
    pub(super) fn learn(&mut self) {
        let recorded = self.folder.recorded();
        for (place, run) in recorded.iter().enumerate().skip(self.known) {
            let Some(cell) = self.cells.get(&*run.cell) else { continue };
            self.runs[*cell].push(place);
            if let Some(past) = past(run) {
                self.admission.learn(*cell, past);
            }
        }
        self.known = recorded.len();
    }

    /// Reports new records of cells.
    fn report(&mut self, mut new: Vec<Observation>) -> Result<(), Failure> {
        new.sort_by_key(|observation| observation.started_at);
        let place =
            |run: &Observation| run.sweep.as_ref().and_then(|sweep| self.cells.get(sweep.cell.as_str())).copied();
        let new: Vec<(usize, Observation)> =
            new.into_iter().filter_map(|observation| Some((place(&observation)?, observation))).collect();
        // Those that follow count as runs in progress.
        let running = new.iter().rev().map(|(cell, _)| (*cell, Duration::ZERO)).collect();
        let mut left = Left { schedule: &self.schedule, admission: &self.admission, running, jobs: usize::MAX };
        for (cell, observation) in &new {
            left.running.pop();
            let Some(run) = observation.sweep.as_ref().map(|sweep| sweep.run) else { continue };
            self.new.insert((*cell, run));
            self.observer.recorded(&self.sweep.planned.cells[*cell].planned, run, observation, &left)?;
        }
        Ok(())
    }
}

fn unmerged(error: store::MergeError) -> Failure {
    match error {
        store::MergeError::Folder(error) => error.into(),
        store::MergeError::Read(error) => error.into(),
        error => {
            let help = format!("the records of the cells are complete in {SLURM}/{CELLS}; see `highwater merge`");
            Failure::new(Category::Host, error, Some(help))
        }
    }
}
