//! What becomes of an amount on its way into Kubernetes.

use std::fmt;

use super::resources::{amount, inputs};
use super::{Finding, Place, TaskFacts};
use crate::model::rule::RuleType;
use crate::model::units::Bytes;

/// From this loss on it is worth a word: a hundredth.
const LOSS: u128 = 100;

/// The amount that Kubernetes is to get for `need`: 1.1 times as much, rounded up to whole bytes.
pub fn kubernetes_amount(need: Bytes) -> Option<Bytes> {
    u64::try_from((u128::from(need.0) * 11).div_ceil(10)).ok().map(Bytes)
}

/// An amount as it is handed over: in tenths of the largest binary unit that leaves a number of 1 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneDecimal {
    tenths: u64,
    /// The power of 1024.
    unit: usize,
}

const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl OneDecimal {
    /// The nearest such number; half a tenth counts as a whole one.
    pub fn nearest(bytes: Bytes) -> Self {
        let mut unit = bytes.0.checked_ilog2().map_or(0, |log| log as usize / 10);
        let in_tenths = |unit: usize| (u128::from(bytes.0) * 20 + (1 << (10 * unit))) >> (10 * unit + 1);
        if in_tenths(unit) >= 10_240 && unit + 1 < UNITS.len() {
            unit += 1;
        }
        Self { tenths: u64::try_from(in_tenths(unit)).unwrap_or(u64::MAX), unit }
    }

    /// What it stands for, rounded up to whole bytes; `None` beyond 2⁶⁴.
    pub fn bytes(self) -> Option<Bytes> {
        u64::try_from((u128::from(self.tenths) << (10 * self.unit)).div_ceil(10)).ok().map(Bytes)
    }

    fn next(self) -> Self {
        Self { tenths: self.tenths + 1, ..self }
    }
}

impl fmt::Display for OneDecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.tenths / 10, self.tenths % 10, UNITS[self.unit])
    }
}

pub(super) fn lint(task: &TaskFacts<'_>) -> Vec<Finding> {
    if !task.platform.may_be_kubernetes() {
        return Vec::new();
    }
    [RuleType::Limit, RuleType::Request]
        .into_iter()
        .filter_map(|applies_to| inputs(task).find_map(|input| loss(task, applies_to, input)))
        .collect()
}

fn loss(task: &TaskFacts<'_>, applies_to: RuleType, input: Option<usize>) -> Option<Finding> {
    let amount = amount(task, applies_to, input)?;
    let meant = kubernetes_amount(amount.bytes)?;
    let written = OneDecimal::nearest(meant);
    let lost = meant.0.checked_sub(written.bytes()?.0)?;
    if u128::from(lost) * LOSS <= u128::from(meant.0) {
        return None;
    }
    let percent = lost as f64 * 100.0 / meant.0 as f64;
    let (scale, unit) = ((1u64 << (10 * written.unit)) as f64, UNITS[written.unit]);
    let message = format!(
        "Kubernetes gets {written} for a {applies_to} of {:.3}{unit}: {percent:.1} % less than 1.1 times as much, {:.3}{unit}",
        amount.bytes.0 as f64 / scale,
        meant.0 as f64 / scale,
    );
    let found = Finding::new(amount.place, "rounding-loss", message);
    // The smallest amount of whole mebibytes or bytes that is written with a tenth more.
    let enough = u64::try_from((u128::from(written.next().bytes()?.0) * 10).div_ceil(11)).ok()?;
    let step = if enough >= Bytes::GIB.0 {
        (Bytes::MIB, "Mi")
    } else if enough >= Bytes::MIB.0 {
        (Bytes::KIB, "Ki")
    } else {
        (Bytes(1), "")
    };
    let enough = format!("{}{}", enough.div_ceil(step.0.0), step.1);
    Some(match amount.place {
        Place::Limit | Place::Request => {
            found.help(format!("write `{enough}`, for which Kubernetes gets {}", written.next()))
        }
        Place::Rule(..) => found.help(format!(
            "raise the coefficient so that the rule comes to `{enough}`, for which Kubernetes gets {}",
            written.next()
        )),
    })
}
