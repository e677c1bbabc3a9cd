//! How long a runner may wait for others, such as a container engine.

use std::io;
use std::os::fd::BorrowedFd;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

/// How long others may take after the first request to end.
const AFTER_REQUEST: Duration = Duration::from_secs(10);
/// How long they may take after the second one, which asks for the end at any price.
const AFTER_SECOND_REQUEST: Duration = Duration::from_secs(5);
/// How long each further answer may take once one has not come in time.
const AFTER_SILENCE: Duration = Duration::from_secs(3);

/// Tells that the run is to be ended before its time.
pub trait Cancel {
    /// Readable when there is something to take.
    fn requested(&self) -> BorrowedFd<'_>;

    /// The request, if there is one.
    fn take(&mut self) -> Option<Request>;
}

/// That highwater was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The signal it was told with.
    pub signal: Signal,
    /// Whether the task was sent the same, as by Ctrl-C on a terminal.
    pub task_knows: bool,
}

/// Requests to end, counted over the whole run, and the time that they leave.
pub struct Patience<'a> {
    cancel: Option<&'a mut dyn Cancel>,
    /// How many requests have come.
    requests: u32,
    /// The first one, if it came while a runner waited: for whoever watches the run.
    kept: Option<Request>,
    /// When waiting for a start ends.
    start_until: Option<Instant>,
    /// When all waiting ends, because highwater was told to end.
    until: Option<Instant>,
    /// What was asked for and not answered in time.
    unanswered: Vec<String>,
}

impl<'a> Patience<'a> {
    /// Waits until `cancel` asks for the end.
    pub fn new(cancel: Option<&'a mut dyn Cancel>) -> Self {
        Self { cancel, requests: 0, kept: None, start_until: None, until: None, unanswered: Vec::new() }
    }

    /// Waits no longer than this for the start of the task; what comes after the start has other limits.
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

    /// Notes that this was not answered in time.
    pub(super) fn note_unanswered(&mut self, action: &str) {
        self.unanswered.push(action.to_owned());
    }

    /// What was not answered in time so far.
    pub(super) fn unanswered(&self) -> &[String] {
        &self.unanswered
    }

    /// Whether highwater was told to end.
    pub(super) fn was_requested(&self) -> bool {
        self.requests > 0
    }

    /// Readable when there may be a request, if anybody can make one.
    pub(crate) fn requested(&self) -> Option<BorrowedFd<'_>> {
        self.cancel.as_deref().map(Cancel::requested)
    }

    /// Whether a request came while a runner waited.
    pub(crate) fn has_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The next request, for whoever watches the run.
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

    /// Takes a request while a runner waits. The first one leaves some time; the second one leaves none.
    pub(super) fn note(&mut self) {
        let Some(request) = self.cancel.as_deref_mut().and_then(Cancel::take) else { return };
        self.requests += 1;
        if self.requests > 1 {
            self.shorten(Duration::ZERO);
        } else {
            self.kept = Some(request);
            self.shorten(AFTER_REQUEST);
        }
    }
}

/// Waits for a program of somebody else's; one that takes longer is killed, and has no status.
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
