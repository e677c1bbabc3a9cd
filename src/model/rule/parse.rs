//! The grammar of the `complexity` dialect: exactly what the documented pattern accepts.
//!
//! ```text
//! rule        = [ "-" | "+" ] [ coefficient ] [ "*" ] "n" [ "**" digits ]
//! coefficient = digits | [ digits ] "." digits
//! ```

use nom::bytes::complete::tag;
use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{eof, opt};
use nom::error::Error;
use nom::{IResult, Parser};

use super::Power;
use crate::model::decimal::Decimal;

/// Where a text stops being the beginning of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mismatch<'a> {
    /// The text from the first wrong character on.
    pub(super) rest: &'a str,
    /// What the grammar allows there.
    pub(super) expected: &'static str,
}

/// A parser, and what it is to find.
fn expect<'a, O>(
    expected: &'static str,
    mut parser: impl Parser<&'a str, Output = O, Error = Error<&'a str>>,
) -> impl FnMut(&'a str) -> Result<(&'a str, O), Mismatch<'a>> {
    move |rest| parser.parse_complete(rest).map_err(|_| Mismatch { rest, expected })
}

/// Parses a rule.
pub(super) fn power(text: &str) -> Result<Power, Mismatch<'_>> {
    const NUMBER_OR_N: &str = "a number or `n`";
    let (rest, (sign, integer, point)) = expect(NUMBER_OR_N, (opt(one_of("-+")), digit0, opt(char('.'))))(text)?;
    let (rest, fraction) = match point {
        Some(_) => expect("a digit", digit1)(rest)?,
        None => (rest, ""),
    };
    let (rest, star) = expect("`*`", opt(char('*')))(rest)?;
    let expected = match (star, point, integer) {
        (Some(_), _, _) => "`n`",
        (None, Some(_), _) => "`*` or `n`",
        (None, None, "") => NUMBER_OR_N,
        (None, None, _) => "`.`, `*` or `n`",
    };
    let (rest, _) = expect(expected, char('n'))(rest)?;
    let (rest, power) = expect("`**`", opt(tag("**")))(rest)?;
    let (rest, exponent) = match power {
        Some(_) => expect("a whole number, such as `2`", digits_as_exponent)(rest)?,
        None => (rest, 1),
    };
    let expected = if power.is_some() { "the end of the rule" } else { "`**` or the end of the rule" };
    expect(expected, eof)(rest)?;
    let omitted = integer.is_empty() && fraction.is_empty();
    let coefficient = Decimal::from_digits(sign == Some('-'), if omitted { "1" } else { integer }, fraction, 0);
    let rest = &text[sign.map_or(0, char::len_utf8)..];
    Ok(Power {
        coefficient: coefficient
            .ok_or(Mismatch { rest, expected: "a number of at most 38 significant digits" })
            .and_then(|number| {
                Some(number).filter(Decimal::is_plain).ok_or(Mismatch { rest, expected: "at most 57 decimal places" })
            })?,
        exponent,
        bare_star: omitted && star.is_some(),
    })
}

/// An exponent that does not fit becomes the largest one: it overflows for the same n, those above 1.
fn digits_as_exponent(text: &str) -> IResult<&str, u64> {
    digit1.map(|digits: &str| digits.parse().unwrap_or(u64::MAX)).parse_complete(text)
}
