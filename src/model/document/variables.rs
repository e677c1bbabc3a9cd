//! The variables of a template.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::problem::{Flawed, Problem};

/// The variables of a template: `env`, the environment of the process, and `custom`, what the caller sets.
///
/// ```
/// use highwater::model::document::Variables;
///
/// let mut variables = Variables::with_env([("HOME".to_owned(), "/home/ada".to_owned())]);
/// variables.set("registry.host=registry.example:5000")?;
/// assert!(variables.set("registry=other").is_err());
/// # Ok::<(), highwater::model::problem::Flawed>(())
/// ```
#[derive(Clone, Debug, Default, Serialize)]
pub struct Variables {
    env: BTreeMap<String, String>,
    custom: BTreeMap<String, Custom>,
    /// What happens where a template uses a variable that is not here.
    #[serde(skip)]
    pub undefined: Undefined,
}

/// What an undefined variable of a template is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undefined {
    /// Empty, with a warning, where only `config` depends on it, such as a registry's password; otherwise an error.
    #[default]
    Config,
    /// Empty everywhere, with a warning, as Jinja does it by default.
    Empty,
    /// An error.
    Error,
}

impl Undefined {
    /// The values, by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("config", Self::Config), ("empty", Self::Empty), ("error", Self::Error)];
}

/// A value of `custom`, or the values below a dotted key.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Custom {
    Text(String),
    Group(BTreeMap<String, Custom>),
}

impl Variables {
    /// Creates variables with this environment and no `custom` ones.
    pub fn with_env(env: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { env: env.into_iter().collect(), ..Self::default() }
    }

    /// Adds a variable of `env`, unless it is there already.
    pub fn add_env(&mut self, name: String, value: String) {
        self.env.entry(name).or_insert(value);
    }

    /// Sets one `custom` variable from `KEY=VALUE`. A dotted key refers to a group: `registry.host=…` sets
    /// `custom.registry.host`. Values are always strings, and may be empty; a later one replaces an earlier one.
    ///
    /// # Errors
    /// If there is no `=`, a part of the key is empty, or a key is used both as a string and as a group.
    pub fn set(&mut self, assignment: &str) -> Result<(), Flawed> {
        let flawed = |problem| Flawed {
            name: "the --set option".to_owned(),
            text: assignment.to_owned(),
            problems: vec![problem],
        };
        let Some((key, value)) = assignment.split_once('=') else {
            let problem = Problem::error("set-without-value", format!("`{assignment}` has no value"));
            return Err(flawed(
                problem
                    .at(0..assignment.len())
                    .label("expected KEY=VALUE")
                    .help(format!("write `--set {assignment}=…`; an empty value is fine")),
            ));
        };
        self.put(key, value).map_err(flawed)
    }

    fn put(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let mut group = &mut self.custom;
        let mut start = 0;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            let place = start..start + part.len();
            if part.is_empty() {
                let problem = Problem::error("set-key-empty", format!("`{key}` has an empty part"));
                return Err(problem.at(place).label("expected a name").help("names are separated by single dots"));
            }
            let last = parts.peek().is_none();
            if last {
                if let Some(Custom::Group(_)) = group.get(part) {
                    return Err(Self::conflict(key, &key[..place.end], "already a group").at(place));
                }
                group.insert(part.to_owned(), Custom::Text(value.to_owned()));
                return Ok(());
            }
            start = place.end + 1;
            group = match group.entry(part.to_owned()).or_insert_with(|| Custom::Group(BTreeMap::new())) {
                Custom::Group(inner) => inner,
                Custom::Text(_) => return Err(Self::conflict(key, &key[..place.end], "already a string").at(place)),
            };
        }
        Ok(())
    }

    fn conflict(key: &str, part: &str, what: &str) -> Problem {
        Problem::error("set-key-conflict", format!("cannot set `{key}`: `{part}` is {what}"))
            .help("a key is either a string or a group of keys, not both")
    }

    /// The names of the variables below `env` or `custom`, for suggestions.
    #[cfg(feature = "templates")]
    pub(super) fn names(&self, root: &str) -> Vec<&str> {
        match root {
            "env" => self.env.keys().map(String::as_str).collect(),
            "custom" => self.custom.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(assignments: &[&str]) -> String {
        let mut variables = Variables::default();
        let errors: Vec<Flawed> = assignments.iter().filter_map(|text| variables.set(text).err()).collect();
        let [error] = errors.as_slice() else { panic!("not one error: {errors:?}") };
        let problem = &error.problems[0];
        format!("{} at {:?}", problem.message, problem.span)
    }

    #[test]
    fn values_may_be_empty_and_hold_equal_signs() {
        let mut variables = Variables::default();
        variables.set("a=").unwrap();
        variables.set("b.c=x=y").unwrap();
        variables.set("b.c=z=y").unwrap();
        assert_eq!(serde_json::to_string(&variables).unwrap(), r#"{"env":{},"custom":{"a":"","b":{"c":"z=y"}}}"#);
    }

    #[test]
    fn a_key_is_a_text_or_a_group() {
        assert_eq!(refused(&["a.b=1", "a=2"]), "cannot set `a`: `a` is already a group at Some(0..1)");
        assert_eq!(refused(&["a=1", "a.b=2"]), "cannot set `a.b`: `a` is already a string at Some(0..1)");
    }

    #[test]
    fn an_assignment_has_a_key_and_an_equal_sign() {
        assert_eq!(refused(&["gpu"]), "`gpu` has no value at Some(0..3)");
        assert_eq!(refused(&["a..b=1"]), "`a..b` has an empty part at Some(2..2)");
        assert_eq!(refused(&["=1"]), "`` has an empty part at Some(0..0)");
    }
}
