//! Reads the records given to a command, and reports unusable lines.

use std::path::Path;

use highwater::model::observation::Observation;
use highwater::store::{FolderError, ReadError, Record, Source, StoreError, Unusable};

use super::failure::Failure;
use super::output;

/// Opens a file of records or the directory of a sweep, to be read record by record.
pub(crate) fn open(path: &Path) -> Result<Source, Failure> {
    Source::open(path).map_err(unreadable)
}

/// Opens records to be read more than once: a pipe is copied into a temporary file.
pub(crate) fn open_rereadable(path: &Path) -> Result<Source, Failure> {
    Source::open(path).and_then(Source::rereadable).map_err(unreadable)
}

/// Passes each record to `take` in order, reports unusable lines, and returns their number.
pub(crate) fn each(source: &Source, take: impl FnMut(Observation)) -> Result<usize, Failure> {
    let unusable = source.each(take).map_err(unreadable)?;
    unusable.iter().for_each(|unusable| say_unusable(source.path(), unusable));
    Ok(unusable.len())
}

/// Reports a skipped line.
pub(crate) fn say_unusable(path: &Path, unusable: &Unusable) {
    output::say(&format!("highwater: {}", unusable.describe(path)));
}

/// Records that cannot be read, with the remedy.
pub(crate) fn unreadable(error: ReadError) -> Failure {
    Failure::from_library(error)
}

/// Opens the file given with `--record`, if any, to append to it.
pub(crate) fn open_record(path: Option<&Path>) -> Result<Option<Record>, Failure> {
    path.map(Record::open).transpose().map_err(unstored)
}

/// A record that cannot be stored, with the remedy.
pub(crate) fn unstored(error: StoreError) -> Failure {
    Failure::from_library(error)
}

/// A sweep directory that cannot be used, with the remedy.
pub(crate) fn unusable_folder(error: FolderError) -> Failure {
    Failure::from_library(error)
}
