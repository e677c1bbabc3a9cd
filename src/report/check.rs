//! The result of a check in the formats that CI systems read. All are pure functions: the same
//! report gives the same bytes.

mod benchmarks;
mod github;
mod junit;
mod markdown;
mod openmetrics;

pub use benchmarks::{bmf, smaller_is_better};
pub use github::annotations;
pub use junit::junit;
pub use markdown::markdown;
pub use openmetrics::openmetrics;

use std::collections::BTreeSet;

use crate::model::check::report::{AllowedBy, CellReport, Finding, ResourceCell, ResourceSamples, Samples, TaskReport};
use crate::model::fit::Resource;

/// `+5.0 %` or `−3.1 %`; a change that rounds to zero has no sign.
pub fn percent(share: f64) -> String {
    let rounded = (share * 1000.0).round() / 10.0;
    match rounded {
        0.0 => "0.0 %".to_owned(),
        _ if rounded > 0.0 => format!("+{rounded:.1} %"),
        _ => format!("−{:.1} %", -rounded),
    }
}

/// The median peak for a table: `≥ 12 MiB` is a lower bound, `12 … 40 MiB` one with an upper bound.
pub fn peak(samples: &Samples) -> String {
    match samples.highest_case() {
        Some(_) if samples.is_exact() => samples.median.to_string(),
        Some(most) => {
            let (least, most) = (samples.median.to_string(), most.median.to_string());
            match (least.split_once(' '), most.split_once(' ')) {
                (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} … {most}"),
                (_, _) => format!("{least} … {most}"),
            }
        }
        None => format!("≥ {}", samples.median),
    }
}

/// Describes the change of a cell.
pub fn change(cell: &CellReport) -> String {
    match (&cell.now, &cell.baseline) {
        (None, Some(_)) => "gone".to_owned(),
        (Some(_), None) => "new".to_owned(),
        (Some(now), Some(_)) => match cell.change().map(percent) {
            Some(change) if now.is_exact() => change,
            Some(change) => format!("≥ {change}"),
            None => "unknown".to_owned(),
        },
        (None, None) => "-".to_owned(),
    }
}

/// Describes what a cell may use.
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

/// What the cells of a task use of each other resource that is compared: cell, median, spread, runs, baseline, change.
pub fn other_resources(task: &TaskReport) -> Vec<(Resource, Vec<[String; 6]>)> {
    let resources: BTreeSet<Resource> = task.cells.iter().flat_map(|cell| cell.resources.keys()).copied().collect();
    let dash = || "-".to_owned();
    let row = |name: &str, resource: Resource, of: &ResourceCell| {
        let now = |what: &dyn Fn(&ResourceSamples) -> String| of.now.as_ref().map_or_else(dash, what);
        [
            name.to_owned(),
            now(&|now| now.words(resource)),
            now(&|now| resource.describe_amount(now.spread)),
            now(&|now| now.samples.len().to_string()),
            of.baseline.as_ref().map_or_else(dash, |then| then.words(resource)),
            of.change().map_or_else(dash, percent),
        ]
    };
    let rows = |resource: Resource| {
        let of = task.cells.iter().filter_map(|cell| Some(row(&cell.name, resource, cell.resources.get(&resource)?)));
        (resource, of.collect())
    };
    resources.into_iter().map(rows).collect()
}

/// A finding in full: what was found, what to do about it, and the last lines of stderr.
fn describe(finding: &Finding) -> String {
    let stderr = finding.stderr.iter().map(|lines| format!("\nlast lines of stderr:\n{lines}"));
    format!("{}\n{}{}", finding.message, finding.remedy, stderr.collect::<String>())
}

#[cfg(test)]
mod tests;
