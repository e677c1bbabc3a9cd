//! Rules as arguments of commands.

use std::str::FromStr;

use highwater::calibrate::report::ReportOptions;
use highwater::calibrate::resolve;
use highwater::model::fit::{FittedRule, FittedRuleError};
use highwater::model::rule_file::RuleFile;
use highwater::report::JudgedRule;

use super::exit::Exit;
use super::failure::Failure;

/// A rule, or a file whose limit is the rule.
#[derive(Clone, Debug)]
pub(crate) enum RuleArg {
    /// Such as `max(4Gi, 2*n)`.
    Rule(FittedRule),
    /// Such as `SegmentOperator.py`.
    File(RuleFile),
}

impl FromStr for RuleArg {
    type Err = FittedRuleError;

    fn from_str(text: &str) -> Result<Self, FittedRuleError> {
        match RuleFile::parse(text) {
            Some(file) => Ok(Self::File(file)),
            None => text.parse().map(Self::Rule),
        }
    }
}

impl RuleArg {
    /// The rule, read from the file if it is one.
    pub(crate) fn read(&self) -> Result<FittedRule, Failure> {
        match self {
            Self::Rule(rule) => Ok(*rule),
            Self::File(RuleFile::Registry { path, name: None }) => {
                let error = format!("{} has the memory of several containers", path.display());
                let help = format!("name a container or a task, as in {}::NAME", path.display());
                Err(Failure::new(Exit::Usage, error, Some(help)))
            }
            Self::File(file) => resolve::limit(file, "").map(FittedRule::constant).map_err(Failure::from_library),
        }
    }

    /// Makes a report judge the rule, or those of single tasks.
    pub(crate) fn set_in(&self, options: &mut ReportOptions) -> Result<(), Failure> {
        let of_file = |rule: FittedRule, file: &RuleFile| JudgedRule {
            rule,
            words: format!("{} ({file})", rule.readable()),
            file: Some(file.written()),
        };
        let one = match self {
            Self::Rule(rule) => JudgedRule { rule: *rule, words: rule.readable(), file: None },
            Self::File(RuleFile::Registry { path, name: None }) => {
                let registry = resolve::registry(path).map_err(Failure::from_library)?;
                let judged = registry.tasks().map(|(task, memory)| {
                    let file = RuleFile::Registry { path: path.clone(), name: Some(task.to_owned()) };
                    (task.to_owned(), of_file(FittedRule::constant(memory), &file))
                });
                options.rules = Some(judged.collect());
                return Ok(());
            }
            Self::File(file) => of_file(self.read()?, file),
        };
        options.rule = Some(one);
        Ok(())
    }
}
