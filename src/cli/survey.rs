//! A line on the terminal while inputs are read.

use std::cell::OnceCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use highwater::tree::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shorter reads need no progress line.
const AFTER: Duration = Duration::from_secs(1);

/// Shown once reading takes a while, unless stderr is not a terminal.
#[derive(Debug)]
pub(crate) struct Line {
    started: Instant,
    bar: OnceCell<ProgressBar>,
    is_wanted: bool,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), bar: OnceCell::new(), is_wanted: std::io::stderr().is_terminal() }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    pub(crate) fn update(&self, progress: Progress) {
        if self.started.elapsed() < AFTER {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        let Progress { directories: folders, files, bytes } = progress;
        bar.set_message(format!("reading the inputs: {files} files with {bytes} in {folders} directories so far"));
        bar.tick();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}
