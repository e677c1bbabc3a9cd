//! Runs the cells of a plan: which run comes next, whether the host has the memory for it, and what became of it.

mod admission;
mod case;
mod forecast;
mod relay;
mod schedule;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use self::relay::{Bell, Line, LineEnd};
use super::monitor::{Cancel, Observer, Request};
use crate::model::observation::Observation;
use crate::model::units::Bytes;

pub use self::admission::{Admission, Budget};
pub use self::case::{Case, CaseError, CaseInput, Given, Variation, cases};
pub use self::forecast::{Expected, Forecast};
pub use self::schedule::{Retry, Runs, Schedule};

/// A run of a sweep: which cell of the plan, and which run of it, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// The place of the cell in the plan.
    pub cell: usize,
    /// Which run of the cell.
    pub run: u32,
}

/// Makes runs; called from several threads at a time.
pub trait Bench: Sync {
    /// Why a run could not be had.
    type Error: Send;

    /// Makes a run; `None` where it was cancelled before it began.
    ///
    /// # Errors
    /// Where it cannot be had. That the task fails is an observation.
    fn run(
        &self,
        job: Job,
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Option<Observation>, Self::Error>;

    /// Called when no run of a cell is under way or to come.
    ///
    /// # Errors
    /// Where something that is to be done then cannot be.
    fn leave(&self, cell: usize) -> Result<(), Self::Error>;
}

/// Keeps what was observed; called from one thread.
pub trait Keeper {
    /// Why something could not be kept.
    type Error;

    /// A run begins; what comes back is shown how it gets on.
    ///
    /// # Errors
    /// Where nothing could be kept of it: it does not begin then.
    fn begins(&mut self, job: Job, admission: &Admission<'_>) -> Result<Box<dyn Observer + Send>, Self::Error>;

    /// A run has ended.
    ///
    /// # Errors
    /// Where it cannot be kept: no other run begins then.
    fn keep(&mut self, job: Job, observation: Observation, left: &Left<'_>) -> Result<(), Self::Error>;
}

/// What is still to come.
pub struct Left<'a> {
    schedule: &'a Schedule,
    forecast: &'a Forecast,
    under_way: usize,
}

impl Left<'_> {
    /// How many runs, with those under way.
    pub fn runs(&self) -> usize {
        self.schedule.left() + self.under_way
    }

    /// How long those that have not begun will take one after the other, where something is known of every one.
    pub fn time(&self) -> Option<Duration> {
        self.schedule.pending().map(|job| self.forecast.of(job.cell).time).sum()
    }
}

/// How a sweep came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every run of the plan is recorded.
    Done,
    /// It was told to end.
    Interrupted(Signal),
    /// The next run would cost more than is left.
    Budget,
    /// The container engine went away.
    EngineLost,
}

/// Why a sweep came to no good end.
#[derive(Debug)]
pub enum SweepError<B, K> {
    /// A run could not be had.
    Run(B),
    /// A run could not be kept.
    Keep(K),
    /// The machine cannot wait.
    Wait(std::io::Error),
}

type Failure<B, K> = SweepError<<B as Bench>::Error, <K as Keeper>::Error>;

/// A line to a run, its other end, and who is shown how it gets on.
type Begun = (Line, LineEnd, Box<dyn Observer + Send>);

/// What a worker has to say.
enum Word<E> {
    Ended(Job, Result<Option<Observation>, E>),
}

/// Makes all runs of the schedule, at most `jobs` at a time and no more than there is memory for.
///
/// # Errors
/// The first thing that went wrong; no run is under way then.
pub fn sweep<B: Bench, K: Keeper>(
    bench: &B,
    keeper: &mut K,
    schedule: &mut Schedule,
    admission: &mut Admission<'_>,
    jobs: usize,
    cancel: &mut dyn Cancel,
) -> Result<End, SweepError<B::Error, K::Error>> {
    let bell = Bell::new().map_err(SweepError::Wait)?;
    let (said, heard) = mpsc::channel();
    thread::scope(|scope| {
        let mut desk = Desk { bench, keeper, schedule, admission, running: Vec::new(), stop: None, failure: None };
        loop {
            while desk.stop.is_none() && desk.running.len() < jobs {
                let Some(job) = desk.next() else { break };
                let (line, mut end, mut watcher) = match desk.begin(job) {
                    Ok(begun) => begun,
                    Err(failure) => {
                        desk.fail(failure);
                        break;
                    }
                };
                let (said, rung) = (said.clone(), bell.handle());
                desk.running.push((job, line));
                scope.spawn(move || {
                    let result = bench.run(job, &mut end, &mut *watcher);
                    drop(watcher);
                    // Nobody hears where the sweep has failed meanwhile.
                    let _ = said.send(Word::Ended(job, result));
                    rung.ring();
                });
            }
            if desk.running.is_empty() {
                return desk.close();
            }
            if let Err(error) = wait(&bell, cancel) {
                desk.fail(SweepError::Wait(error));
            }
            bell.hush();
            if let Some(request) = cancel.take() {
                desk.interrupt(request);
            }
            while let Ok(Word::Ended(job, result)) = heard.try_recv() {
                desk.ended(job, result);
            }
        }
    })
}

/// Waits for the end of a run or a request.
fn wait(bell: &Bell, cancel: &dyn Cancel) -> std::io::Result<()> {
    let mut files = [PollFd::new(bell.heard(), PollFlags::POLLIN), PollFd::new(cancel.requested(), PollFlags::POLLIN)];
    match poll(&mut files, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Why no other run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Interrupted(Signal),
    Budget,
    EngineLost,
    Failure,
}

/// What the thread in charge knows.
struct Desk<'a, 'b, B: Bench, K: Keeper> {
    bench: &'a B,
    keeper: &'a mut K,
    schedule: &'a mut Schedule,
    admission: &'a mut Admission<'b>,
    running: Vec<(Job, Line)>,
    stop: Option<Stop>,
    failure: Option<SweepError<B::Error, K::Error>>,
}

impl<B: Bench, K: Keeper> Desk<'_, '_, B, K> {
    /// The next run that there is room for.
    fn next(&mut self) -> Option<Job> {
        let Self { schedule, admission, running, .. } = self;
        if admission.is_spent(schedule) {
            self.stop = running.is_empty().then_some(Stop::Budget);
            return None;
        }
        let job = schedule.take(|cell| admission.admits(cell))?;
        admission.enter(job.cell);
        Some(job)
    }

    fn interrupt(&mut self, request: Request) {
        self.stop.get_or_insert(Stop::Interrupted(request.signal));
        self.running.iter().for_each(|(_, line)| line.send(request));
    }

    /// A line to the run, and who is shown how it gets on.
    fn begin(&mut self, job: Job) -> Result<Begun, Failure<B, K>> {
        let begun = Line::new().map_err(SweepError::Wait).and_then(|(line, end)| {
            let observer = self.keeper.begins(job, self.admission).map_err(SweepError::Keep)?;
            Ok((line, end, observer))
        });
        if begun.is_err() {
            self.admission.leave(job.cell);
            self.schedule.put_back(job);
        }
        begun
    }

    /// Nothing more can be kept: what is under way is ended.
    fn fail(&mut self, failure: Failure<B, K>) {
        self.stop.get_or_insert(Stop::Failure);
        self.failure.get_or_insert(failure);
        let request = Request { signal: Signal::SIGTERM, task_knows: false };
        self.running.iter().for_each(|(_, line)| line.send(request));
    }

    fn ended(&mut self, job: Job, result: Result<Option<Observation>, B::Error>) {
        self.running.retain(|(running, _)| *running != job);
        self.admission.leave(job.cell);
        match result {
            Ok(Some(observation)) => {
                let peak = observation.peak.as_ref().value().map(|peak| peak.bytes);
                let wall = Duration::from_micros(observation.wall_us);
                // Whatever else asked for the end: this is what there is to be seen to.
                if observation.has_lost_engine() {
                    self.stop = Some(Stop::EngineLost);
                }
                self.schedule.ended(job, observation.outcome, peak);
                if observation.outcome.succeeded() {
                    self.admission.learn(job.cell, peak, wall);
                }
                self.admission.pay(peak.unwrap_or(Bytes::ZERO), wall);
                let under_way = self.running.len();
                let left = Left { schedule: self.schedule, forecast: self.admission.forecast(), under_way };
                if let Err(error) = self.keeper.keep(job, observation, &left) {
                    self.fail(SweepError::Keep(error));
                }
            }
            Ok(None) => self.schedule.put_back(job),
            // Ctrl-C reaches whatever else was running for it, too.
            Err(_) if matches!(self.stop, Some(Stop::Interrupted(_))) => self.schedule.put_back(job),
            Err(error) => {
                self.stop.get_or_insert(Stop::Failure);
                self.failure.get_or_insert(SweepError::Run(error));
            }
        }
        let under_way = self.running.iter().any(|(other, _)| other.cell == job.cell);
        let is_over = !under_way && (self.stop.is_some() || !self.schedule.has_more_of(job.cell));
        if is_over && let Err(error) = self.bench.leave(job.cell) {
            self.stop.get_or_insert(Stop::Failure);
            self.failure.get_or_insert(SweepError::Run(error));
        }
    }

    fn close(self) -> Result<End, SweepError<B::Error, K::Error>> {
        match (self.failure, self.stop) {
            (Some(failure), _) => Err(failure),
            (None, Some(Stop::Interrupted(signal))) => Ok(End::Interrupted(signal)),
            (None, Some(Stop::Budget)) => Ok(End::Budget),
            (None, Some(Stop::EngineLost)) => Ok(End::EngineLost),
            (None, None | Some(Stop::Failure)) => Ok(End::Done),
        }
    }
}
