//! The integration tests: one binary, a module per feature.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bounds;
mod byte_order_mark;
mod check;
mod cli;
mod container;
mod demo;
mod engines;
mod export;
mod fit;
mod fit_cases;
mod fit_emit;
mod fit_planted;
mod fit_properties;
mod fit_records;
mod fit_write;
mod floor;
mod hanging_engine;
mod harness;
mod help;
mod hostile_names;
mod hosts;
mod inputs;
mod kubernetes;
mod layers;
mod lint;
mod merge;
mod output_files;
mod predict;
mod process;
mod quantity;
mod report;
mod resolve;
mod rule;
mod run_task;
mod schema;
mod shared;
mod show;
mod slurm;
mod store;
mod sweep;
mod tasks;
mod tree;
mod validate;
mod values;
