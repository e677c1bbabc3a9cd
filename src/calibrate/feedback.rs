//! What a long operation says while it works.

use super::failure::Failure;
use crate::model::problem::Flawed;
use crate::runner::engine;
use crate::tree;

/// Receives what a long operation says while it works; `()` ignores all of it.
pub trait Feedback: Sync {
    /// A sentence that the user should read.
    fn note(&self, text: &str) {
        let _ = text;
    }

    /// A sentence about progress, which a quiet program omits.
    fn detail(&self, text: &str) {
        let _ = text;
    }

    /// Warnings about a document.
    fn warn(&self, flawed: &Flawed) {
        let _ = flawed;
    }

    /// A failure that comes beside a more important one.
    fn failed(&self, failure: Failure) {
        let _ = failure;
    }

    /// An image is being pulled; `None` at the end.
    fn pulling(&self, image: &str, progress: Option<engine::Progress>) {
        let _ = (image, progress);
    }

    /// Whether [`Feedback::reading`] is of interest: without it, reading is a little faster.
    fn shows_reading(&self) -> bool {
        false
    }

    /// Inputs are being read; `None` at the end.
    fn reading(&self, progress: Option<tree::Progress>) {
        let _ = progress;
    }
}

impl Feedback for () {}
