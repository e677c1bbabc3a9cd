//! What more CPUs bring: time and memory of cells that differ in the parameter `cpus` only.

use std::collections::HashMap;

use serde::Serialize;

use super::Cell;
use crate::model::plan::CPUS;
use crate::model::units::Bytes;

/// A cell compared with the one that differs from it only in having the fewest CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// The number of CPUs.
    pub cpus: f64,
    /// The median time with the fewest CPUs divided by that of this cell.
    pub speed_up: f64,
    /// The speed-up divided by how many times as many CPUs it took.
    pub efficiency: f64,
    /// The median peak divided by the number of CPUs, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_per_cpu_bytes: Option<Bytes>,
}

fn cpus(cell: &Cell) -> Option<f64> {
    cell.parameters.get(CPUS)?.parse().ok().filter(|cpus: &f64| cpus.is_finite() && *cpus > 0.0)
}

/// Compares the cells that differ in their CPUs only.
pub(super) fn compare(cells: &mut [Cell]) {
    let mut groups: HashMap<String, Vec<(usize, f64, f64)>> = HashMap::new();
    for (place, cell) in cells.iter().enumerate() {
        let (Some(cpus), Some(wall)) = (cpus(cell), cell.wall_seconds) else { continue };
        let others: Vec<_> = cell.parameters.iter().filter(|(name, _)| *name != CPUS).collect();
        let key = format!("{:?}", (&cell.task, &cell.case, cell.input_bytes, cell.limit_bytes, others));
        groups.entry(key).or_default().push((place, cpus, wall.median));
    }
    for group in groups.into_values() {
        let fewest = group.iter().min_by(|a, b| a.1.total_cmp(&b.1)).copied();
        let Some((_, fewest, slowest)) = fewest.filter(|(_, fewest, _)| group.iter().any(|(_, cpus, _)| cpus > fewest))
        else {
            continue;
        };
        for (place, cpus, wall) in group.into_iter().filter(|(.., wall)| *wall > 0.0) {
            let speed_up = slowest / wall;
            let efficiency = speed_up * fewest / cpus;
            let peak_per_cpu_bytes = cells[place].peak_bytes.map(|peak| Bytes((peak.median / cpus) as u64));
            cells[place].scaling = Some(Scaling { cpus, speed_up, efficiency, peak_per_cpu_bytes });
        }
    }
}
