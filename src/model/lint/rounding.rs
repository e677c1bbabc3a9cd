//! Amounts that change on their way to Kubernetes.

use super::resources::{Amount, amount, inputs};
use super::{Finding, Place, TaskFacts};
use crate::model::prediction::OneDecimal;
use crate::model::rule::RuleType;
use crate::model::units::Bytes;

/// Report a loss of more than a hundredth.
const LOSS: u128 = 100;

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
    let (scale, unit) = (written.unit_bytes().0 as f64, written.unit());
    let message = format!(
        "Kubernetes gets {written} for a {applies_to} of {:.3}{unit}, {percent:.1} % less than 1.1 times that \
         ({:.3}{unit})",
        amount.bytes.0 as f64 / scale,
        meant as f64 / scale,
    );
    let more = written.next();
    let enough = enough_for(more)?;
    let help = match amount.place {
        Place::Limit | Place::Request => format!("write `{enough}`, for which Kubernetes gets {more}"),
        Place::Rule(..) => {
            format!("raise the coefficient so that the rule gives `{enough}`, for which Kubernetes gets {more}")
        }
    };
    Some(Finding::new(amount.place, "rounding-loss", message).help(help))
}

/// The smallest amount, in whole units that are small relative to it, that becomes `written`.
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
