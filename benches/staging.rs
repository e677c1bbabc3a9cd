//! What it takes to stage subsets of a channel, beside `cp -al`.
//!
//! `just bench-staging`. The data are made in the temporary directory, or where `HIGHWATER_BENCH_DIR` says, and removed
//! at the end. Scaled by `HIGHWATER_BENCH_ITEMS` (10000) and `HIGHWATER_BENCH_ROUNDS` (3). Every round stages all
//! subsets in both ways; the table has the shortest times, and the median of the ratios within a round.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "a benchmark that cannot run says why and ends")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use highwater::model::plan::{Count, InputSource, Pick, Unit, picked};
use highwater::runner::staging::Staging;
use highwater::tree::{Options, list};

/// The size of each item, one file.
const ITEM: usize = 100 << 10;

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let is_test = std::env::args().any(|argument| argument == "--test");
    let items = if is_test { 60 } else { setting("HIGHWATER_BENCH_ITEMS", 10_000) };
    let rounds = if is_test { 1 } else { setting("HIGHWATER_BENCH_ROUNDS", 3) };
    let folder = match std::env::var_os("HIGHWATER_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder for the data");
    let channel = folder.path().join("channel");
    generate(&channel, items);
    let subsets: Vec<usize> = [60, 30, 10, 4, 2, 1].iter().map(|part| items.div_ceil(*part)).collect();
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..rounds {
        ours.push(stage(&channel, &folder.path().join("staging"), &subsets));
        theirs.push(copy_links(&channel, &folder.path().join("cp"), &subsets));
    }
    let mut ratios: Vec<f64> =
        ours.iter().zip(&theirs).map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let least = |times: &[Duration]| times.iter().min().copied().unwrap_or_default();
    println!("{items} items of 100 KiB into subsets of {subsets:?}\n");
    println!("highwater  {:>9.1?}", least(&ours));
    println!("cp -al     {:>9.1?}", least(&theirs));
    println!("ratio      {:>9.2}", ratios.get(ratios.len() / 2).copied().unwrap_or_default());
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn generate(channel: &Path, items: usize) {
    let data = vec![7_u8; ITEM];
    for item in 0..items {
        let path = channel.join(format!("item-{item:05}"));
        fs::create_dir_all(&path).expect("an item");
        fs::write(path.join("scan.dcm"), &data).expect("a file");
    }
}

/// Lists the channel once, picks and stages all subsets; what is staged is removed after the clock has stopped.
fn stage(channel: &Path, place: &Path, subsets: &[usize]) -> Duration {
    let start = Instant::now();
    let listing = list(channel, &Options::default()).expect("the channel can be read");
    let items = listing.items_with_sizes();
    let staging = Staging::open(place).expect("a folder for staging");
    let mut staged = Vec::new();
    for count in subsets {
        let names = picked(&items, Count::Of(*count), Pick::Spread).expect("so many items");
        let units = names.into_iter().map(Unit::same).collect();
        let material = InputSource::Units { root: channel.to_owned(), units };
        staged.push(staging.stage(&count.to_string(), &material).expect("a staged subset"));
    }
    let time = start.elapsed();
    for (staged, count) in staged.iter().zip(subsets) {
        let cost = staged.cost();
        assert_eq!((cost.links, cost.copies), (*count as u64, 0), "links only");
    }
    time
}

fn copy_links(channel: &Path, place: &Path, subsets: &[usize]) -> Duration {
    let start = Instant::now();
    for count in subsets {
        let target = place.join(count.to_string());
        fs::create_dir_all(&target).expect("a folder");
        let mut entries: Vec<_> = fs::read_dir(channel).expect("the channel").filter_map(Result::ok).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        let paths = entries.into_iter().take(*count).map(|entry| entry.path());
        let status = Command::new("cp").arg("-al").arg("-t").arg(&target).args(paths).status().expect("cp");
        assert!(status.success(), "cp");
    }
    let time = start.elapsed();
    fs::remove_dir_all(place).expect("what was linked can be removed");
    time
}
