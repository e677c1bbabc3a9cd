//! Errors of parsing and evaluating rules.

use super::diagnose::diagnose;
use super::parse::Mismatch;
use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::{nearest, quote};
use crate::model::units::Bytes;

/// A string is not a rule of the `complexity` dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a scale rule", quote(text))]
pub struct RuleError {
    /// The text.
    pub text: String,
    /// What is wrong with it; the span points into [`Self::text`].
    pub problem: Box<Problem>,
}

impl RuleError {
    pub(super) fn new(text: &str, mismatch: Mismatch<'_>) -> Self {
        Self { text: text.to_owned(), problem: Box::new(diagnose(text, mismatch)) }
    }

    /// The same with the name of the text's origin, such as `the --rule option`.
    pub fn named(self, name: impl Into<String>) -> Flawed {
        Flawed { name: name.into(), text: self.text, problems: vec![*self.problem] }
    }
}

/// A rule has no usable result for an input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A negative result.
    #[error("{} is negative for n = {}: {result} bytes", quote(formula), n.0)]
    Negative {
        /// The rule as an expression in n.
        formula: String,
        /// The size of the channel.
        n: Bytes,
        /// The result in digits, or its order of magnitude.
        result: String,
    },
    /// More than 2⁶⁴ - 1 bytes.
    #[error("{} is more than 16 EiB for n = {}: {result} bytes", quote(formula), n.0)]
    Overflow {
        /// The rule as an expression in n.
        formula: String,
        /// The size of the channel.
        n: Bytes,
        /// The order of magnitude of the result.
        result: String,
    },
}

impl EvalError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Negative { .. } => "remove the `-`: a rule gives an amount of memory",
            Self::Overflow { .. } => {
                "n is in bytes, so with `**2` the coefficient is far below 1, as in `.00000002*n**2`"
            }
        }
    }
}

impl From<&EvalError> for Problem {
    fn from(error: &EvalError) -> Self {
        let code = match error {
            EvalError::Negative { .. } => "rule-negative",
            EvalError::Overflow { .. } => "rule-overflow",
        };
        Self::error(code, error.to_string()).help(error.help())
    }
}

/// An unknown name in a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a {field} of a scale rule, expected one of {}", quote(name), known.join(", "))]
pub struct UnknownName {
    /// A stable name for scripts, such as `unknown-mode`.
    pub code: &'static str,
    /// The field, such as `mode`.
    pub field: &'static str,
    /// The name found.
    pub name: String,
    /// The known names.
    pub known: Vec<&'static str>,
}

impl UnknownName {
    pub(super) fn look_up<T: Copy>(
        (code, field): (&'static str, &'static str),
        name: &str,
        names: &[(&'static str, T)],
    ) -> Result<T, UnknownName> {
        let found = names.iter().find(|(known, _)| *known == name);
        found.map(|&(_, value)| value).ok_or_else(|| UnknownName {
            code,
            field,
            name: name.to_owned(),
            known: names.iter().map(|&(known, _)| known).collect(),
        })
    }
}

impl From<&UnknownName> for Problem {
    fn from(unknown: &UnknownName) -> Self {
        let known = unknown.known.join(", ");
        let help = match nearest(&unknown.name, unknown.known.iter().copied()) {
            Some(name) => format!("write `{name}` instead"),
            None => format!("write one of {known}"),
        };
        Self::error(unknown.code, format!("{} is not a {} of a scale rule", quote(&unknown.name), unknown.field))
            .at(0..unknown.name.len())
            .label(format!("expected one of {known}"))
            .help(help)
    }
}
