//! Numbers and facts as text. Every number has its unit.

use super::model::Change;
#[cfg(feature = "plots")]
use crate::model::units::Bytes;

/// Stands for an unknown value.
pub(super) const UNKNOWN: &str = "–";

/// An amount, or a dash.
#[cfg(feature = "plots")]
pub(super) fn amount(bytes: Option<Bytes>) -> String {
    bytes.map_or_else(|| UNKNOWN.to_owned(), |bytes| bytes.to_string())
}

/// An amount that may be a lower bound: `≥ 12 MiB`.
pub(super) fn at_least(amount: String, lower_bound: bool) -> String {
    if lower_bound { format!("≥ {amount}") } else { amount }
}

/// A ratio: `1.28 ×`.
pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

/// A share: `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A relative change: `+3.1 %`, `−0.4 %`.
pub(super) fn change(ratio: f64) -> String {
    let percent = 100.0 * (ratio - 1.0);
    let sign = if percent < -0.05 { "−" } else { "+" };
    format!("{sign}{:.1} %", percent.abs())
}

/// A word of a command, quoted for a shell if necessary.
pub(super) fn shell(word: &str) -> String {
    // A shell leaves a single name in braces as it is.
    let name = word.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    if name.is_some_and(|name| !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_'))
    {
        return word.to_owned();
    }
    // Only a word with a NUL cannot be quoted, and no command has one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), Into::into)
}

/// The change of a case: `+3.1 %`, or whether it is new or gone.
pub(super) fn changed(of: &Change) -> String {
    match (of.old_median, of.new_median) {
        (None, Some(_)) => "new".to_owned(),
        (Some(_), None) => "gone".to_owned(),
        _ => of.ratio.map_or_else(|| UNKNOWN.to_owned(), change),
    }
}

/// `1 run`, `7 runs`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_if_a_shell_would_change_them() {
        let words = ["a/b-c.json", "{input}", "a b", "it's", "{a,b}", ""];
        assert_eq!(words.map(shell), ["a/b-c.json", "{input}", "'a b'", "\"it's\"", "'{a,b}'", "''"]);
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(change(1.031), "+3.1 %");
        assert_eq!(change(0.996), "−0.4 %");
        assert_eq!(change(1.0), "+0.0 %");
    }
}
