//! Scale rules: how the memory of a task grows with the size of a channel.
//!
//! A rule is written in one of two dialects. `scale_factor` is a whole number: the need is scale_factor × n.
//! `complexity` is a string that matches
//!
//! ```text
//! ^[-+]?\d*(\.\d+)?\*?n(\*\*\d+)?$
//! ```
//!
//! with ASCII digits and nothing after the end, not even a newline (like patterns of JSON Schema, unlike Python). n is
//! the size of the channel in bytes, the result is in bytes:
//!
//! | written | means |
//! | --- | --- |
//! | `n`, `+n` | n |
//! | `2n`, `2*n`, `+2*n`, `02n` | 2 · n |
//! | `.5n`, `0.5*n` | n / 2 |
//! | `1.5*n**2`, `1.5n**2` | 1.5 · n² |
//! | `*n`, `+*n` | n: an omitted coefficient is 1 |
//! | `-n`, `-2n`, `-*n` | negative for every n but 0 |
//! | `n**0`, `3*n**0` | 1 and 3, whatever n is (also for n = 0) |
//!
//! A coefficient has at most 38 significant digits and 57 decimal places; evaluation is exact. A fraction of a byte is rounded up; a negative result and
//! one that does not fit into 64 bits are errors.

mod diagnose;
mod error;
mod eval;
mod parse;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::units::Bytes;

pub use error::{EvalError, RuleError, UnknownName};

/// A notation of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The documented one: a string such as `1.5*n**2`.
    Complexity,
    /// The released one: a whole number, the factor of n.
    ScaleFactor,
}

/// The formula of a rule: `1.5*n**2` or a scale factor.
///
/// ```
/// use highwater::model::rule::Formula;
/// use highwater::model::units::Bytes;
///
/// let formula = Formula::complexity("1.5*n")?;
/// assert_eq!(formula.evaluate(Bytes(1001)), Ok(Bytes(1502)));
///
/// let error = Formula::complexity("2 * n").unwrap_err();
/// assert_eq!(error.problem.help.as_deref(), Some("write `2*n` instead"));
/// # Ok::<(), highwater::model::rule::RuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "Written")]
pub struct Formula {
    source: String,
    dialect: Dialect,
    power: Power,
}

impl Formula {
    /// Parses a rule of the `complexity` dialect.
    ///
    /// # Errors
    /// The first character that the pattern does not accept, or a coefficient of too many digits, what was expected there, and the remedy.
    pub fn complexity(text: &str) -> Result<Self, RuleError> {
        match parse::power(text) {
            Ok(power) => Ok(Self { source: text.to_owned(), dialect: Dialect::Complexity, power }),
            Err(mismatch) => Err(RuleError::new(text, mismatch)),
        }
    }

    /// The rule of the `scale_factor` dialect: factor × n.
    pub fn scale_factor(factor: i64) -> Self {
        let power = Power { coefficient: Decimal::from(factor), exponent: 1, bare_star: false };
        Self { source: factor.to_string(), dialect: Dialect::ScaleFactor, power }
    }

    /// The rule coefficient · n^exponent, in the `complexity` dialect without abbreviations.
    pub fn new(coefficient: Decimal, exponent: u64) -> Self {
        let power = Power { coefficient, exponent, bare_star: false };
        Self { source: power.to_string(), dialect: Dialect::Complexity, power }
    }

    /// Its dialect.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Its source in the document: the string of `complexity`, the digits of `scale_factor`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The rule as an expression in n: `complexity` as written, a `scale_factor` of 2 as `2*n`.
    pub fn expression(&self) -> String {
        match self.dialect {
            Dialect::Complexity => self.source.clone(),
            Dialect::ScaleFactor => self.canonical(),
        }
    }

    /// The factor of n^exponent.
    pub fn coefficient(&self) -> &Decimal {
        &self.power.coefficient
    }

    /// The exponent of n. One that does not fit becomes the largest possible: both overflow for every n above 1.
    pub fn exponent(&self) -> u64 {
        self.power.exponent
    }

    /// Whether the coefficient is omitted although its `*` is present, as in `*n`.
    pub fn has_bare_star(&self) -> bool {
        self.power.bare_star
    }

    /// The rule in the `complexity` dialect in its simplest form, such as `2*n` for `+02.0n` or a factor of 2.
    pub fn canonical(&self) -> String {
        self.power.to_string()
    }

    /// The memory that the rule requests for a channel of size `n`, rounded up to whole bytes.
    ///
    /// # Errors
    /// If the result is negative, or does not fit into 64 bits. The error shows the numbers.
    pub fn evaluate(&self, n: Bytes) -> Result<Bytes, EvalError> {
        eval::evaluate(self, n)
    }
}

impl fmt::Display for Formula {
    /// The source text: parsing it in the same dialect gives the same formula.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.source)
    }
}

/// A formula in documents and records: `{"complexity": "2*n"}` or `{"scale_factor": 2}`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Written {
    Complexity(String),
    ScaleFactor(i64),
}

impl TryFrom<Written> for Formula {
    type Error = RuleError;

    fn try_from(written: Written) -> Result<Self, RuleError> {
        match written {
            Written::Complexity(text) => Self::complexity(&text),
            Written::ScaleFactor(factor) => Ok(Self::scale_factor(factor)),
        }
    }
}

impl From<Formula> for Written {
    fn from(formula: Formula) -> Self {
        match (formula.dialect, formula.source.parse()) {
            (Dialect::ScaleFactor, Ok(factor)) => Self::ScaleFactor(factor),
            (Dialect::ScaleFactor | Dialect::Complexity, _) => Self::Complexity(formula.source),
        }
    }
}

/// The resource that a rule raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleType {
    /// The limit of the task.
    Limit,
    /// The request of the task, which the scheduler reserves; Docker has none.
    Request,
}

impl RuleType {
    /// All of them, with their names in documents.
    pub const NAMES: [(&'static str, Self); 2] = [("limit", Self::Limit), ("request", Self::Request)];

    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Request => "request",
        }
    }
}

/// How the files of a channel are combined into one number n.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The sum of all files.
    Sum,
    /// The largest file.
    MaxFileSize,
    /// The largest total size of an item, which is a directory directly in the channel.
    MaxItemSum,
}

impl Mode {
    /// All of them, with their names in documents.
    pub const NAMES: [(&'static str, Self); 3] =
        [("sum", Self::Sum), ("max_file_size", Self::MaxFileSize), ("max_item_sum", Self::MaxItemSum)];

    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::MaxFileSize => "max_file_size",
            Self::MaxItemSum => "max_item_sum",
        }
    }
}

impl fmt::Display for RuleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RuleType {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up(("unknown-rule-type", "type"), name, &Self::NAMES)
    }
}

impl FromStr for Mode {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        UnknownName::look_up(("unknown-mode", "mode"), name, &Self::NAMES)
    }
}

/// The `scale_rule` of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaleRule {
    /// The formula to apply to n.
    #[serde(flatten)]
    pub formula: Formula,
    /// The resource that it raises.
    #[serde(rename = "type")]
    pub applies_to: RuleType,
    /// How n is computed from the files.
    pub mode: Mode,
    /// The directory below the channel's root to search; the root itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_dir: Option<String>,
    /// The glob for the files that count, with the semantics of Python's `Path.rglob`; all files if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_glob: Option<String>,
    /// The regex that has to match the whole path of a file, relative to the searched directory; any path if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_regex: Option<String>,
}

/// coefficient · n^exponent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Power {
    coefficient: Decimal,
    exponent: u64,
    /// The coefficient was omitted although its `*` is present: legal, and easily a mistake.
    bare_star: bool,
}

impl fmt::Display for Power {
    /// The `complexity` dialect in its shortest form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.coefficient != Decimal::ONE {
            write!(f, "{}*", self.coefficient.plain())?;
        }
        match self.exponent {
            1 => f.write_str("n"),
            exponent => write!(f, "n**{exponent}"),
        }
    }
}
