//! Tokens of a string that was meant as a rule, including what is common but wrong.

use std::ops::Range;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{anychar, char, digit1, one_of, satisfy};
use nom::combinator::{consumed, map, map_opt, not, opt, peek, recognize, value};
use nom::multi::{fold_many1, many0_count};
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};

use crate::model::decimal::Decimal;
use crate::model::quantity::Quantity;
use crate::model::spelling::{ascii_digit, superscript_digit};

/// A token, regardless of its spelling.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// A number; its value if it is unambiguous.
    Number(Option<Decimal>),
    N,
    Times,
    Power,
    Plus,
    Minus,
    /// `²`: a power operator and its exponent in one.
    Superscript(String),
    Divide,
    Open,
    Close,
    Comma,
    /// A number with a unit of memory.
    Amount(Quantity),
    /// Letters that are not n.
    Name(&'a str),
    Space,
    /// Characters without a meaning here.
    Other,
}

/// A token and its location.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub(super) piece: Piece<'a>,
    pub(super) text: &'a str,
    pub(super) span: Range<usize>,
}

/// Splits a string into tokens; every byte is in exactly one of them.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Ok((behind, (spelling, piece))) = consumed(piece).parse_complete(rest) {
        let start = text.len() - rest.len();
        tokens.push(Token { piece, text: spelling, span: start..start + spelling.len() });
        rest = behind;
    }
    tokens
}

fn piece(text: &str) -> IResult<&str, Piece<'_>> {
    alt((
        value(Piece::Space, take_while1(char::is_whitespace)),
        value(Piece::Power, alt((tag("**"), tag("^")))),
        value(Piece::Times, one_of("*×·⋅∙∗")),
        value(Piece::Plus, one_of("+＋")),
        value(Piece::Minus, one_of("-−–—")),
        value(Piece::Divide, one_of("/÷")),
        value(Piece::Open, one_of("([{")),
        value(Piece::Close, one_of(")]}")),
        value(Piece::Comma, char(',')),
        map(superscript, Piece::Superscript),
        map(amount, Piece::Amount),
        map(number, |spelling| Piece::Number(decimal(spelling))),
        // Letter by letter, so that `nn` is two of them.
        value(Piece::N, terminated(one_of("nN"), peek(not(foreign_letter)))),
        map(take_while1(is_letter), Piece::Name),
        value(Piece::Other, anychar),
    ))
    .parse_complete(text)
}

fn is_letter(char: char) -> bool {
    char.is_alphabetic() || char == '_'
}

/// A letter that makes a preceding n part of a longer name.
fn foreign_letter(text: &str) -> IResult<&str, char> {
    preceded(many0_count(one_of("nN")), satisfy(is_letter)).parse_complete(text)
}

fn superscript(text: &str) -> IResult<&str, String> {
    fold_many1(map_opt(anychar, superscript_digit), String::new, |mut digits, digit| {
        digits.push(digit);
        digits
    })
    .parse_complete(text)
}

/// A number immediately followed by a unit that is not the beginning of a word.
fn amount(text: &str) -> IResult<&str, Quantity> {
    const UNITS: &str = "kKMGTPE";
    let unit = (one_of(UNITS), opt(char('i')), opt(char('B')));
    let behind = peek(not(satisfy(|char| is_letter(char) || char.is_ascii_digit())));
    map_opt(terminated(recognize((number, unit)), behind), |spelling: &str| {
        spelling.strip_suffix('B').unwrap_or(spelling).parse().ok()
    })
    .parse_complete(text)
}

fn number(text: &str) -> IResult<&str, &str> {
    let digit = |text| satisfy(|char: char| char.is_ascii_digit() || ascii_digit(char).is_some()).parse_complete(text);
    let separated = |text| preceded(one_of(",_'"), digit).parse_complete(text);
    let pointed = |text| preceded(char('.'), digit).parse_complete(text);
    let exponent = (one_of("eE"), opt(one_of("+-")), digit1);
    recognize((alt((digit, pointed)), many0_count(alt((digit, separated, char('.')))), opt(exponent)))
        .parse_complete(text)
}

/// The value of a number in any spelling; `None` if it is ambiguous.
fn decimal(spelling: &str) -> Option<Decimal> {
    let plain: String = spelling
        .chars()
        .filter(|char| !matches!(char, '_' | '\''))
        .map(|char| ascii_digit(char).unwrap_or(char))
        .collect();
    let (mantissa, exponent) = match plain.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
        None => (plain.as_str(), 0),
    };
    let (integer, fraction) = match mantissa.split_once(',') {
        // `1,024` is a thousand or one and a fraction.
        Some((_, fraction)) if fraction.len() == 3 => return None,
        Some(parts) => parts,
        None => mantissa.split_once('.').unwrap_or((mantissa, "")),
    };
    let readable = !fraction.contains([',', '.']) && !integer.contains('.');
    readable.then(|| Decimal::from_digits(false, integer, fraction, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<&str> {
        tokens(text).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn every_byte_is_in_one_piece() {
        assert_eq!(pieces("2 * n"), ["2", " ", "*", " ", "n"]);
        assert_eq!(pieces("1e3*n**1.5"), ["1e3", "*", "n", "**", "1.5"]);
        assert_eq!(pieces("n + 100Mi"), ["n", " ", "+", " ", "100Mi"]);
        assert_eq!(pieces("2nn²"), ["2", "n", "n", "²"]);
        assert_eq!(pieces("max(n,5GB)"), ["max", "(", "n", ",", "5GB", ")"]);
        assert_eq!(pieces("2.n\u{0}"), ["2.", "n", "\u{0}"]);
    }

    #[test]
    fn numbers_have_a_value_in_every_clear_spelling() {
        let value = |text| match tokens(text).remove(0).piece {
            Piece::Number(value) => value.map(|value| value.to_string()),
            other => panic!("{other:?}"),
        };
        assert_eq!(value("1e3"), Some("1000".to_owned()));
        assert_eq!(value("1,5"), Some("1.5".to_owned()));
        assert_eq!(value("1_000"), Some("1000".to_owned()));
        assert_eq!(value("２"), Some("2".to_owned()));
        assert_eq!(value("1,024"), None);
        assert_eq!(value("1.2.3"), None);
    }
}
