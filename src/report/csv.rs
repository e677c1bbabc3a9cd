//! The runs of a report as CSV, which `highwater fit` can read.

use super::model::{Report, Run, TaskReport};
use crate::model::escape::csv_cell;
use crate::model::fit::Censoring;
use crate::model::reading::Reading;
use crate::model::units::Bytes;

/// The header. Amounts are bytes.
const COLUMNS: [&str; 24] = [
    "task",
    "case",
    "run",
    "parameters",
    "synthetic",
    "started_at",
    "input_bytes",
    "peak_bytes",
    "lower_bound",
    "censored",
    "outcome",
    "limit_bytes",
    "rule_in_use_bytes",
    "fitted_rule_bytes",
    "wall_seconds",
    "cpu_seconds",
    "anon_bytes",
    "shmem_bytes",
    "kernel_bytes",
    "file_bytes",
    "swap_bytes",
    "source",
    "floor_bytes",
    "peak_at_most_bytes",
];

/// A row for each run, after a header. Unknown values are empty, and so is the size of the input where a parameter is n.
///
/// # Errors
/// A report never causes one.
pub fn csv(report: &Report) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for task in &report.tasks {
        for run in &task.runs {
            writer.write_record(line(task, run))?;
        }
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn line(task: &TaskReport, run: &Run) -> [String; 24] {
    let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0.to_string()).unwrap_or_default();
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let part = |part: Option<Reading<Bytes>>| bytes(part.and_then(Reading::value));
    let parameters: Vec<String> = run.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let censored = match run.censoring {
        Censoring::None => "",
        Censoring::LimitReached => "limit",
        Censoring::OomKilled => "oom",
        Censoring::LowerBound => "lower-bound",
    };
    [
        csv_cell(&task.name).into_owned(),
        csv_cell(&run.case).into_owned(),
        run.number.to_string(),
        csv_cell(&parameters.join(" ")).into_owned(),
        run.synthetic.to_string(),
        run.started_at.to_string(),
        bytes(run.n.filter(|_| task.parameter.is_none())),
        bytes(run.peak),
        run.lower_bound.to_string(),
        censored.to_owned(),
        run.outcome.words(),
        bytes(run.limit),
        bytes(run.predicted),
        bytes(run.fitted),
        seconds(run.wall_us),
        run.cpu_us.map(seconds).unwrap_or_default(),
        part(run.breakdown.map(|parts| parts.anon)),
        part(run.breakdown.map(|parts| parts.shmem)),
        part(run.breakdown.map(|parts| parts.kernel)),
        part(run.breakdown.map(|parts| parts.file)),
        bytes(run.swap),
        run.source.map(|source| source.words().to_owned()).unwrap_or_default(),
        bytes(run.floor),
        bytes(run.at_most),
    ]
}
