//! What reports say about a task in sentences, whatever their format.

use std::collections::BTreeMap;

use super::model::TaskReport;
use super::words::{count, percent, times};

/// A case and its parameters.
pub(crate) fn case(case: &str, parameters: &BTreeMap<String, String>) -> String {
    let parameters = parameters.iter().map(|(name, value)| format!("{name}={value}"));
    let case = Some(case.to_owned()).filter(|case| !case.is_empty());
    case.into_iter().chain(parameters).collect::<Vec<_>>().join(", ")
}

/// The evidence for the fitted rule.
pub(crate) fn evidence(task: &TaskReport) -> Vec<(&'static str, String)> {
    let Some(fitted) = &task.fitted else {
        let reason = task.not_fitted.iter().map(|reason| ("no rule", reason.clone()));
        return reason.collect();
    };
    let found = &fitted.found;
    let predictor = task.predictor.as_deref().unwrap_or("the size of the input");
    let mut evidence = vec![
        ("n", predictor.to_owned()),
        match task.parameter {
            Some(_) => ("need", format!("{} (of a typical run)", found.typical.over_a_parameter())),
            None => ("request", format!("{} (the need of a typical run)", found.typical.readable())),
        },
        (
            "fitted to",
            format!(
                "{} distinct {}, {} to {}",
                found.inputs,
                if task.parameter.is_some() { "values" } else { "sizes" },
                task.describe_n(found.smallest),
                task.describe_n(found.largest)
            ),
        ),
        (
            "held out",
            format!(
                "{}limit/peak {} on average, {:.0} of 1000 runs fail on the first attempt, waste {} of the memory \
                 needed",
                if found.lower_bound { "from lower bounds of the peaks: " } else { "" },
                times(found.held_out.mean_ratio),
                found.held_out.failures_per_1000,
                percent(found.held_out.waste_share)
            ),
        ),
    ];
    let mut headroom = match found.lower_bound {
        true => "unknown: the rule was fitted to lower bounds, because too few peaks are exact".to_owned(),
        false => {
            format!("at least {:.0} % of further inputs fit, with 95 % confidence", (100.0 * found.surely_fit).floor())
        }
    };
    if found.more_needed > 0 {
        headroom.push_str(&format!("; 95 % needs {} more distinct inputs", found.more_needed));
    }
    let factors: Vec<String> = found
        .factors
        .iter()
        .filter_map(|one| Some(format!("{:.2} ({:.0} %)", one.factor?, 100.0 * one.content)))
        .collect();
    if !factors.is_empty() {
        headroom.push_str(&format!("; to cover the next input, multiply the rule by {}", factors.join(", ")));
    }
    evidence.push(("headroom", headroom));
    evidence
}

/// The warnings of a task as text.
pub(crate) fn warnings(task: &TaskReport) -> Vec<String> {
    let told = task.warnings.iter().map(|warning| match warning.runs {
        0 => warning.text.clone(),
        runs => format!("{}: {}", count(runs, "run", "runs"), warning.text),
    });
    told.collect()
}

/// How the peaks were measured.
pub(crate) fn measured(task: &TaskReport) -> Vec<String> {
    let told = task.measured.iter().map(|way| {
        let remedy = way.remedy.as_ref().map(|remedy| format!(". To get exact peaks: {remedy}")).unwrap_or_default();
        format!("{}: {}; {}{remedy}", count(way.runs, "run", "runs"), way.way, way.exactness)
    });
    told.collect()
}
