//! Converts between a cell and the JSON of an observation.

use serde_json::{Map, Value};

use super::columns::{Column, Kind};
use super::pointer;
use crate::model::escape::csv_text;
use crate::model::observation::Warning;

/// Values that stand for a number that could not be read.
const WORDS: [&str; 2] = ["unsupported", "gone"];
/// The value for a missing limit.
const NONE: &str = "none";

/// The cells of the fixed columns. What stands for a number is in the column `unread` instead.
pub(super) fn fixed(observation: &Value) -> Vec<String> {
    let mut unread = Map::new();
    let mut cell = |column: &Column| {
        let cell = column.cell(observation);
        if !column.is_number() || cell != NONE && !WORDS.contains(&cell.as_str()) {
            return cell;
        }
        unread.insert(column.name.to_owned(), cell.into());
        String::new()
    };
    let mut cells: Vec<String> = super::columns().iter().map(&mut cell).collect();
    if let Some(place) = super::columns().iter().position(|column| column.kind == Kind::Unread)
        && !unread.is_empty()
    {
        cells[place] = Value::Object(unread).to_string();
    }
    cells
}

impl Column {
    /// Whether its cells are numbers.
    fn is_number(&self) -> bool {
        matches!(self.kind, Kind::Count | Kind::Status | Kind::Part | Kind::Seconds | Kind::Limit | Kind::Derived)
    }

    /// The cell of an observation in JSON form.
    pub(super) fn cell(&self, observation: &Value) -> String {
        let (above, _) = pointer::split(self.pointer);
        let found = pointer::get(observation, self.pointer);
        match (self.kind, found) {
            (Kind::Censored, _) => censored(observation).to_owned(),
            (Kind::Inputs, _) => inputs(observation),
            (Kind::Unread, _) => String::new(),
            (Kind::Text, None) => String::new(),
            // If a group of values could not be read, neither could its parts.
            (_, None) => pointer::get(observation, above).and_then(Value::as_str).unwrap_or_default().to_owned(),
            (Kind::Whole, Some(Value::Object(_))) => "read".to_owned(),
            (Kind::Limit, Some(Value::Null)) => NONE.to_owned(),
            (Kind::Texts, Some(warnings)) => texts(warnings),
            (Kind::Json, Some(Value::Array(list))) if list.is_empty() => String::new(),
            (Kind::Json, Some(value)) => value.to_string(),
            (Kind::Flag, Some(value)) => if value == true { "yes" } else { "" }.to_owned(),
            (Kind::Seconds, Some(Value::Number(micros))) => micros.as_u64().map(seconds).unwrap_or_default(),
            (_, Some(Value::String(text))) => text.clone(),
            (_, Some(Value::Null)) => String::new(),
            (_, Some(value)) => value.to_string(),
        }
    }

    /// Puts the value of a cell into an observation in JSON form.
    ///
    /// # Errors
    /// The value is invalid; the error says what was expected.
    pub(super) fn put(&self, cell: &str, observation: &mut Map<String, Value>) -> Result<(), String> {
        let text = csv_text(cell);
        let cell = if self.kind == Kind::Text { &text } else { cell.trim() };
        if cell.is_empty() && self.kind != Kind::Censored {
            return Ok(());
        }
        let value = match self.kind {
            Kind::Derived | Kind::Inputs => return Ok(()),
            Kind::Text => cell.into(),
            Kind::Unread => return unread(cell, observation),
            Kind::Censored => match cell {
                "" | "no" | "none" | "false" | "lower-bound" => false.into(),
                "yes" | "true" | "limit" | "limit-reached" | "oom" | "oom-killed" => true.into(),
                _ => return Err("`limit`, `oom`, `lower-bound` or an empty cell".to_owned()),
            },
            Kind::Flag => match cell {
                "yes" | "true" => true.into(),
                "no" | "false" => return Ok(()),
                _ => return Err("`yes` or an empty cell".to_owned()),
            },
            Kind::Texts if observation.contains_key("warnings") => return Ok(()),
            Kind::Json | Kind::Texts => serde_json::from_str(cell).map_err(|error| format!("JSON ({error})"))?,
            Kind::Whole if cell == "read" => return Ok(()),
            Kind::Whole if WORDS.contains(&cell) => cell.into(),
            Kind::Whole => return Err("`read`, `unsupported` or `gone`".to_owned()),
            Kind::Limit if cell == NONE => Value::Null,
            Kind::Count | Kind::Status | Kind::Limit | Kind::Seconds | Kind::Part if WORDS.contains(&cell) => {
                let place = if self.own_word() { self.pointer } else { pointer::split(self.pointer).0 };
                if place.is_empty() {
                    return Err("a number".to_owned());
                }
                pointer::set(observation, place, cell.into());
                return Ok(());
            }
            Kind::Seconds => micros(cell).ok_or("a number of seconds such as 12.5")?.into(),
            Kind::Status => match cell.parse::<i64>() {
                Ok(status) => status.into(),
                Err(_) => number(cell).ok_or("an integer")?.into(),
            },
            Kind::Count | Kind::Limit | Kind::Part => number(cell).ok_or("an integer of at least 0")?.into(),
        };
        pointer::set(observation, self.pointer, value);
        Ok(())
    }

    /// Whether the number itself may be missing, not only the group of values it was read with.
    fn own_word(&self) -> bool {
        match self.kind {
            Kind::Part | Kind::Limit => true,
            Kind::Text
            | Kind::Count
            | Kind::Status
            | Kind::Seconds
            | Kind::Flag
            | Kind::Censored
            | Kind::Json
            | Kind::Texts
            | Kind::Whole
            | Kind::Unread
            | Kind::Inputs
            | Kind::Derived => false,
        }
    }
}

/// Puts the words for numbers into an observation in JSON form.
fn unread(cell: &str, observation: &mut Map<String, Value>) -> Result<(), String> {
    let expected = |detail: &dyn std::fmt::Display| {
        format!("a JSON object of columns and `unsupported`, `gone` or `none` ({detail})")
    };
    let words: Map<String, Value> = serde_json::from_str(cell).map_err(|error| expected(&error))?;
    for (name, word) in &words {
        let column = super::columns().iter().find(|column| column.name == name && column.is_number());
        let word = word.as_str().filter(|word| *word == NONE || WORDS.contains(word));
        let (Some(column), Some(word)) = (column, word) else { return Err(expected(&format!("not {name}"))) };
        column.put(word, observation)?;
    }
    Ok(())
}

/// Numbers as JSON numbers, everything else as strings.
pub(super) fn as_json(column: &str, cell: String) -> Value {
    let known = super::columns().iter().find(|known| known.name == column);
    let free = ["parameter.", "input_largest_", "extension_largest_"];
    let text = known.map_or(free.iter().any(|prefix| column.starts_with(prefix)), |known| known.kind == Kind::Text);
    let json = known.is_some_and(|known| matches!(known.kind, Kind::Json | Kind::Texts | Kind::Unread));
    match serde_json::from_str(&cell) {
        Ok(value @ Value::Number(_)) if !text => value,
        Ok(value) if json => value,
        Ok(_) | Err(_) => cell.into(),
    }
}

/// Why the peak does not show the need, in the terms of `highwater fit`.
fn censored(observation: &Value) -> &'static str {
    let said = |pointer, word: &str| pointer::get(observation, pointer).and_then(Value::as_str) == Some(word);
    if pointer::get(observation, "/censored") == Some(&Value::Bool(true)) {
        return if said("/outcome/kind", "oom-killed") { "oom" } else { "limit" };
    }
    if said("/peak/exactness/kind", "lower-bound") { "lower-bound" } else { "" }
}

/// The texts of warnings in JSON form.
fn texts(warnings: &Value) -> String {
    let warnings: Vec<Warning> = serde_json::from_value(warnings.clone()).unwrap_or_default();
    if warnings.is_empty() {
        return String::new();
    }
    Value::from_iter(warnings.iter().map(ToString::to_string)).to_string()
}

/// The total size of all channels; empty if unknown.
fn inputs(observation: &Value) -> String {
    let channels =
        pointer::get(observation, "/inputs").and_then(Value::as_array).filter(|channels| !channels.is_empty());
    let size = |channel: &Value| pointer::get(channel, "/all/sum").and_then(Value::as_u64).unwrap_or_default();
    channels.map(|channels| channels.iter().map(size).fold(0, u64::saturating_add).to_string()).unwrap_or_default()
}

/// Microseconds as seconds, exactly.
pub(super) fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Seconds as microseconds, exact for up to six decimals.
pub(in crate::store) fn micros(text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !whole.is_empty() && digits(whole) && digits(decimals) && decimals.len() <= 6 {
        let decimals: u64 = format!("{decimals:0<6}").parse().ok()?;
        return whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(decimals);
    }
    let seconds: f64 = text.parse().ok()?;
    (0.0..1e13).contains(&seconds).then(|| (seconds * 1e6).round() as u64)
}

/// An integer; decimal numbers in tables of other programs are rounded up.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".eE+".contains(&byte));
        let number: f64 = text.parse().ok().filter(|_| plain)?;
        (0.0..1e19).contains(&number).then(|| number.ceil() as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for time in [0, 1, 999_999, 1_000_000, 12_500_000, u64::MAX] {
            assert_eq!(micros(&seconds(time)), Some(time), "{time}");
        }
        assert_eq!(seconds(12_500_000), "12.5");
        assert_eq!(micros("1e3"), Some(1_000_000_000));
        assert_eq!(micros("1.23456789"), Some(1_234_568));
        assert_eq!(["-1", "", ".", "x", "1.5s", "inf", "NaN"].map(micros), [None; 7]);
    }
}
