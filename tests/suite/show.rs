//! `highwater show`: the content of records.

use assert_cmd::Command;
use highwater::store::Record;
use serde_json::Value;

use crate::store::{fixtures, observed};

fn show(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_highwater")).arg("show").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn each_cell_is_told_with_what_to_mistrust() {
    let (status, stdout, stderr) = show(&[fixtures().to_str().unwrap()]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    insta::assert_snapshot!(stdout);
    assert!(stdout.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn scripts_get_medians_spreads_and_warnings() {
    let (status, stdout, _) = show(&[fixtures().to_str().unwrap(), "--format", "json"]);
    assert_eq!(status, 0);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((json["records"].as_u64(), json["cells"].as_array().unwrap().len()), (Some(13), 5));
    let cell = json["cells"].as_array().unwrap().iter().find(|cell| cell["case"] == "1 item").unwrap();
    assert_eq!(cell["peak_bytes"]["median"], (252_u64 << 20) as f64);
    assert_eq!(cell["peak_bytes"]["median_absolute_deviation"], (1_u64 << 20) as f64);
    assert_eq!(cell["warnings"][0]["kind"], "first-run-slower");
    assert_eq!(cell["parameters"]["LEVELS"], "4");
}

#[test]
fn notes_tell_cells_apart_by_their_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.jsonl");
    let mut record = Record::open(&file).unwrap();
    for (level, case) in [("10", "1 item"), ("9", "1 item"), ("9", "")] {
        for run in 1..=4 {
            let mut observation = observed(&format!("{level}{case}"), run, if run == 4 { 9 << 20 } else { 1 << 20 }, 2);
            let sweep = observation.sweep.as_mut().unwrap();
            case.clone_into(&mut sweep.case);
            sweep.parameters = [("LEVEL", level), ("MODE", "fast")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
            record.append(&observation).unwrap();
        }
    }
    let (status, stdout, _) = show(&[file.to_str().unwrap()]);
    assert_eq!(status, 0);
    insta::assert_snapshot!(stdout);
}

#[test]
fn peaks_below_the_resolution_have_no_spread() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.jsonl");
    let mut record = Record::open(&file).unwrap();
    for (run, peak) in [(1, 1024), (2, 3072), (3, 4096)] {
        record.append(&observed("small", run, peak, 2)).unwrap();
    }
    let (_, stdout, _) = show(&[file.to_str().unwrap()]);
    let row: Vec<&str> =
        stdout.lines().find(|line| line.starts_with("case small")).unwrap().split_whitespace().collect();
    assert_eq!(row[2..9], ["-", "3", "<4", "KiB", "-", "<4", "KiB"], "{stdout}");
}

#[test]
fn broken_and_missing_records_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("runs.jsonl");
    Record::open(&file).unwrap().append(&observed("a", 1, 1_000_000, 2)).unwrap();
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.insert_str(0, "no record\n");
    text.push_str("{\"schema_version\":1,\"tool");
    std::fs::write(&file, text).unwrap();
    let (status, stdout, stderr) = show(&[file.to_str().unwrap()]);
    assert_eq!(status, 0);
    assert!(stdout.starts_with("1 run in 1 cell, 2023-11-14\n"), "{stdout}");
    assert!(stderr.contains("runs.jsonl:1: skipped: expected ident at line 1"), "{stderr}");
    assert!(stderr.contains("runs.jsonl:3: skipped: incomplete, because its writer was killed"), "{stderr}");
    std::fs::write(&file, "").unwrap();
    assert_eq!(show(&[file.to_str().unwrap()]), (5, String::new(), "the records contain no runs\n".to_owned()));
    let (status, _, stderr) = show(&["/nonexistent"]);
    assert_eq!(status, 2);
    assert!(stderr.contains("failed to read the records /nonexistent"), "{stderr}");
}

#[test]
fn records_of_a_newer_highwater_are_refused_by_every_command_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(fixtures().join("warnings.jsonl")).unwrap();
    let newer = text.replace("{\"schema_version\":1,", "{\"schema_version\":3,");
    std::fs::write(folder.path().join("runs.jsonl"), newer).unwrap();
    std::fs::write(folder.path().join("plan.json"), "{\"schema_version\":1,\"cells\":[]}").unwrap();
    for words in [
        "show",
        "fit",
        "backtest --rule n",
        "report",
        "export",
        "logs",
        "check --records",
        "merge --into merged --plan plan.json",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        command.args(words.split(' ')).arg("runs.jsonl").current_dir(folder.path());
        let stderr = String::from_utf8(command.assert().code(2).get_output().stderr.clone()).unwrap();
        let refused = "runs.jsonl:1: the record has schema version 3, this highwater supports up to 2";
        assert!(stderr.contains(refused) && stderr.contains("help: update highwater"), "{words}: {stderr}");
    }
}

#[test]
fn cells_that_differ_in_their_limit_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |limit: &[&str]| {
        let mut sweep = Command::new(env!("CARGO_BIN_EXE_highwater"));
        sweep.current_dir(folder.path()).args(["sweep", "--quiet", "--into", "runs", "-P", "N=1"]).args(limit);
        sweep.args(["--", "true", "{N}"]).output().unwrap().status.code()
    };
    if sweep(&["--limit", "1Gi"]) != Some(0) {
        return crate::harness::skip("no cgroup can be made");
    }
    assert_eq!(sweep(&[]), Some(0));
    let (_, stdout, _) = show(&[folder.path().join("runs").to_str().unwrap()]);
    assert_eq!(stdout.matches("--limit=1 GiB").count(), 1, "{stdout}");
}

#[test]
fn another_kind_of_file_is_refused_with_one_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("README.md"), "\n# Title\n\nText.\n{}\n").unwrap();
    for words in ["show", "show --format json", "report", "export", "logs", "check --records"] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_highwater"));
        let output = command.current_dir(folder.path()).args(words.split(' ')).arg("README.md").output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words}: {stderr}");
        assert_eq!(stderr.matches("README.md").count(), 1, "{words}: {stderr}");
        assert!(stderr.contains("README.md has no records: line 2 is not a record"), "{words}: {stderr}");
        assert!(stderr.contains("highwater run --record"), "{words}: {stderr}");
    }
    std::fs::write(folder.path().join("runs.csv"), "input_bytes,peak_bytes\n1,2\n").unwrap();
    let (status, _, stderr) = show(&[folder.path().join("runs.csv").to_str().unwrap()]);
    assert!(status == 2 && stderr.contains("highwater import FILE -o FILE.jsonl"), "{stderr}");
}
