//! The size of a channel: which files a scale rule counts, and how many bytes they have.
//!
//! One [`survey`] reads a channel once, for any number of [`Selection`]s at the same time.

mod channel;
mod contents;
mod crew;
mod error;
mod folder;
mod glob;
mod items;
mod kernel;
mod left_out;
mod listing;
mod options;
mod regex;
mod selection;
mod tally;
mod text;
mod totals;
mod walk;
mod watch;
mod worker;

pub use contents::ContentDigest;
pub use error::TreeError;
pub use left_out::{LeftOut, Omission, Reason};
pub use listing::{Listing, list};
pub use options::{Counted, Listener, Options, Progress};
pub use selection::{Field, Flaw, Selection, SelectionError};
pub use totals::{Bucket, File, Histogram, Item, Survey, Totals};
pub use walk::survey;
