//! Reads a sweep file, with the position of every error.

use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use super::options::{NAMES, SweepOptions};
use crate::calibrate::workload::settings::{self, Settings};
use crate::model::plan::current_name;
use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::{nearest, quote};

/// Settings of the command line about what it shows.
const SHOWN: [&str; 3] = ["dry-run", "format", "quiet"];

pub(super) fn read(path: &Path, text: &str) -> Result<Settings, Flawed> {
    let flawed = |problems| Flawed { name: path.display().to_string(), text: text.to_owned(), problems };
    let table = DeTable::parse(text).map_err(|error| {
        let problem = Problem::error("not-toml", error.message().to_owned());
        flawed(vec![match error.span() {
            Some(span) => problem.at(visible(text, span)).label("expected TOML"),
            None => problem,
        }])
    })?;
    let mut settings = Map::new();
    let mut problems = Vec::new();
    for (name, value) in table.get_ref() {
        let (place, name) = (name.span(), current_name(name.get_ref()));
        match setting(name, place, value.get_ref(), value.span()) {
            Ok(value) => {
                settings.insert(name.to_owned(), value);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(settings) } else { Err(flawed(problems)) }
}

fn setting(name: &str, place: Range<usize>, value: &DeValue<'_>, at: Range<usize>) -> Result<Value, Problem> {
    let known = || NAMES.into_iter().chain(settings::NAMES).chain(SHOWN);
    if !known().any(|known| known == name) {
        let problem = Problem::error("unknown-key", format!("unknown key {}", quote(name))).at(place);
        return Err(match nearest(name, known()) {
            Some(meant) => problem.label("unknown key").help(format!("did you mean `{meant}`?")),
            None => problem.label("unknown key").help("use a flag of `highwater sweep` without its dashes"),
        });
    }
    let value = plain(value).ok_or_else(|| {
        Problem::error("wrong-value", format!("{} has a value of the wrong type", quote(name)))
            .at(at.clone())
            .label("expected a string, a number, a boolean, or an array or table of these")
    })?;
    match SweepOptions::check_setting(name, &value) {
        Ok(()) => Ok(value),
        Err(error) => Err(Problem::error("wrong-value", error.to_string()).at(at).label("this value")),
    }
}

/// The value as it would be typed; `None` for times and nested arrays.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) if number.radix() == 10 => {
            number.as_str().parse::<i64>().map_or_else(|_| Value::from(number.as_str()), Value::from)
        }
        DeValue::Integer(_) | DeValue::Datetime(_) => return None,
        DeValue::Float(number) => Value::from(number.as_str()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Array(values) => {
            let values = values.iter().map(|value| plain(value.get_ref()).filter(|value| !value.is_array()));
            Value::Array(values.collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let pair = |(name, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<DeValue<'_>>)| {
                Some((name.get_ref().to_string(), plain(value.get_ref()).filter(|value| !value.is_object())?))
            };
            Value::Object(table.iter().map(pair).collect::<Option<_>>()?)
        }
    })
}

/// A visible span: an error at the end of a line marks its last character.
fn visible(text: &str, span: Range<usize>) -> Range<usize> {
    if span.is_empty() && span.start > 0 && span.start >= text.len() {
        let start = text.char_indices().next_back().map_or(0, |(start, _)| start);
        return start..text.len();
    }
    span
}
