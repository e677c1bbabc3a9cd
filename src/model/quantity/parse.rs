//! Parses a quantity, strictly like Kubernetes or with common liberties.

use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{opt, rest};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::Quantity;
use crate::model::decimal::Decimal;

/// A suffix means 10^decimal × 2^binary.
#[derive(Clone, Copy)]
struct Scale {
    decimal: i64,
    binary: u8,
}

/// A signed number and its suffix.
struct Parts<'a> {
    negative: bool,
    integer: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// Parses what Kubernetes accepts.
pub(super) fn kubernetes(text: &str) -> Option<Quantity> {
    let parts = split(text);
    let scale = scale(parts.suffix)?;
    parts.quantity(text, scale)
}

/// Parses the same, and a `B` after the unit, and spaces around the text and before the unit.
pub(super) fn human(text: &str) -> Option<Quantity> {
    let text = text.trim_matches(' ');
    let parts = split(text);
    let unit = parts.suffix.trim_start_matches(' ');
    let unit = unit.strip_suffix('B').filter(|unit| BYTE_SUFFIXES.contains(unit)).unwrap_or(unit);
    let scale = scale(unit)?;
    parts.quantity(text, scale)
}

/// The suffixes that may precede a `B`: neither thousandths of a byte nor exponents.
const BYTE_SUFFIXES: [&str; 13] = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Parts<'_> {
    /// `None` if it has no digits or too many.
    fn quantity(&self, source: &str, scale: Scale) -> Option<Quantity> {
        if self.integer.is_empty() && self.fraction.is_empty() {
            return None;
        }
        let number = Decimal::from_digits(self.negative, self.integer, self.fraction, scale.decimal)?;
        Some(Quantity { source: source.to_owned(), number, binary: scale.binary })
    }
}

/// The length of sign, digits and point.
pub(super) fn number_len(text: &str) -> usize {
    text.len() - split(text).suffix.len()
}

/// Whether the number at the beginning of a string has more digits than a [`Decimal`] holds.
pub(super) fn is_too_long(text: &str) -> bool {
    let parts = split(text);
    Decimal::from_digits(false, parts.integer, parts.fraction, 0).is_none()
}

/// Whether a string is a valid suffix of a number.
pub(super) fn is_suffix(text: &str) -> bool {
    scale(text).is_some()
}

fn split(text: &str) -> Parts<'_> {
    let read: IResult<&str, _> =
        (opt(one_of("+-")), digit0, opt(preceded(char('.'), digit0)), rest).parse_complete(text);
    match read {
        Ok((_, (sign, integer, fraction, suffix))) => {
            Parts { negative: sign == Some('-'), integer, fraction: fraction.unwrap_or(""), suffix }
        }
        // Every part is optional, so any string matches.
        Err(_) => Parts { negative: false, integer: "", fraction: "", suffix: text },
    }
}

fn scale(suffix: &str) -> Option<Scale> {
    let decimal = |decimal| Some(Scale { decimal, binary: 0 });
    let binary = |binary| Some(Scale { decimal: 0, binary });
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => exponent(suffix).and_then(decimal),
    }
}

/// An exponent; one that is too long for an `i64` is clamped, which changes no result.
fn exponent(suffix: &str) -> Option<i64> {
    let read: IResult<&str, _> = preceded(one_of("eE"), (opt(one_of("+-")), digit1)).parse_complete(suffix);
    let ("", (sign, digits)) = read.ok()? else { return None };
    let magnitude = digits.parse().unwrap_or(i64::MAX);
    Some(if sign == Some('-') { -magnitude } else { magnitude })
}
