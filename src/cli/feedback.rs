//! Shows on stderr what a long operation says while it works.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use highwater::calibrate::failure::Failure;
use highwater::calibrate::feedback::Feedback;
use highwater::model::problem::Flawed;
use highwater::runner::engine;
use highwater::tree;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table::printable;
use super::{failure, output};

/// Shorter reads need no progress line.
const AFTER: Duration = Duration::from_secs(1);

/// Messages, warnings and progress bars on stderr.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    is_quiet: bool,
    line: Mutex<Line>,
}

/// The progress line: when the operation began, and the bar once it is shown.
#[derive(Debug, Default)]
struct Line {
    began: Option<Instant>,
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// Omits details.
    pub(crate) fn quiet(is_quiet: bool) -> Self {
        Self { is_quiet, ..Self::default() }
    }

    fn with_line(&self, show: impl FnOnce(&mut Line)) {
        show(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Line {
    fn close(&mut self) {
        self.began = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Feedback for Terminal {
    fn note(&self, text: &str) {
        output::say(&format!("highwater: {text}"));
    }

    fn detail(&self, text: &str) {
        if !self.is_quiet {
            self.note(text);
        }
    }

    fn warn(&self, flawed: &Flawed) {
        failure::report_problems(flawed);
    }

    fn failed(&self, failure: Failure) {
        failure::Failure::from(failure).warn();
    }

    fn pulling(&self, image: &str, progress: Option<engine::Progress>) {
        self.with_line(|line| match progress {
            Some(progress) => {
                let bar = line.bar.get_or_insert_with(|| {
                    let style = "{spinner} pulling {msg}: {bytes} of {total_bytes} {wide_bar}";
                    let bar = styled(ProgressBar::new(0), style, ProgressStyle::default_bar());
                    bar.set_message(printable(image));
                    bar
                });
                bar.set_length(progress.total);
                bar.set_position(progress.loaded);
                bar.tick();
            }
            None => line.close(),
        });
    }

    fn shows_reading(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    fn reading(&self, progress: Option<tree::Progress>) {
        self.with_line(|line| {
            let Some(tree::Progress { directories, files, bytes }) = progress else { return line.close() };
            if line.began.get_or_insert_with(Instant::now).elapsed() < AFTER {
                return;
            }
            let bar = line.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
                styled(bar, "{spinner} {msg}", ProgressStyle::default_spinner())
            });
            bar.set_message(format!(
                "reading the inputs: {files} files with {bytes} in {directories} directories so far"
            ));
            bar.tick();
        });
    }
}

fn styled(bar: ProgressBar, template: &str, otherwise: ProgressStyle) -> ProgressBar {
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(otherwise));
    bar
}
