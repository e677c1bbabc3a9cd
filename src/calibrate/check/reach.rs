//! Larger inputs than those checked: up to which size the rule that the task declares is enough.
//!
//! The need beyond the largest input is that of the simplest rule that describes the runs.

use super::Judge;
use super::cells::CellRuns;
use super::describe::describe;
use super::rule::{EXPONENTS, distinct_sizes, medians};
use crate::calibrate::fit::{FARTHEST, FEWEST_INPUTS, enough_up_to};
use crate::model::check::baseline::words;
use crate::model::check::report::RuleReach;
use crate::model::units::Bytes;

impl Judge<'_> {
    /// Up to which size the rule of the task is enough. `None` without a rule, with rules for several inputs, with too few
    /// sizes, and if the rule is not enough for the smallest input.
    pub(super) fn enough_for(&self) -> Option<RuleReach> {
        let cells = || self.runs.cells.values();
        let first = cells().next()?;
        if let Some(rule) = &self.task.rule {
            let predictor = first.sizes.keys().find(|name| super::cells::is_sum(name))?;
            return self.reach(words(rule), predictor, |n| rule.limit(n));
        }
        let (channel, formula) = first.rule.as_ref()?;
        if cells().any(|cell| cell.rule != first.rule) {
            return None;
        }
        // Cells whose rule exceeds the constant do not record it.
        let base = cells().filter_map(CellRuns::limit_of_resources).max().unwrap_or(Bytes::ZERO);
        // An amount that does not fit into 64 bits is enough.
        let limit = |n: Bytes| formula.evaluate(n).unwrap_or(Bytes(u64::MAX)).max(base);
        let rule = formula.canonical();
        let rule = if base == Bytes::ZERO { rule } else { format!("max({base}, {rule})") };
        self.reach(rule, &format!("{channel}.rule"), limit)
    }

    fn reach(&self, rule: String, predictor: &str, limit: impl Fn(Bytes) -> Bytes) -> Option<RuleReach> {
        let mut cells = medians(self.runs, predictor);
        cells.sort_unstable();
        let sizes: Vec<f64> = cells.iter().map(|(n, _)| n.0 as f64).collect();
        let (smallest, largest) = (cells.first()?.0, cells.last()?.0);
        if distinct_sizes(&cells) < FEWEST_INPUTS {
            return None;
        }
        let covered = cells.len() - cells.iter().rev().take_while(|(n, median)| limit(*n) < *median).count();
        let need = describe(&cells, &EXPONENTS, &self.tolerance)?.rule;
        let is_enough = |n: f64| limit(Bytes(n as u64)) >= need.limit(Bytes(n as u64));
        let up_to = enough_up_to(&sizes, covered, is_enough);
        (up_to >= smallest.0 as f64).then(|| RuleReach {
            rule,
            predictor: predictor.to_owned(),
            limit: Bytes(up_to as u64),
            largest,
            all_judged: up_to >= largest.0 as f64 * FARTHEST,
        })
    }
}
