//! One line for each run as it ends, and a progress bar below them on a terminal.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater::calibrate::monitor::Observer;
use highwater::calibrate::sweep::Left;
use highwater::model::units::Bytes;
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output;

/// A progress bar of one line on any terminal; what does not fit is cut off.
const BAR: &str = "{pos}/{len} {bar:12} {elapsed} {wide_msg}";

/// How often the time left is estimated, at most.
const ESTIMATE_EVERY: Duration = Duration::from_millis(250);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The progress of a sweep.
pub(super) struct Progress {
    quiet: bool,
    ended: usize,
    /// The number of runs recorded before.
    before: usize,
    bar: Option<ProgressBar>,
    seen: Arc<Mutex<RunsInProgress>>,
    /// When the time left was estimated last.
    estimated: Option<Instant>,
}

/// The state of the current runs.
#[derive(Debug, Default)]
struct RunsInProgress {
    next: u64,
    /// The memory in use of each current run.
    current: Vec<(u64, Bytes)>,
    highest: Bytes,
    /// When the last run is expected to end.
    end: Option<Instant>,
}

impl RunsInProgress {
    fn message(&self) -> String {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()).as_secs_f64().round());
        let left = left.map(|left| format!("about {} left, ", HumanDuration(Duration::from_secs_f64(left))));
        let current: Bytes = self.current.iter().map(|(_, bytes)| *bytes).sum();
        format!("{}{current} in use, {} at most", left.unwrap_or_default(), self.highest)
    }
}

impl Progress {
    pub(super) fn new(quiet: bool, recorded: usize, left: usize) -> Self {
        let bar = (!quiet && left > 0 && std::io::stderr().is_terminal()).then(|| {
            let bar =
                ProgressBar::with_draw_target(Some((recorded + left) as u64), ProgressDrawTarget::stderr_with_hz(4));
            bar.set_style(ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(recorded as u64);
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { quiet, ended: 0, before: recorded, bar, seen: Arc::default(), estimated: None }
    }

    /// An observer for one run.
    pub(super) fn watcher(&self) -> Watcher {
        let mut seen = lock(&self.seen);
        seen.next += 1;
        Watcher { number: seen.next, bar: self.bar.clone(), seen: Arc::clone(&self.seen) }
    }

    /// Shows a finished run.
    pub(super) fn ended(&mut self, line: &str, left: &Left<'_>) {
        self.ended += 1;
        let done = self.before + self.ended;
        let total = done + left.runs();
        if let Some(bar) = &self.bar {
            // Each cell that is left takes time to estimate, and more of them are recorded at once on a cluster.
            if self.estimated.is_none_or(|last| last.elapsed() >= ESTIMATE_EVERY) {
                self.estimated = Some(Instant::now());
                lock(&self.seen).end = left.time().and_then(|time| Instant::now().checked_add(time));
            }
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            bar.set_message(lock(&self.seen).message());
        }
        if self.quiet {
            return;
        }
        let width = total.to_string().len();
        let line = format!("{done:>width$}/{total} {}", crate::cli::table::printable(line));
        match &self.bar {
            Some(bar) => bar.suspend(|| output::say(&line)),
            None => output::say(&line),
        }
    }

    /// Clears the bar from the terminal.
    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Observes the progress of one run.
pub(super) struct Watcher {
    number: u64,
    bar: Option<ProgressBar>,
    seen: Arc<Mutex<RunsInProgress>>,
}

impl Observer for Watcher {
    fn sampled(&mut self, _: Duration, current: Bytes, highest: Bytes) {
        let Some(bar) = &self.bar else { return };
        let mut seen = lock(&self.seen);
        match seen.current.iter_mut().find(|(number, _)| *number == self.number) {
            Some((_, known)) => *known = current,
            None => seen.current.push((self.number, current)),
        }
        seen.highest = seen.highest.max(highest);
        bar.set_message(seen.message());
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        lock(&self.seen).current.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_the_bar_says_has_room_in_80_columns() {
        let end = Instant::now().checked_add(Duration::from_secs(59 * 60));
        let seen = RunsInProgress { next: 1, current: vec![(1, Bytes(1023 << 20))], highest: Bytes(3 << 29), end };
        let line = format!("100/200 {} 59m {}", "█".repeat(12), seen.message());
        assert_eq!(line, "100/200 ████████████ 59m about 59 minutes left, 1023 MiB in use, 1.5 GiB at most");
        assert!(line.chars().count() <= 80);
    }
}
