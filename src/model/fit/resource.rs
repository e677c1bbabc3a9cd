//! The resources whose need can be fitted.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::units::{Bytes, duration};

use super::{FittedRule, Form};

/// A resource whose need can be fitted.
///
/// Fits calculate with whole numbers, of type `Bytes` whatever they count: bytes of memory, microseconds of wall time,
/// or millionths of a core. Only what leaves a fit has the unit of the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Memory, in bytes.
    #[default]
    Memory,
    /// Wall time, in seconds.
    Time,
    /// CPU time divided by wall time, in cores.
    Cpu,
    /// Memory on one GPU, in bytes.
    Gpu,
    /// Files in outputs and in the writable layer of a container, in bytes.
    Storage,
}

impl Resource {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Cpu => "cores",
            Self::Gpu => "GPU memory",
            Self::Storage => "storage",
        }
    }

    /// The unit of its amounts.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Memory | Self::Gpu | Self::Storage => "bytes",
            Self::Time => "seconds",
            Self::Cpu => "cores",
        }
    }

    /// What a fit counts, in the unit of the resource.
    pub fn in_units(self, counted: f64) -> f64 {
        match self {
            Self::Memory | Self::Gpu | Self::Storage => counted,
            Self::Time | Self::Cpu => counted / 1e6,
        }
    }

    /// An amount for people: `1.5 GiB`, `3 min 5 s`, `2.25 cores`.
    pub fn describe(self, counted: Bytes) -> String {
        match self {
            Self::Memory | Self::Gpu | Self::Storage => counted.to_string(),
            Self::Time => duration(counted.0),
            Self::Cpu => format!("{:.2} cores", self.in_units(counted.0 as f64)),
        }
    }

    /// An amount in the unit of the resource, for people.
    pub fn describe_amount(self, amount: f64) -> String {
        self.describe(Bytes((amount / self.in_units(1.0)).round() as u64))
    }

    /// A rule with the unit of the resource: `max(12 s, 3.2 s·n)`; n is in this number of bytes, or has no unit.
    pub fn describe_rule(self, rule: &FittedRule, unit_of_n: f64) -> String {
        let base = self.describe(rule.base_bytes);
        if rule.exponent == 0 {
            return base;
        }
        let coefficient = self.in_units(rule.coefficient * unit_of_n.powi(rule.exponent.cast_signed()));
        let power = if rule.exponent == 1 { String::new() } else { format!("^{}", rule.exponent) };
        let coefficient = match self {
            Self::Memory | Self::Gpu | Self::Storage => Bytes(coefficient.ceil() as u64).to_string(),
            Self::Time => format!("{} s", significant(coefficient)),
            Self::Cpu => format!("{} cores", significant(coefficient)),
        };
        let growth = format!("{coefficient}·n{power}");
        match rule.form {
            Form::Max if rule.base_bytes == Bytes::ZERO => growth,
            Form::Max => format!("max({base}, {growth})"),
            Form::Sum => format!("{base} + {growth}"),
        }
    }
}

/// The largest unit in which this size is at least 1: its name and its bytes.
pub fn unit_of_size(size: Bytes) -> (&'static str, f64) {
    let units = [("GiB", Bytes::GIB), ("MiB", Bytes::mib(1)), ("KiB", Bytes(1024))];
    let (name, unit) = units.into_iter().find(|(_, unit)| size >= *unit).unwrap_or(("bytes", Bytes(1)));
    (name, unit.0 as f64)
}

/// A positive number with three significant digits.
fn significant(number: f64) -> String {
    if !(1e-4..1e6).contains(&number) {
        return format!("{number:.2e}");
    }
    let digits = (2.0 - number.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{number:.digits$}")
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Storage => "storage",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_leave_with_their_unit() {
        assert_eq!(Resource::Memory.describe(Bytes::mib(3)), "3 MiB");
        assert_eq!(Resource::Time.describe(Bytes(185_000_000)), "3 min 5 s");
        assert_eq!(Resource::Cpu.describe(Bytes(2_250_000)), "2.25 cores");
        assert_eq!(Resource::Time.in_units(1_500_000.0), 1.5);
        assert_eq!(Resource::Time.describe_amount(185.0), "3 min 5 s");
        assert_eq!(Resource::Cpu.describe_amount(2.25), "2.25 cores");
    }
    #[test]
    fn coefficients_have_three_digits_whatever_their_size() {
        let shown = [0.000_004, 0.004, 1.19, 12.94, 3661.0].map(significant);
        assert_eq!(shown, ["4.00e-6", "0.00400", "1.19", "12.9", "3661"]);
    }
}
