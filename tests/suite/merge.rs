//! `highwater merge`: the records of one plan from several places.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use highwater::store::{self, Folder, OBSERVATIONS};

use crate::store::{PLAN, observed};

fn merge(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.arg("merge").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Merges a part of the records; returns what is said beside the cells that have none.
fn merge_some(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let (status, said) = merge(folder, &[arguments, &["--partial"]].concat());
    (status, said.split_inclusive('\n').filter(|line| !line.contains("of the plan ha")).collect())
}

fn record(folder: &Path) -> String {
    fs::read_to_string(folder.join(OBSERVATIONS)).unwrap()
}

/// The runs of a record: their cells and numbers.
fn runs(folder: &Path) -> Vec<(String, u32)> {
    let sweeps = store::read(folder).unwrap().observations.into_iter().filter_map(|observation| observation.sweep);
    sweeps.map(|sweep| (sweep.cell, sweep.run)).collect()
}

/// The records of four processes that have run a cell each, three times; and those of one process that has run them
/// all.
fn four_and_one() -> tempfile::TempDir {
    let above = tempfile::tempdir().unwrap();
    let mut one = Folder::create(&above.path().join("one"), PLAN).unwrap();
    let mut nodes: Vec<Folder> =
        (0..2).map(|node| Folder::create(&above.path().join(format!("node{node}")), PLAN).unwrap()).collect();
    for (place, cell) in ["d", "b", "a", "c"].into_iter().enumerate() {
        for run in 1..=3 {
            let observation = observed(cell, run, 1_000_000 + place as u64, if run == 2 { 100 } else { 3 });
            one.append(&observation).unwrap();
            if place < 2 {
                nodes[place].append(&observation).unwrap();
            } else {
                let file = above.path().join(format!("{cell}.jsonl"));
                store::Record::open(&file).unwrap().append(&observation).unwrap();
            }
        }
    }
    above
}

const PLACES: [&str; 4] = ["node0", "node1", "a.jsonl", "c.jsonl"];

#[test]
fn merged_twice_equals_once_equals_one_sweep() {
    let above = four_and_one();
    let into = above.path().join("all");
    let (status, said) = merge(above.path(), &[&PLACES[..], &["--into", "all"]].concat());
    assert_eq!((status, said.as_str()), (0, "12 records were added; all now has 12\n"));
    let once = record(&into);
    let (status, said) = merge(above.path(), &[&PLACES[..], &["--into", "all"]].concat());
    assert_eq!((status, said.as_str()), (0, "0 records were added; 12 already existed; all now has 12\n"));
    assert_eq!(record(&into), once);
    // In the order of the plan, in which the single sweep ran.
    let one = above.path().join("one");
    assert_eq!(runs(&into), runs(&one));
    let (all, one) = (store::read(&into).unwrap(), store::read(&one).unwrap());
    for (merged, observation) in all.observations.iter().zip(&one.observations) {
        let series = |records: &store::Records, observation| records.series(observation).unwrap();
        assert_eq!(series(&all, &merged.series), series(&one, &observation.series), "{:?}", merged.sweep);
        assert_eq!((merged.peak.as_ref(), merged.started_at), (observation.peak.as_ref(), observation.started_at));
    }
}

#[test]
fn cells_without_a_record_are_named() {
    let above = four_and_one();
    let (status, said) = merge(above.path(), &["node0", "--into", "all"]);
    let expected = "3 records were added; all now has 3\n3 cells of the plan have no record: 1 (b), 2 (a), 3 (c)\n";
    assert_eq!((status, said.as_str()), (5, expected));
    let (status, said) = merge(above.path(), &["node1", "a.jsonl", "--into", "all", "--partial"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.ends_with("1 cell of the plan has no record: 3 (c)\n"), "{said}");
    assert_eq!(merge(above.path(), &["c.jsonl", "--into", "all"]).0, 0);
}

#[test]
fn the_order_of_the_places_does_not_matter() {
    let above = four_and_one();
    assert_eq!(merge_some(above.path(), &[&PLACES[..], &["--into", "all"]].concat()).0, 0);
    for (turn, place) in PLACES.iter().rev().enumerate() {
        // The plan comes with a directory of the sweep.
        let plan = if turn < 2 { vec!["--plan", "one/plan.json"] } else { vec![] };
        let (status, said) = merge_some(above.path(), &[&[*place, "--into", "reversed"], &plan[..]].concat());
        assert_eq!(status, 0, "{said}");
    }
    assert_eq!(record(&above.path().join("reversed")), record(&above.path().join("all")));
}

#[test]
fn plans_with_the_same_cells_are_the_same() {
    let above = four_and_one();
    let file = above.path().join("node1/plan.json");
    let asked = PLAN
        .replacen('{', "{\"sweep\":{\"runs\":5},", 1)
        .replace("{\"key\":\"d\"},", "")
        .replace("[", "[{\"key\":\"d\"},");
    assert_ne!(asked, PLAN);
    fs::write(file, asked).unwrap();
    assert_eq!(merge_some(above.path(), &["node1", "--into", "node0"]).0, 0);
    assert_eq!(fs::read_to_string(above.path().join("node0/plan.json")).unwrap(), PLAN);
}

#[test]
fn plans_with_an_earlier_and_the_current_name_of_a_setting_are_the_same() {
    let above = four_and_one();
    for (node, name) in [("node0", "noise-floor"), ("node1", "idle-peak")] {
        let plan = PLAN.replacen('{', &format!("{{\"sweep\":{{\"{name}\":true}},"), 1);
        fs::write(above.path().join(node).join("plan.json"), plan).unwrap();
    }
    let (status, said) = merge_some(above.path(), &["node1", "--into", "node0"]);
    assert_eq!(status, 0, "{said}");
}

#[test]
fn what_was_measured_before_the_plan_of_a_folder_was_changed_is_merged_too() {
    let above = four_and_one();
    let mut changed =
        Folder::create(&above.path().join("changed"), "{\"schema_version\":1,\"cells\":[{\"key\":\"x\"}]}").unwrap();
    changed.append(&observed("x", 1, 5, 0)).unwrap();
    changed.replace_plan(PLAN).unwrap();
    changed.append(&observed("a", 1, 5, 0)).unwrap();
    drop(changed);
    let both = vec![("x".to_owned(), 1), ("a".to_owned(), 1)];
    let (status, said) = merge_some(above.path(), &["changed", "--into", "new"]);
    assert_eq!((status, runs(&above.path().join("new"))), (0, both.clone()), "{said}");
    let (status, said) = merge_some(above.path(), &["node1", "--into", "changed"]);
    assert_eq!(status, 0, "{said}");
    let merged = runs(&above.path().join("changed"));
    assert!(merged.len() == 5 && both.iter().all(|run| merged.contains(run)), "{merged:?}");
}

#[test]
fn one_run_that_was_measured_twice_is_kept_twice_with_all_it_left() {
    let above = tempfile::tempdir().unwrap();
    for (name, peak) in [("x", 1_000_000), ("y", 2_000_000)] {
        Folder::create(&above.path().join(name), PLAN).unwrap().append(&observed("a", 1, peak, 100)).unwrap();
    }
    assert_eq!(
        merge_some(above.path(), &["x", "y", "--into", "x"]).1,
        "1 record was added; 1 already existed; x now has 2\n"
    );
    let records = store::read(&above.path().join("x")).unwrap();
    let series: Vec<_> =
        records.observations.iter().map(|run| records.series(&run.series).unwrap().samples.len()).collect();
    assert_eq!(series, [100, 100]);
    assert_ne!(records.observations[0].series.file, records.observations[1].series.file);
}

#[test]
fn records_of_something_else_are_refused_and_nothing_is_changed() {
    let above = four_and_one();
    let path = above.path();
    let before = record(&path.join("node0"));
    let other = Folder::create(&path.join("other"), "{\"schema_version\":1,\"cells\":[{\"key\":\"x\"}]}");
    other.unwrap().append(&observed("x", 1, 5, 0)).unwrap();
    store::Record::open(&path.join("x.jsonl")).unwrap().append(&observed("x", 1, 5, 0)).unwrap();
    let mut no_sweep = observed("x", 1, 5, 0);
    no_sweep.sweep = None;
    store::Record::open(&path.join("run.jsonl")).unwrap().append(&no_sweep).unwrap();
    let told: Vec<String> = [
        vec!["node1", "other", "--into", "node0"],
        vec!["node1", "x.jsonl", "--into", "node0"],
        vec!["run.jsonl", "--into", "node0"],
        vec!["x.jsonl", "--into", "new"],
        vec!["missing", "--into", "node0"],
        vec!["missing", "--into", "new"],
        vec!["node1", "--into", "."],
    ]
    .into_iter()
    .map(|arguments| {
        let (status, said) = merge(path, &arguments);
        format!("highwater merge {}\nstatus {status}\n{said}", arguments.join(" "))
    })
    .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(record(&path.join("node0")), before);
    assert!(!path.join("new").exists());
}

#[test]
fn a_folder_that_is_in_use_is_not_merged_into() {
    let above = four_and_one();
    let _held = Folder::open(&above.path().join("one")).unwrap();
    let (status, said) = merge(above.path(), &["node0", "--into", "one"]);
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("one is in use by process"), "{said}");
    // Reading needs no lock.
    assert_eq!(merge(above.path(), &["one", "--into", "copy"]).0, 0);
}

#[test]
fn a_pipe_does_not_block_a_merge() {
    let above = four_and_one();
    nix::unistd::mkfifo(&above.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (status, said) = merge(above.path(), &["pipe", "--into", "all"]);
    assert_eq!(status, 2, "{said}");
    assert!(!above.path().join("all").exists());
}

#[test]
fn broken_lines_are_told_and_those_of_the_folder_are_kept() {
    let above = four_and_one();
    let folder = above.path().join("node0");
    let text = record(&folder);
    fs::write(folder.join(OBSERVATIONS), text.replacen("\"runner\"", "\"r", 1)).unwrap();
    let (status, said) = merge_some(above.path(), &["node0", "node1", "--into", "all"]);
    assert_eq!(status, 0);
    assert!(said.starts_with("highwater: node0/observations.jsonl:1: skipped: "), "{said}");
    assert!(said.ends_with("5 records were added; all now has 5\n"), "{said}");
    assert_eq!(merge_some(above.path(), &["node1", "--into", "node0"]).0, 0);
    assert!(record(&folder).lines().last().unwrap().contains("\"r:"), "what is broken is not thrown away");
}
