//! Merges the records of the cells into those of the sweep, and reports them.

use std::path::PathBuf;
use std::time::Duration;

use super::super::super::jobs::SLURM;
use super::super::CELLS;
use super::Watch;
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::sweep::{Admission, Left, Retry};
use crate::model::observation::Observation;
use crate::store::{self, index};

impl Watch<'_> {
    /// Merges the records of the cells that have new ones, and reports these; whether there are any.
    pub(super) fn merge(&mut self, report: bool) -> Result<bool, Failure> {
        let mut changed = Vec::new();
        for array in &self.jobs.arrays {
            for key in &array.cells {
                let path = self.places.paths.cell(key);
                let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                if length > 0 && self.merged.get(key).map_or(0, |(merged, _)| *merged) != length {
                    changed.push((key.clone(), path, length));
                }
            }
        }
        changed.sort();
        changed.dedup();
        if changed.is_empty() && !self.recorded.is_empty() {
            return Ok(false);
        }
        if !changed.is_empty() {
            let plan = self.sweep.planned.json()?;
            let paths: Vec<PathBuf> = changed.iter().map(|(_, path, _)| path.clone()).collect();
            // An incomplete line is being written just now, and will be merged then.
            store::merge(&paths, Some(&plan), &self.places.paths.sweep).map_err(unmerged)?;
        }
        self.recorded = index(&self.places.paths.sweep).map_err(Failure::from)?.recorded;
        self.runs.clear();
        for (place, run) in self.recorded.iter().enumerate() {
            if let Some(cell) = self.cells.get(&*run.cell) {
                self.runs.entry(*cell).or_default().push(place);
            }
        }
        let mut new = Vec::new();
        for (key, path, length) in changed {
            let mut observations = store::read(&path).map_err(Failure::from)?.observations;
            let records = observations.len();
            let known = self.merged.insert(key.clone(), (length, records)).map_or(0, |(_, records)| records);
            if let (true, Some(cell)) = (report, self.cells.get(&key)) {
                new.extend(observations.drain(known.min(records)..).map(|observation| (*cell, observation)));
            }
        }
        self.report(new)?;
        Ok(true)
    }

    /// Reports new records of cells.
    pub(super) fn report(&mut self, mut new: Vec<(usize, Observation)>) -> Result<(), Failure> {
        new.sort_by_key(|(_, observation)| observation.started_at);
        let schedule = self.schedule(Retry::Interrupted);
        let forecast = self.sweep.batch_forecast(&self.recorded);
        let admission = Admission::new(forecast, None, || None, None);
        // Those that follow count as runs in progress.
        let running = new.iter().rev().map(|(cell, _)| (*cell, Duration::ZERO)).collect();
        let mut left = Left { schedule: &schedule, admission: &admission, running, jobs: usize::MAX };
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
