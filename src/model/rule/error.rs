//! Why a text is no rule, and why a rule has no result.

use super::super::problem::{Flawed, Problem};
use super::super::units::Bytes;

/// A text is no rule of the `complexity` dialect; everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a scale rule")]
pub struct RuleErrors {
    /// The text.
    pub text: String,
    /// What is wrong, in the order of the places; the spans point into [`Self::text`].
    pub problems: Vec<Problem>,
}

impl RuleErrors {
    pub(super) fn of(text: &str) -> Self {
        let problem = Problem::error("rule-invalid", format!("`{text}` is not a scale rule"));
        Self { text: text.to_owned(), problems: vec![problem.at(0..text.len()).help("write `2*n` instead")] }
    }

    /// The same under the name of the place the text came from, such as `the --rule option`.
    pub fn named(self, name: impl Into<String>) -> Flawed {
        Flawed { name: name.into(), text: self.text, problems: self.problems }
    }
}

/// A rule has no usable result for an input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// Less than no memory.
    #[error("`{formula}` is negative for n = {}: {result} bytes", n.0)]
    Negative {
        /// The rule in its plainest form.
        formula: String,
        /// The size of the channel.
        n: Bytes,
        /// The result in digits, or its order of magnitude.
        result: String,
    },
    /// More than 2⁶⁴ - 1 bytes.
    #[error("`{formula}` is more than 16 EiB for n = {}: {result} bytes", n.0)]
    Overflow {
        /// The rule in its plainest form.
        formula: String,
        /// The size of the channel.
        n: Bytes,
        /// The order of magnitude of the result.
        result: String,
    },
}

/// A name in a document that is none of those there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a {field}; there are {}", known.join(", "))]
pub struct UnknownName {
    /// The field, such as `mode`.
    pub field: &'static str,
    /// What was written.
    pub name: String,
    /// The names there are.
    pub known: Vec<&'static str>,
}

impl UnknownName {
    pub(super) fn look_up<T: Copy>(
        field: &'static str,
        name: &str,
        names: &[(&'static str, T)],
    ) -> Result<T, UnknownName> {
        let found = names.iter().find(|(known, _)| *known == name);
        found.map(|&(_, value)| value).ok_or_else(|| UnknownName {
            field,
            name: name.to_owned(),
            known: names.iter().map(|&(known, _)| known).collect(),
        })
    }
}
