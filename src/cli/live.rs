//! The line on a terminal that tells how a run is getting on.

use std::io::IsTerminal;
use std::time::Duration;

use highwater::calibrate::monitor::Observer;
use highwater::model::units::Bytes;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Nobody needs a live line for less.
const AFTER: Duration = Duration::from_secs(1);

/// Shows elapsed time, current and highest memory; nothing where stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Live {
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Live {
    /// A line that is shown once a run lasts, unless it is not wanted.
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
            "{} elapsed, {current} in use, {highest} the most seen",
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
