//! Statistics of few numbers: what a handful of runs shows, and what it does not.

pub mod interval;
pub mod outlier;
pub mod paired;
pub mod summary;
pub mod trend;
