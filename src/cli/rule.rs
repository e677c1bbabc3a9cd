//! Rules as arguments of commands.

use std::str::FromStr;

use highwater::calibrate::resolve;
use highwater::model::fit::{FittedRule, FittedRuleError};
use highwater::model::operator::OperatorPath;
use highwater::report::JudgedRule;

use super::failure::Failure;

/// A rule, or the file of an operator whose limit is the rule.
#[derive(Clone, Debug)]
pub(crate) enum RuleArg {
    /// Such as `max(4Gi, 2*n)`.
    Rule(FittedRule),
    /// Such as `SegmentOperator.py`.
    Operator(OperatorPath),
}

impl FromStr for RuleArg {
    type Err = FittedRuleError;

    fn from_str(text: &str) -> Result<Self, FittedRuleError> {
        match OperatorPath::parse(text) {
            Some(operator) => Ok(Self::Operator(operator)),
            None => text.parse().map(Self::Rule),
        }
    }
}

impl RuleArg {
    /// The rule, read from the file of the operator if it is one.
    pub(crate) fn read(&self) -> Result<FittedRule, Failure> {
        match self {
            Self::Rule(rule) => Ok(*rule),
            Self::Operator(path) => {
                let operator = resolve::operator(path).map_err(Failure::from_library)?;
                let memory = operator.memory().map_err(|flawed| Failure::flawed(&flawed))?;
                Ok(FittedRule::constant(memory.limit))
            }
        }
    }

    /// The rule for a report.
    pub(crate) fn judged(&self) -> Result<JudgedRule, Failure> {
        let rule = self.read()?;
        let file = match self {
            Self::Rule(_) => None,
            Self::Operator(operator) => Some(operator.to_string()),
        };
        let words = match &file {
            None => rule.readable(),
            Some(file) => format!("{} ({file})", rule.readable()),
        };
        Ok(JudgedRule { rule, words, file })
    }
}
