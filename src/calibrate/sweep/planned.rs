//! Plans the cells of a sweep.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::model::plan::{
    CPUS, Conditions, GridError, Identity, InputSource, Order, Parameter, Pick, Plan, PlanCell, SCHEMA_VERSION,
    combinations,
};
use crate::model::scalar::number;
use crate::model::units::Bytes;
use crate::runner::staging::Staging;
use crate::store::{Folder, Recorded};
use crate::tree::Options;

use super::case::wanted_cases;
use super::executor::{PlannedCell, listings};
use super::file::{SweepSettings, with_absolute_paths};
use super::options::SweepOptions;
use super::subject::Subject;
use super::{
    CaseError, CaseInput, Forecast, ForecastCell, InputCase, InputDirectories, PastRun, Schedule, Variation, cases,
};
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::feedback::Feedback;

/// Of fewer cases nothing is fitted.
const FEWEST_CASES: usize = 3;

/// The plan, and its cells with everything that their runs need.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) cells: Vec<PlannedCell>,
    /// All input directories of all cells.
    pub(super) folders: Vec<PathBuf>,
    /// Whether the cells are the requested ones already.
    is_chosen: bool,
}

/// Reads the inputs and makes the plan, without running anything.
///
/// If only some cells of a saved plan are requested, only their inputs are read, provided that the cells are the same as
/// there.
pub(super) fn plan(
    options: &SweepOptions,
    subject: &Subject<'_>,
    settings: &SweepSettings,
    feedback: &dyn Feedback,
) -> Result<Planned, Failure> {
    if let Some(saved) = settings.saved.as_ref().filter(|_| options.is_of_cells())
        && let Some(wanted) = wanted(options, saved)
    {
        let wanted: HashMap<&str, &PlanCell> =
            wanted.into_iter().map(|place| (saved.cells[place].key.as_str(), saved.cells[place].as_ref())).collect();
        let only = Only {
            cases: wanted.values().map(|cell| cell.case.as_str()).collect(),
            parameters: wanted.values().map(|cell| cell.parameters.to_map()).collect(),
        };
        // Without a choice of the user, the items that come first depend on all cases.
        for pick in options.pick.map_or(vec![Pick::default(), Pick::Spread], |pick| vec![pick]) {
            let mut planned = plan_cases(options, subject, settings, feedback, Some((&only, pick)))?;
            planned.keep_older_keys(Some(saved), &[]);
            planned.cells.retain(|cell| wanted.contains_key(cell.planned.key.as_str()));
            if planned.cells.len() == wanted.len() {
                planned.plan.cells.clone_from(&saved.cells);
                planned.is_chosen = true;
                return Ok(planned);
            }
        }
    }
    let mut planned = plan_cases(options, subject, settings, feedback, None)?;
    planned.keep_older_keys(settings.saved.as_ref(), &[]);
    Ok(planned)
}

/// The indices of the requested cells, if the saved plan has them.
fn wanted(options: &SweepOptions, saved: &Plan) -> Option<BTreeSet<usize>> {
    let mut wanted = BTreeSet::new();
    for (first, last) in &options.cell_index {
        if *last >= saved.cells.len() {
            return None;
        }
        wanted.extend(*first..=*last);
    }
    for key in &options.cell {
        wanted.insert(saved.cell(key)?.0);
    }
    Some(wanted)
}

/// What cells that are planned alone have: names of cases, and choices of parameters.
struct Only<'a> {
    cases: HashSet<&'a str>,
    parameters: HashSet<BTreeMap<String, String>>,
}

/// Plans all cells, or only some, with the items of their cases in this order.
fn plan_cases(
    options: &SweepOptions,
    subject: &Subject<'_>,
    settings: &SweepSettings,
    feedback: &dyn Feedback,
    only: Option<(&Only<'_>, Pick)>,
) -> Result<Planned, Failure> {
    let mut parameters = parameters(options);
    subject.check(&parameters)?;
    if !options.cpus.is_empty() {
        let values = options.cpus.iter().map(ToString::to_string).collect();
        parameters.push(Parameter { name: CPUS.to_owned(), values });
    }
    let combinations = combinations(&parameters, options.pair).map_err(|error| {
        let help = match &error {
            GridError::NoValues(name) => format!("give it values, as in -P {name}=1,2"),
            GridError::Twice(_) => "name each parameter once".to_owned(),
            GridError::Uneven { .. } => {
                "give both the same number of values, or remove --pair to combine them all".to_owned()
            }
        };
        Failure::usage(error, help)
    })?;
    let given = subject.given(&options.input, !options.size.is_empty())?;
    let progress = |progress| feedback.reading(Some(progress));
    let reading = Options { progress: feedback.shows_reading().then_some(&progress), ..Options::default() };
    let cases = match only {
        Some((only, pick)) => wanted_cases(&given, &variations(options), pick, &reading, Some(&only.cases)),
        None => picked_cases(&given, options, &reading),
    };
    feedback.reading(None);
    let cases = cases.map_err(no_cases)?;
    if only.is_none() && rise_together(&cases) {
        let or_spread =
            if options.pick.is_some_and(|pick| pick != Pick::Spread) { ", or use --pick spread" } else { "" };
        feedback.note(&format!(
            "the number of files, their total size and the largest file rise together from case to case, so the runs \
             cannot show which of them the memory follows; add inputs in which they differ, such as a few large \
             files{or_spread}"
        ));
    }
    let task = subject.planned();
    let input_access = options.spec.input_access.in_key();
    let conditions = Conditions {
        runner: task.runner,
        limit: options.limit,
        cache: options.cache.in_key(),
        input_access,
        options: subject.options()?,
    };
    let identity = Identity { task: task.digest.clone(), image_id: task.image_id.clone(), conditions };
    let mut cells: Vec<PlannedCell> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut same: Vec<(String, String)> = Vec::new();
    for case in cases {
        let case = Arc::new(case);
        let of_case = OfCase::new(&case, subject)?;
        let is_wanted = |parameters: &_| only.is_none_or(|(only, _)| only.parameters.contains(parameters));
        for parameters in combinations.clone().filter(is_wanted) {
            let cell = of_case.cell(&case, &identity, parameters);
            match by_key.entry(cell.planned.key.clone()) {
                Entry::Occupied(known) => same.push((cell.planned.title(), cells[*known.get()].planned.title())),
                Entry::Vacant(new) => {
                    new.insert(cells.len());
                    cells.push(cell);
                }
            }
        }
    }
    for (twin, known) in same.iter().filter(|(twin, known)| twin != known) {
        feedback.note(&format!("{twin} is identical to {known} and runs only once"));
    }
    drop(by_key);
    let planned = cells.iter().map(|cell| Arc::clone(&cell.planned)).collect();
    let all = given.into_iter().flat_map(|given| given.directories);
    let used = cells.iter().flat_map(|cell| &cell.case.inputs).map(|input| input.source.root());
    let folders = match used.collect::<Option<BTreeSet<_>>>() {
        Some(used) if only.is_some() => used.into_iter().map(Path::to_owned).collect(),
        Some(_) | None => all.collect(),
    };
    let plan = Plan { schema_version: SCHEMA_VERSION, task, sweep: settings.of_the_plan(), cells: planned };
    Ok(Planned { folders, plan, cells, is_chosen: false })
}

/// The cases; unless the user chose the items, such that the measures of the input do not rise together.
fn picked_cases(
    inputs: &[InputDirectories],
    options: &SweepOptions,
    reading: &Options<'_>,
) -> Result<Vec<InputCase>, CaseError> {
    let of_pick = |pick| cases(inputs, &variations(options), pick, reading);
    let first = of_pick(options.pick.unwrap_or_default())?;
    if options.pick.is_some() || !rise_together(&first) {
        return Ok(first);
    }
    let spread = of_pick(Pick::Spread)?;
    Ok(if rise_together(&spread) { first } else { spread })
}

/// Whether the number of files, their total size and the largest one rise together in all cases. The same is true of
/// single files, among which there is nothing to tell apart.
fn rise_together(cases: &[InputCase]) -> bool {
    let measures = |case: &InputCase| {
        let files = || case.inputs.iter().flat_map(|input| input.listing.files.values().copied());
        (files().sum::<Bytes>(), files().count(), files().max().unwrap_or_default())
    };
    let mut all: Vec<(Bytes, usize, Bytes)> = cases.iter().map(measures).collect();
    all.sort_unstable();
    all.dedup();
    all.len() >= FEWEST_CASES
        && all.windows(2).all(|pair| {
            let (a, b) = (pair[0], pair[1]);
            a.0 < b.0 && a.1 < b.1 && a.2 < b.2
        })
}

fn parameters(options: &SweepOptions) -> Vec<Parameter> {
    let mut all: Vec<Parameter> = Vec::new();
    for (name, values) in options.param.iter().chain(&options.scan) {
        match all.iter_mut().find(|known| known.name == *name) {
            Some(known) => known.values.extend(values.iter().cloned()),
            None => all.push(Parameter { name: name.clone(), values: values.clone() }),
        }
    }
    all
}

fn variations(options: &SweepOptions) -> Vec<Variation> {
    let items = options.items.iter().copied().map(Variation::Items);
    let grow = options.grow.iter().copied().map(Variation::Grow);
    let size = options.size.iter().copied().map(Variation::Size);
    items.chain(grow).chain(size).collect()
}

/// What the cells of a case share.
struct OfCase {
    inputs: Vec<crate::model::observation::InputSizes>,
    /// Digests of each channel's content, and of its listing alone.
    contents: Vec<(String, String)>,
    listings: Vec<(String, String)>,
    prediction: Option<Arc<crate::model::prediction::Prediction>>,
}

impl OfCase {
    fn new(case: &InputCase, subject: &Subject<'_>) -> Result<Self, Failure> {
        let sizes = case.inputs.iter().map(|input| input.sizes()).collect::<Result<_, _>>();
        let digests = |digest: fn(&CaseInput) -> String| {
            case.inputs.iter().map(|input| (input.channel.clone(), digest(input))).collect()
        };
        Ok(Self {
            inputs: sizes.map_err(Failure::host)?,
            contents: digests(|input| input.listing.digest_of_contents()),
            listings: digests(|input| input.listing.digest()),
            prediction: subject.predict(&listings(case))?.map(Arc::new),
        })
    }

    fn cell(&self, case: &Arc<InputCase>, identity: &Identity, parameters: BTreeMap<String, String>) -> PlannedCell {
        let older_key = identity.older_key(&pairs(&self.listings), &parameters);
        let planned = PlanCell {
            key: identity.key(&case.named, &pairs(&self.contents), &parameters),
            case: case.name.clone(),
            synthetic: case.synthetic,
            parameters: parameters.into(),
            inputs: case.inputs.iter().map(|input| input.planned()).collect(),
        };
        PlannedCell {
            planned: Arc::new(planned),
            older_key,
            case: Arc::clone(case),
            inputs: self.inputs.clone(),
            prediction: self.prediction.clone(),
        }
    }
}

fn pairs(digests: &[(String, String)]) -> Vec<(&str, &str)> {
    digests.iter().map(|(channel, digest)| (channel.as_str(), digest.as_str())).collect()
}

impl Planned {
    /// Keeps the keys of cells that an older highwater planned or recorded, which were made from names and sizes of
    /// files alone, so that its records count.
    pub(super) fn keep_older_keys(&mut self, before: Option<&Plan>, recorded: &[Recorded]) {
        let recorded: HashSet<&str> = recorded.iter().map(|run| &*run.cell).collect();
        let before = before.map(|plan| plan.cells.as_slice()).unwrap_or_default();
        let planned: HashMap<&str, &str> = before.iter().map(|cell| (cell.key.as_str(), cell.case.as_str())).collect();
        let mut taken: HashSet<String> = self.plan.cells.iter().map(|cell| cell.key.clone()).collect();
        let mut kept = HashMap::new();
        for PlannedCell { planned: cell, older_key, .. } in &mut self.cells {
            // Two cases may share an older key, and only one of them was run.
            let is_this = match planned.get(older_key.as_str()) {
                Some(case) => *case == cell.case,
                None => recorded.contains(older_key.as_str()),
            };
            let is_known = planned.contains_key(cell.key.as_str()) || recorded.contains(cell.key.as_str());
            if is_this && !is_known && taken.insert(older_key.clone()) {
                kept.insert(std::mem::replace(&mut Arc::make_mut(cell).key, older_key.clone()), older_key.clone());
            }
        }
        for cell in &mut self.plan.cells {
            if let Some(key) = kept.remove(&cell.key) {
                Arc::make_mut(cell).key = key;
            }
        }
    }

    /// The plan with the requested cells only. If a plan was saved, they must be the same as there.
    pub(super) fn only(mut self, options: &SweepOptions, saved: Option<&Plan>) -> Result<Self, Failure> {
        if !options.is_of_cells() || self.is_chosen {
            return Ok(self);
        }
        let count = self.cells.len();
        let mut wanted = vec![false; count];
        for (first, last) in &options.cell_index {
            if *last >= count {
                let help = "list all cells with --dry-run; indices count from 0".to_owned();
                return Err(Failure::usage(format!("the plan has no cell {last}: it has {count}"), help));
            }
            wanted[*first..=*last].iter_mut().for_each(|wanted| *wanted = true);
        }
        for key in &options.cell {
            let Some((place, _)) = self.plan.cell(key) else {
                let help = "list the keys of all cells with --dry-run; the inputs may have changed since".to_owned();
                let error = format!("the plan does not have exactly one cell whose key begins with `{key}`");
                return Err(Failure::usage(error, help));
            };
            wanted[place] = true;
        }
        let keys = |plan: &Plan| plan.cells.iter().map(|cell| cell.key.clone()).collect::<Vec<_>>();
        if let Some(saved) = saved.map(keys) {
            let now = keys(&self.plan);
            let other = (0..count).find(|place| wanted[*place] && saved.get(*place) != now.get(*place));
            if let Some(place) = other {
                let (now, was) = (&now[place], saved.get(place).map_or("none", String::as_str));
                let error = format!("cell {place} differs from the saved plan: its key is {now}, but was {was}");
                let help = "save the plan again: the task, its image or its input files differ here".to_owned();
                return Err(Failure::usage(error, help));
            }
        }
        let mut places = wanted.iter();
        self.cells.retain(|_| places.next().copied().unwrap_or_default());
        Ok(self)
    }

    /// The file for the records of single cells.
    pub(super) fn record(&self, options: &SweepOptions) -> PathBuf {
        let first = self.cells.first().map(|cell| cell.planned.key.as_str()).unwrap_or_default();
        options.record.clone().unwrap_or_else(|| PathBuf::from(format!("cell-{first}.jsonl")))
    }

    /// Makes the plan independent of the current directory.
    pub(super) fn make_paths_absolute(&mut self) {
        self.plan.sweep = with_absolute_paths(std::mem::take(&mut self.plan.sweep));
    }

    /// The plan in its file format.
    pub(super) fn json(&self) -> Result<String, Failure> {
        let json = serde_json::to_string_pretty(&self.plan);
        json.map(|json| json + "\n").map_err(Failure::host)
    }

    /// The size of each cell, and the group of cells that differ in their size only.
    pub(super) fn sizes(&self) -> Vec<(f64, usize)> {
        sizes(&self.plan.cells)
    }

    /// The forecast before the first run.
    pub(super) fn forecast(&self, options: &SweepOptions) -> Forecast {
        let predicted = |cell: &PlannedCell| {
            let limit = cell.prediction.as_ref()?.docker.limit.as_ref()?;
            Some(limit.bytes)
        };
        let sizes = sizes(&self.plan.cells);
        let cells = self.cells.iter().zip(sizes).map(|(cell, (n, group))| {
            let predicted = predicted(cell);
            ForecastCell { n, group, predicted }
        });
        Forecast::new(cells, options.limit)
    }

    /// Adds recorded runs to the forecast.
    pub(super) fn learn(&self, forecast: &mut Forecast, recorded: &[Recorded]) {
        let places: HashMap<&str, usize> = self.cells.iter().map(|cell| cell.planned.key.as_str()).zip(0..).collect();
        for one in recorded {
            if let (Some(place), Some(run)) = (places.get(&*one.cell), past(one)) {
                forecast.learn(*place, run);
            }
        }
    }

    /// Checks that the disk has room for the files to be created.
    pub(super) fn check_room(
        &self,
        options: &SweepOptions,
        staging: &Staging,
        schedule: &Schedule,
    ) -> Result<(), Failure> {
        let mut needs: BTreeMap<*const InputCase, Bytes> = BTreeMap::new();
        for job in schedule.pending() {
            let case = &self.cells[job.cell].case;
            let made = case.inputs.iter().map(|input| match input.source {
                InputSource::Bytes { size, .. } => size,
                InputSource::Directory(_) | InputSource::Units { .. } => Bytes::ZERO,
            });
            needs.insert(Arc::as_ptr(case), made.sum());
        }
        let mut needs: Vec<Bytes> = needs.into_values().collect();
        needs.sort_unstable_by_key(|bytes| std::cmp::Reverse(*bytes));
        // In cell order, a file is removed once its cell is done.
        let together = if options.order == Order::AsGiven { options.jobs as usize } else { needs.len() };
        let needed: Bytes = needs.iter().take(together).copied().sum();
        match staging.free() {
            Some(free) if needed > free => {
                let largest = needs.first().copied().unwrap_or_default();
                let error = format!(
                    "too little disk space for the inputs: {needed} needed at a time (the largest is {largest}), \
                     {free} free"
                );
                let help = "use smaller sizes, make room, or choose another disk with --staging";
                Err(Failure::new(Category::Host, error, Some(help.to_owned())))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a recorded run took; `None` if it did not succeed.
pub(super) fn past(run: &Recorded) -> Option<PastRun> {
    let wall = Duration::from_micros(run.wall_us);
    run.outcome.succeeded().then(|| PastRun { peak: run.peak.value(), wall, elapsed: None })
}

/// What the cost of each cell depends on, and the group of cells that differ in it only: the size of the input, or where
/// all are the same the numeric parameter with the widest range.
fn sizes(cells: &[Arc<PlanCell>]) -> Vec<(f64, usize)> {
    let inputs = cells.iter().map(|cell| cell.input_bytes().0 as f64);
    let range = |sizes: &[f64]| {
        let (least, most) =
            sizes.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), n| (least.min(*n), most.max(*n)));
        if most > least { most / least } else { 1.0 }
    };
    let mut chosen: (Option<&str>, Vec<f64>) = (None, inputs.collect());
    if range(&chosen.1) <= 1.0 {
        let names = cells.first().into_iter().flat_map(|cell| cell.parameters.iter().map(|(name, _)| name));
        for name in names {
            let values = cells.iter().map(|cell| number(cell.parameters.get(name)?).map(|value| value.max(0.0)));
            if let Some(values) = values.collect::<Option<Vec<f64>>>().filter(|values| range(values) > range(&chosen.1))
            {
                chosen = (Some(name), values);
            }
        }
    }
    let (by, sizes) = chosen;
    let mut groups: HashMap<Vec<(&str, &str)>, usize> = HashMap::new();
    let mut of_cells = Vec::new();
    for (cell, n) in cells.iter().zip(sizes) {
        let others = cell.parameters.iter().filter(|(name, _)| by != Some(*name)).collect();
        let next = groups.len();
        of_cells.push((n, *groups.entry(others).or_insert(next)));
    }
    of_cells
}

/// Checks that a directory belongs to the same task as the plan.
pub(super) fn check_same_task(folder: &Folder, planned: &Planned) -> Result<(), Failure> {
    let Ok(before) = serde_json::from_str::<Plan>(folder.plan()) else { return Ok(()) };
    let (before, now) = (&before.task, &planned.plan.task);
    // If the first task could never be started, its name was most likely misspelt.
    if before.name == now.name || folder.recorded().is_empty() && folder.unusable().is_empty() {
        return Ok(());
    }
    let (folder, there, asked) = (folder.path().display(), &before.name, &now.name);
    let error = format!("the directory {folder} has records of task {there}, not of {asked}");
    Err(Failure::usage(error, "choose another directory with --into"))
}

fn no_cases(error: CaseError) -> Failure {
    let help = match &error {
        CaseError::Uneven { .. } => "give each channel one directory, or as many as the others".to_owned(),
        CaseError::Unreadable { channel, .. } => {
            format!("set its directory with --input {channel}=DIR, or --input DIR for a command")
        }
        CaseError::NoItems { .. } => {
            "put each item in its own directory; items are the directories directly in a channel".to_owned()
        }
        CaseError::TooFew { .. } => "use fewer or `all`, or repeat items with --grow".to_owned(),
        CaseError::NoBytes { .. } => {
            "give a directory with files, or remove --input to generate random bytes".to_owned()
        }
    };
    Failure::usage(error, help)
}

/// A name as a single path component.
pub(super) fn file_name(name: &str) -> String {
    let keep = |char: char| char.is_alphanumeric() || "-_.".contains(char);
    let name: String = name.chars().map(|char| if keep(char) { char } else { '_' }).collect();
    name.trim_start_matches('.').to_owned()
}
