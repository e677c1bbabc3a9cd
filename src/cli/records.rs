//! Reads the records that a command is given, and says which lines it could not use.

use std::path::Path;

use highwater::store::{self, Records};

use super::exit::Exit;
use super::failure::Failure;
use super::output;

/// A file of records or a folder of a sweep.
pub(crate) fn read(path: &Path) -> Result<Records, Failure> {
    let records = store::read(path).map_err(|error| {
        let help = match &error {
            store::ReadError::Newer { .. } => "update highwater",
            store::ReadError::Unreadable { .. } | store::ReadError::NoRecords(_) => {
                "name a file that `highwater run --record` or a folder that `highwater sweep` has written"
            }
        };
        Failure::new(Exit::Usage, &error, Some(help.to_owned()))
    })?;
    for unusable in &records.unusable {
        let what = if unusable.torn { "torn, its writer was killed" } else { unusable.reason.as_str() };
        output::say(&format!("highwater: {}:{}: left out: {what}", records.path.display(), unusable.line));
    }
    Ok(records)
}
