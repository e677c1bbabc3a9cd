//! The lint `regex-never-matches`: where it speaks, no path matches. The first line is a regex, the others are paths.
#![no_main]

use highwater::model::lint::{RuleFacts, TaskFacts, lint};
use highwater::model::rule::{Formula, Mode, RuleType, ScaleRule};
use libfuzzer_sys::fuzz_target;
use regex::Regex;

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
    let whole = Regex::new(&format!(r"\A(?:{regex})\z")).expect("what is decided is a regex");
    for path in paths.split('\n').chain(["a", "ct/1.dcm", ".hidden", "ä/b", "a b"]).filter(|path| is_path(path)) {
        assert!(!whole.is_match(path), "{regex:?} matches {path:?}");
    }
});

fn is_path(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
}
