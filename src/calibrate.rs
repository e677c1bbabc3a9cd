//! The verbs: measuring, fitting, checking, sweeping and reporting.

#[doc(hidden)]
pub mod argument;
#[doc(hidden)]
pub mod cells;
pub mod check;
#[cfg(feature = "kubernetes")]
pub mod collect;
mod curve;
pub mod failure;
pub mod feedback;
pub mod fit;
pub mod floor;
pub mod measure;
pub mod measurement;
pub mod monitor;
mod page_cache;
pub mod predict;
pub mod report;
pub mod resolve;
#[cfg(test)]
mod scripted;
pub mod sweep;
pub mod workload;
