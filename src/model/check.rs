//! The gate: its configuration, its baseline and its report.

pub mod baseline;
pub mod config;
pub mod growth;
pub mod report;
mod resource_samples;
mod samples;
pub mod thresholds;

pub use baseline::{Baseline, BaselineError};
pub use config::Config;
pub use report::{Finding, Level, Reason, Report, Verdict};
pub use thresholds::{Reaction, Repeats, ThresholdError, Thresholds};
