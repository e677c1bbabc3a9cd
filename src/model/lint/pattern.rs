//! Patterns that select no files.

use super::{Finding, Place, RuleFacts, RuleField};
use crate::model::selection;
use crate::model::spelling::quote;
use crate::model::units::Bytes;

pub(super) fn lint(index: usize, facts: &RuleFacts<'_>) -> Option<Finding> {
    never_matches(index, facts).or_else(|| no_file_matches(index, facts))
}

fn never_matches(index: usize, facts: &RuleFacts<'_>) -> Option<Finding> {
    let problem = selection::never_matches(facts.rule.target_regex.as_deref()?)?;
    Some(Finding { place: Place::Rule(index, RuleField::TargetRegex), problem })
}

fn no_file_matches(index: usize, facts: &RuleFacts<'_>) -> Option<Finding> {
    if facts.inputs.is_empty() || facts.inputs.iter().any(|input| input.matched > 0 || input.n > Bytes::ZERO) {
        return None;
    }
    let (rule, channel) = (facts.rule, quote(facts.channel));
    let present: Option<u64> = facts.inputs.iter().map(|input| input.present).sum();
    let there = match present {
        Some(0) => format!("channel {channel} has no files"),
        Some(1) => format!("not even the only file of channel {channel}"),
        Some(files) => format!("none of the {files} files of channel {channel}"),
        None => format!("no file of channel {channel}"),
    };
    let below = rule.target_dir.as_deref().map_or_else(String::new, |dir| format!(" below target_dir {}", quote(dir)));
    let patterns = [
        (RuleField::TargetRegex, "target_regex", rule.target_regex.as_deref()),
        (RuleField::TargetGlob, "target_glob", rule.target_glob.as_deref()),
    ];
    let given: Vec<_> = patterns.into_iter().filter_map(|(field, name, text)| Some((field, name, text?))).collect();
    let conditions: Vec<String> = given.iter().map(|(_, name, text)| format!("{name} {}", quote(text))).collect();
    let message = match conditions.as_slice() {
        _ if present == Some(0) => {
            format!("{there}: n is 0, and so is the rule {}", quote(&rule.formula.expression()))
        }
        [] => {
            format!("{there} is{below}: n is 0, and so is the rule {}", quote(&rule.formula.expression()))
        }
        conditions => format!("{there}{below} matches {}: n is 0", conditions.join(" and ")),
    };
    let narrowest = given.first().map(|(field, _, text)| (*field, *text));
    let narrowest = narrowest.or(rule.target_dir.as_deref().map(|dir| (RuleField::TargetDir, dir)));
    Some(match narrowest {
        _ if present == Some(0) => Finding::new(Place::Rule(index, RuleField::Whole), "no-file-matches", message)
            .help("give the channel a directory with files"),
        Some((field, text)) => Finding::new(Place::Rule(index, field), "no-file-matches", message)
            .at(0..text.len(), "selects no file")
            .help("see which files count with `highwater inputs`; patterns are case-sensitive"),
        None => Finding::new(Place::Rule(index, RuleField::Whole), "no-file-matches", message)
            .help("see which files count with `highwater inputs`"),
    })
}
