//! Executes the runs of a sweep: stages inputs, fills in placeholders, and runs hooks.

mod outputs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::calibrate::failure::{Category, ENGINE_LOST, Failure, NO_ROOM};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::measure::{MeasureError, RunContext};
use crate::calibrate::monitor::{Cancel, Observer, WatchOptions};
use crate::host::machine::Machine;
use crate::model::observation::{InputSizes, Logs, Observation, Outcome, Storage, SweepRun, Warning};
use crate::model::plan::{InputSource, Parameters, PlanCell};
use crate::model::prediction::Prediction;
use crate::model::reading::Reading;
use crate::model::units::Bytes;
use crate::runner::StartError;
use crate::runner::originals::{Guard, Originals};
use crate::runner::process::{Output, Stdin};
use crate::runner::staging::{Cost, Scratch, Staged, Staging, StagingError};
use crate::runner::view::View;
use crate::tree;

use self::outputs::{keep_outputs, not_kept, size_of_outputs};
use super::CacheState;
use super::cpus::SweepCpus;
use super::options::SweepOptions;
use super::placeholders::Placeholders;
use super::subject::{StagedInputs, Subject};
use super::{Executor, InputCase, Job, hook};
use crate::calibrate::workload::inputs::{self, InputAccess, Mounting, changed, note_changes};
use crate::calibrate::workload::{RunOptions, UseCgroup, Workload};

/// A cell with everything that its runs need.
pub(super) struct PlannedCell {
    pub(super) planned: Arc<PlanCell>,
    /// The key that an older highwater would have given the cell.
    pub(super) older_key: String,
    pub(super) case: Arc<InputCase>,
    pub(super) inputs: Vec<InputSizes>,
    pub(super) prediction: Option<Arc<Prediction>>,
}

/// Executes the runs.
pub(super) struct SweepExecutor<'a> {
    pub(super) options: &'a SweepOptions,
    pub(super) feedback: &'a dyn Feedback,
    pub(super) machine: &'a Machine,
    cpus: SweepCpus,
    pub(super) subject: &'a Subject<'a>,
    pub(super) cells: &'a [PlannedCell],
    pub(super) staging: &'a Staging,
    /// Protects the inputs.
    pub(super) guard: &'a Guard,
    /// The output directory of each current run.
    pub(super) folders: &'a Mutex<HashMap<Job, PathBuf>>,
    state: Mutex<State>,
    open: Vec<Mutex<CellProgress>>,
    /// The choices of parameters whose programs and libraries are in the page cache, if `--cache warm` wants them there.
    warmed: Mutex<HashSet<&'a Parameters>>,
    /// Whether each cell has a floor, or is having it searched for.
    pub(super) floors: Mutex<Vec<bool>>,
}

/// State shared by all cells.
#[derive(Default)]
struct State {
    /// Staged cases, by the index of the first cell that uses them.
    staged: HashMap<usize, Arc<StagedCase>>,
    /// Whether copies were reported.
    told_of_copies: bool,
    told_of_symbolic_links: bool,
    told_of_private_copies: bool,
    /// The failure that stops further runs because the last one changed the input.
    spoiled: Option<Failure>,
    watch: WatchTimes,
    /// The failure of a --conclude hook or of keeping outputs, which is reported once the run is recorded.
    unconcluded: Option<Failure>,
    counter: u64,
}

/// When the originals were last compared with their initial state. If mounts protect them, this may take at most a
/// tenth of the time of a sweep.
#[derive(Default)]
struct WatchTimes {
    last: Option<Instant>,
    took: Duration,
    /// Whether a run has not been checked yet.
    skipped: bool,
}

impl WatchTimes {
    fn is_due(&mut self) -> bool {
        self.skipped = self.last.is_some_and(|last| last.elapsed() < self.took * 10);
        !self.skipped
    }
}

/// A case that is staged for its runs.
pub(super) struct StagedCase {
    inputs: Vec<(String, Staged)>,
    /// The view that processes have of it.
    view: OnceLock<Option<Arc<View>>>,
    /// The state of staged inputs before the first run, if a task could change them.
    before: Option<Originals>,
}

impl StagedCase {
    fn new(inputs: Vec<(String, Staged)>, before: Option<Originals>) -> Self {
        Self { inputs, view: OnceLock::new(), before }
    }

    /// The path that replaces `{input}` in a command.
    fn input(&self) -> Option<&Path> {
        self.inputs.first().map(|(_, staged)| staged.input())
    }

    fn staged(&self) -> Vec<&Staged> {
        self.inputs.iter().map(|(_, staged)| staged).collect()
    }

    /// The mounts that a process sees.
    fn mounting<'a>(&'a self, guard: &'a Guard, staged: &'a [&'a Staged]) -> Mounting<'a> {
        Mounting { guard, staged, known: Some(&self.view) }
    }
}

/// The options of a run.
#[derive(Default)]
pub(super) struct CellRunOptions {
    pub(super) limit: Option<Bytes>,
    pub(super) timeout: Option<Duration>,
    /// Whether the run must have a cgroup.
    pub(super) must_be_limited: bool,
    pub(super) sweep: Option<SweepRun>,
    /// The output directory, and the log files to record.
    pub(super) output: Option<PathBuf>,
    pub(super) logs: Option<Logs>,
}

/// The progress of a cell.
#[derive(Default)]
struct CellProgress {
    begun: bool,
}

impl<'a> SweepExecutor<'a> {
    pub(super) fn new(
        (options, feedback): (&'a SweepOptions, &'a dyn Feedback),
        (machine, cpus): (&'a Machine, SweepCpus),
        subject: &'a Subject<'a>,
        cells: &'a [PlannedCell],
        (staging, guard): (&'a Staging, &'a Guard),
        folders: &'a Mutex<HashMap<Job, PathBuf>>,
        floors: Vec<bool>,
    ) -> Self {
        let open = cells.iter().map(|_| Mutex::default()).collect();
        let floors = Mutex::new(floors);
        Self {
            options,
            feedback,
            machine,
            cpus,
            subject,
            cells,
            staging,
            guard,
            folders,
            state: Mutex::default(),
            open,
            warmed: Mutex::default(),
            floors,
        }
    }

    /// The first cell with the same case, whose index identifies the case.
    fn case_of(&self, cell: usize) -> usize {
        let case = &self.cells[cell].case;
        self.cells.iter().position(|other| Arc::ptr_eq(&other.case, case)).unwrap_or(cell)
    }

    fn stage(&self, cell: usize) -> Result<Arc<StagedCase>, Failure> {
        let place = self.case_of(cell);
        let mut state = lock(&self.state);
        if let Some(staged) = state.staged.get(&place) {
            return Ok(Arc::clone(staged));
        }
        let mut inputs = Vec::new();
        let mut cost = Cost::default();
        for (number, input) in self.cells[cell].case.inputs.iter().enumerate() {
            let name = format!("case-{place}-{number}");
            let staged = self.staging.stage(&name, &input.source).map_err(unstaged)?;
            cost.copies += staged.cost().copies;
            cost.symbolic += staged.cost().symbolic;
            cost.copied = cost.copied.saturating_add(staged.cost().copied);
            inputs.push((input.channel.clone(), staged));
        }
        if cost.symbolic > 0 && !std::mem::replace(&mut state.told_of_symbolic_links, true) {
            self.feedback.detail(
                "the input consists of symbolic links to the originals: the kernel allows no hard links to files of other \
                 users (fs.protected_hardlinks), and mounts are not possible",
            );
        }
        if cost.copies > 0 {
            let more = match (state.told_of_copies, self.guard.could_be_written_to()) {
                (true, _) => "",
                (false, true) => ", because the task could write to the data through links",
                (false, false) => {
                    ", because they cannot be linked; use --staging with a directory on the file system of the inputs"
                }
            };
            state.told_of_copies = true;
            let case = &self.cells[cell].planned.case;
            let files = if cost.copies == 1 { "1 file was".to_owned() } else { format!("{} files were", cost.copies) };
            self.feedback.detail(&format!("{case}: {files} copied, {}{more}", cost.copied));
        }
        let is_open = self.subject.is_process() && !self.guard.protects();
        let made = inputs.iter().filter(|(_, staged)| is_open && staged.is_made()).map(|(_, staged)| staged.input());
        let made: Vec<&Path> = made.collect();
        let before = if made.is_empty() { None } else { Some(Originals::read(made, []).map_err(inputs::unreadable)?) };
        let staged = Arc::new(StagedCase::new(inputs, before));
        state.staged.insert(place, Arc::clone(&staged));
        Ok(staged)
    }

    pub(super) fn scratch(&self) -> Result<Scratch, Failure> {
        let mut state = lock(&self.state);
        state.counter += 1;
        let name = format!("run-{}", state.counter);
        drop(state);
        self.staging.scratch(&name).map_err(unstaged)
    }

    fn hook(
        &self,
        name: &'static str,
        line: Option<&String>,
        places: &Placeholders<'_>,
        case: &StagedCase,
    ) -> Result<(), Failure> {
        let Some(line) = line else { return Ok(()) };
        let staged = case.staged();
        let view = case.mounting(self.guard, &staged).view(Vec::new());
        let view = view.map_err(Failure::host)?;
        hook::run(name, &places.fill_quoted(line), view.as_ref())
    }

    /// Copies of the inputs for one run, if it needs any.
    fn copies(&self, cell: usize, case: &StagedCase) -> Result<Option<StagedCase>, Failure> {
        if self.options.spec.input_access != InputAccess::Private {
            return Ok(None);
        }
        let mut state = lock(&self.state);
        state.counter += 1;
        let run = state.counter;
        drop(state);
        let can_mount = self.guard.protects() && self.subject.can_be_overlaid();
        let mut copies = Vec::new();
        for (number, ((channel, staged), input)) in case.inputs.iter().zip(&self.cells[cell].case.inputs).enumerate() {
            let name = format!("private-{run}-{number}");
            let copy = self.staging.private(&name, (staged, &input.source), input.listing.bytes(), can_mount);
            copies.push((channel.clone(), copy.map_err(unstaged)?));
        }
        let cost = copies.iter().map(|(_, copy)| copy.cost());
        let (files, bytes) =
            cost.fold((0, Bytes::ZERO), |sum, cost| (sum.0 + cost.copies, sum.1.saturating_add(cost.copied)));
        if files > 0 && !std::mem::replace(&mut lock(&self.state).told_of_private_copies, true) {
            self.feedback.detail(&format!(
                "each run gets a full copy of its input, {bytes} for the first; use --staging with a \
                 directory on a file system that can clone files"
            ));
        }
        Ok(Some(StagedCase::new(copies, None)))
    }

    /// Makes a run that is not recorded; whether it ended by itself.
    fn warm_up(&self, job: Job, place: (&StagedCase, &Path), cancel: &mut dyn Cancel) -> Result<bool, Failure> {
        let run = self.once(job, place, None, cancel, &mut ())?;
        if run.has_lost_engine() {
            self.feedback.note(ENGINE_LOST);
            let case = &self.cells[job.cell].planned.case;
            let error = format!("failed to warm up {case}: the container engine was lost or does not respond");
            return Err(Failure::host(error));
        }
        Ok(!matches!(run.outcome, Outcome::Interrupted { .. }))
    }

    /// Executes one run, recorded or not.
    fn once(
        &self,
        job: Job,
        (case, output): (&StagedCase, &Path),
        sweep: Option<SweepRun>,
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Observation, Failure> {
        let mut under =
            CellRunOptions { limit: self.options.limit, timeout: self.options.timeout, ..CellRunOptions::default() };
        let folder = lock(self.folders).get(&job).cloned();
        if let (Some(folder), Some(_)) = (folder, &sweep) {
            under.logs = Some(Logs { stdout: folder.join("stdout.log"), stderr: folder.join("stderr.log") });
            under.output = Some(folder);
        }
        under.sweep = sweep;
        let mut observation = self.under(&under, job, (case, output), cancel, observer)?.map_err(not_run)?;
        if let (true, Some(logs)) = (observation.outcome.has_failed(), &under.logs)
            && !case.inputs.is_empty()
        {
            observation.warnings.extend(inputs::hint(&logs.stderr));
        }
        Ok(observation)
    }

    /// Executes one run with these options, including its hooks.
    pub(super) fn under(
        &self,
        under: &CellRunOptions,
        job: Job,
        (case, output): (&StagedCase, &Path),
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Result<Observation, MeasureError>, Failure> {
        self.check_may_go_on()?;
        let original = case;
        let ready = &self.cells[job.cell];
        let cell = &ready.planned;
        let copies = self.copies(job.cell, case)?;
        let case = copies.as_ref().unwrap_or(case);
        let staged = case.staged();
        let inputs: StagedInputs<'_> = case.inputs.iter().map(|(channel, staged)| (channel.as_str(), staged)).collect();
        let parameters = &cell.parameters.to_map();
        let places = Placeholders { input: case.input(), output, parameters };
        self.hook("--prepare", self.options.prepare.as_ref(), &places, case)?;
        let cache = self.options.cache.prepare(staged.iter().flat_map(|staged| staged.folders()))?;
        let mut start = self.subject.start(
            &inputs,
            &self.subject.visible(parameters, !self.options.cpus.is_empty()),
            output,
            (ready.prediction.as_deref().cloned(), case.mounting(self.guard, &staged)),
        )?;
        if let (Workload::Container(container), Some(cluster)) = (&mut start, self.subject.cluster()) {
            container.launch_mut().labels.extend(cluster.labels_of_run(&cell.key, job.run));
        }
        let mut conditions = RunOptions {
            limit: under.limit,
            cgroup: if under.must_be_limited { UseCgroup::Always } else { self.options.cgroup },
            stdin: Stdin::Null,
            stdout: Output::Null,
            stderr: Output::Null,
            ..RunOptions::default()
        };
        if let Some(folder) = &under.output {
            conditions.output_to(folder, "")?;
        }
        let turn = self.cpus.enter(parameters);
        conditions.cpus = turn.cpus();
        conditions.cpu_limit = turn.limit();
        let interval = self.options.sample_interval;
        let skip_status = self.options.spec.skip_status;
        let kill_after = self.options.kill_after;
        let how = WatchOptions { timeout: under.timeout, kill_after, interval, skip_status };
        let about = RunContext {
            subject: self.subject.recorded(),
            sweep: under.sweep.clone(),
            inputs: ready.inputs.clone(),
            prediction: ready.prediction.as_deref().cloned(),
            notes: start.about().notes,
            ..RunContext::default()
        };
        let mut observation = match start.measure(self.machine, (&conditions, &how), about, Some(cancel), observer)? {
            Ok(observation) => observation,
            Err(error) => return Ok(Err(error)),
        };
        observation.warnings.extend(turn.disturbance());
        drop(turn);
        observation.logs = under.logs.clone();
        observation.cache = cache;
        if let Some(bytes) = size_of_outputs(&self.subject.outputs(output)) {
            observation.storage.get_or_insert(Storage::UNREAD).outputs_bytes = Reading::Value(bytes);
        }
        self.hook("--conclude", self.options.conclude.as_ref(), &places, case)
            .unwrap_or_else(|failure| self.hold(failure));
        self.check_inputs(job.cell, original, &mut observation);
        if let (true, Some(copies), Some(folder)) = (self.options.keep_outputs, &copies, &under.output) {
            for (channel, copy) in &copies.inputs {
                let to = folder.join("inputs").join(channel);
                copy.keep_changes(&to).unwrap_or_else(|source| self.hold(not_kept(&to, source)));
            }
        }
        Ok(Ok(observation))
    }

    /// Checks that another run may begin. Returns the failure that forbids it, once.
    fn check_may_go_on(&self) -> Result<(), Failure> {
        self.unconcluded().or_else(|| self.spoiled()).map_or(Ok(()), Err)
    }

    /// Whether another run may begin.
    fn may_go_on(&self) -> bool {
        let state = lock(&self.state);
        state.unconcluded.is_none() && state.spoiled.is_none()
    }

    /// Holds a failure until the current run is recorded; no further run may begin.
    pub(super) fn hold(&self, failure: Failure) {
        lock(&self.state).unconcluded.get_or_insert(failure);
    }

    /// Takes the error of a failed --conclude hook; no further run may start.
    pub(super) fn unconcluded(&self) -> Option<Failure> {
        lock(&self.state).unconcluded.take()
    }

    /// Takes the failure of a run that changed the input; no further run may start.
    pub(super) fn spoiled(&self) -> Option<Failure> {
        lock(&self.state).spoiled.take()
    }

    /// The same check at the end of the sweep, for runs that were not checked.
    pub(super) fn spoiled_in_the_end(&self) -> Option<Failure> {
        let is_open = lock(&self.state).watch.skipped;
        self.spoiled().or_else(|| is_open.then(|| changed(&self.guard.originals().changes(&[])))?)
    }

    /// Notes in the record what a task did to its input; if it changed the originals, the sweep stops.
    fn check_inputs(&self, cell: usize, staged: &StagedCase, observation: &mut Observation) {
        let changed = staged.before.as_ref().map(|before| before.changes(&[])).unwrap_or_default();
        if !changed.is_empty() {
            // Stage again for the next run, unless another run has done so already.
            let (place, mut state) = (self.case_of(cell), lock(&self.state));
            if state.staged.get(&place).is_some_and(|known| std::ptr::eq(&raw const **known, staged)) {
                state.staged.remove(&place);
            }
            drop(state);
            observation.warnings.push(Warning::CopyChanged);
        }
        if self.guard.protects() && !lock(&self.state).watch.is_due() {
            return;
        }
        // A task that gets past the mounts is most likely to change its own inputs.
        let own = if self.guard.protects() { self.originals_of(cell) } else { Vec::new() };
        let started = Instant::now();
        let changes = self.guard.originals().changes(&own);
        let mut state = lock(&self.state);
        state.watch = WatchTimes { last: Some(Instant::now()), took: started.elapsed(), skipped: false };
        if let Some(failure) = note_changes(observation, &changes) {
            state.spoiled.get_or_insert(failure);
        }
    }

    /// The paths of a cell's original data.
    fn originals_of(&self, cell: usize) -> Vec<PathBuf> {
        let inputs = self.cells[cell].case.inputs.iter();
        let paths = inputs.flat_map(|input| match &input.source {
            InputSource::Directory(path) => vec![path.clone()],
            InputSource::Units { root, units } => units.iter().map(|unit| root.join(&unit.name)).collect(),
            InputSource::Bytes { from, .. } => from.clone(),
        });
        paths.filter_map(|path| path.canonicalize().ok()).collect()
    }
}

impl Executor for SweepExecutor<'_> {
    type Error = Failure;

    fn run(
        &self,
        job: Job,
        cancel: &mut dyn Cancel,
        observer: &mut dyn Observer,
    ) -> Result<Option<Observation>, Failure> {
        let ready = &self.cells[job.cell];
        let cell = &ready.planned;
        self.check_may_go_on()?;
        let case = self.stage(job.cell)?;
        let scratch = self.scratch()?;
        let output = self.subject.make_output(scratch.path())?;
        let parameters = &cell.parameters.to_map();
        let places = Placeholders { input: case.input(), output: &output, parameters };
        let mut open = lock(&self.open[job.cell]);
        if !open.begun {
            self.hook("--setup", self.options.setup.as_ref(), &places, &case)?;
            for _ in 0..self.options.warmup {
                if !self.warm_up(job, (&case, &output), cancel)? {
                    return Ok(None);
                }
            }
            open.begun = true;
        }
        drop(open);
        if self.options.cache == CacheState::Warm {
            // Other cells with these parameters wait until the programs are in the cache.
            let mut warmed = lock(&self.warmed);
            if !warmed.contains(&cell.parameters) {
                if self.options.warmup == 0 && !self.warm_up(job, (&case, &output), cancel)? {
                    return Ok(None);
                }
                warmed.insert(&cell.parameters);
            }
        }
        let sweep = SweepRun {
            cell: cell.key.clone(),
            case: cell.case.clone(),
            run: job.run,
            parameters: parameters.clone(),
            synthetic: cell.synthetic,
        };
        let mut observation = self.once(job, (&case, &output), Some(sweep), cancel, observer)?;
        let folder = lock(self.folders).get(&job).cloned();
        if let (true, Some(folder)) = (self.options.keep_outputs, folder) {
            let kept = self.subject.take_back(&output);
            let kept = kept.and_then(|()| keep_outputs(&output, &folder.join("outputs")));
            kept.unwrap_or_else(|failure| self.hold(failure));
        }
        if observation.outcome.succeeded() && !observation.has_lost_engine() && self.may_go_on() {
            self.look_for_floor(job, &case, &mut observation, cancel, observer)?;
        }
        Ok(Some(observation))
    }

    fn leave(&self, cell: usize) -> Result<(), Failure> {
        let mut open = lock(&self.open[cell]);
        if open.begun && self.options.cleanup.is_some() {
            let case = self.stage(cell)?;
            let scratch = self.scratch()?;
            let parameters = &self.cells[cell].planned.parameters.to_map();
            let places = Placeholders { input: case.input(), output: scratch.path(), parameters };
            self.hook("--cleanup", self.options.cleanup.as_ref(), &places, &case)?;
        }
        open.begun = false;
        drop(open);
        // Another cell with the same case stages it again if needed. Inputs that take disk space are removed early.
        let place = self.case_of(cell);
        let last = self.cells.iter().rposition(|other| Arc::ptr_eq(&other.case, &self.cells[cell].case));
        if last == Some(cell) || self.takes_room(cell) {
            lock(&self.state).staged.remove(&place);
        }
        Ok(())
    }
}

impl SweepExecutor<'_> {
    fn takes_room(&self, cell: usize) -> bool {
        self.cells[cell].case.inputs.iter().any(|input| matches!(input.source, InputSource::Bytes { .. }))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_run(error: MeasureError) -> Failure {
    match &error {
        MeasureError::Start(StartError::Output { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => {
            Failure::new(Category::Host, error, Some(NO_ROOM.to_owned()))
        }
        _ => error.into(),
    }
}

fn unstaged(error: StagingError) -> Failure {
    inputs::unstaged(error, NO_ROOM)
}

/// Names and sizes of inputs by their channels.
pub(super) fn listings(case: &InputCase) -> BTreeMap<&str, &tree::Listing> {
    case.inputs.iter().map(|input| (input.channel.as_str(), &*input.listing)).collect()
}
