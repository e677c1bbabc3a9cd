//! `fixtures/trees`: what a scale rule counts, and how its regex is interpreted, case by case, derived from the
//! contract.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Lines, Write};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use highwater::model::rule::Mode;
use highwater::model::selection::Selection;
use highwater::tree::{Options, Totals, survey};
use tempfile::TempDir;

use super::planted::{Entry, rows, unescaped};

const TREES: &str = include_str!("../../../fixtures/trees/trees.tsv");
const REGEXES: &str = include_str!("../../../fixtures/trees/regexes.tsv");
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

/// The entries of all trees, each with the name of its tree.
pub(super) fn entries() -> impl Iterator<Item = (&'static str, Entry)> {
    rows(TREES).map(|row| {
        let [tree, kind, path, value] = row.as_slice() else { panic!("an entry has four columns: {row:?}") };
        let kind = kind.chars().next().unwrap();
        (*tree, Entry { kind, path: unescaped(path).into(), value: unescaped(value) })
    })
}

/// Every tree on disk, by its name.
fn trees() -> BTreeMap<&'static str, TempDir> {
    let mut trees = BTreeMap::new();
    for (tree, entry) in entries() {
        entry.plant(trees.entry(tree).or_insert_with(|| tempfile::tempdir().unwrap()).path());
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

/// A regex, a path, whether it matches, and why.
fn regexes() -> impl Iterator<Item = (&'static str, OsString, &'static str)> {
    rows(REGEXES).map(|row| match row.as_slice() {
        [regex, path, verdict, why] => {
            assert!(why.len() > 5, "{row:?}");
            (*regex, unescaped(path), *verdict)
        }
        other => panic!("a regex has four columns: {other:?}"),
    })
}

#[test]
fn every_regex_is_read_as_the_table_says() {
    let mut wrong = Vec::new();
    for (regex, path, expected) in regexes() {
        let found = match Selection::compile(None, None, Some(regex)) {
            Ok(selection) if selection.matches(Path::new(&path)).unwrap() => "yes",
            Ok(_) => "no",
            Err(_) => "error",
        };
        if found != expected {
            wrong.push(format!("{found}, not {expected}, for {regex} and {path:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Python with the contract's own implementation, if available. The tables do not depend on it.
struct Python {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    version: (u32, u32),
}

impl Python {
    /// Starts it, or returns why not.
    fn start() -> Result<Self, String> {
        let reference = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/trees/reference.py");
        let started = Command::new("python3").arg(reference).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("python3 cannot be started: {error}"))?;
        let questions = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let version: (u32, u32) = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        if version < (3, 11) {
            return Err(format!("Python {version:?} is older than 3.11, which reads patterns in another way"));
        }
        Ok(Self { child, questions, answers, version })
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, question: &serde_json::Value) -> T {
        writeln!(self.questions, "{question}").unwrap();
        serde_json::from_str(&self.answers.next().unwrap().unwrap()).unwrap()
    }

    fn finish(mut self) {
        drop(self.questions);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn python_counts_the_same_where_the_table_says_so() {
    let mut python = match Python::start() {
        Ok(python) => python,
        Err(reason) => return crate::harness::skip(&reason),
    };
    let trees = trees();
    for case in cases() {
        if case.python != "same" && (case.python != "before 3.13" || python.version >= (3, 13)) {
            continue;
        }
        let channel = trees[case.tree].path().to_str().unwrap();
        let answer: [u64; 4] = python.ask(&serde_json::json!([channel, case.dir, case.glob, case.regex]));
        assert_eq!(answer, case.expected, "Python {:?}, {case:?}", python.version);
    }
    python.finish();
}

#[test]
fn python_reads_every_regex_the_same() {
    let mut python = match Python::start() {
        Ok(python) => python,
        Err(reason) => return crate::harness::skip(&reason),
    };
    for (regex, path, expected) in regexes() {
        // A surrogate that no file name contains is an error here; \z has a meaning since 3.14.
        if regex == r"\ud800" || regex == r"a\z" && python.version >= (3, 14) {
            continue;
        }
        let answer: String = python.ask(&serde_json::json!([regex, path.as_bytes()]));
        assert_eq!(answer, expected, "Python {:?}, {regex} and {path:?}", python.version);
    }
    python.finish();
}
