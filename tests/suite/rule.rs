//! The rule language: what is accepted, what it means, and the errors for the rest.

use std::fmt::Write;
use std::sync::LazyLock;

use highwater::model::problem::Problem;
use highwater::model::rule::{EvalError, Formula, Mode, RuleType, ScaleRule};
use highwater::model::units::Bytes;
use num_bigint::{BigInt, Sign};
use proptest::prelude::*;
use regex::Regex;

/// The documented pattern: ASCII digits, and `$` is the end of the text.
static PATTERN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?-u)^[-+]?\d*(\.\d+)?\*?n(\*\*\d+)?$").unwrap());

/// A remedy with the text to write.
pub(crate) static SUGGESTION: LazyLock<Regex> = LazyLock::new(|| Regex::new("write `([^`]*)` instead").unwrap());

const ACCEPTED: &str = include_str!("../../fixtures/rules/accepted.txt");
const REFUSED: &str = include_str!("../../fixtures/rules/refused.txt");

/// Shows a problem below the text it is about.
pub(crate) fn drawn(text: &str, problem: &Problem) -> String {
    let mut shown = String::new();
    if let Some(span) = &problem.span {
        let before = text[..span.start].chars().count();
        let marked = text[span.clone()].chars().count().max(1);
        writeln!(shown, "    {}", text.replace(|char: char| char.is_control() || char == '\u{feff}', "\u{fffd}"))
            .unwrap();
        writeln!(
            shown,
            "    {}{} {}",
            " ".repeat(before),
            "^".repeat(marked),
            problem.label.as_deref().unwrap_or("no label")
        )
        .unwrap();
    }
    write!(shown, "  {}: {}", problem.code, problem.message).unwrap();
    if let Some(help) = &problem.help {
        write!(shown, "\n  help: {help}").unwrap();
    }
    shown
}

fn explained(text: &str) -> String {
    let error = Formula::complexity(text).unwrap_err();
    format!("{text:?}\n{}\n", drawn(text, &error.problem))
}

#[test]
fn every_refused_rule_is_explained_with_its_place_and_remedy() {
    let odd = ["", " ", "n\n", "n\0", "\u{feff}n", "n\u{a0}", "n**2\r\n"];
    let explained: Vec<String> = odd.into_iter().chain(REFUSED.lines()).map(explained).collect();
    insta::assert_snapshot!(explained.join("\n"));
}

#[test]
fn a_long_text_is_refused_in_one_problem() {
    let text = "n+".repeat(1000);
    insta::assert_snapshot!(explained(&text).lines().skip(3).collect::<Vec<_>>().join("\n"));
}

#[test]
fn each_accepted_form_has_a_defined_meaning() {
    let mut table = String::new();
    for rule in ACCEPTED.lines() {
        let formula = Formula::complexity(rule).unwrap();
        let value = |n| match formula.evaluate(Bytes(n)) {
            Ok(bytes) => bytes.0.to_string(),
            Err(EvalError::Negative { result, .. }) => format!("negative: {result}"),
            Err(EvalError::Overflow { result, .. }) => format!("too large: {result}"),
            Err(other) => panic!("{other}"),
        };
        writeln!(
            table,
            "{rule}: {}; n=0: {}; n=1: {}; n=1001: {}",
            formula.canonical(),
            value(0),
            value(1),
            value(1001)
        )
        .unwrap();
    }
    insta::assert_snapshot!(table);
}

#[test]
fn accepted_and_refused_fixtures_agree_with_the_pattern() {
    ACCEPTED.lines().for_each(|rule| assert!(PATTERN.is_match(rule), "{rule}"));
    REFUSED.lines().for_each(|rule| assert!(!PATTERN.is_match(rule), "{rule}"));
}

#[test]
fn all_short_texts_of_the_alphabet_are_accepted_exactly_as_the_pattern_has_it() {
    let mut texts = vec![String::new()];
    for _ in 0..6 {
        let mut longer = Vec::with_capacity(texts.len() * 6);
        for text in &texts {
            assert_eq!(Formula::complexity(text).is_ok(), PATTERN.is_match(text), "{text:?}");
            longer.extend("-+7.*n".chars().map(|char| format!("{text}{char}")));
        }
        texts = longer;
    }
}

/// Strings near the grammar, and arbitrary ones.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        r"[-+]?[0-9]{0,3}(\.[0-9]{1,3})?\*?n(\*\*[0-9]{1,3})?",
        "[-+0-9.*n]{0,12}",
        "[-+0-9.*nN ^eEx()/²Mi,]{0,16}",
        r"[-+]?\d*(\.\d+)?\*?n(\*\*\d+)?\n?",
        ".*",
    ]
}

fn rules() -> impl Strategy<Value = String> {
    r"[-+]?([0-9]{0,19}(\.[0-9]{1,19})?|\.0{0,38}[0-9]{1,19})\*?n(\*\*[0-9]{1,2})?"
}

/// What the rule means, computed with integers of any length.
fn by_definition(rule: &str, n: u64) -> BigInt {
    static PARTS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^([-+]?)(\d*)(?:\.(\d+))?\*?n(?:\*\*(\d+))?$").unwrap());
    let captures = PARTS.captures(rule).unwrap();
    let part = |index| captures.get(index).map_or("", |part| part.as_str());
    let digits = if part(2).is_empty() && part(3).is_empty() { "1".to_owned() } else { [part(2), part(3)].concat() };
    let exponent = if part(4).is_empty() { 1 } else { part(4).parse().unwrap() };
    let scale = BigInt::from(10).pow(part(3).len() as u32);
    let product = digits.parse::<BigInt>().unwrap() * BigInt::from(n).pow(exponent);
    let ceiling: BigInt = (product + &scale - 1) / scale;
    if part(1) == "-" { -ceiling } else { ceiling }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_is_accepted_exactly_where_the_pattern_accepts_it(text in texts()) {
        prop_assert_eq!(Formula::complexity(&text).is_ok(), PATTERN.is_match(&text));
    }

    #[test]
    fn whatever_is_refused_has_a_place_inside_the_text_and_a_remedy(text in texts()) {
        if let Err(error) = Formula::complexity(&text) {
            prop_assert!(error.problem.help.is_some());
            prop_assert!(text.get(error.problem.span.unwrap()).is_some());
        }
    }

    #[test]
    fn every_rule_that_is_suggested_is_a_rule(text in texts()) {
        let help = Formula::complexity(&text).err().and_then(|error| error.problem.help);
        if let Some(rule) = help.as_deref().and_then(|help| SUGGESTION.captures(help)) {
            prop_assert!(Formula::complexity(&rule[1]).is_ok(), "{}", &rule[1]);
        }
    }

    #[test]
    fn a_rule_survives_being_shown(rule in rules()) {
        let formula = Formula::complexity(&rule).unwrap();
        prop_assert_eq!(formula.to_string(), rule);
        prop_assert_eq!(Formula::complexity(&formula.to_string()).unwrap(), formula.clone());
        let json = serde_json::to_string(&formula).unwrap();
        prop_assert_eq!(serde_json::from_str::<Formula>(&json).unwrap(), formula);
    }

    #[test]
    fn the_canonical_form_is_a_rule_of_the_same_meaning(rule in rules(), n: u64) {
        let formula = Formula::complexity(&rule).unwrap();
        let canonical = Formula::complexity(&formula.canonical()).unwrap();
        prop_assert_eq!(canonical.coefficient(), formula.coefficient());
        prop_assert_eq!(canonical.exponent(), formula.exponent());
        prop_assert_eq!(canonical.canonical(), formula.canonical());
        prop_assert_eq!(canonical.evaluate(Bytes(n)).ok(), formula.evaluate(Bytes(n)).ok());
    }

    #[test]
    fn a_result_is_exact_or_an_error(rule in rules(), n in prop_oneof![0u64..3, 0u64..1 << 40, any::<u64>()]) {
        let meant = by_definition(&rule, n);
        let negative = rule.starts_with('-') && meant.sign() != Sign::NoSign;
        match Formula::complexity(&rule).unwrap().evaluate(Bytes(n)) {
            Ok(bytes) => prop_assert_eq!(BigInt::from(bytes.0), meant),
            Err(EvalError::Negative { .. }) => prop_assert!(negative, "{}", meant),
            Err(EvalError::Overflow { .. }) => prop_assert!(!negative && meant > BigInt::from(u64::MAX), "{}", meant),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

#[test]
fn long_rules_are_exact() {
    let tiny = Formula::complexity(&format!(".{}1*n**3", "0".repeat(56))).unwrap();
    assert_eq!(tiny.evaluate(Bytes(10_000_000_000_000_000_000)), Ok(Bytes(1)));
    assert_eq!(tiny.evaluate(Bytes(10_000_000_000_000_000_001)), Ok(Bytes(2)));
    let nines = Formula::complexity(&format!(".{}*n", "9".repeat(38))).unwrap();
    assert_eq!(nines.evaluate(Bytes(u64::MAX)), Ok(Bytes(u64::MAX)));
    let zeros = "0".repeat(5000);
    let same = Formula::complexity(&format!("{zeros}3.{zeros}n**1")).unwrap();
    assert_eq!(same.evaluate(Bytes(7)), Ok(Bytes(21)));
    let endless = Formula::complexity(&format!("n**{}", "9".repeat(5000))).unwrap();
    assert_eq!(endless.evaluate(Bytes(0)), Ok(Bytes(0)));
    assert_eq!(endless.evaluate(Bytes(1)), Ok(Bytes(1)));
    assert!(endless.evaluate(Bytes(2)).is_err());
}

#[test]
fn a_coefficient_of_more_digits_is_refused() {
    insta::assert_snapshot!(
        [
            "340282366920938463463374607431768211456*n".to_owned(),
            format!("-{}.5*n", "7".repeat(38)),
            format!(".{}1n", "0".repeat(57))
        ]
        .map(|text| explained(&text))
        .join("\n")
    );
}

#[test]
fn results_that_cannot_be_used_show_their_numbers() {
    let message = |formula: &Formula, n| formula.evaluate(Bytes(n)).unwrap_err().to_string();
    let rule = |text| Formula::complexity(text).unwrap();
    insta::assert_snapshot!(
        [
            message(&rule("-2n"), 1000),
            message(&rule("-.5n"), 3),
            message(&rule("-n**3"), 5_000_000_000_000),
            message(&rule("2*n"), u64::MAX),
            message(&rule("n**3"), 5_000_000_000_000),
            message(&rule("n**999"), 5_000_000_000_000),
            message(&rule("n**99999999999999999999999"), 2),
            message(&Formula::scale_factor(-3), 7),
            message(&Formula::scale_factor(i64::MAX), 7),
        ]
        .join("\n")
    );
}

#[test]
fn a_scale_factor_multiplies_the_input() {
    let formula = Formula::scale_factor(3);
    assert_eq!(formula.evaluate(Bytes(7)), Ok(Bytes(21)));
    assert_eq!((formula.to_string(), formula.canonical()), ("3".to_owned(), "3*n".to_owned()));
    assert_eq!(Formula::scale_factor(1).canonical(), "n");
    assert_eq!(Formula::scale_factor(0).evaluate(Bytes(7)), Ok(Bytes(0)));
    assert_eq!(Formula::scale_factor(i64::MIN).source(), i64::MIN.to_string());
}

#[test]
fn a_scale_rule_is_written_as_documents_have_it() {
    let documented = r#"{"complexity":"1.5*n**2","type":"limit","mode":"max_item_sum","target_glob":"*.dcm"}"#;
    let rule: ScaleRule = serde_json::from_str(documented).unwrap();
    assert_eq!((rule.applies_to, rule.mode), (RuleType::Limit, Mode::MaxItemSum));
    assert_eq!(serde_json::to_string(&rule).unwrap(), documented);
    let released = r#"{"scale_factor":3,"type":"request","mode":"sum"}"#;
    let rule: ScaleRule = serde_json::from_str(released).unwrap();
    assert_eq!(serde_json::to_string(&rule).unwrap(), released);
}

#[test]
fn unknown_names_get_the_nearest_known_one() {
    let mode = |name: &str| drawn(name, &Problem::from(&name.parse::<Mode>().unwrap_err()));
    let kind = |name: &str| drawn(name, &Problem::from(&name.parse::<RuleType>().unwrap_err()));
    insta::assert_snapshot!(
        [
            mode("max-file-size"),
            mode("max"),
            mode("MaxItemSum"),
            mode("total"),
            kind("limits"),
            kind("memory"),
            kind("")
        ]
        .join("\n\n")
    );
}
