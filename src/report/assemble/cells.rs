//! The runs of a cell, and the run that represents it.

use std::collections::BTreeMap;

use crate::model::units::Bytes;
use crate::report::model::{Cell, Run};

pub(super) type CellKey = (Option<Bytes>, String, BTreeMap<String, String>);

/// The peaks of a cell.
#[derive(Debug, Default)]
pub(super) struct Peaks {
    runs: usize,
    plain: Vec<Bytes>,
    lower_bounds: Vec<Bytes>,
    gpu: Option<Bytes>,
    gpu_lower_bound: bool,
    predicted: Option<Bytes>,
    fitted: Option<Bytes>,
    floor: Option<Bytes>,
    /// The index in `Builder::kept` of the run that represents the cell.
    pub(super) highest: Option<usize>,
}

impl Peaks {
    pub(super) fn add(&mut self, run: &Run) {
        self.runs += 1;
        if run.is_plain() {
            self.plain.extend(run.peak);
        } else if run.is_lower_bound() {
            self.lower_bounds.extend(run.peak);
        }
        if run.outcome.succeeded() {
            self.gpu = self.gpu.max(run.gpu);
            self.gpu_lower_bound |= run.gpu_lower_bound;
        }
        self.predicted = self.predicted.max(run.predicted);
        self.fitted = self.fitted.or(run.fitted);
        self.floor = run.floor.or(self.floor);
    }
}

/// How well a run represents its cell: uncensored runs first, then by peak.
pub(super) fn standing(run: &Run) -> (bool, bool, Option<Bytes>) {
    (run.is_plain(), run.is_lower_bound(), run.peak)
}

pub(super) fn finish_cells(cells: BTreeMap<CellKey, Peaks>) -> Vec<Cell> {
    let cells = cells.into_iter().map(|((n, case, parameters), of)| {
        let (count, lower_bound) = (of.plain.len(), of.plain.is_empty() && !of.lower_bounds.is_empty());
        let mut peaks = if lower_bound { of.lower_bounds } else { of.plain };
        peaks.sort_unstable();
        Cell {
            case,
            parameters,
            n,
            runs: of.runs,
            plain: count,
            lower_bound,
            least: peaks.first().copied(),
            median: median(&peaks),
            most: peaks.last().copied(),
            gpu: of.gpu,
            gpu_lower_bound: of.gpu_lower_bound,
            predicted: of.predicted,
            fitted: of.fitted,
            floor: of.floor,
        }
    });
    cells.collect()
}

/// The median; of an even number of values, the midpoint of the two middle ones.
fn median(sorted: &[Bytes]) -> Option<Bytes> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = if sorted.len().is_multiple_of(2) { *sorted.get(sorted.len() / 2 - 1)? } else { upper };
    Some(Bytes(lower.0 + (upper.0 - lower.0) / 2))
}
