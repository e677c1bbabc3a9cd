//! The input of a fit: runs with their sizes and peaks; and its output: a rule.

mod declaration;
mod measure;
mod resource;
mod workflow;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::QuantityError;
use super::rule::{Formula, RuleError};
use super::units::Bytes;

pub use declaration::{Declaration, Documented, Fixed, Growth, Scaled, tidy};
pub use measure::{Measure, MeasureFilter};
pub use resource::{Resource, unit_of_size};
pub use workflow::{FittedTask, TaskOutcome, WorkflowTask};

/// How base and growth are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// max(base, coefficient · n^exponent): what the Task API's platform computes.
    #[default]
    Max,
    /// base + coefficient · n^exponent, for consumers that can add.
    Sum,
}

/// A rule with concrete numbers: the memory for an input of n bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FittedRule {
    /// How the two parts are combined.
    pub form: Form,
    /// The constant part.
    pub base_bytes: Bytes,
    /// The factor of n^exponent, which is in bytes.
    pub coefficient: f64,
    /// The exponent of n; 0 only if the coefficient is 0.
    pub exponent: u32,
}

impl FittedRule {
    /// A rule with the same memory for every input.
    pub const fn constant(base_bytes: Bytes) -> Self {
        Self { form: Form::Max, base_bytes, coefficient: 0.0, exponent: 0 }
    }

    /// The memory for an input of `n` bytes, rounded up to whole bytes; saturates.
    pub fn limit(&self, n: Bytes) -> Bytes {
        // A float beyond the largest integer saturates to it.
        let growth = Bytes(self.growth(n.0 as f64).ceil() as u64);
        match self.form {
            Form::Max => self.base_bytes.max(growth),
            Form::Sum => self.base_bytes.saturating_add(growth),
        }
    }

    fn growth(&self, n: f64) -> f64 {
        match i32::try_from(self.exponent) {
            Ok(_) if self.coefficient == 0.0 => 0.0,
            Ok(exponent) => self.coefficient * n.powi(exponent),
            Err(_) => f64::INFINITY,
        }
    }

    /// The minimum of each number: a request may not exceed the limit.
    #[must_use]
    pub fn at_most(self, limit: Self) -> Self {
        let coefficient = self.coefficient.min(limit.coefficient);
        let exponent = if coefficient > 0.0 { self.exponent } else { 0 };
        Self { base_bytes: self.base_bytes.min(limit.base_bytes), coefficient, exponent, ..self }
    }

    /// The growing part in the `complexity` dialect; `None` for a constant.
    pub fn complexity(&self) -> Option<String> {
        (self.coefficient > 0.0).then(|| Growth::complexity_of(self.coefficient, self.exponent))
    }

    /// The rule for people where n is a parameter: `14 MiB + 3 MiB·n`. Such an n is no number of bytes that a
    /// coefficient could be a factor of.
    pub fn over_a_parameter(&self) -> String {
        let growth = match self.exponent {
            0 => return self.base_bytes.to_string(),
            1 => "n".to_owned(),
            exponent => format!("n^{exponent}"),
        };
        let growth = match self.coefficient {
            small if small < 1024.0 => format!("{small:.3} B·{growth}"),
            large => format!("{}·{growth}", Bytes(large as u64)),
        };
        match self.form {
            Form::Sum => format!("{} + {growth}", self.base_bytes),
            Form::Max => format!("max({}, {growth})", self.base_bytes),
        }
    }

    /// With the base in binary units, for people: `max(96 MiB, 4.04*n)`.
    pub fn readable(&self) -> String {
        let base = self.base_bytes;
        match (self.complexity(), self.form) {
            (None, _) => base.to_string(),
            (Some(growth), Form::Max) if base == Bytes::ZERO => growth,
            (Some(growth), Form::Max) => format!("max({base}, {growth})"),
            (Some(growth), Form::Sum) => format!("{base} + {growth}"),
        }
    }
}

impl fmt::Display for FittedRule {
    /// A form that parses as the same rule: `max(536870912, 1.5*n)`, `536870912 + 1.5*n**2`, `536870912`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base_bytes.0;
        match (self.complexity(), self.form) {
            (None, _) => write!(f, "{base}"),
            (Some(growth), Form::Max) => write!(f, "max({base}, {growth})"),
            (Some(growth), Form::Sum) => write!(f, "{base} + {growth}"),
        }
    }
}

/// Why a string is not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FittedRuleError {
    /// The base is not an amount of memory.
    #[error("`{text}` is not an amount of memory")]
    Base {
        /// The text found.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Box<QuantityError>,
    },
    /// The growing part is not a rule.
    #[error("`{text}` is not a rule such as `1.5*n` or `2*n**2`")]
    Growth {
        /// The text found.
        text: String,
        /// What is wrong with it.
        #[source]
        source: RuleError,
    },
    /// The exponent of n is too large.
    #[error("the exponent of `{0}` is too large, expected at most 3")]
    Exponent(String),
    /// The growing part is negative.
    #[error("`{0}` is negative, expected a rule that grows with n")]
    Negative(String),
    /// A parenthesis or the comma is missing.
    #[error("expected `max(BASE, RULE)` such as `max(512Mi, 1.5*n)`, found `{0}`")]
    Parentheses(String),
}

impl FromStr for FittedRule {
    type Err = FittedRuleError;

    /// Parses `max(512Mi, 1.5*n)`, `512Mi + 1.5*n**2`, `1.5*n` and `512Mi`.
    fn from_str(text: &str) -> Result<Self, FittedRuleError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("max") {
            let inside = rest.trim_start().strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
            let parts = inside.and_then(|inside| inside.split_once(','));
            let (base, growth) = parts.ok_or_else(|| FittedRuleError::Parentheses(text.to_owned()))?;
            return with_growth(Form::Max, amount(base)?, growth);
        }
        match text.split_once(" + ") {
            Some((base, growth)) => with_growth(Form::Sum, amount(base)?, growth),
            None if text.contains('n') => with_growth(Form::Max, Bytes::ZERO, text),
            None => Ok(Self::constant(amount(text)?)),
        }
    }
}

fn amount(text: &str) -> Result<Bytes, FittedRuleError> {
    let text = text.trim();
    text.parse().map_err(|source| FittedRuleError::Base { text: text.to_owned(), source: Box::new(source) })
}

fn with_growth(form: Form, base_bytes: Bytes, text: &str) -> Result<FittedRule, FittedRuleError> {
    let text = text.trim();
    let formula =
        Formula::complexity(text).map_err(|source| FittedRuleError::Growth { text: text.to_owned(), source })?;
    if formula.coefficient().is_negative() {
        return Err(FittedRuleError::Negative(text.to_owned()));
    }
    let exponent = u32::try_from(formula.exponent())
        .ok()
        .filter(|exponent| *exponent <= 3)
        .ok_or_else(|| FittedRuleError::Exponent(text.to_owned()))?;
    Ok(FittedRule { form, base_bytes, coefficient: formula.coefficient().to_f64(), exponent })
}

/// What a measured peak shows about the need of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Censoring {
    /// The run was not restricted: the peak is the need.
    #[default]
    None,
    /// The peak reached the limit and the run went on: with reclaimed caches it may need less, without a limit it may
    /// have used more.
    LimitReached,
    /// The run was killed for memory, or timed out if time is fitted: it needs more than its peak.
    OomKilled,
    /// The peak is a lower bound, for example a sampled one: the need is at least this.
    LowerBound,
}

/// A run as used for fitting.
#[derive(Clone, Debug, PartialEq)]
pub struct SizedRun {
    /// The size of the input by each predictor, in the order of [`RunTable::predictors`].
    pub sizes: Vec<Bytes>,
    /// The peak; what was used of another [`Resource`].
    pub peak: Bytes,
    /// What the peak shows about the need.
    pub censoring: Censoring,
    /// How long it took, in seconds: the weight of the run. All runs have the same where time itself is fitted.
    pub wall_seconds: Option<f64>,
}

/// A factor on the rule that covers the next input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Factor {
    /// The probability that the next input fits.
    pub content: f64,
    /// The factor; `null` if there are too few inputs.
    pub factor: Option<f64>,
}

/// The runs of one task, with the predictors of their inputs.
///
/// A predictor maps an input to a number n: a channel, a mode and a glob.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunTable {
    /// The names of the predictors, at least one, preferred ones first.
    pub predictors: Vec<String>,
    /// In the order they were recorded.
    pub runs: Vec<SizedRun>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rules_are_read_as_people_write_them() {
        let rule: FittedRule = "max(512Mi, 1.5*n)".parse().unwrap();
        assert_eq!(rule, FittedRule { form: Form::Max, base_bytes: Bytes::mib(512), coefficient: 1.5, exponent: 1 });
        assert_eq!(rule.limit(Bytes(100)), Bytes::mib(512));
        assert_eq!(rule.limit(Bytes::GIB), Bytes::mib(1536));
        let rule: FittedRule = "1Ki + 2n**2".parse().unwrap();
        assert_eq!(rule.limit(Bytes(10)), Bytes(1224));
        assert_eq!("2Gi".parse(), Ok(FittedRule::constant(Bytes(2 << 30))));
        assert_eq!("3*n".parse::<FittedRule>().unwrap().limit(Bytes(7)), Bytes(21));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_part() {
        let error = |text: &str| text.parse::<FittedRule>().unwrap_err().to_string();
        assert_eq!(error("max(12, 2*m)"), "`2*m` is not a rule such as `1.5*n` or `2*n**2`");
        assert_eq!(
            error("max(12; 2*n)"),
            "expected `max(BASE, RULE)` such as `max(512Mi, 1.5*n)`, found `max(12; 2*n)`"
        );
        assert_eq!(error("many"), "`many` is not a rule such as `1.5*n` or `2*n**2`");
        assert_eq!(error("12 + -2*n"), "`-2*n` is negative, expected a rule that grows with n");
        assert_eq!(error("2*n**9"), "the exponent of `2*n**9` is too large, expected at most 3");
        assert_eq!(error("x"), "`x` is not an amount of memory");
    }

    #[test]
    fn what_does_not_fit_is_the_largest_amount() {
        let rule: FittedRule = "max(1, 9*n**3)".parse().unwrap();
        assert_eq!(rule.limit(Bytes(u64::MAX)), Bytes(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_written_rule_reads_back(base in 0..=i64::MAX as u64, coefficient in 1e-30..1e6f64, exponent in 1..=3u32, sum: bool) {
            let form = if sum { Form::Sum } else { Form::Max };
            let rule = FittedRule { form, base_bytes: Bytes(base), coefficient, exponent };
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }
}
