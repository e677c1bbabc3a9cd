//! Stops a run that does not end by itself: terminates, then kills, then abandons it.

use std::time::Duration;

use crate::model::signal::Signal;

use super::{Request, Stop, WatchOptions};
use crate::runner::Running;

/// How long the first process may survive SIGKILL before the run is finished without its end. The runner then kills
/// what is left and checks again.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) stop: Option<Stop>,
    pub(super) asked_at: Option<Duration>,
    killed_at: Option<Duration>,
}

impl Ending {
    /// The time of the next action.
    pub(super) fn next(&self, options: &WatchOptions) -> Option<Duration> {
        match (self.asked_at, self.killed_at) {
            (_, Some(killed_at)) => Some(killed_at + GIVEN_UP_AFTER),
            (Some(asked_at), None) => Some(asked_at + options.kill_after),
            (None, None) => options.timeout,
        }
    }

    /// Whether the time to end after SIGKILL is over.
    pub(super) fn is_given_up(&self, elapsed: Duration) -> bool {
        self.killed_at.is_some_and(|killed_at| elapsed >= killed_at + GIVEN_UP_AFTER)
    }

    pub(super) fn request(
        &mut self,
        run: &mut dyn Running,
        request: Request,
        elapsed: Duration,
    ) -> Result<(), std::io::Error> {
        if self.asked_at.is_some() {
            // The second request: do not wait any longer.
            return self.kill(run, elapsed);
        }
        self.stop = Some(Stop::Interrupted(request.signal));
        self.asked_at = Some(elapsed);
        if request.task_knows && run.shares_terminal() { Ok(()) } else { run.signal(request.signal) }
    }

    pub(super) fn keep_time(
        &mut self,
        run: &mut dyn Running,
        options: &WatchOptions,
        elapsed: Duration,
    ) -> Result<(), std::io::Error> {
        match (self.asked_at, options.timeout) {
            (None, Some(timeout)) if elapsed >= timeout => {
                self.stop = Some(Stop::TimedOut(timeout));
                self.asked_at = Some(elapsed);
                run.signal(Signal::SIGTERM)
            }
            (Some(asked_at), _) if self.killed_at.is_none() && elapsed >= asked_at + options.kill_after => {
                self.kill(run, elapsed)
            }
            _ => Ok(()),
        }
    }

    /// Kills the task; the time until the run is abandoned counts from the first kill.
    fn kill(&mut self, run: &mut dyn Running, elapsed: Duration) -> Result<(), std::io::Error> {
        self.killed_at.get_or_insert(elapsed);
        run.signal(Signal::SIGKILL)
    }
}
