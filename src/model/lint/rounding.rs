//! What becomes of an amount on its way into Kubernetes.

use std::fmt;

use super::resources::{Amount, amount, inputs};
use super::{Finding, Place, TaskFacts};
use crate::model::rule::RuleType;
use crate::model::units::Bytes;

/// A loss of more than a hundredth is worth a word.
const LOSS: u128 = 100;

const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

pub(super) fn lint(task: &TaskFacts<'_>) -> Vec<Finding> {
    if !task.platform.may_be_kubernetes() {
        return Vec::new();
    }
    [RuleType::Limit, RuleType::Request]
        .into_iter()
        .filter_map(|applies_to| inputs(task).find_map(|input| loss(applies_to, amount(task, applies_to, input)?)))
        .collect()
}

fn loss(applies_to: RuleType, amount: Amount) -> Option<Finding> {
    let meant = u64::try_from((u128::from(amount.bytes.0) * 11).div_ceil(10)).ok()?;
    let written = OneDecimal::with_margin(amount.bytes);
    let lost = meant.checked_sub(written.bytes()?.0)?;
    if u128::from(lost) * LOSS <= u128::from(meant) {
        return None;
    }
    let percent = lost as f64 * 100.0 / meant as f64;
    let (scale, unit) = ((1u64 << (10 * written.unit)) as f64, UNITS[written.unit]);
    let message = format!(
        "Kubernetes gets {written} for a {applies_to} of {:.3}{unit}: {percent:.1} % less than 1.1 times as much, {:.3}{unit}",
        amount.bytes.0 as f64 / scale,
        meant as f64 / scale,
    );
    let more = written.next();
    let enough = enough_for(more)?;
    let help = match amount.place {
        Place::Limit | Place::Request => format!("write `{enough}`, for which Kubernetes gets {more}"),
        Place::Rule(..) => {
            format!("raise the coefficient so that the rule comes to `{enough}`, for which Kubernetes gets {more}")
        }
    };
    Some(Finding::new(amount.place, "rounding-loss", message).help(help))
}

/// The smallest amount, in whole units that are small beside it, that becomes `written`.
fn enough_for(written: OneDecimal) -> Option<String> {
    let bytes = u64::try_from((u128::from(written.bytes()?.0) * 10).div_ceil(11)).ok()?;
    let (step, unit) = if bytes >= Bytes::GIB.0 {
        (Bytes::MIB, "Mi")
    } else if bytes >= Bytes::MIB.0 {
        (Bytes::KIB, "Ki")
    } else {
        (Bytes(1), "")
    };
    Some(format!("{}{unit}", bytes.div_ceil(step.0)))
}

/// An amount in tenths of a binary unit, as Kubernetes is given it.
#[derive(Clone, Copy)]
struct OneDecimal {
    tenths: u64,
    /// The power of 1024.
    unit: usize,
}

impl OneDecimal {
    /// 1.1 times as much as is needed. In floating point, as the platform computes it: its rounding is part of the result.
    fn with_margin(need: Bytes) -> Self {
        let mut amount = 1.1 * need.0 as f64;
        let mut unit = 0;
        while amount >= 1024.0 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        Self { tenths: format!("{amount:.1}").replace('.', "").parse().unwrap_or(u64::MAX), unit }
    }

    /// What it stands for, rounded up to whole bytes; `None` beyond 2⁶⁴.
    fn bytes(self) -> Option<Bytes> {
        u64::try_from((u128::from(self.tenths) << (10 * self.unit)).div_ceil(10)).ok().map(Bytes)
    }

    /// A tenth more.
    fn next(self) -> Self {
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
