//! Single cells of a saved plan, run anywhere and merged.

use std::fs;
use std::process::Command;

use highwater::model::observation::Series;
use highwater::model::plan::Plan;
use highwater::store::SAMPLES_IN_LINE;

use super::{Bench, runs, snapshot};

const SWEEP: [&str; 12] =
    ["--input", "scans", "--items", "1,2,3", "-P", "LEVEL=1,2", "--scan", "X=0:0.1:0.1", "-r", "2", "--", "true"];

/// The words of the sweep with these before the command.
fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let (options, command) = SWEEP.split_at(10);
    [options, more, command, &["{input}", "{LEVEL}", "{X}"]].concat()
}

#[test]
fn four_processes_with_three_cells_each_equal_one_with_twelve() {
    let bench = Bench::with_items(3, 1000);
    bench.done(&words(&["--save-plan", "plan.json", "-n"]));
    let plan: Plan = serde_json::from_str(&fs::read_to_string(bench.path().join("plan.json")).unwrap()).unwrap();
    assert_eq!(plan.cells.len(), 12);
    let processes: Vec<_> = (0..4)
        .map(|part| {
            let (cells, record) = (format!("{}-{}", part * 3, part * 3 + 2), format!("cells/{part}.jsonl"));
            fs::create_dir_all(bench.path().join("cells")).unwrap();
            bench.command(&["--file", "plan.json", "--cell-index", &cells, "--record", &record]).spawn().unwrap()
        })
        .collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let merge = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.current_dir(bench.path()).args(["merge", "--plan", "plan.json", "--into", "merged"]);
        let output = command.args((0..4).map(|part| format!("cells/{part}.jsonl"))).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(bench.path().join("merged/observations.jsonl")).unwrap()
    };
    assert_eq!(merge(), merge(), "merging twice is merging once");
    bench.done(&words(&["--into", "alone"]));
    let (merged, alone) = (bench.records("merged"), bench.records("alone"));
    assert_eq!(runs(&merged), runs(&alone));
    assert_eq!((merged.len(), alone.len()), (24, 24));
    // Nothing is left to do in the merged directory.
    bench.done(&["--into", "merged", "--quiet"]);
    assert_eq!(bench.records("merged").len(), 24);
}

#[test]
fn what_runs_of_single_cells_have_printed_goes_along() {
    let bench = Bench::new();
    let highwater = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.current_dir(bench.path()).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    bench.done(&["-P", "N=one,two", "--save-plan", "plan.json", "-n", "--", "echo", "{N}"]);
    fs::create_dir(bench.path().join("cells")).unwrap();
    for (index, record) in [("0", "cells/0.jsonl"), ("1", "1.jsonl")] {
        bench.done(&["--file", "plan.json", "--cell-index", index, "--record", record]);
    }
    highwater(&["merge", "cells/0.jsonl", "1.jsonl", "--plan", "plan.json", "--into", "merged"]);
    fs::remove_dir_all(bench.path().join("cells")).unwrap();
    fs::remove_dir_all(bench.path().join("runs")).unwrap();
    fs::rename(bench.path().join("merged"), bench.path().join("moved")).unwrap();
    assert_eq!(["1", "2"].map(|run| highwater(&["logs", "moved", "--run", run])), ["one\n", "two\n"]);
}

#[test]
fn the_whole_series_of_a_single_cell_is_kept_and_merged() {
    let bench = Bench::new();
    bench.done(&["-P", "S=0.3", "--save-plan", "plan.json", "-n", "--", "sleep", "{S}"]);
    bench.done(&["--file", "plan.json", "--cell-index", "0", "--sample-interval", "5ms", "--record", "c.jsonl"]);
    let mut merge = Command::new(env!("CARGO_BIN_EXE_highwater"));
    merge.current_dir(bench.path()).args(["merge", "c.jsonl", "--plan", "plan.json", "--into", "merged"]);
    assert!(merge.output().unwrap().status.success());
    for place in [".", "merged"] {
        let record = if place == "." { "c.jsonl" } else { place };
        let series = bench.records(record).remove(0).series;
        assert!(series.samples.len() <= SAMPLES_IN_LINE);
        // Without a cgroup, samples are taken less often.
        let Some(file) = series.file else { return crate::harness::skip("too few samples can be taken here") };
        let whole = fs::read_to_string(bench.path().join(place).join(file)).unwrap();
        let whole: Series = serde_json::from_str(&whole).unwrap();
        assert!(whole.samples.len() > SAMPLES_IN_LINE, "{} samples", whole.samples.len());
    }
}

#[test]
fn a_cell_is_found_by_its_key_and_resumed() {
    let bench = Bench::with_items(3, 1000);
    bench.done(&words(&["--save-plan", "plan.json", "-n"]));
    let plan: Plan = serde_json::from_str(&fs::read_to_string(bench.path().join("plan.json")).unwrap()).unwrap();
    let key = &plan.cells[4].key;
    for _ in 0..2 {
        bench.done(&["--file", "plan.json", "--cell", &key[..8]]);
    }
    let records = bench.records(&format!("cell-{key}.jsonl"));
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|run| run.sweep.as_ref().unwrap().cell == *key));
}

#[test]
fn a_cell_whose_input_has_changed_is_refused() {
    let bench = Bench::with_items(3, 1000);
    bench.done(&words(&["--save-plan", "plan.json", "-n"]));
    bench.write("scans/p01/ct.raw", 2000);
    let ran = bench.sweep(&["--file", "plan.json", "--cell-index", "0"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("cell 0 differs from the saved plan"), "{}", ran.stderr);
}

#[test]
fn a_cell_reads_only_its_own_input() {
    let bench = Bench::with_items(3, 1000);
    bench.write("other/p01/ct.raw", 1000);
    let words = ["--input", "scans", "other", "--items", "1", "-P", "N=1", "--", "true", "{input}", "{N}"];
    bench.done(&[&["--save-plan", "plan.json", "-n"], &words[..]].concat());
    bench.done(&["--input", "scans", "--items", "1,3", "--save-plan", "items.json", "-n", "--", "true", "{input}"]);
    fs::remove_dir_all(bench.path().join("other")).unwrap();
    bench.done(&["--file", "plan.json", "--cell-index", "0"]);
    assert_ne!(bench.sweep(&["--file", "plan.json", "--cell-index", "1"]).status, Some(0));
    // The same size, so that only its content tells.
    fs::write(bench.path().join("scans/p03/ct.raw"), vec![8; 1000]).unwrap();
    bench.done(&["--file", "items.json", "--cell-index", "0"]);
    let ran = bench.sweep(&["--file", "items.json", "--cell-index", "1"]);
    assert!(ran.stderr.contains("cell 1 differs from the saved plan"), "{}", ran.stderr);
}

#[test]
fn a_plan_can_be_used_from_any_directory() {
    let bench = Bench::with_items(3, 1000);
    let words = ["--input", "scans", "--items", "1,2", "--", "true", "{input}"];
    bench.done(&[&["--save-plan", "plan.json", "-n"], &words[..]].concat());
    bench.done(&[&["--into", "lungs"], &words[..]].concat());
    fs::create_dir(bench.path().join("elsewhere")).unwrap();
    let done = |words: &[&str]| {
        let output = bench.command(words).current_dir(bench.path().join("elsewhere")).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    done(&["--file", "../plan.json", "--cell-index", "0", "--record", "0.jsonl"]);
    done(&["--into", "../lungs", "-r", "2"]);
    assert_eq!(bench.records("lungs").len(), 4);
    // As typed, paths are relative to the current directory.
    let typed = bench.command(&["--file", "../plan.json", "--input", "scans", "--cell-index", "0"]);
    let output = { typed }.current_dir(bench.path().join("elsewhere")).output().unwrap();
    assert_ne!(output.status.code(), Some(0));
}

#[test]
fn a_sweep_file_says_the_same_as_the_command_line() {
    let bench = Bench::with_items(3, 1000);
    bench.done(&words(&["--save-plan", "sweep.toml", "--save-plan", "sweep.toml", "-n"][2..]));
    snapshot("a_sweep_file", &fs::read_to_string(bench.path().join("sweep.toml")).unwrap());
    let plan = |words: &[&str]| {
        bench.done(&[words, &["--save-plan", "plan.json", "-n"]].concat());
        fs::read_to_string(bench.path().join("plan.json")).unwrap()
    };
    let of_file = plan(&["--file", "sweep.toml"]);
    bench.done(&words(&["--save-plan", "plan.json", "-n"]));
    assert_eq!(of_file, fs::read_to_string(bench.path().join("plan.json")).unwrap());
    let other: Plan =
        serde_json::from_str(&plan(&["--file", "sweep.toml", "-P", "LEVEL=9", "--items", "all"])).unwrap();
    assert_eq!(other.cells.len(), 2, "what is typed wins");
}

#[test]
fn a_setting_is_found_under_its_earlier_name() {
    let bench = Bench::with_items(3, 1000);
    bench.done(&words(&["--save-plan", "plan.json", "-n"]));
    let mut plan: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(bench.path().join("plan.json")).unwrap()).unwrap();
    plan["sweep"]["noise-floor"] = true.into();
    fs::write(bench.path().join("plan.json"), plan.to_string()).unwrap();
    fs::write(bench.path().join("sweep.toml"), "command = [\"true\"]\nnoise-floor = true\n").unwrap();
    for file in ["plan.json", "sweep.toml"] {
        for typed in [&[][..], &["--idle-peak"], &["--noise-floor"]] {
            let ran = bench.sweep(&[&["--file", file, "-n"], typed].concat());
            // A process cannot have it: it is known, and given once.
            assert!(ran.stderr.contains("--idle-peak has no effect on a process"), "{file} {typed:?}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_changed_plan_keeps_what_still_fits() {
    let bench = Bench::with_items(4, 1000);
    let sweep = |items| ["--input", "scans", "--items", items, "--into", "r", "--", "true", "{input}"];
    bench.done(&sweep("1,2"));
    bench.done(&sweep("2,3,4"));
    let cases: Vec<_> = bench.records("r").into_iter().map(|run| run.sweep.unwrap().case).collect();
    assert_eq!(cases, ["1 item", "2 items", "3 items", "4 items"]);
    bench.write("scans/p02/ct.raw", 1001);
    bench.done(&sweep("1,2"));
    let cases: Vec<_> = bench.records("r").into_iter().skip(4).map(|run| run.sweep.unwrap().case).collect();
    assert_eq!(cases, ["2 items"], "only what has the changed file is made again");
}
