//! Reads a table back into observations.

use std::collections::HashMap;

use csv::ByteRecord;
use serde_json::{Map, Value, json};

use super::columns::Column;
use super::{columns, inputs, parameters};
use crate::model::delimited::Rows;
use crate::model::escape::csv_text;
use crate::model::observation::{Exactness, Observation, PeakSource, SCHEMA_VERSION};
use crate::model::problem::Flawed;

/// A row that is not a measured run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its line, counted from 1.
    pub line: usize,
    /// What is missing.
    pub reason: String,
}

/// Reads a table written by [`super::write`], or one with some of its columns: at least `peak_bytes` and
/// `wall_seconds`. Missing columns are filled in from `blank`, an observation with nothing measured; errors call the
/// table `name`. A row without a peak or a time is not a measured run and is skipped: an unread number is never 0. A
/// row with parameters but no cell gets a cell named by its task, inputs and parameters.
///
/// # Errors
/// Columns are missing, or values are invalid: the first ten problems, with their positions.
pub fn parse(name: &str, text: &str, blank: &Observation) -> Result<(Vec<Observation>, Vec<LeftOut>), Flawed> {
    let mut rows = Rows::new(text);
    let blank = serde_json::to_value(blank).unwrap_or_default();
    let read = read(&mut rows, &blank);
    rows.finish(name, read)
}

fn read(rows: &mut Rows<'_>, blank: &Value) -> (Vec<Observation>, Vec<LeftOut>) {
    rows.require(&["peak_bytes", "wall_seconds"]);
    let known: Vec<KnownColumn> = rows.header.iter().map(|name| KnownColumn::named(&csv_text(name))).collect();
    let (mut observations, mut left_out) = (Vec::new(), Vec::new());
    let mut runs = HashMap::new();
    while let Some(row) = rows.next() {
        let needed = [("peak_bytes", "no peak"), ("wall_seconds", "no time")];
        let unread = rows.value(&row, "unread").and_then(|cell| serde_json::from_str::<Map<String, Value>>(cell).ok());
        let is_unread = |name: &str| unread.as_ref().is_some_and(|unread| unread.contains_key(name));
        let is_missing = |name: &str| rows.value(&row, name).is_none() && !is_unread(name);
        if let Some((_, reason)) = needed.iter().find(|(name, _)| is_missing(name)) {
            left_out.push(LeftOut { line: rows.line_of(&row), reason: (*reason).to_owned() });
        } else if let Some(object) = built(rows, &row, &known) {
            match serde_json::from_value(placed(filled(object, blank), &mut runs)) {
                Ok(observation) => observations.push(observation),
                Err(error) => rows.reject_row(&row, &error.to_string()),
            }
        }
    }
    (observations, left_out)
}

/// The meaning of a column.
enum KnownColumn {
    Fixed(&'static Column),
    Input(inputs::Column),
    Parameter(String),
    /// An unknown column.
    Other,
}

impl KnownColumn {
    fn named(name: &str) -> Self {
        if let Some(column) = columns().iter().find(|column| column.name == name) {
            return Self::Fixed(column);
        }
        if let Some(parameter) = parameters::named(name) {
            return Self::Parameter(parameter.to_owned());
        }
        inputs::Column::named(name).map_or(Self::Other, Self::Input)
    }
}

/// The observation of a row, as far as its columns go; `None` if a cell was rejected.
fn built(rows: &mut Rows<'_>, row: &ByteRecord, known: &[KnownColumn]) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    let mut sizes = inputs::Row::default();
    let mut good = true;
    for (place, column) in known.iter().enumerate() {
        let cell = rows.cell(row, place);
        let put = match column {
            KnownColumn::Fixed(column) => column.put(cell, &mut object),
            KnownColumn::Input(column) => sizes.put(column, cell),
            KnownColumn::Parameter(name) => {
                parameters::put(name, cell, &mut object);
                Ok(())
            }
            KnownColumn::Other => Ok(()),
        };
        if let Err(expected) = put {
            rows.reject(row, place, &expected);
            good = false;
        }
    }
    let newest = u64::from(SCHEMA_VERSION);
    if let Some(place) = rows.column("schema_version")
        && object.get("schema_version").and_then(Value::as_u64).is_some_and(|version| version > newest)
    {
        rows.reject(row, place, &format!("at most {newest}; a newer highwater wrote this record"));
        good = false;
    }
    let sizes = sizes.finish();
    if !sizes.is_empty() {
        object.insert("inputs".to_owned(), serde_json::to_value(sizes).unwrap_or_default());
    } else if let Some(sum) = rows.value(row, "input_bytes").and_then(|cell| cell.parse::<u64>().ok()) {
        // A size without channels is taken for one file of unknown name.
        let file = json!({"path": inputs::UNNAMED, "bytes": sum});
        let all = json!({"files": 1, "sum": sum, "largest_file": file, "items": 0, "largest_item": null});
        object.insert("inputs".to_owned(), json!([{"channel": "input", "all": all}]));
    }
    good.then_some(object)
}

/// Fills in the values of missing columns.
fn filled(mut object: Map<String, Value>, blank: &Value) -> Value {
    let unread = json!({
        "breakdown": {"at_us": 0, "anon": "unsupported", "file": "unsupported", "shmem": "unsupported",
            "kernel": "unsupported", "swap": "unsupported"},
        "events": {"limit_hits": "unsupported", "ooms": "unsupported", "oom_kills": "unsupported"},
        "peak": {"source": PeakSource::Imported, "exactness": Exactness::LowerBound {
            reason: "the imported table does not say how it was measured".to_owned(),
            remedy: "measure the task with highwater".to_owned(),
        }},
        "storage": {"outputs_bytes": "unsupported", "writable_layer_bytes": "unsupported"},
        "sweep": {"case": ""},
    });
    for whole in [&unread, blank] {
        for (name, value) in whole.as_object().into_iter().flatten() {
            match (object.get_mut(name), value) {
                (Some(Value::Object(parts)), Value::Object(missing)) if name != "outcome" => {
                    for (name, value) in missing {
                        parts.entry(name).or_insert_with(|| value.clone());
                    }
                }
                (Some(_), _) => {}
                (None, value) if std::ptr::eq(whole, blank) => {
                    object.insert(name.clone(), value.clone());
                }
                (None, _) => {}
            }
        }
    }
    Value::Object(object)
}

/// Gives a row with parameters a missing cell and run number, counted from 1 in each cell. A row without parameters
/// does not become part of a sweep.
fn placed(mut observation: Value, runs: &mut HashMap<String, u32>) -> Value {
    let named = parameters::cell(&observation);
    let Some(Value::Object(sweep)) = observation.get_mut("sweep") else { return observation };
    if sweep.contains_key("cell") && sweep.contains_key("run") {
        return observation;
    }
    let Some(named) = named else {
        observation.as_object_mut().and_then(|whole| whole.remove("sweep"));
        return observation;
    };
    let cell = sweep.entry("cell").or_insert_with(|| named.into());
    let run = runs.entry(cell.as_str().unwrap_or_default().to_owned()).or_default();
    *run += 1;
    sweep.entry("run").or_insert_with(|| (*run).into());
    observation
}
