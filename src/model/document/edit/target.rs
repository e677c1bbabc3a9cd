//! Locates the parts of a document that a calibration belongs to.

use jsonc_parser::ast::{Object, Value};

use crate::model::document::Schema;
use crate::model::document::Source;
use crate::model::located::json::span;
use crate::model::problem::Problem;
use crate::model::rule::ScaleRule;
use crate::model::spelling::quote;

use super::editor::Segment;
use super::{Change, EditError, unknown};

/// The object of a channel.
#[derive(Clone)]
pub(super) struct Channel<'a> {
    pub(super) name: String,
    pub(super) object: Object<'a>,
    pub(super) path: Vec<Segment>,
}

impl<'a> Channel<'a> {
    pub(super) fn rule(&self) -> Option<&Object<'a>> {
        object(&self.object, "scale_rule")
    }
}

/// The parts of a document that a calibration changes.
pub(super) struct Target<'a> {
    /// The channels that get a rule.
    pub(super) rules: Vec<(Channel<'a>, ScaleRule)>,
    /// Other input channels whose rules also raise the limit.
    pub(super) others: Vec<Channel<'a>>,
    /// The object with the field `resources`, existing or new.
    pub(super) owner: Object<'a>,
    pub(super) owner_path: Vec<Segment>,
    pub(super) notes: Vec<String>,
}

/// The object in a field.
pub(super) fn object<'o, 'a>(object: &'o Object<'a>, name: &str) -> Option<&'o Object<'a>> {
    property(object, name)?.as_object()
}

/// The value of a field: the last one if there are several, as readers do.
fn property<'o, 'a>(object: &'o Object<'a>, name: &str) -> Option<&'o Value<'a>> {
    object.properties.iter().rev().find(|property| property.name.as_str() == name).map(|property| &property.value)
}

fn text(object: &Object<'_>, name: &str) -> Option<String> {
    property(object, name)?.as_string_lit().map(|text| text.value.clone().into_owned())
}

fn key(name: &str) -> Segment {
    Segment::Key(name.to_owned())
}

/// The input channels of a template or a task.
fn inputs<'a>(owner: &Object<'a>, path: &[Segment]) -> Vec<Channel<'a>> {
    let Some(Value::Array(inputs)) = property(owner, "inputs") else { return Vec::new() };
    let channels = inputs.elements.iter().enumerate().filter_map(|(place, value)| {
        let object = value.as_object()?.clone();
        let path = [path, &[key("inputs"), Segment::Index(place)]].concat();
        Some(Channel { name: text(&object, "name")?, object, path })
    });
    channels.collect()
}

impl<'a> Target<'a> {
    pub(super) fn find(source: &Source, root: &Value<'a>, change: &Change<'_>) -> Result<Self, EditError> {
        let Some(document) = root.as_object() else {
            let problem = Problem::error("wrong-type", "the document is not an object").at(span(root));
            return Err(source.flawed([problem.label("expected a task or a processing container")]).into());
        };
        match Schema::detect(source) {
            Some(Schema::ProcessingContainer) => Self::in_container(source, document, change),
            Some(Schema::Task) => Self::in_task(source, document, change),
            None => {
                let problem = Problem::error("unknown-document", "neither a task nor a processing container");
                let help = "a task has `taskTemplate` and `image`, a processing container has `templates`";
                Err(source.flawed([problem.at(0..1).label("expected one of them").help(help)]).into())
            }
        }
    }

    fn in_container(source: &Source, document: &Object<'a>, change: &Change<'_>) -> Result<Self, EditError> {
        let templates = match property(document, "templates") {
            Some(Value::Array(templates)) => templates.elements.as_slice(),
            Some(_) | None => &[],
        };
        let named: Vec<(usize, String, &Object<'a>)> = templates
            .iter()
            .enumerate()
            .filter_map(|(place, value)| value.as_object().map(|object| (place, object)))
            .filter_map(|(place, object)| Some((place, text(object, "identifier")?, object)))
            .collect();
        let known: Vec<&str> = named.iter().map(|(_, name, _)| name.as_str()).collect();
        let at = property(document, "templates").map_or(0..1, span);
        let at = at.start..at.start + 1;
        let found = match (change.template, named.as_slice()) {
            (Some(wanted), named) => named.iter().find(|(_, name, _)| name == wanted).ok_or_else(|| {
                unknown(source, "unknown-template", format!("no template named {}", quote(wanted)), at, &known)
            })?,
            (None, [only]) => only,
            (None, named)
                if let Some(usual) = named.iter().find(|(_, name, _)| Some(name.as_str()) == change.usual_template) =>
            {
                usual
            }
            (None, _) => {
                let message = "several templates; select one with --template".to_owned();
                return Err(unknown(source, "several-templates", message, at, &known));
            }
        };
        let (place, _, template) = found;
        let path = vec![key("templates"), Segment::Index(*place)];
        let channels = inputs(template, &path);
        let (rules, others) = divide(source, template, channels, change)?;
        Ok(Self { rules, others, owner: (*template).clone(), owner_path: path, notes: Vec::new() })
    }

    fn in_task(source: &Source, document: &Object<'a>, change: &Change<'_>) -> Result<Self, EditError> {
        let inline = object(document, "taskTemplate").cloned();
        let template_path = vec![key("taskTemplate")];
        let own = inputs(document, &[]);
        let of_template = inline.as_ref().map(|template| inputs(template, &template_path)).unwrap_or_default();
        let mut channels: Vec<Channel<'a>> = Vec::new();
        for channel in &own {
            // The task's rule replaces the template's: it is the one that counts, and the only one without a template.
            let mounted = of_template.iter().find(|mounted| mounted.name == channel.name);
            let chosen = match mounted {
                Some(mounted) if channel.rule().is_none() => mounted,
                Some(_) | None => channel,
            };
            channels.push(chosen.clone());
        }
        let missing = |mounted: &&Channel<'a>| own.iter().all(|channel| channel.name != mounted.name);
        channels.extend(of_template.iter().filter(missing).cloned());
        let (rules, others) = divide(source, document, channels, change)?;
        let mut notes = Vec::new();
        let has_own = object(document, "resources").is_some();
        let (owner, owner_path) = match inline {
            Some(template) if !has_own => (template, template_path),
            Some(_) => (document.clone(), Vec::new()),
            None => {
                if !has_own {
                    notes.push(
                        "resources of a task replace all of its template's: repeat what else the template sets, such \
                         as cpu"
                            .to_owned(),
                    );
                }
                (document.clone(), Vec::new())
            }
        };
        Ok(Self { rules, others, owner, owner_path, notes })
    }

    pub(super) fn resources(&self) -> Option<&Object<'a>> {
        object(&self.owner, "resources")
    }
}

/// Which channels get which rule, and which others have one.
#[expect(clippy::type_complexity, reason = "the two halves of one answer, used once")]
fn divide<'a>(
    source: &Source,
    place: &Object<'_>,
    channels: Vec<Channel<'a>>,
    change: &Change<'_>,
) -> Result<(Vec<(Channel<'a>, ScaleRule)>, Vec<Channel<'a>>), EditError> {
    let known: Vec<&str> = channels.iter().map(|channel| channel.name.as_str()).collect();
    let at = place.range.start..place.range.start + 1;
    let mut rules = Vec::new();
    for (name, rule) in &change.documented.rules {
        let wanted = name.as_deref().or(change.channel);
        let channel = match (wanted, channels.as_slice()) {
            (Some(wanted), channels) => channels.iter().find(|channel| channel.name == wanted).ok_or_else(|| {
                let message = format!("no input channel named {}", quote(wanted));
                unknown(source, "unknown-channel", message, at.clone(), &known)
            })?,
            (None, [only]) => only,
            (None, _) => {
                let message = "several input channels; select one with --channel".to_owned();
                return Err(unknown(source, "several-channels", message, at, &known));
            }
        };
        rules.push((channel.clone(), rule.clone()));
    }
    let others = channels.into_iter().filter(|channel| {
        let taken = rules.iter().any(|(other, _)| other.name == channel.name);
        !taken && channel.rule().is_some() && channel.rule_type() != Some(crate::model::rule::RuleType::Request)
    });
    let others = others.collect();
    Ok((rules, others))
}
