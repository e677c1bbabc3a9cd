//! What reports say about a task in sentences, whatever their format.

use std::collections::BTreeMap;

use super::model::{ChannelInputs, Found, TaskReport};
use super::words::{count, percent, times};
use crate::model::units::Bytes;

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
            None => ("request", found.request.unwrap_or(found.typical).readable()),
        },
        ("reach", reach(task, found)),
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
                "{}limit/peak {} on average, {:.0} of 1000 further runs may fail on the first attempt, waste {} of \
                 the memory needed",
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
            format!(
                "at least {:.0} % of further inputs of {} to {} fit, with 95 % confidence",
                (100.0 * found.surely_fit).floor(),
                task.describe_n(found.smallest),
                task.describe_n(found.largest)
            )
        }
    };
    if found.more_needed > 0 {
        headroom.push_str(&format!("; 95 % needs {} more distinct inputs", found.more_needed));
    }
    let factors: Vec<String> = found
        .factors
        .iter()
        .filter_map(|one| Some(format!("{:.2} × the rule ({:.0} %)", one.factor?, 100.0 * one.content)))
        .collect();
    if !factors.is_empty() {
        headroom.push_str(&format!("; the next input needs at most {}", factors.join(", ")));
    }
    evidence.push(("headroom", headroom));
    evidence.extend(found.need.iter().map(|need| ("need", format!("{need}, which the rule covers as a maximum"))));
    evidence
}

fn reach(task: &TaskReport, found: &Found) -> String {
    let what = if task.parameter.is_some() { "values" } else { "inputs" };
    let Some(size) = found.enough_for else { return "unknown".to_owned() };
    let measured =
        (size > found.largest).then(|| format!("; the largest measured is {}", task.describe_n(found.largest)));
    format!("enough for {what} up to {}{}", task.describe_n(size), measured.unwrap_or_default())
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

/// When and how the runs were made, and of which inputs.
pub(crate) fn provenance(task: &TaskReport) -> Vec<(&'static str, String)> {
    let provenance = &task.provenance;
    let mut facts = Vec::new();
    facts.extend(when(task).map(|when| ("date", when)));
    facts.extend(provenance.command.iter().map(|command| ("command", command.clone())));
    facts.extend(provenance.inputs.iter().map(|inputs| ("inputs", inputs_of(inputs))));
    facts
}

/// When the runs started: `2026-01-31, 12:00 to 12:20 UTC`.
pub(crate) fn when(task: &TaskReport) -> Option<String> {
    let (first, last) = task.provenance.first_started_at.zip(task.provenance.last_started_at)?;
    let (day, minute) = (first.day(), first.minute());
    Some(match (last.day(), last.minute()) {
        (last_day, last_minute) if last_day != day => format!("{day} {minute} to {last_day} {last_minute} UTC"),
        (_, last_minute) if last_minute != minute => format!("{day}, {minute} to {last_minute} UTC"),
        _ => format!("{day}, {minute} UTC"),
    })
}

fn inputs_of(inputs: &ChannelInputs) -> String {
    let ChannelInputs { channel, path, fewest_files, most_files, smallest, largest } = inputs;
    let files = match (fewest_files, most_files) {
        // Production runs may be annotated with a size alone.
        (0, 0) if *largest > Bytes::ZERO => String::new(),
        (1, 1) => "1 file, ".to_owned(),
        (fewest, most) if fewest == most => format!("{most} files, "),
        (fewest, most) => format!("{fewest} to {most} files, "),
    };
    let sizes = if smallest == largest { smallest.to_string() } else { format!("{smallest} to {largest}") };
    let path = path.iter().map(|path| format!(" in {path}"));
    format!("{channel}: {files}{sizes}{}", path.collect::<String>())
}
