//! Explains why a string is not a rule: its first wrong character, what was expected there, and what to write instead.

use super::parse::{self, Mismatch};
use crate::model::problem::Problem;
use crate::model::spelling::{ascii_digit, quote, superscript_digit};

const SHAPE: &str = "a rule is a coefficient and a whole power of n, such as `n`, `2*n` or `1.5*n**2`; \
                     a fixed amount of memory goes into resources.limits.memory";
/// The longest rule to suggest.
const LONGEST: usize = 100;

/// The problem of a text whose parsing stopped at `mismatch`.
pub(super) fn diagnose(text: &str, mismatch: Mismatch<'_>) -> Problem {
    if text.trim().is_empty() {
        let problem = Problem::error("rule-empty", "the rule is empty").at(0..text.len());
        return problem.label("expected a power of n").help(format!("{SHAPE}; remove it for no rule"));
    }
    let tight: String = text.split_whitespace().collect();
    // White space is the problem only where there is no other one.
    let (start, expected) = match parse::power(&tight) {
        Ok(_) => (text.len() - mismatch.rest.len(), mismatch.expected),
        Err(other) => (position(text, tight.len() - other.rest.len()), other.expected),
    };
    let found = word(&text[start..]);
    let message = match found.chars().next() {
        None => "the rule is incomplete".to_owned(),
        Some(char) if char.is_whitespace() => "white space in a rule".to_owned(),
        Some(_) => format!("unexpected {} in a rule", quote(found)),
    };
    Problem::error("rule-invalid", message)
        .at(start..start + found.len())
        .label(format!("expected {expected}"))
        .help(respelled(text).map_or_else(|| SHAPE.to_owned(), |rule| format!("write `{rule}` instead")))
}

/// Where the byte `offset` of a text without its white space is in the whole text.
fn position(text: &str, mut offset: usize) -> usize {
    let solid = text.char_indices().filter(|(_, char)| !char.is_whitespace());
    let mut at_offset = solid.skip_while(|(_, char)| {
        let before = offset > 0;
        offset = offset.saturating_sub(char.len_utf8());
        before
    });
    at_offset.next().map_or(text.len(), |(at, _)| at)
}

/// The first character with those that belong to it: letters, digits and points, or white space.
fn word(text: &str) -> &str {
    let kind = |char: char| (char.is_alphanumeric() || matches!(char, '_' | '.'), char.is_whitespace());
    let Some(first) = text.chars().next() else { return "" };
    if kind(first) == (false, false) {
        return &text[..first.len_utf8()];
    }
    &text[..text.find(|char| kind(char) != kind(first)).unwrap_or(text.len())]
}

/// The rule that differs only in how it is spelled: other signs for the same operators, and what separates its parts.
fn respelled(text: &str) -> Option<String> {
    let mut rule = String::new();
    // What separates two numbers is no mistake of spelling.
    let mut separated = false;
    let mut in_superscript = false;
    for char in text.chars() {
        let digit = superscript_digit(char);
        if digit.is_some() && !in_superscript {
            rule.push_str("**");
        }
        in_superscript = digit.is_some();
        match digit.or(ascii_digit(char)).unwrap_or(char) {
            'N' => rule.push('n'),
            '×' | '·' | '⋅' | '∙' | '∗' => rule.push('*'),
            '^' => rule.push_str("**"),
            '−' | '–' | '—' => rule.push('-'),
            '＋' => rule.push('+'),
            char if is_stray(char) => {
                separated = rule.ends_with(|char: char| char.is_ascii_digit());
                continue;
            }
            '0'..='9' | '.' if separated => return None,
            char => rule.push(char),
        }
        separated = false;
        if rule.len() > LONGEST {
            return None;
        }
    }
    parse::power(&rule).is_ok().then_some(rule)
}

/// Whether a character is there by accident: white space, delimiters of other languages, and invisible ones.
fn is_stray(char: char) -> bool {
    matches!(char, '"' | '\'' | '`' | ';' | '$' | '=' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
        || char.is_control()
        || char.is_whitespace()
}
