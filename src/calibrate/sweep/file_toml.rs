//! Reads a sweep file, with the position of every error.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::options::{NAMES, SweepOptions};
use crate::calibrate::workload::settings::{self, Settings};
use crate::model::located::{Data, Format, Read, Reader, Value, toml};
use crate::model::plan::current_name;
use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::quote;

/// Settings of the command line about what it shows.
const SHOWN: [&str; 3] = ["dry-run", "format", "quiet"];

pub(super) fn read(path: &Path, text: &str) -> Result<Settings, Flawed> {
    let flawed = |problems| Flawed::new(path.display().to_string(), text, problems);
    let mut root = toml::parse(text).map_err(flawed)?;
    if let Data::Object(fields) = &mut root.data {
        fields.iter_mut().for_each(|field| field.name = current_name(&field.name).to_owned().into());
    }
    let mut reader = Reader::new(Format::Toml, text);
    let settings = settings(&mut reader, &root);
    match (settings, reader.finish()) {
        (Ok(settings), (_, true)) => Ok(settings),
        (_, (problems, _)) => Err(flawed(problems)),
    }
}

fn settings(reader: &mut Reader<'_>, root: &Value<'_>) -> Read<Settings> {
    let known: Vec<&str> = NAMES.into_iter().chain(settings::NAMES).chain(SHOWN).collect();
    let fields = reader.object("a sweep", root, Some(&known))?;
    let read: Vec<_> = fields
        .all()
        .filter(|(name, _)| known.contains(name))
        .map(|(name, value)| Ok((name.to_owned(), setting(reader, name, value)?)))
        .collect();
    read.into_iter().collect()
}

fn setting(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Read<Json> {
    let Some(plain) = plain(value) else {
        return reader.wrong_type(name, value, "a string, a number, a boolean, or an array or table of these");
    };
    SweepOptions::check_setting(name, &plain).or_else(|error| {
        let (message, label) = match error.found {
            Some(found) => (format!("{} is {}", quote(name), quote(&found)), error.message),
            None => (error.message, "this value".to_owned()),
        };
        reader.report(Problem::error("bad-value", message).at(value.span.clone()).label(label))
    })?;
    Ok(plain)
}

/// The value as it would be typed; `None` for times and nested arrays.
fn plain(value: &Value<'_>) -> Option<Json> {
    Some(match &value.data {
        Data::String(text) => Json::from(&**text),
        Data::Number(number) => number.parse::<i64>().map_or_else(|_| Json::from(&**number), Json::from),
        Data::Date | Data::Null => return None,
        Data::Boolean(value) => Json::Bool(*value),
        Data::Array(values) => {
            let values = values.iter().map(|value| plain(value).filter(|value| !value.is_array()));
            Json::Array(values.collect::<Option<_>>()?)
        }
        Data::Object(fields) => {
            let fields = fields
                .iter()
                .map(|field| Some((field.name.to_string(), plain(&field.value).filter(|value| !value.is_object())?)));
            Json::Object(fields.collect::<Option<Map<_, _>>>()?)
        }
    })
}
