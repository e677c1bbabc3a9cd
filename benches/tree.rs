//! How fast a channel is surveyed, beside a floor and beside what others offer, all in one run.
//!
//! `just bench-tree`. The trees are made in the temporary directory and removed at the end. Scaled by
//! `HIGHWATER_BENCH_FILES` (500000) and `HIGHWATER_BENCH_ROUNDS` (5); `HIGHWATER_BENCH_DIR` says where, and with
//! `HIGHWATER_BENCH_KEEP` they stay there for the next run.
//!
//! Every round runs every peer once, so that a disturbance of the machine meets them alike. The table has the ratio of
//! the shortest times, and the median of the ratios within a round.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot run says why and ends")]

#[path = "tree/floor.rs"]
mod floor;
#[path = "tree/measure.rs"]
mod measure;
#[path = "tree/peers.rs"]
mod peers;
#[path = "tree/trees.rs"]
mod trees;

use std::path::Path;

use criterion::{Criterion, SamplingMode};
use measure::Table;
use peers::{Ours, all};
use trees::Trees;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    // `cargo test --benches` only asks whether it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let files = if is_test { 2_000 } else { setting("HIGHWATER_BENCH_FILES", 500_000) };
    let rounds = if is_test { 1 } else { setting("HIGHWATER_BENCH_ROUNDS", 5) };
    let trees = Trees::make(files);
    for (name, root) in trees.roots() {
        let table = Table::measure(rounds, &all(root));
        println!("\n{name}\n\n{table}");
        track(&mut criterion, name, root);
    }
    criterion.final_summary();
}

/// What criterion keeps from run to run: the floor and ours.
fn track(criterion: &mut Criterion, name: &str, root: &Path) {
    let mut group = criterion.benchmark_group(format!("tree/{}", name.split(':').next().unwrap_or(name)));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("floor", |bench| bench.iter(|| floor::walk(root)));
    for (name, ours) in [("one thread", Ours::new(1)), ("two threads", Ours::new(2))] {
        group.bench_function(name, |bench| bench.iter(|| ours.survey(root)));
    }
    group.finish();
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
