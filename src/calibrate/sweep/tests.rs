//! Sweeps whose runs are scripted: which run is next, what stops a sweep, and what it leaves.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex};

use nix::unistd::{pipe, write};

use super::super::scripted::Requests;
use super::*;
use crate::model::observation::Outcome;
use crate::model::plan::Order;
use crate::model::reading::Reading;

const FINE: Outcome = Outcome::Exited { status: 0 };
const CTRL_C: Request = Request { signal: Signal::SIGINT, task_knows: true };
/// Long enough for other threads on a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What becomes of a run.
#[derive(Clone, Copy)]
enum Script {
    /// It ends like this, with this peak in MiB, after this many seconds.
    Ends(Outcome, u64, u64),
    /// It takes until it is cancelled, and is recorded as interrupted.
    Lasts,
    /// It is cancelled before it starts.
    IsWithdrawn,
    /// It is not possible.
    Fails,
    /// It panics.
    Panics,
    /// It is not possible because of the request that cancels it, as when Ctrl-C ends a program it needs.
    FailsWhenCancelled,
}

use Script::{Ends, Fails, FailsWhenCancelled, IsWithdrawn, Lasts, Panics};

/// Executes the scripts of each cell in order, the last one as often as needed.
struct FakeExecutor {
    scripts: Mutex<Vec<VecDeque<Script>>>,
    started: Mutex<Vec<(usize, u32)>>,
    left: Mutex<Vec<usize>>,
    /// The number of runs in progress, and the most so far.
    running: Mutex<(usize, usize)>,
    changed: Condvar,
    /// No run ends before this many have been in progress at a time.
    together: usize,
    leave_fails: bool,
    /// Requests to stop, made as this run ends.
    interrupts: Option<((usize, u32), OwnedFd)>,
}

impl FakeExecutor {
    fn new(scripts: &[&[Script]]) -> Self {
        Self {
            scripts: Mutex::new(scripts.iter().map(|scripts| scripts.iter().copied().collect()).collect()),
            started: Mutex::default(),
            left: Mutex::default(),
            running: Mutex::default(),
            changed: Condvar::new(),
            together: 1,
            leave_fails: false,
            interrupts: None,
        }
    }

    fn script(&self, cell: usize) -> Script {
        let scripts = &mut self.scripts.lock().unwrap()[cell];
        if scripts.len() > 1 { scripts.pop_front().unwrap() } else { scripts[0] }
    }

    fn enter(&self) {
        let mut running = self.running.lock().unwrap();
        running.0 += 1;
        running.1 = running.1.max(running.0);
        self.changed.notify_all();
        let (_running, waited) =
            self.changed.wait_timeout_while(running, PATIENCE, |running| running.1 < self.together).unwrap();
        assert!(!waited.timed_out(), "fewer than {} runs at a time", self.together);
    }
}

impl Executor for FakeExecutor {
    type Error = &'static str;

    fn run(
        &self,
        job: Job,
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Option<Observation>, Self::Error> {
        self.started.lock().unwrap().push((job.cell, job.run));
        self.enter();
        observer.sampled(Duration::ZERO, Bytes::MIB, Bytes::MIB);
        let result = match self.script(job.cell) {
            Ends(outcome, mib, seconds) => Ok(Some(observation(outcome, mib, seconds))),
            Lasts => {
                let signal = cancelled(cancel).signal.0;
                Ok(Some(observation(Outcome::Interrupted { signal }, 1, 1)))
            }
            IsWithdrawn => {
                cancelled(cancel);
                Ok(None)
            }
            Fails => Err("no such program"),
            Panics => panic!("a fault of the executor"),
            FailsWhenCancelled => {
                cancelled(cancel);
                Err("the engine's client was killed")
            }
        };
        if let Some((last, request)) = &self.interrupts
            && *last == (job.cell, job.run)
        {
            write(request, b".").unwrap();
        }
        self.running.lock().unwrap().0 -= 1;
        result
    }

    fn leave(&self, cell: usize) -> Result<(), Self::Error> {
        self.left.lock().unwrap().push(cell);
        if self.leave_fails { Err("the inputs cannot be removed") } else { Ok(()) }
    }
}

fn cancelled(cancel: &mut dyn Cancel) -> Request {
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    let ready = poll(&mut [PollFd::new(cancel.requested(), PollFlags::POLLIN)], timeout).unwrap();
    assert_eq!(ready, 1, "the run was not cancelled");
    cancel.take().unwrap()
}

fn observation(outcome: Outcome, mib: u64, seconds: u64) -> Observation {
    let records = include_str!("../../../fixtures/records/segment/observations.jsonl");
    let mut observation: Observation = serde_json::from_str(records.lines().next().unwrap()).unwrap();
    observation.outcome = outcome;
    observation.wall_us = seconds * 1_000_000;
    if let Reading::Value(peak) = &mut observation.peak {
        peak.bytes = Bytes(mib << 20);
    }
    observation
}

/// Keeps records in memory; the disk may be full from one of them on.
#[derive(Default)]
struct FakeRecorder {
    begun: Vec<(usize, u32)>,
    /// The run, its outcome, and the runs left.
    kept: Vec<((usize, u32), Outcome, usize)>,
    /// How many records there is room for; `None` for any number.
    room: Option<usize>,
    /// How many runs may begin.
    may_begin: Option<usize>,
}

impl FakeRecorder {
    fn kept(&self) -> Vec<(usize, u32)> {
        self.kept.iter().map(|(job, _, _)| *job).collect()
    }
}

impl Recorder for FakeRecorder {
    type Error = &'static str;

    fn begins(&mut self, job: Job, _: &Admission<'_>) -> Result<Box<dyn Observer + Send>, Self::Error> {
        if self.may_begin == Some(self.begun.len()) {
            return Err("the log cannot be created");
        }
        self.begun.push((job.cell, job.run));
        Ok(Box::new(()))
    }

    fn keep(&mut self, job: Job, observation: Observation, left: &Left<'_>) -> Result<(), Self::Error> {
        if self.room == Some(self.kept.len()) {
            return Err("no space left on device");
        }
        self.kept.push(((job.cell, job.run), observation.outcome, left.runs()));
        Ok(())
    }
}

/// Requests nothing.
fn no_requests() -> Requests {
    Requests::new([])
}

/// A request that arrives when something is written to a pipe.
struct Later(OwnedFd, Option<Request>);

impl Later {
    fn new() -> (Self, OwnedFd) {
        let (readable, writable) = pipe().unwrap();
        (Self(readable, Some(CTRL_C)), writable)
    }
}

impl Cancel for Later {
    fn requested(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let ready = poll(&mut [PollFd::new(self.requested(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap();
        let request = (ready > 0).then(|| self.1.take()).flatten()?;
        nix::unistd::read(&self.0, &mut [0]).unwrap();
        Some(request)
    }
}

/// A sweep of cells named a, b, c …
struct Sweep {
    schedule: Schedule,
    recorder: FakeRecorder,
    jobs: usize,
    budget: Option<Budget>,
    /// The memory for all runs, in MiB, and the forecast of each.
    memory: (u64, u64),
}

impl Sweep {
    fn new(cells: usize, runs: u32) -> Self {
        let keys = &["a", "b", "c", "d", "e", "f"][..cells];
        let runs = Repetitions { least: runs, most: runs, precision: 0.02 };
        let schedule = Schedule::new(keys, runs, Order::AsGiven, Retry::default(), &[]);
        Self { schedule, recorder: FakeRecorder::default(), jobs: 1, budget: None, memory: (1000, 10) }
    }

    fn run(&mut self, executor: &FakeExecutor, cancel: &mut dyn Cancel) -> Result<End, String> {
        let (capacity, need) = self.memory;
        let cell = ForecastCell { n: 1.0, group: 0, predicted: Some(Bytes(need << 20)) };
        let forecast = Forecast::new([cell; 6], None);
        let mut admission = Admission::new(forecast, Some(Bytes(capacity << 20)), || None, self.budget);
        let ended = sweep(executor, &mut self.recorder, &mut self.schedule, &mut admission, self.jobs, cancel);
        let running = executor.running.lock().unwrap().0;
        assert_eq!(running, 0, "no run is in progress when a sweep has ended");
        ended.map_err(|error| match error {
            SweepError::Run(error) => format!("run: {error}"),
            SweepError::Keep(error) => format!("keep: {error}"),
            SweepError::Wait(error) => format!("wait: {error}"),
        })
    }

    fn pending(&self) -> Vec<(usize, u32)> {
        self.schedule.pending().map(|job| (job.cell, job.run)).collect()
    }
}

fn started(executor: &FakeExecutor) -> Vec<(usize, u32)> {
    executor.started.lock().unwrap().clone()
}

fn left(executor: &FakeExecutor) -> Vec<usize> {
    executor.left.lock().unwrap().clone()
}

#[test]
fn runs_come_in_the_order_of_the_plan_and_cells_are_left_when_they_are_over() {
    let executor = FakeExecutor::new(&[&[Ends(FINE, 10, 1)], &[Ends(FINE, 20, 1)]]);
    let mut sweep = Sweep::new(2, 2);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
    let order = [(0, 1), (0, 2), (1, 1), (1, 2)];
    assert_eq!(
        (started(&executor), sweep.recorder.begun.clone(), sweep.recorder.kept()),
        (order.into(), order.into(), order.into())
    );
    let remaining: Vec<usize> = sweep.recorder.kept.iter().map(|(_, _, left)| *left).collect();
    assert_eq!((remaining, left(&executor)), (vec![3, 2, 1, 0], vec![0, 1]));
}

#[test]
fn a_task_that_fails_is_a_record_and_the_next_run_starts() {
    let failed = Outcome::Exited { status: 1 };
    let executor = FakeExecutor::new(&[&[Ends(failed, 10, 1), Ends(Outcome::OomKilled, 10, 1)], &[Ends(FINE, 20, 1)]]);
    let mut sweep = Sweep::new(2, 2);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
    let outcomes: Vec<Outcome> = sweep.recorder.kept.iter().map(|(_, outcome, _)| *outcome).collect();
    assert_eq!(outcomes, [failed, Outcome::OomKilled, FINE, FINE]);
}

#[test]
fn an_interrupted_run_is_repeated_by_the_next_sweep() {
    let executor = FakeExecutor::new(&[&[Lasts, Ends(FINE, 10, 1)]]);
    let mut sweep = Sweep::new(1, 2);
    assert_eq!(sweep.run(&executor, &mut Requests::new([CTRL_C])), Ok(End::Interrupted(Signal::SIGINT)));
    assert_eq!(sweep.recorder.kept, [((0, 1), Outcome::Interrupted { signal: 2 }, 2)]);
    assert_eq!((sweep.pending(), left(&executor)), (vec![(0, 1), (0, 2)], vec![0]));
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
    assert_eq!(started(&executor), [(0, 1), (0, 1), (0, 2)]);
}

#[test]
fn a_run_that_was_cancelled_before_it_started_leaves_no_record() {
    let executor = FakeExecutor::new(&[&[IsWithdrawn]]);
    let mut sweep = Sweep::new(1, 1);
    assert_eq!(sweep.run(&executor, &mut Requests::new([CTRL_C])), Ok(End::Interrupted(Signal::SIGINT)));
    assert_eq!((sweep.recorder.kept(), sweep.pending()), (vec![], vec![(0, 1)]));
}

#[test]
fn an_interrupt_reaches_every_run() {
    let executor =
        FakeExecutor { together: 3, ..FakeExecutor::new(&[&[Lasts], &[IsWithdrawn], &[FailsWhenCancelled]]) };
    let mut sweep = Sweep { jobs: 3, ..Sweep::new(3, 1) };
    // The error is the fault of Ctrl-C, not of the run.
    assert_eq!(sweep.run(&executor, &mut Requests::new([CTRL_C])), Ok(End::Interrupted(Signal::SIGINT)));
    assert_eq!((sweep.recorder.kept(), sweep.schedule.left()), (vec![(0, 1)], 3));
}

#[test]
fn an_interrupt_between_two_runs_keeps_the_first_and_starts_no_other() {
    let (mut later, request) = Later::new();
    let executor = FakeExecutor { interrupts: Some(((0, 1), request)), ..FakeExecutor::new(&[&[Ends(FINE, 10, 1)]]) };
    let mut sweep = Sweep::new(1, 3);
    assert_eq!(sweep.run(&executor, &mut later), Ok(End::Interrupted(Signal::SIGINT)));
    assert_eq!((sweep.recorder.kept(), sweep.pending()), (vec![(0, 1)], vec![(0, 2), (0, 3)]));
    assert_eq!(left(&executor), [0]);
}

#[test]
fn as_many_runs_as_jobs_are_in_progress_and_no_more() {
    let fine: &[Script] = &[Ends(FINE, 10, 1)];
    let executor = FakeExecutor { together: 3, ..FakeExecutor::new(&[fine; 4]) };
    let mut sweep = Sweep { jobs: 3, ..Sweep::new(4, 2) };
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
    assert_eq!(executor.running.lock().unwrap().1, 3);
    let (mut kept, mut cells) = (sweep.recorder.kept(), left(&executor));
    kept.sort_unstable();
    cells.sort_unstable();
    assert_eq!(kept, (0..4).flat_map(|cell| [(cell, 1), (cell, 2)]).collect::<Vec<_>>());
    assert_eq!(cells, [0, 1, 2, 3], "each cell is left once");
}

#[test]
fn runs_wait_for_memory() {
    let fine: &[Script] = &[Ends(FINE, 40, 1)];
    let executor = FakeExecutor { together: 2, ..FakeExecutor::new(&[fine; 4]) };
    let mut sweep = Sweep { jobs: 4, memory: (100, 40), ..Sweep::new(4, 1) };
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
    assert_eq!((executor.running.lock().unwrap().1, sweep.recorder.kept.len()), (2, 4));
}

#[test]
fn a_budget_of_time_stops_before_the_run_that_would_exceed_it() {
    let executor = FakeExecutor::new(&[&[Ends(FINE, 10, 10)]]);
    let mut sweep = Sweep { budget: Some(Budget::Time(Duration::from_secs(25))), ..Sweep::new(1, 4) };
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Budget));
    assert_eq!((sweep.recorder.kept(), sweep.pending()), (vec![(0, 1), (0, 2)], vec![(0, 3), (0, 4)]));
}

#[test]
fn a_budget_of_memory_counts_the_runs_in_progress() {
    // The first three start together, because their cost is unknown. Each costs 100 MiB·s, and 10 % more is expected of
    // the next ones: beside those in progress there is no budget for a fourth.
    let executor = FakeExecutor { together: 3, ..FakeExecutor::new(&[&[Ends(FINE, 10, 10)]]) };
    let budget = Budget::Memory(340.0 * Bytes::MIB.0 as f64);
    let mut sweep = Sweep { jobs: 3, budget: Some(budget), ..Sweep::new(1, 9) };
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Budget));
    assert_eq!(sweep.recorder.kept.len(), 3);
}

#[test]
fn nothing_starts_once_a_record_cannot_be_kept() {
    let executor = FakeExecutor::new(&[&[Ends(FINE, 10, 1)]]);
    let mut sweep = Sweep::new(1, 4);
    sweep.recorder.room = Some(1);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Err("keep: no space left on device".to_owned()));
    assert_eq!((started(&executor), sweep.recorder.kept()), (vec![(0, 1), (0, 2)], vec![(0, 1)]));
    assert_eq!(left(&executor), [0]);
}

#[test]
fn runs_in_progress_are_cancelled_when_a_record_cannot_be_kept() {
    let executor = FakeExecutor { together: 3, ..FakeExecutor::new(&[&[Ends(FINE, 10, 1)], &[Lasts], &[IsWithdrawn]]) };
    let mut sweep = Sweep { jobs: 3, ..Sweep::new(3, 1) };
    sweep.recorder.room = Some(0);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Err("keep: no space left on device".to_owned()));
    let mut cells = left(&executor);
    cells.sort_unstable();
    assert_eq!(cells, [0, 1, 2]);
}

#[test]
fn a_run_whose_beginning_cannot_be_recorded_does_not_start() {
    let executor = FakeExecutor { together: 2, ..FakeExecutor::new(&[&[Lasts], &[Lasts], &[Lasts]]) };
    let mut sweep = Sweep { jobs: 3, ..Sweep::new(3, 1) };
    sweep.recorder.may_begin = Some(2);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Err("keep: the log cannot be created".to_owned()));
    assert_eq!(started(&executor).len(), 2);
    // The runs in progress were cancelled, and recorded as interrupted.
    assert_eq!((sweep.recorder.kept.len(), sweep.schedule.left()), (2, 3));
}

#[test]
fn no_run_starts_after_an_impossible_one() {
    let executor = FakeExecutor::new(&[&[Fails], &[Ends(FINE, 10, 1)]]);
    let mut sweep = Sweep::new(2, 1);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Err("run: no such program".to_owned()));
    assert_eq!((sweep.recorder.kept(), sweep.pending(), left(&executor)), (vec![], vec![(1, 1)], vec![0]));
}

#[test]
fn runs_beside_an_impossible_one_are_finished_and_kept() {
    let executor = FakeExecutor { together: 2, ..FakeExecutor::new(&[&[Fails], &[Ends(FINE, 10, 1)]]) };
    let mut sweep = Sweep { jobs: 2, ..Sweep::new(2, 1) };
    assert_eq!(sweep.run(&executor, &mut no_requests()), Err("run: no such program".to_owned()));
    assert_eq!(sweep.recorder.kept(), [(1, 1)]);
}

#[test]
fn a_cell_that_cannot_be_cleaned_up_ends_the_sweep() {
    let executor =
        FakeExecutor { leave_fails: true, ..FakeExecutor::new(&[&[Ends(FINE, 10, 1)], &[Ends(FINE, 10, 1)]]) };
    let mut sweep = Sweep::new(2, 1);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Err("run: the inputs cannot be removed".to_owned()));
    assert_eq!((sweep.recorder.kept(), left(&executor)), (vec![(0, 1)], vec![0]));
}

#[test]
fn a_lost_engine_stops_the_sweep_and_the_run_is_repeated_later() {
    let executor = FakeExecutor::new(&[&[Ends(FINE, 10, 1), Ends(Outcome::EngineLost, 0, 1), Ends(FINE, 10, 1)]]);
    let mut sweep = Sweep::new(1, 3);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::EngineLost));
    assert_eq!((sweep.recorder.kept(), sweep.pending()), (vec![(0, 1), (0, 2)], vec![(0, 2), (0, 3)]));
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
    assert_eq!(sweep.recorder.kept(), [(0, 1), (0, 2), (0, 2), (0, 3)]);
}

#[test]
fn a_lost_run_is_made_again_until_too_many_are_lost_in_a_row() {
    let lost = Ends(Outcome::Lost, 0, 1);
    let executor = FakeExecutor::new(&[&[lost, lost, Ends(FINE, 10, 1), lost, lost, lost, Ends(FINE, 10, 1)]]);
    let mut sweep = Sweep::new(1, 2);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::RunsLost));
    assert_eq!(sweep.pending(), [(0, 2)]);
    assert_eq!(sweep.run(&executor, &mut no_requests()), Ok(End::Done));
}

#[test]
fn cells_without_a_forecast_run_alone_however_many_jobs_there_are() {
    let fine: &[Script] = &[Ends(FINE, 10, 1)];
    let executor = FakeExecutor::new(&[fine; 3]);
    let mut sweep = Sweep { jobs: 3, ..Sweep::new(3, 1) };
    let mut admission = Admission::new(Forecast::new([], None), Some(Bytes::GIB), || None, None);
    let (recorder, schedule) = (&mut sweep.recorder, &mut sweep.schedule);
    let ended = super::sweep(&executor, recorder, schedule, &mut admission, sweep.jobs, &mut no_requests());
    assert!(matches!(ended, Ok(End::Done)));
    assert_eq!((executor.running.lock().unwrap().1, started(&executor)), (1, vec![(0, 1), (1, 1), (2, 1)]));
}

#[test]
#[should_panic(expected = "a scoped thread panicked")]
fn a_panic_of_a_run_ends_the_sweep_and_the_others() {
    let executor = FakeExecutor { together: 2, ..FakeExecutor::new(&[&[Panics], &[Lasts]]) };
    let _ = Sweep { jobs: 2, ..Sweep::new(2, 1) }.run(&executor, &mut no_requests());
}
