//! Directories of records: their promises hold if writers are killed, disks are full, and lines are broken.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use highwater::model::observation::{
    Breakdown, Cache, Dropped, Exactness, Logs, Observation, Peak, PeakSource, RunnerKind, SCHEMA_VERSION, SweepRun,
    Warning,
};
use highwater::model::reading::Reading;
use highwater::model::timestamp::Timestamp;
use highwater::model::units::Bytes;
use highwater::store::import::blank;
use highwater::store::{self, Folder, FolderError, Holder, OBSERVATIONS, ReadError, SAMPLES_IN_LINE};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The directory with records of old versions, which stay readable.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/v1")
}

pub(crate) const PLAN: &str = r#"{"schema_version":1,"cells":[{"key":"d"},{"key":"b"},{"key":"a"},{"key":"c"}]}"#;

/// A synthetic run of a cell, with `samples` samples of memory over time.
pub(crate) fn observed(cell: &str, run: u32, peak: u64, samples: u64) -> Observation {
    let sample = |at| {
        let part = Reading::Value(Bytes(at * 10));
        let mut sample = Breakdown::new(at * 100_000, Bytes(peak / 2 + at));
        for place in [&mut sample.anon, &mut sample.file, &mut sample.shmem, &mut sample.kernel, &mut sample.swap] {
            *place = part;
        }
        sample
    };
    let exactness = Exactness::Exact { error_bound_bytes: Bytes(4096) };
    let mut observation = blank(Timestamp::from_second(1_700_000_000 + i64::from(run)).unwrap());
    observation.sweep = Some(SweepRun::new(cell, format!("case {cell}"), run));
    observation.runner = RunnerKind::Process;
    observation.wall_us = 1_000_000 + u64::from(run);
    observation.peak = Reading::Value(Peak::new(Bytes(peak), PeakSource::OwnCgroup, exactness));
    observation.series.taken = samples;
    observation.series.samples = (0..samples).map(sample).collect();
    observation
}

/// A process of this binary that runs a part of a test in a directory.
fn child(test: &str, folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("store::{test}"), "--nocapture", "--test-threads=1"]);
    command.env("HIGHWATER_TEST_FOLDER", folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The directory to work in, if this process is the child of a test.
fn as_child() -> Option<PathBuf> {
    std::env::var_os("HIGHWATER_TEST_FOLDER").map(PathBuf::from)
}

/// The words that a child prints after `mark`, one per line.
fn said<'a>(child: &'a mut Child, mark: &'static str) -> impl Iterator<Item = String> + 'a {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    // The test harness prints to the same lines.
    lines.filter_map(move |line| line.split_once(mark).map(|(_, rest)| rest.trim().to_owned()))
}

#[test]
fn child_that_appends() {
    let Some(path) = as_child() else { return };
    let mut folder = Folder::open(&path).unwrap();
    let next = folder.recorded().len() as u32 + 1;
    for run in next.. {
        folder.append(&observed("a", run, 1_000_000, 3)).unwrap();
        println!("\nappended {run}");
    }
}

#[test]
fn a_killed_writer_leaves_every_run_that_it_has_told_of() {
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("sweep");
    drop(Folder::create(&path, PLAN).unwrap());
    let mut random = fastrand::Rng::with_seed(5);
    let mut told: u32 = 0;
    for _ in 0..10 {
        let mut child = child("child_that_appends", &path);
        let count = random.usize(1..15);
        told = said(&mut child, "appended ").take(count).last().unwrap().parse().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let runs: Vec<u32> = Folder::open(&path).unwrap().recorded().iter().map(|run| run.run).collect();
        assert!(runs.len() >= told as usize, "{told} told, {runs:?}");
        assert_eq!(runs, (1..=runs.len() as u32).collect::<Vec<_>>());
    }
    assert!(told >= 10);
    assert_eq!(store::read(&path).unwrap().unusable, []);
}

#[test]
fn child_that_holds() {
    let Some(path) = as_child() else { return };
    let _folder = Folder::open(&path).unwrap();
    println!("\nholds it");
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_second_process_is_told_who_holds_the_folder() {
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("sweep");
    drop(Folder::create(&path, PLAN).unwrap());
    let mut child = child("child_that_holds", &path);
    assert!(said(&mut child, "holds").next().is_some());
    let error = Folder::open(&path).unwrap_err();
    let FolderError::Held { holder: Holder::Process { pid, host, .. }, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, child.id());
    assert!(error.to_string().contains(&format!("in use by process {pid} on {host} since ")), "{error}");
    // Readers need no lock.
    assert_eq!(store::read(&path).unwrap().observations, []);
    child.kill().unwrap();
    child.wait().unwrap();
    Folder::open(&path).unwrap();
}

/// A file system of 64 KiB; `None` if not root.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_tears_nothing_and_the_sweep_goes_on_once_there_is_room() {
    let Some(disk) = Small::mount() else {
        crate::harness::skip("this takes root");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, [1; 16 << 10]).unwrap();
    let path = disk.0.path().join("sweep");
    let mut folder = Folder::create(&path, PLAN).unwrap();
    let mut run = 0;
    let error = loop {
        run += 1;
        assert!(run < 1000, "the disk does not get full");
        // Every other one has a series beside it.
        if let Err(error) = folder.append(&observed("a", run, 1_000_000, if run % 2 == 0 { 40 } else { 2 })) {
            break error;
        }
    };
    assert!(error.is_out_of_space(), "{error:?}");
    let kept = run - 1;
    let records = store::read(&path).unwrap();
    assert_eq!((records.observations.len() as u32, records.unusable.len()), (kept, 0));
    let text = fs::read_to_string(path.join(OBSERVATIONS)).unwrap();
    assert!(text.ends_with('\n'));
    assert!(folder.append(&observed("a", run, 1_000_000, 40)).is_err_and(|error| error.is_out_of_space()));
    assert!(
        folder.replace_plan(&format!("{PLAN}{}", " ".repeat(64 << 10))).is_err_and(|error| error.is_out_of_space())
    );
    fs::remove_file(ballast).unwrap();
    folder.append(&observed("a", run, 1_000_000, 40)).unwrap();
    drop(folder);
    let folder = Folder::open(&path).unwrap();
    assert_eq!((folder.recorded().len() as u32, folder.torn(), folder.plan()), (run, None, PLAN));
    for observation in store::read(&path).unwrap().observations {
        let taken = observation.series.taken;
        assert_eq!(records.series(&observation.series).unwrap().samples.len() as u64, taken, "{:?}", observation.sweep);
    }
}

#[test]
fn a_series_is_thinned_in_the_line_and_whole_beside_it() {
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("sweep");
    let mut folder = Folder::create(&path, PLAN).unwrap();
    let kept = folder.run_folder("a", 1).unwrap();
    fs::write(kept.join("stdout"), "hello\n").unwrap();
    let mut observation = observed("a", 1, 1_000_000, 1000);
    observation.logs = Some(Logs::new(kept.join("stdout"), kept.join("stderr")));
    folder.append(&observation).unwrap();
    // The same run again: its files go elsewhere.
    assert_ne!(folder.run_folder("a", 1).unwrap(), kept);
    drop(folder);
    let moved = above.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    let records = store::read(&moved).unwrap();
    let line = &records.observations[0];
    assert!(line.series.samples.len() <= SAMPLES_IN_LINE && line.series.samples.len() * 2 > SAMPLES_IN_LINE);
    assert!(line.series.samples.contains(observation.series.samples.last().unwrap()), "the highest one is kept");
    assert_eq!(records.series(&line.series).unwrap(), observation.series);
    let stdout = records.beside(&line.logs.as_ref().unwrap().stdout);
    assert_eq!(fs::read_to_string(stdout).unwrap(), "hello\n");
}

#[test]
fn a_newer_record_is_refused_and_the_old_ones_are_read() {
    let records = store::read(&fixtures()).unwrap();
    assert_eq!((records.observations.len(), records.unusable.len()), (13, 0));
    // Everything written is read again: no field is lost.
    let text = fs::read_to_string(fixtures().join(OBSERVATIONS)).unwrap();
    for (line, observation) in text.lines().zip(&records.observations) {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["schema_version"] = SCHEMA_VERSION.into();
        for warning in line.get_mut("warnings").and_then(Value::as_array_mut).into_iter().flatten() {
            *warning = json!({"code": "text", "text": *warning});
        }
        assert_eq!(serde_json::to_value(observation).unwrap(), line);
    }
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("sweep");
    drop(Folder::create(&path, PLAN).unwrap());
    let newer = text.lines().enumerate().map(|(place, line)| match place {
        ..9 => line.replacen("{\"schema_version\":1", "{\"schema_version\":3", 1),
        _ => line.to_owned(),
    });
    let mut newer: Vec<String> = newer.collect();
    newer.reverse();
    fs::write(path.join(OBSERVATIONS), newer.join("\n") + "\n").unwrap();
    let error = Folder::open(&path).unwrap_err();
    assert!(matches!(error, FolderError::Read(ReadError::Newer { line: 5, found: 3, .. })), "{error}");
    assert!(store::read(&path).is_err());
}

#[test]
fn warnings_that_an_older_highwater_wrote_as_strings_keep_their_texts() {
    let path = fixtures().join("warnings.jsonl");
    let records = store::read(&path).unwrap();
    assert_eq!(records.unusable, []);
    let caches: Vec<_> = records.observations.iter().map(|run| run.cache).collect();
    let cold = |dropped| Some(Cache::Cold { dropped });
    assert_eq!(caches, [Some(Cache::Warm), cold(Dropped::Everything), cold(Dropped::Inputs)]);
    for (line, run) in fs::read_to_string(path).unwrap().lines().zip(&records.observations) {
        let line: Value = serde_json::from_str(line).unwrap();
        let notes: BTreeSet<String> = run.notes().collect();
        assert_eq!(json!(notes), json!(serde_json::from_value::<BTreeSet<String>>(line["warnings"].clone()).unwrap()));
        assert!(run.warnings.iter().all(|warning| matches!(warning, Warning::Text { .. })), "{run:?}");
        // What is written of it is a record of today.
        let again = serde_json::to_string(run).unwrap();
        assert!(again.starts_with("{\"schema_version\":2,"), "{again}");
        assert_eq!(serde_json::from_str::<Observation>(&again).unwrap(), *run);
    }
}

#[test]
fn a_broken_line_is_told_and_the_rest_stays_usable() {
    let above = tempfile::tempdir().unwrap();
    let path = above.path().join("sweep");
    let mut folder = Folder::create(&path, PLAN).unwrap();
    (1..=3).for_each(|run| folder.append(&observed("a", run, 1_000_000, 2)).unwrap());
    drop(folder);
    let record = path.join(OBSERVATIONS);
    let text = fs::read_to_string(&record).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&record, format!("{}\n{}\n{}\n", lines[0], &lines[1][..lines[1].len() / 2], lines[2])).unwrap();
    let mut folder = Folder::open(&path).unwrap();
    assert_eq!(folder.recorded().iter().map(|run| run.run).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(folder.unusable().iter().map(|line| (line.line, line.torn)).collect::<Vec<_>>(), [(2, false)]);
    folder.append(&observed("a", 2, 1_000_000, 2)).unwrap();
    let records = store::read(&path).unwrap();
    assert_eq!((records.observations.len(), records.unusable.len()), (3, 1));
}

#[test]
fn many_lines_are_indexed_as_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.jsonl");
    let mut text = Vec::new();
    for run in 1..=3000 {
        let observation = observed("a", run, 1_000_000 + u64::from(run), u64::from(run % 7));
        serde_json::to_writer(&mut text, &observation).unwrap();
        text.write_all(if run % 10 == 0 { b"\n\n" } else { b"\n" }).unwrap();
        if run % 1000 == 0 {
            text.write_all(b"{\"schema_version\":1,\"sweep\":{}\n").unwrap();
        }
    }
    assert!(text.len() > 2 << 20, "more than one thread is to read it");
    fs::write(&path, text).unwrap();
    let (index, records) = (store::index(&path).unwrap(), store::read(&path).unwrap());
    assert_eq!(index.recorded.iter().map(|run| run.run).collect::<Vec<_>>(), (1..=3000).collect::<Vec<_>>());
    let lines = |unusable: &[store::Unusable]| unusable.iter().map(|line| line.line).collect::<Vec<_>>();
    assert_eq!(lines(&index.unusable), lines(&records.unusable));
    assert_eq!(lines(&index.unusable).len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn wherever_a_record_is_cut_all_whole_lines_are_read(place in 0.0..=1.0_f64, samples in 0..5_u64) {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("sweep");
        let mut folder = Folder::create(&path, PLAN).unwrap();
        (1..=4).for_each(|run| folder.append(&observed("ä", run, 1_000_000, samples)).unwrap());
        drop(folder);
        let record = path.join(OBSERVATIONS);
        let text = fs::read(&record).unwrap();
        let cut = (text.len() as f64 * place) as usize;
        fs::write(&record, &text[..cut]).unwrap();
        // A line that only lacks its line break is complete.
        let ends: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'\n').collect();
        let whole = ends.iter().filter(|end| cut >= **end).count();
        let torn = cut > 0 && text[cut - 1] != b'\n' && !ends.contains(&cut);
        let records = store::read(&path).unwrap();
        prop_assert_eq!(records.observations.len(), whole);
        prop_assert_eq!(records.unusable.iter().map(|line| line.torn).collect::<Vec<_>>(), vec![true; usize::from(torn)]);
        let mut folder = Folder::open(&path).unwrap();
        prop_assert_eq!((folder.recorded().len(), folder.unusable().len()), (whole, 0));
        prop_assert_eq!(folder.torn().is_some(), torn);
        folder.append(&observed("ä", 9, 1_000_000, samples)).unwrap();
        let records = store::read(&path).unwrap();
        prop_assert_eq!((records.observations.len(), records.unusable.len()), (whole + 1, 0));
    }
}
