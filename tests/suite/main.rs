//! The integration tests: one binary, a module per feature.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cli;
mod layers;
mod help;
mod hosts;
mod lint;
mod predict;
mod process;
mod quantity;
mod resolve;
mod rule;
mod tasks;
mod tree;
mod validate;
mod run_task;
