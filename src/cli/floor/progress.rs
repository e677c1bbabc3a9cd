//! A line on the terminal with the progress of a search and its estimated remaining time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use highwater::calibrate::floor::Search;
use highwater::calibrate::monitor::Observer;
use highwater::model::units::Bytes;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter searches need no progress line.
const AFTER: Duration = Duration::from_secs(1);

/// Shows nothing if stderr is not a terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    wanted: bool,
    since: Instant,
    /// When the first try began.
    tries_since: Option<Instant>,
    limit: Option<Bytes>,
    /// The state of the search.
    stage: String,
}

impl Progress {
    /// A line that appears once the search takes a while, if wanted.
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            bar: None,
            wanted: wanted && std::io::stderr().is_terminal(),
            since: Instant::now(),
            tries_since: None,
            limit: None,
            stage: String::new(),
        }
    }

    /// A run begins.
    pub(super) fn start(&mut self, limit: Option<Bytes>) {
        self.limit = limit;
    }

    /// A try is about to begin.
    pub(super) fn next(&mut self, search: &Search, done: usize) {
        let since = *self.tries_since.get_or_insert_with(Instant::now);
        let left = search.tries_left();
        let mut stage = match (search.not_enough(), search.enough()) {
            (Some(not_enough), Some(enough)) => format!("between {not_enough} and {enough}"),
            (None, Some(enough)) => format!("below {enough}"),
            (Some(not_enough), None) => format!("above {not_enough}"),
            (None, None) => String::new(),
        };
        stage += &format!(", about {left} {} left", if left == 1 { "try" } else { "tries" });
        if let Some(each) = u32::try_from(done).ok().and_then(|done| since.elapsed().checked_div(done)) {
            stage += &format!(" in {}", HumanDuration(Duration::from_secs((each * left).as_secs().max(1))));
        }
        self.stage = stage;
    }
}

impl Observer for Progress {
    fn sampled(&mut self, _: Duration, current: Bytes, _: Bytes) {
        if !self.wanted || self.since.elapsed() < AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        bar.set_message(match self.limit {
            None => format!("without a limit: {current} in use"),
            Some(limit) => format!("under {limit}: {current} in use; {}", self.stage),
        });
        bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
