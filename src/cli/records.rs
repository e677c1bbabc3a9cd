//! Reads the records given to a command, and reports unusable lines.

use std::path::Path;

use highwater::directory::Refusal;
use highwater::model::observation::Observation;
use highwater::store::{FolderError, ReadError, Record, Source, StoreError, Unusable};

use super::exit::Exit;
use super::failure::Failure;
use super::output;

/// The remedy for a full disk while recording.
pub(crate) const NO_ROOM: &str =
    "make room on the disk (or raise `ulimit -f`), then continue; the existing records are intact";

/// Opens a file of records or the directory of a sweep, to be read record by record.
pub(crate) fn open(path: &Path) -> Result<Source, Failure> {
    Source::open(path).map_err(|error| unreadable(&error))
}

/// Opens records to be read more than once: a pipe is copied into a temporary file.
pub(crate) fn open_rereadable(path: &Path) -> Result<Source, Failure> {
    Source::open(path).and_then(Source::rereadable).map_err(|error| unreadable(&error))
}

/// Passes each record to `take` in order, reports unusable lines, and returns their number.
pub(crate) fn each(source: &Source, take: impl FnMut(Observation)) -> Result<usize, Failure> {
    let unusable = source.each(take).map_err(|error| unreadable(&error))?;
    unusable.iter().for_each(|unusable| say_unusable(source.path(), unusable));
    Ok(unusable.len())
}

/// Reports a skipped line.
pub(crate) fn say_unusable(path: &Path, unusable: &Unusable) {
    let what = if unusable.torn { "incomplete, because its writer was killed" } else { unusable.reason.as_str() };
    output::say(&format!("highwater: {}:{}: skipped: {what}", path.display(), unusable.line));
}

/// Records that cannot be read, with the remedy.
pub(crate) fn unreadable(error: &ReadError) -> Failure {
    let help = match error {
        ReadError::Newer { .. } => "update highwater",
        ReadError::Unreadable { .. } | ReadError::LongLine { .. } | ReadError::NoRecords(_) => {
            "give a file written by `highwater run --record` or a directory written by `highwater sweep`"
        }
    };
    Failure::new(Exit::Usage, error, Some(help.to_owned()))
}

/// Opens the file given with `--record`, if any, to append to it.
pub(crate) fn open_record(path: Option<&Path>) -> Result<Option<Record>, Failure> {
    path.map(Record::open).transpose().map_err(|error| unstored(&error))
}

/// A record that cannot be stored, with the remedy.
pub(crate) fn unstored(error: &StoreError) -> Failure {
    let help = match error {
        StoreError::Moved { .. } => Some("move it back, then continue; a removed file cannot be recovered"),
        _ if error.is_out_of_space() => Some(NO_ROOM),
        StoreError::Open { .. } | StoreError::Append { .. } | StoreError::Encode(_) => {
            error.refusal().map(Refusal::remedy)
        }
    };
    Failure::new(Exit::Host, error, help.map(str::to_owned))
}

/// A sweep directory that cannot be used, with the remedy.
pub(crate) fn unusable_folder(error: &FolderError) -> Failure {
    if let Some(refusal) = error.refusal() {
        return Failure::new(Exit::Usage, error, Some(refusal.remedy().to_owned()));
    }
    let (exit, help) = match error {
        FolderError::Read(error) => return unreadable(error),
        FolderError::Exists(_) => (Exit::Usage, Some("continue that sweep, or choose another directory")),
        FolderError::NotEmpty { .. } => (Exit::Usage, Some("choose an empty or new directory")),
        FolderError::NoPlan(_) => (Exit::Usage, Some("give a directory created by `highwater sweep`")),
        FolderError::NotAPlan { .. } => (Exit::Usage, None),
        FolderError::NewerPlan { .. } => (Exit::Usage, Some("update highwater")),
        FolderError::Held { .. } => {
            (Exit::Host, Some("wait for that process or stop it; only one process at a time can write to a directory"))
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
