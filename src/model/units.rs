//! Amounts of memory.

use std::fmt;
use std::iter::Sum;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of bytes. Arithmetic is checked; in JSON it is a whole number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Zero bytes.
    pub const ZERO: Self = Self(0);
    /// 1024 bytes.
    pub const KIB: Self = Self(1 << 10);
    /// 1024² bytes.
    pub const MIB: Self = Self(1 << 20);
    /// 1024³ bytes.
    pub const GIB: Self = Self(1 << 30);

    /// `count` mebibytes; saturates.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// The sum, or `None` on overflow.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference; 0 if `other` is larger.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum; saturates.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The ratio to `other`; `None` if that is 0.
    pub fn ratio(self, other: Self) -> Option<f64> {
        (other.0 != 0).then(|| self.0 as f64 / other.0 as f64)
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Bytes {
    /// For display, in a binary unit with at most one decimal: `200.5 MiB`. Never for computing: `Bytes::0` is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 0;
        let mut tenths = u128::from(self.0) * 10;
        // Round to tenths before choosing the unit, so that nothing is written as `1024.0 KiB`.
        while unit + 1 < UNITS.len() && (tenths + 5) / 10 >= 1024 {
            unit += 1;
            tenths = ((u128::from(self.0) * 10) + (1u128 << (10 * unit - 1))) >> (10 * unit);
        }
        let text = match (unit, tenths % 10) {
            (0, _) | (_, 0) => format!("{} {}", tenths / 10, UNITS[unit]),
            (_, tenth) => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_the_largest_unit_below_1024() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!(shown(0), "0 B");
        assert_eq!(shown(1023), "1023 B");
        assert_eq!(shown(1024), "1 KiB");
        assert_eq!(shown(1536), "1.5 KiB");
        assert_eq!(shown((1 << 20) - 1), "1 MiB");
        assert_eq!(shown(200 << 20), "200 MiB");
        assert_eq!(shown(u64::MAX), "16 EiB");
    }

    #[test]
    fn a_sum_stops_at_the_largest_amount() {
        assert_eq!([Bytes(u64::MAX), Bytes(1)].into_iter().sum::<Bytes>(), Bytes(u64::MAX));
        assert_eq!(Bytes(u64::MAX).checked_add(Bytes(1)), None);
    }
}
