//! `--floor`: searches for the smallest limit under which each cell succeeds, after one of its runs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::Job;
use crate::calibrate::floor::{End, FloorError, Ran, SearchError, Success, Trial, find, limits_of, no_limits, not_run};
use crate::calibrate::monitor::{Cancel, Observer};
use crate::directory::Directory;
use crate::model::observation::{Floor, FloorNotFound, Observation, Warning};
use crate::model::units::Bytes;
use crate::store::{Record, Recorded, StoreError};

use super::executor::{CellRunOptions, StagedCase, SweepExecutor, lock};
use super::options::SweepOptions;
use crate::calibrate::failure::Failure;

/// The number of runs that must succeed under the limit that is found.
const CONFIRM: u32 = 3;

/// The file with the tries, beside the output of the run.
const TRIES: &str = "floor.jsonl";

/// The recorded runs that count as done: a cell without a floor repeats one of its runs to find it.
pub(super) fn made<'a>(options: &SweepOptions, recorded: &'a [Recorded]) -> Cow<'a, [Recorded]> {
    if options.floor.is_none() {
        return Cow::Borrowed(recorded);
    }
    let found = with_floor(recorded);
    let mut last: HashMap<&str, u32> = HashMap::new();
    for run in recorded {
        last.entry(&run.cell).and_modify(|last| *last = run.run.max(*last)).or_insert(run.run);
    }
    let counts = |run: &&Recorded| found.contains(&*run.cell) || last.get(&*run.cell) != Some(&run.run);
    Cow::Owned(recorded.iter().filter(counts).cloned().collect())
}

fn with_floor(recorded: &[Recorded]) -> HashSet<&str> {
    recorded.iter().filter(|run| run.has_floor).map(|run| &*run.cell).collect()
}

/// Whether each of the cells with these keys has a floor.
pub(super) fn known(keys: &[&str], recorded: &[Recorded]) -> Vec<bool> {
    let found = with_floor(recorded);
    keys.iter().map(|key| found.contains(key)).collect()
}

impl SweepExecutor<'_> {
    /// Searches for the floor of the cell if requested and not yet done; this run is the one without a limit.
    pub(super) fn look_for_floor(
        &self,
        job: Job,
        case: &StagedCase,
        run: &mut Observation,
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<(), Failure> {
        let Some(precision) = self.options.floor else { return Ok(()) };
        if std::mem::replace(&mut lock(&self.floors)[job.cell], true) {
            return Ok(());
        }
        let terms = limits_of(precision, CONFIRM, self.machine, !self.subject.is_process());
        let success = Success { slowdown: self.options.slowdown, oom_of_children: false };
        let beside = lock(self.folders).get(&job).cloned();
        let first = Some(run.clone());
        let mut tries = Tries { runs: self, job, case, first, cancel, observer, beside, record: None, floor: None };
        let found = find(&mut tries, terms, success);
        run.floor = tries.floor;
        let reason = match found {
            Ok(found) => match found.end {
                End::Settled => None,
                End::GaveUp => Some(FloorNotFound::Contradiction),
                End::Interrupted { .. } => Some(FloorNotFound::Interrupted),
                End::EngineLost => Some(FloorNotFound::EngineLost),
            },
            Err(SearchError::Trial(failure)) => {
                self.hold(failure);
                Some(FloorNotFound::Failed)
            }
            Err(SearchError::Floor(
                error @ (FloorError::NoPeak | FloorError::NotKept { .. } | FloorError::Escaped { .. }),
            )) => return Err(no_limits(error)),
            Err(SearchError::Floor(FloorError::TaskFailed(_))) => Some(FloorNotFound::TaskFails),
            Err(SearchError::Floor(FloorError::Interrupted(_))) => Some(FloorNotFound::Interrupted),
        };
        run.warnings.extend(reason.map(|reason| Warning::FloorNotFound { reason }));
        Ok(())
    }
}

/// Executes the runs of a search.
struct Tries<'a, 'b> {
    runs: &'a SweepExecutor<'b>,
    job: Job,
    case: &'a StagedCase,
    /// The existing run without a limit.
    first: Option<Observation>,
    cancel: &'a mut dyn Cancel,
    observer: &'a mut dyn Observer,
    /// The directory of the run.
    beside: Option<PathBuf>,
    record: Option<Record>,
    floor: Option<Floor>,
}

impl Trial for Tries<'_, '_> {
    type Error = Failure;

    fn run(&mut self, limit: Option<Bytes>, timeout: Option<Duration>) -> Result<Ran, Failure> {
        if let (None, Some(first)) = (limit, self.first.take()) {
            return Ok(Ran::Observed(Box::new(first)));
        }
        let timeout = [self.runs.options.timeout, timeout].into_iter().flatten().min();
        let under = CellRunOptions { limit, timeout, must_be_limited: true, ..CellRunOptions::default() };
        let scratch = self.runs.scratch()?;
        let output = self.runs.subject.make_output(scratch.path())?;
        let ran = self.runs.under(&under, self.job, (self.case, &output), self.cancel, self.observer)?;
        ran.map_or_else(|error| not_run(limit, error), |observation| Ok(Ran::Observed(Box::new(observation))))
    }

    fn keep(&mut self, observation: &Observation) -> Result<(), Failure> {
        if observation.sweep.is_some() {
            // The sweep itself records this one.
            return Ok(());
        }
        self.floor = observation.floor.clone();
        let Some(path) = &self.beside else { return Ok(()) };
        let record = match self.record.take() {
            Some(record) => Ok(record),
            None => Directory::open(path)
                .map_err(|source| StoreError::Open { path: path.join(TRIES), source })
                .and_then(|folder| Record::open_in(&folder, TRIES)),
        };
        let record = self.record.insert(record.map_err(Failure::from)?);
        record.append(observation).map(drop).map_err(Failure::from)
    }
}
