//! Kubernetes quantities: what is accepted, its value, and the errors for the rest.

use std::fmt::Write;
use std::sync::LazyLock;

use highwater::model::quantity::Quantity;
use highwater::model::units::Bytes;
use num_bigint::BigInt;
use proptest::prelude::*;
use regex::Regex;

use crate::rule::{SUGGESTION, drawn};

const QUANTITIES: &str = include_str!("../../fixtures/rules/quantities.txt");
const NO_QUANTITIES: &str = include_str!("../../fixtures/rules/no-quantities.txt");

/// The grammar of Kubernetes.
static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([-+]?)([0-9]+\.?|[0-9]*\.[0-9]+)([KMGTPE]i|[numkMGTPE]?|[eE][-+]?[0-9]+)$").unwrap()
});

#[test]
fn every_quantity_comes_to_whole_bytes_or_says_why_not() {
    let mut table = String::new();
    for text in QUANTITIES.lines() {
        let quantity: Quantity = text.parse().unwrap();
        match quantity.bytes() {
            Ok(bytes) => {
                let rounded = if quantity.has_fraction_of_byte() { " (rounded up)" } else { "" };
                writeln!(table, "{quantity} = {}{rounded}", bytes.0).unwrap();
            }
            Err(error) => writeln!(table, "{quantity}: {error}").unwrap(),
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn every_other_text_is_explained_with_its_place_and_remedy() {
    let explained: Vec<String> = ["", "  ", "1Gi\n", "1\0"]
        .into_iter()
        .chain(NO_QUANTITIES.lines())
        .map(|text| format!("{text:?}\n{}\n", drawn(text, text.parse::<Quantity>().unwrap_err().problem())))
        .collect();
    insta::assert_snapshot!(explained.join("\n"));
}

#[test]
fn people_may_write_bytes_with_a_b_and_spaces() {
    let bytes = |text: &str| text.parse::<Bytes>().map(|bytes| bytes.0);
    assert_eq!(bytes("512MiB"), Ok(512 << 20));
    assert_eq!(bytes("200 MiB"), Ok(200 << 20));
    assert_eq!(bytes(" 1.5 GB "), Ok(1_500_000_000));
    assert_eq!(bytes("10B"), Ok(10));
    assert_eq!(bytes("1kB"), Ok(1000));
    assert_eq!(bytes("2E"), Ok(2_000_000_000_000_000_000));
    assert_eq!(bytes("2EB"), Ok(2_000_000_000_000_000_000));
    assert_eq!(bytes("2e3"), Ok(2000));
    assert_eq!(bytes("512m"), Ok(1));
    let refused = ["", "200 MB iB", "1KB", "12Q", "1mB", "1e3B", "B", "-1Mi", "16EiB", "  12Q "];
    let errors: Vec<String> = refused.iter().map(|text| text.parse::<Bytes>().unwrap_err().to_string()).collect();
    insta::assert_snapshot!(errors.join("\n"));
    assert_eq!("  12Q ".parse::<Bytes>().unwrap_err().problem().span, Some(4..5));
}

#[test]
fn every_amount_that_is_shown_can_be_read_again() {
    for bytes in [0, 1, 1023, 1024, 1536, 200 << 20, 3 << 40] {
        assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
    }
}

#[test]
fn json_has_quantities_as_texts_and_whole_numbers() {
    let read = |json: &str| serde_json::from_str::<Quantity>(json).map(|quantity| quantity.to_string());
    assert_eq!(read("\"512Mi\"").unwrap(), "512Mi");
    assert_eq!(read("1048576").unwrap(), "1048576");
    assert_eq!(read("-1").unwrap(), "-1");
    insta::assert_snapshot!(
        [read("1.5").unwrap_err(), read("\"12Q\"").unwrap_err(), read("null").unwrap_err()]
            .map(|error| error.to_string())
            .join("\n")
    );
}

/// The amount in bytes rounded up, computed with integers of any length.
fn by_definition(text: &str) -> BigInt {
    let captures = PATTERN.captures(text).unwrap();
    let (integer, fraction) = captures[2].split_once('.').unwrap_or((&captures[2], ""));
    let suffix = &captures[3];
    let (binary, decimal) = match "KMGTPE".find(suffix.get(..1).unwrap_or("x")) {
        Some(index) if suffix.ends_with('i') => (10 * (index as u32 + 1), 0),
        _ => {
            let powers = [
                ("n", -9),
                ("u", -6),
                ("m", -3),
                ("", 0),
                ("k", 3),
                ("M", 6),
                ("G", 9),
                ("T", 12),
                ("P", 15),
                ("E", 18),
            ];
            (
                0,
                powers
                    .into_iter()
                    .find(|(name, _)| *name == suffix)
                    .map_or_else(|| suffix[1..].parse().unwrap(), |(_, power)| power),
            )
        }
    };
    let exponent = decimal - fraction.len() as i32;
    let value = [integer, fraction].concat().parse::<BigInt>().unwrap() << binary;
    let ten = BigInt::from(10);
    let divisor = ten.pow(exponent.min(0).unsigned_abs());
    let magnitude: BigInt = (value * ten.pow(exponent.max(0).unsigned_abs()) + &divisor - 1) / divisor;
    if &captures[1] == "-" { -magnitude } else { magnitude }
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        r"[-+]?[0-9]{0,4}\.?[0-9]{0,3}([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,3})?",
        r"[-+]?([0-9]{1,38}\.?|[0-9]{0,18}\.[0-9]{1,20}|\.0{0,40}[0-9]{1,30})([KMGTPE]i|[numkMGTPE]?|[eE][-+]?[0-9]{1,2})",
        "[-+0-9.numkKMGTPEieB ]{0,8}",
        ".*",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_is_a_quantity_exactly_where_the_grammar_has_it(text in texts()) {
        prop_assert_eq!(text.parse::<Quantity>().is_ok(), PATTERN.is_match(&text));
    }

    #[test]
    fn an_amount_is_exact_or_an_error(text in texts()) {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let meant = by_definition(&text);
            match quantity.bytes() {
                Ok(bytes) => prop_assert_eq!(BigInt::from(bytes.0), meant),
                Err(_) => prop_assert!(meant > BigInt::from(i64::MAX) || text.starts_with('-'), "{}", meant),
            }
        }
    }

    #[test]
    fn a_refusal_has_its_place_in_the_text(text in texts()) {
        if let Err(error) = text.parse::<Quantity>() {
            prop_assert!(text.get(error.problem().span.clone().unwrap()).is_some());
        }
        if let Err(error) = text.parse::<Bytes>() {
            prop_assert!(text.get(error.problem().span.clone().unwrap()).is_some());
        }
    }

    #[test]
    fn what_is_suggested_is_a_quantity(text in texts()) {
        let error = text.parse::<Quantity>().err();
        let help = error.as_ref().and_then(|error| error.problem().help.as_deref());
        if let Some(quantity) = help.and_then(|help| SUGGESTION.captures(help)) {
            prop_assert!(quantity[1].parse::<Quantity>().is_ok());
        }
    }
}
