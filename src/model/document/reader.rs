//! Reads the values of a document and collects all problems.

use std::collections::HashMap;
use std::ops::Range;

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;

use crate::model::problem::{Problem, Severity};
use crate::model::spelling::{nearest, quote};
use crate::model::task::Placed;

use super::syntax::within_literal;

/// The most errors, and the most warnings, to report: a file of another kind has one at every step.
const MOST_OF_A_KIND: usize = 100;

/// The reader of a value has reported the problem; its caller continues with the next value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// The result of reading a value.
pub(super) type Read<T> = Result<T, Reported>;

/// Collects problems.
pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
    /// Total number of errors.
    errors: usize,
    warnings: usize,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new(), errors: 0, warnings: 0 }
    }

    /// The source text of a value.
    pub(super) fn raw(&self, value: &Value<'_>) -> &'t str {
        &self.text[span(value)]
    }

    /// All problems, and whether none of them is an error.
    pub(super) fn finish(mut self) -> (Vec<Problem>, bool) {
        let usable = self.errors == 0;
        let untold = self.errors.saturating_sub(MOST_OF_A_KIND) + self.warnings.saturating_sub(MOST_OF_A_KIND);
        if untold > 0 {
            let problem = Problem::warning("too-many-problems", format!("{untold} more problems are not shown"));
            self.problems.push(problem.help("correct those above first, or check that this is the right file"));
        }
        (self.problems, usable)
    }

    fn add(&mut self, problem: Problem) {
        let count = match problem.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        if *count <= MOST_OF_A_KIND {
            self.problems.push(problem);
        }
    }

    /// Records a problem and aborts reading this value if it is an error.
    pub(super) fn report<T>(&mut self, problem: Problem) -> Read<T> {
        self.add(problem);
        Err(Reported)
    }

    /// Records a warning.
    pub(super) fn warn(&mut self, problem: Problem) {
        self.add(problem);
    }

    /// Records problems whose spans point into the content of a string, moved to the string's location in the document.
    pub(super) fn report_within<T>(
        &mut self,
        text: &Placed<String>,
        problems: impl IntoIterator<Item = Problem>,
    ) -> Read<T> {
        problems.into_iter().for_each(|problem| self.add(within(self.text, &text.span, problem)));
        Err(Reported)
    }

    pub(super) fn wrong_type<T>(&mut self, what: &str, value: &Value<'_>, expected: &str) -> Read<T> {
        // A field name, or the description of an object.
        let shown = if what.contains(' ') { what.to_owned() } else { quote(what) };
        let problem = Problem::error("wrong-type", format!("{shown} is {}", kind(value)));
        let problem = problem.at(span(value)).label(format!("expected {expected}"));
        self.report(match remedy(value, expected, self.raw(value)) {
            Some(remedy) => problem.help(remedy),
            None => problem,
        })
    }

    /// Reads an object with the fields `known`; without them it may have any.
    pub(super) fn object<'a>(
        &mut self,
        what: &'a str,
        value: &'a Value<'a>,
        known: Option<&[&str]>,
    ) -> Read<Fields<'a>> {
        let Value::Object(object) = value else { return self.wrong_type(what, value, "an object") };
        let mut seen = HashMap::new();
        for property in &object.properties {
            let name = property.name.as_str();
            let place = bytes(&property.name.range());
            if seen.insert(name, ()).is_some() {
                let problem = Problem::error("duplicate-key", format!("duplicate key {}", quote(name)));
                let problem = problem.at(place).label("already present in this object");
                self.add(problem.help("keep one of them; most JSON parsers silently use the last"));
            } else if let Some(known) = known.filter(|known| !known.contains(&name) && name != "$schema") {
                let problem = Problem::warning("unknown-field", format!("{what} has no field {}", quote(name)));
                let problem = problem.at(place).label("ignored");
                self.add(match nearest(name, known.iter().copied()) {
                    Some(meant) => problem.help(format!("did you mean `{meant}`?")),
                    None => problem.help(format!("it has {}", listed(known))),
                });
            }
        }
        Ok(Fields { what, object })
    }

    /// The elements of an array, each read by `read`.
    pub(super) fn each<'a, T>(
        &mut self,
        what: &str,
        value: &'a Value<'a>,
        expected: &str,
        mut read: impl FnMut(&mut Self, &'a Value<'a>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let Value::Array(array) = value else { return self.wrong_type(what, value, expected) };
        // All of them, so that all problems are reported.
        let read: Vec<_> = array.elements.iter().map(|element| read(self, element)).collect();
        read.into_iter().collect()
    }

    /// A string without NUL, which no name, path, word or variable can contain.
    pub(super) fn text(&mut self, what: &str, value: &Value<'_>) -> Read<Placed<String>> {
        let Value::StringLit(literal) = value else { return self.wrong_type(what, value, "a string") };
        let text = Placed { value: literal.value.clone().into_owned(), span: span(value) };
        if let Some(at) = text.value.find('\0') {
            let problem = Problem::error("nul", format!("{} contains the character NUL", quote(what)));
            return self.report_within(&text, [problem.at(at..at + 1).label("not allowed here")]);
        }
        Ok(text)
    }

    /// A non-empty string.
    pub(super) fn filled(&mut self, what: &str, value: &Value<'_>) -> Read<Placed<String>> {
        let text = self.text(what, value)?;
        if text.value.trim().is_empty() {
            let problem = Problem::error("empty-text", format!("{} is empty", quote(what))).at(text.span);
            return self.report(problem.label("expected at least one character"));
        }
        Ok(text)
    }

    /// An array of strings.
    pub(super) fn texts(&mut self, what: &str, value: &Value<'_>) -> Read<Vec<String>> {
        self.each(what, value, "an array of strings", |reader, element| {
            reader.text(what, element).map(|text| text.value)
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, what: &str, value: &Value<'_>) -> Read<bool> {
        match value {
            Value::BooleanLit(literal) => Ok(literal.value),
            _ => self.wrong_type(what, value, "a boolean"),
        }
    }

    /// A whole number; `3.0` is one.
    pub(super) fn integer(&mut self, what: &str, value: &Value<'_>) -> Read<i64> {
        let Value::NumberLit(literal) = value else { return self.wrong_type(what, value, "an integer") };
        whole(literal.value).map_or_else(
            || {
                let problem = Problem::error("not-whole", format!("{} is {}", quote(what), quote(literal.value)));
                self.report(problem.at(span(value)).label("expected an integer"))
            },
            Ok,
        )
    }

    /// One of the given names.
    pub(super) fn name_of<T: Copy>(&mut self, what: &str, value: &Value<'_>, names: &[(&str, T)]) -> Read<T> {
        let text = self.text(what, value)?;
        if let Some((_, found)) = names.iter().find(|(name, _)| *name == text.value) {
            return Ok(*found);
        }
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let problem = Problem::error("unknown-name", format!("{} is no {what}", quote(&text.value))).at(text.span);
        let problem = problem.label(format!("expected {}", listed(&known)));
        self.report(match nearest(&text.value, known) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem,
        })
    }

    /// Reports names that occur more than once in an array.
    pub(super) fn no_duplicates<'p>(
        &mut self,
        code: &'static str,
        what: &str,
        names: impl IntoIterator<Item = &'p Placed<String>>,
    ) {
        let mut seen = HashMap::new();
        for name in names {
            if seen.insert(name.value.as_str(), ()).is_some() {
                let problem = Problem::error(code, format!("duplicate name of {what}: {}", quote(&name.value)));
                let problem = problem.at(name.span.clone()).label("name already used");
                self.add(problem.help("rename one of them, or remove it"));
            }
        }
    }
}

/// The fields of an object. `null` in an optional field is the same as an absent field.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    /// What the object is, such as `a task`.
    pub(super) what: &'a str,
    object: &'a Object<'a>,
}

impl<'a> Fields<'a> {
    /// The value of a field, including `null`. The last one if there are several, which has been reported.
    pub(super) fn find(&self, name: &str) -> Option<&'a Value<'a>> {
        self.object
            .properties
            .iter()
            .rev()
            .find(|property| property.name.as_str() == name)
            .map(|property| &property.value)
    }

    /// The bytes of a field's name.
    pub(super) fn key(&self, name: &str) -> Range<usize> {
        let property = self.object.properties.iter().rev().find(|property| property.name.as_str() == name);
        property.map_or(self.opening(), |property| bytes(&property.name.range()))
    }

    /// The bytes of a field's value.
    pub(super) fn place(&self, name: &str) -> Option<Range<usize>> {
        self.find(name).map(span)
    }

    /// All fields in order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, &'a Value<'a>)> {
        self.object.properties.iter().map(|property| (property.name.as_str(), &property.value))
    }

    /// The opening brace of the object: the location of absent fields.
    pub(super) fn opening(&self) -> Range<usize> {
        let start = self.object.range.start;
        start..start + 1
    }

    /// A required field, read by `read`.
    pub(super) fn required<'t, T>(
        &self,
        reader: &mut Reader<'t>,
        name: &str,
        read: impl FnOnce(&mut Reader<'t>, &str, &'a Value<'a>) -> Read<T>,
    ) -> Read<T> {
        match self.find(name) {
            Some(value) => read(reader, name, value),
            None => {
                let problem = Problem::error("missing-field", format!("{} has no {}", self.what, quote(name)));
                reader.report(problem.at(self.opening()).label(format!("expected \"{name}\": … in this object")))
            }
        }
    }

    /// An optional field, read by `read`.
    pub(super) fn optional<'t, T>(
        &self,
        reader: &mut Reader<'t>,
        name: &str,
        read: impl FnOnce(&mut Reader<'t>, &str, &'a Value<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        match self.find(name) {
            None | Some(Value::NullKeyword(_)) => Ok(None),
            Some(value) => read(reader, name, value).map(Some),
        }
    }
}

/// Moves a problem whose span points into the content of a value to the value's location in the document.
pub(super) fn within(text: &str, place: &Range<usize>, problem: Problem) -> Problem {
    let literal = text.get(place.clone()).unwrap_or_default();
    let span = match problem.span.clone() {
        None => place.clone(),
        Some(span) if literal.starts_with('"') => {
            let within = within_literal(literal, span);
            // An empty span would be invisible: mark the quotes of an empty string.
            if literal.len() == 2 { place.clone() } else { place.start + within.start..place.start + within.end }
        }
        Some(span) => place.start + span.start..place.start + span.end.min(literal.len()),
    };
    problem.at(span)
}

/// The bytes of a value.
pub(super) fn span(value: &Value<'_>) -> Range<usize> {
    bytes(&value.range())
}

fn bytes(range: &jsonc_parser::common::Range) -> Range<usize> {
    range.start..range.end
}

/// The JSON type of a value.
fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::StringLit(_) => "a string",
        Value::NumberLit(_) => "a number",
        Value::BooleanLit(_) => "a boolean",
        Value::Object(_) => "an object",
        Value::Array(_) => "an array",
        Value::NullKeyword(_) => "null",
    }
}

/// A number without fraction and exponent; `3.0` has no fraction.
pub(super) fn whole(literal: &str) -> Option<i64> {
    match literal.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole.parse().ok(),
        Some(_) | None => literal.parse().ok(),
    }
}

/// The correction, if a value of another type has an obvious meaning.
fn remedy(value: &Value<'_>, expected: &str, raw: &str) -> Option<String> {
    match (value, expected) {
        (Value::NumberLit(_) | Value::BooleanLit(_), "a string") => Some(format!("write \"{raw}\"")),
        (Value::StringLit(text), "an integer") if text.value.parse::<i64>().is_ok() => {
            Some(format!("write {} without quotes", text.value))
        }
        (Value::StringLit(text), "a boolean") if matches!(&*text.value, "true" | "false") => {
            Some(format!("write {} without quotes", text.value))
        }
        (Value::StringLit(text), "an array of strings")
            if text.value.contains(['"', '\'', '\\', '$', '`', '|', '>', '<']) =>
        {
            Some(format!("write the words one by one, or [\"sh\", \"-c\", {raw}]"))
        }
        (Value::StringLit(text), "an array of strings") => {
            let words: Vec<String> = text.value.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            Some(format!("write [{}]", words.join(", ")))
        }
        _ => None,
    }
}

/// Names in back-ticks, separated by commas.
pub(super) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
    quoted.join(", ")
}
