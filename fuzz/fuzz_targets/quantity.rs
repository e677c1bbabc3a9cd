//! Quantities: accepted exactly where the grammar of Kubernetes accepts them, exact, and explained where refused.
#![no_main]

use std::sync::LazyLock;

use highwater::model::quantity::{Quantity, QuantityError};
use highwater::model::units::Bytes;
use libfuzzer_sys::fuzz_target;
use num_bigint::BigInt;
use regex::Regex;

static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^([-+]?)([0-9]+\.?|[0-9]*\.[0-9]+)([KMGTPE]i|[numkMGTPE]?|[eE][-+]?[0-9]+)$").expect("a pattern")
});

fuzz_target!(|text: &str| {
    check(text);
    text.lines().for_each(check);
});

fn check(text: &str) {
    match text.parse::<Quantity>() {
        Ok(quantity) => {
            assert!(PATTERN.is_match(text));
            assert_eq!(quantity.to_string(), text);
            let bytes = quantity.bytes();
            assert_eq!(text.parse::<Bytes>(), bytes);
            if let Some(meant) = by_definition(text) {
                match bytes {
                    Ok(bytes) => assert_eq!(BigInt::from(bytes.0), meant),
                    Err(_) => assert!(text.starts_with('-') || meant > BigInt::from(i64::MAX)),
                }
            }
        }
        Err(error) => {
            assert!(!PATTERN.is_match(text) || error.problem().code == "quantity-digits");
            explained(text, &error);
        }
    }
    if let Err(error) = text.parse::<Bytes>() {
        explained(text, &error);
    }
}

fn explained(text: &str, error: &QuantityError) {
    let span = error.problem().span.clone().expect("a place");
    assert!(text.get(span).is_some());
    assert!(error.problem().help.is_some());
}

/// The amount computed with integers of any length, unless that would take all day.
fn by_definition(text: &str) -> Option<BigInt> {
    let captures = PATTERN.captures(text)?;
    let (integer, fraction) = captures[2].split_once('.').unwrap_or((&captures[2], ""));
    let suffix = &captures[3];
    let (binary, decimal) = match "KMGTPE".find(suffix.get(..1).unwrap_or("x")) {
        Some(index) if suffix.ends_with('i') => (10 * (index as u32 + 1), 0),
        _ => {
            let decimal = match suffix {
                "n" => -9,
                "u" => -6,
                "m" => -3,
                "" => 0,
                "k" => 3,
                "M" => 6,
                "G" => 9,
                "T" => 12,
                "P" => 15,
                "E" => 18,
                exponent => exponent[1..].parse::<i32>().ok().filter(|exponent| exponent.abs() < 500)?,
            };
            (0, decimal)
        }
    };
    let exponent = decimal - fraction.len() as i32;
    let value = [integer, fraction].concat().parse::<BigInt>().ok()? << binary;
    let ten = BigInt::from(10);
    let divisor = ten.pow(exponent.min(0).unsigned_abs());
    let magnitude: BigInt = (value * ten.pow(exponent.max(0).unsigned_abs()) + &divisor - 1) / divisor;
    Some(if &captures[1] == "-" { -magnitude } else { magnitude })
}
