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

/// A duration as text, for example `850 µs`, `523.4 ms`, `1.25 s`, `3 min 5 s` or `2 h 10 min`.
pub fn duration(us: u64) -> String {
    let seconds = us.saturating_add(500_000) / 1_000_000;
    // Each range ends where rounding would show a whole unit of the next.
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..999_950 => format!("{:.1} ms", us as f64 / 1e3),
        999_950..59_995_000 => format!("{:.2} s", us as f64 / 1e6),
        59_995_000..3_599_500_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
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

    #[test]
    fn durations_have_the_unit_that_people_use() {
        let times = [0, 850, 61_200, 523_449, 1_250_000, 185_000_000, 7_800_000_000];
        let words = ["0 µs", "850 µs", "61.2 ms", "523.4 ms", "1.25 s", "3 min 5 s", "2 h 10 min"];
        assert_eq!(times.map(duration), words);
    }

    #[test]
    fn durations_are_rounded_to_no_more_than_a_whole_unit() {
        assert_eq!([999_949, 999_950].map(duration), ["999.9 ms", "1.00 s"]);
        assert_eq!([59_994_999, 59_995_000].map(duration), ["59.99 s", "1 min 0 s"]);
        assert_eq!([3_599_499_999, 3_599_500_000].map(duration), ["59 min 59 s", "1 h 0 min"]);
        assert_eq!(duration(u64::MAX), "5124095576 h 1 min");
    }
}
