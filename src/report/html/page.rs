//! The values for the template, as text, so that it has nothing to compute.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::model::escape;
use crate::model::fit::Censoring;
use crate::model::layout::unbroken;
use crate::model::observation::{CgroupVersion, Host};
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::report::column::{Unit, Units};
use crate::report::describe::{case, evidence, measured, provenance, warnings, when};
use crate::report::model::{Advice, Cell, Change, Environment, Extent, Level, Report, Run, Score, TaskReport, Totals};
use crate::report::needs;
use crate::report::plot::{Size, plots, svg};
use crate::report::words::{self, UNKNOWN, amount, count, times};

/// Longer tables scroll in a frame of their own.
const MANY_ROWS: usize = 60;
/// Longer tables are thinned, and runs are omitted from the JSON.
pub(crate) const MOST_ROWS: usize = 1000;

#[derive(Serialize)]
pub(super) struct Page {
    title: String,
    made_by: String,
    style: String,
    script: &'static str,
    notes: Vec<String>,
    overview_columns: Vec<String>,
    overview: Vec<Vec<String>>,
    tasks: Vec<TaskPage>,
    json: String,
    json_thinned: Option<String>,
}

#[derive(Serialize)]
struct TaskPage {
    id: String,
    name: String,
    image: Option<String>,
    when: Option<String>,
    predictor: String,
    level: Level,
    level_words: &'static str,
    sentence: String,
    advice: Vec<Advice>,
    facts: Vec<(&'static str, String)>,
    request_columns: [&'static str; 6],
    requests: Vec<[String; 6]>,
    without_rule: Vec<String>,
    other_resources: Vec<(&'static str, Vec<(&'static str, String)>)>,
    plots: Vec<PlotPage>,
    rows_of_rules: Vec<Vec<String>>,
    evidence: Vec<(&'static str, String)>,
    changes: Option<Table>,
    cells: Table,
    runs: Table,
    warnings: Vec<String>,
    provenance: Vec<(&'static str, String)>,
    environment_columns: &'static [&'static str],
    environments: Vec<Vec<String>>,
}

#[derive(Serialize)]
struct PlotPage {
    id: String,
    title: String,
    description: String,
    thinned: Option<String>,
    wide: String,
    narrow: String,
}

/// A table that can be sorted by each column.
#[derive(Serialize)]
struct Table {
    columns: Vec<Column>,
    rows: Vec<Row>,
    /// How rows were chosen, if there are more.
    thinned: Option<String>,
    is_long: bool,
}

impl Table {
    /// Columns of which nothing is known are dropped.
    fn new(mut columns: Vec<Column>, mut rows: Vec<Row>, thinned: Option<String>) -> Self {
        let is_known = |column: usize| rows.iter().any(|row| row.cells.get(column).is_some_and(Field::is_known));
        let known: Vec<bool> = (0..columns.len()).map(|column| rows.is_empty() || is_known(column)).collect();
        columns = kept(columns, &known);
        for row in &mut rows {
            row.cells = kept(std::mem::take(&mut row.cells), &known);
        }
        let is_long = rows.len() > MANY_ROWS;
        Self { columns, rows, thinned, is_long }
    }
}

fn kept<T>(all: Vec<T>, is_kept: &[bool]) -> Vec<T> {
    all.into_iter().zip(is_kept).filter_map(|(one, kept)| kept.then_some(one)).collect()
}

/// The head of a column.
#[derive(Serialize)]
struct Column {
    name: &'static str,
    unit: Option<&'static str>,
    class: &'static str,
}

/// The class of numbers, which are aligned to the right.
const NUMBER: &str = "n";
/// The class of a number that shows that a limit is too low.
const LOW: &str = "n low";

const fn text(name: &'static str) -> Column {
    Column { name, unit: None, class: "" }
}

const fn number(name: &'static str) -> Column {
    Column { name, unit: None, class: NUMBER }
}

const fn amounts(name: &'static str, unit: &'static str) -> Column {
    Column { name, unit: Some(unit), class: NUMBER }
}

#[derive(Serialize)]
struct Row {
    mark: Option<&'static str>,
    cells: Vec<Field>,
}

/// A field of a table: its text and its sort key.
#[derive(Serialize)]
struct Field {
    text: String,
    value: Option<f64>,
    class: &'static str,
}

impl Field {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None, class: "" }
    }

    fn number(text: String, value: Option<f64>) -> Self {
        Self { text, value, class: NUMBER }
    }

    /// The same, marked if it shows that a limit is too low.
    fn marked(self, is_low: bool) -> Self {
        Self { class: if is_low { LOW } else { self.class }, ..self }
    }

    fn is_known(&self) -> bool {
        self.text != UNKNOWN
    }

    fn bytes(bytes: Option<Bytes>, unit: Unit) -> Self {
        Self::number(unit.bytes(bytes), bytes.map(|bytes| bytes.0 as f64))
    }

    /// A peak that may be a lower bound.
    fn peak(bytes: Option<Bytes>, lower_bound: bool, unit: Unit) -> Self {
        let field = Self::bytes(bytes, unit);
        Self { text: words::at_least(field.text, lower_bound && bytes.is_some()), ..field }
    }

    fn ratio(of: Option<Bytes>, to: Option<Bytes>) -> Self {
        let ratio = of.zip(to).and_then(|(of, to)| of.ratio(to));
        Self::number(ratio.map_or_else(|| UNKNOWN.to_owned(), times), ratio)
    }

    fn count(count: usize) -> Self {
        Self::number(count.to_string(), Some(count as f64))
    }
}

impl Page {
    pub(super) fn new(report: &Report, style: String, script: &'static str) -> Result<Self, serde_json::Error> {
        let names: Vec<&str> = report.tasks.iter().map(|task| task.name.as_str()).collect();
        let thinned = report.tasks.iter().any(is_long);
        let json = if thinned {
            let mut short = report.clone();
            for task in short.tasks.iter_mut().filter(|task| is_long(task)) {
                task.runs.clear();
                task.cells.truncate(MOST_ROWS);
                if let Some(before) = &mut task.before {
                    before.peaks.clear();
                    before.changes.truncate(MOST_ROWS);
                }
            }
            serde_json::to_string_pretty(&short)?
        } else {
            serde_json::to_string_pretty(report)?
        };
        Ok(Self {
            title: names.join(", "),
            made_by: report.made_by.clone(),
            style,
            script,
            notes: report.notes.clone(),
            overview_columns: needs::overview_columns(report),
            overview: needs::overview(report),
            tasks: report.tasks.iter().enumerate().map(|(place, task)| TaskPage::new(task, place + 1)).collect(),
            json: escape::json(&json),
            json_thinned: thinned.then(|| {
                format!(
                    "thinned: tasks with more than {MOST_ROWS} runs have only their first {MOST_ROWS} cases and no \
                     runs; --format json has everything"
                )
            }),
        })
    }
}

/// Whether there are too many runs for a page. Cases are never more than runs, except those of an earlier sweep.
fn is_long(task: &TaskReport) -> bool {
    task.totals.runs.max(task.before.as_ref().map_or(0, |before| before.runs)) > MOST_ROWS
}

impl TaskPage {
    fn new(task: &TaskReport, number: usize) -> Self {
        let id = format!("task{number}");
        let shown = rows(task);
        let of_cells = task.all_runs.map(|all| {
            format!(
                "Of {all} runs, the one with the highest peak of each case is shown; `highwater export` writes all."
            )
        });
        let runs_thinned = (shown.len() < task.runs.len()).then(|| {
            format!(
                "Thinned to {} of {} runs: first those that failed, reached a limit, had too low a limit or are \
                 outliers, then the lowest and highest of each case, then an even selection. CSV and JSON have all \
                 of them.",
                shown.len(),
                task.runs.len()
            )
        });
        let units = Units::new(task);
        let advice = task.advice.iter().map(|one| Advice { text: unbroken(&one.text), ..one.clone() });
        let runs = shown.into_iter().filter_map(|place| Some(run_row(task.runs.get(place)?, units))).collect();
        Self {
            name: task.name.clone(),
            image: task.image.clone(),
            when: when(task),
            predictor: task.predictor.clone().unwrap_or_else(|| "unknown".to_owned()),
            level: task.verdict.level,
            level_words: task.verdict.level.words(),
            sentence: unbroken(&task.verdict.sentence),
            advice: advice.collect(),
            facts: facts(task).into_iter().map(|(name, value)| (name, unbroken(&value))).collect(),
            request_columns: needs::COLUMNS,
            requests: needs::requests(task),
            without_rule: needs::without_rule(task),
            other_resources: needs::others(task)
                .into_iter()
                .map(|(resource, evidence)| {
                    (resource, evidence.into_iter().map(|(name, what)| (name, unbroken(&what))).collect())
                })
                .collect(),
            plots: plot_pages(task, &id),
            rows_of_rules: rules(task),
            evidence: evidence(task).into_iter().map(|(name, what)| (name, unbroken(&what))).collect(),
            changes: task.before.as_ref().map(|before| {
                let all = before.changes.len();
                let thinned = (all > MOST_ROWS)
                    .then(|| format!("Thinned to the {MOST_ROWS} largest of {all} changes. JSON has all of them."));
                let rows = largest(task).into_iter().map(|change| change_row(change, units));
                Table::new(change_columns(units), rows.collect(), thinned)
            }),
            cells: Table::new(
                cell_columns(units),
                spread(&task.cells).into_iter().map(|cell| cell_row(cell, units)).collect(),
                (task.cells.len() > MOST_ROWS).then(|| {
                    let all = task.cells.len();
                    format!("Thinned to an even selection by size from {all} cases. JSON has all of them.")
                }),
            ),
            runs: Table::new(run_columns(units), runs, of_cells.or(runs_thinned)),
            warnings: warnings(task).iter().map(|text| unbroken(text)).collect(),
            provenance: provenance(task)
                .into_iter()
                .chain(measured(task).into_iter().map(|way| ("peaks", way)))
                .map(|(name, what)| (name, unbroken(&what)))
                .collect(),
            environment_columns: &ENVIRONMENT_COLUMNS,
            environments: task.environments.iter().map(environment_row).collect(),
            id,
        }
    }
}

/// As many cases as fit on a page, evenly by size, including the first and the last.
fn spread(cells: &[Cell]) -> Vec<&Cell> {
    if cells.len() <= MOST_ROWS {
        return cells.iter().collect();
    }
    let last = cells.len() - 1;
    (0..MOST_ROWS).filter_map(|place| cells.get(place * last / (MOST_ROWS - 1))).collect()
}

/// The largest changes that fit on a page, in their order.
fn largest(task: &TaskReport) -> Vec<&Change> {
    let mut changes: Vec<(usize, &Change)> =
        task.before.iter().flat_map(|before| &before.changes).enumerate().collect();
    let size = |change: &Change| change.ratio.map_or(f64::INFINITY, |ratio| ratio.ln().abs());
    changes.sort_by(|(_, a), (_, b)| size(b).total_cmp(&size(a)));
    changes.truncate(MOST_ROWS);
    changes.sort_by_key(|(place, _)| *place);
    changes.into_iter().map(|(_, change)| change).collect()
}

fn facts(task: &TaskReport) -> Vec<(&'static str, String)> {
    let Totals { runs, plain, lower_bounds, sizes, skipped, unmeasured } = task.totals;
    let mut facts = vec![("runs", runs.to_string())];
    let others = task.totals.failed_or_limited();
    for (what, count) in [("censored or failed", others), ("skipped", skipped), ("without a peak", unmeasured)] {
        if count > 0 {
            facts.push((what, count.to_string()));
        }
    }
    if lower_bounds.count > 0 {
        facts.push(("lower bounds", lower_bounds.count.to_string()));
    }
    facts.push(("cases", task.cells.len().to_string()));
    let range = |of: Extent| match of.ends {
        Some((least, most)) if least == most => least.to_string(),
        Some((least, most)) => format!("{least} to {most}"),
        None => UNKNOWN.to_owned(),
    };
    match (&task.parameter, sizes.ends) {
        (Some(_), Some((least, most))) => facts.push(("values", format!("{} to {}", least.0, most.0))),
        _ => facts.push(("inputs", range(sizes))),
    }
    let is_bound = plain.count == 0 && lower_bounds.count > 0;
    facts.push(("peaks", if is_bound { words::at_least(range(lower_bounds), true) } else { range(plain) }));
    facts
}

fn plot_pages(task: &TaskReport, id: &str) -> Vec<PlotPage> {
    let page = |plot: crate::report::plot::Plot| {
        let id = format!("{id}-{}", plot.name);
        PlotPage {
            wide: svg(&plot, Size::COLUMN, &format!("{id}-w")),
            narrow: svg(&plot, Size::NARROW, &format!("{id}-n")),
            title: plot.title,
            description: unbroken(&plot.description),
            thinned: plot.thinned,
            id,
        }
    };
    plots(task).into_iter().map(page).collect()
}

fn rules(task: &TaskReport) -> Vec<Vec<String>> {
    let row = |name: &str, words: &str, score: &Score| {
        let mut row = vec![name.to_owned(), words.to_owned(), score.runs.to_string()];
        if score.runs == 0 {
            row.extend([UNKNOWN; 4].map(str::to_owned));
        } else {
            row.push(score.too_low.to_string());
            row.extend([score.smallest_ratio, score.mean_ratio, score.largest_ratio].map(times));
        }
        row
    };
    let in_use = task.rule_in_use.iter().map(|rule| row("in use", &rule.words, &rule.score));
    in_use.chain(task.fitted.iter().map(|fitted| row("fitted", &fitted.words, &fitted.score))).collect()
}

/// The column of n: sizes of the input, or values of the parameter.
fn n_column(units: Units) -> Column {
    amounts(if units.is_parameter { "Value n" } else { "Input n" }, units.n.name)
}

fn cell_columns(units: Units) -> Vec<Column> {
    let memory = units.memory;
    vec![
        text("Case"),
        n_column(units),
        number("Runs"),
        amounts("Lowest peak", memory.name),
        amounts("Median peak", memory.name),
        amounts("Highest peak", memory.name),
        amounts("Spread", "%"),
        amounts("Rule in use", memory.name),
        amounts("Fitted rule", memory.name),
        amounts("Minimum limit", memory.name),
    ]
}

fn cell_row(cell: &Cell, Units { n, memory, .. }: Units) -> Row {
    let spread =
        cell.most.zip(cell.least).and_then(|(most, least)| most.ratio(least)).map(|ratio| 100.0 * (ratio - 1.0));
    let peak = |bytes| Field::peak(bytes, cell.lower_bound, memory);
    let is_low = cell.predicted.zip(cell.most).is_some_and(|(given, peak)| given < peak);
    let cells = vec![
        Field::text(case(&cell.case, &cell.parameters)),
        Field::bytes(cell.n, n),
        Field::count(cell.runs),
        peak(cell.least),
        peak(cell.median),
        peak(cell.most),
        Field::number(spread.map_or_else(|| UNKNOWN.to_owned(), |spread| format!("{spread:.1}")), spread),
        Field::bytes(cell.predicted, memory).marked(is_low),
        Field::bytes(cell.fitted, memory),
        Field::bytes(cell.floor, memory),
    ];
    Row { mark: None, cells }
}

fn change_columns(units: Units) -> Vec<Column> {
    let memory = units.memory;
    vec![
        text("Case"),
        n_column(units),
        amounts("Median before", memory.name),
        amounts("Median now", memory.name),
        number("Change"),
    ]
}

fn change_row(change: &Change, Units { n, memory, .. }: Units) -> Row {
    let cells = vec![
        Field::text(case(&change.case, &change.parameters)),
        Field::bytes(change.n, n),
        Field::peak(change.old_median, change.old_lower_bound, memory),
        Field::peak(change.new_median, change.new_lower_bound, memory),
        Field::number(words::changed(change), change.ratio),
    ];
    Row { mark: None, cells }
}

fn run_columns(units: Units) -> Vec<Column> {
    let Units { memory, time, .. } = units;
    vec![
        text("Run"),
        n_column(units),
        amounts("Peak", memory.name),
        amounts("Rule in use", memory.name),
        number("in use / peak"),
        amounts("Fitted rule", memory.name),
        number("fitted / peak"),
        Column { class: "ended", ..text("Ended") },
        amounts("Time", time.name),
        amounts("anon", memory.name),
        amounts("shmem", memory.name),
        amounts("kernel", memory.name),
        amounts("file", memory.name),
        amounts("between samples", memory.name),
    ]
}

fn run_row(run: &Run, Units { n, memory, time, .. }: Units) -> Row {
    let is_low = run.is_plain() && run.predicted.zip(run.peak).is_some_and(|(given, peak)| given < peak);
    let part = |part: Option<Reading<Bytes>>| Field::bytes(part.and_then(Reading::value), memory);
    let mut peak = Field::bytes(run.peak, memory);
    if run.lower_bound || run.censoring != Censoring::None {
        let most = run.at_most.map_or_else(String::new, |most| format!(", ≤ {}", memory.bytes(Some(most))));
        peak.text = format!("≥ {}{most}", peak.text);
    } else if let Some(below) = run.below {
        peak.text = format!("below {}", memory.bytes(Some(below)));
    }
    let mut ended = run.outcome.words();
    if run.censoring == Censoring::LimitReached {
        ended.push_str(&format!(", limit {} reached", amount(run.limit)));
    } else if let (Censoring::OomKilled, Some(limit)) = (run.censoring, run.limit) {
        ended.push_str(&format!(" at {limit}"));
    }
    let breakdown = run.breakdown;
    let cells = vec![
        Field::text(run.label.clone()),
        Field::bytes(run.n, n),
        peak,
        Field::bytes(run.predicted, memory).marked(is_low),
        Field::ratio(run.predicted, run.peak).marked(is_low),
        Field::bytes(run.fitted, memory),
        Field::ratio(run.fitted, run.peak),
        Field { class: "ended", ..Field::text(unbroken(&ended)) },
        Field::number(time.time(run.wall_us), Some(run.wall_us as f64)),
        part(breakdown.map(|parts| parts.anon)),
        part(breakdown.map(|parts| parts.shmem)),
        part(breakdown.map(|parts| parts.kernel)),
        part(breakdown.map(|parts| parts.file)),
        Field::bytes(run.between_samples, memory),
    ];
    Row { mark: (!run.is_plain()).then_some("censored"), cells }
}

/// The indices of the runs to list.
fn rows(task: &TaskReport) -> Vec<usize> {
    let all = task.runs.len();
    if all <= MOST_ROWS {
        return (0..all).collect();
    }
    let outliers: BTreeSet<usize> = task.fitted.iter().flat_map(|fitted| &fitted.found.outliers).copied().collect();
    let mut ends: BTreeSet<(&String, &BTreeMap<String, String>, Option<Bytes>)> = BTreeSet::new();
    for cell in &task.cells {
        ends.extend([cell.least, cell.most].map(|peak| (&cell.case, &cell.parameters, peak)));
    }
    let remarkable = |place: usize, run: &Run| {
        let low = run.predicted.zip(run.peak).is_some_and(|(given, peak)| given < peak);
        low || outliers.contains(&place)
    };
    let is_timeline = |place: usize| task.timeline.as_ref().is_some_and(|timeline| timeline.run == place);
    let extreme = |run: &Run| run.is_plain() && ends.contains(&(&run.case, &run.parameters, run.peak));
    let stride = all.div_ceil(MOST_ROWS / 2);
    let urgency = |(place, run): (usize, &Run)| match () {
        () if !run.is_plain() || is_timeline(place) => 0,
        () if remarkable(place, run) => 1,
        () if extreme(run) => 2,
        () if place % stride == 0 => 3,
        () => 4,
    };
    let mut places: Vec<(u8, usize)> =
        task.runs.iter().enumerate().map(|(place, run)| (urgency((place, run)), place)).collect();
    places.sort_unstable();
    places.truncate(MOST_ROWS);
    let mut shown: Vec<usize> = places.into_iter().map(|(_, place)| place).collect();
    shown.sort_unstable();
    shown
}

const ENVIRONMENT_COLUMNS: [&str; 8] =
    ["Runs", "Kernel", "Machine", "Memory", "Swap", "cgroup", "Run as", "Measured with"];

fn environment_row(environment: &Environment) -> Vec<String> {
    let host = environment.host.as_ref();
    let of = |fact: fn(&Host) -> String| host.map_or_else(|| UNKNOWN.to_owned(), fact);
    vec![
        environment.runs.to_string(),
        of(|host| host.kernel.clone()),
        of(|host| {
            let cpus = count(host.cpus as usize, "CPU", "CPUs");
            format!("{}, {cpus}, pages of {}", host.architecture, host.page_bytes)
        }),
        of(|host| amount(host.memory_bytes.value())),
        of(|host| amount(host.swap_bytes.value())),
        of(|host| match host.cgroup {
            Some(CgroupVersion::V1) => "v1".to_owned(),
            Some(CgroupVersion::V2) => "v2".to_owned(),
            None => "none".to_owned(),
        }),
        environment.runner.clone(),
        format!("highwater {}", environment.tool_version),
    ]
}
