//! A scripted run for tests of what becomes of a run: no process, no cgroup, a few milliseconds.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use crate::model::signal::Signal;
use nix::unistd::{pipe, write};

use super::monitor::{Cancel, Request};
use crate::host::HostError;
use crate::host::memory::Split;
use crate::host::processes::LargestProcesses;
use crate::model::observation::{Events, Exactness, Limits, Peak, PeakSource, RunnerKind};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::patience::Patience;
use crate::runner::{End, FinishError, Finished, Runner, Running, Sample, StartError};

/// The error bound of every scripted peak.
pub(super) const ERROR_BOUND: Bytes = Bytes(512 << 10);

pub(super) fn mib(mib: u64) -> Bytes {
    Bytes(mib << 20)
}

/// A sample with this usage, all of it anonymous memory.
pub(super) fn sample(current: Bytes) -> Sample {
    let zero = Reading::Value(Bytes::ZERO);
    let split = Split { anon: Reading::Value(current), file: zero, shmem: zero, kernel: zero, swap: zero };
    Sample { current, split: Reading::Value(split) }
}

/// A run that exits with 0 after an exact peak of 100 MiB, without a limit.
pub(super) fn finished() -> Finished {
    Finished {
        end: End::Exited(0),
        peak: Reading::Value(Peak {
            bytes: mib(100),
            source: PeakSource::OwnCgroup,
            file: None,
            exactness: Exactness::Exact { error_bound_bytes: ERROR_BOUND },
            upper_bound: None,
        }),
        last: Reading::Gone,
        swap_peak: Reading::Unsupported,
        limit: Limits { own: Reading::Value(None), effective: Reading::Value(None), copied_from: None },
        held_back_from_above: false,
        events: Reading::Value(events(0, 0)),
        cpu: Reading::Unsupported,
        throttling: Reading::Unsupported,
        writable_layer: Reading::Unsupported,
        io: Reading::Unsupported,
        pids_peak: Reading::Unsupported,
        pressure: Reading::Unsupported,
        leftover_processes: Reading::Value(0),
        survivors: Vec::new(),
        problems: Vec::new(),
        contained: None,
    }
}

pub(super) fn events(limit_hits: u64, oom_kills: u64) -> Events {
    Events { limit_hits: Reading::Value(limit_hits), ooms: Reading::Unsupported, oom_kills: Reading::Value(oom_kills) }
}

/// When the first process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// By itself, once all samples of the script have been taken.
    AfterSamples,
    /// When it is sent this signal.
    On(Signal),
    /// Never, not even when killed.
    Never,
}

/// Starts the run that the script describes, once.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) samples: Vec<Result<Reading<Sample>, HostError>>,
    /// The largest processes at any time.
    pub(super) largest: LargestProcesses,
    /// Whether it can notify us of its usage.
    pub(super) notifies: bool,
    pub(super) ends: Ends,
    pub(super) finished: Finished,
    /// The signals sent to the run.
    pub(super) signals: Rc<RefCell<Vec<Signal>>>,
}

impl Script {
    /// Samples with these usages, and the end after the last of them.
    pub(super) fn new(usages: &[Bytes], finished: Finished) -> Self {
        let samples = usages.iter().map(|usage| Ok(Reading::Value(sample(*usage)))).collect();
        Self {
            samples,
            largest: LargestProcesses::default(),
            notifies: false,
            ends: Ends::AfterSamples,
            finished,
            signals: Rc::default(),
        }
    }

    /// The running run.
    pub(super) fn start(self) -> ScriptedRun {
        let (ended, end) = pipe().unwrap();
        let Self { samples, largest, notifies, ends, finished, signals } = self;
        let run = ScriptedRun {
            started: Instant::now(),
            samples: samples.into(),
            looked_at: None,
            largest,
            notifies,
            ends,
            finished,
            signals,
            ended,
            end,
        };
        run.end_without_samples();
        run
    }
}

/// A [`Script`] can start only one run.
#[derive(Debug)]
pub(super) struct Once(pub(super) Option<Script>);

impl Runner for Once {
    fn start(&mut self, _: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        Ok(Box::new(self.0.take().unwrap().start()))
    }
}

#[derive(Debug)]
pub(super) struct ScriptedRun {
    started: Instant,
    samples: VecDeque<Result<Reading<Sample>, HostError>>,
    /// The sample whose usage was read, until the next one.
    looked_at: Option<Sample>,
    largest: LargestProcesses,
    notifies: bool,
    ends: Ends,
    finished: Finished,
    signals: Rc<RefCell<Vec<Signal>>>,
    ended: OwnedFd,
    end: OwnedFd,
}

impl ScriptedRun {
    fn end(&self) {
        write(&self.end, b".").unwrap();
    }

    fn end_without_samples(&self) {
        if self.samples.is_empty() && self.ends == Ends::AfterSamples {
            self.end();
        }
    }
}

impl Running for ScriptedRun {
    fn kind(&self) -> RunnerKind {
        RunnerKind::Process
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    fn usage(&mut self) -> Result<Reading<Bytes>, HostError> {
        self.looked_at = None;
        let sample = self.sample()?;
        self.looked_at = sample.value();
        Ok(sample.map(|sample| sample.current))
    }

    fn notify_above(&mut self, _: Bytes) -> Option<OwnedFd> {
        self.notifies.then(|| pipe().unwrap().0)
    }

    fn sample(&mut self) -> Result<Reading<Sample>, HostError> {
        if let Some(sample) = self.looked_at.take() {
            return Ok(Reading::Value(sample));
        }
        let sample = self.samples.pop_front().unwrap_or(Ok(Reading::Gone));
        self.end_without_samples();
        sample
    }

    fn largest_processes(&mut self, most: usize) -> LargestProcesses {
        let mut largest = self.largest.clone();
        largest.largest.truncate(most);
        largest
    }

    fn signal(&mut self, signal: Signal) -> io::Result<()> {
        self.signals.borrow_mut().push(signal);
        if self.ends == Ends::On(signal) {
            self.end();
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _: &mut Patience<'_>) -> Result<Finished, FinishError> {
        Ok(self.finished)
    }
}

/// Asks highwater to stop, with one request after the other.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: VecDeque<Request>,
    readable: OwnedFd,
    /// Kept open: a pipe without a writer is always readable.
    _writable: OwnedFd,
}

impl Requests {
    pub(super) fn new(requests: impl IntoIterator<Item = Request>) -> Self {
        let (readable, writable) = pipe().unwrap();
        let waiting: VecDeque<Request> = requests.into_iter().collect();
        write(&writable, &vec![b'.'; waiting.len()]).unwrap();
        Self { waiting, readable, _writable: writable }
    }
}

impl Cancel for Requests {
    fn requested(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        let request = self.waiting.pop_front()?;
        nix::unistd::read(&self.readable, &mut [0]).unwrap();
        Some(request)
    }
}
