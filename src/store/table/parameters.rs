//! The columns of parameters: `parameter.NAME`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::pointer;
use crate::model::escape::csv_text;

const PREFIX: &str = "parameter.";

pub(super) fn column(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The parameter of a column; `None` if it is not the column of a parameter.
pub(super) fn named(column: &str) -> Option<&str> {
    column.strip_prefix(PREFIX)
}

/// Puts a value into an observation in JSON form.
pub(super) fn put(name: &str, cell: &str, observation: &mut Map<String, Value>) {
    if !cell.is_empty() {
        // A parameter name may contain a slash, so no pointer is used.
        let parameters = observation.get("sweep").and_then(|sweep| sweep.get("parameters")).and_then(Value::as_object);
        let mut parameters = parameters.cloned().unwrap_or_default();
        parameters.insert(name.to_owned(), csv_text(cell).into());
        pointer::set(observation, "/sweep/parameters", Value::Object(parameters));
    }
}

/// A cell name for an observation with parameters, in JSON form: the task, its inputs and parameters.
pub(super) fn cell(observation: &Value) -> Option<String> {
    let parameters = observation.pointer("/sweep/parameters")?.as_object()?;
    let text = |pointer| observation.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let words = observation.pointer("/subject/command").and_then(Value::as_array);
    let program = words.and_then(|words| words.first()).and_then(Value::as_str);
    let what = [text("/subject/name").or(program), text("/container/image"), text("/sweep/case")];
    let inputs = observation.get("inputs").and_then(Value::as_array).into_iter().flatten();
    let size = |input: &Value| Some(format!("{}={}", input.get("channel")?.as_str()?, input.pointer("/all/sum")?));
    let parameters: BTreeMap<&String, &str> =
        parameters.iter().filter_map(|(name, value)| Some((name, value.as_str()?))).collect();
    let parts = what.into_iter().flatten().map(str::to_owned).chain(inputs.filter_map(size));
    Some(parts.chain(parameters.iter().map(|(name, value)| format!("{name}={value}"))).collect::<Vec<_>>().join(","))
}
