//! Explains why a string is not a quantity, and what was probably meant.

use std::fmt;
use std::ops::Range;

use crate::model::problem::Problem;
use crate::model::spelling::{ascii_digit, quote};

use super::{Quantity, parse};

/// A string is not a quantity, or the quantity is not an amount of memory.
///
/// `Display` shows what was found and what to write instead; [`Self::problem`] also has the location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantityError(Problem);

impl std::error::Error for QuantityError {}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl From<QuantityError> for Problem {
    fn from(error: QuantityError) -> Self {
        error.0
    }
}

impl QuantityError {
    /// The problem, with its location in the quantity's own text, and what was expected.
    pub fn problem(&self) -> &Problem {
        &self.0
    }

    pub(super) fn negative(source: &str) -> Self {
        let problem = Problem::error("quantity-negative", format!("{} is a negative amount of memory", quote(source)));
        Self(problem.at(0..source.len()).label("expected zero or more").help("remove the `-`"))
    }

    pub(super) fn too_large(source: &str) -> Self {
        let problem =
            Problem::error("quantity-too-large", format!("{} exceeds the largest amount of memory", quote(source)));
        let help = format!("the largest amount in Kubernetes is {} bytes, one less than `8Ei`", Quantity::MAX.0);
        Self(problem.at(0..source.len()).label("too large").help(help))
    }

    pub(in crate::model) fn too_small(source: &str, expected: &str) -> Self {
        let problem = Problem::error("quantity-too-small", format!("{} is too little", quote(source)));
        Self(problem.at(0..source.len()).label(format!("expected {expected}")).help(format!("write {expected}")))
    }

    /// For a string that the grammar does not accept.
    pub(super) fn unreadable(text: &str) -> Self {
        let Finding { code, span, message, label } = find(text, parse::number_len(text));
        let problem = Problem::error(code, message).at(span).label(label);
        Self(problem.help(remedy(text)))
    }

    /// The same for a string that may have spaces around it and before its unit.
    pub(super) fn unreadable_by_people(text: &str) -> Self {
        let trimmed = text.trim_matches(' ');
        let (number, unit) = trimmed.split_at(parse::number_len(trimmed));
        let close = unit.trim_start_matches(' ');
        let plain = if trimmed.is_empty() { text.to_owned() } else { [number, close].concat() };
        let Self(problem) = Self::unreadable(&plain);
        let in_front = if trimmed.is_empty() { 0 } else { text.len() - text.trim_start_matches(' ').len() };
        let before_unit = unit.len() - close.len();
        let shifted = |at: usize| at + in_front + if at >= number.len() { before_unit } else { 0 };
        let span = problem.span.map(|span| shifted(span.start)..shifted(span.end));
        Self(Problem { span, ..problem })
    }
}

/// A problem and its location, without the remedy yet.
struct Finding {
    code: &'static str,
    span: Range<usize>,
    message: String,
    label: &'static str,
}

/// Characters that look like a minus sign.
const MINUS_SIGNS: [char; 3] = ['−', '–', '—'];
const NO_SPACES: &str = "white space in a quantity";
const UNITS: &str = "expected Ki, Mi, Gi, Ti, Pi, Ei, k, M, G, T, P, E, m, u, n or nothing";

fn find(text: &str, number_len: usize) -> Finding {
    let (number, rest) = text.split_at(number_len);
    let start = number_len;
    let found = |code, length: usize, message, label| Finding { code, span: start..start + length, message, label };
    let whole = |code, message, label| Finding { code, span: 0..text.len(), message, label };

    if text.trim().is_empty() {
        return whole("quantity-empty", "the quantity is empty".to_owned(), "expected a number and a unit");
    }
    if parse::is_too_long(text) {
        let message = format!("the number {} has too many digits", quote(number));
        return Finding {
            code: "quantity-digits",
            span: 0..start,
            message,
            label: "expected at most 38 significant digits",
        };
    }
    if let Some(dash) = text.chars().next().filter(|char| MINUS_SIGNS.contains(char)) {
        return found("quantity-number", dash.len_utf8(), format!("`{dash}` is a dash, not `-`"), "expected `-`");
    }
    if !number.bytes().any(|byte| byte.is_ascii_digit()) && !rest.starts_with(|char| ascii_digit(char).is_some()) {
        let blank = rest.len() - rest.trim_start().len();
        if blank == 0 || number.len() > blank {
            return whole("quantity-without-number", format!("{} has no number", quote(text)), "expected digits first");
        }
    }
    match rest.chars().next() {
        Some(first) if first.is_whitespace() => {
            let blank = rest.len() - rest.trim_start().len();
            found("quantity-space", blank, NO_SPACES.to_owned(), "expected nothing here")
        }
        Some(_) if parse::is_suffix(rest.trim_end()) => {
            let end = start + rest.trim_end().len();
            Finding {
                span: end..text.len(),
                ..found("quantity-space", 0, NO_SPACES.to_owned(), "expected nothing here")
            }
        }
        Some(',') => found("quantity-number", 1, "`,` is not part of a number".to_owned(), "expected `.`"),
        Some('.') => found("quantity-number", 1, "the number has two points".to_owned(), "expected a unit or nothing"),
        Some(first) if ascii_digit(first).is_some() => {
            let message = format!("`{first}` is not a digit from 0 to 9");
            found("quantity-number", first.len_utf8(), message, "expected an ASCII digit")
        }
        Some('e' | 'E') if is_exponent(rest) => {
            let message = format!("the exponent {} is not an integer", quote(rest));
            found("quantity-exponent", rest.len(), message, "expected digits after the `e`")
        }
        Some(_) | None => {
            found("quantity-unit", rest.len(), format!("{} is not a unit of a quantity", quote(rest)), UNITS)
        }
    }
}

/// Whether an `e` starts an invalid exponent, rather than a unit such as `EB`.
fn is_exponent(suffix: &str) -> bool {
    suffix == "e" || suffix[1..].starts_with(|char: char| matches!(char, '+' | '-' | '.') || char.is_ascii_digit())
}

/// What to write instead, with one suggestion for each possible meaning.
fn remedy(text: &str) -> String {
    let meant: Vec<Quantity> = intents(text).iter().filter_map(|intent| parse::kubernetes(intent)).collect();
    match meant.as_slice() {
        [] => "write a number and a unit, such as `512Mi` or `1.5Gi`".to_owned(),
        [only] => format!("write `{only}` instead"),
        several => {
            let described: Vec<String> = several
                .iter()
                .map(|quantity| match quantity.bytes() {
                    Ok(bytes) => format!("`{quantity}` ({} bytes)", bytes.0),
                    Err(_) => format!("`{quantity}`"),
                })
                .collect();
            format!("write {}", described.join(" or "))
        }
    }
}

/// The quantities that the string resembles, in the strict spelling.
fn intents(text: &str) -> Vec<String> {
    if text.len() > 64 {
        return Vec::new();
    }
    let plain: String = text
        .chars()
        .filter(|char| !char.is_whitespace() && *char != '_' && *char != '\'')
        .map(|char| ascii_digit(char).unwrap_or(if MINUS_SIGNS.contains(&char) { '-' } else { char }))
        .collect();
    match plain.split_once(',') {
        // `1,024` may be a thousand or one and a fraction.
        Some((before, behind)) if behind.bytes().take_while(u8::is_ascii_digit).count() == 3 => {
            [format!("{before}{behind}"), format!("{before}.{behind}")]
                .iter()
                .flat_map(|plain| respelled(plain))
                .collect()
        }
        Some((before, behind)) => respelled(&format!("{before}.{behind}")),
        None => respelled(&plain),
    }
}

/// The same number with the units that its unit resembles.
fn respelled(plain: &str) -> Vec<String> {
    let number = parse::number_len(plain);
    let (number, unit) = plain.split_at(number);
    if unit == "e" {
        return vec![format!("{number}E")];
    }
    let unit = unit.to_ascii_lowercase();
    let unit = ["bytes", "byte", "b"].iter().find_map(|byte| unit.strip_suffix(byte)).unwrap_or(&unit);
    let units: &[&str] = match unit {
        "" => &[""],
        "k" => &["k", "Ki"],
        "m" => &["M", "Mi"],
        "g" => &["G", "Gi"],
        "t" => &["T", "Ti"],
        "p" => &["P", "Pi"],
        "e" => &["E", "Ei"],
        "ki" => &["Ki"],
        "mi" => &["Mi"],
        "gi" => &["Gi"],
        "ti" => &["Ti"],
        "pi" => &["Pi"],
        "ei" => &["Ei"],
        exponent => return vec![format!("{number}{exponent}")],
    };
    units.iter().map(|unit| format!("{number}{unit}")).collect()
}
