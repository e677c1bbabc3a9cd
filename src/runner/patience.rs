//! Limits how long a runner waits for other programs, such as a container engine.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::signal::Signal;
use nix::sys::eventfd::EventFd;

/// How long the engine may take after the first request to stop.
const AFTER_REQUEST: Duration = Duration::from_secs(10);
/// How long it may take after the second request, which ends the run in any case.
const AFTER_SECOND_REQUEST: Duration = Duration::from_secs(5);
/// How long each further response may take after one that timed out.
const AFTER_SILENCE: Duration = Duration::from_secs(3);

/// A source of requests to stop the run.
pub trait Cancel {
    /// Readable when there may be a request.
    fn requested(&self) -> BorrowedFd<'_>;

    /// Takes the next request, if any.
    fn take(&mut self) -> Option<Request>;
}

/// Never asks to stop.
#[derive(Debug)]
pub struct Never(EventFd);

impl Never {
    /// One of them; it takes a file descriptor.
    ///
    /// # Errors
    /// If there is none left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(EventFd::new()?))
    }
}

impl Cancel for Never {
    fn requested(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn take(&mut self) -> Option<Request> {
        None
    }
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The signal that made it.
    pub signal: Signal,
    /// Whether the task received the signal as well, as with Ctrl-C on a terminal.
    pub task_knows: bool,
}

/// Counts the requests to stop over the whole run, and limits waiting.
pub struct Patience<'a> {
    cancel: Option<&'a mut dyn Cancel>,
    /// How many requests have come.
    requests: u32,
    /// The first one, if it came while a runner waited; saved for the monitor.
    kept: Option<Request>,
    /// When waiting for a start ends.
    start_until: Option<Instant>,
    /// When all waiting ends, because highwater was asked to stop.
    until: Option<Instant>,
    /// The requests to the engine that were not answered in time.
    unanswered: Vec<String>,
}

impl<'a> Patience<'a> {
    /// Unlimited until a request comes from `cancel`.
    pub fn new(cancel: Option<&'a mut dyn Cancel>) -> Self {
        Self { cancel, requests: 0, kept: None, start_until: None, until: None, unanswered: Vec::new() }
    }

    /// Limits the wait for the start of the task, or lifts that limit.
    pub(crate) fn limit_start(&mut self, most: Option<Duration>) {
        self.start_until = most.and_then(|most| Instant::now().checked_add(most));
    }

    fn shorten(&mut self, most: Duration) {
        let until = Instant::now() + most;
        self.until = Some(self.until.map_or(until, |known| known.min(until)));
    }

    /// How much of `most` is left.
    pub(super) fn left(&self, most: Duration) -> Duration {
        let most = if self.unanswered.is_empty() { most } else { most.min(AFTER_SILENCE) };
        let ends = [self.start_until, self.until].into_iter().flatten();
        ends.fold(most, |most, until| until.saturating_duration_since(Instant::now()).min(most))
    }

    /// Readable when there may be a request; `None` without a source of requests.
    pub(crate) fn requested(&self) -> Option<BorrowedFd<'_>> {
        self.cancel.as_deref().map(Cancel::requested)
    }

    /// Whether a request came while a runner waited.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Takes the next request, for the monitor.
    pub(crate) fn take(&mut self) -> Option<Request> {
        self.kept.take().or_else(|| {
            let request = self.cancel.as_deref_mut()?.take()?;
            self.requests += 1;
            if self.requests > 1 {
                self.shorten(AFTER_SECOND_REQUEST);
            }
            Some(request)
        })
    }

    /// Takes a request while a runner waits. The first request leaves some time, the second none.
    pub(super) fn note(&mut self) {
        let Some(request) = self.cancel.as_deref_mut().and_then(Cancel::take) else { return };
        self.requests += 1;
        if self.requests > 1 {
            self.shorten(Duration::ZERO);
        } else {
            // A task that is still being started may not have received it.
            self.kept = Some(Request { task_knows: false, ..request });
            self.shorten(AFTER_REQUEST);
        }
    }
}

#[cfg(feature = "containers")]
impl Patience<'_> {
    /// Notes a request to the engine that was not answered in time.
    pub(super) fn note_unanswered(&mut self, action: &str) {
        self.unanswered.push(action.to_owned());
    }

    /// The requests to the engine that were not answered in time.
    pub(super) fn unanswered(&self) -> &[String] {
        &self.unanswered
    }

    /// Whether highwater was asked to stop.
    pub(super) fn was_requested(&self) -> bool {
        self.requests > 0
    }
}

/// Waits for an external program; kills one that takes longer and returns `None`.
pub(super) fn wait_for_child(child: &mut Child, most: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if started.elapsed() > most {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}
