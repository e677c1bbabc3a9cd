//! Submits cells as job arrays, and finds those that were being submitted when highwater was killed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Instant;

use super::super::super::jobs::JobArray;
use super::{Watch, refused};
use crate::calibrate::failure::{Failed, Failure};
use crate::calibrate::monitor::Cancel;
use crate::calibrate::sweep::Retry;
use crate::model::observation::Observation;
use crate::model::problem::one_line;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::runner::slurm::{self, SlurmError};
use crate::store::{ReadError, Record, Source};

impl Watch<'_> {
    /// The arrays that were being submitted when highwater was killed: those that are in the queue get their ID, and the
    /// others are given up.
    pub(super) fn find_submitted(&mut self, cancel: &dyn Cancel) -> Result<(), Failure> {
        let mut kept = Vec::new();
        for mut array in std::mem::take(&mut self.jobs.arrays) {
            let was_unknown = array.job.is_none();
            let find = || slurm::named(&array.name, cancel).map(|mut jobs| jobs.pop()).map_err(refused);
            // Without keys, it was given up before.
            if array.job.is_none() && !array.cells.is_empty() {
                array.job = find()?;
            }
            if array.job.is_none() {
                // Without its keys, an array that is still on its way does nothing.
                let _ = self.places.arrays.remove(&array.name);
                // One that came in between may have started tasks, which know their keys.
                if !array.cells.is_empty() {
                    array.job = find()?;
                }
                if array.job.is_none() {
                    slurm::cancel_named(&array.name).map_err(refused)?;
                    continue;
                }
            }
            if was_unknown {
                // Also if an earlier highwater was killed when it had removed them.
                self.write_keys(&array.name, &array.cells)?;
            }
            kept.push(array);
        }
        self.jobs.arrays = kept;
        self.jobs.write(&self.places.slurm)
    }

    /// Submits the waiting cells, one array per size of memory. Later than at the first time, a refusal does not end the
    /// sweep while jobs are running: the cells are submitted again later, or given up if they were to get more memory.
    pub(super) fn submit(&mut self, is_first: bool) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        self.hand_over(waiting.keys().copied())?;
        let mut groups: BTreeMap<(Option<Bytes>, bool), Vec<usize>> = BTreeMap::new();
        for (cell, (_, memory)) in waiting {
            let lacked = memory.is_some();
            let memory = self.options.at_most(memory.or_else(|| self.options.memory(self.admission.forecast(), cell)));
            groups.entry((memory, lacked)).or_default().push(cell);
        }
        let variables = &self.sweep.options.spec.container.env;
        for ((memory, lacked), cells) in groups {
            let retry = match self.sweep.options.retry {
                Retry::Interrupted if lacked => Retry::OutOfMemory,
                retry => retry,
            };
            for cells in cells.chunks(self.most) {
                let Some(refusal) = self.submit_array((memory, lacked), cells, retry, variables)? else { continue };
                let may_go_on = lacked || !self.open_tasks().is_empty();
                if is_first || !may_go_on {
                    return Err(refused(refusal));
                }
                let count = words(cells.len());
                if lacked {
                    let memory = memory.map(|memory| format!(" with {memory}")).unwrap_or_default();
                    self.feedback.note(&format!(
                        "{count} not submitted again{memory}: {}; the same command tries it again",
                        one_line(&refusal)
                    ));
                } else {
                    self.feedback.note(&format!("{count} submitted again later: {}", one_line(&refusal)));
                    self.waiting.extend(cells.iter().map(|cell| (*cell, (Instant::now(), None))));
                }
            }
        }
        Ok(())
    }

    /// Submits an array; returns why Slurm refused it.
    fn submit_array(
        &mut self,
        (memory, lacked): (Option<Bytes>, bool),
        cells: &[usize],
        retry: Retry,
        variables: &[(String, String)],
    ) -> Result<Option<SlurmError>, Failure> {
        let now = Timestamp::now();
        let name = format!("highwater-{:x}-{}", now.as_microsecond(), std::process::id());
        let keys: Vec<String> = cells.iter().map(|cell| self.sweep.planned.cells[*cell].planned.key.clone()).collect();
        let recorded = cells.iter().map(|cell| self.runs[*cell].len()).collect();
        self.write_keys(&name, &keys)?;
        let closed = BTreeSet::new();
        let array = JobArray {
            name: name.clone(),
            job: None,
            memory,
            submitted_at: now,
            lacked,
            cells: keys,
            recorded,
            closed,
        };
        self.jobs.arrays.push(array);
        self.jobs.write(&self.places.slurm)?;
        let of_highwater = self.options.of_highwater(retry);
        let submission = self.places.paths.submission(&name, cells.len(), memory, &self.options, of_highwater);
        let submitted = submission.submit(variables);
        let job = match submitted {
            Ok(job) => job,
            Err(error) => {
                let is_rejected = match &error {
                    SlurmError::Start { .. } => true,
                    // sbatch also fails if only the answer was lost.
                    SlurmError::Failed { .. } => slurm::cancel_named(&name).is_ok(),
                    _ => false,
                };
                if !is_rejected {
                    // The array may exist: then it is found by its name the next time.
                    return Err(refused(error));
                }
                self.jobs.arrays.pop();
                self.jobs.write(&self.places.slurm)?;
                let _ = self.places.arrays.remove(&name);
                return Ok(Some(error));
            }
        };
        let count = words(cells.len());
        let memory = memory.map_or_else(String::new, |memory| format!(" with {memory} each"));
        self.feedback.detail(&format!("submitted job {job}: {count}{memory}"));
        if let Some(array) = self.jobs.arrays.last_mut() {
            array.job = Some(job);
        }
        self.jobs.write(&self.places.slurm).map(|()| None)
    }

    /// Writes the keys of an array's cells, which its tasks read.
    fn write_keys(&self, name: &str, keys: &[String]) -> Result<(), Failure> {
        let written = self.places.arrays.replace(name, (keys.join("\n") + "\n").as_bytes());
        written.map_err(|source| Failure::host(Failed::writing(&self.places.paths.keys(name), source)))
    }

    /// Gives the jobs of these cells what is recorded of them, such as by runs on this machine, so that they do not make
    /// it again.
    fn hand_over(&self, cells: impl Iterator<Item = usize>) -> Result<(), Failure> {
        let path = |cell: usize| self.places.paths.cell(&self.sweep.planned.cells[cell].planned.key);
        let identity = |run: &Observation| {
            let sweep = run.sweep.as_ref()?;
            Some((*self.cells.get(sweep.cell.as_str())?, sweep.run, run.started_at))
        };
        let mut missing = HashSet::new();
        for cell in cells.filter(|cell| !self.runs[*cell].is_empty()) {
            let mut known = HashSet::new();
            if path(cell).exists() {
                let read = Source::open(&path(cell)).and_then(|source| {
                    source.each(|run| {
                        known.insert(identity(&run));
                    })
                });
                match read {
                    // What a job left behind is not a record: the job is to have all of them.
                    Ok(_) | Err(ReadError::NotRecords { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let runs = self.runs_of(cell).map(|run| (cell, run.run, run.started_at));
            missing.extend(runs.filter(|run| !known.contains(&Some(*run))));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let source = Source::open(&self.places.paths.sweep).map_err(Failure::from)?;
        source.try_each(|mut run| {
            if let Some(identity) = identity(&run).filter(|identity| missing.remove(identity)) {
                // Its files are in the directory of the sweep.
                run.logs = None;
                run.series.file = None;
                Record::open(&path(identity.0)).and_then(|mut record| record.append(&run)).map_err(Failure::from)?;
            }
            Ok::<(), Failure>(())
        })?;
        Ok(())
    }

    pub(super) fn cancel_jobs(&mut self) -> Result<(), Failure> {
        let jobs: Vec<String> = self.arrays_with_open_tasks().filter_map(|array| array.job.clone()).collect();
        if jobs.is_empty() { Ok(()) } else { slurm::cancel(&jobs).map_err(refused) }
    }
}

/// A number of cells.
fn words(cells: usize) -> String {
    if cells == 1 { "1 cell".to_owned() } else { format!("{cells} cells") }
}
