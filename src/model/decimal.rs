//! Decimal numbers that are parsed without rounding.

use std::fmt;
use std::str::FromStr;

/// Digits of one limb of a long number.
const LIMB_DIGITS: usize = 18;
/// 10¹⁸: a limb times any `u64` leaves room for a carry in a `u128`.
const LIMB: u128 = 1_000_000_000_000_000_000;
/// The number of digits that always fit into a `u128`.
const SMALL_DIGITS: usize = 38;
/// The most digits of a `u64`.
const U64_DIGITS: i64 = 20;

/// An exact decimal number of any length and sign.
///
/// The value is ±mantissa × 10^-scale, the mantissa without trailing zeros, so that equal numbers are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    mantissa: Mantissa,
    scale: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Mantissa {
    Small(u128),
    /// More than 38 digits, in limbs of 18 digits, the least significant first.
    Large(Box<[u64]>),
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, mantissa: Mantissa::Small(0), scale: 0 };
    /// One.
    pub const ONE: Self = Self { negative: false, mantissa: Mantissa::Small(1), scale: 0 };

    /// The number `integer.fraction` × 10^exponent; both are ASCII digits, either may be empty.
    pub(super) fn from_digits(negative: bool, integer: &str, fraction: &str, exponent: i64) -> Self {
        let (mut integer, mut fraction) = (integer.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let mut scale = fraction.len() as i64;
        if fraction.is_empty() {
            let significant = integer.trim_end_matches('0');
            scale -= (integer.len() - significant.len()) as i64;
            integer = significant;
        }
        if integer.is_empty() {
            fraction = fraction.trim_start_matches('0');
            if fraction.is_empty() {
                return Self::ZERO;
            }
        }
        let mantissa = if integer.len() + fraction.len() <= SMALL_DIGITS {
            Mantissa::Small(number(number(0, integer), fraction))
        } else {
            Mantissa::Large(limbs(&[integer, fraction].concat()))
        };
        Self { negative, mantissa, scale: scale.saturating_sub(exponent) }
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.mantissa == Mantissa::Small(0)
    }

    /// The magnitude times base^power; `None` on overflow.
    ///
    /// Exact for any number of digits: no intermediate result is rounded.
    pub(super) fn product(&self, base: u64, power: u64) -> Option<Product> {
        if self.is_zero() || (base == 0 && power > 0) {
            return Some(Product { whole: 0, rest: false });
        }
        let power = if base == 1 { 0 } else { power };
        if let Mantissa::Small(mantissa) = self.mantissa {
            let factor = u32::try_from(power).ok().and_then(|power| u128::from(base).checked_pow(power));
            match factor.and_then(|factor| mantissa.checked_mul(factor)) {
                Some(product) => return Product::of_quotient(product, self.scale),
                // At least 2¹²⁸ / 10¹⁹, which is more than 2⁶⁴.
                None if self.scale <= 19 => return None,
                None => {}
            }
        }
        // The logarithm's error is far below 1: whole numbers are multiplied only if the result may be an amount.
        match self.log10() + power as f64 * (base as f64).log10() {
            21.0.. => None,
            ..-1.0 => Some(Product { whole: 0, rest: true }),
            _ => self.long_product(base, power),
        }
    }

    /// The same by long multiplication in limbs.
    fn long_product(&self, base: u64, mut power: u64) -> Option<Product> {
        let mut product = match &self.mantissa {
            Mantissa::Small(mantissa) => limbs_of(*mantissa),
            Mantissa::Large(limbs) => limbs.to_vec(),
        };
        // As many factors at once as certainly fit into a u64.
        let bits = base.max(2).ilog2() + 1;
        let at_once = (63 / bits).max(1);
        while power > 0 {
            let step = at_once.min(u32::try_from(power).unwrap_or(at_once));
            multiply(&mut product, base.pow(step));
            power -= u64::from(step);
            // The factors are at least 2: a product that is too long stays too long.
            if digits(&product).saturating_sub(self.scale) > U64_DIGITS {
                return None;
            }
        }
        Product::of_limbs(&product, self.scale)
    }

    /// The nearest binary floating-point number: for display and plots, never for computing an amount.
    pub fn to_f64(&self) -> f64 {
        // Both forms of `Display` are floating-point literals.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// The decimal logarithm of the magnitude, with the precision of a float.
    pub(super) fn log10(&self) -> f64 {
        let digits = self.digits();
        // The first digits suffice; parsing them as a fraction keeps the number near 1.
        let leading: f64 = format!("0.{}", &digits[..digits.len().min(20)]).parse().unwrap_or(f64::NAN);
        leading.log10() + digits.len() as f64 - self.scale as f64
    }

    /// All digits without an exponent, as in rules: `1000`, `-0.25`.
    pub(super) fn plain(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = self.digits();
        match usize::try_from(self.scale) {
            Ok(0) => format!("{sign}{digits}"),
            Ok(scale) if scale >= digits.len() => format!("{sign}0.{}{digits}", "0".repeat(scale - digits.len())),
            Ok(scale) => {
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                format!("{sign}{whole}.{fraction}")
            }
            Err(_) => {
                let zeros = usize::try_from(self.scale.unsigned_abs()).unwrap_or(0);
                format!("{sign}{digits}{}", "0".repeat(zeros))
            }
        }
    }

    fn digits(&self) -> String {
        match &self.mantissa {
            Mantissa::Small(mantissa) => mantissa.to_string(),
            Mantissa::Large(limbs) => {
                let text: String = limbs.iter().rev().map(|limb| format!("{limb:018}")).collect();
                text.trim_start_matches('0').to_owned()
            }
        }
    }
}

impl fmt::Display for Decimal {
    /// All digits, with an exponent only if dozens of zeros would be needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale.unsigned_abs() <= 40 || matches!(self.mantissa, Mantissa::Large(_)) && self.scale >= 0 {
            return f.pad(&self.plain());
        }
        let sign = if self.negative { "-" } else { "" };
        f.pad(&format!("{sign}{}e{}", self.digits(), self.scale.saturating_neg()))
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self::from_digits(value < 0, &value.unsigned_abs().to_string(), "", 0)
    }
}

/// A string is not a decimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a decimal number")]
pub struct NotADecimal(pub String);

impl FromStr for Decimal {
    type Err = NotADecimal;

    /// Parses an optional sign, digits and an optional fraction, as in `-12.5`.
    fn from_str(text: &str) -> Result<Self, NotADecimal> {
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (integer, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        if integer.len() + fraction.len() == 0 || !all_digits(integer) || !all_digits(fraction) {
            return Err(NotADecimal(text.to_owned()));
        }
        Ok(Self::from_digits(text.starts_with('-'), integer, fraction, 0))
    }
}

fn number(start: u128, digits: &str) -> u128 {
    digits.bytes().fold(start, |value, digit| value * 10 + u128::from(digit - b'0'))
}

fn limbs(digits: &str) -> Box<[u64]> {
    digits
        .as_bytes()
        .rchunks(LIMB_DIGITS)
        .map(|chunk| chunk.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
        .collect()
}

fn limbs_of(mut value: u128) -> Vec<u64> {
    // Room for the product with another number of this size.
    let mut limbs = Vec::with_capacity(8);
    while value > 0 {
        limbs.push((value % LIMB) as u64);
        value /= LIMB;
    }
    limbs
}

fn multiply(product: &mut Vec<u64>, factor: u64) {
    let mut carry = 0u128;
    for limb in product.iter_mut() {
        let value = u128::from(*limb) * u128::from(factor) + carry;
        *limb = (value % LIMB) as u64;
        carry = value / LIMB;
    }
    while carry > 0 {
        product.push((carry % LIMB) as u64);
        carry /= LIMB;
    }
}

/// Number of digits.
fn digits(limbs: &[u64]) -> i64 {
    match limbs {
        [] => 0,
        [below @ .., highest] => {
            (below.len() * LIMB_DIGITS) as i64 + i64::from(highest.checked_ilog10().map_or(0, |log| log + 1))
        }
    }
}

/// The result of a multiplication: a whole number, and whether there is a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Product {
    pub(super) whole: u64,
    pub(super) rest: bool,
}

impl Product {
    /// The next whole number; `None` on overflow.
    pub(super) fn ceil(self) -> Option<u64> {
        self.whole.checked_add(u64::from(self.rest))
    }

    /// product / 10^scale, for a non-zero product.
    fn of_quotient(product: u128, scale: i64) -> Option<Self> {
        let power_of_ten = u32::try_from(scale.unsigned_abs()).ok().and_then(|scale| 10u128.checked_pow(scale));
        let (whole, rest) = match (scale > 0, power_of_ten) {
            (false, Some(factor)) => (product.checked_mul(factor)?, false),
            (false, None) => return None,
            (true, Some(divisor)) => (product / divisor, !product.is_multiple_of(divisor)),
            // The divisor has 40 digits or more, the product 39 at most.
            (true, None) => (0, true),
        };
        Some(Self { whole: u64::try_from(whole).ok()?, rest })
    }

    /// The same for a product in limbs.
    fn of_limbs(product: &[u64], scale: i64) -> Option<Self> {
        if digits(product).saturating_sub(scale) > U64_DIGITS {
            return None;
        }
        // A number as short as this is in limbs only because of its decimal places.
        let scale = usize::try_from(scale).ok()?;
        let (skipped, divisor) = (scale / LIMB_DIGITS, 10u64.pow((scale % LIMB_DIGITS) as u32));
        let Some((lowest, above)) = product.get(skipped..).and_then(<[u64]>::split_first) else {
            return Some(Self { whole: 0, rest: true });
        };
        let above = above
            .iter()
            .rev()
            .try_fold(0u128, |whole, limb| whole.checked_mul(LIMB)?.checked_add(u128::from(*limb)))?;
        let whole = above.checked_mul(LIMB / u128::from(divisor))?.checked_add(u128::from(lowest / divisor))?;
        let rest = !lowest.is_multiple_of(divisor) || product[..skipped].iter().any(|&limb| limb != 0);
        Some(Self { whole: u64::try_from(whole).ok()?, rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn equal_numbers_are_equal_however_they_are_written() {
        assert_eq!(decimal("+001.50"), decimal("1.5"));
        assert_eq!(decimal("-0.000"), Decimal::ZERO);
        assert_eq!(decimal("1000"), Decimal::from(1000));
        assert_eq!(Decimal::from_digits(false, "1", "5", 3), decimal("1500"));
        assert_eq!(decimal(&format!("{}.0", "7".repeat(60))), decimal(&"7".repeat(60)));
        assert_ne!(decimal("-1"), decimal("1"));
    }

    #[test]
    fn a_number_is_shown_with_all_its_digits() {
        for text in ["0", "-1.5", "0.001", "1200", "18446744073709551616", &format!("0.{}", "123456789".repeat(9))] {
            assert_eq!(decimal(text).to_string(), text);
        }
        assert_eq!(Decimal::from_digits(true, "15", "", -100).to_string(), "-15e-100");
        assert_eq!(Decimal::from_digits(false, "15", "", 100).to_string(), "15e100");
        assert_eq!(decimal("-0.25").to_f64(), -0.25);
        assert_eq!(Decimal::from_digits(false, "1", "", 100).log10(), 100.0);
    }

    #[test]
    fn very_many_places_are_shown_and_multiplied_at_once() {
        let tiny = decimal(&format!("0.{}1", "0".repeat(3_000_000)));
        assert_eq!(tiny.plain().len(), 3_000_003);
        assert_eq!(tiny.product(105_000, u64::MAX), None);
        assert_eq!(tiny.product(105_000, 590_000), Some(Product { whole: 0, rest: true }));
        let (long, ten) = (decimal(&format!("0.{}1", "0".repeat(40))), Product { whole: 10, rest: false });
        assert_eq!((long.product(10, 42), long.product(10, 39).map(|product| product.whole)), (Some(ten), Some(0)));
        assert_eq!(long.product(10, 60).map(|product| product.whole), Some(10_000_000_000_000_000_000));
        assert_eq!((long.product(10, 61), long.product(10, 62)), (None, None));
    }

    #[test]
    fn what_is_no_decimal_number_is_refused() {
        for text in ["", "-", ".", "1e3", "1,5", "0x1", " 1", "--1", "1.2.3", "٣"] {
            assert_eq!(text.parse::<Decimal>(), Err(NotADecimal(text.to_owned())));
        }
    }

    #[test]
    fn long_and_short_multiplication_agree() {
        let numbers = ["1", "0.3", "123456789.987654321", "0.00000000000000000000000000000000000001"];
        for (text, base, power) in numbers.iter().flat_map(|text| [(text, 2, 7), (text, 10, 18), (text, u64::MAX, 1)]) {
            let number = decimal(text);
            assert_eq!(number.product(base, power), number.long_product(base, power), "{text} * {base}^{power}");
        }
    }
}
