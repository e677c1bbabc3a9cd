//! Shows on a terminal how far the survey of the inputs is, from its second second on.

use std::time::{Duration, Instant};

use highwater::tree::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A spinner that appears late.
pub(crate) struct Watched {
    since: Instant,
    bar: ProgressBar,
}

impl Watched {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        Self { since: Instant::now(), bar }
    }

    pub(crate) fn tell(&self, progress: Progress) {
        if self.since.elapsed() >= Duration::from_secs(1) {
            let Progress { folders, files, bytes } = progress;
            self.bar.set_message(format!("reading the inputs: {files} files, {bytes}, in {folders} folders"));
            self.bar.tick();
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
