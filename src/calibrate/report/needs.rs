//! Fits the need of resources other than memory, for the table of what to request.

use std::collections::BTreeMap;

use super::{Part, ReportOptions};
use crate::calibrate::fit::{Group, Groups, Metric, ResourceFit, SkippedRuns, fit_resource};
use crate::model::fit::{Resource, unit_of_size};
use crate::report::model::{FittedNeed, HeldOut, ResourceNeed};
use crate::store::ReadError;

/// The quantities to fit beside the peak.
const METRICS: [Metric; 3] = [Metric::Time, Metric::Cpu, Metric::Storage];

/// What each task needs, by its name.
pub(super) type Needs = BTreeMap<Option<String>, Vec<ResourceNeed>>;

/// Fits the needs in a pass over the records for each resource, so that a million runs fit in memory.
pub(super) fn needs(parts: &[Part<'_>], options: &ReportOptions) -> Result<Needs, ReadError> {
    let mut needs = Needs::new();
    for metric in METRICS {
        let mut groups = Groups::new(metric, options.pool_parameters);
        for part in parts {
            // The pass for memory reports unusable lines.
            part.each(&mut |observation| {
                groups.add(observation);
            })?;
        }
        for group in groups.finish() {
            // Most runs write nothing that is measured, which is not worth a line.
            if metric == Metric::Storage && group.table.runs.is_empty() {
                continue;
            }
            needs.entry(group.name()).or_default().push(need(&group, metric.resource(), options));
        }
    }
    Ok(needs)
}

fn need(group: &Group, resource: Resource, options: &ReportOptions) -> ResourceNeed {
    let (fitted, not_fitted) = match fit_resource(group, &options.fit_of(resource), &[]) {
        Ok(fit) => (fitted(group, &fit), None),
        Err(reason) => (None, Some(format!("{reason}{}", skipped(&group.skipped)))),
    };
    ResourceNeed { resource, unit: resource.unit().to_owned(), fitted, not_fitted }
}

fn skipped(runs: &SkippedRuns) -> String {
    let reasons: Vec<String> = runs.reasons().map(|(count, reason)| format!("{count} {reason}")).collect();
    if reasons.is_empty() { String::new() } else { format!("; skipped runs: {}", reasons.join(", ")) }
}

fn fitted(group: &Group, fitted: &ResourceFit) -> Option<FittedNeed> {
    let ResourceFit { resource, fit, inputs, held_out, .. } = fitted;
    let amount = fitted.amounts.first()?;
    let (unit_name, unit) = match group.parameter {
        Some(_) => ("", 1.0),
        None => unit_of_size(inputs.largest),
    };
    let predictor = match unit_name {
        "" => fit.predictor.clone(),
        unit => format!("{}, in {unit}", fit.predictor),
    };
    Some(FittedNeed {
        n: amount.n,
        request: amount.typical,
        limit: amount.limit,
        request_rule: resource.describe_rule(&fit.request, unit),
        limit_rule: resource.describe_rule(&fit.rule, unit),
        predictor: Some(predictor).filter(|_| fit.rule.exponent > 0),
        lower_bound: fit.lower_bound,
        enough_for: fitted.enough_for.map(|reach| reach.limit),
        smallest: inputs.smallest,
        inputs: inputs.distinct,
        runs: inputs.runs,
        timed_out: inputs.timed_out,
        held_out: HeldOut {
            mean_ratio: held_out.mean_ratio,
            failures_per_1000: held_out.failures_per_1000,
            waste_share: held_out.waste_share,
        },
        surely_fit: fitted.coverage,
        warnings: fitted.warnings.clone(),
    })
}
