//! The grammar of the `complexity` dialect: exactly what the documented pattern accepts.
//!
//! ```text
//! rule        = [ "-" | "+" ] [ coefficient ] [ "*" ] "n" [ "**" digits ]
//! coefficient = digits | [ digits ] "." digits
//! ```

use nom::bytes::complete::tag;
use nom::character::complete::{char, digit0, digit1, one_of};
use nom::combinator::{all_consuming, opt};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use super::ast::Power;
use crate::model::decimal::Decimal;

/// Parses a rule; `None` if the pattern does not accept it.
pub(super) fn power(text: &str) -> Option<Power> {
    all_consuming(rule).parse_complete(text).ok().map(|(_, power)| power)
}

fn rule(text: &str) -> IResult<&str, Power> {
    (opt(one_of("-+")), digit0, opt(preceded(char('.'), digit1)), opt(char('*')), char('n'), opt(exponent))
        .map(|(sign, integer, fraction, star, _, exponent)| {
            let negative = sign == Some('-');
            let fraction = fraction.unwrap_or("");
            let left_out = integer.is_empty() && fraction.is_empty();
            let integer = if left_out { "1" } else { integer };
            Power {
                coefficient: Decimal::from_digits(negative, integer, fraction, 0),
                exponent: exponent.unwrap_or(1),
                bare_star: left_out && star.is_some(),
            }
        })
        .parse_complete(text)
}

/// An exponent that does not fit becomes the largest one: it overflows for the same n, those above 1.
fn exponent(text: &str) -> IResult<&str, u64> {
    preceded(tag("**"), digit1).map(|digits: &str| digits.parse().unwrap_or(u64::MAX)).parse_complete(text)
}
