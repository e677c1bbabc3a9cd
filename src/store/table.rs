//! Records as one flat table: what `highwater export` writes and `highwater import` reads.
//!
//! A row is a run. [`columns`] says what the columns hold; beside them there are some for each channel
//! (`input_bytes.CHANNEL.sum`, …) and each parameter (`parameter.NAME`). Units are in the names.
//!
//! | a cell | is |
//! | --- | --- |
//! | empty | nothing: there is no such thing for this run |
//! | `unsupported`, `gone` | a number that could not be read; the columns beside it that were read together with it say the same |
//! | `none` | a limit that is not there |
//! | a number | whole bytes and counts; seconds with up to six decimals, which is exact |
//!
//! A text that a spreadsheet would take for a formula (`=`, `+`, `-` or `@` at its beginning, but for numbers) has a `'`
//! before it; one with control characters is a JSON string. Reading the table undoes both.
//!
//! A table holds all of an observation but the samples of its series; an empty text is nothing.

mod cell;
mod columns;
mod inputs;
mod parameters;
mod parse;
mod pointer;

use csv::WriterBuilder;
use serde_json::Value;

use crate::model::escape;
use crate::model::observation::Observation;

use columns::Kind;
pub use columns::{Column, columns};
pub use parse::parse;

pub(super) use cell::micros;
pub(super) use parse::Rows;

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// An observation that has no JSON form, such as one with a path that is not UTF-8.
    #[error("failed to write an observation as JSON")]
    Encode(#[from] serde_json::Error),
    /// A row could not be written.
    #[error("failed to write the table")]
    Write(#[from] csv::Error),
}

/// Writes the table of comma-separated values, a header first.
///
/// # Errors
/// Where an observation has no JSON form.
pub fn csv(observations: &[Observation]) -> Result<String, TableError> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    let table = Table::of(observations);
    writer.write_record(table.header().iter().map(|name| escape::csv_cell(name).into_owned()))?;
    for observation in observations {
        let cells = table.row(observation)?;
        let kinds = columns().iter().map(|column| column.kind).chain(std::iter::repeat(Kind::Text));
        writer.write_record(cells.iter().zip(kinds).map(|(cell, kind)| match kind {
            Kind::Json => escape::json(cell),
            _ => escape::csv_cell(cell).into_owned(),
        }))?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same table as a JSON array of flat objects; what is empty there is left out here.
///
/// # Errors
/// Where an observation has no JSON form.
pub fn json(observations: &[Observation]) -> Result<String, TableError> {
    let table = Table::of(observations);
    let mut rows = Vec::new();
    for observation in observations {
        let cells = table.header().into_iter().zip(table.row(observation)?);
        let filled = cells.filter(|(_, cell)| !cell.is_empty());
        rows.push(Value::Object(filled.map(|(name, cell)| (name.clone(), cell::as_json(&name, cell))).collect()));
    }
    Ok(escape::json(&serde_json::to_string_pretty(&rows)?) + "\n")
}

/// Whether a text is a table with all columns, as [`csv()`] writes it, and no other one that happens to share some.
pub fn is_export(text: &str) -> bool {
    let rows = Rows::new(text);
    ["peak_bytes", "outcome", "peak_exactness", "schema_version"].iter().all(|name| rows.column(name).is_some())
}

/// Which columns there are beside those that every table has.
struct Table {
    parameters: Vec<String>,
    inputs: Vec<inputs::Column>,
}

impl Table {
    fn of(observations: &[Observation]) -> Self {
        Self { parameters: parameters::of(observations), inputs: inputs::of(observations) }
    }

    fn header(&self) -> Vec<String> {
        let fixed = columns().iter().map(|column| column.name.to_owned());
        let parameters = self.parameters.iter().map(|name| parameters::column(name));
        fixed.chain(parameters).chain(self.inputs.iter().map(inputs::Column::name)).collect()
    }

    fn row(&self, observation: &Observation) -> Result<Vec<String>, TableError> {
        let value = serde_json::to_value(observation)?;
        let mut row: Vec<String> = columns().iter().map(|column| column.cell(&value)).collect();
        let chosen = observation.sweep.as_ref().map(|sweep| &sweep.parameters);
        let parameter = |name| chosen.and_then(|chosen| chosen.get(name)).cloned().unwrap_or_default();
        row.extend(self.parameters.iter().map(parameter));
        row.extend(self.inputs.iter().map(|column| column.cell(&observation.inputs)));
        Ok(row)
    }
}
