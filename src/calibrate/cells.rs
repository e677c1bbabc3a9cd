//! Summarises the runs of each cell of a sweep by robust statistics, with warnings.
//!
//! A cell is one input case with one choice of parameters. Runs outside of a sweep share a cell if they ran the same
//! command on inputs of the same sizes.

mod outlier;
mod run;
mod scaling;
mod warning;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::model::observation::{Exactness, Observation, Outcome, Peak};
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::stats::summary;

use outlier::{outliers, pooled, scatter};
use run::{Run, find_page_cache};

pub use outlier::{Outlier, OutlierKind, Reason};
pub use scaling::Scaling;
pub use warning::Warning;

/// The runs of a cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// The key of the cell; absent for runs outside of a sweep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The task, or the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The program and its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The description of the input case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// The parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// The limit of all runs; absent if they had none or several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<Bytes>,
    /// Whether its input is synthetic.
    pub synthetic: bool,
    /// The total size of all inputs; absent if none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_bytes: Option<Bytes>,
    /// Number of recorded runs, whatever their outcome.
    pub runs: usize,
    /// Number of runs that failed, were killed, timed out or were interrupted.
    pub failed: usize,
    /// The peaks, in bytes, of the runs that succeeded; without those that reached a limit, unless all did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<Spread>,
    /// The error bound of these peaks, if all of them are exact. A peak below it is below the counter's resolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "peak_noise_bytes")]
    pub peak_error_bound_bytes: Option<Bytes>,
    /// The wall times of the runs that succeeded, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<Spread>,
    /// The comparison with the cell that has the fewest CPUs (`--cpus`), if any differs from it in that alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// The minimum limit found by a search, if there was one; that of the last search if there were several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_bytes: Option<Bytes>,
    /// Runs that deviate from the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outliers: Vec<Outlier>,
    /// Reasons to distrust the runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Location and spread of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Median.
    pub median: f64,
    /// Median absolute deviation from the median.
    pub median_absolute_deviation: f64,
    /// Minimum.
    pub least: f64,
    /// Maximum.
    pub most: f64,
}

impl Spread {
    /// The spread of the values; `None` if there are none.
    pub fn new(values: &[f64]) -> Option<Self> {
        Some(Self {
            count: values.len(),
            median: summary::median(values)?,
            median_absolute_deviation: summary::median_absolute_deviation(values)?,
            least: values.iter().copied().reduce(f64::min)?,
            most: values.iter().copied().reduce(f64::max)?,
        })
    }

    /// The robust standard deviation as a share of the median, which `--precision` of a sweep limits. `None` for fewer
    /// than two values, which have no spread, and for a median of zero.
    pub fn relative(&self) -> Option<f64> {
        // 0.6745 is the upper quartile of the standard normal distribution.
        (self.count > 1 && self.median > 0.0).then(|| self.median_absolute_deviation / 0.6745 / self.median)
    }
}

/// Groups observations into cells by task, parameters and input size. Stores only what the cells need, so that a
/// million runs fit in memory.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    by_key: HashMap<String, u32>,
    gathered: Vec<CellBuilder>,
    runs: Vec<Run>,
}

impl Cells {
    /// Adds the next run.
    pub fn add(&mut self, observation: &Observation) {
        let cell = *self.by_key.entry(group_key(observation)).or_insert_with(|| {
            self.gathered.push(CellBuilder::new(observation));
            self.gathered.len() as u32 - 1
        });
        let gathered = &mut self.gathered[cell as usize];
        gathered.add(observation);
        let number = observation.sweep.as_ref().map_or(gathered.cell.runs as u32, |sweep| sweep.run);
        self.runs.push(Run::new(cell, self.runs.len() as u32, number, observation));
    }

    /// The cells, sorted by task, parameters and input.
    pub fn finish(self) -> Vec<Cell> {
        let Self { gathered, mut runs, .. } = self;
        // Runs that started at the same time keep the order of the records.
        runs.sort_unstable_by_key(|run| (run.cell, run.started_at, run.index));
        runs.chunk_by_mut(|a, b| a.cell == b.cell).for_each(find_page_cache);
        let of_cells = || runs.chunk_by(|a, b| a.cell == b.cell);
        let mut usual: HashMap<Option<&str>, Vec<[Option<f64>; 2]>> = HashMap::new();
        for (builder, runs) in gathered.iter().zip(of_cells()) {
            usual.entry(builder.cell.task.as_deref()).or_default().push(scatter(runs));
        }
        let usual: HashMap<Option<String>, [f64; 2]> =
            usual.into_iter().map(|(task, cells)| (task.map(str::to_owned), pooled(&cells))).collect();
        let cells = gathered.into_iter().zip(of_cells()).map(|(cell, runs)| {
            let usual = usual.get(&cell.cell.task).copied().unwrap_or_default();
            cell.finish(runs, usual)
        });
        let mut cells: Vec<Cell> = cells.collect();
        scaling::compare(&mut cells);
        cells.sort_by(|a, b| {
            let parameters = || by_numbers(&a.parameters, &b.parameters);
            a.task.cmp(&b.task).then_with(parameters).then_with(|| by_input(a).cmp(&by_input(b)))
        });
        cells
    }
}

fn by_input(cell: &Cell) -> impl Ord + use<'_> {
    (cell.limit_bytes, cell.input_bytes, &cell.case, &cell.key)
}

/// Compares choices of parameters: numbers by value and before words, so that 10 comes after 9.
fn by_numbers(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Ordering {
    let number = |text: &String| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let value = |a: &String, b: &String| match (number(a), number(b)) {
        (Some(of_a), Some(of_b)) => of_a.total_cmp(&of_b).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    };
    let pairs = a.iter().zip(b).map(|((name_a, a), (name_b, b))| name_a.cmp(name_b).then_with(|| value(a, b)));
    pairs.fold(Ordering::Equal, Ordering::then).then_with(|| a.len().cmp(&b.len()))
}

fn group_key(observation: &Observation) -> String {
    match &observation.sweep {
        Some(sweep) => sweep.cell.clone(),
        None => {
            let image = observation.container.as_ref().map(|container| (&container.image, &container.image_id));
            format!("{:?} {image:?} {:?}", observation.subject, observation.inputs)
        }
    }
}

/// The data of a cell while its runs are read.
#[derive(Clone, Debug)]
struct CellBuilder {
    cell: Cell,
    /// The minimum limit found by the last search, and when that search was.
    floor: Option<(Timestamp, Bytes)>,
    /// Number of runs that reached a limit.
    censored: usize,
    /// The lowest limit of these runs.
    limit: Option<Bytes>,
    /// Number of runs that failed by themselves: an interrupted one says nothing about the task.
    failed: usize,
    /// Number of runs that were lost, and why the first of them was.
    lost: Option<(usize, String)>,
    /// The error bound of the peaks of successful runs, if they are exact.
    error_bound: Bytes,
    lower_bounds: Option<Box<LowerBounds>>,
}

/// The successful runs whose peaks are lower bounds.
#[derive(Clone, Debug)]
struct LowerBounds {
    runs: usize,
    /// An upper bound of all of them, if each has one.
    at_most: Option<Bytes>,
    /// When the first of them started, and why its peak is a lower bound.
    started_at: Timestamp,
    reason: String,
    remedy: String,
}

impl CellBuilder {
    /// Creates a cell for its first run, which is yet to be added.
    fn new(first: &Observation) -> Self {
        let (sweep, subject) = (first.sweep.as_ref(), &first.subject);
        let sizes = first.inputs.iter().map(|input| input.all.sum);
        let cell = Cell {
            key: sweep.map(|sweep| sweep.cell.clone()),
            task: subject.name.clone().or_else(|| subject.command.first().cloned()),
            command: subject.command.clone(),
            case: sweep.map(|sweep| sweep.case.clone()).filter(|case| !case.is_empty()),
            parameters: sweep.map(|sweep| sweep.parameters.clone()).unwrap_or_default(),
            limit_bytes: own_limit(first),
            synthetic: sweep.is_some_and(|sweep| sweep.synthetic),
            input_bytes: (!first.inputs.is_empty()).then(|| sizes.sum()),
            runs: 0,
            failed: 0,
            peak_bytes: None,
            peak_error_bound_bytes: None,
            wall_seconds: None,
            scaling: None,
            floor_bytes: None,
            outliers: Vec::new(),
            warnings: Vec::new(),
        };
        Self {
            cell,
            floor: None,
            censored: 0,
            limit: None,
            failed: 0,
            lost: None,
            error_bound: Bytes::ZERO,
            lower_bounds: None,
        }
    }

    fn add(&mut self, observation: &Observation) {
        self.cell.runs += 1;
        if own_limit(observation) != self.cell.limit_bytes {
            self.cell.limit_bytes = None;
        }
        let started_at = observation.started_at;
        if let Some(floor) = &observation.floor
            && self.floor.is_none_or(|(known, _)| started_at >= known)
        {
            self.floor = Some((started_at, floor.bytes));
        }
        if observation.censored {
            self.censored += 1;
            let limit = observation.limit.effective.value().flatten();
            self.limit = self.limit.into_iter().chain(limit).min();
        }
        let outcome = observation.outcome;
        if !outcome.succeeded() {
            self.cell.failed += usize::from(outcome.has_failed());
            self.failed += usize::from(warning::failed(outcome));
            if matches!(outcome, Outcome::Lost | Outcome::EngineLost) {
                let (runs, _) = self.lost.get_or_insert_with(|| {
                    let reason = observation.warnings.first().map(ToString::to_string);
                    (0, reason.unwrap_or_else(|| "it ended without a result".to_owned()))
                });
                *runs += 1;
            }
            return;
        }
        match &observation.peak {
            Reading::Value(Peak { exactness: Exactness::Exact { error_bound_bytes }, .. }) => {
                self.error_bound = self.error_bound.max(*error_bound_bytes);
            }
            Reading::Value(Peak { exactness: Exactness::LowerBound { reason, remedy }, upper_bound, .. }) => {
                let at_most = upper_bound.as_ref().map(|most| most.bytes);
                self.add_lower_bound(started_at, reason, remedy, at_most);
            }
            Reading::Unsupported | Reading::Gone => {}
        }
    }

    fn add_lower_bound(&mut self, started_at: Timestamp, reason: &str, remedy: &str, at_most: Option<Bytes>) {
        let Some(bounds) = &mut self.lower_bounds else {
            let (reason, remedy) = (reason.to_owned(), remedy.to_owned());
            self.lower_bounds = Some(Box::new(LowerBounds { runs: 1, at_most, started_at, reason, remedy }));
            return;
        };
        bounds.runs += 1;
        bounds.at_most = bounds.at_most.zip(at_most).map(|(most, other)| most.max(other));
        if started_at < bounds.started_at {
            bounds.started_at = started_at;
            reason.clone_into(&mut bounds.reason);
            remedy.clone_into(&mut bounds.remedy);
        }
    }

    /// The cell with its runs, in the order of their starts. `usual` is the relative scatter of peaks and of times in the
    /// cells of the task.
    fn finish(mut self, runs: &[Run], usual: [f64; 2]) -> Cell {
        let good: Vec<&Run> = runs.iter().filter(|run| run.succeeded).collect();
        let measured: Vec<&Run> = good.iter().copied().filter(|run| run.peak.is_some()).collect();
        let peaks: Vec<f64> = measured.iter().filter_map(|run| run.peak).map(|peak| peak.0 as f64).collect();
        let times: Vec<f64> = good.iter().map(|run| run.wall_seconds()).collect();
        let all_exact = !measured.is_empty() && self.lower_bounds.is_none();
        // Runs that reached their limit do not show the need. They count only if all did.
        let free = measured.iter().filter(|run| !run.censored).filter_map(|run| run.peak).map(|peak| peak.0 as f64);
        self.cell.peak_bytes = Spread::new(&free.collect::<Vec<_>>()).or_else(|| Spread::new(&peaks));
        self.cell.peak_error_bound_bytes = all_exact.then_some(self.error_bound);
        self.cell.wall_seconds = Spread::new(&times);
        self.cell.floor_bytes = self.floor.map(|(_, bytes)| bytes);
        self.cell.outliers = outliers((&measured, &peaks), (&good, &times), self.error_bound.0 as f64, usual);
        self.cell.warnings = warning::warnings(&mut self, runs);
        self.cell
    }
}

fn own_limit(observation: &Observation) -> Option<Bytes> {
    observation.limit.own.value().flatten()
}

#[cfg(test)]
mod tests;
