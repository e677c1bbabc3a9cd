//! Parameters and their combinations.

use std::collections::BTreeMap;

/// A range of more values than this is a mistake.
const MOST_VALUES: i128 = 10_000;

/// Numbers with more decimals than this are a mistake; the limit also prevents overflow when scaling.
const MOST_DECIMALS: usize = 9;

/// A parameter and its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its values, in order.
    pub values: Vec<String>,
}

/// Why parameters cannot be combined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GridError {
    /// A parameter has no values.
    #[error("the grid is empty: the parameter {0} has no values")]
    NoValues(String),
    /// Two parameters have the same name.
    #[error("the parameter {0} is given twice")]
    Twice(String),
    /// Parameters to pair have different numbers of values.
    #[error("the parameters cannot be paired: {first} has {first_count} values, {other} has {other_count}")]
    Uneven {
        /// A parameter.
        first: String,
        /// The number of its values.
        first_count: usize,
        /// Another parameter.
        other: String,
        /// The number of its values.
        other_count: usize,
    },
}

/// All combinations of the values, the last parameter changing fastest; with `pair` the first values of all, then the
/// second ones, and so on. Without parameters there is one empty combination. Each is made when it is taken, because there
/// may be many.
///
/// # Errors
/// If a parameter has no values or occurs twice, or parameters to pair have different numbers of values.
pub fn combinations(
    parameters: &[Parameter],
    pair: bool,
) -> Result<impl Iterator<Item = BTreeMap<String, String>> + Clone, GridError> {
    for (place, parameter) in parameters.iter().enumerate() {
        if parameter.values.is_empty() {
            return Err(GridError::NoValues(parameter.name.clone()));
        }
        if parameters.iter().take(place).any(|other| other.name == parameter.name) {
            return Err(GridError::Twice(parameter.name.clone()));
        }
    }
    let first = parameters.first().filter(|_| pair);
    if let Some(first) = first
        && let Some(other) = parameters.iter().find(|other| other.values.len() != first.values.len())
    {
        return Err(GridError::Uneven {
            first: first.name.clone(),
            first_count: first.values.len(),
            other: other.name.clone(),
            other_count: other.values.len(),
        });
    }
    let count = match first {
        Some(first) => first.values.len(),
        None => parameters.iter().fold(1, |count: usize, parameter| count.saturating_mul(parameter.values.len())),
    };
    let is_paired = first.is_some();
    let row = move |index: usize| {
        let mut index = index;
        let value = |parameter: &Parameter| {
            let place = index % parameter.values.len();
            if !is_paired {
                index /= parameter.values.len();
            }
            (parameter.name.clone(), parameter.values[place].clone())
        };
        parameters.iter().rev().map(value).collect()
    };
    Ok((0..count).map(row))
}

/// Expands a range to the values `MIN`, `MIN + STEP` and so on up to `MAX`, without rounding: `0:0.3:0.1` is 0, 0.1,
/// 0.2 and 0.3.
///
/// # Errors
/// What is wrong with the range.
pub fn scan(text: &str) -> Result<Vec<String>, String> {
    let expected = "expected MIN:MAX:STEP, for example 1:8:1 or 0:0.5:0.1";
    let parts: Vec<&str> = text.split(':').collect();
    let &[least, most, step] = parts.as_slice() else { return Err(expected.to_owned()) };
    let decimals = [least, most, step].iter().map(|number| decimals(number)).max().unwrap_or_default();
    let scaled = |text: &str| scaled(text, decimals).ok_or_else(|| expected.to_owned());
    let (least, most, step) = (scaled(least)?, scaled(most)?, scaled(step)?);
    if step <= 0 {
        return Err("the step must be greater than 0".to_owned());
    }
    if most < least {
        return Err("the grid is empty: MAX is less than MIN".to_owned());
    }
    let last = (most - least) / step;
    if last >= MOST_VALUES {
        return Err(format!("the range has {} values, more than {MOST_VALUES}", last + 1));
    }
    Ok((0..=last).map(|place| written(least + place * step, decimals)).collect())
}

fn decimals(number: &str) -> usize {
    number.split_once('.').map_or(0, |(_, fraction)| fraction.len())
}

/// The number times a power of ten.
fn scaled(number: &str, decimals: usize) -> Option<i128> {
    let (negative, digits) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if integer.is_empty()
        || integer.len() > 18
        || decimals > MOST_DECIMALS
        || !all_digits(integer)
        || !all_digits(fraction)
    {
        return None;
    }
    let value: i128 = format!("{integer}{fraction:0<decimals$}").parse().ok()?;
    Some(if negative { -value } else { value })
}

fn written(value: i128, decimals: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = decimals + 1);
    let (integer, fraction) = digits.split_at(digits.len() - decimals);
    let sign = if value < 0 { "-" } else { "" };
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{integer}") } else { format!("{sign}{integer}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(name: &str, values: &[&str]) -> Parameter {
        Parameter { name: name.to_owned(), values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    fn rows(parameters: &[Parameter], pair: bool) -> Vec<String> {
        let rows = combinations(parameters, pair).unwrap();
        rows.map(|row| row.values().map(String::as_str).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn combinations_are_a_grid_or_pairs() {
        let parameters = [parameter("a", &["1", "2"]), parameter("b", &["x", "y"])];
        assert_eq!(rows(&parameters, false), ["1 x", "1 y", "2 x", "2 y"]);
        assert_eq!(rows(&parameters, true), ["1 x", "2 y"]);
        assert_eq!(rows(&[], false), [""]);
        assert_eq!(rows(&[], true), [""]);
    }

    #[test]
    fn an_empty_grid_is_refused() {
        let error = |parameters: &[Parameter], pair| combinations(parameters, pair).err().unwrap().to_string();
        let (a, none) = (parameter("a", &["1", "2"]), parameter("b", &[]));
        assert_eq!(error(&[a.clone(), none], false), "the grid is empty: the parameter b has no values");
        assert_eq!(error(&[a.clone(), a.clone()], false), "the parameter a is given twice");
        assert_eq!(
            error(&[a, parameter("b", &["1"])], true),
            "the parameters cannot be paired: a has 2 values, b has 1"
        );
    }

    #[test]
    fn scans_are_exact() {
        let scanned = |text| scan(text).map(|values| values.join(" "));
        assert_eq!(scanned("1:8:3").unwrap(), "1 4 7");
        assert_eq!(scanned("0:0.3:0.1").unwrap(), "0 0.1 0.2 0.3");
        assert_eq!(scanned("-1:1:0.5").unwrap(), "-1 -0.5 0 0.5 1");
        assert_eq!(scanned("5:5:1").unwrap(), "5");
        for text in ["", "1:2", "1:2:0", "1:2:-1", "2:1:1", "a:2:1", "1::1", "0:1:0.0000000001", "0:1e9:1", "0:99999:1"]
        {
            assert!(scan(text).is_err(), "{text}");
        }
    }
}
