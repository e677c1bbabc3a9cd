//! Fits the need of resources other than memory, for the table of what to request.

use std::collections::BTreeMap;

use super::{Part, ReportOptions};
use crate::calibrate::fit::{Group, Groups, Metric, ResourceFit, SkippedRuns, fit_resource};
use crate::model::fit::{Resource, unit_of_size};
use crate::report::model::{FittedNeed, HeldOut, ResourceNeed};
use crate::store::ReadError;

/// The quantities to fit beside the peak. Those of one pass are kept together; most runs have the first one alone.
const PASSES: [&[Metric]; 2] = [&[Metric::Time, Metric::Gpu, Metric::Storage], &[Metric::Cpu]];

/// What each task needs, by its name.
pub(super) type Needs = BTreeMap<Option<String>, Vec<ResourceNeed>>;

/// Fits the needs in few passes over the records, but not in one, so that a million runs fit in memory.
pub(super) fn needs(parts: &[Part<'_>], options: &ReportOptions) -> Result<Needs, ReadError> {
    let mut needs = Needs::new();
    for metrics in PASSES {
        let mut groups: Vec<Groups> =
            metrics.iter().map(|metric| Groups::new(*metric, options.pool_parameters)).collect();
        for part in parts {
            // The pass for memory reports unusable lines.
            part.each(&mut |observation| {
                for groups in &mut groups {
                    groups.add(observation);
                }
            })?;
        }
        for group in groups.into_iter().flat_map(Groups::finish) {
            // Most runs have no GPU and write nothing that is measured, which is not worth a line.
            if matches!(group.resource, Resource::Gpu | Resource::Storage) && group.table.runs.is_empty() {
                continue;
            }
            needs.entry(group.name()).or_default().push(need(&group, group.resource, options));
        }
    }
    needs.values_mut().for_each(|needs| needs.sort_by_key(|need| need.resource));
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
    // Beside rules in bytes, n has to have its unit.
    let n = if unit_name.is_empty() { "·n".to_owned() } else { format!("·(n/{unit_name})") };
    let rule = |rule| resource.describe_rule(rule, unit).replace("·n", &n);
    Some(FittedNeed {
        n: amount.n,
        request: amount.typical,
        limit: amount.limit,
        request_rule: rule(&fit.request),
        limit_rule: rule(&fit.rule),
        predictor: Some(fit.predictor.clone()).filter(|_| fit.rule.exponent > 0),
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
