//! Reads `scale_rule` and `resources`.

use std::ops::Range;

use crate::model::located::{Data, Fields, Read, Reader, Value, whole};
use crate::model::problem::Problem;
use crate::model::quantity::Quantity;
use crate::model::rule::{Formula, Mode, RuleType, ScaleRule};
use crate::model::selection::Selection;
use crate::model::spelling::{nearest, quote};
use crate::model::task::{Amounts, Placed, Resources, ResourcesSpec, RulePlaces, RuleSpec};

const RULE_FIELDS: [&str; 7] =
    ["complexity", "scale_factor", "type", "mode", "target_dir", "target_glob", "target_regex"];

/// Reads a scale rule in either dialect.
pub(super) fn scale_rule(reader: &mut Reader<'_>, _: &str, value: &Value<'_>) -> Read<RuleSpec> {
    let fields = reader.object("a scale_rule", value, Some(&RULE_FIELDS))?;
    let formula = formula(reader, &fields);
    let applies_to =
        fields.required(reader, "type", |reader, name, value| reader.name_of(name, value, &RuleType::NAMES));
    let mode = fields.required(reader, "mode", |reader, name, value| reader.name_of(name, value, &Mode::NAMES));
    let dir = fields.optional(reader, "target_dir", Reader::text);
    let glob = fields.optional(reader, "target_glob", Reader::text);
    let regex = fields.optional(reader, "target_regex", Reader::text);
    let (dir, glob, regex) = (dir?, glob?, regex?);
    check_targets(reader, [("target_dir", &dir), ("target_glob", &glob), ("target_regex", &regex)]);
    let place = |field: &Option<Placed<String>>| field.as_ref().map(|text| text.span.clone());
    let places = RulePlaces {
        whole: value.span.clone(),
        formula: fields.place("complexity").or(fields.place("scale_factor")).unwrap_or(fields.opening()),
        applies_to: fields.place("type").unwrap_or(fields.opening()),
        target_dir: place(&dir),
        target_glob: place(&glob),
        target_regex: place(&regex),
    };
    let text = |field: Option<Placed<String>>| field.map(|text| text.value);
    let rule = ScaleRule {
        formula: formula?,
        applies_to: applies_to?,
        mode: mode?,
        target_dir: text(dir),
        target_glob: text(glob),
        target_regex: text(regex),
    };
    Ok(RuleSpec { rule, places })
}

fn formula(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Read<Formula> {
    match (fields.find("complexity"), fields.find("scale_factor")) {
        (Some(_), Some(_)) => {
            let problem = Problem::error("rule-ambiguous", "the scale_rule has both `complexity` and `scale_factor`");
            let problem = problem.at(fields.key("scale_factor")).label("conflicts with `complexity`");
            reader.report(problem.help("keep one: `complexity` is documented, `scale_factor` is released"))
        }
        (None, None) => {
            let problem = Problem::error("missing-field", "the scale_rule has neither `complexity` nor `scale_factor`");
            let problem = problem.at(fields.opening()).label("expected one of them in this object");
            reader.report(problem.help("write \"complexity\": \"2*n\", or \"scale_factor\": 2"))
        }
        (Some(value), None) => complexity(reader, value),
        (None, Some(value)) => scale_factor(reader, value),
    }
}

fn scale_factor(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<Formula> {
    let Data::Number(number) = &value.data else { return reader.wrong_type("scale_factor", value, "an integer") };
    if let Some(factor) = whole(number) {
        return Ok(Formula::scale_factor(factor));
    }
    let problem = Problem::error("not-whole", format!("`scale_factor` is {}", quote(number)));
    let problem = problem.at(value.span.clone()).label("expected an integer");
    reader.report(match Formula::complexity(&format!("{number}*n")) {
        Ok(formula) => problem.help(format!("write \"complexity\": \"{formula}\" instead")),
        Err(_) => problem,
    })
}

fn complexity(reader: &mut Reader<'_>, value: &Value<'_>) -> Read<Formula> {
    if let Data::Number(number) = &value.data {
        let problem = Problem::error("wrong-type", "`complexity` is a number").at(value.span.clone());
        let problem = problem.label("expected a string that contains n");
        return reader.report(problem.help(format!("write \"{number}*n\"")));
    }
    let text = reader.text("complexity", value)?;
    Formula::complexity(&text.value).or_else(|error| reader.report_within(&text, [*error.problem]))
}

fn check_targets(reader: &mut Reader<'_>, fields: [(&str, &Option<Placed<String>>); 3]) {
    let [dir, glob, regex] = fields.each_ref().map(|(_, text)| text.as_ref().map(|text| text.value.as_str()));
    let flaws = Selection::compile(dir, glob, regex).map_or_else(|error| error.flaws, |selection| selection.warnings());
    for flaw in flaws {
        if let Some((_, Some(text))) = fields.iter().find(|(name, _)| *name == flaw.field.name()) {
            // Reading continues after a warning; the reader remembers an error.
            let _: Read<()> = reader.report_within(text, [flaw.problem]);
        }
    }
}

/// Reads limits and requests.
pub(super) fn resources(reader: &mut Reader<'_>, _: &str, value: &Value<'_>) -> Read<ResourcesSpec> {
    let fields = reader.object("resources", value, Some(&["limits", "requests"]))?;
    let limits = fields.optional(reader, "limits", amounts);
    let requests = fields.optional(reader, "requests", amounts);
    let ((limits, limit), (requests, request)) = (limits?.unwrap_or_default(), requests?.unwrap_or_default());
    Ok(ResourcesSpec { resources: Resources { limits, requests }, whole: value.span.clone(), limit, request })
}

/// Reads amounts; also returns the location of that of the memory.
fn amounts(reader: &mut Reader<'_>, what: &str, value: &Value<'_>) -> Read<(Amounts, Option<Range<usize>>)> {
    let fields = reader.object(what, value, None)?;
    let mut amounts = Amounts::default();
    let mut read = Ok(());
    for (name, value) in fields.all().filter(|(_, value)| !matches!(value.data, Data::Null)) {
        warn_of_name(reader, &fields, name);
        let set = quantity(reader, name, value).and_then(|(quantity, text)| {
            amounts.set(name, quantity).or_else(|error| reader.report_within(&text, [error.into()]))
        });
        read = read.and(set);
    }
    let memory = amounts.memory().and_then(|_| fields.place("memory"));
    read.map(|()| (amounts, memory))
}

/// Reads a quantity, a string or a number, as a string.
fn quantity(reader: &mut Reader<'_>, name: &str, value: &Value<'_>) -> Read<(Quantity, Placed<String>)> {
    let text = match value.data {
        Data::Number(_) | Data::String(_) => reader.written(name, value)?,
        _ => return reader.wrong_type(name, value, "a quantity such as \"512Mi\" or 2"),
    };
    match text.value.parse::<Quantity>() {
        Ok(quantity) => Ok((quantity, text)),
        Err(error) => reader.report_within(&text, [error.into()]),
    }
}

fn warn_of_name(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) {
    const KNOWN: [&str; 4] = ["memory", "cpu", "gpu", "ephemeral-storage"];
    if KNOWN.contains(&name) || name.contains('/') || name.starts_with("hugepages-") {
        return;
    }
    let problem = Problem::warning("unknown-resource", format!("{} is not a Kubernetes resource", quote(name)));
    let problem = problem.at(fields.key(name)).label("ignored");
    reader.warn(match nearest(name, KNOWN) {
        Some(meant) => problem.help(format!("did you mean `{meant}`?")),
        None => problem.help("use `memory`, `cpu`, or an extended resource such as `nvidia.com/gpu`"),
    });
}
