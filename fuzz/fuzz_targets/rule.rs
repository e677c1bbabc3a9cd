//! Rules: accepted exactly where the documented pattern accepts them, evaluated exactly, and explained where refused.
#![no_main]

use std::sync::LazyLock;

use highwater::model::rule::{EvalError, Formula};
use highwater::model::units::Bytes;
use libfuzzer_sys::fuzz_target;
use num_bigint::BigInt;
use regex::Regex;

static PATTERN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?-u)^([-+]?)(\d*)(?:\.(\d+))?\*?n(?:\*\*(\d+))?$").expect("a pattern"));
static SUGGESTION: LazyLock<Regex> = LazyLock::new(|| Regex::new("write `([^`]*)` instead").expect("a pattern"));

// The seeds hold many rules, one in a line; a line break inside of a rule is tried with the whole text.
fuzz_target!(|text: &str| {
    check(text);
    text.lines().for_each(check);
});

fn check(text: &str) {
    match Formula::complexity(text) {
        Ok(formula) => {
            assert!(PATTERN.is_match(text));
            accepted(text, &formula);
        }
        Err(error) => {
            assert!(!PATTERN.is_match(text) || error.problem.label.is_some_and(|label| label.contains("at most")));
            let span = error.problem.span.clone().expect("a place");
            assert!(text.get(span).is_some());
            let help = error.problem.help.clone().expect("a remedy");
            if let Some(rule) = SUGGESTION.captures(&help) {
                assert!(Formula::complexity(&rule[1]).is_ok());
            }
        }
    }
}

fn accepted(text: &str, formula: &Formula) {
    assert_eq!(formula.to_string(), text);
    let canonical = Formula::complexity(&formula.canonical()).expect("a rule");
    assert_eq!((canonical.coefficient(), canonical.exponent()), (formula.coefficient(), formula.exponent()));
    for n in [0, 1, 2, 1001, 1 << 40, u64::MAX] {
        let result = formula.evaluate(Bytes(n));
        if let Err(error) = &result {
            assert!(!error.to_string().is_empty());
        }
        if text.len() < 200 && formula.exponent() < 100 {
            let meant = by_definition(text, n);
            match result {
                Ok(bytes) => assert_eq!(BigInt::from(bytes.0), meant),
                Err(EvalError::Negative { .. }) => assert!(text.starts_with('-')),
                Err(EvalError::Overflow { .. }) => assert!(meant > BigInt::from(u64::MAX)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn by_definition(rule: &str, n: u64) -> BigInt {
    let captures = PATTERN.captures(rule).expect("a rule");
    let part = |index| captures.get(index).map_or("", |part| part.as_str());
    let digits = if part(2).is_empty() && part(3).is_empty() { "1".to_owned() } else { [part(2), part(3)].concat() };
    let exponent = if part(4).is_empty() { 1 } else { part(4).parse().expect("an exponent") };
    let scale = BigInt::from(10).pow(part(3).len() as u32);
    let product = digits.parse::<BigInt>().expect("digits") * BigInt::from(n).pow(exponent);
    let ceiling: BigInt = (product + &scale - 1) / scale;
    if part(1) == "-" { -ceiling } else { ceiling }
}
