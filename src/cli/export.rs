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
  highwater export sweeps/lungs/ > lungs.csv   one row per run
  highwater export runs.jsonl --format json    the same as an array of objects
  highwater export sweeps/lungs/ -o lungs.csv  to a file, which is replaced
  highwater export --columns                   what the columns contain
  highwater export sweeps/lungs/ | highwater fit -

A cell is empty if the run has no such value. The column unread names the numbers that could not be read \
(`unsupported`, `gone`) and absent limits (`none`). The names of the columns contain the units; seconds have up to six decimals and are exact. In addition to the \
columns of --columns, there are for each channel input_bytes.CHANNEL.sum, .max_file_size and .max_item_sum, \
input_files.CHANNEL, input_items.CHANNEL and the names of the largest; the same for the files with one extension, as \
extension_bytes.CHANNEL[*.EXT].sum and so on; and for each parameter parameter.NAME.

A string that a spreadsheet would take for a formula, because it begins with = + - or @ and is not a number, is \
preceded by a '. One with control characters is written as a JSON string. `highwater import` and `highwater fit` undo \
both.

`highwater import` reads the table back as the same observations, except for the samples of memory over time.";

/// Write records as one flat table: CSV, or a JSON array.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ExportArgs {
    /// Directory of a sweep, or file of records.
    #[arg(value_name = "RECORDS", required_unless_present = "columns")]
    records: Vec<PathBuf>,
    /// Format of the table.
    #[arg(long, value_enum, default_value_t = TableFormat::Csv)]
    format: TableFormat,
    /// Write the table to this file instead of stdout. An existing file is replaced as a whole.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// List the columns of every table and what they contain, instead of exporting records.
    #[arg(long, conflicts_with_all = ["records", "output"])]
    columns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TableFormat {
    /// Comma-separated values with a header.
    Csv,
    /// Array of objects with the same names; empty values are omitted.
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
            TableError::Read(error) => Unfinished::Other(records::unreadable(error)),
            error => Unfinished::Other(Failure::new(Exit::Usage, &error, None)),
        })
    })?;
    unusable.into_iter().flatten().for_each(|(path, unusable)| records::say_unusable(&path, &unusable));
    Ok(Exit::Done)
}
