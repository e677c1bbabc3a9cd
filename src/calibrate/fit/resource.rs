//! Fits a rule for wall time, cores or GPU memory, and states it in the unit of the resource.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::fit::{Factor, FittedRule, Form, Measure, Resource};
use crate::model::units::Bytes;

use super::{Fit, FitOptions, Group, Reach, SkippedRuns, TooLittle, fit_single};

/// The rule for a resource other than memory: its JSON form is the output of `highwater fit --on time --format json`.
#[derive(Clone, Debug, Serialize)]
pub struct ResourceFit {
    /// The workflow of the task, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The name of the task, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The parameters of the runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The resource.
    pub resource: Resource,
    /// The unit of all amounts.
    pub unit: &'static str,
    /// The rule for the limit, including the margin.
    pub limit: ResourceRule,
    /// The rule for the need of the median run.
    pub typical: ResourceRule,
    /// The predictor, n.
    pub predictor: String,
    /// The definition of n, in the fields of a scale rule; absent if n is a parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure: Option<Measure>,
    /// The data it was fitted to.
    pub inputs: ResourceInputs,
    /// Its performance on inputs that it was not fitted to.
    pub held_out: ResourceHeldOut,
    /// At least this share of further inputs fits, with 95 % confidence.
    pub coverage: f64,
    /// Factors on the rule that cover the next input, with their probabilities.
    pub conformal: Vec<Factor>,
    /// The sizes up to which limit and typical need are enough; `null` if that is not known.
    pub enough_for: Option<Reach>,
    /// The amounts for the largest measured input, or for the requested sizes.
    pub amounts: Vec<ResourceAmount>,
    /// The runs that were not fitted.
    #[serde(rename = "left_out", skip_serializing_if = "SkippedRuns::is_empty")]
    pub skipped: SkippedRuns,
    /// Warnings about this rule, for people.
    pub warnings: Vec<String>,
    /// The rule as it was fitted.
    #[serde(skip)]
    pub fit: Fit,
}

/// A rule in the unit of its resource: base combined with coefficient · n^exponent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ResourceRule {
    /// How the two parts are combined.
    pub form: Form,
    /// The constant part.
    pub base: f64,
    /// The factor of n^exponent; n is in bytes, or the value of the parameter.
    pub coefficient: f64,
    /// The exponent of n.
    pub exponent: u32,
}

impl ResourceRule {
    fn new(rule: &FittedRule, resource: Resource) -> Self {
        Self {
            form: rule.form,
            base: resource.in_units(rule.base_bytes.0 as f64),
            // As short as it was before it was converted.
            coefficient: format!("{:.9e}", resource.in_units(rule.coefficient)).parse().unwrap_or(0.0),
            exponent: rule.exponent,
        }
    }
}

/// The data that the rule was fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ResourceInputs {
    /// Number of runs, including those that timed out.
    pub runs: usize,
    /// Number of distinct inputs of runs that succeeded.
    pub distinct: usize,
    /// The smallest of these sizes.
    pub smallest: Bytes,
    /// The largest of these sizes.
    pub largest: Bytes,
    /// Number of runs that timed out: they only push the rule up.
    pub timed_out: usize,
}

/// The performance of a rule on held-out inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ResourceHeldOut {
    /// What is reserved and not used, and all of the tries that failed, as a share of what is needed.
    pub waste_share: f64,
    /// Failures on the first try per 1000 further runs.
    pub failures_per_1000: f64,
    /// The mean of limit / used.
    pub mean_ratio: f64,
    /// The smallest limit / used.
    pub smallest_ratio: f64,
    /// The largest limit / used.
    pub largest_ratio: f64,
}

/// The amounts for an input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ResourceAmount {
    /// The size of the input, or the value of the parameter.
    pub n: Bytes,
    /// The limit.
    pub limit: f64,
    /// The need of the median run.
    pub typical: f64,
}

/// Fits a rule to the runs of a task that were grouped by time, cores or GPU memory.
///
/// # Errors
/// If the evidence is insufficient, as for [`fit`](super::fit).
pub fn fit_resource(group: &Group, options: &FitOptions, for_sizes: &[Bytes]) -> Result<ResourceFit, TooLittle> {
    let resource = group.resource;
    let options = FitOptions { max_exponent: group.max_exponent(options), ..*options };
    let mut fit = fit_single(group, &options)?;
    fit.request = fit.request.at_most(fit.rule);
    fit.warnings.extend(fit.extrapolated(for_sizes.iter().copied()));
    fit.warnings.extend(fit.not_enough(for_sizes.iter().copied()));
    fit.warnings.extend(group.warnings.iter().cloned());
    let place = group.table.predictors.iter().position(|name| *name == fit.predictor).unwrap_or(0);
    let measure = group.measures.get(place).cloned().or_else(|| Some(Measure::of_column(&fit.predictor)));
    let sizes = if for_sizes.is_empty() { std::slice::from_ref(&fit.inputs.largest) } else { for_sizes };
    let amount = |rule: &FittedRule, n: Bytes| resource.in_units(rule.limit(n).0 as f64);
    let amounts =
        sizes.iter().map(|&n| ResourceAmount { n, limit: amount(&fit.rule, n), typical: amount(&fit.request, n) });
    Ok(ResourceFit {
        workflow: group.workflow.clone(),
        task: group.task.clone(),
        parameters: group.parameters.clone(),
        resource,
        unit: resource.unit(),
        limit: ResourceRule::new(&fit.rule, resource),
        typical: ResourceRule::new(&fit.request, resource),
        predictor: fit.predictor.clone(),
        measure: measure.filter(|_| group.parameter.is_none()),
        inputs: ResourceInputs {
            runs: fit.inputs.runs,
            distinct: fit.inputs.distinct,
            smallest: fit.inputs.smallest,
            largest: fit.inputs.largest,
            timed_out: fit.inputs.oom_killed,
        },
        held_out: ResourceHeldOut {
            waste_share: fit.held_out.waste_share,
            failures_per_1000: fit.held_out.failures_per_1000,
            mean_ratio: fit.held_out.mean_ratio,
            smallest_ratio: fit.held_out.smallest_ratio,
            largest_ratio: fit.held_out.largest_ratio,
        },
        coverage: fit.headroom.content,
        conformal: fit.headroom.conformal.clone(),
        enough_for: fit.enough_for,
        amounts: amounts.collect(),
        skipped: group.skipped,
        warnings: fit.warnings.iter().map(|warning| group.describe_warning(warning)).collect(),
        fit,
    })
}
