//! A report as JSON: all of its numbers.

use super::model::Report;
use crate::model::escape;

/// The report as it is, in the order of its fields, with a newline at the end.
///
/// # Errors
/// A report never causes one.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| escape::json(&text) + "\n")
}
