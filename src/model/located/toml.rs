//! Parses TOML, keeping the span of every value.

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue, Error};

use super::{Data, Field, Value};
use crate::model::problem::Problem;

/// Parses TOML.
///
/// # Errors
/// The syntax errors.
pub(crate) fn parse(text: &str) -> Result<Value<'_>, Vec<Problem>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        Ok(Value { data: Data::Object(fields(table.into_inner())), span: 0..0 })
    } else {
        Err(errors.iter().map(|error| refused(text, error)).collect())
    }
}

fn refused(text: &str, error: &Error) -> Problem {
    let problem = Problem::error("not-toml", error.message().to_owned()).label("expected TOML");
    match error.span() {
        // An error after the last byte marks the last character.
        Some(span) if span.start >= text.len() => {
            problem.at(text.char_indices().next_back().map_or(0, |(last, _)| last)..text.len())
        }
        Some(span) => problem.at(span.start..span.end.min(text.len())),
        None => problem,
    }
}

fn fields(table: DeTable<'_>) -> Vec<Field<'_>> {
    table
        .into_iter()
        .map(|(name, content)| Field { key: name.span(), name: name.into_inner(), value: value(content) })
        .collect()
}

fn value(spanned: Spanned<DeValue<'_>>) -> Value<'_> {
    let span = spanned.span();
    let data = match spanned.into_inner() {
        DeValue::String(text) => Data::String(text),
        DeValue::Integer(integer) => {
            let decimal =
                u128::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|_| integer.radix() != 10);
            Data::Number(decimal.map_or_else(|| integer.to_string(), |number| number.to_string()).into())
        }
        DeValue::Float(float) => Data::Number(float.to_string().into()),
        DeValue::Boolean(boolean) => Data::Boolean(boolean),
        DeValue::Datetime(_) => Data::Date,
        DeValue::Array(array) => Data::Array(array.into_iter().map(value).collect()),
        DeValue::Table(table) => Data::Object(fields(table)),
    };
    Value { data, span }
}
