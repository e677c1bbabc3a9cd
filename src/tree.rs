//! Measures channels: which files a scale rule counts, and their sizes.
//!
//! A [`survey`] reads a channel once, for any number of [`Selection`](crate::model::selection::Selection)s.

mod channel;
mod contents;
mod directory;
mod error;
mod excluded;
mod items;
mod kernel;
mod listing;
mod options;
mod queue;
mod selection_state;
mod tally;
mod totals;
mod walk;
mod worker;

pub use contents::ContentDigest;
pub use error::TreeError;
pub use excluded::{Excluded, Exclusion, Reason};
pub use listing::{Listing, list, list_paths};
pub use options::{Counted, Listener, Options, Progress};
pub use totals::{Bucket, File, Histogram, Item, Survey, Totals};
pub use walk::survey;
