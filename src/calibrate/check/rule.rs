//! Decides whether the rule that fits the runs has changed.
//!
//! Two fits to runs of the same task never agree in every digit, and the choice of exponent may be close. So the rules
//! are not compared number by number. A change is reported only if some cell differs from the baseline by more than
//! noise, and if the new rule asks for more, beyond both thresholds, somewhere between the smallest measured input and
//! a horizon beyond the largest. A different exponent counts only if the runs contradict the old one.

use std::collections::BTreeMap;

use super::cells::Inexact;
use super::describe::describe;
use super::growth::Rounds;
use super::{CellRuns, Judge, TaskRuns};
use crate::calibrate::fit::{FEWEST_INPUTS, FitOptions, Objective, fit};
use crate::model::check::baseline::{BaselineCell, BaselineRule, words};
use crate::model::check::report::{Level, Reason, Sample, Samples};
use crate::model::check::thresholds::Tolerance;
use crate::model::fit::{Censoring, FittedRule, RunTable, SizedRun};
use crate::model::units::Bytes;
use crate::stats::summary::distinct;

/// A cell that differs by less than this share of its median says nothing about the rule.
const LEAST_SHARE: f64 = 0.01;
/// Nor is one that differs by less than this.
const LEAST: Bytes = Bytes::MIB;

/// All exponents that a consumer can compute, the lowest first.
pub(super) const EXPONENTS: [u32; 4] = [0, 1, 2, 3];

/// The rule that fits the runs; `None` with too few sizes.
pub(super) fn fitted(runs: &TaskRuns, tolerance: &Tolerance) -> Option<BaselineRule> {
    let table = table(runs);
    let fit = fit(&table, &FitOptions::new(Objective::Safe)).ok()?;
    let described = table.predictors.iter().filter_map(|predictor| {
        let found = describe(&medians(runs, predictor), &EXPONENTS, tolerance)?;
        Some((!found.fits, found.rule.exponent, predictor, found))
    });
    // The rule with the lowest exponent that describes the runs; among equals, that of the preferred predictor.
    let (_, _, predictor, typical) = described.min_by_key(|(unfit, exponent, _, _)| (*unfit, *exponent))?;
    let limit = if fit.predictor == *predictor {
        fit.rule
    } else {
        self::fit(&only(&table, predictor), &FitOptions::new(Objective::Safe)).ok()?.rule
    };
    let sizes = medians(runs, predictor).into_iter().map(|(n, _)| n);
    Some(BaselineRule {
        limit,
        typical: typical.rule,
        deviation: (typical.worst * 1e4).ceil() / 1e4,
        smallest: sizes.clone().min()?,
        largest: sizes.max()?,
        predictor: predictor.clone(),
    })
}

/// Sizes and medians of the cells that have both, and whose peaks are exact.
pub(super) fn medians(runs: &TaskRuns, predictor: &str) -> Vec<(Bytes, Bytes)> {
    let median = |cell: &CellRuns| cell.samples().filter(Samples::is_exact).map(|samples| samples.median);
    let of = |cell: &CellRuns| Some((*cell.sizes.get(predictor)?, median(cell)?));
    runs.cells.values().filter_map(of).collect()
}

/// Number of distinct sizes.
pub(super) fn distinct_sizes(cells: &[(Bytes, Bytes)]) -> usize {
    distinct(cells.iter().map(|(n, _)| n.0 as f64).collect()).len()
}

/// The same runs with one predictor only.
fn only(table: &RunTable, predictor: &str) -> RunTable {
    let place = table.predictors.iter().position(|name| name == predictor);
    let one = |run: &SizedRun| {
        let sizes = place.and_then(|place| run.sizes.get(place)).copied().into_iter().collect();
        SizedRun { sizes, ..run.clone() }
    };
    RunTable { predictors: vec![predictor.to_owned()], runs: table.runs.iter().map(one).collect() }
}

/// The runs as a table for fitting. Times are excluded: they differ from run to run, and the rule should not.
fn table(runs: &TaskRuns) -> RunTable {
    let used: Vec<&CellRuns> = runs.cells.values().filter(|cell| !cell.peaks().is_empty()).collect();
    let mut columns: BTreeMap<(u8, &str), Vec<Bytes>> = BTreeMap::new();
    for name in used.first().into_iter().flat_map(|cell| cell.sizes.keys()) {
        let column: Option<Vec<Bytes>> = used.iter().map(|cell| cell.sizes.get(name).copied()).collect();
        columns.extend(column.map(|column| ((preference(name), name.as_str()), column)));
    }
    let mut kept: Vec<(&str, Vec<Bytes>)> = Vec::new();
    for ((_, name), column) in columns {
        // Skip a predictor that gives the same sizes as another, such as the largest file of a single one.
        if kept.iter().all(|(_, known)| *known != column) {
            kept.push((name, column));
        }
    }
    let rows = used.iter().enumerate().flat_map(|(row, cell)| {
        let sizes: Vec<Bytes> = kept.iter().map(|(_, column)| column[row]).collect();
        let sized = move |sample: Sample| {
            let censoring = if sample.is_exact() { Censoring::None } else { Censoring::LowerBound };
            SizedRun { sizes: sizes.clone(), peak: sample.bytes, censoring, wall_seconds: None }
        };
        cell.peaks().into_iter().map(sized)
    });
    let runs = rows.collect();
    RunTable { predictors: kept.into_iter().map(|(name, _)| name.to_owned()).collect(), runs }
}

/// Prefers the size that the declared rule counts, then the sum.
fn preference(name: &str) -> u8 {
    match name.rsplit('.').next() {
        Some("rule") => 0,
        Some("sum") => 1,
        _ => 2,
    }
}

impl Judge<'_> {
    /// Compares the rule of the baseline with the current one.
    pub(super) fn rule(&mut self, old: &BaselineRule) {
        if self.runs.cells.is_empty() {
            return;
        }
        let Some((new, largest)) = self.comparable(old) else {
            let inexact = self.runs.cells.values().find_map(|cell| cell.inexact.as_ref());
            if let Some(Inexact { reason, remedy }) = inexact {
                let message = format!(
                    "the rule may have changed from {}: too few exact peaks to refit it ({reason})",
                    words(&old.typical)
                );
                self.not_verified(Reason::GrowthNotVerified, None, message, remedy);
                return;
            }
            let message = format!(
                "no rule can be fitted to the runs, unlike for {} ({})",
                self.reference.name(),
                words(&old.typical)
            );
            let remedy = "run the task on at least three inputs of different sizes";
            self.report(Level::Warning, Reason::NoRule, None, message, remedy);
            return;
        };
        let changed = self.changed_cells();
        if changed.is_empty() {
            return;
        }
        let Some((n, then, now)) = self.where_it_asks_for_more(old, &new, largest) else { return };
        let extrapolated = match n.ratio(largest) {
            Some(factor) if factor > 1.0 => format!(" ({factor:.1} times the largest measured)"),
            Some(_) | None => String::new(),
        };
        let message = format!(
            "the rule has changed: {}; an input of {n}{extrapolated} needs {now} instead of {then}",
            part(&old.typical, &new, n)
        );
        let refit = "if it is intended, refit the rule with `highwater fit` and ";
        let remedy = self.reference.or_update("check how what the change keeps in memory depends on the input", refit);
        self.report(Level::Failure, Reason::RuleChanged, None, message, remedy);
        self.suspects.extend(changed);
    }

    /// The rule for the current runs by the predictor of the old rule, and the largest size. The old form and exponent
    /// are kept unless the runs contradict them.
    fn comparable(&self, old: &BaselineRule) -> Option<(FittedRule, Bytes)> {
        let cells = medians(self.runs, &old.predictor);
        let largest = cells.iter().map(|(n, _)| *n).max().filter(|_| distinct_sizes(&cells) >= FEWEST_INPUTS)?;
        let same = describe(&cells, &[old.typical.exponent], &self.tolerance)?;
        if same.fits || same.worst <= 2.0 * old.deviation {
            return Some((same.rule, largest));
        }
        let free = describe(&cells, &EXPONENTS, &self.tolerance)?;
        Some((if free.fits { free.rule } else { same.rule }, largest))
    }

    /// The cells that differ from the baseline by more than noise, in either direction.
    fn changed_cells(&self) -> Vec<String> {
        let then = self.then.map(|then| &then.cells);
        let differs = |(name, cell): &(&String, &CellRuns)| match then.and_then(|then| then.get(*name)) {
            Some(then) => self.differs(then, cell),
            // Compared with the rule of the baseline elsewhere.
            None => false,
        };
        self.runs.cells.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    }

    fn differs(&self, then: &BaselineCell, cell: &CellRuns) -> bool {
        let now = Rounds::lowest_case(&cell.rounds);
        let enough = cell.peaks().len().min(then.samples.peaks.len()) >= self.thresholds.min_samples;
        let exact = then.samples.is_exact() && cell.inexact.is_none();
        if then.sizes != cell.sizes || !enough || !exact {
            return false;
        }
        let noise = then.samples.median.0 as f64 * self.scatter.noise(&then.samples, &now);
        let least = (then.samples.median.0 as f64 * LEAST_SHARE).max(LEAST.0 as f64).max(noise);
        let beyond = |median: Bytes| median.0.abs_diff(then.samples.median.0) as f64 > least;
        now.each().next().is_some() && now.each().all(beyond)
    }

    /// The input for which the new rule asks for the largest multiple of the old one, beyond both thresholds.
    fn where_it_asks_for_more(
        &self,
        old: &BaselineRule,
        new: &FittedRule,
        largest: Bytes,
    ) -> Option<(Bytes, Bytes, Bytes)> {
        let horizon = Bytes((largest.0 as f64 * self.thresholds.horizon) as u64);
        let measured = medians(self.runs, &old.predictor).into_iter().map(|(n, _)| n);
        let asked = measured.chain([horizon]).map(|n| (n, old.typical.limit(n), new.limit(n)));
        // If the old rule was off by more than the thresholds, so may the new one be.
        let slack = |then: Bytes| Bytes((then.0 as f64 * 2.0 * old.deviation) as u64).max(self.tolerance.around(then));
        let more = asked.filter(|(_, then, now)| *now > then.saturating_add(slack(*then)));
        more.max_by(|a, b| {
            let ratio = |(_, then, now): &(Bytes, Bytes, Bytes)| now.ratio(*then).unwrap_or(f64::INFINITY);
            ratio(a).total_cmp(&ratio(b))
        })
    }
}

/// The part of the rule that has changed.
fn part(old: &FittedRule, new: &FittedRule, n: Bytes) -> String {
    let (then, now) = (words(old), words(new));
    let grows = new.coefficient > 0.0 && new.limit(n) > new.base_bytes;
    if new.exponent != old.exponent && grows {
        format!(
            "the memory grows with {} instead of {}, {now} instead of {then}",
            power(new.exponent),
            power(old.exponent)
        )
    } else if grows {
        format!("its coefficient differs, {now} instead of {then}")
    } else {
        format!("its base differs, {now} instead of {then}")
    }
}

fn power(exponent: u32) -> &'static str {
    match exponent {
        0 => "nothing",
        1 => "n",
        2 => "n²",
        _ => "n³",
    }
}
