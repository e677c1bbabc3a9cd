//! Submits the jobs of a sweep, and watches them until their records are there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::jobs::{JobArray, Jobs, SLURM};
use super::super::{Sweep, SweepOutcome};
use super::options::JobOptions;
use super::{CELLS, Places};
use crate::calibrate::failure::{Category, Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::monitor::Cancel;
use crate::calibrate::sweep::schedule::lacked_memory;
use crate::calibrate::sweep::{Admission, End, Left, Retry, Schedule, SweepObserver, floors};
use crate::model::observation::{Batch, Observation, Outcome, SweepRun, Warning};
use crate::model::signal::Signal;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::runner::slurm::{self, QueuedTask, SlurmError};
use crate::store::{self, Record, Recorded, import, index};

/// The shortest and the longest time between two looks at the queue.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// How long a state lasts before it is reported as a problem.
const WORTH_TELLING: Duration = Duration::from_secs(30);
/// How long a task has to be inactive before an interrupted run means that it has ended: one that is requeued is inactive
/// for a moment.
const SETTLED: Duration = Duration::from_secs(5);
/// How long cells wait for others to be submitted together with.
const GATHER: Duration = Duration::from_secs(10);
/// What is known of a task of an array.
#[derive(Default)]
struct TaskState {
    /// Its state and node, as last reported.
    told: Option<(String, String)>,
    /// Since when it waits for something that never comes, and why.
    in_vain: Option<(Instant, String)>,
    has_told_in_vain: bool,
    /// Since when it is not active.
    gone: Option<Instant>,
}

/// A task: the indices of the array and in it.
type TaskId = (usize, usize);

/// Watches the jobs of a sweep.
pub(super) struct Watch<'a> {
    sweep: &'a Sweep<'a>,
    places: Places,
    jobs: Jobs,
    options: JobOptions<'a>,
    /// The cells by key.
    cells: HashMap<String, usize>,
    pub(super) observer: &'a mut dyn SweepObserver,
    feedback: &'a dyn Feedback,
    /// The size of the record file of each cell when it was last merged, and the number of its records.
    merged: HashMap<String, (u64, usize)>,
    /// All recorded runs.
    recorded: Vec<Recorded>,
    /// The places of each cell's runs in them.
    runs: HashMap<usize, Vec<usize>>,
    tasks: HashMap<TaskId, TaskState>,
    /// The queue, as last read.
    queue: Vec<QueuedTask>,
    /// Cells to be submitted, since when, and the memory that they need after running out of it.
    waiting: BTreeMap<usize, (Instant, Option<Bytes>)>,
    /// The most tasks of an array.
    most: usize,
    /// The runs recorded in this invocation.
    new: HashSet<(usize, u32)>,
    /// Whether jobs ended before their runs were done.
    has_ended_early: bool,
    /// Since when Slurm does not answer.
    unanswered: Option<Instant>,
    has_told_unanswered: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        sweep: &'a Sweep<'a>,
        places: Places,
        jobs: Jobs,
        options: JobOptions<'a>,
        (observer, feedback): (&'a mut dyn SweepObserver, &'a dyn Feedback),
    ) -> Self {
        Self {
            sweep,
            places,
            jobs,
            options,
            cells: sweep.keys().iter().map(|key| (*key).to_owned()).zip(0..).collect(),
            observer,
            feedback,
            merged: HashMap::new(),
            recorded: Vec::new(),
            runs: HashMap::new(),
            tasks: HashMap::new(),
            queue: Vec::new(),
            waiting: BTreeMap::new(),
            most: slurm::MAX_ARRAY_SIZE,
            new: HashSet::new(),
            has_ended_early: false,
            unanswered: None,
            has_told_unanswered: false,
        }
    }

    /// Submits the cells that are missing, and watches until all are accounted for.
    pub(super) fn run(&mut self, cancel: &mut dyn Cancel) -> Result<End, Failure> {
        self.merge(false)?;
        self.find_submitted(cancel)?;
        let before = self.jobs.arrays.len();
        let schedule = self.schedule(self.sweep.options.retry);
        self.observer.begins(schedule.recorded(), schedule.left());
        if self.sweep.options.cancel {
            self.cancel_jobs()?;
        } else {
            let busy: HashSet<usize> = self.open_tasks().iter().filter_map(|task| self.cell_of(*task)).collect();
            let submitted: HashSet<&String> = self.jobs.arrays.iter().flat_map(|array| &array.cells).collect();
            let idle = (0..self.cells.len()).filter(|cell| !busy.contains(cell)).collect::<Vec<_>>();
            let lacked = self.needs_more_memory(&idle);
            // Jobs that ran out of memory may not have been submitted again yet.
            let is_owed = |cell: usize| {
                lacked.contains_key(&cell) && submitted.contains(&self.sweep.planned.cells[cell].planned.key)
            };
            let missing: Vec<usize> =
                idle.into_iter().filter(|cell| schedule.has_more_of(*cell) || is_owed(*cell)).collect();
            if !missing.is_empty() {
                self.most = slurm::max_array_size().map_err(refused)?;
            }
            for cell in missing {
                self.waiting.insert(cell, (Instant::now(), lacked.get(&cell).copied()));
            }
            self.submit(true)?;
            if self.sweep.options.detach {
                return Ok(End::Detached);
            }
        }
        let mut pause = PAUSES.0;
        loop {
            let has_changed = self.step(before, cancel)?;
            if self.open_tasks().is_empty() || self.waiting.values().any(|(since, _)| since.elapsed() >= GATHER) {
                self.submit(false)?;
            }
            if self.open_tasks().is_empty() && self.waiting.is_empty() {
                return Ok(match (self.sweep.options.cancel, self.has_ended_early) {
                    (true, _) => End::Cancelled,
                    (false, true) => End::JobsEnded,
                    (false, false) => End::Done,
                });
            }
            pause = if has_changed { PAUSES.0 } else { pause.mul_f64(1.2).min(PAUSES.1) };
            if let Some(signal) = wait(cancel, pause)? {
                return Ok(End::Interrupted(signal));
            }
        }
    }

    /// Looks at the queue and the records once; whether something has changed.
    fn step(&mut self, before: usize, cancel: &dyn Cancel) -> Result<bool, Failure> {
        let ids: Vec<String> = self.arrays_with_open_tasks().filter_map(|array| array.job.clone()).collect();
        // The queue before the records: what was written by a job that has ended is found then.
        let is_answered = match slurm::queue(&ids, cancel) {
            Ok(queue) => {
                if std::mem::take(&mut self.has_told_unanswered) {
                    self.feedback.note("Slurm answers again");
                }
                self.unanswered = None;
                self.queue = queue;
                true
            }
            Err(SlurmError::Cancelled { .. }) => return Ok(false),
            Err(error @ SlurmError::Start { .. }) => return Err(refused(error)),
            Err(error) => {
                let since = *self.unanswered.get_or_insert_with(Instant::now);
                if since.elapsed() >= WORTH_TELLING && !self.has_told_unanswered {
                    self.has_told_unanswered = true;
                    self.feedback.note(&format!("Slurm does not answer, and the sweep waits for it: {error}"));
                }
                false
            }
        };
        let mut has_changed = self.merge(true)?;
        let schedule = self.schedule(Retry::Interrupted);
        let queue: HashMap<(&str, usize), &QueuedTask> =
            self.queue.iter().map(|task| ((task.job.as_str(), task.task), task)).collect();
        let mut ended = Vec::new();
        for id in self.open_tasks() {
            let array = &self.jobs.arrays[id.0];
            let queued = array.job.as_deref().and_then(|job| queue.get(&(job, id.1)).copied());
            let state = self.tasks.entry(id).or_default();
            let active = queued.filter(|task| task.is_active());
            let title = || {
                let cell =
                    self.cells.get(&array.cells[id.1]).map(|cell| self.sweep.planned.cells[*cell].planned.title());
                format!("{}_{} {}", array.job.as_deref().unwrap_or_default(), id.1, cell.unwrap_or_default())
            };
            if let Some(task) = active {
                state.gone = None;
                has_changed |= tell_state(state, task, &title, self.feedback);
            } else if is_answered {
                ended.push((id, *state.gone.get_or_insert_with(Instant::now), queued.cloned()));
            } else if let Some(cell) = self.cells.get(&array.cells[id.1])
                && !schedule.has_more_of(*cell)
                && state.gone.is_some()
            {
                ended.push((id, Instant::now(), None));
            }
        }
        for (id, since, queued) in ended {
            has_changed |= self.ended(id, since, queued.as_ref(), &schedule, id.0 < before)?;
        }
        if has_changed {
            // Records of lost runs.
            self.merge(true)?;
            self.jobs.write(&self.places.slurm)?;
        }
        Ok(has_changed)
    }

    /// Accounts for a task that has ended; whether that is possible yet.
    fn ended(
        &mut self,
        (array, task): TaskId,
        since: Instant,
        queued: Option<&QueuedTask>,
        schedule: &Schedule,
        is_of_earlier: bool,
    ) -> Result<bool, Failure> {
        let key = self.jobs.arrays[array].cells[task].clone();
        let cell = self.cells.get(&key).copied();
        let records = self.merged.get(&key).map_or(0, |(_, records)| *records);
        let has_new = records > self.jobs.arrays[array].recorded[task];
        let is_owed = self.jobs.arrays[array].lacked && !has_new;
        let is_interrupted = |run: &Recorded| matches!(run.outcome, Outcome::Interrupted { .. });
        let has_interrupted = has_new && cell.is_some_and(|cell| self.runs_of(cell).any(is_interrupted));
        match cell {
            // A further attempt at a run that lacked memory is owed, too.
            Some(cell) if (schedule.has_more_of(cell) || is_owed) && !self.sweep.options.cancel => {
                let patience = if has_interrupted { SETTLED } else { self.sweep.options.patience };
                if since.elapsed() < patience {
                    return Ok(false);
                }
                if is_of_earlier {
                    // Whoever resumes a sweep wants the runs that are missing.
                    self.waiting.insert(cell, (Instant::now(), self.jobs.arrays[array].memory));
                } else {
                    self.has_ended_early = true;
                    if !has_interrupted {
                        self.lose((array, task), cell, queued, schedule)?;
                    }
                }
            }
            Some(cell) => {
                if let (Some(memory), false) = (self.needs_more_memory(&[cell]).get(&cell), self.sweep.options.cancel)
                    && has_new
                {
                    self.feedback.detail(&format!(
                        "{} ran out of memory; it is submitted again with {memory}",
                        self.sweep.planned.cells[cell].planned.title()
                    ));
                    self.waiting.insert(cell, (Instant::now(), Some(*memory)));
                }
            }
            // The plan no longer has it.
            None => {}
        }
        self.jobs.arrays[array].closed.insert(task);
        Ok(true)
    }

    /// Records that a job ended without a result.
    fn lose(
        &mut self,
        (array, task): TaskId,
        cell: usize,
        queued: Option<&QueuedTask>,
        schedule: &Schedule,
    ) -> Result<(), Failure> {
        let array = &self.jobs.arrays[array];
        let job = array.job.clone().unwrap_or_default();
        let mut why = match queued {
            Some(task) if task.reason == "None" || task.reason.is_empty() => format!("it is {}", task.state),
            Some(task) => format!("it is {} ({})", task.state, task.reason),
            None => "it is not in the queue any more".to_owned(),
        };
        if let Some((path, text)) = slurm::end_of_log(&self.places.paths.logs, &job, task) {
            let lines: Vec<&str> = text.lines().rev().take(3).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            why.push_str(&format!("; the end of {} is: {}", path.display(), lines.join(" / ")));
        }
        let planned = &self.sweep.planned.cells[cell];
        let text = format!("the job {job}_{task} ended without a record of this run: {why}");
        self.feedback.note(&format!("{}: {text}", planned.planned.title()));
        // The first run that is missing; the others were not reached.
        let run = schedule.pending().find(|job| job.cell == cell).map_or(1, |job| job.run);
        let mut observation = import::blank(array.submitted_at);
        observation.subject = self.sweep.subject.recorded();
        observation.sweep = Some(SweepRun {
            parameters: planned.planned.parameters.clone(),
            synthetic: planned.planned.synthetic,
            ..SweepRun::new(planned.planned.key.clone(), planned.planned.case.clone(), run)
        });
        observation.inputs.clone_from(&planned.inputs);
        observation.prediction.clone_from(&planned.prediction);
        observation.runner = self.sweep.planned.plan.task.runner;
        observation.outcome = Outcome::Lost;
        observation.batch = Some(Batch::slurm(job, u32::try_from(task).ok()));
        observation.warnings = vec![Warning::Text { text }];
        let path = self.places.paths.cell(&planned.planned.key);
        Record::open(&path)?.append(&observation)?;
        Ok(())
    }

    /// The arrays that were being submitted when highwater was killed: those that are in the queue get their ID, and the
    /// others are given up.
    fn find_submitted(&mut self, cancel: &dyn Cancel) -> Result<(), Failure> {
        let mut kept = Vec::new();
        for mut array in std::mem::take(&mut self.jobs.arrays) {
            if array.job.is_none() {
                array.job = slurm::named(&array.name, cancel).map_err(refused)?.pop();
            }
            if array.job.is_some() {
                kept.push(array);
                continue;
            }
            // Without its keys, an array that is still on its way does nothing.
            let _ = self.places.arrays.remove(&array.name);
            slurm::cancel_named(&array.name).map_err(refused)?;
        }
        self.jobs.arrays = kept;
        self.jobs.write(&self.places.slurm)
    }

    /// Submits the waiting cells, one array per size of memory. While other jobs are followed, what Slurm refuses does not
    /// end the sweep: it is submitted again later, or given up if it needs more memory.
    fn submit(&mut self, is_first: bool) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let forecast = self.sweep.batch_forecast(&self.recorded);
        let mut groups: BTreeMap<(Option<Bytes>, bool), Vec<usize>> = BTreeMap::new();
        for (cell, (_, memory)) in waiting {
            let lacked = memory.is_some();
            let memory = self.options.at_most(memory.max(self.options.memory(&forecast, cell)));
            groups.entry((memory, lacked)).or_default().push(cell);
        }
        let variables = &self.sweep.options.spec.container.env;
        for ((memory, lacked), cells) in groups {
            let retry = match self.sweep.options.retry {
                Retry::Interrupted if lacked => Retry::OutOfMemory,
                retry => retry,
            };
            for cells in cells.chunks(self.most) {
                let Err(failure) = self.submit_array((memory, lacked), cells, retry, variables) else { continue };
                if lacked && !is_first {
                    let memory = memory.map(|memory| format!(" with {memory}")).unwrap_or_default();
                    let failure = crate::model::problem::one_line(&failure);
                    self.feedback.note(&format!("{} cells cannot be submitted again{memory}: {failure}", cells.len()));
                    self.has_ended_early = true;
                } else if is_first || self.open_tasks().is_empty() {
                    return Err(failure);
                } else {
                    self.waiting.extend(cells.iter().map(|cell| (*cell, (Instant::now(), None))));
                }
            }
        }
        Ok(())
    }

    fn submit_array(
        &mut self,
        (memory, lacked): (Option<Bytes>, bool),
        cells: &[usize],
        retry: Retry,
        variables: &[(String, String)],
    ) -> Result<(), Failure> {
        let now = Timestamp::now();
        let name = format!("highwater-{:x}-{}", now.as_microsecond(), std::process::id());
        let keys: Vec<String> = cells.iter().map(|cell| self.sweep.planned.cells[*cell].planned.key.clone()).collect();
        self.hand_over(&keys)?;
        let recorded = keys.iter().map(|key| self.merged.get(key).map_or(0, |(_, records)| *records)).collect();
        let written = self.places.arrays.replace(&name, (keys.join("\n") + "\n").as_bytes());
        written.map_err(|source| Failure::host(Failed::writing(&self.places.paths.keys(&name), source)))?;
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
                // If it got no answer, the array may exist: then it is found by its name the next time.
                if !matches!(error, SlurmError::NoAnswer { .. }) {
                    self.jobs.arrays.pop();
                    self.jobs.write(&self.places.slurm)?;
                    let _ = self.places.arrays.remove(&name);
                    // It may have been accepted although the answer was lost.
                    let _ = slurm::cancel_named(&name);
                }
                return Err(refused(error));
            }
        };
        let count = if cells.len() == 1 { "1 cell".to_owned() } else { format!("{} cells", cells.len()) };
        let memory = memory.map_or_else(String::new, |memory| format!(" with {memory} each"));
        self.feedback.detail(&format!("submitted job {job}: {count}{memory}"));
        if let Some(array) = self.jobs.arrays.last_mut() {
            array.job = Some(job);
        }
        self.jobs.write(&self.places.slurm)
    }

    /// Gives the jobs of these cells what is recorded of them, such as by runs on this machine, so that they do not make
    /// it again.
    fn hand_over(&mut self, keys: &[String]) -> Result<(), Failure> {
        let keys: HashSet<&str> = keys.iter().map(String::as_str).collect();
        if !self.recorded.iter().any(|run| keys.contains(&*run.cell)) {
            return Ok(());
        }
        let mut of_cells: HashMap<String, Vec<Observation>> = HashMap::new();
        for observation in store::read(&self.places.paths.sweep).map_err(Failure::from)?.observations {
            if let Some(sweep) = observation.sweep.as_ref().filter(|sweep| keys.contains(sweep.cell.as_str())) {
                of_cells.entry(sweep.cell.clone()).or_default().push(observation);
            }
        }
        let identity = |run: &Observation| (run.sweep.as_ref().map(|sweep| sweep.run), run.started_at);
        for (key, recorded) in of_cells {
            let path = self.places.paths.cell(&key);
            let mut record = Record::open(&path).map_err(Failure::from)?;
            let known = store::read(&path).map_err(Failure::from)?.observations;
            let mut known: HashSet<_> = known.iter().map(identity).collect();
            for mut observation in recorded {
                if known.insert(identity(&observation)) {
                    // Its files are in the directory of the sweep.
                    observation.logs = None;
                    observation.series.file = None;
                    record.append(&observation).map_err(Failure::from)?;
                }
            }
            let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            self.merged.insert(key, (length, known.len()));
        }
        Ok(())
    }

    fn cancel_jobs(&mut self) -> Result<(), Failure> {
        let jobs: Vec<String> = self.arrays_with_open_tasks().filter_map(|array| array.job.clone()).collect();
        if jobs.is_empty() { Ok(()) } else { slurm::cancel(&jobs).map_err(refused) }
    }

    /// Merges the records of the cells that have new ones, and reports these; whether there are any.
    fn merge(&mut self, report: bool) -> Result<bool, Failure> {
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
    fn report(&mut self, mut new: Vec<(usize, Observation)>) -> Result<(), Failure> {
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

    fn schedule(&self, retry: Retry) -> Schedule {
        let options = self.sweep.options;
        let made = floors::made(options, &self.recorded);
        Schedule::new(&self.sweep.keys(), self.sweep.repetitions, options.order, retry, &made)
    }

    /// The recorded runs of a cell.
    fn runs_of(&self, cell: usize) -> impl Iterator<Item = &Recorded> {
        self.runs.get(&cell).into_iter().flatten().map(|place| &self.recorded[*place])
    }

    /// The memory for those of these cells whose last attempt at a run lacked it.
    fn needs_more_memory(&self, cells: &[usize]) -> HashMap<usize, Bytes> {
        let runs = cells.iter().flat_map(|cell| self.runs_of(*cell).map(|run| ((*cell, run.run), run)));
        // A lost run says nothing about memory.
        let runs = runs.filter(|(_, run)| !matches!(run.outcome, Outcome::Lost));
        let last: BTreeMap<(usize, u32), &Recorded> = runs.collect();
        let mut needs = HashMap::new();
        for ((cell, _), run) in last {
            if !lacked_memory(run.outcome, run.censored) {
                continue;
            }
            let key = &self.sweep.planned.cells[cell].planned.key;
            let had =
                self.jobs.arrays.iter().filter(|array| array.cells.contains(key)).filter_map(|array| array.memory);
            if let Some(memory) = self.options.doubled(had.max(), run.peak.value()) {
                needs.insert(cell, memory);
            }
        }
        needs
    }

    fn arrays_with_open_tasks(&self) -> impl Iterator<Item = &JobArray> {
        self.jobs.arrays.iter().filter(|array| array.open().next().is_some())
    }

    fn open_tasks(&self) -> Vec<TaskId> {
        let arrays = self.jobs.arrays.iter().enumerate();
        arrays.flat_map(|(index, array)| array.open().map(move |task| (index, task))).collect()
    }

    fn cell_of(&self, (array, task): TaskId) -> Option<usize> {
        self.cells.get(&self.jobs.arrays[array].cells[task]).copied()
    }

    pub(super) fn outcome(&self, end: End, folder: &Path) -> Result<SweepOutcome, Failure> {
        let schedule = self.schedule(Retry::Interrupted);
        let mut last: HashMap<(usize, u32), Outcome> = HashMap::new();
        for run in &self.recorded {
            if let Some(cell) = self.cells.get(&*run.cell) {
                last.insert((*cell, run.run), run.outcome);
            }
        }
        let has_failed = |outcome: &Outcome| {
            !outcome.succeeded()
                && !matches!(outcome, Outcome::Interrupted { .. } | Outcome::Lost | Outcome::EngineLost)
        };
        let failed = self.new.iter().filter(|run| last.get(run).is_some_and(has_failed)).count();
        Ok(SweepOutcome { end, failed, left: schedule.left(), time_left: None, hour: None, records: folder.to_owned() })
    }
}

/// Reports a new state of a task, and, if it lasts, a reason that never ends.
fn tell_state(state: &mut TaskState, task: &QueuedTask, title: &dyn Fn() -> String, feedback: &dyn Feedback) -> bool {
    let now = (task.state.clone(), task.node.clone());
    let has_changed = state.told.as_ref() != Some(&now);
    if has_changed && task.state == "RUNNING" {
        feedback.detail(&format!("{}: running on {}", title(), task.node));
    }
    state.told = Some(now);
    match &state.in_vain {
        Some((since, reason)) if task.waits_in_vain() && *reason == task.reason => {
            if since.elapsed() >= WORTH_TELLING && !state.has_told_in_vain {
                state.has_told_in_vain = true;
                feedback.note(&format!(
                    "{} waits for something that will not come by itself: {} (`scontrol show job {}` tells more; \
                     --cancel ends the jobs)",
                    title(),
                    task.reason,
                    task.job
                ));
            }
        }
        _ => {
            state.in_vain = task.waits_in_vain().then(|| (Instant::now(), task.reason.clone()));
            state.has_told_in_vain = false;
        }
    }
    has_changed
}

/// Waits for this time, or a request to stop.
fn wait(cancel: &mut dyn Cancel, time: Duration) -> Result<Option<Signal>, Failure> {
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    let mut files = [PollFd::new(cancel.requested(), PollFlags::POLLIN)];
    match poll(&mut files, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(cancel.take().map(|request| request.signal)),
        Err(errno) => Err(Failure::host(std::io::Error::from(errno))),
    }
}

fn refused(error: SlurmError) -> Failure {
    let help = error.help().map(str::to_owned);
    let category =
        if matches!(error, SlurmError::Failed { program: "sbatch", .. }) { Category::Usage } else { Category::Host };
    Failure::new(category, error, help)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Feedback for Notes {
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn a_reason_that_never_ends_is_told_once_if_it_lasts() {
        let task = |reason: &str| QueuedTask::pending("7", 1, reason);
        let (mut state, notes) = (TaskState::default(), Notes::default());
        let tell = |state: &mut TaskState, reason: &str| {
            tell_state(state, &task(reason), &|| "7_1 2 items".to_owned(), &notes);
            notes.0.lock().unwrap().len()
        };
        assert_eq!(tell(&mut state, "Priority"), 0);
        assert_eq!(tell(&mut state, "PartitionTimeLimit"), 0);
        if let Some((since, _)) = &mut state.in_vain {
            *since = Instant::now().checked_sub(WORTH_TELLING).unwrap();
        }
        assert_eq!([0, 1].map(|_| tell(&mut state, "PartitionTimeLimit")), [1, 1]);
        assert!(notes.0.lock().unwrap()[0].starts_with("7_1 2 items waits for something that will not come"));
    }
}
