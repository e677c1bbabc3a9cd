//! Reads the records that a command is given, and says which lines it could not use.

use std::path::Path;

use highwater::directory::Refusal;
use highwater::model::observation::Observation;
use highwater::store::{FolderError, ReadError, Record, Source, StoreError, Unusable};

use super::exit::Exit;
use super::failure::Failure;
use super::output;

/// What to do about a full disk while something is recorded.
pub(crate) const NO_ROOM: &str =
    "make room on the disk (or raise the limit of `ulimit -f`), then go on: what was recorded is whole";

/// Opens a file of records or a folder of a sweep, to be read record by record.
pub(crate) fn open(path: &Path) -> Result<Source, Failure> {
    Source::open(path).map_err(|error| unreadable(&error))
}

/// The same for records that are read more than once: a pipe is copied into a temporary file.
pub(crate) fn open_rereadable(path: &Path) -> Result<Source, Failure> {
    Source::open(path).and_then(Source::rereadable).map_err(|error| unreadable(&error))
}

/// Hands each record to `take`, in their order, says which lines could not be used, and returns how many these are.
pub(crate) fn each(source: &Source, take: impl FnMut(Observation)) -> Result<usize, Failure> {
    let unusable = source.each(take).map_err(|error| unreadable(&error))?;
    unusable.iter().for_each(|unusable| say_unusable(source.path(), unusable));
    Ok(unusable.len())
}

/// Says that a line was passed over, and why.
pub(crate) fn say_unusable(path: &Path, unusable: &Unusable) {
    let what = if unusable.torn { "torn, its writer was killed" } else { unusable.reason.as_str() };
    output::say(&format!("highwater: {}:{}: left out: {what}", path.display(), unusable.line));
}

/// Records that cannot be read, with what to do about it.
pub(crate) fn unreadable(error: &ReadError) -> Failure {
    let help = match error {
        ReadError::Newer { .. } => "update highwater",
        ReadError::Unreadable { .. } | ReadError::LongLine { .. } | ReadError::NoRecords(_) => {
            "name a file that `highwater run --record` or a folder that `highwater sweep` has written"
        }
    };
    Failure::new(Exit::Usage, error, Some(help.to_owned()))
}

/// Opens the file that `--record` names, if it does, to append to it.
pub(crate) fn open_record(path: Option<&Path>) -> Result<Option<Record>, Failure> {
    path.map(Record::open).transpose().map_err(|error| unstored(&error))
}

/// A record that cannot be kept, with what to do about it.
pub(crate) fn unstored(error: &StoreError) -> Failure {
    let help = match error {
        StoreError::Moved { .. } => Some("move it back, then go on; what is in a file that was removed is lost"),
        _ if error.is_out_of_space() => Some(NO_ROOM),
        StoreError::Open { .. } | StoreError::Append { .. } | StoreError::Encode(_) => {
            error.refusal().map(Refusal::remedy)
        }
    };
    Failure::new(Exit::Host, error, help.map(str::to_owned))
}

/// The folder of a sweep that cannot be used, with what to do about it.
pub(crate) fn unusable_folder(error: &FolderError) -> Failure {
    if let Some(refusal) = error.refusal() {
        return Failure::new(Exit::Usage, error, Some(refusal.remedy().to_owned()));
    }
    let (exit, help) = match error {
        FolderError::Read(error) => return unreadable(error),
        FolderError::Exists(_) => (Exit::Usage, Some("go on with it, or name another folder")),
        FolderError::NotEmpty { .. } => (Exit::Usage, Some("name a folder that is empty or not there yet")),
        FolderError::NoPlan(_) => (Exit::Usage, Some("name a folder that `highwater sweep` has made")),
        FolderError::NotAPlan { .. } => (Exit::Usage, None),
        FolderError::NewerPlan { .. } => (Exit::Usage, Some("update highwater")),
        FolderError::Held { .. } => {
            (Exit::Host, Some("wait for it, or end it: one process at a time writes to a folder"))
        }
        FolderError::Store(error) => return unstored(error),
        FolderError::Make { .. }
        | FolderError::Lock { .. }
        | FolderError::ReadPlan { .. }
        | FolderError::WritePlan { .. }
        | FolderError::Keep { .. }
        | FolderError::Mend { .. } => (Exit::Host, error.is_out_of_space().then_some(NO_ROOM)),
    };
    Failure::new(exit, error, help.map(str::to_owned))
}
