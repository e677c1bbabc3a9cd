//! Imports tables of other programs as observations.
//!
//! | table | identified by its columns | a peak is |
//! | --- | --- | --- |
//! | of `highwater export` | `peak_bytes`, `wall_seconds` | what the table says, with its exactness |
//! | Nextflow's trace | `peak_rss` (`rss` in old ones), `realtime` | a lower bound |
//! | Snakemake's benchmark | `s`, `max_rss` | a lower bound |
//!
//! Columns are separated by commas or tabs. Values that another program sampled are lower bounds, and the record says
//! why.

mod nextflow;
mod snakemake;

use super::table;
use crate::model::delimited::Rows;
use crate::model::observation::{
    Exactness, Limits, Observation, Outcome, Peak, PeakSource, RunnerKind, SCHEMA_VERSION, Series, Subject, Swap,
};
use crate::model::problem::Flawed;
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;

pub use super::table::LeftOut;

/// The program that wrote a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `highwater export`, or a program that uses its columns.
    Highwater,
    /// Nextflow: the trace of a pipeline.
    Nextflow,
    /// Snakemake: the benchmark of a rule.
    Snakemake,
}

/// Facts about a table besides its content.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The name of the table in errors: its path.
    pub name: &'a str,
    /// The task, if the table does not name it.
    pub task: Option<&'a str>,
    /// When the runs started, if the table does not say: the time of its file is the best estimate.
    pub written_at: Timestamp,
}

/// The runs of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The program that wrote it.
    pub origin: Origin,
    /// The runs, in the order of the table.
    pub observations: Vec<Observation>,
    /// The rows that are not measured runs.
    pub left_out: Vec<LeftOut>,
}

/// Reads a table. Without an origin, its columns identify the program.
///
/// # Errors
/// The columns are unknown, some are missing, or values are invalid.
pub fn import(text: &str, origin: Option<Origin>, about: &About<'_>) -> Result<Imported, Flawed> {
    let mut rows = Rows::new(text);
    let has = |names: &[&str]| names.iter().all(|name| rows.column(name).is_some());
    let found = match () {
        () if has(&["peak_bytes"]) => Some(Origin::Highwater),
        () if has(&["peak_rss"]) || has(&["rss", "realtime"]) => Some(Origin::Nextflow),
        () if has(&["s", "max_rss"]) => Some(Origin::Snakemake),
        () => None,
    };
    let Some(origin) = origin.or(found) else {
        rows.reject_header(
            "no column has the peaks of runs",
            "expected `peak_bytes` and `wall_seconds` of highwater, `peak_rss` and `realtime` of Nextflow, or `s` and \
             `max_rss` of Snakemake",
        );
        return rows.finish(about.name, Imported { origin: Origin::Highwater, observations: vec![], left_out: vec![] });
    };
    let (observations, left_out) = match origin {
        Origin::Highwater => table::parse(about.name, text, &named(blank(about.written_at), about))?,
        Origin::Nextflow => {
            let read = nextflow::read(&mut rows, about);
            rows.finish(about.name, read)?
        }
        Origin::Snakemake => {
            let read = snakemake::read(&mut rows, about);
            rows.finish(about.name, read)?
        }
    };
    Ok(Imported { origin, observations, left_out })
}

fn named(blank: Observation, about: &About<'_>) -> Observation {
    let subject = Subject { name: about.task.map(str::to_owned), command: Vec::new() };
    Observation { subject, ..blank }
}

/// An imported run that is only known to have succeeded.
pub fn blank(started_at: Timestamp) -> Observation {
    Observation {
        schema_version: SCHEMA_VERSION,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        subject: Subject::default(),
        sweep: None,
        inputs: Vec::new(),
        prediction: None,
        runner: RunnerKind::Imported,
        outcome: Outcome::Exited { status: 0 },
        wall_us: 0,
        peak: Reading::Unsupported,
        breakdown: Reading::Unsupported,
        swap: Swap { peak: Reading::Unsupported, highest_sampled: Reading::Unsupported },
        gpu: Vec::new(),
        floor: None,
        limit: Limits::UNSUPPORTED,
        censored: false,
        events: Reading::Unsupported,
        cpu: Reading::Unsupported,
        conditions: None,
        io: Reading::Unsupported,
        storage: None,
        pids_peak: Reading::Unsupported,
        pressure: Reading::Unsupported,
        leftover_processes: Reading::Unsupported,
        survivors: Vec::new(),
        largest_processes: Vec::new(),
        series: Series::default(),
        host: Reading::Unsupported,
        batch: None,
        container: None,
        pod: None,
        logs: None,
        cache: None,
        warnings: Vec::new(),
    }
}

/// A peak that another program sampled.
fn sampled(bytes: Bytes, reason: &str) -> Reading<Peak> {
    let exactness =
        Exactness::LowerBound { reason: reason.to_owned(), remedy: "measure the task with highwater".to_owned() };
    Reading::Value(Peak { bytes, source: PeakSource::Imported, file: None, exactness, upper_bound: None })
}

/// Whether a cell stands for a missing value.
fn is_nothing(cell: &str) -> bool {
    ["", "-", "NA", "None", "null"].contains(&cell)
}
