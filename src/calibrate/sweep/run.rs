//! A sweep from its options to its end: plans the cells, opens the records, stages and guards the inputs, and makes the
//! runs that are missing.

mod batch;
mod jobs;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cpus::{self, SweepCpus};
use super::executor::{self, SweepExecutor};
use super::file::SweepSettings;
use super::options::SweepOptions;
use super::planned::{self, Planned};
use super::recorder::{self, Destination, SweepObserver, SweepRecorder};
use super::subject::Subject;
use super::{Adaptive, Admission, Budget, End, Expected, Repetitions, Schedule, SweepError, floors, sweep};
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::monitor::Cancel;
use crate::calibrate::workload::InputAccess;
use crate::host::machine::{Machine, available};
use crate::model::plan::{Plan, PlanCell};
use crate::model::problem::one_line;
use crate::model::units::Bytes;
use crate::runner::container::{Leftovers, remove_leftovers};
use crate::runner::originals::Guard;
use crate::runner::pod::ClaimedDirectory;
use crate::runner::staging::{MOST_MOUNTS, Staging, StagingError};
use crate::store::{self, Folder, FolderError, index, read_plan};

const HOUR: Duration = Duration::from_secs(3600);

/// The subdirectory of the sweep in which inputs are staged.
const STAGING: &str = "staging";

/// A sweep that is planned.
pub struct Sweep<'a> {
    options: &'a SweepOptions,
    repetitions: Repetitions,
    budget: Option<Budget>,
    subject: Subject<'a>,
    planned: Planned,
    saved: Option<Plan>,
    /// The number of runs at a time, if the user chose it.
    jobs: Option<u32>,
}

/// What a sweep would do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Preview {
    /// Its cells, in the order of the plan.
    pub cells: Vec<PreviewCell>,
    /// The number of runs to make.
    pub runs: usize,
    /// How long they take, once a run is known.
    pub time: Option<Duration>,
    /// The number of floors to search for.
    pub floors: usize,
}

/// A cell of a [`Preview`].
#[derive(Debug)]
#[non_exhaustive]
pub struct PreviewCell {
    /// The cell.
    pub cell: Arc<PlanCell>,
    /// The number of recorded runs.
    pub recorded: usize,
    /// The number of runs to make.
    pub left: usize,
    /// What a run is expected to take.
    pub expected: Expected,
}

/// How a sweep ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct SweepOutcome {
    /// Why it ended.
    pub end: End,
    /// The number of runs that failed.
    pub failed: usize,
    /// The number of runs that are left.
    pub left: usize,
    /// How long they would take, if that is known.
    pub time_left: Option<Duration>,
    /// The number of further sizes that one more hour of runs would measure, for a sweep that chooses its sizes and is
    /// left with more than that.
    pub hour: Option<usize>,
    /// Where the records are: a file, or the directory of the sweep.
    pub records: PathBuf,
}

impl<'a> Sweep<'a> {
    /// Reads the task and the inputs, and plans the cells; runs nothing.
    ///
    /// # Errors
    /// If something that the options name is missing or invalid.
    pub fn plan(options: &'a SweepOptions, settings: &SweepSettings, feedback: &dyn Feedback) -> Result<Self, Failure> {
        let (repetitions, budget) = (options.repetitions()?, options.budget()?);
        let subject = Subject::open(&options.spec, feedback)?;
        let planned = planned::plan(options, &subject, settings, feedback)?;
        let jobs = settings.all.contains_key("jobs").then_some(options.jobs);
        Ok(Self { options, repetitions, budget, subject, planned, saved: settings.saved.clone(), jobs })
    }

    /// The plan, as in plan.json.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn plan_json(&self) -> Result<String, Failure> {
        self.planned.json()
    }

    /// What is recorded already, what would be run, and what it is expected to take.
    ///
    /// # Errors
    /// If the records of the sweep cannot be read.
    pub fn preview(mut self) -> Result<Preview, Failure> {
        let folder = self.folder();
        let recorded = match read_plan(&folder) {
            Ok(plan) => {
                let recorded = index(&folder)?.recorded;
                self.planned.keep_older_keys(serde_json::from_str(&plan).ok().as_ref(), &recorded);
                recorded
            }
            Err(FolderError::NoPlan(_)) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let keys = self.keys();
        let made = floors::made(self.options, &recorded);
        let schedule = self.schedule(&keys, &made);
        let mut forecast = self.planned.forecast(self.options);
        self.planned.learn(&mut forecast, &recorded);
        let floors = floors::known(&keys, &recorded).iter().filter(|known| !**known).count();
        let jobs = usize::try_from(self.options.jobs).unwrap_or(1);
        let cells = self.planned.cells.iter().enumerate().map(|(place, cell)| PreviewCell {
            cell: Arc::clone(&cell.planned),
            recorded: schedule.made(place),
            left: schedule.left_of(place),
            expected: forecast.expected(place),
        });
        Ok(Preview {
            cells: cells.collect(),
            runs: schedule.left(),
            time: forecast.time_left([], schedule.pending().map(|job| job.cell), jobs, self.options.memory),
            floors: if self.options.floor.is_some() { floors } else { 0 },
        })
    }

    /// Makes the runs that are missing, and records each of them.
    ///
    /// # Errors
    /// If a run was not possible or could not be recorded. What was recorded before stays.
    pub fn run(
        self,
        machine: &Machine,
        cancel: &mut dyn Cancel,
        observer: &mut dyn SweepObserver,
        feedback: &dyn Feedback,
    ) -> Result<SweepOutcome, Failure> {
        let Self { options, repetitions, budget, subject, mut planned, saved, jobs } = self;
        subject.require_inputs()?;
        cpus::check(options, &subject, false)?;
        let cpus = SweepCpus::new(options, &subject, machine, feedback)?;
        planned = planned.only(options, saved.as_ref())?;
        let mut place = if options.is_of_cells() {
            let place = Destination::file(&planned.record(options), options.record.is_some(), feedback)?;
            planned.keep_older_keys(saved.as_ref(), place.recorded());
            place
        } else {
            Destination::Folder(Box::new(open(options, &mut planned, feedback)?))
        };
        let staging = open_staging(options, &place)?;
        let guard = guard(options, &subject, &planned, &place, &staging, feedback)?;
        let staging = if subject.cluster().is_some() { staging.without_symbolic_links() } else { staging };
        let staging = match (subject.engine(), guard.protects()) {
            (Some(_), _) => staging.with_mounts(usize::MAX),
            (None, true) => staging.with_mounts(MOST_MOUNTS),
            (None, false) if subject.cluster().is_some() => staging.with_mounts(MOST_MOUNTS),
            (None, false) if guard.can_mount() => staging.without_writable_links().with_mounts(MOST_MOUNTS),
            (None, false) => staging.without_writable_links(),
        };
        let claims = options.spec.cluster.as_ref().map(|cluster| cluster.claims.as_slice()).unwrap_or_default();
        let staging = match claims.is_empty() || ClaimedDirectory::any_has(claims, staging.path()) {
            true => staging,
            // What is staged here is not in the volumes, where the items are.
            false => staging.with_mounts(usize::MAX).without_links(),
        };
        let this = Self { options, repetitions, budget, subject, planned, saved, jobs };
        this.make_runs((machine, cpus), &mut place, (&staging, &guard), cancel, (observer, feedback))
    }

    fn make_runs(
        &self,
        (machine, cpus): (&Machine, SweepCpus),
        place: &mut Destination,
        (staging, guard): (&Staging, &Guard),
        cancel: &mut dyn Cancel,
        (observer, feedback): (&mut dyn SweepObserver, &dyn Feedback),
    ) -> Result<SweepOutcome, Failure> {
        let Self { options, budget, subject, planned, .. } = self;
        let keys = self.keys();
        let made = floors::made(options, place.recorded());
        let mut schedule = self.schedule(&keys, &made);
        planned.check_room(options, staging, &schedule)?;
        clear_away(subject, feedback);
        if let (Some(cluster), Some(name)) = (subject.cluster(), self.folder().file_name()) {
            cluster.name_sweep(&name.to_string_lossy());
        }
        let mut forecast = planned.forecast(options);
        planned.learn(&mut forecast, place.recorded());
        let roots = machine.roots.clone();
        let now = move || available(&roots).value();
        let capacity = options.memory.or_else(|| now().map(|bytes| Bytes(bytes.0 / 10 * 9)));
        let mut admission = Admission::new(forecast, capacity, now, *budget);
        if subject.cluster().is_some() {
            admission = admission.elsewhere();
        }
        let folders = Mutex::new(HashMap::new());
        let known = floors::known(&keys, place.recorded());
        let inputs = (staging, guard);
        let on = (machine, cpus);
        let bench = SweepExecutor::new((options, feedback), on, subject, &planned.cells, inputs, &folders, known);
        observer.begins(schedule.recorded(), admission.affordable(schedule.to_come()));
        let mut recorder = SweepRecorder { place, cells: &planned.cells, folders: &folders, observer, failed: 0 };
        let jobs = usize::try_from(options.jobs).unwrap_or(1);
        let end = sweep(&bench, &mut recorder, &mut schedule, &mut admission, jobs, cancel);
        recorder.observer.ends();
        executor::lock(&folders).values().for_each(|folder| recorder::forget(folder));
        // If the record was moved after the last run, all runs are lost with it.
        if end.is_ok() {
            recorder.place.check_in_place()?;
        }
        // After the last run, report the failures that would have stopped the next one.
        let mut failures = [bench.unconcluded(), bench.spoiled_in_the_end()].into_iter().flatten();
        let failure = if matches!(end, Ok(End::Done | End::Budget | End::Known)) { failures.next() } else { None };
        // Otherwise why the sweep ended comes first, and these are only told.
        failures.for_each(|failure| feedback.failed(failure));
        failure.map_or(Ok(()), Err)?;
        match end {
            Ok(end) => Ok(SweepOutcome {
                end,
                failed: recorder.failed,
                left: schedule.left(),
                time_left: admission.forecast().time_left(
                    [],
                    schedule.pending().map(|job| job.cell),
                    jobs,
                    options.memory,
                ),
                hour: schedule.further_sizes(HOUR, |cell| admission.forecast().expected(cell).time),
                records: recorder.place.records().to_owned(),
            }),
            Err(SweepError::Run(failure) | SweepError::Keep(failure)) => Err(failure),
            Err(SweepError::Wait(error)) => Err(Failure::host(error)),
        }
    }

    fn keys(&self) -> Vec<&str> {
        self.planned.cells.iter().map(|cell| cell.planned.key.as_str()).collect()
    }

    fn schedule(&self, keys: &[&str], made: &[store::Recorded]) -> Schedule {
        let schedule = Schedule::new(keys, self.repetitions, self.options.order, self.options.retry, made);
        match self.options.until {
            Some(until) => schedule.until(Adaptive::new(until.within(), self.planned.sizes())),
            None => schedule,
        }
    }

    /// The directory for the records.
    fn folder(&self) -> PathBuf {
        folder_of(self.options, &self.planned)
    }
}

fn folder_of(options: &SweepOptions, planned: &Planned) -> PathBuf {
    let named = || PathBuf::from(format!("{}.sweep", planned::file_name(&planned.plan.task.name)));
    options.into.clone().unwrap_or_else(named)
}

/// Opens the directory of the sweep.
fn open(options: &SweepOptions, planned: &mut Planned, feedback: &dyn Feedback) -> Result<Folder, Failure> {
    let path = folder_of(options, planned);
    planned.make_paths_absolute();
    let mut json = planned.json()?;
    let mut folder = match Folder::open(&path) {
        Ok(folder) => {
            if folder.plan() != json {
                planned.keep_older_keys(serde_json::from_str(folder.plan()).ok().as_ref(), folder.recorded());
                json = planned.json()?;
            }
            folder
        }
        Err(FolderError::NoPlan(_)) => Folder::create(&path, &json)?,
        Err(error) => return Err(error.into()),
    };
    if let Some(torn) = folder.torn() {
        feedback.note(&format!(
            "removed an incomplete record at the end of {} ({} bytes): its writer was killed",
            folder.path().display(),
            torn.bytes
        ));
    }
    let path = folder.path().join(store::OBSERVATIONS);
    folder.unusable().iter().for_each(|unusable| feedback.note(&unusable.describe(&path)));
    if folder.plan() != json {
        planned::check_same_task(&folder, planned)?;
        folder.replace_plan(&json)?;
    }
    Ok(folder)
}

fn open_staging(options: &SweepOptions, place: &Destination) -> Result<Staging, Failure> {
    let path = match (&options.staging, place) {
        (Some(path), _) => path.clone(),
        (None, Destination::Folder(folder)) => folder.path().join(STAGING),
        (None, Destination::File(file)) => file.staging(),
    };
    Staging::open(&path).map_err(|error| {
        let (category, help) = match &error {
            StagingError::Occupied { .. } => {
                (Category::Usage, Some("choose an empty or new directory with --staging".to_owned()))
            }
            StagingError::InUse { .. } => (
                Category::Host,
                Some("choose another directory with --staging, or wait until the other sweep ends".to_owned()),
            ),
            StagingError::Failed { .. } | StagingError::NoRoom { .. } => match error.refusal() {
                Some(refusal) => (Category::Usage, Some(refusal.remedy().to_owned())),
                None => (Category::Host, None),
            },
        };
        Failure::new(category, error, help)
    })
}

/// Protects the inputs; the sweep's own files may be among them.
fn guard(
    options: &SweepOptions,
    subject: &Subject<'_>,
    planned: &Planned,
    place: &Destination,
    staging: &Staging,
    feedback: &dyn Feedback,
) -> Result<Guard, Failure> {
    let own: Vec<PathBuf> = match place {
        Destination::Folder(folder) => vec![folder.path().to_owned()],
        Destination::File(file) => vec![file.path().to_owned(), file.runs()],
    };
    let own = own.iter().map(PathBuf::as_path).chain([staging.path()]);
    let inputs = planned.folders.iter().map(PathBuf::as_path);
    let is_process = subject.is_process();
    let access = options.spec.input_access;
    let guard = access.guard(inputs, own, is_process)?;
    if let Some(why) = guard.obstacle().filter(|_| access != InputAccess::Watched) {
        feedback.note(&format!(
            "the inputs are not protected from the task, only checked after each run: {why}. The sweep stops when a \
             run has changed them"
        ));
    }
    Ok(guard)
}

/// Removes containers, pods and cgroups of a killed sweep.
fn clear_away(subject: &Subject<'_>, feedback: &dyn Feedback) {
    let local = remove_leftovers(subject.engine(), false, false).map_err(|error| one_line(&error));
    let remote = subject.cluster().map(|cluster| cluster.remove_leftovers(false, false));
    for found in [Some(local), remote.map(|found| found.map_err(|error| one_line(&error)))].into_iter().flatten() {
        tell_cleared(found, feedback);
    }
}

fn tell_cleared(found: Result<Leftovers, String>, feedback: &dyn Feedback) {
    match found {
        Ok(leftovers) => {
            for removed in &leftovers.removed {
                feedback.note(&format!("removed {removed}, left behind by a killed highwater"));
            }
            for failed in &leftovers.failed {
                feedback.note(&failed.to_string());
            }
        }
        Err(error) => feedback.note(&format!("failed to look for leftovers of a killed highwater: {error}")),
    }
}
