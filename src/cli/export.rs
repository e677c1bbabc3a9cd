//! `highwater export`: records as one flat table.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use highwater::store::table::{self, TableError};

use super::exit::Exit;
use super::failure::Failure;
use super::output::{self, Unfinished};
use super::records;

const EXAMPLES: &str = "\
Examples:
  highwater export sweeps/lungs/ > lungs.csv   a row for each run
  highwater export runs.jsonl --format json    the same as an array of objects
  highwater export sweeps/lungs/ -o lungs.csv  into a file, which is replaced
  highwater export --columns                   what the columns hold
  highwater export sweeps/lungs/ | highwater fit -

A cell is empty where there is no such thing for that run, `unsupported` or `gone` where it could not be read, `none` \
where there is no limit. The units are in the names of the columns; seconds have up to six decimals and are exact. \
Beside the columns of --columns there are, for each channel, input_bytes.CHANNEL.sum, .max_file_size and .max_item_sum, \
input_files.CHANNEL, input_items.CHANNEL and the names of the largest; the same for the files with one extension, as \
extension_bytes.CHANNEL[*.EXT].sum and so on; and for each parameter parameter.NAME.

A string that a spreadsheet would take for a formula, because it begins with = + - or @ and is not a number, is preceded \
by a '. One with control characters is written as a JSON string. `highwater import` and `highwater fit` undo both.

`highwater import` reads the table back: the same observations, but for the samples of memory over time.";

/// Writes records as one flat table: CSV, or a JSON array.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// A folder that `highwater sweep` has written, or a file of records.
    #[arg(value_name = "RECORDS", required_unless_present = "columns")]
    records: Vec<PathBuf>,
    /// How the table is written.
    #[arg(long, value_enum, default_value_t = TableFormat::Csv)]
    format: TableFormat,
    /// Write it to this file instead of stdout. A file that is there is replaced as a whole.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// List the columns that every table has, with what they hold, instead of any records.
    #[arg(long, conflicts_with_all = ["records", "output"])]
    columns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// Comma-separated values, a header first.
    Csv,
    /// An array of objects with the same names; what is empty is left out.
    Json,
}

pub(crate) fn run(args: &ExportArgs) -> Result<Exit, Failure> {
    if args.columns {
        let rows = table::columns().iter().map(|column| vec![column.name.to_owned(), column.holds.to_owned()]);
        output::data(&super::table::table(&["column", "holds"], rows.collect()))?;
        return Ok(Exit::Done);
    }
    let sources =
        args.records.iter().map(|path| records::open_rereadable(path)).collect::<Result<Vec<_>, Failure>>()?;
    let format = match args.format {
        TableFormat::Csv => table::Format::Csv,
        TableFormat::Json => table::Format::Json,
    };
    let unusable = output::data_with(args.output.as_deref(), |out| {
        table::write(&sources, format, out).map_err(|error| match error {
            TableError::Write(error) => Unfinished::Unwritten(error),
            TableError::Read(error) => Unfinished::Other(records::unreadable(&error)),
            TableError::Encode(_) => Unfinished::Other(Failure::new(Exit::Usage, &error, None)),
        })
    })?;
    unusable.into_iter().flatten().for_each(|(path, unusable)| records::say_unusable(&path, &unusable));
    Ok(Exit::Done)
}
