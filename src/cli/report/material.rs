//! Turns records into the input of a report: runs by task, their input sizes, and the fitted rule.

use std::collections::BTreeMap;

use highwater::calibrate::fit::{Fit, FitOptions, Group, Metric, fit_group, fit_single, group_records};
use highwater::model::fit::{Growth, Measure};
use highwater::model::observation::Observation;
use highwater::model::units::Bytes;
use highwater::report::model::{Factor, Found, HeldOut};
use highwater::report::{Head, Material};

use crate::cli::fit::describe;

/// How rules are fitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct How {
    /// The objective of a rule.
    pub(super) options: FitOptions,
    /// Whether runs with other parameters count as the same task.
    pub(super) pooled: bool,
}

/// One material per task of the records, with the earlier runs of the same task.
pub(super) fn materials<'a>(
    observations: &'a [Observation],
    earlier: &'a [Observation],
    how: How,
) -> Vec<Material<'a>> {
    let (mut materials, measures): (Vec<Material<'_>>, Vec<Option<Measure>>) =
        by_task(observations, how, &BTreeMap::new()).into_iter().unzip();
    // Use the same size definition for both, whatever the rule of the earlier runs counts.
    let counted: Counted = materials
        .iter()
        .zip(measures)
        .filter_map(|(material, measure)| Some((material.name.clone(), (material.predictor.clone()?, measure?))))
        .collect();
    let mut before: Vec<Material<'_>> =
        by_task(earlier, how, &counted).into_iter().map(|(material, _)| material).collect();
    for material in &mut materials {
        let same = before.iter().position(|other| other.name == material.name);
        material.before = same.map(|place| Box::new(before.remove(place)));
    }
    materials
}

/// The size definition for each task: the name of a predictor, and what it measures.
pub(super) type Counted = BTreeMap<String, (String, Measure)>;

fn by_task<'a>(observations: &'a [Observation], how: How, counted: &Counted) -> Vec<(Material<'a>, Option<Measure>)> {
    let groups = group_records(observations, Metric::Peak, how.pooled);
    let places = places(observations, how.pooled);
    groups.iter().zip(places).map(|(group, places)| material(observations, group, &places, how, counted)).collect()
}

/// The grouping key of runs.
type Key<'a> = (Option<&'a String>, Option<&'a BTreeMap<String, String>>);

/// The indices of the runs of each group, unusable ones included, in the group order of [`group_records`]: by first
/// run.
fn places(observations: &[Observation], pooled: bool) -> Vec<Vec<usize>> {
    let nothing = BTreeMap::new();
    let mut groups: Vec<(Key<'_>, Vec<usize>)> = Vec::new();
    for (place, observation) in observations.iter().enumerate() {
        let subject = &observation.subject;
        let parameters = observation.sweep.as_ref().map_or(&nothing, |sweep| &sweep.parameters);
        let key = (subject.name.as_ref().or(subject.command.first()), (!pooled).then_some(parameters));
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, places)) => places.push(place),
            None => groups.push((key, vec![place])),
        }
    }
    groups.into_iter().map(|(_, places)| places).collect()
}

/// The fit of a task's runs.
pub(super) struct Judgement {
    pub(super) head: Head,
    /// The size of a run: a column of the group's table, and what it measures.
    pub(super) column: Option<usize>,
    pub(super) measure: Option<Measure>,
    /// The table rows of outliers.
    pub(super) outliers: Vec<usize>,
}

pub(super) fn judge(group: &Group, how: How, counted: &Counted) -> Judgement {
    let fitted = fit_single(group, &how.options);
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
    let mut outliers = Vec::new();
    let found = match fitted {
        Ok(fit) => {
            outliers.extend(fit.outliers.iter().map(|outlier| outlier.run));
            let mut found = found(&fit);
            found.warnings.extend(group.warnings.iter().map(describe));
            found.warnings.extend(over_several_channels(group, how.options));
            Ok(found)
        }
        Err(reason) => Err(reason.to_string()),
    };
    let head = Head { name, predictor, found: Some(found), other_measure };
    Judgement { head, column, measure, outliers }
}

impl Judgement {
    /// The input size of a run; `row` is its row in the table, if any.
    pub(super) fn size(&self, group: &Group, row: Option<usize>, observation: &Observation) -> Option<Bytes> {
        let run = row.and_then(|row| group.table.runs.get(row));
        match run.zip(self.column) {
            Some((run, column)) => run.sizes.get(column).copied(),
            None => whole(observation, self.measure.as_ref()?),
        }
    }
}

fn material<'a>(
    observations: &'a [Observation],
    group: &Group,
    places: &[usize],
    how: How,
    counted: &Counted,
) -> (Material<'a>, Option<Measure>) {
    let judgement = judge(group, how, counted);
    // The table row of each run, if any.
    let row = |place: &usize| group.lines.binary_search(&(*place as u64 + 1)).ok();
    let censoring = |place: &usize| Some(group.table.runs.get(row(place)?)?.censoring);
    let sizes = places.iter().map(|place| judgement.size(group, row(place), observations.get(*place)?)).collect();
    let of_row = |row: &usize| places.binary_search(&(*group.lines.get(*row)? as usize - 1)).ok();
    let Head { name, predictor, mut found, other_measure } = judgement.head;
    if let Some(Ok(found)) = &mut found {
        found.outliers = judgement.outliers.iter().filter_map(of_row).collect();
    }
    let material = Material {
        name,
        observations: places.iter().filter_map(|place| observations.get(*place)).collect(),
        sizes,
        censoring: places.iter().map(censoring).collect(),
        predictor,
        found,
        other_measure,
        ..Material::default()
    };
    (material, judgement.measure)
}

/// The rule of `highwater fit` if several channels decide: the report uses a rule of only one of them.
fn over_several_channels(group: &Group, options: FitOptions) -> Option<String> {
    let fit = fit_group(group, &options).ok().filter(|fit| !fit.other_channels.is_empty())?;
    let others = fit.other_channels.iter().map(|also| {
        let growth = Growth::complexity_of(also.coefficient, also.exponent);
        format!(" or {growth} where n is {}", also.predictor)
    });
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
    let factor = |one: &highwater::calibrate::fit::Conformal| Factor { content: one.content, factor: one.factor };
    Found {
        rule: fit.rule,
        lower_bound: fit.lower_bound,
        typical: fit.request,
        held_out: HeldOut {
            mean_ratio: fit.held_out.mean_ratio,
            failures_per_1000: fit.held_out.failures_per_1000,
            waste_share: fit.held_out.waste_share,
        },
        inputs: fit.inputs.distinct,
        smallest: fit.inputs.smallest,
        largest: fit.inputs.largest,
        surely_fit: fit.headroom.content,
        more_needed: fit.headroom.more_needed,
        factors: fit.headroom.conformal.iter().map(factor).collect(),
        outliers: Vec::new(),
        warnings: fit.warnings.iter().map(describe).collect(),
    }
}
