//! The rule fitted to the runs of the demonstration, compared with the truth.

use std::fmt::Write;

use highwater::calibrate::fit::{Fit, FitOptions, Group, Metric, backtest, backtest_by, fit_single, group_records};
use highwater::model::observation::Observation;
use highwater::model::units::Bytes;

use super::workload::{BYTES_PER_BYTE, FLOOR, need};
use crate::cli::fit::backtest_row;
use crate::cli::table::table;

/// How far a fitted coefficient may exceed the true one: the fit's margin and the program's own memory.
const COEFFICIENT_WITHIN: f64 = 0.15;
/// How far a limit may exceed what the task keeps, in addition to [`OWN_MEMORY`].
const LIMIT_WITHIN: f64 = 0.10;
/// An upper bound on the program's own memory.
const OWN_MEMORY: Bytes = Bytes::mib(16);

/// Fits the runs and describes the result.
pub(super) fn text(observations: &[Observation]) -> String {
    let groups = group_records(observations, Metric::Peak, false);
    let [group] = groups.as_slice() else { return "\nNo runs to fit.\n".to_owned() };
    match fit_single(group, &FitOptions::default()) {
        Ok(fit) => describe(group, &fit),
        Err(reason) => format!("\nNo rule could be fitted: {reason}.\n"),
    }
}

fn describe(group: &Group, fit: &Fit) -> String {
    let mut text = format!(
        "\nFitted rule: {}{}, where n is {}. True rule: max({FLOOR}, {BYTES_PER_BYTE}*n).\n",
        if fit.lower_bound { "at least " } else { "" },
        fit.rule.readable(),
        fit.predictor
    );
    let sizes = group.table.runs.iter().filter_map(|run| run.sizes.first().copied());
    let verdict = match disagreement(fit, sizes) {
        None => {
            "They agree: the difference is the memory of the program itself and of the kernel, and the fit's margin."
                .to_owned()
        }
        Some(difference) => format!("They do not agree: {difference}."),
    };
    let _ = write!(text, "{verdict}\n\n");
    let declared = group.declared.as_ref().map(|declared| {
        let tried = backtest_by(&group.table, |place, _| declared.docker.get(place).copied().flatten());
        backtest_row(&format!("declared {}", declared.words), &tried)
    });
    let new = backtest_row(&format!("fitted {}", fit.rule.readable()), &backtest(&group.table, 0, &fit.rule, None));
    let header = ["on these runs", ">waste", ">failures/1000", ">limit/peak mean", ">min", ">max"];
    text + &table(&header, declared.into_iter().chain([new]).collect())
}

/// Describes how the rule differs from what the task does.
fn disagreement(fit: &Fit, sizes: impl Iterator<Item = Bytes>) -> Option<String> {
    let truth = BYTES_PER_BYTE as f64;
    let coefficient = fit.rule.coefficient;
    if fit.rule.exponent != 1 || !(truth..=truth * (1.0 + COEFFICIENT_WITHIN)).contains(&coefficient) {
        return Some(format!("{} grows differently", fit.rule.readable()));
    }
    let off = |n: &Bytes| {
        let (limit, need) = (fit.rule.limit(*n), need(*n));
        let most = Bytes((need.0 as f64 * (1.0 + LIMIT_WITHIN)) as u64).saturating_add(OWN_MEMORY);
        limit < need || limit > most
    };
    let mut sizes = sizes;
    sizes.find(off).map(|n| format!("an input of {n} needs {}, but its limit is {}", need(n), fit.rule.limit(n)))
}
