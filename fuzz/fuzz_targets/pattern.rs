//! The lint `regex-never-matches`: where it speaks, no path matches. The first line is a regex, the others are paths.
#![no_main]

use std::path::Path;

use highwater::model::lint::{RuleFacts, TaskFacts, lint};
use highwater::model::rule::{Formula, Mode, RuleType, ScaleRule};
use highwater::model::selection::Selection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (regex, paths) = text.split_once('\n').unwrap_or((text, ""));
    let rule = ScaleRule {
        formula: Formula::scale_factor(1),
        applies_to: RuleType::Limit,
        mode: Mode::Sum,
        target_dir: None,
        target_glob: None,
        target_regex: Some(regex.to_owned()),
    };
    let findings =
        lint(&TaskFacts { rules: &[RuleFacts { channel: "ct", rule: &rule, inputs: &[] }], ..TaskFacts::default() });
    if findings.is_empty() {
        return;
    }
    let selection = Selection::compile(None, None, Some(regex)).expect("what is decided is a regex");
    for path in paths.split('\n').chain(["a", "ct/1.dcm", ".hidden", "ä/b", "a b"]).filter(|path| is_path(path)) {
        assert!(!selection.matches(Path::new(path)).unwrap_or(false), "{regex:?} matches {path:?}");
    }
});

fn is_path(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}
