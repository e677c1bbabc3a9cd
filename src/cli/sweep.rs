//! `highwater sweep`: runs a task across inputs, sizes and parameters, records every run, and resumes.

mod args;
mod bench;
mod file;
mod floor;
mod hook;
mod placeholders;
mod plan;
mod progress;
mod recorder;
mod subject;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use highwater::calibrate::cells::Cells;
use highwater::calibrate::sweep::{Admission, End, Repetitions, Schedule, SweepError, sweep};
use highwater::host::HostRoots;
use highwater::host::machine::{Machine, available};
use highwater::model::plan::Plan;
use highwater::model::units::Bytes;
use highwater::runner::container::remove_leftovers;
use highwater::runner::originals::Guard;
use highwater::runner::staging::{MOST_MOUNTS, Staging, StagingError};
use highwater::store::{self, Folder, FolderError};

use self::args::Format;
pub(crate) use self::args::SweepArgs;
use self::bench::SweepExecutor;
use self::file::{MergedSettings, Settings};
use self::plan::Planned;
use self::progress::Progress;
use self::recorder::{Destination, SweepRecorder};
use self::subject::Subject;
use super::exit::Exit;
use super::failure::Failure;
use super::run::inputs::InputAccess;
use super::run::{UseCgroup, say_lost};
use super::signals::Signals;
use super::{cells as shown, output, records, scope};

/// The subdirectory of the sweep in which inputs are staged.
const STAGING: &str = "staging";

pub(crate) fn run(args: &SweepArgs) -> Result<Exit, Failure> {
    match file::merged_settings()? {
        Some(MergedSettings { args, settings, saved }) => run_with(&args, &settings, saved.as_ref()),
        None => run_with(args, &file::typed_settings()?, None),
    }
}

fn run_with(args: &SweepArgs, settings: &Settings, saved: Option<&Plan>) -> Result<Exit, Failure> {
    check_terms(args)?;
    let machine = Machine::read(HostRoots::default()).map_err(|error| Failure::new(Exit::Host, &error, None))?;
    if args.cgroup != UseCgroup::Never && !args.dry_run {
        scope::enter_if_needed(&machine);
    }
    let subject = Subject::from_args(&args.subject)?;
    let mut planned = plan::plan(args, &subject, file::of_the_plan(settings.clone()))?;
    planned.keep_older_keys(saved, &[]);
    if let Some(path) = &args.save_plan {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let text = if is_json { planned.json()? } else { file::to_toml(settings)? };
        output::data_to(Some(path), &text)?;
    }
    if args.dry_run {
        return plan::show(args, planned);
    }
    subject.require_inputs()?;
    let mut planned = planned.only(args, saved)?;
    let mut place = if plan::is_of_cells(args) {
        let place = Destination::file(&planned.record(args), args.record.is_some())?;
        planned.keep_older_keys(saved, place.recorded());
        place
    } else {
        open(args, &mut planned)?
    };
    let staging = open_staging(args, &place)?;
    let guard = guard(args, &subject, &planned, &place, &staging)?;
    let staging = match (subject.engine(), guard.protects()) {
        (Some(_), _) => staging.with_mounts(usize::MAX),
        (None, true) => staging.with_mounts(MOST_MOUNTS),
        (None, false) => staging.without_writable_links(),
    };
    let exit = make_runs(args, &machine, &subject, &planned, &mut place, (&staging, &guard))?;
    if args.format == Format::Table && !args.quiet {
        show(&place)?;
    }
    Ok(exit)
}

/// Opens the directory of the sweep, or the file for single cells.
fn open(args: &SweepArgs, planned: &mut Planned) -> Result<Destination, Failure> {
    let path = folder_of(args, planned);
    let folder = match Folder::open(&path) {
        Ok(folder) => {
            planned.keep_older_keys(serde_json::from_str(folder.plan()).ok().as_ref(), folder.recorded());
            Ok(folder)
        }
        Err(FolderError::NoPlan(_)) => Folder::create(&path, &planned.json()?),
        Err(error) => Err(error),
    };
    let mut folder = folder.map_err(|error| records::unusable_folder(&error))?;
    let json = planned.json()?;
    if let Some(torn) = folder.torn() {
        output::say(&format!(
            "highwater: the last record of {} is incomplete ({} bytes), its writer was killed; repeating that run",
            folder.path().display(),
            torn.bytes
        ));
    }
    let path = folder.path().join(store::OBSERVATIONS);
    folder.unusable().iter().for_each(|unusable| records::say_unusable(&path, unusable));
    plan::check_same_task(&folder, planned)?;
    if folder.plan() != json {
        folder.replace_plan(&json).map_err(|error| records::unusable_folder(&error))?;
    }
    Ok(Destination::Folder(Box::new(folder)))
}

/// The directory for the records.
fn folder_of(args: &SweepArgs, planned: &Planned) -> PathBuf {
    args.into.clone().unwrap_or_else(|| PathBuf::from(format!("{}.sweep", plan::file_name(&planned.plan.task.name))))
}

fn open_staging(args: &SweepArgs, place: &Destination) -> Result<Staging, Failure> {
    let path = match (&args.staging, place) {
        (Some(path), _) => path.clone(),
        (None, Destination::Folder(folder)) => folder.path().join(STAGING),
        (None, Destination::File(file)) => file.staging(),
    };
    Staging::open(&path).map_err(|error| {
        let (exit, help) = match error {
            StagingError::Occupied { .. } => {
                (Exit::Usage, Some("choose an empty or new directory with --staging".to_owned()))
            }
            StagingError::InUse { .. } => (
                Exit::Host,
                Some("choose another directory with --staging, or wait until the other sweep ends".to_owned()),
            ),
            StagingError::Failed { .. } | StagingError::NoRoom { .. } => match error.refusal() {
                Some(refusal) => (Exit::Usage, Some(refusal.remedy().to_owned())),
                None => (Exit::Host, None),
            },
        };
        Failure::new(exit, &error, help)
    })
}

/// Protects the inputs; the sweep's own files may be among them.
fn guard(
    args: &SweepArgs,
    subject: &Subject<'_>,
    planned: &Planned,
    place: &Destination,
    staging: &Staging,
) -> Result<Guard, Failure> {
    let own: Vec<PathBuf> = match place {
        Destination::Folder(folder) => vec![folder.path().to_owned()],
        Destination::File(file) => vec![file.path().to_owned(), file.runs()],
    };
    let own = own.iter().map(PathBuf::as_path).chain([staging.path()]);
    let inputs = planned.folders.iter().map(PathBuf::as_path);
    let is_process = subject.engine().is_none();
    let guard = args.subject.input_access.guard(inputs, own, is_process)?;
    if let Some(why) = guard.obstacle().filter(|_| args.subject.input_access != InputAccess::Watched) {
        output::say(&format!(
            "highwater: the inputs are not protected from the task, only checked after each run: {why}. The sweep \
             stops when a run has changed them"
        ));
    }
    Ok(guard)
}

fn make_runs(
    args: &SweepArgs,
    machine: &Machine,
    subject: &Subject<'_>,
    planned: &Planned,
    place: &mut Destination,
    (staging, guard): (&Staging, &Guard),
) -> Result<Exit, Failure> {
    let keys: Vec<&str> = planned.cells.iter().map(|cell| cell.planned.key.as_str()).collect();
    let made = floor::made(args, place.recorded());
    let mut schedule = Schedule::new(&keys, terms(args), args.order, args.retry.into(), &made);
    planned.check_room(args, staging, &schedule)?;
    clear_away(subject);
    let mut forecast = planned.forecast(args);
    planned.learn(&mut forecast, place.recorded());
    let roots = machine.roots.clone();
    let now = move || available(&roots).value();
    let capacity = args.memory.or_else(|| now().map(|bytes| Bytes(bytes.0 / 10 * 9)));
    let mut admission = Admission::new(forecast, capacity, now, args.max_cost);
    let mut signals = Signals::block().map_err(|errno| Failure::new(Exit::Host, &errno, None))?;
    let folders = Mutex::new(HashMap::new());
    let floors = floor::known(&keys, place.recorded());
    let bench = SweepExecutor::new(args, machine, subject, &planned.cells, (staging, guard), &folders, floors);
    let progress = Progress::new(args.quiet, schedule.recorded(), schedule.left(), args.jobs);
    if schedule.recorded() > 0 && !args.quiet {
        let (recorded, left) = (schedule.recorded(), schedule.left());
        let are = if left == 1 { "is" } else { "are" };
        output::say(&format!("highwater: {} already recorded, {left} {are} left", runs_are(recorded)));
    }
    let mut recorder = SweepRecorder {
        args,
        place,
        cells: &planned.cells,
        folders: &folders,
        progress,
        failed: 0,
        observed: Vec::new(),
    };
    let jobs = usize::try_from(args.jobs).unwrap_or(1);
    let end = sweep(&bench, &mut recorder, &mut schedule, &mut admission, jobs, &mut signals);
    recorder.progress.close();
    bench::lock(&folders).values().for_each(|folder| recorder::forget(folder));
    drop(signals);
    let failed = recorder.failed;
    // If the record was moved after the last run, all runs are lost with it.
    if end.is_ok() {
        recorder.place.check_in_place()?;
    }
    let left = schedule.left();
    // After the last run, report the failures that would have stopped the next one.
    let mut failures = [bench.unconcluded(), bench.spoiled_in_the_end()].into_iter().flatten();
    let failure = if matches!(end, Ok(End::Done | End::Budget)) { failures.next() } else { None };
    // Otherwise the exit status stays, and the failures become warnings.
    failures.for_each(Failure::warn);
    failure.map_or(Ok(()), Err)?;
    match end {
        Ok(End::Done) => Ok(if failed == 0 { Exit::Done } else { Exit::TaskFailed }),
        Ok(End::Interrupted(_)) => {
            output::say(&format!("highwater: interrupted, {} left; run the same command to resume", runs_are(left)));
            Ok(Exit::Interrupted)
        }
        Ok(End::Budget) => {
            output::say(&format!("highwater: reached --max-cost, {} left", runs_are(left)));
            Ok(if failed == 0 { Exit::Done } else { Exit::TaskFailed })
        }
        Ok(End::EngineLost) => {
            say_lost();
            Ok(if failed == 0 { Exit::Host } else { Exit::TaskFailed })
        }
        Err(SweepError::Run(failure) | SweepError::Keep(failure)) => Err(failure),
        Err(SweepError::Wait(error)) => Err(Failure::new(Exit::Host, &error, None)),
    }
}

fn runs_are(count: usize) -> String {
    if count == 1 { "1 run is".to_owned() } else { format!("{count} runs are") }
}

/// Checks that the numbers of runs agree.
fn check_terms(args: &SweepArgs) -> Result<(), Failure> {
    match (args.min_runs, args.max_runs) {
        (Some(least), Some(most)) if least > most => {
            let help = "raise --max-runs, or remove it";
            Err(Failure::new(Exit::Usage, &FewerAtMost { least, most }, Some(help.to_owned())))
        }
        _ => Ok(()),
    }
}

fn terms(args: &SweepArgs) -> Repetitions {
    let precision = args.precision;
    match (args.min_runs, args.max_runs) {
        (None, None) => Repetitions { least: args.runs, most: args.runs, precision },
        (least, most) => {
            let least = least.unwrap_or(3).min(most.unwrap_or(u32::MAX));
            Repetitions { least, most: most.unwrap_or(least + 10).max(least), precision }
        }
    }
}

/// Removes containers and cgroups of a killed sweep.
fn clear_away(subject: &Subject<'_>) {
    match remove_leftovers(subject.engine(), false, false) {
        Ok(leftovers) => {
            for removed in &leftovers.removed {
                output::say(&format!("highwater: removed {removed}, left behind by a killed highwater"));
            }
            for failed in &leftovers.failed {
                output::say(&format!("highwater: {failed}"));
            }
        }
        Err(error) => output::say(&format!("highwater: failed to look for leftovers of a killed highwater: {error}")),
    }
}

/// Shows all runs of the sweep, by cell.
fn show(place: &Destination) -> Result<(), Failure> {
    let path = match place {
        Destination::Folder(folder) => folder.path(),
        Destination::File(file) => file.path(),
    };
    // Unusable lines were reported when the records were opened.
    let source = records::open(path)?;
    let mut cells = Cells::default();
    source.each(|observation| cells.add(&observation)).map_err(|error| records::unreadable(&error))?;
    let cells = cells.finish();
    if cells.is_empty() {
        return Ok(());
    }
    output::text(&shown::render(&cells))
}

/// Contradictory numbers of runs.
#[derive(Debug, thiserror::Error)]
#[error("--min-runs {least} is greater than --max-runs {most}")]
struct FewerAtMost {
    least: u32,
    most: u32,
}
