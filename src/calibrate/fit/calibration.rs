//! The calibration of a task: the fitted rule, what it amounts to once written down for a platform, and its score on
//! the recorded runs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::fit::{Declaration, Documented, FittedRule, Fixed, Growth, Measure, Scaled, SizedRun};
use crate::model::rule::Dialect;
use crate::model::units::Bytes;

use super::{
    Backtest, Declared, Fit, FitOptions, Group, OtherChannel, SkippedRuns, Target, TooLittle, backtest_by, fit_group,
    whole_factor,
};

/// The calibration of a task: its JSON form is the output of `highwater fit --format json`.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The workflow of the task, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The name of the task, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The parameters of the runs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The rule to write down, and the evidence for it.
    #[serde(flatten)]
    pub fit: Fit,
    /// The definition of n, in the fields of a scale rule.
    pub measure: Measure,
    /// The runs that were not fitted.
    #[serde(rename = "left_out", skip_serializing_if = "SkippedRuns::is_empty")]
    pub skipped: SkippedRuns,
    /// The platform that the rule is written for.
    pub target: Target,
    /// The limit that the platform applies if the rule is written down like this.
    pub effective: FittedRule,
    /// The growth term as a document states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub complexity: Option<String>,
    /// The same in the `scale_factor` dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_factor: Option<i64>,
    /// The rule as a Task API document; absent if its rules cannot express it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub documented: Option<Documented>,
    /// The score of the rule on the runs it was fitted to.
    pub recorded: Backtest,
    /// The score of [`CalibrationOptions::against`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Backtest>,
    /// The score of the rules that the task had when it ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<Backtest>,
    /// The amounts for the requested sizes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub for_sizes: Vec<ForSize>,
    /// What other consumers than the platform of the Task API get.
    #[serde(skip)]
    pub declaration: Declaration,
    /// The template that the recorded rules come from.
    #[serde(skip)]
    pub template: Option<String>,
}

/// The limit and request for an input size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ForSize {
    /// The input size.
    pub n: Bytes,
    /// The limit, as the platform applies it.
    pub limit: Bytes,
    /// The request, at most the limit.
    pub request: Bytes,
}

/// Options of a calibration.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationOptions<'a> {
    /// Options of the fit.
    pub fit: FitOptions,
    /// The dialect in which the rule is written down.
    pub dialect: Dialect,
    /// The platform that the rule is written for.
    pub target: Target,
    /// A rule to compare with.
    pub against: Option<FittedRule>,
    /// Input sizes whose amounts are of interest.
    pub for_sizes: &'a [Bytes],
}

/// Fits a rule to the runs of a task and adapts it to the platform and the dialect.
///
/// # Errors
/// If the evidence is insufficient, as for [`fit`](super::fit).
pub fn calibrate(group: &Group, options: &CalibrationOptions<'_>) -> Result<Calibration, TooLittle> {
    // No platform takes a rule over a parameter, so none adds a margin to it.
    let target = if group.parameter.is_some() { Target::Docker } else { options.target };
    let options = &CalibrationOptions { target, ..*options };
    let whole = options.dialect == Dialect::ScaleFactor;
    let mut found = fit_group(group, &FitOptions { max_exponent: if whole { 1 } else { 3 }, ..options.fit })?;
    let others = found.other_channels.clone();
    let (intended, requested) = (found.rule, found.request);
    let predictor = group.table.predictors.iter().position(|name| *name == found.predictor).unwrap_or(0);
    let measure = group.measures.get(predictor).cloned().unwrap_or_else(|| Measure::of_column(&found.predictor));
    found.rule = written(intended, group, predictor, options);
    found.request = match whole {
        true => whole_factor(&target.written(requested), &group.table, predictor),
        false => target.written(requested),
    };
    found.request = found.request.at_most(found.rule);
    for also in &mut found.other_channels {
        *also = written_also(also, target, whole);
    }
    found.warnings.extend(found.extrapolated(options.for_sizes.iter().copied()));
    found.warnings.extend(found.steep().filter(|_| group.parameter.is_none()));
    found.warnings.extend(found.not_enough(options.for_sizes.iter().copied()));
    found.warnings.extend(group.warnings.iter().cloned());
    let covered = (found.inputs.smallest, found.inputs.largest);
    let size = |run: &SizedRun| run.sizes.get(predictor).copied();
    let tried = |rule: FittedRule, also: &[OtherChannel]| {
        let given = |run: &SizedRun| {
            let others = also.iter().filter_map(|also| run.sizes.get(also.place).map(|n| also.limit(*n)));
            size(run).map(|n| target.given(others.fold(rule.limit(n), Bytes::max)))
        };
        let mut tried = backtest_by(&group.table, |_, run| given(run));
        tried.outside = group.table.runs.iter().filter_map(size).filter(|n| *n < covered.0 || *n > covered.1).count();
        tried
    };
    let limit = scaled(&found.rule, &measure, &found, group, |also| also.coefficient);
    let request = scaled(&found.request, &measure, &found, group, |also| also.request_coefficient);
    let fitted = Fit { rule: intended, request: requested.at_most(intended), other_channels: others, ..found.clone() };
    let declaration = declaration(group, &fitted, &measure, options.for_sizes);
    let written = Declaration { limit, request, ..declaration.clone() };
    let documented = written.documented(options.dialect, Some(set_aside(&found))).filter(|_| group.parameter.is_none());
    let for_sizes = options.for_sizes.iter().map(|&n| {
        let at = |scaled: &Scaled| scaled.at(for_n(n, &measure));
        // A document of the Task API requests the same for every run.
        let request = if documented.is_some() { set_aside(&found) } else { at(&written.request) };
        let limit = target.given(at(&written.limit));
        ForSize { n, limit, request: target.given(request).min(limit) }
    });
    let for_sizes = for_sizes.collect();
    Ok(Calibration {
        workflow: group.workflow.clone(),
        task: group.task.clone(),
        parameters: group.parameters.clone(),
        skipped: group.skipped,
        target,
        effective: target.effective(found.rule),
        complexity: found.rule.complexity().filter(|_| !whole),
        scale_factor: whole.then_some(found.rule.coefficient as i64).filter(|factor| *factor > 0),
        documented,
        recorded: tried(found.rule, &found.other_channels),
        against: options.against.map(|old| tried(old, &[])),
        declared: group.declared.as_ref().and_then(|declared| as_declared(group, declared, target)),
        for_sizes,
        template: group.declared.as_ref().and_then(|declared| declared.template.clone()),
        declaration,
        measure,
        fit: found,
    })
}

/// The rule to write down so that the platform applies what was fitted.
fn written(intended: FittedRule, group: &Group, predictor: usize, options: &CalibrationOptions<'_>) -> FittedRule {
    let target = options.target;
    let rule = target.rounded(target.written(intended), &intended, &group.table, predictor);
    match options.dialect {
        Dialect::Complexity => rule,
        Dialect::ScaleFactor => whole_factor(&rule, &group.table, predictor),
    }
}

/// The base for every run: what the median input needs, but no more than the limit of the smallest, since a platform
/// rejects a request above its limit.
fn set_aside(fit: &Fit) -> Bytes {
    fit.request.limit(fit.inputs.median).min(fit.rule.base_bytes)
}

/// The rule of a further channel as it is written down.
fn written_also(also: &OtherChannel, target: Target, whole: bool) -> OtherChannel {
    let written = |coefficient: f64| {
        let rule = FittedRule { coefficient, exponent: also.exponent, ..FittedRule::constant(Bytes::ZERO) };
        let written = target.written(rule).coefficient;
        if whole { written.ceil() } else { written }
    };
    let (coefficient, request_coefficient) = (written(also.coefficient), written(also.request_coefficient));
    OtherChannel { coefficient, request_coefficient, ..also.clone() }
}

fn scaled(
    rule: &FittedRule,
    measure: &Measure,
    found: &Fit,
    group: &Group,
    coefficient: impl Fn(&OtherChannel) -> f64,
) -> Scaled {
    let largest = found.inputs.largest;
    let growth = Growth { measure: measure.clone(), coefficient: rule.coefficient, exponent: rule.exponent, largest };
    let others = found.other_channels.iter().filter_map(|also| {
        let measure = group.measures.get(also.place)?.clone();
        Some(Growth { measure, coefficient: coefficient(also), exponent: also.exponent, largest: also.largest })
    });
    let growth = std::iter::once(growth).chain(others).filter(|growth| growth.coefficient > 0.0);
    Scaled { form: rule.form, base: rule.base_bytes, growth: growth.collect() }
}

/// This size of the first channel, and the largest measured size of the others.
fn for_n(n: Bytes, measure: &Measure) -> impl Fn(&Growth) -> Bytes {
    move |growth| if growth.measure == *measure { n } else { growth.largest }
}

/// The declaration for consumers other than the platform of the Task API, which add no margin of their own.
fn declaration(group: &Group, fitted: &Fit, measure: &Measure, for_sizes: &[Bytes]) -> Declaration {
    let largest = for_sizes.iter().copied().max().unwrap_or(fitted.inputs.largest);
    let limit = scaled(&fitted.rule, measure, fitted, group, |also| also.coefficient);
    let request = scaled(&fitted.request, measure, fitted, group, |also| also.request_coefficient);
    let others = limit.growth.iter().filter(|growth| growth.measure != *measure);
    let others: String = others.map(|growth| format!(", {} ({})", growth.largest, growth.measure)).collect();
    let inputs = match (limit.growth.is_empty(), fitted.enough_for) {
        (true, Some(reach)) => format!("inputs of up to {}, measured up to {}", reach.limit, fitted.inputs.largest),
        (true, None) => format!("inputs of any size, measured up to {}", fitted.inputs.largest),
        (false, _) => format!("inputs of up to {largest} ({measure}){others}"),
    };
    let fixed_limit = limit.at(for_n(largest, measure));
    let request_at = request.at(for_n(fitted.inputs.median.min(largest), measure));
    let fixed = Fixed { limit: fixed_limit, request: request_at.min(fixed_limit), inputs };
    Declaration { task: group.name(), limit, request, fixed }
}

fn as_declared(group: &Group, declared: &Declared, target: Target) -> Option<Backtest> {
    let limits = match target {
        Target::Docker => &declared.docker,
        Target::Kubernetes => &declared.kubernetes,
    };
    let tried = backtest_by(&group.table, |place, _| limits.get(place).copied().flatten());
    (tried.runs > 0).then_some(tried)
}
