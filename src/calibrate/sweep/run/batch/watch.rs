//! Watches the jobs of a sweep until their records are there.

mod merge;
mod submit;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::jobs::{JobArray, Jobs};
use super::super::{Sweep, SweepOutcome};
use super::Places;
use super::options::JobOptions;
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::monitor::Cancel;
use crate::calibrate::sweep::schedule::lacked_memory;
use crate::calibrate::sweep::{Admission, End, Retry, Schedule, SweepObserver, floors};
use crate::model::observation::{Batch, Outcome, SweepRun, Warning};
use crate::model::signal::Signal;
use crate::model::units::Bytes;
use crate::runner::slurm::{self, Queue, QueuedTask, SlurmError};
use crate::store::{Folder, Record, Recorded, import};

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
    /// Its node, as last reported, while it runs.
    node: Option<String>,
    /// Since when it waits for something that never comes, and why.
    in_vain: Option<(Instant, String)>,
    has_told_in_vain: bool,
    /// Since when it is not active.
    gone: Option<Instant>,
}

/// A task: the indices of the array and in it.
type TaskId = (usize, usize);

/// Watches the jobs of a sweep. There may be a hundred thousand: little is kept of each, and what takes time for all of them
/// is not repeated for each.
pub(super) struct Watch<'a> {
    sweep: &'a Sweep<'a>,
    /// The records, which no other process changes meanwhile.
    folder: Folder,
    places: Places,
    jobs: Jobs,
    options: JobOptions<'a>,
    /// The cells by key.
    cells: HashMap<&'a str, usize>,
    pub(super) observer: &'a mut dyn SweepObserver,
    feedback: &'a dyn Feedback,
    /// The size of the record file of each cell when it was last read, in bytes.
    read: Vec<u64>,
    /// The places of each cell's runs among those that are recorded.
    runs: Vec<Vec<usize>>,
    /// The number of recorded runs that [`runs`](Self::runs) and the forecast know.
    known: usize,
    /// What is left of the plan.
    schedule: Rc<Schedule>,
    /// With the forecast.
    admission: Admission<'static>,
    /// Cells whose runs were lost just now.
    lost: Vec<usize>,
    /// What is known of tasks that run, have ended, or wait for something that never comes.
    tasks: HashMap<TaskId, TaskState>,
    /// The queue, as last read.
    queue: Queue,
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
        (folder, places): (Folder, Places),
        jobs: Jobs,
        options: JobOptions<'a>,
        (observer, feedback): (&'a mut dyn SweepObserver, &'a dyn Feedback),
    ) -> Self {
        let cells: HashMap<&str, usize> = sweep.keys().into_iter().zip(0..).collect();
        let forecast = sweep.planned.forecast(sweep.options);
        let mut watch = Self {
            sweep,
            schedule: Rc::new(scheduled(sweep, Retry::Interrupted, &folder)),
            folder,
            places,
            jobs,
            options,
            read: vec![0; sweep.planned.cells.len()],
            runs: vec![Vec::new(); sweep.planned.cells.len()],
            known: 0,
            cells,
            observer,
            feedback,
            admission: Admission::new(forecast, None, || None, None),
            lost: Vec::new(),
            tasks: HashMap::new(),
            queue: Queue::default(),
            waiting: BTreeMap::new(),
            most: slurm::MAX_ARRAY_SIZE,
            new: HashSet::new(),
            has_ended_early: false,
            unanswered: None,
            has_told_unanswered: false,
        };
        watch.learn();
        watch
    }

    /// Submits the cells that are missing, and watches until all are accounted for.
    pub(super) fn run(&mut self, cancel: &mut dyn Cancel) -> Result<End, Failure> {
        // The others have nothing that counts and is not recorded yet.
        let open = self.open_tasks().into_iter().filter_map(|task| self.cell_of(task));
        let submitted = self.jobs.arrays.iter().flat_map(|array| &array.cells);
        let submitted = submitted.filter_map(|key| self.cells.get(key.as_str()).copied());
        let cells: Vec<usize> = submitted.filter(|cell| self.schedule.has_more_of(*cell)).chain(open).collect();
        self.merge(&cells, false)?;
        self.find_submitted(cancel)?;
        let before = self.jobs.arrays.len();
        let schedule = scheduled(self.sweep, self.sweep.options.retry, &self.folder);
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
        let queue = std::mem::take(&mut self.queue);
        let queued: HashMap<(&str, usize), QueuedTask<'_>> =
            queue.tasks().map(|task| ((task.job, task.task), task)).collect();
        let find = |jobs: &Jobs, id: TaskId| queued.get(&(jobs.arrays[id.0].job.as_deref()?, id.1)).copied();
        let open = self.open_tasks();
        // A task that has not started has no records.
        let may_have_records =
            |id: &&TaskId| !is_answered || find(&self.jobs, **id).is_none_or(|task| task.state != "PENDING");
        let cells: Vec<usize> = open.iter().filter(may_have_records).filter_map(|id| self.cell_of(*id)).collect();
        let mut has_changed = self.merge(&cells, true)?;
        let schedule = Rc::clone(&self.schedule);
        let mut ended = Vec::new();
        for id in open {
            let array = &self.jobs.arrays[id.0];
            let queued = find(&self.jobs, id);
            if queued.is_some_and(QueuedTask::just_waits) && !self.tasks.contains_key(&id) {
                continue;
            }
            let state = self.tasks.entry(id).or_default();
            let active = queued.filter(|task| task.is_active());
            let title = || {
                let cell = self.cells.get(array.cells[id.1].as_str());
                let cell = cell.map(|cell| self.sweep.planned.cells[*cell].planned.title());
                format!("{}_{} {}", array.job.as_deref().unwrap_or_default(), id.1, cell.unwrap_or_default())
            };
            if let Some(task) = active {
                state.gone = None;
                has_changed |= tell_state(state, &task, &title, self.feedback);
            } else if is_answered {
                ended.push((id, *state.gone.get_or_insert_with(Instant::now), queued));
            } else if let Some(cell) = self.cells.get(array.cells[id.1].as_str())
                && !schedule.has_more_of(*cell)
                && state.gone.is_some()
            {
                ended.push((id, Instant::now(), None));
            }
        }
        let mut has_closed = false;
        for (id, since, queued) in ended {
            has_closed |= self.ended(id, since, queued, &schedule, id.0 < before)?;
        }
        let lost = std::mem::take(&mut self.lost);
        self.merge(&lost, true)?;
        if has_closed {
            self.jobs.write(&self.places.slurm)?;
        }
        self.queue = queue;
        Ok(has_changed || has_closed)
    }

    /// Accounts for a task that has ended; whether that is possible yet.
    fn ended(
        &mut self,
        (array, task): TaskId,
        since: Instant,
        queued: Option<QueuedTask<'_>>,
        schedule: &Schedule,
        is_of_earlier: bool,
    ) -> Result<bool, Failure> {
        let cell = self.cell_of((array, task));
        let records = cell.map_or(0, |cell| self.runs[cell].len());
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
                    // A resumed sweep makes the runs that are missing.
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
        self.tasks.remove(&(array, task));
        Ok(true)
    }

    /// Records that a job ended without a result.
    fn lose(
        &mut self,
        (array, task): TaskId,
        cell: usize,
        queued: Option<QueuedTask<'_>>,
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
            parameters: planned.planned.parameters.to_map(),
            synthetic: planned.planned.synthetic,
            ..SweepRun::new(planned.planned.key.clone(), planned.planned.case.clone(), run)
        });
        observation.inputs.clone_from(&planned.inputs);
        observation.prediction = planned.prediction.as_deref().cloned();
        observation.runner = self.sweep.planned.plan.task.runner;
        observation.outcome = Outcome::Lost;
        observation.batch = Some(Batch::slurm(job, u32::try_from(task).ok()));
        observation.warnings = vec![Warning::Text { text }];
        let path = self.places.paths.cell(&planned.planned.key);
        Record::open(&path)?.append(&observation)?;
        self.lost.push(cell);
        Ok(())
    }

    /// The recorded runs of a cell.
    fn runs_of(&self, cell: usize) -> impl Iterator<Item = &Recorded> {
        self.runs[cell].iter().map(|place| &self.folder.recorded()[*place])
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
        self.cells.get(self.jobs.arrays[array].cells[task].as_str()).copied()
    }

    pub(super) fn outcome(&self, end: End, records: PathBuf) -> Result<SweepOutcome, Failure> {
        let mut last: HashMap<(usize, u32), Outcome> = HashMap::new();
        for run in self.folder.recorded() {
            if let Some(cell) = self.cells.get(&*run.cell) {
                last.insert((*cell, run.run), run.outcome);
            }
        }
        let has_failed = |outcome: &Outcome| {
            outcome.has_failed()
                && !matches!(outcome, Outcome::Interrupted { .. } | Outcome::Lost | Outcome::EngineLost)
        };
        let failed = self.new.iter().filter(|run| last.get(run).is_some_and(has_failed)).count();
        Ok(SweepOutcome { end, failed, left: self.schedule.left(), time_left: None, hour: None, records })
    }
}

/// What is left of the plan.
fn scheduled(sweep: &Sweep<'_>, retry: Retry, folder: &Folder) -> Schedule {
    let options = sweep.options;
    let made = floors::made(options, folder.recorded());
    Schedule::new(&sweep.keys(), sweep.repetitions, options.order, retry, &made)
}

/// Reports a new state of a task, and, if it lasts, a reason that never ends.
fn tell_state(
    state: &mut TaskState,
    task: &QueuedTask<'_>,
    title: &dyn Fn() -> String,
    feedback: &dyn Feedback,
) -> bool {
    let node = (task.state == "RUNNING").then_some(task.node);
    let has_changed = state.node.as_deref() != node;
    if has_changed {
        if let Some(node) = node {
            feedback.detail(&format!("{}: running on {node}", title()));
        }
        state.node = node.map(str::to_owned);
    }
    match &state.in_vain {
        Some((since, reason)) if task.waits_in_vain() && *reason == task.reason => {
            if since.elapsed() >= WORTH_TELLING && !state.has_told_in_vain {
                state.has_told_in_vain = true;
                feedback.note(&format!(
                    "{} is pending and will not start by itself: {} (`scontrol show job {}` shows more; --cancel ends \
                     the jobs)",
                    title(),
                    task.reason,
                    task.job
                ));
            }
        }
        _ => {
            state.in_vain = task.waits_in_vain().then(|| (Instant::now(), task.reason.to_owned()));
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
        let (mut state, notes) = (TaskState::default(), Notes::default());
        let tell = |state: &mut TaskState, reason: &str| {
            tell_state(state, &QueuedTask::pending("7", 1, reason), &|| "7_1 2 items".to_owned(), &notes);
            notes.0.lock().unwrap().len()
        };
        assert_eq!(tell(&mut state, "Priority"), 0);
        assert_eq!(tell(&mut state, "PartitionTimeLimit"), 0);
        if let Some((since, _)) = &mut state.in_vain {
            *since = Instant::now().checked_sub(WORTH_TELLING).unwrap();
        }
        assert_eq!([0, 1].map(|_| tell(&mut state, "PartitionTimeLimit")), [1, 1]);
        assert!(notes.0.lock().unwrap()[0].starts_with("7_1 2 items is pending and will not start by itself"));
    }
}
