//! Full or small disks.

use std::fs;
use std::path::PathBuf;

use highwater::model::plan::{InputSource, Unit};
use highwater::runner::staging::Staging;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Bench, runs};
use crate::harness::skip;

/// A small disk in memory.
struct Disk(PathBuf);

impl Disk {
    /// `None` if mounting is not permitted.
    fn new(path: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={size}");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).ok()?;
        Some(Self(path))
    }

    fn grow(&self, size: &str) {
        let options = format!("size={size}");
        mount(Some("tmpfs"), &self.0, Some("tmpfs"), MsFlags::MS_REMOUNT, Some(options.as_str())).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_stops_a_sweep_cleanly_and_it_goes_on_when_there_is_room() {
    let bench = Bench::new();
    let Some(disk) = Disk::new(bench.path().join("disk"), "600k") else { return skip("this takes root") };
    // Each run leaves 20 KiB of output, which do not all fit.
    let words = ["-r", "40", "--into", "disk/r", "--", "sh", "-c", "head -c 20000 /dev/zero"];
    let ran = bench.sweep(&words);
    assert_eq!(ran.status, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("make room on the disk"), "{}", ran.stderr);
    let first = bench.records("disk/r");
    assert!((1..40).contains(&first.len()), "{}", first.len());
    assert!(fs::read_to_string(bench.path().join("disk/r/observations.jsonl")).unwrap().ends_with('\n'), "torn");
    assert!(!bench.path().join("disk/r/staging").exists());
    disk.grow("16m");
    bench.done(&words);
    let records = bench.records("disk/r");
    assert_eq!((records.len(), runs(&records).len()), (40, 40));
    assert!(records.iter().all(|run| run.outcome.succeeded()));
    assert_eq!(records[..first.len()], first);
}

#[test]
fn inputs_that_no_disk_holds_are_refused_before_the_first_run() {
    let bench = Bench::new();
    let Some(_disk) = Disk::new(bench.path().join("disk"), "2m") else { return skip("this takes root") };
    let ran = bench.sweep(&["--size", "64KiB,1GiB", "--into", "disk/r", "--", "wc", "-c", "{input}"]);
    assert_eq!(ran.status, Some(3));
    assert!(ran.stderr.contains("too little disk space for the inputs: 1 GiB"), "{}", ran.stderr);
    assert_eq!(bench.records("disk/r").len(), 0);
}

#[test]
fn what_cannot_be_linked_is_copied_only_where_it_cannot_be_mounted() {
    let bench = Bench::with_items(3, 5000);
    let Some(disk) = Disk::new(bench.path().join("disk"), "4m") else { return skip("this takes root") };
    let unit = |name: &str| Unit::same(name.into());
    let units = vec![unit("p01"), unit("p03")];
    let material = InputSource::Units { root: bench.path().join("scans"), units };
    let staging = Staging::open(&disk.0.join("staging")).unwrap();
    let staged = staging.stage("here", &material).unwrap();
    assert_eq!((staged.cost().copies, staged.cost().copied.0, staged.cost().links), (2, 10_000, 0));
    assert_eq!(fs::read(staged.input().join("p03/ct.raw")).unwrap().len(), 5000);
    let ran = bench.done(&["--input", "scans", "--items", "2", "--into", "disk/r", "--", "ls", "{input}/p02/ct.raw"]);
    assert!(!ran.stderr.contains("copied"), "{}", ran.stderr);
    bench.done(&[
        "--input",
        "scans",
        "--items",
        "1",
        "--into",
        "disk/s",
        "--staging",
        "here",
        "--",
        "ls",
        "{input}/p01/ct.raw",
    ]);
    assert!(!bench.path().join("here").exists());
}
