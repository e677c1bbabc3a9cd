//! Formulas that compute something useless.

use super::{Finding, Place, RuleField};
use crate::model::rule::{Formula, ScaleRule};
use crate::model::spelling::quote;

pub(super) fn lint(index: usize, rule: &ScaleRule) -> impl Iterator<Item = Finding> {
    let place = Place::Rule(index, RuleField::Formula);
    [never_positive(place, &rule.formula), constant(place, &rule.formula), bare_star(place, &rule.formula)]
        .into_iter()
        .flatten()
}

fn never_positive(place: Place, formula: &Formula) -> Option<Finding> {
    let coefficient = formula.coefficient();
    let what = match (coefficient.is_negative(), coefficient.is_zero()) {
        (true, _) => "negative for every non-empty input",
        (false, true) => "0 for every input",
        (false, false) => return None,
    };
    let found =
        Finding::new(place, "rule-never-positive", format!("the rule {} is {what}", quote(&formula.expression())));
    Some(
        found
            .at(0..formula.source().len(), "expected a coefficient above 0")
            .help("write the bytes of memory per byte of input, or remove the rule"),
    )
}

fn constant(place: Place, formula: &Formula) -> Option<Finding> {
    let coefficient = formula.coefficient();
    if formula.exponent() != 0 || coefficient.is_zero() || coefficient.is_negative() {
        return None;
    }
    let power = formula.source().find("**")?;
    let bytes = if coefficient.to_string() == "1" { "byte" } else { "bytes" };
    let multiple = Formula::new(coefficient.clone(), 1);
    let found = format!("the rule {} is {coefficient} {bytes} for every input", quote(formula.source()));
    Some(
        Finding::new(place, "rule-constant", found)
            .at(power..formula.source().len(), "expected an exponent of 1 or more")
            .help(format!(
                "write `{multiple}` for a multiple of the input, or put a fixed amount into resources.limits.memory"
            )),
    )
}

fn bare_star(place: Place, formula: &Formula) -> Option<Finding> {
    if !formula.has_bare_star() {
        return None;
    }
    let star = formula.source().find('*')?;
    let found = format!("no coefficient before the `*` of the rule {}; it counts as 1", quote(formula.source()));
    Some(
        Finding::new(place, "rule-bare-star", found)
            .at(star..star + 1, "expected a coefficient before it")
            .help(format!("write `{}`, or add the missing coefficient", formula.canonical())),
    )
}
