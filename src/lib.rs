//! Measures the high-water mark of a task's memory and compares it with what its scale rules predict.
//!
//! ```text
//! task.json ─ TaskSpec ─ resolve ─ Task ─ Runner + Monitor ─ Observation
//! ```
//!
//! The modules know each other in one direction only: [`model`] knows nothing of the others; `host`,
//! `tree` and `runner` know the model; `calibrate` puts them together; the binary knows the library.
//! The library neither prints nor exits.

pub mod calibrate;
pub mod directory;
pub mod host;
pub mod model;
pub mod report;
pub mod runner;
pub mod stats;
pub mod store;
pub mod tree;
