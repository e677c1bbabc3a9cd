//! The columns of parameters: `parameter.NAME`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::pointer;
use crate::model::observation::Observation;

const PREFIX: &str = "parameter.";

/// All parameters of some observations, in alphabetical order.
pub(super) fn of(observations: &[Observation]) -> Vec<String> {
    let chosen = observations.iter().filter_map(|observation| observation.sweep.as_ref());
    let names: BTreeSet<String> = chosen.flat_map(|sweep| sweep.parameters.keys().cloned()).collect();
    names.into_iter().collect()
}

pub(super) fn column(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The parameter of a column, where it is one of a parameter.
pub(super) fn named(column: &str) -> Option<&str> {
    column.strip_prefix(PREFIX)
}

/// Puts a value into an observation that is built as JSON.
pub(super) fn put(name: &str, cell: &str, observation: &mut Map<String, Value>) {
    if !cell.is_empty() {
        // A name may have a slash in it.
        let parameters = observation.get("sweep").and_then(|sweep| sweep.get("parameters")).and_then(Value::as_object);
        let mut parameters = parameters.cloned().unwrap_or_default();
        parameters.insert(name.to_owned(), cell.into());
        pointer::set(observation, "/sweep/parameters", Value::Object(parameters));
    }
}
