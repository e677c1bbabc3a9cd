//! The gate: what it checks, what it compares with, and what it found.

pub mod baseline;
pub mod config;
pub mod report;
pub mod terms;

pub use baseline::{Baseline, BaselineError};
pub use config::Config;
pub use report::{Finding, Level, Reason, Report, Verdict};
pub use terms::{Reaction, Repeats, TermError, Terms};
