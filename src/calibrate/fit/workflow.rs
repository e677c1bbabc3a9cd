//! The limits of all tasks of a workflow, each fitted to its own runs.
//!
//! Traces of workflow engines do not have the sizes of inputs. Where they are not known, the limit is a constant, which
//! is chosen like any other rule: by the waste and failures on runs that were held out.

use std::collections::BTreeMap;

use crate::model::fit::{
    Censoring, Declaration, FittedTask, Fixed, RunTable, Scaled, SizedRun, TaskOutcome, WorkflowTask,
};
use crate::model::units::Bytes;

use super::{
    Backtest, CalibrationOptions, FEWEST_INPUTS, Fit, FitOptions, Group, TooLittle, Warning, backtest_by, calibrate,
    fit_single,
};

/// Fits a limit to the runs of each task, in the order of the groups. Tasks with too little data are left alone, and so are
/// those whose rule is implausibly steep, unless `accept_steep`.
pub fn calibrate_workflow(groups: &[Group], options: &CalibrationOptions<'_>, accept_steep: bool) -> Vec<WorkflowTask> {
    let mut named: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for group in groups {
        *named.entry(group.task.as_deref()).or_default() += 1;
    }
    let task = |group: &Group| {
        let outcome = match (&group.task, named.get(&group.task.as_deref())) {
            (None, _) => Err("the records do not name the task".to_owned()),
            (Some(_), Some(2..)) => Err("tasks of several tables or workflows have this name".to_owned()),
            (Some(_), _) => fitted(group, options, accept_steep),
        };
        WorkflowTask {
            task: group.task.clone().unwrap_or_default(),
            runs: group.table.runs.len() + group.unsized_runs.len() + group.skipped.total(),
            outcome: match outcome {
                Ok(fitted) => TaskOutcome::Fitted(Box::new(fitted)),
                Err(reason) => TaskOutcome::LeftAlone { reason },
            },
        }
    };
    groups.iter().map(task).collect()
}

/// The limit of a task; otherwise why there is none.
fn fitted(group: &Group, options: &CalibrationOptions<'_>, accept_steep: bool) -> Result<FittedTask, String> {
    match calibrate(group, options) {
        Ok(found) => {
            let steep = found.fit.warnings.iter().find(|warning| matches!(warning, Warning::Steep { .. }));
            match steep.filter(|_| !accept_steep) {
                Some(warning) => Err(warning.to_string()),
                None => {
                    let declaration = Declaration { task: group.task.clone(), ..found.declaration };
                    let mut fitted = judged(group, declaration, &found.fit, found.recorded, true);
                    fitted.warnings.extend(unused(&group.unsized_runs));
                    Ok(fitted)
                }
            }
        }
        Err(_) if !group.unsized_runs.is_empty() => constant(group, &options.fit),
        Err(reason) => Err(lacking(group, reason, true)),
    }
}

/// What is said of runs that a rule over sizes does not count.
fn unused(runs: &[SizedRun]) -> Option<String> {
    let killed = runs.iter().filter(|run| run.censoring == Censoring::OomKilled).count();
    let count = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    let killed =
        if killed == 0 { String::new() } else { format!("; {killed} of them killed, probably for lack of memory") };
    (!runs.is_empty()).then(|| format!("{count} without input sizes not used{killed}"))
}

/// A limit for all runs of a task, whatever their inputs.
fn constant(group: &Group, options: &FitOptions) -> Result<FittedTask, String> {
    let runs = group.table.runs.iter().chain(&group.unsized_runs).enumerate();
    // Each run counts as an input of its own.
    let runs = runs.map(|(place, run)| SizedRun { sizes: vec![Bytes(place as u64 + 1)], ..run.clone() });
    let table = RunTable { predictors: vec!["run".to_owned()], runs: runs.collect() };
    let numbered = Group { table, ..Group::default() };
    let options = FitOptions { max_exponent: 0, ..*options };
    let found = fit_single(&numbered, &options).map_err(|reason| lacking(group, reason, false))?;
    let [limit, request] =
        [found.rule, found.request].map(|rule| Scaled { form: rule.form, base: rule.base_bytes, growth: Vec::new() });
    let inputs = "all runs: the sizes of their inputs are not recorded".to_owned();
    let fixed = Fixed { limit: limit.base, request: request.base, inputs };
    let recorded = backtest_by(&numbered.table, |_, _| Some(found.rule.base_bytes));
    let declaration = Declaration { task: group.task.clone(), limit, request, fixed };
    Ok(FittedTask { fitted: numbered.table.runs.len(), ..judged(group, declaration, &found, recorded, false) })
}

fn judged(group: &Group, declaration: Declaration, found: &Fit, recorded: Backtest, sized: bool) -> FittedTask {
    use Warning::{FewInputs, MoreFailures, NarrowRange, Sampled, WideGap};
    // Other fields say the same.
    let is_said =
        |warning: &Warning| matches!(warning, FewInputs { .. } | MoreFailures { .. } | Sampled { as_points: true, .. });
    // Without sizes, n is only the number of a run.
    let is_of_sizes = |warning: &Warning| matches!(warning, NarrowRange { .. } | WideGap { .. });
    let warnings = found.warnings.iter().filter(|one| !is_said(one) && (sized || !is_of_sizes(one)));
    let warnings = warnings.map(|warning| group.describe_warning(warning));
    FittedTask {
        declaration,
        fitted: group.table.runs.len(),
        sized,
        lower_bound: found.lower_bound,
        exceeded: recorded.failures,
        failures_per_1000: found.held_out.failures_per_1000,
        coverage: (!found.lower_bound).then_some(found.headroom.content),
        warnings: warnings.collect(),
    }
}

/// What is missing, with the runs that do not count.
fn lacking(group: &Group, reason: TooLittle, sized: bool) -> String {
    let skipped: Vec<String> = group.skipped.reasons().map(|(count, what)| format!("{count} {what}")).collect();
    let skipped = skipped.join(", ");
    let what = match reason {
        TooLittle::NoRuns if skipped.is_empty() => return "no runs".to_owned(),
        TooLittle::NoRuns => return format!("no run with a usable peak: {skipped}"),
        TooLittle::OnlyCensored { runs: 1 } => {
            "the only run ran out of memory or reached its limit, so its peak does not show the need".to_owned()
        }
        TooLittle::OnlyCensored { runs } => {
            format!("all {runs} runs ran out of memory or reached their limit, so no peak shows the need")
        }
        TooLittle::FewInputs { found } if sized => {
            let sizes = if found == 1 { "size" } else { "sizes" };
            format!("{found} {sizes} of inputs, expected at least {FEWEST_INPUTS} that differ by more than 1 %")
        }
        TooLittle::FewInputs { found } => {
            let runs = if found == 1 { "1 run" } else { &format!("{found} runs") };
            format!("{runs} with a usable peak, expected at least {FEWEST_INPUTS}")
        }
    };
    if skipped.is_empty() { what } else { format!("{what}; not counted: {skipped}") }
}
