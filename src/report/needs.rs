//! What to request, in words: a table of all resources, and the evidence for those other than memory.

use super::model::{FittedNeed, Report, ResourceNeed, TaskReport};
use super::words::{UNKNOWN, at_least, percent, times};
use crate::model::fit::Resource;

/// The columns of [`requests`].
pub(super) const COLUMNS: [&str; 6] = ["resource", "request", "limit", "for n of", "enough up to", "rule of the limit"];

/// The resources that have a rule, each with its amounts for the largest input measured, its reach and its rule.
pub(super) fn requests(task: &TaskReport) -> Vec<[String; 6]> {
    let row = |need: &ResourceNeed| {
        let fitted = need.fitted.as_ref()?;
        let amount = |amount| at_least(need.resource.describe_amount(amount), fitted.lower_bound);
        let reach = fitted.enough_for.map_or_else(|| "unknown".to_owned(), |n| task.describe_n(n));
        Some([
            need.resource.name().to_owned(),
            amount(fitted.request),
            amount(fitted.limit),
            task.describe_n(fitted.n),
            reach,
            fitted.limit_rule.clone(),
        ])
    };
    task.requests.iter().filter_map(row).collect()
}

/// The resources without a rule, in a sentence for each reason.
pub(super) fn without_rule(task: &TaskReport) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for need in &task.requests {
        let Some(reason) = need.not_fitted.as_deref() else { continue };
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(need.resource.name()),
            None => by_reason.push((reason, vec![need.resource.name()])),
        }
    }
    by_reason.into_iter().map(|(reason, names)| format!("No rule for {}: {reason}", names.join(", "))).collect()
}

/// The columns of [`overview`].
pub(super) fn overview_columns(report: &Report) -> Vec<String> {
    let amounts = resources(report).into_iter().flat_map(|resource| {
        let name = resource.name();
        [format!("{name} request"), format!("{name} limit")]
    });
    std::iter::once("task".to_owned()).chain(amounts).collect()
}

/// What to request for each of several tasks, for its largest input measured; nothing without any rule.
pub(super) fn overview(report: &Report) -> Vec<Vec<String>> {
    if report.tasks.len() < 2 || resources(report).is_empty() {
        return Vec::new();
    }
    let of_task = |task: &TaskReport| {
        let amounts = resources(report).into_iter().flat_map(|resource| {
            let need = task.requests.iter().find(|need| need.resource == resource);
            let fitted = need.and_then(|need| need.fitted.as_ref());
            let amount = |amount: fn(&FittedNeed) -> f64| match fitted {
                Some(fitted) => at_least(resource.describe_amount(amount(fitted)), fitted.lower_bound),
                None => UNKNOWN.to_owned(),
            };
            [amount(|fitted| fitted.request), amount(|fitted| fitted.limit)]
        });
        std::iter::once(task.name.clone()).chain(amounts).collect()
    };
    report.tasks.iter().map(of_task).collect()
}

/// The resources for which any task has a rule.
fn resources(report: &Report) -> Vec<Resource> {
    let needs = report.tasks.iter().flat_map(|task| &task.requests).filter(|need| need.fitted.is_some());
    let mut resources: Vec<Resource> = needs.map(|need| need.resource).collect();
    resources.sort_unstable();
    resources.dedup();
    resources
}

/// The resources other than memory that have a rule, each with its rule in words and the evidence for it. The evidence
/// for the rule for memory is in parts of its own.
pub(super) fn others(task: &TaskReport) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let others = task.requests.iter().filter(|need| need.resource != Resource::Memory);
    others
        .filter_map(|need| Some((need.resource.name(), evidence(task, need.resource, need.fitted.as_ref()?))))
        .collect()
}

fn evidence(task: &TaskReport, resource: Resource, fitted: &FittedNeed) -> Vec<(&'static str, String)> {
    let n = fitted.predictor.iter().map(|predictor| format!(", where n is {predictor}"));
    let timed_out = match fitted.timed_out {
        0 => String::new(),
        count => format!(", {count} of them timed out"),
    };
    let [smallest, largest] = [fitted.smallest, fitted.n].map(|n| task.describe_n(n));
    let (failure, measured) = match resource {
        Resource::Cpu => ("use more", "CPU time divided by wall time, over whole runs"),
        Resource::Memory => ("fail on the first attempt", "peak memory"),
        Resource::Gpu => ("fail on the first attempt", "memory on the GPU on which a run had most"),
        Resource::Storage => (
            "write more",
            "files in outputs and in the writable layer at the end of runs; files removed before are not counted",
        ),
        Resource::Time => ("take longer", "wall time, which depends on the machine and on what else runs there"),
    };
    let mut evidence = vec![
        ("limit", fitted.limit_rule.clone() + &n.collect::<String>()),
        ("request", format!("{}: the need of the median run", fitted.request_rule)),
        ("measured", measured.to_owned()),
        ("fitted to", format!("{} runs{timed_out}, {} inputs of {smallest} to {largest}", fitted.runs, fitted.inputs)),
        (
            "held out",
            format!(
                "limit/used {} on average, {:.0} of 1000 further runs may {failure}, waste {} of what is needed",
                times(fitted.held_out.mean_ratio),
                fitted.held_out.failures_per_1000,
                percent(fitted.held_out.waste_share)
            ),
        ),
    ];
    evidence.extend(fitted.warnings.iter().map(|warning| ("warning", warning.clone())));
    evidence
}
