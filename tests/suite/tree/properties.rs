//! Properties of all patterns and paths.

use std::path::Path;

use highwater::model::selection::{Selection, SelectionError};
use proptest::prelude::*;

/// Patterns of special characters and some others.
fn pattern() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => "[-a-c.*?/!^\\[\\]é]",
        2 => "[(){}|+$\\\\dwsbBAZ1xPnu<>=:#imsx,0-9 \n]",
        1 => Just("**".to_owned()),
        1 => Just("(?".to_owned()),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// A relative path of common names.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab.]{0,2}[abc]", 1..5).prop_map(|names| names.join("/"))
}

/// Globs that have the same meaning in the `glob` crate.
fn common_glob() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[ab.]{0,2}[abc]", "[abc?]{1,3}", "\\*\\.?[abc]", "[ab]\\*[bc?]", Just("*".to_owned())];
    let segment = prop_oneof![4 => name, 1 => Just("**".to_owned())];
    (prop::collection::vec(segment, 0..4), "[abc*?]").prop_map(|(mut segments, last)| {
        segments.push(last);
        segments.join("/")
    })
}

fn errors(compiled: Result<Selection, SelectionError>) -> Vec<(String, std::ops::Range<usize>)> {
    let flaws = compiled.err().map(|error| error.flaws).unwrap_or_default();
    flaws.into_iter().map(|flaw| (flaw.text, flaw.problem.span.unwrap())).collect()
}

proptest! {
    #[test]
    fn every_error_points_into_its_text(text in pattern()) {
        let all = [
            Selection::compile(Some(&text), None, None),
            Selection::compile(None, Some(&text), None),
            Selection::compile(None, None, Some(&text)),
        ];
        for (text, span) in all.into_iter().flat_map(errors) {
            prop_assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
        }
    }

    #[test]
    fn globs_agree_with_the_glob_crate_where_both_mean_the_same(glob in common_glob(), path in path()) {
        let ours = Selection::compile(None, Some(&glob), None).unwrap();
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let theirs = glob::Pattern::new(&format!("**/{glob}")).unwrap();
        prop_assert_eq!(ours.matches(Path::new(&path)).unwrap(), theirs.matches_with(&path, options));
    }

    #[test]
    fn patterns_that_match_a_path_are_not_said_to_match_none(
        regex in "[abc.]{0,2}(\\(\\?[=!:][abc./*]{1,3}\\)|\\(\\?<![abc.]\\)|\\.\\*|\\\\b|[abc./?]|\\$){0,4}",
        glob in common_glob(),
        path in path(),
    ) {
        let Ok(selection) = Selection::compile(None, Some(&glob), Some(&regex)) else { return Ok(()) };
        if selection.matches(Path::new(&path)).unwrap() {
            let warnings = selection.warnings().into_iter().chain(selection.hopeless_regex());
            let codes: Vec<_> = warnings.map(|flaw| flaw.problem.code).collect();
            prop_assert!(codes.is_empty(), "{codes:?}");
        }
    }

    #[test]
    fn an_escaped_path_matches_itself_only(path in path(), other in path()) {
        let ours = Selection::compile(None, None, Some(&regex::escape(&path))).unwrap();
        prop_assert!(ours.matches(Path::new(&path)).unwrap());
        prop_assert_eq!(ours.matches(Path::new(&other)).unwrap(), path == other);
    }

    #[test]
    fn an_ending_says_the_same_as_a_glob_and_as_a_regex(ending in "[abc.é]{1,3}", path in path()) {
        let glob = Selection::compile(None, Some(&format!("*{ending}")), None).unwrap();
        let short = Selection::compile(None, None, Some(&format!(".*{}", regex::escape(&ending)))).unwrap();
        let long = Selection::compile(None, None, Some(&format!("(.*)(?:{})", regex::escape(&ending)))).unwrap();
        let [glob, short, long] = [glob, short, long].map(|selection| selection.matches(Path::new(&path)).unwrap());
        prop_assert_eq!((glob, short), (short, long));
    }
}
