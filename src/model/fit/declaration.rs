//! The resources of a calibrated task, before they are converted for a consumer.

use std::fmt;

use serde::Serialize;

use crate::model::quantity::Quantity;
use crate::model::rule::{Dialect, Formula, RuleType, ScaleRule};
use crate::model::units::Bytes;

use super::{Form, Measure};

/// A part of a rule that grows with the input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// The measure, n.
    pub measure: Measure,
    /// The factor of n^exponent, which is in bytes.
    pub coefficient: f64,
    /// The exponent of n.
    pub exponent: u32,
    /// The largest n measured.
    pub largest: Bytes,
}

impl Growth {
    /// The part in the `complexity` dialect.
    pub fn complexity(&self) -> String {
        Self::complexity_of(self.coefficient, self.exponent)
    }

    /// coefficient · n^exponent in the `complexity` dialect.
    pub fn complexity_of(coefficient: f64, exponent: u32) -> String {
        match exponent {
            1 => format!("{coefficient}*n"),
            exponent => format!("{coefficient}*n**{exponent}"),
        }
    }

    /// The memory for an input of n bytes, computed as exactly as the consumer of the rule should.
    fn at(&self, n: Bytes) -> Bytes {
        let exact = Formula::complexity(&self.complexity()).ok().and_then(|formula| formula.evaluate(n).ok());
        exact.unwrap_or(Bytes(u64::MAX))
    }

    /// The rule of a document; `None` if the dialect cannot express it.
    fn scale_rule(&self, dialect: Dialect) -> Option<ScaleRule> {
        let formula = match dialect {
            Dialect::Complexity => Formula::complexity(&self.complexity()).ok()?,
            Dialect::ScaleFactor if self.exponent == 1 && self.coefficient.fract() == 0.0 => {
                Formula::scale_factor(self.coefficient as i64)
            }
            Dialect::ScaleFactor => return None,
        };
        Some(ScaleRule {
            formula,
            applies_to: RuleType::Limit,
            mode: self.measure.mode,
            target_dir: self.measure.target_dir.clone(),
            target_glob: self.measure.target_glob.clone(),
            target_regex: self.measure.target_regex.clone(),
        })
    }
}

/// An amount of memory: a base, and parts that grow with the input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaled {
    /// Whether to take the maximum or the sum of base and largest growth.
    pub form: Form,
    /// The constant part.
    pub base: Bytes,
    /// The growing parts, of which the largest counts; empty for a constant.
    pub growth: Vec<Growth>,
}

impl Scaled {
    /// The amount for these values of n.
    pub fn at(&self, n: impl Fn(&Growth) -> Bytes) -> Bytes {
        let largest = self.growth.iter().map(|growth| growth.at(n(growth))).max().unwrap_or(Bytes::ZERO);
        match self.form {
            Form::Max => self.base.max(largest),
            Form::Sum => self.base.saturating_add(largest),
        }
    }
}

impl fmt::Display for Scaled {
    /// For people: `max(512 MiB, 1.5*n)`, or the base alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let growth = self.growth.iter().map(Growth::complexity);
        let parts: Vec<String> = std::iter::once(self.base.to_string()).chain(growth).collect();
        match (parts.as_slice(), self.form) {
            ([only], _) => f.write_str(only),
            (several, Form::Max) => write!(f, "max({})", several.join(", ")),
            (several, Form::Sum) => f.write_str(&several.join(" + ")),
        }
    }
}

/// The limit and request of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Declaration {
    /// The name of the task, if it has one.
    pub task: Option<String>,
    /// The limit.
    pub limit: Scaled,
    /// The request: what a typical run needs.
    pub request: Scaled,
    /// Constants, for consumers that cannot scale with the input.
    pub fixed: Fixed,
}

/// Amounts for all inputs up to some size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// The limit.
    pub limit: Bytes,
    /// The request.
    pub request: Bytes,
    /// The inputs they are enough for, such as `inputs of up to 4 GiB`.
    pub inputs: String,
}

/// The rules and resources of a document of the Task API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Documented {
    /// The rule of each channel that determines the memory; no name means any input.
    pub rules: Vec<(Option<String>, ScaleRule)>,
    /// `resources.limits.memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// `resources.requests.memory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

impl Declaration {
    /// The declaration in this dialect; `None` if it cannot be expressed. `request` is an amount that every run is
    /// certain to be allowed.
    pub fn documented(&self, dialect: Dialect, request: Option<Bytes>) -> Option<Documented> {
        if self.limit.form == Form::Sum && !self.limit.growth.is_empty() {
            return None;
        }
        let rules = self
            .limit
            .growth
            .iter()
            .map(|growth| growth.scale_rule(dialect).map(|rule| (growth.measure.channel.clone(), rule)));
        let rules = rules.collect::<Option<Vec<_>>>()?;
        let limit = Some(self.limit.base).filter(|base| *base > Bytes::ZERO).map(tidy);
        let request = request.filter(|request| *request > Bytes::ZERO).map(tidy);
        // Each is rounded separately: neither may exceed the other because of that.
        let request =
            limit.clone().and_then(|limit| request.map(|request| if request.1 > limit.1 { limit } else { request }));
        Some(Documented { rules, limit: limit.map(|(text, _)| text), request: request.map(|(text, _)| text) })
    }
}

/// A quantity of at least this amount and at most a thousandth more, in the largest binary unit that allows that, and
/// its value.
pub fn tidy(amount: Bytes) -> (String, Bytes) {
    let units = [("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let fitting = units.into_iter().find_map(|(unit, bits)| {
        let count = amount.0.div_ceil(1 << bits);
        let bytes = Bytes(count.checked_mul(1 << bits)?);
        let close = bytes.0 - amount.0 <= amount.0 / 1000 && bytes <= Quantity::MAX;
        close.then(|| (format!("{count}{unit}"), bytes))
    });
    fitting.unwrap_or_else(|| (amount.0.to_string(), amount))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::Mode;

    fn growth(coefficient: f64, exponent: u32) -> Growth {
        Growth { measure: Measure::all("scans", Mode::Sum), coefficient, exponent, largest: Bytes::GIB }
    }

    #[test]
    fn tidy_amounts_are_never_less_and_hardly_more() {
        let told = |bytes| tidy(Bytes(bytes));
        assert_eq!(told(512 << 20), ("512Mi".into(), Bytes::mib(512)));
        assert_eq!(told(2 << 30), ("2Gi".into(), Bytes(2 << 30)));
        assert_eq!(told((512 << 20) + 1), ("524289Ki".into(), Bytes((512 << 20) + 1024)));
        assert_eq!(told((3 << 30) + 5), ("3073Mi".into(), Bytes(3073 << 20)));
        assert_eq!(told(1000), ("1000".into(), Bytes(1000)));
        assert_eq!(told(u64::MAX / 2).1, Bytes(u64::MAX / 2));
        for amount in (1..60).map(|power| 3_u64.pow(power % 38) + u64::from(power)) {
            let (text, bytes) = told(amount);
            assert_eq!(text.parse::<Quantity>().unwrap().bytes().unwrap_or(Bytes(amount)), bytes);
            assert!(bytes.0 >= amount && bytes.0 - amount <= amount / 1000, "{amount}: {text}");
        }
    }

    #[test]
    fn the_largest_growth_counts() {
        let scaled = Scaled { form: Form::Max, base: Bytes(100), growth: vec![growth(1.5, 1), growth(0.01, 2)] };
        assert_eq!(scaled.at(|_| Bytes(10)), Bytes(100));
        assert_eq!(scaled.at(|_| Bytes(101)), Bytes(152));
        assert_eq!(scaled.at(|_| Bytes(1000)), Bytes(10_000));
        let sum = Scaled { form: Form::Sum, ..scaled };
        assert_eq!(sum.at(|_| Bytes(10)), Bytes(115));
    }

    #[test]
    fn a_dialect_that_cannot_write_a_rule_is_not_made_to() {
        let fixed = Fixed { limit: Bytes::GIB, request: Bytes::GIB, inputs: String::new() };
        let of = |coefficient, exponent| {
            let limit = Scaled { form: Form::Max, base: Bytes::GIB, growth: vec![growth(coefficient, exponent)] };
            Declaration { task: None, request: limit.clone(), limit, fixed: fixed.clone() }
        };
        assert_eq!(of(1.5, 1).documented(Dialect::ScaleFactor, None), None);
        assert_eq!(of(2.0, 2).documented(Dialect::ScaleFactor, None), None);
        let written = of(2.0, 1).documented(Dialect::ScaleFactor, Some(Bytes::mib(500))).unwrap();
        assert_eq!(written.rules[0].1.formula, Formula::scale_factor(2));
        assert_eq!((written.limit.as_deref(), written.request.as_deref()), (Some("1Gi"), Some("500Mi")));
    }
}
