//! Which cases are equal: those of the same name whose files have the same names, sizes and content.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use highwater::store::OBSERVATIONS;

use super::{Bench, runs};

/// The cases that were run, in order.
fn cases(bench: &Bench, place: &str) -> Vec<String> {
    bench.records(place).into_iter().map(|run| run.sweep.unwrap().case).collect()
}

/// Writes other content of the same size, with the time of the old one.
fn replace(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut content = fs::read(path).unwrap();
    change(&mut content);
    fs::write(path, content).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn folders_that_the_user_names_are_cases_of_their_own() {
    let bench = Bench::new();
    for patient in ["a", "b", "c"] {
        bench.write(&format!("{patient}/ct.raw"), 100_000);
    }
    replace(&bench.path().join("b/ct.raw"), |content| content[50_000] = 1);
    // `c` has the same content as `a`.
    let words = ["--input", "a", "b", "c", "--into", "r", "--", "true", "{input}"];
    let ran = bench.done(&words);
    assert!(!ran.stderr.contains("run once"), "{}", ran.stderr);
    assert_eq!(cases(&bench, "r"), ["a", "b", "c"]);
    assert_eq!(runs(&bench.records("r")).len(), 3);
    bench.done(&words);
    assert_eq!(bench.records("r").len(), 3, "all are recorded");
}

#[test]
fn variations_that_come_to_the_same_input_are_run_once() {
    let bench = Bench::with_items(2, 1000);
    let ran =
        bench.done(&["--input", "scans", "--items", "all", "--grow", "1", "--into", "r", "--", "true", "{input}"]);
    assert!(ran.stderr.contains("1 times is identical to 2 items and runs only once"), "{}", ran.stderr);
    assert_eq!(cases(&bench, "r"), ["2 items"]);
}

#[test]
fn replaced_content_is_run_again_and_what_only_looks_new_is_not() {
    let bench = Bench::with_items(3, 100_000);
    let words = ["--input", "scans", "--items", "1,2,all", "--into", "r", "--", "true", "{input}"];
    bench.done(&words);
    assert_eq!(cases(&bench, "r"), ["1 item", "2 items", "3 items"]);
    // Like a checkout or another machine: other inodes, other times.
    let scan = |item: u32| bench.path().join(format!("scans/p0{item}/ct.raw"));
    fs::copy(scan(1), scan(1).with_extension("new")).unwrap();
    fs::rename(scan(1).with_extension("new"), scan(1)).unwrap();
    let times = SystemTime::now() + Duration::from_secs(1000);
    fs::File::options().write(true).open(scan(2)).unwrap().set_modified(times).unwrap();
    bench.done(&words);
    assert_eq!(bench.records("r").len(), 3, "nothing has changed");
    replace(&scan(2), |content| content[99_999] = 1);
    bench.done(&words);
    assert_eq!(cases(&bench, "r")[3..], ["2 items", "3 items"], "only what has the changed file is run again");
}

#[test]
fn bytes_that_are_cut_from_other_content_are_another_input() {
    let bench = Bench::new();
    bench.write("scans/ct.raw", 1000);
    let words = ["--input", "scans", "--size", "64KiB", "--into", "r", "--", "true", "{input}"];
    bench.done(&words);
    bench.done(&words);
    assert_eq!(bench.records("r").len(), 1);
    replace(&bench.path().join("scans/ct.raw"), |content| content[0] = 1);
    bench.done(&words);
    assert_eq!(bench.records("r").len(), 2);
}

/// A sweep that was recorded when the key of a cell only depended on names and sizes of files.
fn older() -> Bench {
    let bench = Bench::with_items(2, 1000);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records/older-keys");
    fs::create_dir(bench.path().join("r")).unwrap();
    for name in ["plan.json", OBSERVATIONS] {
        fs::copy(fixture.join(name), bench.path().join("r").join(name)).unwrap();
    }
    bench
}

const OLDER: [&str; 10] = ["--cgroup", "never", "--input", "scans", "--items", "1,2", "--into", "r", "-r", "1"];

#[test]
fn what_has_an_older_key_counts_as_recorded() {
    let bench = older();
    let shown = bench.done(&["-n", "--into", "r"]).stdout;
    assert!(shown.ends_with("\n0 runs to do\n"), "{shown}");
    let text = fs::read_to_string(bench.path().join("r/plan.json")).unwrap();
    for words in [vec!["--into", "r"], [&OLDER[..], &["--", "true", "{input}"]].concat()] {
        bench.done(&words);
        assert_eq!(cases(&bench, "r"), ["1 item", "2 items"], "{words:?}");
    }
    // More runs are added to the existing ones.
    bench.done(&["--into", "r", "-r", "2"]);
    assert_eq!(cases(&bench, "r")[2..], ["1 item", "2 items"]);
    assert_eq!(runs(&bench.records("r")).len(), 4);
    assert!(bench.records("r").iter().all(|run| text.contains(&run.sweep.as_ref().unwrap().cell)));
}

#[test]
fn older_records_count_where_the_plan_has_changed_since() {
    let bench = older();
    fs::write(bench.path().join("r/plan.json"), "{\"schema_version\":1,\"cells\":[]}").unwrap();
    bench.done(&[&OLDER[..], &["--", "true", "{input}"]].concat());
    assert_eq!(bench.records("r").len(), 2);
}

#[test]
fn cells_of_an_older_plan_are_found_by_their_keys_and_places() {
    let bench = older();
    fs::copy(bench.path().join("r/plan.json"), bench.path().join("plan.json")).unwrap();
    bench.done(&["--file", "plan.json", "--cell", "7497ebf9", "--record", "key.jsonl"]);
    bench.done(&["--file", "plan.json", "--cell-index", "0-1", "--record", "places.jsonl"]);
    let key = |run: &highwater::model::observation::Observation| run.sweep.as_ref().unwrap().cell.clone();
    assert_eq!(bench.records("key.jsonl").iter().map(key).collect::<Vec<_>>(), ["7497ebf9fcc7c780"]);
    let both: Vec<_> = bench.records("places.jsonl").iter().map(key).collect();
    assert_eq!(both, ["7b564c7f36b0bd48", "7497ebf9fcc7c780"]);
}

#[test]
fn the_order_of_the_folders_does_not_matter() {
    let bench = Bench::new();
    bench.write("a/ct.raw", 1000);
    bench.write("b/ct.raw", 1000);
    for [first, second] in [["a", "b"], ["b", "a"]] {
        bench.done(&["--input", first, second, "--into", "r", "--", "true", "{input}"]);
        assert_eq!(cases(&bench, "r"), ["a", "b"]);
    }
}
