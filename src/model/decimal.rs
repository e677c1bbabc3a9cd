//! Decimal numbers of up to 38 significant digits that are parsed and multiplied without rounding.

use std::fmt;
use std::str::FromStr;

/// 10¹⁹, the largest power of ten in a `u64`.
const CHUNK: u64 = 10_000_000_000_000_000_000;
/// The digits of a remainder by [`CHUNK`].
const CHUNK_DIGITS: i64 = 19;

/// An exact decimal number of up to 38 significant digits.
///
/// The value is ±mantissa × 10^-scale, the mantissa without trailing zeros, so that equal numbers are equal values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    mantissa: u128,
    scale: i64,
}

impl Decimal {
    /// The most significant digits of a number. They fit into a `u128`.
    pub const MOST_DIGITS: usize = 38;
    /// The most decimal places of a number that may be multiplied by a power: 2²⁵⁶ / 10⁵⁷ is more than 2⁶⁴.
    pub const MOST_PLACES: i64 = 57;
    /// Zero.
    pub const ZERO: Self = Self { negative: false, mantissa: 0, scale: 0 };
    /// One.
    pub const ONE: Self = Self { negative: false, mantissa: 1, scale: 0 };

    /// The number `integer.fraction` × 10^exponent; both are ASCII digits, either may be empty. `None` if it has more
    /// than [`Self::MOST_DIGITS`] significant digits. It may be multiplied by a power only if it [`is_plain`].
    ///
    /// [`is_plain`]: Self::is_plain
    pub(super) fn from_digits(negative: bool, integer: &str, fraction: &str, exponent: i64) -> Option<Self> {
        let (mut integer, mut fraction) = (integer.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let mut scale = fraction.len() as i64;
        if fraction.is_empty() {
            let significant = integer.trim_end_matches('0');
            scale -= (integer.len() - significant.len()) as i64;
            integer = significant;
        }
        if integer.is_empty() {
            fraction = fraction.trim_start_matches('0');
        }
        if integer.len() + fraction.len() > Self::MOST_DIGITS {
            return None;
        }
        let followed_by =
            |start, digits: &str| digits.bytes().fold(start, |value, digit| value * 10 + u128::from(digit - b'0'));
        let mantissa = followed_by(followed_by(0, integer), fraction);
        Some(if mantissa == 0 {
            Self::ZERO
        } else {
            Self { negative, mantissa, scale: scale.saturating_sub(exponent) }
        })
    }

    /// Whether it has at most [`Self::MOST_PLACES`].
    pub(super) fn is_plain(&self) -> bool {
        self.scale <= Self::MOST_PLACES
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// A thousand times as much.
    pub(super) fn thousandfold(&self) -> Self {
        Self { scale: if self.is_zero() { self.scale } else { self.scale - 3 }, ..self.clone() }
    }

    /// The magnitude times base^power; `None` on overflow. No intermediate result is rounded.
    pub(super) fn product(&self, base: u64, power: u64) -> Option<Product> {
        if self.is_zero() || (base == 0 && power > 0) {
            return Some(Product { whole: 0, rest: false });
        }
        let power = if base == 1 { 0 } else { power };
        let factor = u32::try_from(power).ok().and_then(|power| u128::from(base).checked_pow(power));
        match factor.and_then(|factor| self.mantissa.checked_mul(factor)) {
            Some(product) => Product::of_quotient(product, self.scale),
            // At least 2¹²⁸ / 10¹⁹, which is more than 2⁶⁴.
            None if self.scale <= CHUNK_DIGITS => None,
            None => self.wide_product(base, power),
        }
    }

    /// The same with 256 bits for the product.
    fn wide_product(&self, base: u64, mut power: u64) -> Option<Product> {
        let mut product = [self.mantissa as u64, (self.mantissa >> 64) as u64, 0, 0];
        // As many factors at once as certainly fit into a u64.
        let at_once = u64::from((63 / (base.max(2).ilog2() + 1)).max(1));
        while power > 0 {
            let step = at_once.min(power);
            // An overflow here is one of the result, too: see `MOST_PLACES`.
            multiply(&mut product, base.pow(step as u32))?;
            power -= step;
        }
        let mut scale = self.scale;
        let mut rest = false;
        while scale > 0 && product != [0; 4] {
            let digits = scale.min(CHUNK_DIGITS);
            let divisor = if digits == CHUNK_DIGITS { CHUNK } else { 10u64.pow(digits as u32) };
            rest |= divide(&mut product, divisor) != 0;
            scale -= digits;
        }
        match product {
            [whole, 0, 0, 0] => Some(Product { whole, rest }),
            _ => None,
        }
    }

    /// The nearest binary floating-point number: for display and plots, never for computing an amount.
    pub fn to_f64(&self) -> f64 {
        // Both forms of `Display` are floating-point literals.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// The decimal logarithm of the magnitude, with the precision of a float.
    pub(super) fn log10(&self) -> f64 {
        (self.mantissa as f64).log10() - self.scale as f64
    }

    /// All digits without an exponent, as in rules: `1000`, `-0.25`.
    pub(super) fn plain(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits = self.mantissa.to_string();
        match usize::try_from(self.scale) {
            Ok(0) => format!("{sign}{digits}"),
            Ok(scale) => {
                let digits = format!("{digits:0>width$}", width = scale + 1);
                let (whole, fraction) = digits.split_at(digits.len() - scale);
                format!("{sign}{whole}.{fraction}")
            }
            Err(_) => {
                let zeros = usize::try_from(self.scale.unsigned_abs()).unwrap_or(0);
                format!("{sign}{digits}{}", "0".repeat(zeros))
            }
        }
    }
}

impl fmt::Display for Decimal {
    /// All digits, with an exponent only if dozens of zeros would be needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scale.unsigned_abs() <= 40 {
            return f.pad(&self.plain());
        }
        let sign = if self.negative { "-" } else { "" };
        f.pad(&format!("{sign}{}e{}", self.mantissa, self.scale.saturating_neg()))
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        let magnitude = Self::from(value.unsigned_abs());
        Self { negative: value < 0, ..magnitude }
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Self {
        let (mut mantissa, mut scale) = (value, 0);
        while mantissa != 0 && mantissa.is_multiple_of(10) {
            mantissa /= 10;
            scale -= 1;
        }
        Self { negative: false, mantissa: mantissa.into(), scale }
    }
}

/// A string is not a decimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a decimal number of at most 38 significant digits and 57 decimal places")]
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
        let number = Self::from_digits(text.starts_with('-'), integer, fraction, 0).filter(Self::is_plain);
        number.ok_or_else(|| NotADecimal(text.to_owned()))
    }
}

/// Multiplies a number of four limbs, the lowest first; `None` on overflow.
fn multiply(number: &mut [u64; 4], factor: u64) -> Option<()> {
    let mut carry = 0u128;
    for limb in number {
        let value = u128::from(*limb) * u128::from(factor) + carry;
        *limb = value as u64;
        carry = value >> 64;
    }
    (carry == 0).then_some(())
}

/// Divides a number of four limbs, the lowest first, and returns the remainder.
fn divide(number: &mut [u64; 4], divisor: u64) -> u64 {
    let mut rest = 0;
    for limb in number.iter_mut().rev() {
        let value = u128::from(rest) << 64 | u128::from(*limb);
        *limb = (value / u128::from(divisor)) as u64;
        rest = (value % u128::from(divisor)) as u64;
    }
    rest
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
        assert_eq!(decimal("1000"), Decimal::from(1000u64));
        assert_eq!(Decimal::from_digits(false, "1", "5", 3), Some(decimal("1500")));
        assert_eq!(decimal(&format!("{}.0", "7".repeat(38))), decimal(&"7".repeat(38)));
        assert_eq!((Decimal::from(0u64), Decimal::from(-70i64)), (Decimal::ZERO, decimal("-70")));
        assert_ne!(decimal("-1"), decimal("1"));
    }

    #[test]
    fn a_number_is_shown_with_all_its_digits() {
        for text in ["0", "-1.5", "0.001", "1200", "18446744073709551616", &format!("0.{}", "123456789".repeat(4))] {
            assert_eq!(decimal(text).to_string(), text);
        }
        let shown = |negative, exponent| Decimal::from_digits(negative, "15", "", exponent).map(|it| it.to_string());
        assert_eq!(shown(true, -100), Some("-15e-100".to_owned()));
        assert_eq!(shown(false, 100), Some("15e100".to_owned()));
        assert_eq!(decimal("-0.25").to_f64(), -0.25);
        assert_eq!(decimal("1000").log10(), 3.0);
    }

    #[test]
    fn a_number_has_at_most_38_significant_digits_and_57_places() {
        let (nines, zeros) = ("9".repeat(38), "0".repeat(56));
        for good in [nines.clone(), format!("00{nines}.0"), format!("{nines}{zeros}"), format!("0.{zeros}1")] {
            assert!(good.parse::<Decimal>().is_ok(), "{good}");
        }
        for bad in [format!("{nines}.9"), format!("0.{nines}9"), format!("1.{nines}"), format!("0.{zeros}01")] {
            assert_eq!(bad.parse::<Decimal>(), Err(NotADecimal(bad.clone())));
        }
        assert_eq!(Decimal::from_digits(false, "1", "0001", i64::MIN).map(|number| number.scale), Some(i64::MAX));
    }

    #[test]
    fn products_are_exact_up_to_the_largest_amount() {
        let smallest = decimal(&format!("0.{}1", "0".repeat(56)));
        let whole = |base, power| smallest.product(base, power).map(|product| (product.whole, product.rest));
        assert_eq!((whole(10, 58), whole(10, 56)), (Some((10, false)), Some((0, true))));
        assert_eq!(whole(10, 76), Some((10_000_000_000_000_000_000, false)));
        assert_eq!((whole(10, 77), whole(u64::MAX, 4), whole(10, u64::MAX)), (None, None, None));
        let third = decimal(&format!("0.{}", "3".repeat(38)));
        assert_eq!(third.product(1 << 62, 1), Some(Product { whole: (1 << 62) / 3, rest: true }));
    }

    #[test]
    fn what_is_no_decimal_number_is_refused() {
        for text in ["", "-", ".", "1e3", "1,5", "0x1", " 1", "--1", "1.2.3", "٣", &"9".repeat(39)] {
            assert_eq!(text.parse::<Decimal>(), Err(NotADecimal(text.to_owned())));
        }
    }

    #[test]
    fn wide_and_short_multiplication_agree() {
        let numbers = ["1", "0.3", "123456789.987654321", "0.00000000000000000000000000000000000001"];
        for (text, base, power) in numbers.iter().flat_map(|text| [(text, 2, 7), (text, 10, 18), (text, u64::MAX, 1)]) {
            let number = decimal(text);
            assert_eq!(number.product(base, power), number.wide_product(base, power), "{text} * {base}^{power}");
        }
    }
}
