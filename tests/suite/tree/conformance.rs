//! `fixtures/trees`: what a scale rule counts, case by case, worked out from the contract.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use highwater::model::rule::Mode;
use highwater::tree::{Options, Selection, Totals, survey};
use tempfile::TempDir;

use super::planted::{Entry, rows, unescaped};

const TREES: &str = include_str!("../../../fixtures/trees/trees.tsv");
const CASES: &str = include_str!("../../../fixtures/trees/cases.tsv");

/// One line of the table.
#[derive(Debug)]
struct Case {
    tree: &'static str,
    dir: Option<&'static str>,
    glob: Option<&'static str>,
    regex: Option<&'static str>,
    /// Files, sum, largest file, largest item.
    expected: [u64; 4],
    python: &'static str,
    why: &'static str,
}

fn cases() -> Vec<Case> {
    let field = |text: &'static str| match text {
        "-" => None,
        "\"\"" => Some(""),
        text => Some(text),
    };
    rows(CASES)
        .map(|row| match row.as_slice() {
            [tree, dir, glob, regex, files, sum, max, item, python, why] => Case {
                tree,
                dir: field(dir),
                glob: field(glob),
                regex: field(regex),
                expected: [files, sum, max, item].map(|number| number.parse().unwrap()),
                python,
                why,
            },
            other => panic!("a case has ten columns: {other:?}"),
        })
        .collect()
}

/// Every tree on disk, by its name.
fn trees() -> BTreeMap<&'static str, TempDir> {
    let mut trees = BTreeMap::new();
    for row in rows(TREES) {
        let [tree, kind, path, value] = row.as_slice() else { panic!("an entry has four columns: {row:?}") };
        let folder = trees.entry(*tree).or_insert_with(|| tempfile::tempdir().unwrap());
        let entry = Entry { kind: kind.chars().next().unwrap(), path: unescaped(path).into(), value: unescaped(value) };
        entry.plant(folder.path());
    }
    trees
}

fn selection(case: &Case) -> Selection {
    Selection::compile(case.dir, case.glob, case.regex).unwrap_or_else(|error| panic!("{case:?}: {error}"))
}

fn numbers(totals: &Totals) -> [u64; 4] {
    [totals.files, totals.n(Mode::Sum).0, totals.n(Mode::MaxFileSize).0, totals.n(Mode::MaxItemSum).0]
}

fn surveyed(channel: &Path, selections: &[Selection], threads: usize) -> Vec<[u64; 4]> {
    let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
    survey(channel, selections, &options).unwrap().totals.iter().map(numbers).collect()
}

#[test]
fn every_case_has_its_reason() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    assert!(cases.iter().all(|case| case.why.len() > 5));
}

#[test]
fn every_case_comes_to_the_numbers_of_the_table() {
    let trees = trees();
    let mut wrong = Vec::new();
    for case in cases() {
        let found = surveyed(trees[case.tree].path(), &[selection(&case)], 1);
        if found != [case.expected] {
            wrong.push(format!("{found:?} for {case:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn several_rules_at_once_come_to_the_same_as_one_by_one() {
    let cases = cases();
    for (tree, channel) in trees() {
        let of_tree: Vec<&Case> = cases.iter().filter(|case| case.tree == tree).collect();
        let selections: Vec<Selection> = of_tree.iter().map(|case| selection(case)).collect();
        let expected: Vec<[u64; 4]> = of_tree.iter().map(|case| case.expected).collect();
        for threads in [1, 3] {
            assert_eq!(surveyed(channel.path(), &selections, threads), expected, "{tree}, {threads} threads");
        }
    }
}

#[test]
fn without_items_nothing_else_changes() {
    let trees = trees();
    for case in cases() {
        let found = surveyed(trees[case.tree].path(), &[selection(&case).without_items()], 1);
        assert_eq!(found[0][..3], case.expected[..3], "{case:?}");
    }
}

/// Asks Python where it is at hand. What the table says does not depend on it.
#[test]
fn python_counts_the_same_where_the_table_says_so() {
    let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/trees/reference.py");
    let started = Command::new("python3").arg(reference).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut python) = started else {
        println!("skipped: python3 is not installed");
        return;
    };
    let (mut questions, answers) = (python.stdin.take().unwrap(), BufReader::new(python.stdout.take().unwrap()));
    let mut answers = answers.lines();
    let version: (u32, u32) = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
    if version < (3, 11) {
        println!("skipped: Python {version:?} is older than 3.11, whose globs differ");
        return;
    }
    let trees = trees();
    for case in cases() {
        let is_same = case.python == "same" || case.python == "before 3.13" && version < (3, 13);
        if !is_same {
            continue;
        }
        let channel = String::from_utf8(trees[case.tree].path().as_os_str().as_bytes().to_vec()).unwrap();
        writeln!(questions, "{}", serde_json::json!([channel, case.dir, case.glob, case.regex])).unwrap();
        let answer: [u64; 4] = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(answer, case.expected, "Python {version:?}, {case:?}");
    }
    drop(questions);
    assert!(python.wait().unwrap().success());
}
