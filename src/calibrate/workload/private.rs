//! A task that gets a copy of its input for each run.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::host::machine::Machine;
use crate::model::observation::Warning;
use crate::model::plan::InputSource;
use crate::model::prediction::{ChannelSize, Prediction};
use crate::model::task::{ChannelKind, Task};
use crate::model::units::Bytes;
use crate::runner::originals::Guard;
use crate::runner::patience::Patience;
use crate::runner::staging::{Staged, Staging, StagingError};
use crate::runner::{Runner, Running, StartError};
use nix::unistd::geteuid;

use super::inputs::{self, Mounting};
use super::process::ProcessWorkload;
use super::{RunOptions, Workload};
use crate::calibrate::failure::{Category, Failure};
use crate::calibrate::monitor::WatchOptions;

/// A task that gets a copy of its input for each run.
pub struct PrivateTask {
    /// The task with its original input, which is never started.
    on_originals: Workload,
    task: Task,
    prediction: Prediction,
    guard: Guard,
    staging: Staging,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: u32,
    /// Warnings about the input for the record of the last run.
    notes: Vec<Warning>,
}

impl PrivateTask {
    /// Wraps a task that was read.
    pub(super) fn new(mut start: Workload) -> Result<Self, Failure> {
        let (task, guard, prediction) = match &mut start {
            Workload::Process(what) => (what.task.take(), what.guard.take(), what.prediction.clone()),
            Workload::Container(container) => {
                (container.task.take(), container.guard.take(), container.prediction.clone())
            }
            Workload::Private(_) => (None, None, None),
        };
        let (Some(task), Some(guard), Some(prediction)) = (task, guard, prediction) else {
            let error = "failed to copy the input of the command: its input is unknown";
            return Err(Failure::new(Category::System, error, None));
        };
        let staging = open_staging().map_err(unstaged)?;
        let state = Mutex::default();
        Ok(Self { on_originals: start, task: *task, prediction, guard, staging, state })
    }

    pub(super) fn on_originals(&self) -> &Workload {
        &self.on_originals
    }

    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Warnings for the record of the last run.
    pub(super) fn notes(&self) -> Vec<Warning> {
        self.lock().notes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A runner of the task with a copy of its input, which lives as long as the runner.
    pub(super) fn runner(
        &self,
        machine: &Machine,
        conditions: &RunOptions,
        watch: &WatchOptions,
    ) -> Result<Box<dyn Runner>, Failure> {
        let mut state = self.lock();
        state.runs += 1;
        let mut task = self.task.clone();
        let mut copies = Vec::new();
        let can_mount = self.guard.protects() && inputs::can_be_overlaid(&task);
        for channel in task.channels.iter_mut().filter(|channel| channel.kind == ChannelKind::Input) {
            let Some(path) = &channel.host_path else { continue };
            let material = InputSource::Directory(path.clone());
            let name = format!("{}-{}", state.runs, copies.len());
            let size = self.prediction.channels.iter().find(|known| known.name == channel.name);
            let size = match size.map(|known| &known.size) {
                Some(ChannelSize::Known { all, .. }) => all.sum,
                Some(ChannelSize::Unknown { .. } | ChannelSize::NotSurveyed) | None => Bytes::ZERO,
            };
            let copy = self
                .staging
                .stage(&name, &material)
                .and_then(|staged| self.staging.private(&name, (&staged, &material), size, can_mount))
                .map_err(unstaged)?;
            channel.host_path = Some(copy.input().to_owned());
            copies.push(copy);
        }
        let staged: Vec<&Staged> = copies.iter().collect();
        let mounting = Mounting { guard: &self.guard, staged: &staged, known: None };
        let start = match &self.on_originals {
            Workload::Container(container) => {
                let mut container = container.on_copies(&self.task, &task);
                container.protect(mounting)?;
                Workload::Container(Box::new(container))
            }
            Workload::Process(_) | Workload::Private(_) => {
                Workload::Process(Box::new(ProcessWorkload::of_task(&task, self.prediction.clone(), mounting)?.0))
            }
        };
        state.notes = start.about().notes;
        let runner = start.runner(machine, conditions, watch)?;
        Ok(Box::new(WithCopies { runner, _copies: copies }))
    }
}

/// A runner and the copies that its task uses.
struct WithCopies {
    runner: Box<dyn Runner>,
    _copies: Vec<Staged>,
}

impl Runner for WithCopies {
    fn start(&mut self, patience: &mut Patience<'_>) -> Result<Box<dyn Running>, StartError> {
        self.runner.start(patience)
    }
}

/// Creates a directory on disk for copies, and removes those that a killed highwater of this user left behind.
fn open_staging() -> Result<Staging, StagingError> {
    let parent = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let prefix = format!("highwater-inputs-{}-", geteuid());
    for entry in std::fs::read_dir(&parent).into_iter().flatten().filter_map(Result::ok) {
        let is_ours = entry.metadata().is_ok_and(|there| there.is_dir() && there.uid() == geteuid().as_raw());
        if is_ours && entry.file_name().to_string_lossy().starts_with(&prefix) {
            // Dropping it removes its content; opening fails if it is in use.
            drop(Staging::open(&entry.path()));
        }
    }
    match tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent) {
        Ok(folder) => Staging::open(&folder.keep()),
        Err(source) => Err(StagingError::Failed { action: "make a directory in", path: parent, source }),
    }
}

fn unstaged(error: StagingError) -> Failure {
    inputs::unstaged(error, "make room on the disk, or name a directory on another one with TMPDIR")
}
