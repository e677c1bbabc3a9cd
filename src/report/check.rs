//! What a check found, in the formats that CI systems read: one small file for each of them. All are pure functions: the
//! same report has the same bytes.

mod bmf;
mod github;
mod junit;
mod markdown;
mod openmetrics;
mod smaller_is_better;

pub use bmf::bmf;
pub use github::annotations;
pub use junit::junit;
pub use markdown::markdown;
pub use openmetrics::openmetrics;
pub use smaller_is_better::smaller_is_better;

use crate::model::check::report::{AllowedBy, CellReport};

/// `+5.0 %`, `−3.1 %`; a change too small to be seen has no sign.
pub fn percent(share: f64) -> String {
    let rounded = (share * 1000.0).round() / 10.0;
    match rounded {
        0.0 => "0.0 %".to_owned(),
        _ if rounded > 0.0 => format!("+{rounded:.1} %"),
        _ => format!("−{:.1} %", -rounded),
    }
}

/// The change of a cell in words.
pub fn change(cell: &CellReport) -> String {
    match (&cell.now, &cell.baseline) {
        (None, Some(_)) => "gone".to_owned(),
        (Some(_), None) => "new".to_owned(),
        (_, _) => cell.change().map_or_else(|| "-".to_owned(), percent),
    }
}

/// What a cell may use, in words.
pub fn allowed(cell: &CellReport) -> String {
    match &cell.allowed {
        None => "-".to_owned(),
        Some(allowed) => {
            let by = match allowed.by {
                AllowedBy::Budget => "budget",
                AllowedBy::Limit => "limit",
                AllowedBy::Rule { .. } => "rule",
            };
            format!("{} ({by})", allowed.bytes)
        }
    }
}

#[cfg(test)]
mod tests;
