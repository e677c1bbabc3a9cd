//! Changes since an earlier sweep.

use std::collections::BTreeMap;

use super::cells::finish_cells;
use super::{Builder, rule_words};
use crate::report::model::{Before, Cell, Change, Point};

/// `parameter` is what n is now, if not the size of the input: other values of n are not compared with it.
pub(super) fn compared(before: Builder, cells: &[Cell], parameter: Option<&str>) -> Before {
    let Builder { head, mut kept, cells: old, totals, .. } = before;
    kept.sort_by_key(|(index, _)| *index);
    let found = head.found.as_ref().and_then(|found| found.as_ref().ok());
    let old_cells = finish_cells(old);
    let is_same_n = head.parameter.as_deref() == parameter;
    let key = |cell: &Cell| (cell.case.clone(), cell.parameters.clone());
    let mut by_key: BTreeMap<_, (Option<&Cell>, Option<&Cell>)> = BTreeMap::new();
    for cell in &old_cells {
        by_key.entry(key(cell)).or_default().0 = Some(cell);
    }
    for cell in cells {
        by_key.entry(key(cell)).or_default().1 = Some(cell);
    }
    let mut changes: Vec<Change> = by_key
        .into_iter()
        .map(|((case, parameters), (old, new))| {
            let old_median = old.and_then(|cell| cell.median);
            let new_median = new.and_then(|cell| cell.median);
            let is_lower = |cell: Option<&Cell>| cell.is_some_and(|cell| cell.lower_bound);
            let (old_lower_bound, new_lower_bound) = (is_lower(old), is_lower(new));
            let ratio = new_median.zip(old_median).filter(|_| !old_lower_bound && !new_lower_bound);
            let ratio = ratio.and_then(|(new, old)| new.ratio(old));
            let n = new.or(old.filter(|_| is_same_n)).and_then(|cell| cell.n);
            Change { case, parameters, n, old_median, old_lower_bound, new_median, new_lower_bound, ratio }
        })
        .collect();
    changes.sort_by_key(|change| change.n);
    let plain = kept.iter().map(|(_, run)| run).filter(|run| is_same_n && run.is_plain());
    Before {
        runs: totals.runs,
        // The rule may measure something else than these sizes, so it has no curve over them.
        fitted: found.filter(|_| is_same_n && head.other_measure.is_none()).map(|found| found.rule),
        words: found.map(|found| {
            let measure = head.other_measure.as_ref().or(head.predictor.as_ref().filter(|_| !is_same_n));
            let measure = measure.map(|measure| format!(" where n is {measure}"));
            rule_words(&found.rule, head.parameter.as_ref()) + &measure.unwrap_or_default()
        }),
        peaks: plain.filter_map(|run| Some(Point { n: run.n?, bytes: run.peak? })).collect(),
        changes,
    }
}
