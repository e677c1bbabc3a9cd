//! Runs the cells of the tasks that are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::revision::interrupted;
use super::{Judgement, Run, SortedRuns, judge, judge_against};
use crate::calibrate::failure::{Category, Cause, ENGINE_LOST, Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::calibrate::measure::RunContext;
use crate::calibrate::monitor::{Cancel, Never, Observer, WatchOptions};
use crate::calibrate::workload::inputs::{INPUT, sizes_of};
use crate::calibrate::workload::settings::{self, SettingError};
use crate::calibrate::workload::{EngineOptions, RunOptions, Runnable, Spec, Workload};
use crate::host::machine::Machine;
use crate::model::check::baseline::Baseline;
use crate::model::check::config::{Config, InputConfig, RunnerChoice, TaskConfig, WorkloadSpec};
use crate::model::check::report::Against;
use crate::model::observation::{InputSizes, Observation, Outcome, SweepRun};
use crate::model::prediction::Sizes;
use crate::runner::engine::PullPolicy;
use crate::runner::process::{Output, Stdin};
use crate::runner::tail::{self, Tail};

/// What a check tells its caller, and asks of it.
pub trait Session {
    /// Requests to end.
    fn cancel(&mut self) -> &mut dyn Cancel;

    /// An observer of the next run.
    fn observer(&self) -> Box<dyn Observer>;

    /// Whether a request to end has arrived.
    fn is_interrupted(&mut self) -> bool;

    /// Records a run that has ended.
    ///
    /// # Errors
    /// If it cannot be.
    fn keep(&mut self, observation: &Observation) -> Result<(), Failure>;

    /// Shows a recorded run: its task, cell and number.
    fn ran(&mut self, task: &str, cell: &str, number: u32, observation: &Observation);
}

/// A check that shows and records nothing, and is never interrupted.
impl Session for Never {
    fn cancel(&mut self) -> &mut dyn Cancel {
        self
    }

    fn observer(&self) -> Box<dyn Observer> {
        Box::new(())
    }

    fn is_interrupted(&mut self) -> bool {
        false
    }

    fn keep(&mut self, _: &Observation) -> Result<(), Failure> {
        Ok(())
    }

    fn ran(&mut self, _: &str, _: &str, _: u32, _: &Observation) {}
}

/// Options of a check that are not in its configuration.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// The container engine.
    pub engine: EngineOptions,
    /// Where stdout and stderr of every run go.
    pub log_dir: Option<PathBuf>,
    /// The directory in which the runs start, if not the current one. The process enters it before each of them.
    pub directory: Option<PathBuf>,
    /// The revision in that directory, if it is not the one that is checked. Its runs are shown with this name, and not
    /// recorded.
    pub revision: Option<String>,
}

/// Tasks and cells, ready to run.
pub struct Bench<'a> {
    machine: &'a Machine,
    options: CheckOptions,
    cells: Vec<Cell<'a>>,
    feedback: &'a dyn Feedback,
    /// The number of runs of each cell so far.
    runs: BTreeMap<(String, String), u32>,
}

struct Cell<'a> {
    task: &'a TaskConfig,
    name: String,
    workload: Workload,
    context: RunContext,
    env: Vec<(String, String)>,
    skip_status: Option<i32>,
}

impl<'a> Bench<'a> {
    /// Reads the tasks that `is_listed` and prepares their runs. Relative paths start in the current directory.
    ///
    /// # Errors
    /// If something that a task names is missing or invalid.
    pub fn new(
        config: &'a Config,
        is_listed: impl Fn(&str) -> bool,
        options: &CheckOptions,
        machine: &'a Machine,
        feedback: &'a dyn Feedback,
    ) -> Result<Self, Failure> {
        enter(options.directory.as_deref())?;
        let mut cells = Vec::new();
        for task in config.tasks.iter().filter(|task| is_listed(&task.name)) {
            for input in task.cells() {
                cells.push(cell(&options.engine, task, &input, feedback)?);
            }
        }
        Ok(Self { machine, options: options.clone(), cells, feedback, runs: BTreeMap::new() })
    }

    /// Runs all cells, then runs those again that seem to have grown, and judges. `first` gets the first run of each
    /// cell.
    ///
    /// # Errors
    /// If a run was not possible or was interrupted, or `first` fails.
    pub fn check(
        &mut self,
        config: &Config,
        baseline: Option<&Baseline>,
        session: &mut dyn Session,
        first: impl Fn(&Run) -> Result<(), Failure>,
    ) -> Result<Judgement, Failure> {
        confirmed(
            &mut [self],
            config,
            session,
            |_, run| first(run),
            |batches| judge(config, baseline, &SortedRuns::of_batches(config, &batches[0])),
        )
    }

    /// Runs all cells of another revision and of this tree in turns, then those again that seem to have grown, and
    /// judges.
    ///
    /// # Errors
    /// If a run was not possible or was interrupted, or both run the same image, whose revision is unknown.
    pub fn check_against(
        &mut self,
        other: &mut Self,
        against: &Against,
        config: &Config,
        session: &mut dyn Session,
    ) -> Result<Judgement, Failure> {
        let feedback = self.feedback;
        let mut image = None;
        let mut noted = BTreeSet::new();
        let refuse_same_image = |tree: usize, run: &Run| {
            let container = run.observation.container.as_ref();
            let now = container.map(|of| (of.image.clone(), of.image_id.clone()));
            if tree == 0 {
                image = now;
                return Ok(());
            }
            match &now {
                Some((name, _)) if image == now => {
                    same_image(config, &run.task, name, if noted.insert(run.task.clone()) { feedback } else { &() })
                }
                Some(_) | None => Ok(()),
            }
        };
        confirmed(&mut [other, self], config, session, refuse_same_image, |batches| {
            let sorted = |tree: usize| SortedRuns::of_batches(config, &batches[tree]);
            judge_against(config, against, &sorted(0), &sorted(1))
        })
    }

    /// Runs cells in turns, each as often as `times` says, so that drift of the machine affects all of them alike.
    ///
    /// # Errors
    /// If a run was not possible or was interrupted.
    pub fn batch(
        &mut self,
        session: &mut dyn Session,
        times: impl Fn(&TaskConfig, &str) -> Option<u32>,
    ) -> Result<Vec<Run>, Failure> {
        Ok(turns(&mut [self], session, times, |_, _| Ok(()))?.concat())
    }

    /// Says in which tree it failed, if it is not the one that is checked.
    fn name_tree(&self, failure: Failure) -> Failure {
        match (&self.options.revision, failure) {
            (Some(revision), Failure { category, cause: Cause::Error(error), help })
                if category != Category::Interrupted =>
            {
                Failure::new(category, Failed::to(format!("measure {revision}"), error), help)
            }
            (_, failure) => failure,
        }
    }

    fn run(&mut self, session: &mut dyn Session, place: usize) -> Result<Run, Failure> {
        enter(self.options.directory.as_deref())?;
        let cell = &self.cells[place];
        let number = self.runs.entry((cell.task.name.clone(), cell.name.clone())).or_default();
        *number += 1;
        let number = *number;
        let (timeout, skip_status) = (cell.task.timeout, cell.skip_status);
        let watch = WatchOptions { timeout, skip_status, ..WatchOptions::default() };
        let mut options = cell.options(&self.options, number)?;
        let tail = match options.stderr {
            Output::File(_) => None,
            Output::Inherit | Output::Null | Output::Open(_) => {
                let (tail, output) =
                    Tail::start().map_err(|error| Failure::host(Failed::to("create a pipe", error)))?;
                options.stderr = output;
                Some(tail)
            }
        };
        let mut context = cell.context.clone();
        if let Some(sweep) = &mut context.sweep {
            sweep.run = number;
        }
        let mut observer = session.observer();
        let measured =
            cell.workload.measure(self.machine, (&options, &watch), context, Some(session.cancel()), &mut *observer);
        drop(observer);
        let stderr = match (&options.stderr, tail) {
            (_, Some(tail)) => tail.finish(),
            (Output::File(path), None) => tail::of_file(path).unwrap_or_default(),
            (Output::Inherit | Output::Null | Output::Open(_), None) => String::new(),
        };
        let mut observation = measured??;
        let spoiled = cell.workload.check_inputs(&mut observation);
        if self.options.revision.is_none() {
            session.keep(&observation)?;
        }
        spoiled.map_or(Ok(()), Err)?;
        if observation.has_lost_engine() {
            self.feedback.note(ENGINE_LOST);
            let failed = observation.outcome.has_failed() && observation.outcome != Outcome::EngineLost;
            let category = if failed { Category::TaskFailed } else { Category::Host };
            let cell = &cell.name;
            let error = format!("lost the container engine or the highwater process that supervised a run of {cell}");
            return Err(Failure::new(category, error, None));
        }
        if matches!(observation.outcome, Outcome::Interrupted { .. }) || session.is_interrupted() {
            return Err(interrupted());
        }
        let prefix = self.options.revision.as_ref().map(|revision| format!("{revision}: "));
        let task = format!("{}{}", prefix.unwrap_or_default(), cell.task.name);
        session.ran(&task, &cell.name, number, &observation);
        let stderr = Some(stderr).filter(|text| observation.outcome.has_failed() && !text.is_empty());
        Ok(Run { task: cell.task.name.clone(), observation, stderr })
    }
}

/// Runs all cells of these trees, then those again that `judge` suspects in the last of them, and returns its judgement.
/// `first` is called with the index of the tree and the first run of each cell.
fn confirmed(
    trees: &mut [&mut Bench<'_>],
    config: &Config,
    session: &mut dyn Session,
    first: impl FnMut(usize, &Run) -> Result<(), Failure>,
    judge: impl Fn(&[Vec<Vec<Run>>]) -> Judgement,
) -> Result<Judgement, Failure> {
    let confirm_of = |task: &str| {
        let task = config.tasks.iter().find(|it| it.name == task);
        task.map_or(0, |task| task.repeats.confirm)
    };
    let mut batches: Vec<Vec<Vec<Run>>> =
        turns(trees, session, |task, _| Some(task.repeats.runs), first)?.into_iter().map(|runs| vec![runs]).collect();
    let mut round = 0;
    loop {
        let judgement = judge(&batches);
        let suspects: Vec<_> =
            judgement.suspects.iter().filter(|(task, _)| confirm_of(task) > round).cloned().collect();
        let Some(tree) = trees.last().filter(|_| !suspects.is_empty()) else { return Ok(judgement) };
        round += 1;
        let names: Vec<String> = suspects.iter().map(|(task, cell)| format!("{task}/{cell}")).collect();
        tree.feedback.detail(&format!("possible regression, running again: {}", names.join(", ")));
        let is_suspect = |task: &str, cell: &str| suspects.iter().any(|(of, name)| of == task && name == cell);
        let wanted = |task: &TaskConfig, cell: &str| is_suspect(&task.name, cell).then_some(task.repeats.runs);
        let again = turns(trees, session, wanted, |_, _| Ok(()))?;
        batches.iter_mut().zip(again).for_each(|(batches, runs)| batches.push(runs));
    }
}

/// Runs cells in turns, and each in one tree after the other, so that drift of the machine affects all of them alike.
fn turns(
    trees: &mut [&mut Bench<'_>],
    session: &mut dyn Session,
    times: impl Fn(&TaskConfig, &str) -> Option<u32>,
    mut first: impl FnMut(usize, &Run) -> Result<(), Failure>,
) -> Result<Vec<Vec<Run>>, Failure> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); trees.len()];
    let cells = trees.first().map_or(&[][..], |tree| &tree.cells);
    let wanted: Vec<u32> = cells.iter().map(|cell| times(cell.task, &cell.name).unwrap_or(0)).collect();
    let mut failed = vec![vec![false; wanted.len()]; trees.len()];
    for number in 1..=wanted.iter().copied().max().unwrap_or(0) {
        for place in 0..wanted.len() {
            for (tree, bench) in trees.iter_mut().enumerate() {
                // What failed once will fail again.
                if number > wanted[place] || failed[tree][place] {
                    continue;
                }
                let run = bench.run(session, place).map_err(|failure| bench.name_tree(failure))?;
                failed[tree][place] = !run.observation.outcome.succeeded();
                if number == 1 {
                    first(tree, &run)?;
                }
                runs[tree].push(run);
            }
        }
    }
    Ok(runs)
}

fn enter(directory: Option<&Path>) -> Result<(), Failure> {
    let Some(directory) = directory else { return Ok(()) };
    std::env::set_current_dir(directory)
        .map_err(|source| Failure::host(Failed::to(format!("enter {}", directory.display()), source)))
}

/// An image is the same in both trees, so that only what is mounted into it can differ.
fn same_image(config: &Config, task: &str, image: &str, feedback: &dyn Feedback) -> Result<(), Failure> {
    let same = format!("the task {task} runs the same image in both revisions: {image}");
    // A relative source is a directory of the tree.
    let is_of_tree = |mount: &String| !mount.starts_with("{input}") && !mount.starts_with('/');
    if config.tasks.iter().any(|it| it.name == task && it.mount.iter().any(is_of_tree)) {
        feedback.note(&format!("{same}; only what is mounted into it is compared"));
        return Ok(());
    }
    let help = "compare an image with a baseline, or name an image of its own in the task.json of each revision";
    Err(Failure::usage(same, help))
}

impl Cell<'_> {
    fn options(&self, check: &CheckOptions, number: u32) -> Result<RunOptions, Failure> {
        let mut options = RunOptions {
            // The process that starts tasks may still be in another directory.
            directory: check.directory.clone(),
            env: self.env.clone(),
            // Standard input can be read only once, and the task's stdout must not mix with the report.
            stdin: Stdin::Null,
            stdout: Output::Null,
            ..RunOptions::default()
        };
        if let Some(folder) = &check.log_dir {
            let name = |text: &str| text.replace(|char: char| !(char.is_alphanumeric() || "-_.".contains(char)), "_");
            let tree = check.revision.as_ref().map_or_else(String::new, |revision| format!("{}.", name(revision)));
            options.output_to(folder, &format!("{tree}{}.{}.{number}.", name(&self.task.name), name(&self.name)))?;
        }
        Ok(options)
    }
}

fn cell<'a>(
    engine: &EngineOptions,
    task: &'a TaskConfig,
    input: &InputConfig,
    feedback: &dyn Feedback,
) -> Result<Cell<'a>, Failure> {
    let spec = spec(engine, task, input).map_err(|source| {
        let place = task
            .line
            .map_or_else(|| "configured in no file".to_owned(), |line| format!("line {line} of the configuration"));
        let error = Failed::to(format!("run {}/{} ({place})", task.name, input.name), source);
        Failure::usage(error, "correct `options` or `mount` of this task")
    })?;
    let skip_status = spec.skip_status;
    let workload = Workload::open(&spec, feedback)?;
    workload.require_inputs()?;
    let mut context = workload.about();
    match &task.workload {
        WorkloadSpec::Task(_) => {}
        WorkloadSpec::Command(_) | WorkloadSpec::Image(..) => {
            context.subject.name = Some(task.name.clone());
            context.inputs = sizes(task, input)?.into_iter().collect();
        }
    }
    context.sweep = Some(SweepRun {
        cell: format!("{}/{}", task.name, input.name),
        case: input.name.clone(),
        run: 0,
        parameters: input.parameters.clone(),
        synthetic: false,
    });
    let env = task.env.iter().filter(|(name, _)| !input.env.contains_key(*name)).chain(&input.env);
    let env = env.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Cell { task, name: input.name.clone(), workload, context, env, skip_status })
}

/// What a cell of the configuration runs. The command line overrides the engine.
fn spec(engine: &EngineOptions, task: &TaskConfig, input: &InputConfig) -> Result<Spec, SettingError> {
    let mut all = settings::from_words(&input.words(&task.options))?;
    let mut set = |name: &str, value: serde_json::Value| all.insert(name.to_owned(), value);
    match &task.workload {
        WorkloadSpec::Task(path) => {
            set("task", path.to_string_lossy().into_owned().into());
        }
        WorkloadSpec::Command(command) => {
            set("command", input.words(command).into());
        }
        WorkloadSpec::Image(image, command) => {
            set("image", image.clone().into());
            set("command", input.words(command).into());
        }
    }
    let mut mounts = input.words(&task.mount);
    mounts.extend(all.get("mount").map(settings::as_list).unwrap_or_default());
    all.insert("mount".to_owned(), mounts.into());
    let spec = Spec::from_settings(&all)?;
    let mut spec = spec.ok_or_else(|| SettingError::new("", "the task names nothing to run"))?;
    if let WorkloadSpec::Task(path) = &task.workload {
        spec.what = Runnable::Task { path: path.clone(), in_container: task.runner != RunnerChoice::Process };
        spec.task.processing_container = task.processing_container.clone().or(spec.task.processing_container);
        let set = task.set.iter().filter(|(key, _)| !input.set.contains_key(*key)).chain(&input.set);
        spec.task.set.extend(set.map(|(key, value)| format!("{key}={value}")));
    }
    spec.task.channels.clone_from(&input.channels);
    spec.inputs = input.path.iter().cloned().collect();
    spec.is_sample = true;
    if engine.host.is_some() {
        spec.engine.host.clone_from(&engine.host);
    }
    if engine.pull != PullPolicy::default() {
        spec.engine.pull = engine.pull;
    }
    Ok(spec)
}

/// The size of a command's input: the configured one, or that of the file or directory.
fn sizes(task: &TaskConfig, input: &InputConfig) -> Result<Option<InputSizes>, Failure> {
    if let Some(sum) = input.size {
        let all = Sizes { files: 1, sum, ..Sizes::default() };
        return Ok(Some(InputSizes { channel: INPUT.to_owned(), all, by_extension: BTreeMap::new() }));
    }
    let Some(path) = &input.path else { return Ok(None) };
    let sizes = sizes_of(std::slice::from_ref(path), &()).map_err(|source| {
        let doing = format!("read the input {} of {}/{}", path.display(), task.name, input.name);
        let help = "correct `path` in highwater.toml; it is relative to the directory of that file";
        Failure::usage(Failed::to(doing, source), help)
    })?;
    Ok(Some(sizes))
}
