//! Fits a rule to the runs of a task, and judges each run by it.

use std::collections::BTreeMap;

use crate::calibrate::fit::{Fit, FitOptions, Group, fit_group, fit_single};
use crate::model::fit::Measure;
use crate::model::observation::Observation;
use crate::model::units::Bytes;
use crate::report::model::{Found, HeldOut};
use crate::report::{Head, Judged};

/// The size definition for each task: the name of a predictor, and what it measures.
pub(super) type Counted = BTreeMap<String, (String, Measure)>;

/// The fit of a task's runs.
pub(super) struct Judgement {
    pub(super) head: Head,
    /// The size of a run: a column of the group's table, and what it measures.
    column: Option<usize>,
    pub(super) measure: Option<Measure>,
    /// The rank of each outlier by its row in the table.
    outliers: BTreeMap<usize, usize>,
}

pub(super) fn judge(group: &Group, options: &FitOptions, counted: &Counted) -> Judgement {
    let fitted = fit_single(group, options);
    let predictors = &group.table.predictors;
    let place_of = |name: &str| predictors.iter().position(|predictor| predictor == name);
    let own = fitted.as_ref().map_or(0, |fit| place_of(&fit.predictor).unwrap_or(0));
    let name = group.name().unwrap_or_else(|| "a task".to_owned());
    let (column, predictor, measure) = match counted.get(&name) {
        Some((predictor, measure)) => (place_of(predictor), Some(predictor.clone()), Some(measure.clone())),
        None => (Some(own), predictors.get(own).cloned(), group.measures.get(own).cloned()),
    };
    let other_measure =
        fitted.as_ref().ok().map(|fit| fit.predictor.clone()).filter(|own| predictor.as_ref() != Some(own));
    let mut outliers = BTreeMap::new();
    let found = match fitted {
        Ok(fit) => {
            outliers.extend(fit.outliers.iter().map(|outlier| outlier.run).zip(0..));
            let mut found = found(&fit);
            found.warnings =
                fit.warnings.iter().chain(&group.warnings).map(|one| group.describe_warning(one)).collect();
            found.warnings.extend(over_several_channels(group, options));
            Ok(found)
        }
        Err(reason) => Err(reason.to_string()),
    };
    let parameter = group.parameter.clone();
    let head = Head { name, predictor, parameter, found: Some(found), other_measure, ..Head::default() };
    Judgement { head, column, measure, outliers }
}

impl Judgement {
    /// What the fit says about a run; `row` is its row in the table of the group, if any.
    pub(super) fn of_run(&self, group: &Group, row: Option<usize>, observation: &Observation) -> Judged {
        let run = row.and_then(|row| group.table.runs.get(row));
        let n = match run.zip(self.column) {
            Some((run, column)) => run.sizes.get(column).copied(),
            None => self.measure.as_ref().and_then(|measure| whole(observation, measure)),
        };
        let outlier = row.and_then(|row| self.outliers.get(&row).copied());
        Judged { n, censoring: run.map(|run| run.censoring), outlier }
    }
}

/// The rule of `highwater fit` if several channels decide: the report uses a rule of only one of them.
fn over_several_channels(group: &Group, options: &FitOptions) -> Option<String> {
    let fit = fit_group(group, options).ok().filter(|fit| !fit.other_channels.is_empty())?;
    let others =
        fit.other_channels.iter().map(|also| format!(" or {} where n is {}", also.complexity(), also.predictor));
    let (rule, others) = (fit.rule.readable(), others.collect::<String>());
    let predictor = &fit.predictor;
    Some(format!(
        "several channels decide, but the rule fitted here counts only one of them: `highwater fit` finds {rule} \
         where n is {predictor}{others}, whichever is larger"
    ))
}

/// The input size of a run that the rule was not fitted to, if the rule counts all files of a channel.
fn whole(observation: &Observation, measure: &Measure) -> Option<Bytes> {
    let channel = measure.channel.as_ref().filter(|_| !measure.is_narrowed())?;
    observation.inputs.iter().find(|input| input.channel == *channel).map(|input| input.all.n(measure.mode))
}

fn found(fit: &Fit) -> Found {
    Found {
        rule: fit.rule,
        lower_bound: fit.lower_bound,
        typical: fit.need.and_then(|need| need.rule()).unwrap_or(fit.request),
        request: Some(fit.request),
        held_out: HeldOut {
            mean_ratio: fit.held_out.mean_ratio,
            failures_per_1000: fit.held_out.failures_per_1000,
            waste_share: fit.held_out.waste_share,
        },
        runs: fit.inputs.runs,
        inputs: fit.inputs.distinct,
        smallest: fit.inputs.smallest,
        largest: fit.inputs.largest,
        enough_for: fit.enough_for.map(|reach| reach.limit),
        need: fit.need.map(|need| need.to_string()),
        surely_fit: fit.headroom.content,
        more_needed: fit.headroom.more_needed,
        factors: fit.headroom.conformal.clone(),
        outliers: Vec::new(),
        warnings: Vec::new(),
    }
}
