//! The values of a JSON or TOML document with their locations, and one reader for both, which collects all problems.

pub(crate) mod json;
pub(crate) mod toml;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::{Range, RangeInclusive};

use crate::model::problem::{Problem, Severity};
use crate::model::spelling::{nearest, quote};
use crate::model::task::Placed;

/// The most errors, and the most warnings, to report: a file of another kind has one at every step.
const MOST_OF_A_KIND: usize = 100;

/// A value and its bytes in the document.
#[derive(Debug)]
pub(crate) struct Value<'t> {
    pub(crate) data: Data<'t>,
    pub(crate) span: Range<usize>,
}

/// The content of a value.
#[derive(Debug)]
pub(crate) enum Data<'t> {
    Null,
    Boolean(bool),
    /// As it is written, but in decimal.
    Number(Cow<'t, str>),
    String(Cow<'t, str>),
    Date,
    Array(Vec<Value<'t>>),
    Object(Vec<Field<'t>>),
}

/// A field of an object, with the bytes of its name.
#[derive(Debug)]
pub(crate) struct Field<'t> {
    pub(crate) name: Cow<'t, str>,
    pub(crate) key: Range<usize>,
    pub(crate) value: Value<'t>,
}

/// The format of a document, for the words of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Unknown fields are ignored, as other programs that read the file ignore them.
    Json,
    /// Unknown keys are errors.
    Toml,
}

impl Format {
    fn object(self) -> &'static str {
        match self {
            Self::Json => "an object",
            Self::Toml => "a table",
        }
    }
}

/// The reader of a value has reported the problem; its caller continues with the next value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported;

/// The result of reading a value.
pub(crate) type Read<T> = Result<T, Reported>;

/// Collects problems.
pub(crate) struct Reader<'t> {
    format: Format,
    text: &'t str,
    problems: Vec<Problem>,
    /// Total number of errors.
    errors: usize,
    warnings: usize,
}

impl<'t> Reader<'t> {
    pub(crate) fn new(format: Format, text: &'t str) -> Self {
        Self { format, text, problems: Vec::new(), errors: 0, warnings: 0 }
    }

    /// The text of the document.
    pub(crate) fn source(&self) -> &'t str {
        self.text
    }

    /// The source text of a value.
    pub(crate) fn raw(&self, value: &Value<'_>) -> &'t str {
        &self.text[value.span.clone()]
    }

    /// All problems, and whether none of them is an error.
    pub(crate) fn finish(mut self) -> (Vec<Problem>, bool) {
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
    pub(crate) fn report<T>(&mut self, problem: Problem) -> Read<T> {
        self.add(problem);
        Err(Reported)
    }

    /// Records a problem after which reading goes on.
    pub(crate) fn warn(&mut self, problem: Problem) {
        self.add(problem);
    }

    /// Records problems whose spans point into the content of a string, moved to the string's location in the document.
    pub(crate) fn report_within<T>(
        &mut self,
        text: &Placed<String>,
        problems: impl IntoIterator<Item = Problem>,
    ) -> Read<T> {
        problems.into_iter().for_each(|problem| self.add(within(self.text, &text.span, problem)));
        Err(Reported)
    }

    pub(crate) fn wrong_type<T>(&mut self, what: &str, value: &Value<'_>, expected: &str) -> Read<T> {
        // A field name, or the description of an object.
        let shown = if what.contains(' ') { what.to_owned() } else { quote(what) };
        let problem = Problem::error("wrong-type", format!("{shown} is {}", self.kind(value)));
        let problem = problem.at(value.span.clone()).label(format!("expected {expected}"));
        self.report(match remedy(value, expected, self.raw(value)) {
            Some(remedy) => problem.help(remedy),
            None => problem,
        })
    }

    /// Reads an object with the fields `known`; without them it may have any.
    pub(crate) fn object<'a>(
        &mut self,
        what: &'a str,
        value: &'a Value<'a>,
        known: Option<&[&str]>,
    ) -> Read<Fields<'a>> {
        let Data::Object(fields) = &value.data else { return self.wrong_type(what, value, self.format.object()) };
        let mut seen = HashSet::new();
        for Field { name, key, .. } in fields {
            if !seen.insert(name) {
                let problem = Problem::error("duplicate-key", format!("duplicate key {}", quote(name)));
                let (label, help) = match self.format {
                    Format::Json => {
                        ("already present in this object", "keep one of them; most JSON parsers silently use the last")
                    }
                    // TOML itself refuses the same key twice; an old name stands for a new one.
                    Format::Toml => ("already present", "keep one of them: one is an older name of the other"),
                };
                self.add(problem.at(key.clone()).label(label).help(help));
            } else if let Some(known) = known.filter(|known| !known.contains(&&**name) && name != "$schema") {
                let message = |field: &str| format!("{what} has no {field} {}", quote(name));
                let problem = match self.format {
                    Format::Json => Problem::warning("unknown-field", message("field")).label("ignored"),
                    Format::Toml => Problem::error("unknown-field", message("key")).label("unknown key"),
                };
                self.add(problem.at(key.clone()).help(match nearest(name, known.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("it has {}", listed(known)),
                }));
            }
        }
        Ok(Fields { what, path: None, fields, span: &value.span })
    }

    /// The elements of an array, each read by `read`.
    pub(crate) fn each<'a, T>(
        &mut self,
        what: &str,
        value: &'a Value<'a>,
        expected: &str,
        mut read: impl FnMut(&mut Self, &'a Value<'a>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let Data::Array(elements) = &value.data else { return self.wrong_type(what, value, expected) };
        // All of them, so that all problems are reported.
        let read: Vec<_> = elements.iter().map(|element| read(self, element)).collect();
        read.into_iter().collect()
    }

    /// A string without NUL, which no name, path, word or variable can contain.
    pub(crate) fn text(&mut self, what: &str, value: &Value<'_>) -> Read<Placed<String>> {
        let Data::String(text) = &value.data else { return self.wrong_type(what, value, "a string") };
        let text = Placed { value: text.clone().into_owned(), span: value.span.clone() };
        if let Some(at) = text.value.find('\0') {
            let problem = Problem::error("nul", format!("{} contains the character NUL", quote(what)));
            return self.report_within(&text, [problem.at(at..at + 1).label("not allowed here")]);
        }
        Ok(text)
    }

    /// A non-empty string.
    pub(crate) fn filled(&mut self, what: &str, value: &Value<'_>) -> Read<Placed<String>> {
        let text = self.text(what, value)?;
        if text.value.trim().is_empty() {
            let problem = Problem::error("empty-text", format!("{} is empty", quote(what))).at(text.span);
            return self.report(problem.label("expected at least one character"));
        }
        Ok(text)
    }

    /// An array of strings.
    pub(crate) fn texts(&mut self, what: &str, value: &Value<'_>) -> Read<Vec<String>> {
        self.each(what, value, "an array of strings", |reader, element| {
            reader.text(what, element).map(|text| text.value)
        })
    }

    /// A string, or a number as it is written.
    pub(crate) fn written(&mut self, what: &str, value: &Value<'_>) -> Read<Placed<String>> {
        match &value.data {
            Data::Number(number) => Ok(Placed { value: number.clone().into_owned(), span: value.span.clone() }),
            _ => self.text(what, value),
        }
    }

    /// An array of strings; numbers count as strings.
    pub(crate) fn words(&mut self, what: &str, value: &Value<'_>) -> Read<Vec<String>> {
        self.each(what, value, "an array of strings", |reader, element| {
            reader.written(what, element).map(|text| text.value)
        })
    }

    /// Names and strings; numbers count as strings.
    pub(crate) fn entries(&mut self, what: &str, value: &Value<'_>) -> Read<BTreeMap<String, String>> {
        let fields = self.object(what, value, None)?;
        let entries: Vec<_> = fields
            .all()
            .map(|(name, value)| Ok((name.to_owned(), self.written(&format!("{what}.{name}"), value)?.value)))
            .collect();
        entries.into_iter().collect()
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, what: &str, value: &Value<'_>) -> Read<bool> {
        match value.data {
            Data::Boolean(boolean) => Ok(boolean),
            _ => self.wrong_type(what, value, "a boolean"),
        }
    }

    /// A whole number; `3.0` is one.
    pub(crate) fn integer(&mut self, what: &str, value: &Value<'_>) -> Read<i64> {
        let Data::Number(number) = &value.data else { return self.wrong_type(what, value, "an integer") };
        whole(number).map_or_else(|| self.refuse("not-whole", what, value, "expected an integer"), Ok)
    }

    /// A whole number in this range.
    pub(crate) fn count(&mut self, what: &str, value: &Value<'_>, range: RangeInclusive<u32>) -> Read<u32> {
        let count = self.integer(what, value)?;
        u32::try_from(count).ok().filter(|count| range.contains(count)).map_or_else(
            || {
                let expected = format!("expected an integer from {} to {}", range.start(), range.end());
                self.refuse("bad-value", what, value, &expected)
            },
            Ok,
        )
    }

    /// Any number.
    pub(crate) fn number(&mut self, what: &str, value: &Value<'_>) -> Read<f64> {
        let Data::Number(number) = &value.data else { return self.wrong_type(what, value, "a number") };
        number.parse().or_else(|_| self.refuse("bad-value", what, value, "expected a number"))
    }

    /// A string or a number that is parsed; the error of `parse` says what is expected.
    pub(crate) fn parsed<T>(
        &mut self,
        what: &str,
        value: &Value<'_>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Read<T> {
        let text = self.written(what, value)?;
        parse(&text.value).or_else(|expected| self.refuse("bad-value", what, value, &expected))
    }

    /// Reports a value of the right type.
    pub(crate) fn refuse<T>(&mut self, code: &'static str, what: &str, value: &Value<'_>, expected: &str) -> Read<T> {
        let found = match &value.data {
            Data::String(text) | Data::Number(text) => quote(text),
            _ => quote(self.raw(value)),
        };
        let problem = Problem::error(code, format!("{} is {found}", quote(what)));
        self.report(problem.at(value.span.clone()).label(expected))
    }

    /// One of the given names.
    pub(crate) fn name_of<T: Copy>(&mut self, what: &str, value: &Value<'_>, names: &[(&str, T)]) -> Read<T> {
        let text = self.text(what, value)?;
        if let Some((_, found)) = names.iter().find(|(name, _)| *name == text.value) {
            return Ok(*found);
        }
        let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let problem = Problem::error("unknown-name", format!("{} is {}", quote(what), quote(&text.value)));
        let problem = problem.at(text.span).label(format!("expected {}", listed(&known)));
        self.report(match nearest(&text.value, known) {
            Some(meant) => problem.help(format!("did you mean `{meant}`?")),
            None => problem,
        })
    }

    /// The type of a value.
    fn kind(&self, value: &Value<'_>) -> &'static str {
        match value.data {
            Data::String(_) => "a string",
            Data::Number(_) => "a number",
            Data::Boolean(_) => "a boolean",
            Data::Date => "a date",
            Data::Object(_) => self.format.object(),
            Data::Array(_) => "an array",
            Data::Null => "null",
        }
    }

    /// Reports names that occur more than once in an array.
    pub(crate) fn no_duplicates<'p>(
        &mut self,
        code: &'static str,
        what: &str,
        names: impl IntoIterator<Item = &'p Placed<String>>,
    ) {
        let mut seen = HashSet::new();
        for name in names {
            if !seen.insert(name.value.as_str()) {
                let problem = Problem::error(code, format!("duplicate name of {what}: {}", quote(&name.value)));
                let problem = problem.at(name.span.clone()).label("name already used");
                self.add(problem.help("rename one of them, or remove it"));
            }
        }
    }
}

/// The fields of an object. `null` in an optional field is the same as an absent field.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    /// What the object is, such as `a task`.
    pub(crate) what: &'a str,
    /// Where the object is, for the names of its fields in messages.
    path: Option<String>,
    fields: &'a [Field<'a>],
    /// The bytes of the object.
    pub(crate) span: &'a Range<usize>,
}

impl<'a> Fields<'a> {
    /// The same fields, which messages name after this path: `tasks.NAME.env`.
    pub(crate) fn below(self, path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// The name of a field for messages.
    pub(crate) fn name(&self, field: &str) -> String {
        self.path.as_ref().map_or_else(|| field.to_owned(), |path| format!("{path}.{field}"))
    }

    /// A field. The last one if there are several of the name, which has been reported.
    fn field(&self, name: &str) -> Option<&'a Field<'a>> {
        self.fields.iter().rev().find(|field| field.name == name)
    }

    /// The value of a field, including `null`.
    pub(crate) fn find(&self, name: &str) -> Option<&'a Value<'a>> {
        self.field(name).map(|field| &field.value)
    }

    /// The bytes of a field's name.
    pub(crate) fn key(&self, name: &str) -> Range<usize> {
        self.field(name).map_or(self.opening(), |field| field.key.clone())
    }

    /// The bytes of a field's value.
    pub(crate) fn place(&self, name: &str) -> Option<Range<usize>> {
        self.find(name).map(|value| value.span.clone())
    }

    /// All fields in order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a str, &'a Value<'a>)> + use<'a> {
        self.fields.iter().map(|field| (&*field.name, &field.value))
    }

    /// The opening brace of the object: the location of absent fields.
    pub(crate) fn opening(&self) -> Range<usize> {
        self.span.start..self.span.start + 1
    }

    /// A required field, read by `read`.
    pub(crate) fn required<'t, T>(
        &self,
        reader: &mut Reader<'t>,
        name: &str,
        read: impl FnOnce(&mut Reader<'t>, &str, &'a Value<'a>) -> Read<T>,
    ) -> Read<T> {
        match self.find(name) {
            Some(value) => read(reader, &self.name(name), value),
            None => {
                let problem = Problem::error("missing-field", format!("{} has no {}", self.what, quote(name)));
                reader.report(problem.at(self.opening()).label(format!("expected \"{name}\": … in this object")))
            }
        }
    }

    /// An optional field, read by `read`.
    pub(crate) fn optional<'t, T>(
        &self,
        reader: &mut Reader<'t>,
        name: &str,
        read: impl FnOnce(&mut Reader<'t>, &str, &'a Value<'a>) -> Read<T>,
    ) -> Read<Option<T>> {
        match self.find(name) {
            None | Some(Value { data: Data::Null, .. }) => Ok(None),
            Some(value) => read(reader, &self.name(name), value).map(Some),
        }
    }

    /// An optional field, read by `read`; `None` also if it is invalid, which has been reported.
    pub(crate) fn take<'t, T>(
        &self,
        reader: &mut Reader<'t>,
        name: &str,
        read: impl FnOnce(&mut Reader<'t>, &str, &'a Value<'a>) -> Read<T>,
    ) -> Option<T> {
        self.optional(reader, name, read).ok().flatten()
    }
}

/// Moves a problem whose span points into the content of a value to the value's location in the document.
pub(crate) fn within(text: &str, place: &Range<usize>, problem: Problem) -> Problem {
    let literal = text.get(place.clone()).unwrap_or_default();
    let span = match problem.span.clone() {
        None => place.clone(),
        // TOML: a string whose escapes differ from JSON's, or that has none.
        Some(_) if literal.starts_with('\'') || literal.starts_with("\"\"\"") => place.clone(),
        Some(span) if literal.starts_with('"') => {
            let within = json::within_literal(literal, span);
            // An empty span would be invisible: mark the quotes of an empty string.
            if literal.len() == 2 { place.clone() } else { place.start + within.start..place.start + within.end }
        }
        Some(span) => place.start + span.start..place.start + span.end.min(literal.len()),
    };
    problem.at(span)
}

/// A number without fraction and exponent; `3.0` has no fraction.
pub(crate) fn whole(literal: &str) -> Option<i64> {
    match literal.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole.parse().ok(),
        Some(_) | None => literal.parse().ok(),
    }
}

/// The correction, if a value of another type has an obvious meaning.
fn remedy(value: &Value<'_>, expected: &str, raw: &str) -> Option<String> {
    match (&value.data, expected) {
        (Data::Number(_) | Data::Boolean(_), "a string") => Some(format!("write \"{raw}\"")),
        (Data::String(text), "an integer") if text.parse::<i64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        (Data::String(text), "a boolean") if matches!(&**text, "true" | "false") => {
            Some(format!("write {text} without quotes"))
        }
        (Data::String(text), "an array of strings") if text.contains(['"', '\'', '\\', '$', '`', '|', '>', '<']) => {
            Some(format!("write the words one by one, or [\"sh\", \"-c\", {raw}]"))
        }
        (Data::String(text), "an array of strings") => {
            let words: Vec<String> = text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            Some(format!("write [{}]", words.join(", ")))
        }
        _ => None,
    }
}

/// Names in back-ticks, separated by commas.
pub(crate) fn listed(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::problem::Flawed;

    /// The problems of reading a document as `line:column code message | label | help`.
    fn problems(format: Format, text: &str) -> Vec<String> {
        let root = match format {
            Format::Json => json::value(json::parse(text).unwrap()),
            Format::Toml => toml::parse(text).unwrap(),
        };
        let mut reader = Reader::new(format, text);
        let known = ["name", "words", "count", "on", "mode", "table", "at"];
        let fields = reader.object("a thing", &root, Some(&known)).unwrap();
        fields.take(&mut reader, "name", Reader::text);
        fields.take(&mut reader, "words", Reader::texts);
        fields.take(&mut reader, "count", |reader, what, value| reader.count(what, value, 1..=9));
        fields.take(&mut reader, "on", Reader::flag);
        fields
            .take(&mut reader, "mode", |reader, what, value| reader.name_of(what, value, &[("sum", ()), ("most", ())]));
        fields.take(&mut reader, "table", Reader::entries);
        let flawed = Flawed::new("", text, reader.finish().0);
        let shown = |problem: &Problem| {
            let (line, _) = flawed.line_column(problem).unwrap();
            let [label, help] = [&problem.label, &problem.help].map(|text| text.as_deref().unwrap_or("-"));
            format!("{line} {}: {} | {label} | {help}", problem.code, problem.message)
        };
        flawed.problems.iter().map(shown).collect()
    }

    #[test]
    fn json_and_toml_have_the_same_messages() {
        let json = "{\"name\": 3,\n\"words\": \"a b\",\n\"count\": 10,\n\"on\": \"true\",\n\"mode\": \"smu\"}";
        let toml = "name = 3\nwords = \"a b\"\ncount = 10\non = \"true\"\nmode = \"smu\"\n";
        let expected = [
            "1 wrong-type: `name` is a number | expected a string | write \"3\"",
            "2 wrong-type: `words` is a string | expected an array of strings | write [\"a\", \"b\"]",
            "3 bad-value: `count` is `10` | expected an integer from 1 to 9 | -",
            "4 wrong-type: `on` is a string | expected a boolean | write true without quotes",
            "5 unknown-name: `mode` is `smu` | expected `sum`, `most` | did you mean `sum`?",
        ];
        assert_eq!(problems(Format::Json, json), expected);
        assert_eq!(problems(Format::Toml, toml), expected);
    }

    #[test]
    fn each_format_has_its_own_words() {
        assert_eq!(
            problems(Format::Json, "{\"nmae\": 1, \"table\": [], \"on\": {}}"),
            [
                "1 unknown-field: a thing has no field `nmae` | ignored | did you mean `name`?",
                "1 wrong-type: `table` is an array | expected an object | -",
                "1 wrong-type: `on` is an object | expected a boolean | -",
            ]
        );
        assert_eq!(
            problems(Format::Toml, "nmae = 1\ntable = []\non = {}"),
            [
                "1 unknown-field: a thing has no key `nmae` | unknown key | did you mean `name`?",
                "2 wrong-type: `table` is an array | expected a table | -",
                "3 wrong-type: `on` is a table | expected a boolean | -",
            ]
        );
    }

    #[test]
    fn numbers_of_toml_are_read_in_every_base() {
        assert_eq!(problems(Format::Toml, "count = 0x9\n"), [""; 0]);
        assert_eq!(
            problems(Format::Toml, "count = 0xA\n"),
            ["1 bad-value: `count` is `10` | expected an integer from 1 to 9 | -"]
        );
        assert!(problems(Format::Toml, "count = 0x1111111111111111111111111111111111\n")[0].starts_with("1 not-whole"));
        assert_eq!(
            problems(Format::Toml, "on = 1979-05-27\n")[0],
            "1 wrong-type: `on` is a date | expected a boolean | -"
        );
    }
}
