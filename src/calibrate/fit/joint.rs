//! Fits rules over several channels: the consumer takes the maximum of them, so that is what is fitted.
//!
//! Each part of a maximum shows only where it is the largest. The parts are found by coordinate descent from below: no
//! part can be larger than the smallest peak it would have caused. As elsewhere, held-out inputs decide.

use std::collections::BTreeMap;

use crate::model::fit::{Censoring, FittedRule, Form};
use crate::model::units::Bytes;

use super::holdout::{HeldOutPrediction, Margin, margin, splits};
use super::points::{is_timed, peak};
use super::result::OtherChannel;
use super::shape::{Shape, raise};
use super::{
    Fit, FitOptions, GROWTH_MUST_GAIN, Group, Objective, TooLittle, Warning, fit, headroom, held_out_of, round_up,
};

/// The fewest inputs that can distinguish two parts.
const FEWEST_POINTS: usize = 6;
/// The most points used while combinations are compared, and the most combinations compared on all points.
const MOST_POINTS: usize = 400;
const MOST_COMBINATIONS: usize = 4;
/// The most measures of a channel to combine with those of another.
const MOST_MEASURES: usize = 6;
/// The most values of each part to try in a step, and the most rounds.
const MOST_VALUES: usize = 24;
const MOST_ROUNDS: usize = 8;

/// Fits a rule to the runs of a group, over several channels if one is not sufficient.
///
/// # Errors
/// If the evidence is insufficient, as for [`fit`].
pub fn fit_group(group: &Group, options: &FitOptions) -> Result<Fit, TooLittle> {
    let options = &group.fit_options(options);
    let fit = |group: &Group| {
        let single = fit(&group.table, options)?;
        Ok(joint(group, options, &single).unwrap_or(single))
    };
    match group.lower_bounds_as_points() {
        Some(table) => fit(&Group { table, ..group.clone() }).map(|found| found.into_lower_bound(group)),
        None => fit(group),
    }
}

/// Fits a rule over a single channel to the runs of a group.
///
/// # Errors
/// If the evidence is insufficient, as for [`fit`].
pub fn fit_single(group: &Group, options: &FitOptions) -> Result<Fit, TooLittle> {
    let options = &group.fit_options(options);
    match group.lower_bounds_as_points() {
        Some(table) => fit(&table, options).map(|found| found.into_lower_bound(group)),
        None => fit(&group.table, options),
    }
}

impl Fit {
    /// The fit without the claims that do not hold if the peaks it was fitted to are lower bounds: no input is known to
    /// fit.
    fn into_lower_bound(mut self, group: &Group) -> Self {
        let runs = &group.table.runs;
        self.lower_bound = true;
        self.inputs.sampled = runs.iter().filter(|run| run.censoring == Censoring::LowerBound).count();
        self.headroom = headroom::from_counts(0, 0, self.headroom.parameters, &[], self.margin);
        self.enough_for = None;
        self.warnings.retain(|warning| !matches!(warning, Warning::FewInputs { .. } | Warning::MoreFailures { .. }));
        self.warnings.push(Warning::FewInputs { more_needed: self.headroom.more_needed, measure: None });
        self
    }
}

/// A run with all of its sizes.
#[derive(Clone, Debug)]
struct Run {
    sizes: Vec<f64>,
    peak: f64,
    wall: f64,
}

/// The n of a part, and its exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Term {
    place: usize,
    exponent: u32,
}

/// max(base, slope · (n / largest)^exponent, …).
#[derive(Clone, Debug)]
struct Surface {
    terms: Vec<Term>,
    largest: Vec<f64>,
    base: f64,
    slopes: Vec<f64>,
}

impl Surface {
    fn x(&self, part: usize, run: &Run) -> f64 {
        let Term { place, exponent } = self.terms[part];
        raise(run.sizes[place], f64::from(exponent), self.largest[part])
    }

    fn at(&self, run: &Run) -> f64 {
        (0..self.terms.len()).map(|part| self.slopes[part] * self.x(part, run)).fold(self.base, f64::max)
    }

    /// The part with the maximum; `None` for the base.
    fn owner(&self, run: &Run) -> Option<usize> {
        let mut most = (self.base, None);
        for part in 0..self.terms.len() {
            let value = self.slopes[part] * self.x(part, run);
            if value > most.0 {
                most = (value, Some(part));
            }
        }
        most.1
    }

    fn distance(&self, runs: &[Run]) -> f64 {
        let one = |run: &Run| {
            let limit = self.at(run).max(1.0);
            (limit / run.peak).max(run.peak / limit) - 1.0
        };
        runs.iter().map(one).sum()
    }

    /// The surface with the smallest mean relative deviation that is found from below.
    fn centre(terms: &[Term], runs: &[Run]) -> Self {
        let size = |term: &Term| runs.iter().map(|run| run.sizes[term.place]).fold(0.0, f64::max);
        let empty = Self {
            terms: terms.to_vec(),
            largest: terms.iter().map(size).collect(),
            base: 0.0,
            slopes: vec![0.0; terms.len()],
        };
        let slopes: Vec<Vec<f64>> = (0..terms.len())
            .map(|part| {
                values(runs.iter().filter_map(|run| {
                    let slope = run.peak / empty.x(part, run);
                    slope.is_finite().then_some(slope)
                }))
            })
            .collect();
        let mut bases = values(runs.iter().map(|run| run.peak));
        bases.insert(0, 0.0);
        let from = |share: f64| {
            let low = |values: &Vec<f64>| values.get((values.len() as f64 * share) as usize).copied().unwrap_or(0.0);
            let start = Self { slopes: slopes.iter().map(low).collect(), ..empty.clone() };
            start.descend(runs, &bases, &slopes)
        };
        let (least, more) = (from(0.0), from(0.2));
        if more.distance(runs) < least.distance(runs) { more } else { least }
    }

    fn descend(mut self, runs: &[Run], bases: &[f64], slopes: &[Vec<f64>]) -> Self {
        let mut least = self.distance(runs);
        for _ in 0..MOST_ROUNDS {
            let before = least;
            for part in 0..=slopes.len() {
                let values = part.checked_sub(1).map_or(bases, |part| slopes[part].as_slice());
                for &value in values {
                    let mut changed = self.clone();
                    match part.checked_sub(1) {
                        Some(part) => changed.slopes[part] = value,
                        None => changed.base = value,
                    }
                    let distance = changed.distance(runs);
                    if distance < least {
                        (least, self) = (distance, changed);
                    }
                }
            }
            if least >= before {
                break;
            }
        }
        self
    }

    /// The surface raised so that each part covers the runs where it is the maximum.
    fn envelope(&self, runs: &[Run]) -> Self {
        let mut raised = self.clone();
        for run in runs {
            match self.owner(run) {
                Some(part) => raised.slopes[part] = raised.slopes[part].max(run.peak / self.x(part, run)),
                None => raised.base = raised.base.max(run.peak),
            }
        }
        raised
    }

    fn fit(shape: Shape, terms: &[Term], runs: &[Run]) -> Self {
        let centre = Self::centre(terms, runs);
        match shape {
            Shape::Envelope => centre.envelope(runs),
            Shape::Centre | Shape::LeastWaste => centre,
        }
    }

    /// The coefficient of a part over n itself.
    fn coefficient(&self, part: usize, factor: f64) -> f64 {
        round_up(self.slopes[part] * factor / self.largest[part].powi(self.terms[part].exponent.cast_signed()))
    }

    /// Whether each part is the maximum of at least two runs.
    fn is_needed(&self, runs: &[Run]) -> bool {
        let owners: Vec<Option<usize>> = runs.iter().map(|run| self.owner(run)).collect();
        (0..self.terms.len()).all(|part| owners.iter().filter(|owner| **owner == Some(part)).count() >= 2)
    }
}

fn values(all: impl Iterator<Item = f64>) -> Vec<f64> {
    crate::stats::summary::spread(all.collect(), MOST_VALUES)
}

/// The performance of a kind of surface on held-out runs.
struct HeldOutResult {
    terms: Vec<Term>,
    shape: Shape,
    margin: Margin,
    predictions: Vec<HeldOutPrediction>,
}

fn tried(terms: &[Term], shape: Shape, runs: &[Run], options: &FitOptions) -> Option<HeldOutResult> {
    let mut predictions = Vec::new();
    for held in splits(&(0..runs.len()).collect::<Vec<_>>()) {
        let seen: Vec<Run> =
            runs.iter().enumerate().filter(|(place, _)| !held.contains(place)).map(|(_, run)| run.clone()).collect();
        let surface = Surface::fit(shape, terms, &seen);
        predictions.extend(held.iter().map(|&place| {
            let run = &runs[place];
            HeldOutPrediction { place, limit: surface.at(run), peak: run.peak, wall: run.wall }
        }));
    }
    let margin = margin(&predictions, options.objective.care(options.failures))?;
    Some(HeldOutResult { terms: terms.to_vec(), shape, margin, predictions })
}

/// The uncensored runs, repeats pooled to their maximum, sorted by one of their sizes.
fn distinct(group: &Group, by: usize) -> Vec<Run> {
    let timed = is_timed(&group.table);
    let mut distinct: BTreeMap<Vec<u64>, Run> = BTreeMap::new();
    for run in group.table.runs.iter().filter(|run| run.censoring == Censoring::None) {
        let key: Vec<u64> = run.sizes.iter().map(|size| size.0).collect();
        let wall = run.wall_seconds.filter(|_| timed).unwrap_or(1.0).clamp(0.0, 1e12);
        let sizes = key.iter().map(|size| *size as f64).collect();
        let one = Run { sizes, peak: peak(run.peak), wall };
        distinct
            .entry(key)
            .and_modify(|pooled| {
                pooled.peak = pooled.peak.max(one.peak);
                pooled.wall += wall;
            })
            .or_insert(one);
    }
    let mut runs: Vec<Run> = distinct.into_values().collect();
    runs.sort_by(|a, b| a.sizes[by].total_cmp(&b.sizes[by]));
    runs
}

fn some(runs: &[Run]) -> Vec<Run> {
    let step = runs.len().div_ceil(MOST_POINTS).max(1);
    runs.iter().step_by(step).cloned().collect()
}

/// Pairs of measures of different channels with their exponents, best fit first.
fn combinations(group: &Group, runs: &[Run], options: &FitOptions) -> Vec<Vec<Term>> {
    let mut channels: Vec<(&str, Vec<usize>)> = Vec::new();
    for (place, measure) in group.measures.iter().enumerate() {
        let Some(channel) = measure.channel.as_deref() else { continue };
        let varies = runs.iter().any(|run| run.sizes[place] != runs[0].sizes[place]);
        match channels.iter_mut().find(|(name, _)| *name == channel) {
            Some((_, places)) if varies && places.len() < MOST_MEASURES => places.push(place),
            None if varies => channels.push((channel, vec![place])),
            Some(_) | None => {}
        }
    }
    let runs = some(runs);
    let exponents = 1..=options.max_exponent.min(2);
    let mut scored: Vec<(f64, Vec<Term>)> = Vec::new();
    for (number, (_, first)) in channels.iter().enumerate() {
        for (_, second) in &channels[number + 1..] {
            for (&one, &other) in first.iter().flat_map(|one| second.iter().map(move |other| (one, other))) {
                for (power, other_power) in
                    exponents.clone().flat_map(|one| exponents.clone().map(move |other| (one, other)))
                {
                    let terms =
                        vec![Term { place: one, exponent: power }, Term { place: other, exponent: other_power }];
                    let surface = Surface::centre(&terms, &runs);
                    if surface.is_needed(&runs) {
                        scored.push((surface.distance(&runs), terms));
                    }
                }
            }
        }
    }
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    scored.into_iter().take(MOST_COMBINATIONS).map(|(_, terms)| terms).collect()
}

/// The rule over several channels, if it costs clearly less on held-out inputs than the one over a single channel.
fn joint(group: &Group, options: &FitOptions, single: &Fit) -> Option<Fit> {
    let several = group.measures.iter().any(|measure| measure.channel != group.measures[0].channel);
    if options.form != Form::Max || !several {
        return None;
    }
    let by = group.table.predictors.iter().position(|name| *name == single.predictor)?;
    let runs = distinct(group, by);
    if runs.len() < FEWEST_POINTS {
        return None;
    }
    let runs = some(&runs);
    let alone = [Term { place: by, exponent: single.rule.exponent.max(1) }];
    let shapes = [Shape::Envelope, Shape::Centre];
    let cheapest = |terms: &[Term]| {
        let tried = shapes.iter().filter_map(|shape| tried(terms, *shape, &runs, options));
        tried.min_by(|a, b| a.margin.cost.total_cmp(&b.margin.cost))
    };
    let all = combinations(group, &runs, options);
    let best = all.iter().filter_map(|terms| cheapest(terms)).min_by(|a, b| a.margin.cost.total_cmp(&b.margin.cost))?;
    let alone = cheapest(&alone)?;
    (best.margin.cost * (1.0 + GROWTH_MUST_GAIN) < alone.margin.cost)
        .then(|| assembled(group, &runs, single, &best, 1.0 - best.margin.cost / alone.margin.cost, options.objective))
}

fn assembled(group: &Group, runs: &[Run], single: &Fit, best: &HeldOutResult, gain: f64, objective: Objective) -> Fit {
    let surface = Surface::fit(best.shape, &best.terms, runs);
    let centre = Surface::centre(&best.terms, runs);
    let factor = best.margin.factor;
    // The part that is the maximum of most runs comes first.
    let decides = |part: &usize| runs.iter().filter(|run| surface.owner(run) == Some(*part)).count();
    let mut order: Vec<usize> = (0..best.terms.len()).collect();
    order.sort_by_key(|part| std::cmp::Reverse(decides(part)));
    let rule = |surface: &Surface, part: usize, factor: f64| FittedRule {
        form: Form::Max,
        base_bytes: Bytes((surface.base * factor).ceil() as u64),
        coefficient: surface.coefficient(part, factor),
        exponent: surface.terms[part].exponent,
    };
    let limit = rule(&surface, order[0], factor);
    let request = rule(&centre, order[0], 1.0).at_most(limit);
    let other_channels = order[1..].iter().map(|&part| {
        let Term { place, exponent } = best.terms[part];
        let coefficient = surface.coefficient(part, factor);
        let request_coefficient = centre.coefficient(part, 1.0).min(coefficient);
        let predictor = group.table.predictors[place].clone();
        let largest = Bytes(runs.iter().map(|run| run.sizes[place]).fold(0.0, f64::max) as u64);
        OtherChannel { predictor, place, coefficient, exponent, request_coefficient, largest }
    });
    let place = best.terms[order[0]].place;
    let sizes = || runs.iter().map(|run| Bytes(run.sizes[place] as u64));
    let mut fit = Fit {
        rule: limit,
        request,
        predictor: group.table.predictors[place].clone(),
        other_channels: other_channels.collect(),
        shape: best.shape,
        margin: factor,
        held_out: held_out_of(
            &best.predictions,
            factor,
            runs.iter().map(|run| (run.peak, run.wall)),
            is_timed(&group.table),
        ),
        // The need of one channel alone says nothing about several.
        need: None,
        enough_for: None,
        ..single.clone()
    };
    fit.inputs.smallest = sizes().min().unwrap_or_default();
    fit.inputs.largest = sizes().max().unwrap_or_default();
    let mut sorted: Vec<Bytes> = sizes().collect();
    sorted.sort_unstable();
    fit.inputs.median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    fit.inputs.distinct = runs.len();
    fit.evidence.growth_gain = Some(gain.max(fit.evidence.growth_gain.unwrap_or(gain)));
    // A bound is above what the other channels give as well: only the base is certain.
    for run in
        group.table.runs.iter().filter(|run| matches!(run.censoring, Censoring::OomKilled | Censoring::LowerBound))
    {
        if fit.limit_of(place, &run.sizes) <= run.peak {
            fit.rule.base_bytes = fit.rule.base_bytes.max(Bytes(run.peak.0.saturating_add(1)));
        }
    }
    // With this objective, a run that was measured must not fail.
    for run in group.table.runs.iter().filter(|run| objective == Objective::Safe && run.censoring == Censoring::None) {
        if fit.limit_of(place, &run.sizes) < run.peak {
            fit.rule.base_bytes = fit.rule.base_bytes.max(run.peak);
        }
    }
    let exceeded = runs.iter().filter(|run| {
        let sizes: Vec<Bytes> = run.sizes.iter().map(|size| Bytes(*size as u64)).collect();
        run.peak > fit.limit_of(place, &sizes).0 as f64
    });
    fit.headroom = headroom::from_counts(runs.len(), exceeded.count(), best.terms.len() + 1, &best.predictions, factor);
    // The others were determined with one channel only.
    fit.outliers.clear();
    fit.warnings.retain(|warning| {
        !matches!(
            warning,
            Warning::FewInputs { .. }
                | Warning::RiseTogether { .. }
                | Warning::MoreFailures { .. }
                | Warning::WideGap { .. }
        )
    });
    let more_needed = fit.headroom.more_needed;
    fit.warnings.extend((more_needed > 0).then_some(Warning::FewInputs { more_needed, measure: None }));
    fit
}
