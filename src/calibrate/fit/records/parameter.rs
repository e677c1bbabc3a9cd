//! Parameters of a sweep that predict the need.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::scalar::amount;
use crate::model::units::Bytes;

/// The value of a parameter that is n: a whole number, or an amount such as 512Mi.
pub(super) fn whole(value: &str) -> Option<Bytes> {
    let is_broken = value.trim().parse::<f64>().is_ok_and(|number| number.fract() != 0.0);
    amount(value).ok().filter(|_| !is_broken)
}

/// The predictor cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictorError {
    /// The records have neither a parameter nor a channel of this name.
    #[error("no parameter or input channel `{name}`, {}", expected(known))]
    Unknown {
        /// The name.
        name: String,
        /// The names that the records have.
        known: Vec<String>,
    },
    /// A parameter has other values than numbers.
    #[error(
        "the parameter `{name}` is `{value}` in some runs, expected whole numbers or amounts such as 8 or 512Mi in all"
    )]
    NotANumber {
        /// The name.
        name: String,
        /// The first value that is none.
        value: String,
    },
}

fn expected(known: &[String]) -> String {
    if known.is_empty() {
        "the records have none".to_owned()
    } else {
        format!("expected one of `{}`", known.join("`, `"))
    }
}

pub(super) fn insert(known: &mut BTreeSet<String>, name: &str) {
    if !known.contains(name) {
        known.insert(name.to_owned());
    }
}

/// The parameters of a task, and those of their values that runtimes read in their own way.
type Choice<'a> = (&'a BTreeMap<String, String>, &'a BTreeMap<String, Bytes>);

/// The parameter with the most values, if all of them are numbers. All of these choices have the same parameters.
pub(super) fn numeric(choices: &[Choice<'_>]) -> Option<String> {
    let (first, _) = choices.first()?;
    if choices.iter().any(|(choice, _)| !choice.keys().eq(first.keys())) {
        return None;
    }
    let values = |name: &String| {
        choices.iter().map(|(choice, amounts)| value_of(name, choice, amounts)).collect::<Option<BTreeSet<_>>>()
    };
    let counted = first.keys().filter_map(|name| Some((values(name)?.len(), name)));
    // Of several with as many values, the first.
    let most = counted.filter(|(count, _)| *count > 1).rev().max_by_key(|(count, _)| *count)?;
    Some(most.1.clone())
}

/// The value of a parameter that is n, if it is a number.
pub(super) fn value_of(
    name: &str,
    parameters: &BTreeMap<String, String>,
    amounts: &BTreeMap<String, Bytes>,
) -> Option<Bytes> {
    amounts.get(name).copied().or_else(|| whole(parameters.get(name)?))
}
