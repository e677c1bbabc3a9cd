//! How a task may access its input, and how highwater protects the user's data.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::calibrate::failure::{Category, Failed, Failure};
use crate::calibrate::feedback::Feedback;
use crate::directory::Refusal;
use crate::model::observation::{InputSizes, Observation, Warning};
use crate::model::task::Task;
use crate::runner::originals::{Change, Guard, Originals};
use crate::runner::staging::{Staged, StagingError};
use crate::runner::tail;
use crate::runner::view::{Mount, Overlay, View, ViewError};
use crate::tree::{Options, TreeError, list_paths};

/// The name of a bare command's input channel.
pub(crate) const INPUT: &str = "input";

/// How a task may use its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputAccess {
    /// The input is read-only for the task, whichever path it takes. For a process of an ordinary user who could write
    /// to the data, this requires a user namespace, in which su and sudo do not work.
    #[default]
    ReadOnly,
    /// Each run gets a copy that it may write to: a clone, an overlay (processes, as root) or a full copy. The copy is
    /// removed after the run.
    Private,
    /// No mount namespace for a process: changes are not prevented, only detected after the run. Container mounts stay
    /// read-only.
    Watched,
}

impl InputAccess {
    /// The name of this access in the key of a cell; `None` if it does not affect measurements.
    pub(crate) fn in_key(self) -> Option<String> {
        match self {
            Self::Private => Some("private".to_owned()),
            Self::ReadOnly | Self::Watched => None,
        }
    }

    /// Guards these inputs of a process or a container, except for paths that tasks may write to.
    pub(crate) fn guard<'a>(
        self,
        inputs: impl IntoIterator<Item = &'a Path>,
        except: impl IntoIterator<Item = &'a Path>,
        is_process: bool,
    ) -> Result<Guard, Failure> {
        let inputs = inputs.into_iter().filter(|input| input.exists());
        let originals = Originals::read(inputs, except).map_err(unreadable)?;
        if !is_process {
            // The engine mounts every input read-only unless it is a private copy.
            return Ok(Guard::watch(originals, None));
        }
        Ok(match self {
            Self::Watched => Guard::watch(originals, Some("--input-access watched".to_owned())),
            Self::ReadOnly | Self::Private => Guard::new(originals),
        })
    }

    /// Guards the inputs of a task, which may write to its outputs.
    pub(super) fn guard_of_task(self, task: &Task, is_process: bool) -> Result<Guard, Failure> {
        let inputs = task.inputs().filter_map(|input| input.host_path.as_deref());
        let outputs = task.outputs().filter_map(|output| output.host_path.as_deref());
        self.guard(inputs, outputs, is_process)
    }
}

/// Whether overlays can show its inputs: a channel mounted inside an input needs a directory there.
pub(crate) fn can_be_overlaid(task: &Task) -> bool {
    task.inputs().all(|input| {
        let is_inside = |path: &str| path != input.mounted_path && Path::new(path).starts_with(&input.mounted_path);
        !task.channels.iter().any(|channel| is_inside(&channel.mounted_path))
    })
}

/// An input could not be staged or copied; `room` is the remedy for a full disk.
pub(crate) fn unstaged(error: StagingError, room: &str) -> Failure {
    let help = if error.is_out_of_space() { Some(room) } else { error.refusal().map(Refusal::remedy) };
    let help = help.map(str::to_owned);
    Failure::new(Category::Host, error, help)
}

/// The sizes of an input that is given as files and directories.
///
/// # Errors
/// If one of them cannot be read.
pub fn sizes_of(paths: &[PathBuf], feedback: &dyn Feedback) -> Result<InputSizes, TreeError> {
    let tell = |progress| feedback.reading(Some(progress));
    let options = Options { progress: feedback.shows_reading().then_some(&tell), ..Options::default() };
    let listing = list_paths(paths, &options);
    feedback.reading(None);
    let listing = listing?;
    Ok(InputSizes { channel: INPUT.to_owned(), all: listing.sizes(None)?, by_extension: listing.by_extension() })
}

/// What a process sees of its inputs.
#[derive(Clone, Copy)]
pub(crate) struct Mounting<'a> {
    pub(crate) guard: &'a Guard,
    /// Inputs that were staged, or belong to the run.
    pub(crate) staged: &'a [&'a Staged],
    /// The cached view of an earlier process with the same inputs: creating one takes a few milliseconds.
    pub(crate) known: Option<&'a OnceLock<Option<Arc<View>>>>,
}

impl Mounting<'_> {
    /// Mounts this directory of the host at the target of a channel.
    pub(super) fn channel(&self, source: PathBuf, target: PathBuf, read_only: bool) -> Vec<Mount> {
        match self.staged.iter().find(|staged| staged.input() == source) {
            Some(staged) => staged.mounts_at(&target),
            None => vec![Mount { source, target, read_only }],
        }
    }

    /// A mount namespace with these additional mounts; `None` if it would not differ from the host's.
    pub(crate) fn view(&self, mounts: Vec<Mount>) -> Result<Option<Arc<View>>, ViewError> {
        let known = self.known.filter(|_| mounts.is_empty());
        if let Some(view) = known.and_then(OnceLock::get) {
            return Ok(view.clone());
        }
        let view = self.open_view(mounts)?.map(Arc::new);
        Ok(match known {
            Some(known) => known.get_or_init(|| view).clone(),
            None => view,
        })
    }

    fn open_view(&self, mut mounts: Vec<Mount>) -> Result<Option<View>, ViewError> {
        if self.guard.allows_mounts() {
            // Without anything to protect, only what is shown by mounts needs them.
            let is_needed = |staged: &Staged| self.guard.protects() || !staged.mounts().is_empty();
            let staged = self.staged.iter().filter(|staged| staged.is_made() && !staged.is_private());
            let staged = staged.filter(|staged| is_needed(staged));
            mounts.extend(
                staged.filter(|staged| staged.input().is_dir()).flat_map(|staged| staged.mounts_at(staged.input())),
            );
        }
        let overlays: Vec<Overlay> = self.staged.iter().filter_map(|staged| staged.overlay().cloned()).collect();
        self.guard.view(&mounts, &overlays)
    }
}

/// Warnings about the input for the record of a run.
pub(crate) fn notes(guard: &Guard, staged: &[&Staged]) -> Vec<Warning> {
    let private = staged.iter().find_map(|staged| staged.describe_private());
    let private = private.map(|method| Warning::PrivateInput { method: method.to_owned() });
    let watched = guard.obstacle();
    let watched = watched.map(|reason| Warning::InputUnprotected { reason: reason.to_owned() });
    private.into_iter().chain(watched).collect()
}

/// How much of the end of a task's stderr to search.
const LAST_ERRORS: u64 = 64 << 10;

/// A hint for a failed task whose stderr, in this file, says that it could not write.
pub(crate) fn hint(errors: &Path) -> Option<Warning> {
    let text = tail::end_of_file(errors, LAST_ERRORS).ok()?;
    let says_so = String::from_utf8_lossy(&text).contains("Read-only file system");
    says_so.then_some(Warning::ReadOnlyFileSystem)
}

/// The number of changes to list.
const MOST_CHANGES: usize = 5;

/// The failure that stops further runs if the input has changed.
pub(crate) fn changed(changes: &[Change]) -> Option<Failure> {
    let changed = Changed::new(changes)?;
    let help = "restore the data, and use --input-access private for a task that writes to its input";
    Some(Failure::new(Category::TaskFailed, changed, Some(help.to_owned())))
}

/// The same failure, also noted in the record of the run.
pub(crate) fn note_changes(observation: &mut Observation, changes: &[Change]) -> Option<Failure> {
    observation.warnings.extend(Changed::new(changes).map(|Changed(warning)| warning));
    changed(changes)
}

impl Changed {
    fn new(changes: &[Change]) -> Option<Self> {
        let more = changes.len().saturating_sub(MOST_CHANGES) as u64;
        let named: Vec<String> = changes.iter().take(MOST_CHANGES).map(ToString::to_string).collect();
        (!named.is_empty()).then_some(Self(Warning::InputChanged { changes: named, more }))
    }
}

/// The input has changed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Changed(Warning);

/// The state of an input could not be read.
pub(crate) fn unreadable(source: std::io::Error) -> Failure {
    Failure::host(Failed::to("read the input", source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_record_of_a_process_says_that_its_input_was_not_protected() {
        let input = tempfile::tempdir().unwrap();
        let notes = |is_process| notes(&InputAccess::Watched.guard([input.path()], [], is_process).unwrap(), &[]);
        assert_eq!(notes(false), [], "the mounts of a container are read-only");
        assert_eq!(notes(true).len(), 1);
    }
}
