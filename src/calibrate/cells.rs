//! Summarises the runs of each cell of a sweep by robust statistics, with warnings.
//!
//! A cell is one input case with one choice of parameters. Runs outside of a sweep share a cell if they ran the same
//! command on inputs of the same sizes.

mod warning;

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::model::observation::{Exactness, Observation, Peak};
use crate::model::reading::Reading;
use crate::model::timestamp::Timestamp;
use crate::model::units::Bytes;
use crate::stats::{outlier, summary};

use super::page_cache::{PageCache, excesses};

pub use warning::Warning;

/// The least spread of peaks as a share of their median: no smaller one makes outliers,
const LEAST_PEAK_SPREAD: f64 = 0.01;
/// nor one of times,
const LEAST_TIME_SPREAD: f64 = 0.03;
/// or of this many seconds.
const LEAST_SECONDS: f64 = 0.01;
/// Factors that make the median absolute deviation of 2, 3 … 9 values as large as that of many (Croux and Rousseeuw,
/// 1992, "Time-efficient algorithms for two highly robust estimators of scale").
const SMALL_SAMPLE: [f64; 8] = [1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107];

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
    /// The peaks, in bytes, of the runs that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<Spread>,
    /// The error bound of these peaks, if all of them are exact. A peak below it is below the counter's resolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "peak_noise_bytes")]
    pub peak_error_bound_bytes: Option<Bytes>,
    /// The wall times of the runs that succeeded, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<Spread>,
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

/// A run that deviates from the others of its cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// The run of the cell, counted from 1.
    pub run: u32,
    /// The quantity that deviates.
    pub what: OutlierKind,
    /// The value divided by the median of the cell.
    pub ratio: f64,
    /// The probable reason.
    pub reason: Reason,
}

/// A quantity of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutlierKind {
    /// Its peak.
    Peak,
    /// Its time.
    Time,
}

/// The probable reason for an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It read files that were not cached yet, and other runs found in the cache.
    PageCache,
    /// It was the first run, so the files it read were not cached yet.
    First,
    /// Memory was swapped out.
    Swapped,
    /// Memory ran short: a limit was reached, or the run waited for memory.
    ShortOfMemory,
    /// It took longer for the same CPU time: it waited for something else.
    Waited,
    /// Unknown from the record.
    Unknown,
}

impl Reason {
    /// The reason in words, to follow "run 3 took twice as long:".
    pub const fn words(self) -> &'static str {
        match self {
            Self::PageCache => "page cache of files that other runs found in memory",
            Self::First => "first run, with cold caches",
            Self::Swapped => "memory was swapped out",
            Self::ShortOfMemory => "it ran short of memory",
            Self::Waited => "it waited, for example because of other load or a slow disk",
            Self::Unknown => "the record shows no cause",
        }
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

/// The data stored of a run.
#[derive(Clone, Copy, Debug)]
struct Run {
    cell: u32,
    /// Its index in the records.
    index: u32,
    started_at: Timestamp,
    number: u32,
    succeeded: bool,
    censored: bool,
    swapped: bool,
    /// Whether the page cache was set up for this run, so that being the first makes no difference.
    had_a_cache_of_its_own: bool,
    peak: Option<Bytes>,
    cache: PageCache,
    /// The part of its peak that is page cache which other runs of the cell did without.
    excess: Option<Bytes>,
    wall_us: u64,
    /// The share of the time that something waited for memory.
    waited_for_memory: f64,
    cpu_us: Option<u64>,
}

impl Run {
    fn new(cell: u32, index: u32, number: u32, observation: &Observation) -> Self {
        let swapped = observation.swap.peak.or(observation.swap.highest_sampled).value();
        let waited_for_memory = match observation.pressure {
            Reading::Value(pressure) if observation.wall_us > 0 => pressure.some_us as f64 / observation.wall_us as f64,
            Reading::Value(_) | Reading::Unsupported | Reading::Gone => 0.0,
        };
        let peak = observation.peak.as_ref().value().map(|peak| peak.bytes);
        Self {
            cell,
            index,
            started_at: observation.started_at,
            number,
            succeeded: observation.outcome.succeeded(),
            censored: observation.censored,
            swapped: swapped.is_some_and(|bytes| bytes > Bytes::ZERO),
            had_a_cache_of_its_own: observation.cache.is_some(),
            peak,
            cache: PageCache::new(observation),
            excess: None,
            wall_us: observation.wall_us,
            waited_for_memory,
            cpu_us: observation.cpu.value().map(|cpu| cpu.user_us + cpu.system_us),
        }
    }

    fn wall_seconds(&self) -> f64 {
        self.wall_us as f64 / 1e6
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
            floor_bytes: None,
            outliers: Vec::new(),
            warnings: Vec::new(),
        };
        Self { cell, floor: None, censored: 0, limit: None, failed: 0, error_bound: Bytes::ZERO, lower_bounds: None }
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
        if !observation.outcome.succeeded() {
            self.cell.failed += 1;
            self.failed += usize::from(warning::failed(observation.outcome));
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
    fn finish(mut self, runs: &[Run], [of_peaks, of_times]: [f64; 2]) -> Cell {
        let good: Vec<&Run> = runs.iter().filter(|run| run.succeeded).collect();
        let measured: Vec<&Run> = good.iter().copied().filter(|run| run.peak.is_some()).collect();
        let peaks: Vec<f64> = measured.iter().filter_map(|run| run.peak).map(|peak| peak.0 as f64).collect();
        let times: Vec<f64> = good.iter().map(|run| run.wall_seconds()).collect();
        let all_exact = !measured.is_empty() && self.lower_bounds.is_none();
        self.cell.peak_bytes = Spread::new(&peaks);
        self.cell.peak_error_bound_bytes = all_exact.then_some(self.error_bound);
        self.cell.wall_seconds = Spread::new(&times);
        self.cell.floor_bytes = self.floor.map(|(_, bytes)| bytes);
        let least = (self.error_bound.0 as f64, of_peaks.max(LEAST_PEAK_SPREAD));
        self.cell.outliers.extend(outliers(&measured, &peaks, least, OutlierKind::Peak));
        let least = (LEAST_SECONDS, of_times.max(LEAST_TIME_SPREAD));
        self.cell.outliers.extend(outliers(&good, &times, least, OutlierKind::Time));
        self.cell.warnings = warning::warnings(&mut self, runs);
        self.cell
    }
}

fn own_limit(observation: &Observation) -> Option<Bytes> {
    observation.limit.own.value().flatten()
}

/// Marks the runs of a cell that peaked above the others because of page cache.
fn find_page_cache(runs: &mut [Run]) {
    let plain = runs.iter_mut().filter(|run| run.succeeded && !run.censored);
    let (plain, peaks): (Vec<&mut Run>, Vec<(Bytes, PageCache)>) = plain
        .filter_map(|run| {
            let peak = (run.peak?, run.cache);
            Some((run, peak))
        })
        .unzip();
    plain.into_iter().zip(excesses(&peaks)).for_each(|(run, excess)| run.excess = excess);
}

/// The robust standard deviations of the peaks and of the times of a cell, as shares of their medians.
fn scatter(runs: &[Run]) -> [Option<f64>; 2] {
    let good = || runs.iter().filter(|run| run.succeeded);
    let of_values = |values: Vec<f64>| {
        let factor = SMALL_SAMPLE.get(values.len().checked_sub(2)?).copied().unwrap_or(1.0);
        Some(Spread::new(&values)?.relative()? * factor)
    };
    let peaks = good().filter_map(|run| run.peak).map(|peak| peak.0 as f64).collect();
    [of_values(peaks), of_values(good().map(Run::wall_seconds).collect())]
}

/// The usual scatter of several cells.
fn pooled(cells: &[[Option<f64>; 2]]) -> [f64; 2] {
    [0, 1].map(|what| summary::median(&cells.iter().filter_map(|cell| cell[what]).collect::<Vec<_>>()).unwrap_or(0.0))
}

/// The runs that deviate from the others by more than usual; `least` is the least spread, absolute and relative.
fn outliers(runs: &[&Run], values: &[f64], least: (f64, f64), what: OutlierKind) -> Vec<Outlier> {
    let Some(median) = summary::median(values).filter(|median| *median > 0.0) else { return Vec::new() };
    let scores = outlier::modified_z_scores(values, least.0.max(median * least.1));
    let odd = runs.iter().zip(values).zip(scores).filter(|(_, score)| score.abs() > outlier::LIMIT);
    let outlier = |((run, value), score): ((&&Run, &f64), f64)| Outlier {
        run: run.number,
        what,
        ratio: value / median,
        reason: reason(run, runs, what, score > 0.0),
    };
    odd.map(outlier).collect()
}

fn reason(run: &Run, runs: &[&Run], what: OutlierKind, above: bool) -> Reason {
    if run.swapped {
        Reason::Swapped
    } else if run.censored || run.waited_for_memory > 0.01 {
        Reason::ShortOfMemory
    } else if what == OutlierKind::Peak && run.excess.is_some() {
        Reason::PageCache
    } else if above && runs.first().is_some_and(|first| std::ptr::eq(*first, run)) && !run.had_a_cache_of_its_own {
        Reason::First
    } else if what == OutlierKind::Time && above && worked_as_usual(run, runs) {
        Reason::Waited
    } else {
        Reason::Unknown
    }
}

/// Whether a run took as much CPU time as the others.
fn worked_as_usual(run: &Run, runs: &[&Run]) -> bool {
    let work = |run: &Run| run.cpu_us.map(|cpu| cpu as f64);
    let usual = summary::median(&runs.iter().filter_map(|run| work(run)).collect::<Vec<_>>());
    work(run).zip(usual).is_some_and(|(work, usual)| work <= usual * 1.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::{Breakdown, Cache, Cpu, CpuSource, Dropped, Outcome, PeakSource, Swap, SweepRun};
    use crate::store::import::blank;

    fn observed(number: u32, peak: u64, wall_us: u64) -> Observation {
        let exactness = Exactness::Exact { error_bound_bytes: Bytes(1000) };
        Observation {
            sweep: Some(SweepRun {
                cell: "c".to_owned(),
                case: "4 items".to_owned(),
                run: number,
                parameters: BTreeMap::new(),
                synthetic: false,
            }),
            peak: Reading::Value(Peak {
                bytes: Bytes(peak),
                source: PeakSource::OwnCgroup,
                file: None,
                exactness,
                upper_bound: None,
            }),
            wall_us,
            cpu: Reading::Value(Cpu { user_us: 900_000, system_us: 0, source: CpuSource::Cgroup }),
            ..blank(Timestamp::from_second(i64::from(number)).unwrap())
        }
    }

    fn cells(observations: &[Observation]) -> Vec<Cell> {
        let mut cells = Cells::default();
        observations.iter().for_each(|observation| cells.add(observation));
        cells.finish()
    }

    fn only(observations: &[Observation]) -> Cell {
        let mut cells = cells(observations);
        assert_eq!(cells.len(), 1, "{cells:#?}");
        cells.remove(0)
    }

    #[test]
    fn cells_come_in_the_order_of_their_numbers() {
        let runs: Vec<_> = ["10", "high", "9", "1e1", "-1", "9.5", "2 GB", "9"]
            .iter()
            .map(|value| {
                let mut run = observed(1, 1000, 1000);
                let sweep = run.sweep.as_mut().unwrap();
                sweep.cell = (*value).to_owned();
                sweep.parameters = [("A".to_owned(), "x".to_owned()), ("N".to_owned(), (*value).to_owned())].into();
                run
            })
            .collect();
        let found: Vec<_> = cells(&runs).into_iter().map(|cell| cell.parameters["N"].clone()).collect();
        assert_eq!(found, ["-1", "9", "9.5", "10", "1e1", "2 GB", "high"]);
    }

    #[test]
    fn one_odd_run_does_not_move_the_middle() {
        let mut runs: Vec<_> = (1..=7).map(|run| observed(run, 100_000 + u64::from(run) * 10, 1_000_000)).collect();
        runs[3] = observed(4, 900_000, 1_000_000);
        let cell = only(&runs);
        let peak = cell.peak_bytes.unwrap();
        assert!((100_000.0..100_100.0).contains(&peak.median));
        assert!(peak.relative().unwrap() < 0.001);
        let odd: Vec<_> = cell.outliers.iter().map(|odd| (odd.run, odd.what, odd.reason)).collect();
        assert_eq!(odd, [(4, OutlierKind::Peak, Reason::Unknown)]);
    }

    #[test]
    fn differences_within_the_noise_are_no_outliers() {
        let peaks = [100_000, 100_000, 100_000, 100_000, 100_900];
        let runs: Vec<_> = peaks.iter().zip(1..).map(|(peak, run)| observed(run, *peak, 1_000_000)).collect();
        assert_eq!(only(&runs).outliers, []);
    }

    #[test]
    fn reasons_are_found_in_the_record() {
        let mut runs: Vec<_> = (1..=6).map(|run| observed(run, 100_000, 1_000_000)).collect();
        runs[0].wall_us = 3_000_000;
        runs[2].wall_us = 2_000_000;
        let mut swapping = observed(7, 50_000, 4_000_000);
        swapping.swap = Swap { peak: Reading::Value(Bytes(60_000)), highest_sampled: Reading::Unsupported };
        runs.push(swapping);
        let found: Vec<_> = only(&runs).outliers.iter().map(|odd| (odd.run, odd.what, odd.reason)).collect();
        let expected = [
            (7, OutlierKind::Peak, Reason::Swapped),
            (1, OutlierKind::Time, Reason::First),
            (3, OutlierKind::Time, Reason::Waited),
            (7, OutlierKind::Time, Reason::Swapped),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn page_cache_of_a_cold_run_is_named() {
        let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
        for (run, file) in runs.iter_mut().zip([120_000, 0, 0]) {
            let mut breakdown = Breakdown::new(0, Bytes(100_000 + file));
            breakdown.file = Reading::Value(Bytes(file));
            run.breakdown = Reading::Value(breakdown);
        }
        if let Reading::Value(peak) = &mut runs[0].peak {
            peak.bytes = Bytes(220_000);
        }
        let cell = only(&runs);
        assert_eq!(cell.outliers.iter().map(|odd| (odd.run, odd.reason)).collect::<Vec<_>>(), [(1, Reason::PageCache)]);
        assert_eq!(cell.warnings, [Warning::PageCache { runs: 1, most_bytes: Bytes(120_000) }]);
    }

    #[test]
    fn ordinary_scatter_of_three_repeats_has_no_outliers() {
        // Two of three values are often close together, which makes nothing of the third.
        let cells_of = |walls: [[u64; 3]; 4]| {
            let runs = walls.into_iter().enumerate().flat_map(|(cell, walls)| {
                walls.into_iter().zip(1..).map(move |(wall, run)| {
                    let mut one = observed(run, 100_000, wall * 1000);
                    one.sweep.as_mut().unwrap().cell = cell.to_string();
                    one
                })
            });
            cells(&runs.collect::<Vec<_>>())
        };
        let usual = [[1000, 1001, 1090], [1000, 1070, 1030], [1000, 1060, 960], [1000, 1001, 900]];
        assert!(cells_of(usual).iter().all(|cell| cell.outliers.is_empty()));
        let odd = [[1000, 1001, 1900], [1000, 1070, 1030], [1000, 1060, 960], [1000, 1001, 900]];
        assert_eq!(cells_of(odd).iter().map(|cell| cell.outliers.len()).collect::<Vec<_>>(), [1, 0, 0, 0]);
    }

    #[test]
    fn runs_that_failed_are_counted_and_nothing_else() {
        let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
        runs[1].outcome = Outcome::Exited { status: 1 };
        runs[1].peak = Reading::Gone;
        let cell = only(&runs);
        assert_eq!((cell.runs, cell.failed, cell.peak_bytes.unwrap().count), (3, 1, 2));
        assert!(cell.warnings.iter().any(|warning| matches!(warning, Warning::Failed { runs: 1 })));
    }

    #[test]
    fn interrupted_runs_call_for_nothing() {
        let mut runs: Vec<_> = (1..=3).map(|run| observed(run, 100_000, 1_000_000)).collect();
        runs[1].outcome = Outcome::Interrupted { signal: 2 };
        let cell = only(&runs);
        assert_eq!((cell.runs, cell.failed), (3, 1));
        assert_eq!(cell.warnings, []);
    }

    #[test]
    fn cold_caches_are_no_reason_where_all_runs_had_them() {
        let mut runs: Vec<_> = (1..=4).map(|run| observed(run, 100_000, 1_000_000)).collect();
        runs[0].wall_us = 3_000_000;
        let told = |runs: &[Observation]| {
            let cell = only(runs);
            (cell.outliers[0].reason, cell.warnings.iter().map(Warning::word).collect::<Vec<_>>())
        };
        assert_eq!(told(&runs), (Reason::First, vec!["first slower"]));
        for run in &mut runs {
            run.cache = Some(Cache::Cold { dropped: Dropped::Everything });
        }
        assert_eq!(told(&runs), (Reason::Waited, vec!["other load"]));
    }

    #[test]
    fn runs_of_no_sweep_are_told_apart_by_what_was_run() {
        let mut runs: Vec<_> = (1..=3).map(|run| Observation { sweep: None, ..observed(run, 100_000, 1) }).collect();
        runs[2].subject.command = vec!["other".to_owned()];
        assert_eq!(cells(&runs).iter().map(|cell| cell.runs).collect::<Vec<_>>(), [2, 1]);
    }
}
