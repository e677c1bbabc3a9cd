//! The result of `--floor`, which is determined once.

use std::process::Command;

use super::{Bench, MIB, json};
use crate::harness::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_highwater");

/// The demonstration's task on two inputs; it needs 24 MiB, or three times its input if that is more.
fn swept(bench: &Bench, words: &[&str]) -> super::Ran {
    let all = [&["--input", "scans", "--items", "1,4", "--into", "records"], words, &["--", PROGRAM, "workload"]];
    bench.sweep(&[&all.concat()[..], &["{input}"]].concat())
}

/// The minimum limits of the cells with 4 and with 16 MiB.
fn floors(bench: &Bench) -> Vec<Option<u64>> {
    let mut cells: Vec<(u64, Option<u64>)> = Vec::new();
    for run in bench.records("records") {
        let (input, floor) = (run.inputs[0].all.sum.0, run.floor.map(|floor| floor.bytes.0));
        match cells.iter_mut().find(|(known, _)| *known == input) {
            Some((_, known)) => *known = known.or(floor),
            None => cells.push((input, floor)),
        }
    }
    cells.sort_unstable();
    cells.into_iter().map(|(_, floor)| floor).collect()
}

/// Whether limits are available here; reports why not.
fn limits_or_skip(ran: &super::Ran) -> bool {
    let lacks = ["limits need a cgroup", "has no peak to start from"];
    let kept = !lacks.iter().any(|message| ran.stderr.contains(message));
    if !kept {
        assert_eq!(ran.status, Some(3), "{}", ran.stderr);
        skip("no cgroup can be made");
    }
    kept
}

#[test]
fn each_cell_gets_its_floor_once() {
    let bench = Bench::with_items(4, 4 * MIB);
    let ran = swept(&bench, &["-r", "2", "--floor=5%"]);
    if !limits_or_skip(&ran) {
        return;
    }
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches(", floor ").count(), 2, "{}", ran.stderr);
    for (floor, need) in floors(&bench).into_iter().zip([24 * MIB, 48 * MIB]) {
        let floor = floor.unwrap();
        assert!((need..need + 8 * MIB).contains(&floor), "{floor} is not about {need}");
    }
    // Each try is recorded, under limits that the plan's own runs did not have.
    let records = bench.records("records");
    assert!(records.len() == 4 && records.iter().all(|run| !run.censored), "{records:#?}");
    let with_floor = records.iter().find(|run| run.floor.is_some()).and_then(|run| run.sweep.clone()).unwrap();
    let tries = format!("records/runs/{}-{}/floor.jsonl", with_floor.cell, with_floor.run);
    let tries = bench.records(&tries);
    assert!(tries.len() > 3 && tries.iter().any(|one| one.censored), "{tries:#?}");
    // Repeating it has nothing to do.
    assert_eq!(swept(&bench, &["-r", "2", "--floor=5%"]).status, Some(0));
    assert_eq!(bench.records("records").len(), 4);
}

#[test]
fn a_sweep_without_floors_gets_them_later() {
    let bench = Bench::with_items(4, 4 * MIB);
    assert_eq!(swept(&bench, &["-r", "2"]).status, Some(0));
    assert_eq!(floors(&bench), [None, None]);
    let planned = swept(&bench, &["-r", "2", "--floor", "--dry-run"]);
    assert!(planned.stdout.contains("2 runs to do") && planned.stdout.contains("2 floors"), "{}", planned.stdout);
    let ran = swept(&bench, &["-r", "2", "--floor=10%"]);
    if !limits_or_skip(&ran) {
        return;
    }
    assert!(floors(&bench).iter().all(Option::is_some), "{}", ran.stderr);
    assert_eq!(bench.records("records").len(), 6, "what was there stays");
    let told = |words: &[&str]| {
        let output = Command::new(PROGRAM).current_dir(bench.path()).args(words).output().unwrap();
        json(&String::from_utf8(output.stdout).unwrap())
    };
    let [shown, reported] =
        [told(&["show", "records", "--format", "json"]), told(&["report", "records", "--format", "json"])];
    for (cells, floor) in [(&shown["cells"], "floor_bytes"), (&reported["tasks"][0]["cells"], "floor")] {
        assert!(cells.as_array().unwrap().iter().all(|cell| cell[floor].is_u64()), "{cells:#}");
    }
}

#[test]
fn no_try_follows_one_that_has_changed_the_input() {
    let bench = Bench::with_items(1, 1000);
    let script = "if [ -e measured ]; then echo >> $0/p01/ct.raw; fi; touch measured";
    let words = ["--input", "scans", "--input-access", "watched", "--floor", "--into", "r", "--", "sh", "-c", script];
    let ran = bench.sweep(&[&words[..], &["{input}"]].concat());
    if !limits_or_skip(&ran) {
        return;
    }
    assert_eq!(ran.status, Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("p01/ct.raw was changed"), "{}", ran.stderr);
    let length = std::fs::metadata(bench.path().join("scans/p01/ct.raw")).unwrap().len();
    assert_eq!(length, 1001, "another try was made");
    let records = bench.records("r");
    assert_eq!(records.len(), 1, "the measured run is kept");
    assert_eq!(records[0].floor, None);
}

#[test]
fn floors_need_runs_without_a_limit() {
    let refused = swept(&Bench::with_items(4, 1), &["--floor", "--limit", "1Gi"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("--limit"), "{}", refused.stderr);
}
