//! The notation of an amount for Kubernetes: with a margin, and one decimal of a binary unit.

use std::fmt;

use crate::model::units::Bytes;

/// The units, as in the platform's loop.
const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// An amount in tenths of a binary unit, as passed to Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) struct OneDecimal {
    tenths: u64,
    /// The exponent of 1024.
    unit: usize,
}

impl OneDecimal {
    /// 1.1 times the need. In floating point, like the platform: its rounding is part of the result.
    pub(in crate::model) fn with_margin(need: Bytes) -> Self {
        let mut amount = 1.1 * need.0 as f64;
        let mut unit = 0;
        while amount >= 1024.0 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        Self { tenths: format!("{amount:.1}").replace('.', "").parse().unwrap_or(u64::MAX), unit }
    }

    /// The value, rounded up to whole bytes; `None` beyond 2⁶⁴.
    pub(in crate::model) fn bytes(self) -> Option<Bytes> {
        u64::try_from((u128::from(self.tenths) << (10 * self.unit)).div_ceil(10)).ok().map(Bytes)
    }

    /// The name of the unit. The platform writes `B` for single bytes, which Kubernetes does not accept.
    pub(in crate::model) fn unit(self) -> &'static str {
        UNITS[self.unit]
    }

    /// The size of the unit.
    pub(in crate::model) fn unit_bytes(self) -> Bytes {
        Bytes(1 << (10 * self.unit))
    }

    /// A tenth more.
    pub(in crate::model) fn next(self) -> Self {
        Self { tenths: self.tenths.saturating_add(1), ..self }
    }
}

impl fmt::Display for OneDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.tenths / 10, self.tenths % 10, UNITS[self.unit])
    }
}

#[cfg(test)]
mod tests {
    use super::OneDecimal;
    use crate::model::units::Bytes;

    #[test]
    fn an_amount_is_handed_over_with_a_margin_and_one_decimal() {
        let written = |bytes| OneDecimal::with_margin(Bytes(bytes)).to_string();
        assert_eq!(written(0), "0.0");
        assert_eq!(written(64 << 30), "70.4Gi");
        assert_eq!(written(3 << 29), "1.7Gi");
        assert_eq!(written(1_113_000_000), "1.1Gi");
        // The unit is chosen before the rounding.
        assert_eq!(written(976_128_000), "1024.0Mi");
        assert_eq!(written(u64::MAX), "17.6Ei");
    }
}
