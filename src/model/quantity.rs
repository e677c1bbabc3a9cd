//! Amounts in Kubernetes notation.
//!
//! The grammar is that of `k8s.io/apimachinery/pkg/api/resource`:
//!
//! ```text
//! quantity = sign? number suffix
//! number   = digits | digits "." digits | digits "." | "." digits
//! suffix   = "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei"                    powers of 1024
//!          | "n" | "u" | "m" | "" | "k" | "M" | "G" | "T" | "P" | "E"   powers of 1000
//!          | ("e" | "E") sign? digits                                   a power of ten
//! ```
//!
//! So `1E` is an exa, `1E3` a thousand, `1K` invalid, and `512m` half a byte. The value is kept exactly, however long
//! the number; only [`Quantity::bytes`] rounds, upwards, as Kubernetes does when it needs a whole number.

mod error;
mod parse;

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::decimal::{Decimal, Product};
use super::units::Bytes;

pub use error::QuantityError;

/// An amount in Kubernetes notation: its text and its exact value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    source: String,
    /// The number, including decimal suffix and exponent.
    number: Decimal,
    /// The power of two of a binary suffix: 0, 10, … 60.
    binary: u8,
}

impl Quantity {
    /// The largest amount of Kubernetes: 2⁶³-1. It truncates larger ones; here they are errors.
    pub const MAX: Bytes = Bytes(i64::MAX as u64);

    /// The source text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The amount in whole bytes, rounded up.
    ///
    /// # Errors
    /// If it is negative, or larger than [`Self::MAX`].
    pub fn bytes(&self) -> Result<Bytes, QuantityError> {
        if self.number.is_negative() {
            return Err(QuantityError::negative(&self.source));
        }
        match self.product().and_then(Product::ceil) {
            Some(bytes) if bytes <= Self::MAX.0 => Ok(Bytes(bytes)),
            Some(_) | None => Err(QuantityError::too_large(&self.source)),
        }
    }

    /// The amount in thousandths, such as those of a CPU, rounded up; `None` if it is negative or at least 2⁶⁴.
    pub fn thousandths(&self) -> Option<u64> {
        let product = self.number.thousandfold().product(1 << self.binary, 1)?;
        product.ceil().filter(|_| !self.number.is_negative())
    }

    /// Whether it is not a whole number of bytes, as in `0.5` or `512m`.
    pub fn has_fraction_of_byte(&self) -> bool {
        self.product().is_some_and(|product| product.rest)
    }

    fn product(&self) -> Option<Product> {
        self.number.product(1 << self.binary, 1)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse::kubernetes(text).ok_or_else(|| QuantityError::unreadable(text))
    }
}

impl From<u64> for Quantity {
    fn from(value: u64) -> Self {
        Self { source: value.to_string(), number: Decimal::from(value), binary: 0 }
    }
}

impl From<i64> for Quantity {
    fn from(value: i64) -> Self {
        Self { source: value.to_string(), number: Decimal::from(value), binary: 0 }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.source)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrNumber;

        impl Visitor<'_> for TextOrNumber {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as \"512Mi\" or an integer number of bytes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Quantity, E> {
                Ok(Quantity::from(value))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Quantity, E> {
                Ok(Quantity::from(value))
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;

    /// Parses every Kubernetes quantity (`512Mi`, `1.5G`, `1e9`) and common other forms, with a `B` and spaces before
    /// the unit: `512MiB`, `200 MiB`, `1.5 GB`, `10 B`. Fractions of a byte are rounded up.
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse::human(text).ok_or_else(|| QuantityError::unreadable_by_people(text))?.bytes()
    }
}
