//! Runs the cells of a plan: which run is next, whether the host has enough memory for it, and how it ended.

mod adaptive;
mod admission;
mod case;
mod cpus;
mod executor;
mod file;
mod file_toml;
mod floors;
mod forecast;
mod hook;
mod options;
mod placeholders;
mod planned;
mod recorder;
mod relay;
mod run;
mod schedule;
mod subject;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::model::signal::Signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::relay::{CancelReceiver, CancelSender, Waker};
use super::monitor::{Cancel, Observer, Request};
use crate::model::observation::{Observation, Outcome};
use crate::model::units::Bytes;

pub use self::adaptive::{Adaptive, Until};
pub use self::admission::{Admission, Budget};
pub use self::case::{CaseError, CaseInput, InputCase, InputDirectories, Variation, cases};
pub use self::file::SweepSettings;
pub use self::forecast::{Expected, Forecast, ForecastCell, PastRun};
pub use self::options::{NAMES, On, SweepOptions};
pub use self::recorder::SweepObserver;
pub use self::run::{Preview, PreviewCell, Sweep, SweepOutcome};
pub use self::schedule::{Repetitions, Retry, Schedule};
pub use super::workload::CacheState;

/// A run of a sweep: the cell of the plan, and the run of the cell, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// The index of the cell in the plan.
    pub cell: usize,
    /// Which run of the cell.
    pub run: u32,
}

/// Executes runs; called from several threads.
pub trait Executor: Sync {
    /// Why a run was not possible.
    type Error: Send;

    /// Executes a run; `None` if it was cancelled before it started.
    ///
    /// # Errors
    /// If it is not possible. A task that fails is an observation.
    fn run(
        &self,
        job: Job,
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Option<Observation>, Self::Error>;

    /// Called when no run of a cell is going or to come.
    ///
    /// # Errors
    /// If the cleanup of the cell fails.
    fn leave(&self, cell: usize) -> Result<(), Self::Error>;
}

/// Records observations; called from one thread.
pub trait Recorder {
    /// Why an observation could not be recorded.
    type Error;

    /// A run starts; returns the observer of its progress.
    ///
    /// # Errors
    /// If it could not be recorded: then it does not start.
    fn begins(&mut self, job: Job, admission: &Admission<'_>) -> Result<Box<dyn Observer + Send>, Self::Error>;

    /// A run has ended.
    ///
    /// # Errors
    /// If it cannot be recorded: then no other run starts.
    fn keep(&mut self, job: Job, observation: Observation, left: &Left<'_>) -> Result<(), Self::Error>;
}

/// The remaining work.
pub struct Left<'a> {
    schedule: &'a Schedule,
    admission: &'a Admission<'a>,
    /// The cells of the runs in progress, with their time so far.
    running: Vec<(usize, Duration)>,
    jobs: usize,
}

impl Left<'_> {
    /// Number of runs that will be made, including those in progress: fewer than the plan has if --until or --max-cost
    /// ends the sweep.
    pub fn runs(&self) -> usize {
        let to_come = if self.admission.has_budget() || self.schedule.is_adaptive() {
            self.admission.affordable(self.schedule.to_come())
        } else {
            self.schedule.left()
        };
        to_come + self.running.len()
    }

    /// The time until the last of them has ended, once a run is known.
    pub fn time(&self) -> Option<Duration> {
        let pending = self.schedule.to_come();
        let pending = pending.iter().copied().take(self.admission.affordable(pending.iter().copied()));
        let (forecast, capacity) = (self.admission.forecast(), self.admission.capacity());
        forecast.time_left(self.running.iter().copied(), pending, self.jobs, capacity)
    }
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every run of the plan is recorded.
    Done,
    /// It was interrupted.
    Interrupted(Signal),
    /// The next run would exceed the budget.
    Budget,
    /// The memory of the runs that are left is known well enough.
    Known,
    /// The container engine disappeared.
    EngineLost,
    /// Jobs on a cluster were lost, cancelled or ended at their time limit before their runs were done.
    JobsEnded,
    /// The runs are left to jobs on a cluster.
    Detached,
    /// The jobs on a cluster were cancelled, as requested.
    Cancelled,
    /// The cluster lost one run after another.
    RunsLost,
}

/// Why a sweep failed.
#[derive(Debug)]
pub enum SweepError<E, R> {
    /// A run was not possible.
    Run(E),
    /// A run could not be recorded.
    Keep(R),
    /// Waiting failed.
    Wait(std::io::Error),
}

type Failed<E, R> = SweepError<<E as Executor>::Error, <R as Recorder>::Error>;

/// The channel to cancel a run, its other end, and the observer of its progress.
type StartedRun = (CancelSender, CancelReceiver, Box<dyn Observer + Send>);

/// A message of a worker.
enum Completion<E> {
    Ended(Job, Box<Result<Option<Observation>, E>>),
    /// Its thread panicked; the scope of the threads passes the panic on once all of them have ended.
    Panicked(Job),
}

/// Executes all runs of the schedule, at most `jobs` at a time and within the available memory.
///
/// # Errors
/// The first failure; no run is in progress then.
pub fn sweep<E: Executor, R: Recorder>(
    executor: &E,
    recorder: &mut R,
    schedule: &mut Schedule,
    admission: &mut Admission<'_>,
    jobs: usize,
    cancel: &mut dyn Cancel,
) -> Result<End, SweepError<E::Error, R::Error>> {
    let waker = Waker::new().map_err(SweepError::Wait)?;
    let (completions, completed) = mpsc::channel();
    thread::scope(|scope| {
        let mut scheduler = Scheduler {
            executor,
            recorder,
            schedule,
            admission,
            jobs,
            running: Vec::new(),
            lost: 0,
            stop: None,
            failure: None,
        };
        loop {
            while scheduler.stop.is_none() && scheduler.running.len() < jobs {
                let Some(job) = scheduler.next() else { break };
                let (sender, mut receiver, mut observer) = match scheduler.begin(job) {
                    Ok(started) => started,
                    Err(failure) => {
                        scheduler.fail(failure);
                        break;
                    }
                };
                let (completions, handle) = (completions.clone(), waker.handle());
                scheduler.running.push((job, sender, Instant::now()));
                scope.spawn(move || {
                    let run = AssertUnwindSafe(|| executor.run(job, &mut receiver, &mut *observer));
                    let (completion, panic) = match catch_unwind(run) {
                        Ok(result) => (Completion::Ended(job, Box::new(result)), None),
                        Err(panic) => (Completion::Panicked(job), Some(panic)),
                    };
                    drop(observer);
                    // The receiver is gone if the sweep has failed meanwhile.
                    let _ = completions.send(completion);
                    handle.wake();
                    if let Some(panic) = panic {
                        resume_unwind(panic);
                    }
                });
            }
            if scheduler.running.is_empty() {
                return scheduler.close();
            }
            if let Err(error) = wait(&waker, cancel) {
                scheduler.fail(SweepError::Wait(error));
            }
            waker.drain();
            if let Some(request) = cancel.take() {
                scheduler.interrupt(request);
            }
            while let Ok(completion) = completed.try_recv() {
                match completion {
                    Completion::Ended(job, result) => scheduler.ended(job, *result),
                    Completion::Panicked(job) => scheduler.panicked(job),
                }
            }
        }
    })
}

/// Waits for the end of a run or a request.
fn wait(waker: &Waker, cancel: &dyn Cancel) -> std::io::Result<()> {
    let mut files =
        [PollFd::new(waker.readable(), PollFlags::POLLIN), PollFd::new(cancel.requested(), PollFlags::POLLIN)];
    match poll(&mut files, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Why no further run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Interrupted(Signal),
    Budget,
    EngineLost,
    RunsLost,
    Failure,
}

/// The state of the scheduling thread.
struct Scheduler<'a, 'b, E: Executor, R: Recorder> {
    executor: &'a E,
    recorder: &'a mut R,
    schedule: &'a mut Schedule,
    admission: &'a mut Admission<'b>,
    jobs: usize,
    running: Vec<(Job, CancelSender, Instant)>,
    /// Number of runs that the cluster has lost since one was not lost.
    lost: usize,
    stop: Option<Stop>,
    failure: Option<SweepError<E::Error, R::Error>>,
}

impl<E: Executor, R: Recorder> Scheduler<'_, '_, E, R> {
    /// The next run, if there is memory for it.
    fn next(&mut self) -> Option<Job> {
        let Self { schedule, admission, running, .. } = self;
        if admission.is_spent(schedule) {
            self.stop = running.is_empty().then_some(Stop::Budget);
            return None;
        }
        let job = schedule.take(|cell| admission.can_pay(cell), |cell| admission.admits(cell))?;
        admission.enter(job.cell);
        Some(job)
    }

    fn interrupt(&mut self, request: Request) {
        self.stop.get_or_insert(Stop::Interrupted(request.signal));
        self.running.iter().for_each(|(_, sender, _)| sender.send(request));
    }

    /// The channel to the run, and the observer of its progress.
    fn begin(&mut self, job: Job) -> Result<StartedRun, Failed<E, R>> {
        let started = CancelSender::new().map_err(SweepError::Wait).and_then(|(sender, receiver)| {
            let observer = self.recorder.begins(job, self.admission).map_err(SweepError::Keep)?;
            Ok((sender, receiver, observer))
        });
        if started.is_err() {
            self.admission.leave(job.cell);
            self.schedule.put_back(job);
        }
        started
    }

    /// Nothing can be recorded any more: cancels the runs in progress.
    fn fail(&mut self, failure: Failed<E, R>) {
        self.failure.get_or_insert(failure);
        self.end_runs();
    }

    fn panicked(&mut self, job: Job) {
        self.running.retain(|(running, ..)| *running != job);
        self.end_runs();
    }

    /// Starts no further run, and cancels those in progress.
    fn end_runs(&mut self) {
        self.stop.get_or_insert(Stop::Failure);
        let request = Request { signal: Signal::SIGTERM, task_knows: false };
        self.running.iter().for_each(|(_, sender, _)| sender.send(request));
    }

    fn ended(&mut self, job: Job, result: Result<Option<Observation>, E::Error>) {
        let elapsed = self.running.iter().find(|(running, ..)| *running == job).map(|(.., since)| since.elapsed());
        self.running.retain(|(running, ..)| *running != job);
        self.admission.leave(job.cell);
        match result {
            Ok(Some(observation)) => {
                let peak = observation.peak.as_ref().value().map(|peak| peak.bytes);
                let wall = Duration::from_micros(observation.wall_us);
                // Takes precedence over other reasons to stop: the user has to act on it.
                if observation.has_lost_engine() {
                    self.stop = Some(Stop::EngineLost);
                }
                // A lost run is made again, but not for ever; a node that fails takes all of its runs along.
                self.lost = if observation.outcome == Outcome::Lost { self.lost + 1 } else { 0 };
                if self.lost > self.jobs + 1 {
                    self.stop.get_or_insert(Stop::RunsLost);
                }
                self.schedule.ended(job, observation.outcome, peak);
                if observation.outcome.succeeded() {
                    self.admission.learn(job.cell, PastRun { peak, wall, elapsed });
                }
                self.admission.pay(peak.unwrap_or(Bytes::ZERO), wall);
                let running = self.running.iter().map(|(job, _, since)| (job.cell, since.elapsed())).collect();
                let left = Left { schedule: self.schedule, admission: self.admission, running, jobs: self.jobs };
                if let Err(error) = self.recorder.keep(job, observation, &left) {
                    self.fail(SweepError::Keep(error));
                }
            }
            Ok(None) => self.schedule.put_back(job),
            // Ctrl-C reaches any other program of the run, too.
            Err(_) if matches!(self.stop, Some(Stop::Interrupted(_))) => self.schedule.put_back(job),
            Err(error) => {
                self.stop.get_or_insert(Stop::Failure);
                self.failure.get_or_insert(SweepError::Run(error));
            }
        }
        let under_way = self.running.iter().any(|(other, ..)| other.cell == job.cell);
        let is_over = !under_way && (self.stop.is_some() || !self.schedule.has_more_of(job.cell));
        if is_over && let Err(error) = self.executor.leave(job.cell) {
            self.stop.get_or_insert(Stop::Failure);
            self.failure.get_or_insert(SweepError::Run(error));
        }
    }

    fn close(self) -> Result<End, SweepError<E::Error, R::Error>> {
        match (self.failure, self.stop) {
            (Some(failure), _) => Err(failure),
            (None, Some(Stop::Interrupted(signal))) => Ok(End::Interrupted(signal)),
            (None, Some(Stop::Budget)) => Ok(End::Budget),
            (None, Some(Stop::EngineLost)) => Ok(End::EngineLost),
            (None, Some(Stop::RunsLost)) => Ok(End::RunsLost),
            (None, None | Some(Stop::Failure)) if self.schedule.is_known() && self.schedule.left() > 0 => {
                Ok(End::Known)
            }
            (None, None | Some(Stop::Failure)) => Ok(End::Done),
        }
    }
}

#[cfg(test)]
mod tests;
