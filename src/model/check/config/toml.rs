//! Reads the values of a TOML document and collects all problems.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use crate::model::check::thresholds::Reaction;
use crate::model::problem::Problem;
use crate::model::spelling::{nearest, quote};
use crate::model::units::Bytes;

/// Bytes of the document.
pub(super) type Place = Range<usize>;

/// The most problems to report.
const MOST: usize = 100;

/// Collects problems.
pub(super) struct Reader<'t> {
    text: &'t str,
    root: Option<DeTable<'t>>,
    problems: Vec<Problem>,
}

/// A table whose entries are taken one by one; the rest is unknown.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name, for messages.
    name: String,
    pub(super) place: Place,
    entries: BTreeMap<String, Entry>,
    failed: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Place,
    value: Value,
    place: Place,
}

/// An owned value.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Integer(String, u32),
    Float(String),
    Other(&'static str),
    Array(Vec<(Value, Place)>),
    Table(BTreeMap<String, Entry>),
}

impl Value {
    fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(integer) => Self::Integer(integer.as_str().to_owned(), integer.radix()),
            DeValue::Float(float) => Self::Float(float.as_str().to_owned()),
            DeValue::Boolean(_) => Self::Other("a boolean"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Array(array) => {
                Self::Array(array.iter().map(|value| (Self::from_toml(value.get_ref()), value.span())).collect())
            }
            DeValue::Table(table) => Self::Table(entries(table)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(..) => "an integer",
            Self::Float(_) => "a float",
            Self::Other(kind) => kind,
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }

    /// A number, or a string that is one.
    fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(digits, 10) => digits.parse().ok(),
            Self::Float(text) => text.parse().ok(),
            Self::Text(_) | Self::Integer(..) | Self::Other(_) | Self::Array(_) | Self::Table(_) => None,
        }
    }

    fn written(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Integer(digits, 10) => Some(digits.clone()),
            Self::Float(text) => Some(text.clone()),
            Self::Integer(..) | Self::Other(_) | Self::Array(_) | Self::Table(_) => None,
        }
    }
}

fn entries(table: &DeTable<'_>) -> BTreeMap<String, Entry> {
    let entry = |(key, value): (&Spanned<::toml::de::DeString<'_>>, &Spanned<DeValue<'_>>)| {
        let entry = Entry { key: key.span(), value: Value::from_toml(value.get_ref()), place: value.span() };
        (key.get_ref().to_string(), entry)
    };
    table.iter().map(entry).collect()
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let broken = !errors.is_empty();
        let problem = |error: &::toml::de::Error| {
            let problem = Problem::error("not-toml", error.message().to_owned());
            let problem = match error.span() {
                // A span that begins after the last byte cannot be marked.
                Some(span) => problem.at(span.start.min(text.len())..span.end.min(text.len())),
                None => problem,
            };
            problem.label("expected TOML")
        };
        let problems = errors.iter().take(MOST).map(problem).collect();
        Self { text, root: (!broken).then(|| table.into_inner()), problems }
    }

    pub(super) fn source(&self) -> &'t str {
        self.text
    }

    /// The whole document; `None` if it is not TOML.
    pub(super) fn root(&mut self) -> Option<Table> {
        let root = self.root.take()?;
        Some(Table { name: String::new(), place: 0..0, entries: entries(&root), failed: BTreeSet::new() })
    }

    pub(super) fn report(&mut self, problem: Problem) {
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }

    /// All problems, in the order of their location.
    pub(super) fn finish(self) -> Vec<Problem> {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| problem.span.as_ref().map_or(0, |span| span.start));
        problems
    }

    fn take<T>(
        &mut self,
        table: &mut Table,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<(T, Place)> {
        let entry = table.entries.remove(key)?;
        if let Some(value) = read(&entry.value) {
            return Some((value, entry.place));
        }
        table.failed.insert(key.to_owned());
        let (code, found) = match (&entry.value, entry.value.written()) {
            (_, Some(text)) => ("bad-value", quote(&text)),
            (other, None) => ("wrong-type", other.kind().to_owned()),
        };
        let problem = Problem::error(code, format!("`{}` is {found}", table.path(key))).at(entry.place);
        self.report(problem.label(format!("expected {expected}")));
        None
    }

    pub(super) fn text(&mut self, table: &mut Table, key: &str) -> Option<(String, Place)> {
        self.take(table, key, "a string", |value| if let Value::Text(text) = value { Some(text.clone()) } else { None })
    }

    pub(super) fn bytes(&mut self, table: &mut Table, key: &str) -> Option<(Bytes, Place)> {
        self.take(table, key, "an amount of memory such as \"512MiB\" or \"2Gi\"", |value| {
            value.written()?.parse().ok()
        })
    }

    pub(super) fn share(&mut self, table: &mut Table, key: &str) -> Option<(f64, Place)> {
        self.take(table, key, "a share such as \"3%\" or 0.03", |value| match value {
            Value::Text(text) => text.trim().strip_suffix('%')?.trim().parse().ok().map(|percent: f64| percent / 100.0),
            // `3` is meant as 3 %: as a share it would be 300 %, which nothing ever exceeds.
            other => other.number().filter(|share| *share < 1.0),
        })
    }

    pub(super) fn number(&mut self, table: &mut Table, key: &str) -> Option<(f64, Place)> {
        self.take(table, key, "a number", Value::number)
    }

    pub(super) fn count(&mut self, table: &mut Table, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let count = self.take(table, key, &expected, |value| {
            let Value::Integer(digits, 10) = value else { return None };
            digits.parse().ok().filter(|count| range.contains(count))
        });
        count.map(|(count, _)| count)
    }

    pub(super) fn duration(&mut self, table: &mut Table, key: &str) -> Option<Duration> {
        let duration = self.take(table, key, "a duration such as \"90s\" or \"1h30m\"", |value| {
            let Value::Text(text) = value else { return None };
            text.parse::<jiff::SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok())
        });
        duration.map(|(duration, _)| duration)
    }

    pub(super) fn reaction(&mut self, table: &mut Table, key: &str) -> Option<Reaction> {
        let (text, place) = self.text(table, key)?;
        let reaction = Reaction::named(&text);
        if reaction.is_none() {
            self.unknown_name(&table.path(key), &text, place, &Reaction::NAMES);
        }
        reaction
    }

    pub(super) fn list(&mut self, table: &mut Table, key: &str) -> Option<(Vec<String>, Place)> {
        self.take(table, key, "an array of strings, such as [\"./segment\", \"{input}\"]", |value| {
            let Value::Array(values) = value else { return None };
            values.iter().map(|(value, _)| value.written()).collect()
        })
    }

    /// A table of names and strings; numbers keep their spelling.
    pub(super) fn words(&mut self, table: &mut Table, key: &str) -> BTreeMap<String, String> {
        let words = self.take(table, key, "a table such as { NAME = \"value\" }", |value| {
            let Value::Table(entries) = value else { return None };
            entries.iter().map(|(name, entry)| Some((name.clone(), entry.value.written()?))).collect()
        });
        words.map(|(words, _)| words).unwrap_or_default()
    }

    pub(super) fn table(&mut self, table: &mut Table, key: &str) -> Option<Table> {
        let name = table.path(key);
        let (entries, place) = self.take(table, key, "a table", |value| {
            if let Value::Table(entries) = value { Some(entries.clone()) } else { None }
        })?;
        Some(Table { name, place, entries, failed: BTreeSet::new() })
    }

    /// The entries of a table of tables, in the order of the file.
    pub(super) fn tables(&mut self, table: Table) -> Vec<(String, Table)> {
        let mut tables = Vec::new();
        for (key, entry) in table.entries.clone() {
            let mut only = Table { entries: BTreeMap::from([(key.clone(), entry)]), ..table.emptied() };
            if let Some(table) = self.table(&mut only, &key) {
                tables.push((key, table));
            }
        }
        tables.sort_by_key(|(_, table)| table.place.start);
        tables
    }

    pub(super) fn list_of_tables(&mut self, table: &mut Table, key: &str) -> Vec<Table> {
        let name = table.path(key);
        let list = self.take(table, key, &format!("tables: [[{name}]]"), |value| {
            let Value::Array(values) = value else { return None };
            let table = |(value, place): &(Value, Place)| {
                if let Value::Table(entries) = value { Some((entries.clone(), place.clone())) } else { None }
            };
            values.iter().map(table).collect::<Option<Vec<_>>>()
        });
        let table = |(entries, place)| Table { name: name.clone(), place, entries, failed: BTreeSet::new() };
        list.map(|(list, _)| list.into_iter().map(table).collect()).unwrap_or_default()
    }

    /// Reports the entries that were not taken.
    pub(super) fn unknown(&mut self, table: Table, known: &[&str], more: &[&str]) {
        for (key, entry) in &table.entries {
            let names = known.iter().chain(more).copied();
            let problem = Problem::error("unknown-field", format!("unknown key {}", quote(&table.path(key))));
            let problem = problem.at(entry.key.clone());
            self.report(match nearest(key, names.clone()) {
                Some(nearest) => problem.label(format!("did you mean `{nearest}`?")).help(format!("write `{nearest}`")),
                None => problem.help(format!("expected one of: {}", names.collect::<Vec<_>>().join(", "))),
            });
        }
    }

    /// Reports a string that is not one of the possible names.
    pub(super) fn unknown_name(&mut self, what: &str, found: &str, place: Place, names: &[&str]) {
        let problem = Problem::error("bad-value", format!("`{what}` is {}", quote(found))).at(place);
        let problem = problem.label(format!("expected {}", names.join(", ")));
        self.report(match nearest(found, names.iter().copied()) {
            Some(nearest) => problem.help(format!("write \"{nearest}\"")),
            None => problem,
        });
    }
}

impl Table {
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn emptied(&self) -> Self {
        Self { name: self.name.clone(), place: self.place.clone(), entries: BTreeMap::new(), failed: BTreeSet::new() }
    }

    /// Whether a value was present but not usable.
    pub(super) fn has_problem_with(&self, key: &str) -> bool {
        self.failed.contains(key)
    }
}
