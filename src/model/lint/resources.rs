//! Contradictions between declared amounts and rules.

use super::{Finding, Place, Platform, RuleFacts, RuleField, TaskFacts};
use crate::model::quantity::Quantity;
use crate::model::rule::{EvalError, Formula, RuleType};
use crate::model::spelling::quote;
use crate::model::units::Bytes;

/// No process starts with less than this.
const TINY: Bytes = Bytes::MIB;

pub(super) fn request_rule_in_docker(index: usize, facts: &RuleFacts<'_>, task: &TaskFacts<'_>) -> Option<Finding> {
    if facts.rule.applies_to != RuleType::Request || !task.platform.may_be_docker() {
        return None;
    }
    // In a task without amounts of memory, a request of `n` only defines n for the runs to be measured.
    if facts.rule.formula.source() == "n" && task.limit.is_none() && task.request.is_none() {
        return None;
    }
    let message =
        format!("the rule of channel {} has no effect in Docker, which only has limits", quote(facts.channel));
    Some(
        Finding::new(Place::Rule(index, RuleField::Type), "request-rule-in-docker", message)
            .at(0..RuleType::Request.name().len(), "expected `limit` for Docker")
            .help("write `limit`, unless the task only runs in Kubernetes"),
    )
}

/// The declared amount that a rule competes with, and its name.
fn floor<'a>(applies_to: RuleType, task: &TaskFacts<'a>) -> (Option<&'a Quantity>, &'static str) {
    match applies_to {
        RuleType::Limit => (task.limit, "resources.limits.memory"),
        RuleType::Request => (task.request, "resources.requests.memory"),
    }
}

pub(super) fn floor_always_wins(index: usize, facts: &RuleFacts<'_>, task: &TaskFacts<'_>) -> Option<Finding> {
    let formula = &facts.rule.formula;
    let (floor, name) = floor(facts.rule.applies_to, task);
    let (floor, matched) = (floor?.bytes().ok()?, facts.inputs.iter().any(|input| input.matched > 0));
    // If nothing is counted or the rule is invalid, another lint reports that.
    if !matched || formula.exponent() == 0 || formula.coefficient().is_zero() {
        return None;
    }
    let needs: Result<Vec<Bytes>, EvalError> = facts.inputs.iter().map(|input| formula.evaluate(input.n)).collect();
    let largest = needs.ok()?.into_iter().max()?;
    if largest > floor {
        return None;
    }
    let (inputs, most) = if facts.inputs.len() == 1 { ("this input", "") } else { ("all of these inputs", " at most") };
    let message = format!(
        "for {inputs} the rule {} has no effect: it gives {largest}{most}, but {name} is {floor}",
        quote(&formula.expression())
    );
    let help = match first_above(formula, floor) {
        Some(n) => {
            format!("it takes effect from n = {n}; if no input is that large, remove it or lower {name}")
        }
        None => format!("remove the rule, or lower {name}"),
    };
    Some(
        Finding::new(Place::Rule(index, RuleField::Formula), "floor-always-wins", message)
            .at(0..formula.source().len(), format!("gives {largest}{most}"))
            .help(help),
    )
}

/// The smallest n for which a growing formula exceeds `floor`.
fn first_above(formula: &Formula, floor: Bytes) -> Option<Bytes> {
    let above = |n| match formula.evaluate(Bytes(n)) {
        Ok(need) => need > floor,
        Err(EvalError::Overflow { .. }) => true,
        Err(EvalError::Negative { .. }) => false,
    };
    let (mut below, mut reached) = (0, u64::MAX);
    if !above(reached) {
        return None;
    }
    while reached - below > 1 {
        let middle = below + (reached - below) / 2;
        if above(middle) {
            reached = middle;
        } else {
            below = middle;
        }
    }
    Some(Bytes(reached))
}

/// An amount, and what sets it.
#[derive(Clone, Copy)]
pub(super) struct Amount {
    pub(super) place: Place,
    pub(super) bytes: Bytes,
}

/// The amount of a task for one input: the maximum of the declared amount and the rules of this type. `None` if nothing
/// is declared, or one of the rules has no result.
pub(super) fn amount(task: &TaskFacts<'_>, applies_to: RuleType, input: Option<usize>) -> Option<Amount> {
    let (declared, place) = match applies_to {
        RuleType::Limit => (task.limit, Place::Limit),
        RuleType::Request => (task.request, Place::Request),
    };
    let declared = declared.map(|quantity| quantity.bytes().ok().map(|bytes| Amount { place, bytes }));
    let rules = task.rules.iter().enumerate().filter(|(_, facts)| facts.rule.applies_to == applies_to);
    let ruled = rules.filter_map(|(index, facts)| {
        let place = Place::Rule(index, RuleField::Formula);
        let counted = facts.inputs.get(input?)?;
        Some(facts.rule.formula.evaluate(counted.n).ok().map(|bytes| Amount { place, bytes }))
    });
    let amounts: Option<Vec<Amount>> = declared.into_iter().chain(ruled).collect();
    // The first of equal ones: a declared amount before a rule that does not exceed it.
    amounts?.into_iter().rev().max_by_key(|amount| amount.bytes)
}

/// The indices of the inputs that are known; a single `None` without inputs.
pub(super) fn inputs(task: &TaskFacts<'_>) -> impl Iterator<Item = Option<usize>> {
    let known = task.rules.iter().map(|facts| facts.inputs.len()).max().unwrap_or(0);
    (known == 0).then_some(None).into_iter().chain((0..known).map(Some))
}

pub(super) fn request_above_limit(task: &TaskFacts<'_>) -> Option<Finding> {
    if !task.platform.may_be_kubernetes() {
        return None;
    }
    let (request, limit) = inputs(task).find_map(|input| {
        let (request, limit) = (amount(task, RuleType::Request, input)?, amount(task, RuleType::Limit, input)?);
        (request.bytes > limit.bytes).then_some((request, limit))
    })?;
    let of_rule = matches!(limit.place, Place::Rule(..));
    let unknown = task.rules.iter().any(|facts| facts.rule.applies_to == RuleType::Limit && facts.inputs.is_empty());
    let (limit, when) = (limit.bytes, if unknown { " as long as the input is small" } else { "" });
    let message = format!("the request of {} exceeds the limit of {limit}{when}", request.bytes);
    let remedy = if of_rule { "raise the rule of the limit" } else { "raise resources.limits.memory" };
    Some(
        Finding::new(request.place, "request-above-limit", message)
            .help(format!("Kubernetes rejects such a task: {remedy}, or lower the request")),
    )
}

pub(super) fn incomplete(task: &TaskFacts<'_>) -> Option<Finding> {
    if task.platform != Platform::Kubernetes {
        return None;
    }
    let (place, missing) = match (task.limit, task.request) {
        (Some(_), Some(_)) => return None,
        (Some(_), None) => (Place::Limit, "resources.requests.memory"),
        (None, Some(_)) => (Place::Request, "resources.limits.memory"),
        (None, None) => (Place::Limit, "resources.limits.memory and resources.requests.memory"),
    };
    let message = format!("without {missing}, task_api 0.6.0 fails before it starts the task");
    Some(Finding::new(place, "resources-incomplete", message).help(format!("add {missing}")))
}

pub(super) fn tiny(place: Place, quantity: Option<&Quantity>) -> Option<Finding> {
    let quantity = quantity?;
    let bytes = quantity.bytes().ok()?;
    if bytes >= TINY || bytes == Bytes::ZERO {
        return None;
    }
    let source = quantity.source();
    let message = format!("{} is {bytes}, less than any process needs", quote(source));
    let number = source.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let with = |unit| format!("{number}{unit}").parse::<Quantity>().ok();
    let help = match (source.strip_prefix(number), with("Mi"), with("M")) {
        (Some("m"), Some(binary), Some(decimal)) => {
            format!("`m` means thousandths; write `{binary}` for mebibytes or `{decimal}` for megabytes")
        }
        (Some(""), Some(binary), _) => format!("a number without a unit is in bytes; write `{binary}` for mebibytes"),
        _ => "write what the task needs for its smallest input, such as `64Mi`".to_owned(),
    };
    let unit = number.len().min(source.len().saturating_sub(1))..source.len();
    Some(Finding::new(place, "quantity-tiny", message).at(unit, "expected a larger unit").help(help))
}
