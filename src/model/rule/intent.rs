//! Guesses what a string that is not a rule was meant to compute, and the rule to write instead.

use std::collections::BTreeMap;

use super::ast::Power;
use super::token::{Piece, Token};
use crate::model::decimal::Decimal;

/// The deepest parentheses to analyse.
const DEPTH: usize = 16;
/// The highest power of n to analyse.
const EXPONENT: u64 = 64;
/// The longest sum to analyse: multiplying longer ones takes too long.
const TERMS: usize = 16;

/// The meaning of a string, as far as it can be understood.
#[derive(Debug)]
pub(super) struct Intent {
    /// The rule, if a single power of n remains.
    pub(super) rule: Option<String>,
    /// The constant summand, as a quantity.
    pub(super) floor: Option<String>,
    /// The largest power of n, if there are several.
    pub(super) largest: Option<String>,
    /// The exponent was not whole and has been rounded up.
    pub(super) steeper: bool,
    /// The coefficient has no short decimal form and has been rounded up.
    pub(super) rounded: bool,
}

/// Analyses tokens as far as possible.
pub(super) fn intent(tokens: &[Token<'_>]) -> Option<Intent> {
    let pieces: Vec<&Piece<'_>> =
        tokens.iter().map(|token| &token.piece).filter(|piece| **piece != Piece::Space).collect();
    let variable = only_variable(&pieces);
    let mut reader = Reader { pieces: &pieces, variable, depth: 0, steeper: false, rounded: false };
    let sum = reader.sum()?;
    if !reader.pieces.is_empty() {
        return None;
    }
    let rule = |(exponent, coefficient): (&u64, &Decimal)| {
        let (_, _, scale) = coefficient.parts()?;
        let power = Power { coefficient: coefficient.clone(), exponent: *exponent, bare_star: false };
        (scale.abs() <= 40).then(|| power.to_string())
    };
    let mut powers = sum.range(1..).filter(|(_, coefficient)| !coefficient.is_zero());
    Some(Intent {
        rule: if powers.clone().count() == 1 { powers.clone().next().and_then(rule) } else { None },
        floor: sum.get(&0).and_then(|amount| floor(tokens, amount)),
        largest: if powers.clone().count() > 1 { powers.next_back().and_then(rule) } else { None },
        steeper: reader.steeper,
        rounded: reader.rounded,
    })
}

/// The amount as written if it is the only one, in bytes otherwise.
fn floor(tokens: &[Token<'_>], amount: &Decimal) -> Option<String> {
    let mut amounts = tokens.iter().filter_map(|token| match &token.piece {
        Piece::Amount(quantity) => Some(quantity.source().to_owned()),
        _ => None,
    });
    match (amounts.next(), amounts.next()) {
        _ if amount.is_negative() || amount.is_zero() => None,
        (Some(only), None) => Some(only),
        _ => amount.product(1, 1)?.ceil().map(|bytes| bytes.to_string()),
    }
}

/// The name used for n in a string without an n.
fn only_variable<'a>(pieces: &[&Piece<'a>]) -> Option<&'a str> {
    let mut names = pieces.iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(*name),
        _ => None,
    });
    let first = names.next()?;
    (!pieces.contains(&&Piece::N) && names.all(|name| name == first)).then_some(first)
}

/// A sum of powers of n: exponent → coefficient.
type Sum = BTreeMap<u64, Decimal>;

struct Reader<'p, 'a> {
    pieces: &'p [&'p Piece<'a>],
    variable: Option<&'a str>,
    depth: usize,
    steeper: bool,
    rounded: bool,
}

impl<'p, 'a> Reader<'p, 'a> {
    fn peek(&self) -> Option<&'p Piece<'a>> {
        self.pieces.first().copied()
    }

    fn next(&mut self) -> Option<&'p Piece<'a>> {
        let (first, rest) = self.pieces.split_first()?;
        self.pieces = rest;
        Some(first)
    }

    fn take(&mut self, piece: &Piece<'_>) -> bool {
        let found = self.peek() == Some(piece);
        if found {
            self.pieces = &self.pieces[1..];
        }
        found
    }

    fn sum(&mut self) -> Option<Sum> {
        let mut negative = self.take(&Piece::Minus);
        if !negative {
            self.take(&Piece::Plus);
        }
        let mut sum = Sum::new();
        loop {
            for (exponent, coefficient) in self.product()? {
                let (minus, mantissa, scale) = coefficient.parts()?;
                let term = Decimal::from_parts(minus != negative, mantissa, scale);
                let before = sum.remove(&exponent).unwrap_or(Decimal::ZERO);
                sum.insert(exponent, plus(&before, &term)?);
            }
            negative = match self.peek() {
                Some(Piece::Plus) => false,
                Some(Piece::Minus) => true,
                _ => return Some(sum),
            };
            self.next();
        }
    }

    fn product(&mut self) -> Option<Sum> {
        let mut product = self.power()?;
        loop {
            match self.peek() {
                Some(Piece::Times) => {
                    self.next();
                    product = times(&product, &self.power()?)?;
                }
                Some(Piece::Divide) => {
                    self.next();
                    let divisor = constant(&self.power()?)?;
                    product = self.divide(&product, &divisor)?;
                }
                Some(Piece::Number(_) | Piece::N | Piece::Amount(_) | Piece::Open | Piece::Name(_)) => {
                    product = times(&product, &self.power()?)?;
                }
                _ => return Some(product),
            }
        }
    }

    fn divide(&mut self, dividend: &Sum, divisor: &Decimal) -> Option<Sum> {
        let mut quotients = Sum::new();
        for (exponent, coefficient) in dividend {
            let (quotient, exact) = quotient(coefficient, divisor)?;
            self.rounded |= !exact;
            quotients.insert(*exponent, quotient);
        }
        Some(quotients)
    }

    fn power(&mut self) -> Option<Sum> {
        let base = self.atom()?;
        let exponent = match self.peek() {
            Some(Piece::Power) => {
                self.next();
                self.exponent()?
            }
            Some(Piece::Superscript(digits)) => {
                let exponent = digits.parse().ok()?;
                self.next();
                exponent
            }
            _ => return Some(base),
        };
        let mut result = Sum::from([(0, Decimal::ONE)]);
        if base == Sum::from([(1, Decimal::ONE)]) {
            return Some(Sum::from([(exponent, Decimal::ONE)]));
        }
        for _ in 0..(exponent <= EXPONENT).then_some(exponent)? {
            result = times(&result, &base)?;
        }
        Some(result)
    }

    /// A whole exponent; a fraction is rounded up.
    fn exponent(&mut self) -> Option<u64> {
        let exponent = constant(&self.atom()?)?;
        let product = exponent.product(1, 1)?;
        self.steeper |= product.rest;
        (!exponent.is_negative()).then(|| product.ceil())?
    }

    fn atom(&mut self) -> Option<Sum> {
        let variable = self.variable;
        match self.next()? {
            Piece::N => Some(Sum::from([(1, Decimal::ONE)])),
            Piece::Number(value) => Some(Sum::from([(0, value.clone()?)])),
            Piece::Amount(quantity) => {
                let bytes = quantity.bytes().ok()?;
                Some(Sum::from([(0, Decimal::from(i64::try_from(bytes.0).ok()?))]))
            }
            Piece::Open => self.parenthesis(),
            // The larger of two is what the platform takes for a rule and a minimum anyway. And `O(n)` is a common
            // notation for growth.
            Piece::Name("max" | "O") if self.take(&Piece::Open) => self.parenthesis(),
            Piece::Name(name) if Some(*name) == variable && self.peek() != Some(&Piece::Open) => {
                Some(Sum::from([(1, Decimal::ONE)]))
            }
            _ => None,
        }
    }

    fn parenthesis(&mut self) -> Option<Sum> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let mut sum = self.sum()?;
        while self.take(&Piece::Comma) {
            for (exponent, coefficient) in self.sum()? {
                let before = sum.remove(&exponent).unwrap_or(Decimal::ZERO);
                sum.insert(exponent, plus(&before, &coefficient)?);
            }
        }
        self.depth -= 1;
        self.take(&Piece::Close).then_some(sum)
    }
}

/// The value of a sum without n.
fn constant(sum: &Sum) -> Option<Decimal> {
    sum.range(1..).next().is_none().then(|| sum.get(&0).cloned())?
}

fn times(left: &Sum, right: &Sum) -> Option<Sum> {
    let mut product = Sum::new();
    for (exponent, coefficient) in left {
        for (other_exponent, other) in right {
            let exponent = exponent.checked_add(*other_exponent)?;
            let before = product.remove(&exponent).unwrap_or(Decimal::ZERO);
            product.insert(exponent, plus(&before, &multiplied(coefficient, other)?)?);
        }
        if product.len() > TERMS {
            return None;
        }
    }
    Some(product)
}

fn multiplied(left: &Decimal, right: &Decimal) -> Option<Decimal> {
    let ((minus, left, scale), (other_minus, right, other_scale)) = (left.parts()?, right.parts()?);
    Some(Decimal::from_parts(minus != other_minus, left.checked_mul(right)?, scale.checked_add(other_scale)?))
}

fn plus(left: &Decimal, right: &Decimal) -> Option<Decimal> {
    let ((minus, left, scale), (other_minus, right, other_scale)) = (left.parts()?, right.parts()?);
    let common = scale.max(other_scale);
    let raised = |mantissa: u128, scale: i64| {
        let zeros = u32::try_from(common.checked_sub(scale)?).ok()?;
        mantissa.checked_mul(10u128.checked_pow(zeros)?)
    };
    let (left, right) = (raised(left, scale)?, raised(right, other_scale)?);
    Some(match (minus == other_minus, left >= right) {
        (true, _) => Decimal::from_parts(minus, left.checked_add(right)?, common),
        (false, true) => Decimal::from_parts(minus, left - right, common),
        (false, false) => Decimal::from_parts(other_minus, right - left, common),
    })
}

/// dividend / divisor and whether that is exact; otherwise rounded to about six digits, away from zero.
fn quotient(dividend: &Decimal, divisor: &Decimal) -> Option<(Decimal, bool)> {
    let ((minus, dividend, scale), (other_minus, divisor, other_scale)) = (dividend.parts()?, divisor.parts()?);
    if divisor == 0 {
        return None;
    }
    let scale = scale.checked_sub(other_scale)?;
    let shifted = |places: u32| dividend.checked_mul(10u128.checked_pow(places)?);
    if let Some(exact) = (0..=20).find(|&places| shifted(places).is_some_and(|value| value.is_multiple_of(divisor))) {
        let quotient = Decimal::from_parts(minus != other_minus, shifted(exact)? / divisor, scale + i64::from(exact));
        return Some((quotient, true));
    }
    let places = (0..=20).find(|&places| shifted(places).is_some_and(|value| value / divisor >= 100_000))?;
    let rounded = shifted(places)?.div_ceil(divisor);
    Some((Decimal::from_parts(minus != other_minus, rounded, scale.checked_add(i64::from(places))?), false))
}
