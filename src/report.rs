//! Reports on recorded runs as HTML, Markdown, CSV, JSON, plots and text, and declarations of a calibrated task in the
//! formats of other programs.
//!
//! Everything here is a pure function of records and of the rule fitted to them: the same records give the same bytes
//! on every machine and at any time.

mod advice;
mod assemble;
pub mod check;
mod column;
mod csv;
mod describe;
pub mod emit;
#[cfg(feature = "plots")]
mod html;
mod markdown;
pub mod model;
mod needs;
pub mod plot;
mod rows;
mod table;
mod verdict;
mod words;

pub use self::csv::csv;
pub use assemble::{Builder, Head, Judged, JudgedRule, MOST_RUNS, ShownRuns, TIMELINE_SAMPLES};
#[cfg(feature = "plots")]
pub use html::{HtmlError, html};
pub use markdown::markdown;
pub use table::table;

use crate::model::escape;

/// The report as it is, in the order of its fields, with a newline at the end.
///
/// # Errors
/// A report never causes one.
pub fn json(report: &model::Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| escape::json(&text) + "\n")
}
