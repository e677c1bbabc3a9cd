//! A line on the terminal with the progress of a run.

use std::io::IsTerminal;
use std::time::Duration;

use highwater::calibrate::monitor::Observer;
use highwater::model::units::Bytes;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter runs need no progress line.
const AFTER: Duration = Duration::from_secs(1);

/// Shows elapsed time, current and highest memory, unless stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Live {
    /// A line that appears once a run takes a while, if wanted.
    pub(crate) fn new(wanted: bool) -> Self {
        Self { bar: None, wanted: wanted && std::io::stderr().is_terminal() }
    }
}

impl Observer for Live {
    fn sampled(&mut self, elapsed: Duration, current: Bytes, highest: Bytes) {
        if !self.wanted || elapsed < AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        bar.set_message(format!(
            "{} elapsed, {current} in use, {highest} highest",
            HumanDuration(Duration::from_secs(elapsed.as_secs()))
        ));
        bar.tick();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
