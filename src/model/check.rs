//! The gate: its configuration, its baseline and its report.

pub mod baseline;
pub mod config;
pub mod report;
mod samples;
pub mod thresholds;

pub use baseline::{Baseline, BaselineError};
pub use config::Config;
pub use report::{Finding, Level, Reason, Report, Verdict};
pub use thresholds::{Reaction, Repeats, ThresholdError, Thresholds};
