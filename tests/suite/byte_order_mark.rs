//! A byte order mark at the start of a text, as some editors and spreadsheets write it, has no effect.

use std::fs;
use std::process::Command;

use super::fit_records::{growing, run};
use super::store::PLAN;

/// A directory with every kind of file that highwater reads.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = growing(1.8).map(|(n, peak)| format!("{}\n", run(n, peak))).collect();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("runs.jsonl", &lines.repeat(3));
    write("highwater.toml", "[tasks.segment]\ncommand = [\"segment\"]\n");
    write("plan.json", PLAN);
    write("sweep.toml", "command = [\"true\"]\n");
    for words in ["export runs.jsonl -o runs.csv", "check --records runs.jsonl --update-baseline"] {
        highwater(folder.path(), words);
    }
    write("fit.json", &highwater(folder.path(), "fit runs.jsonl --format json").1);
    highwater(folder.path(), "sweep --into swept -r 2 -- true");
    folder
}

fn highwater(folder: &std::path::Path, words: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.args(words.split(' ')).current_dir(folder).env_remove("HIGHWATER_LOG").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_reader_passes_over_it() {
    for (words, files) in [
        ("show runs.jsonl", &["runs.jsonl"][..]),
        ("fit runs.jsonl", &["runs.jsonl"]),
        ("fit runs.csv", &["runs.csv"]),
        ("export runs.jsonl", &["runs.jsonl"]),
        ("import runs.csv", &["runs.csv"]),
        ("report runs.jsonl --format json", &["runs.jsonl"]),
        ("check --records runs.jsonl", &["runs.jsonl", "highwater.toml", "highwater-baseline.json"]),
        ("backtest runs.jsonl --fit fit.json", &["runs.jsonl", "fit.json"]),
        ("sweep --file sweep.toml --dry-run", &["sweep.toml"]),
        ("sweep --file swept/plan.json --dry-run", &["swept/plan.json"]),
        ("sweep --into swept --quiet", &["swept/plan.json", "swept/observations.jsonl"]),
        ("merge swept --plan swept/plan.json --into merged", &["swept/plan.json", "swept/observations.jsonl"]),
    ] {
        let (plain, marked) = (folder(), folder());
        for file in files {
            let path = marked.path().join(file);
            fs::write(&path, ["\u{feff}".as_bytes(), &fs::read(&path).unwrap()].concat()).unwrap();
        }
        let (expected, found) = (highwater(plain.path(), words), highwater(marked.path(), words));
        assert!([Some(0), Some(1)].contains(&expected.0), "{words}: {expected:?}");
        // Runs of the two directories differ in their times.
        let told = |of: (Option<i32>, String, String)| {
            if words.starts_with("import") { (of.0, String::new(), of.2) } else { of }
        };
        assert_eq!(told(found), told(expected), "{words}");
    }
}

#[test]
fn records_that_were_put_together_keep_every_line() {
    let folder = folder();
    let lines = fs::read_to_string(folder.path().join("runs.jsonl")).unwrap();
    let marked: String = lines.lines().map(|line| format!("\u{feff}{line}\n")).collect();
    fs::write(folder.path().join("marked.jsonl"), marked).unwrap();
    let shown = |file: &str| highwater(folder.path(), &format!("show {file} --format json"));
    assert_eq!(shown("marked.jsonl"), shown("runs.jsonl"));
}
