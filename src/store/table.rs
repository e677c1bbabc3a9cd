//! Records as one flat table: written by `highwater export`, read by `highwater import`.
//!
//! Each row is a run. [`columns`] describes the fixed columns; there are further ones for each channel
//! (`input_bytes.CHANNEL.sum`, …) and each parameter (`parameter.NAME`). Units are in the names.
//!
//! | cell | meaning |
//! | --- | --- |
//! | empty | not applicable to this run, or no number: see the column `unread` |
//! | a number | integer bytes and counts; seconds with up to six decimals, which is exact |
//!
//! `unread` is a JSON object with the columns whose number could not be read (`unsupported`, `gone`; so do those that are
//! read together with it), and absent limits (`none`).
//!
//! A string that a spreadsheet would take for a formula (it begins with `=`, `+`, `-` or `@` and is not a number) is
//! prefixed with `'`; one with control characters is written as a JSON string. Reading the table undoes both.
//!
//! A table contains everything in an observation but the samples of its series. An empty string means no value.

mod cell;
mod columns;
mod inputs;
mod parameters;
mod parse;
mod pointer;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

use csv::WriterBuilder;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde::ser::{SerializeSeq, Serializer};
use serde_json::Value;

use super::read::{ReadError, Source, Unusable};
use crate::model::delimited::Rows;
use crate::model::escape;
use crate::model::observation::Observation;

use columns::Kind;
pub use columns::{Column, columns};
pub use parse::{LeftOut, parse};

pub(super) use cell::micros;

/// A table could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// An observation that has no JSON form, such as one with a path that is not UTF-8.
    #[error("failed to write an observation as JSON")]
    Encode(#[from] serde_json::Error),
    /// A row could not be written.
    #[error("failed to write the table")]
    Write(#[from] io::Error),
    /// The records could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<csv::Error> for TableError {
    fn from(error: csv::Error) -> Self {
        // Keep the error of the system: a closed pipe is not a failure.
        Self::Write(match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => io::Error::other(format!("{other:?}")),
        })
    }
}

/// The format of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, a header first.
    Csv,
    /// A JSON array of flat objects without the values that are empty in CSV.
    Json,
}

/// Writes records as one table, row by row. The sources are read twice. Unusable lines are returned with their files.
///
/// # Errors
/// Records cannot be read, an observation has no JSON form, or a row cannot be written.
pub fn write(sources: &[Source], format: Format, out: &mut dyn Write) -> Result<Vec<(PathBuf, Unusable)>, TableError> {
    let table = Table::from_sources(sources)?;
    let mut unusable = Vec::new();
    let mut each = |take: &mut dyn FnMut(&Observation) -> Result<(), TableError>| {
        for source in sources {
            let lines = source.try_each(|observation| take(&observation))?;
            unusable.extend(lines.into_iter().map(|line| (source.path().to_owned(), line)));
        }
        Ok::<(), TableError>(())
    };
    match format {
        Format::Csv => {
            let mut writer = WriterBuilder::new().from_writer(out);
            writer.write_record(table.header.iter().map(|name| escape::csv_cell(name).into_owned()))?;
            each(&mut |observation| {
                let cells = table.row(observation)?;
                let kinds = columns().iter().map(|column| column.kind).chain(std::iter::repeat(Kind::Text));
                Ok(writer.write_record(cells.iter().zip(kinds).map(|(cell, kind)| match kind {
                    Kind::Json | Kind::Texts | Kind::Unread => escape::json(cell),
                    _ => escape::csv_cell(cell).into_owned(),
                }))?)
            })?;
            writer.flush()?;
        }
        Format::Json => {
            let mut out = escape::JsonWriter::new(out);
            let mut serializer = serde_json::Serializer::pretty(&mut out);
            let mut rows = serializer.serialize_seq(None).map_err(not_written)?;
            each(&mut |observation| rows.serialize_element(&table.object(observation)?).map_err(not_written))?;
            SerializeSeq::end(rows).map_err(not_written)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
    }
    Ok(unusable)
}

fn not_written(error: serde_json::Error) -> TableError {
    match error.is_io() {
        true => TableError::Write(io::Error::from(error)),
        false => TableError::Encode(error),
    }
}

/// Whether a text is a complete table as written by [`write()`], not another that happens to share some columns.
pub fn is_export(text: &str) -> bool {
    let rows = Rows::new(text);
    ["peak_bytes", "outcome", "peak_exactness", "schema_version"].iter().all(|name| rows.column(name).is_some())
}

/// The columns of a table: the fixed ones, and those of the parameters and channels in these records.
struct Table {
    header: Vec<String>,
    parameters: Vec<String>,
    inputs: Vec<inputs::Column>,
}

/// The part of a record that determines columns.
#[derive(Deserialize)]
struct Named {
    /// Every record has it, unlike other lines of JSON.
    #[serde(rename = "schema_version")]
    _schema_version: IgnoredAny,
    sweep: Option<Parameters>,
    #[serde(default)]
    inputs: Vec<Extensions>,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    parameters: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Extensions {
    channel: String,
    #[serde(default)]
    by_extension: BTreeMap<String, IgnoredAny>,
}

impl Table {
    fn from_sources(sources: &[Source]) -> Result<Self, ReadError> {
        let mut parameters: BTreeSet<String> = BTreeSet::new();
        let mut channels = inputs::Channels::default();
        for source in sources {
            let mut has_records = false;
            source.each_line::<Named>(|_, named| {
                // An unusable line is reported when its row would be written.
                let Ok(Named { sweep, inputs, .. }) = named else { return };
                has_records = true;
                parameters.extend(sweep.into_iter().flat_map(|sweep| sweep.parameters.into_keys()));
                for Extensions { channel, by_extension } in &inputs {
                    channels.add(channel, by_extension.keys().map(String::as_str));
                }
            })?;
            if !has_records {
                // Another kind of file is refused before the header is written.
                source.each(|_| {})?;
            }
        }
        let parameters: Vec<String> = parameters.into_iter().collect();
        let inputs = channels.columns();
        let fixed = columns().iter().map(|column| column.name.to_owned());
        let chosen = parameters.iter().map(|name| parameters::column(name));
        let header = fixed.chain(chosen).chain(inputs.iter().map(inputs::Column::name)).collect();
        Ok(Self { header, parameters, inputs })
    }

    fn row(&self, observation: &Observation) -> Result<Vec<String>, TableError> {
        let value = serde_json::to_value(observation)?;
        let mut row = cell::fixed(&value);
        let chosen = observation.sweep.as_ref().map(|sweep| &sweep.parameters);
        let parameter = |name| chosen.and_then(|chosen| chosen.get(name)).cloned().unwrap_or_default();
        row.extend(self.parameters.iter().map(parameter));
        row.extend(self.inputs.iter().map(|column| column.cell(&observation.inputs)));
        Ok(row)
    }

    /// A row as JSON, without empty values.
    fn object(&self, observation: &Observation) -> Result<Value, TableError> {
        let cells = self.header.iter().zip(self.row(observation)?).filter(|(_, cell)| !cell.is_empty());
        Ok(Value::Object(cells.map(|(name, cell)| (name.clone(), cell::as_json(name, cell))).collect()))
    }
}
