//! Edits rules and resources in the text of a document and leaves everything else unchanged.
//!
//! Every edit replaces a span of the text, located by the bytes of its values. Everything between them stays: order,
//! indentation, line breaks, fields of other tools, Jinja. The result is verified: it is rendered and read again, and
//! compared with the content of the old document plus the change.

mod editor;
mod layout;
mod target;

use std::ops::Range;

use serde_json::{Value as Json, json};

use crate::model::fit::Documented;
use crate::model::problem::{Flawed, Problem};
use crate::model::rule::{Dialect, RuleType, ScaleRule};
use crate::model::spelling::quote;

use super::place::blocks_before;
use super::{Source, Variables};

use editor::{Edit, Editor, Segment};
use target::Target;

/// A text with a change written into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The new text.
    pub text: String,
    /// Notes for the user.
    pub notes: Vec<String>,
}

/// Why a calibration could not be written into a document.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The document is invalid, or has no place for it.
    #[error(transparent)]
    Flawed(#[from] Flawed),
    /// The document would not have the expected content: its Jinja repeats or computes the value to change.
    #[error("failed to change {name}: the value to be changed is repeated or computed by Jinja")]
    Templated {
        /// The document.
        name: String,
    },
}

/// A change to a document.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The rules and the resources.
    pub documented: &'a Documented,
    /// The template, for a document with several.
    pub template: Option<&'a str>,
    /// The default template of a document with several.
    pub usual_template: Option<&'a str>,
    /// The channel of rules that name none, for a document with several.
    pub channel: Option<&'a str>,
    /// Whether to remove the rules of other inputs, which would count too.
    pub alone: bool,
}

impl Source {
    /// The dialect of the rules in a document; `None` if unknown.
    pub fn dialect(&self) -> Option<Dialect> {
        let json: Json = serde_json::from_str(self.json()).ok()?;
        dialect_of(&json, &["complexity"], &["scale_factor"])
            .or_else(|| dialect_of(&json, &["adjustable", "input"], &["api_version", "volume_source"]))
    }

    /// The text of the document with a calibration written into it.
    ///
    /// # Errors
    /// If there is no such template or channel, a value to change is produced by Jinja, or the content of the result
    /// would not be the expected one.
    pub fn edit(&self, variables: &Variables, change: &Change<'_>) -> Result<Edited, EditError> {
        let root = crate::model::located::json::parse(self.json()).map_err(|problem| self.flawed([problem]))?;
        let target = Target::find(self, &root, change)?;
        let mut editor = Editor::new(self.json());
        let mut notes = target.notes.clone();
        for (channel, rule) in &target.rules {
            if let Some(old) = channel.rule_type().filter(|old| *old != rule.applies_to) {
                notes.push(format!("changed the rule of {} from type `{old}` to `limit`", channel.name));
            }
            edit_rule(&mut editor, channel, rule);
        }
        for other in &target.others {
            if change.alone {
                editor.remove(&other.object, &other.path, "scale_rule");
            } else {
                notes.push(format!(
                    "kept the rule of {}, which applies when it is larger; remove it with --drop-other-rules",
                    other.name
                ));
            }
        }
        let amounts = [("limits", &change.documented.limit), ("requests", &change.documented.request)];
        edit_resources(&mut editor, &target, amounts);
        let expected = editor.expected(serde_json::from_str(self.json()).unwrap_or_default());
        let text = self.edited(&editor.finish())?;
        let rendered = Source::render(self.name(), text.clone(), variables);
        let content: Option<Json> = rendered.ok().and_then(|source| serde_json::from_str(source.json()).ok());
        if content.as_ref() != Some(&expected) {
            return Err(EditError::Templated { name: self.name().to_owned() });
        }
        Ok(Edited { text, notes })
    }

    /// The text of the file with these spans of [`Self::json`] replaced.
    fn edited(&self, edits: &[Edit]) -> Result<String, EditError> {
        let mut text = self.text().to_owned();
        let mut placed = Vec::new();
        for edit in edits {
            let place = self.place_of(edit.span.clone()).filter(|place| self.is_in_one_block(place, edit.opening));
            placed.push((place.ok_or_else(|| self.made_by_jinja(edit.span.clone()))?, &edit.new));
        }
        placed.sort_by_key(|(place, _)| (place.start, place.end));
        for (place, new) in placed.into_iter().rev() {
            text.replace_range(place, new);
        }
        Ok(text)
    }

    /// Whether something inserted at this place of the file is present whenever its object is: not in an `{% if … %}`
    /// of its own.
    fn is_in_one_block(&self, place: &Range<usize>, opening: Option<usize>) -> bool {
        let Some(opening) = opening.filter(|_| self.is_rendered()) else { return true };
        let opening = self.place_of(opening..opening + 1);
        opening
            .is_some_and(|opening| blocks_before(self.text(), opening.start) == blocks_before(self.text(), place.start))
    }

    fn made_by_jinja(&self, span: Range<usize>) -> EditError {
        let problem = Problem::error("made-by-jinja", "the value to be changed is computed by Jinja")
            .at(span)
            .label("expected a literal value")
            .help("edit it by hand, here or where the variable is set");
        self.flawed([problem]).into()
    }
}

fn dialect_of(json: &Json, complexity: &[&str], scale_factor: &[&str]) -> Option<Dialect> {
    match json {
        Json::Object(fields) => fields.iter().find_map(|(name, value)| {
            if complexity.contains(&name.as_str()) {
                Some(Dialect::Complexity)
            } else if scale_factor.contains(&name.as_str()) {
                Some(Dialect::ScaleFactor)
            } else {
                dialect_of(value, complexity, scale_factor)
            }
        }),
        Json::Array(values) => values.iter().find_map(|value| dialect_of(value, complexity, scale_factor)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    }
}

/// The fields of a rule in their usual order; `None` is a field that must be absent.
fn fields(rule: &ScaleRule) -> [(&'static str, Option<Json>); 7] {
    let (complexity, factor) = match rule.formula.dialect() {
        Dialect::Complexity => (Some(json!(rule.formula.source())), None),
        Dialect::ScaleFactor => (None, rule.formula.source().parse::<i64>().ok().map(|factor| json!(factor))),
    };
    let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
    [
        ("complexity", complexity),
        ("scale_factor", factor),
        ("type", Some(json!(rule.applies_to.name()))),
        ("mode", Some(json!(rule.mode.name()))),
        ("target_dir", text(&rule.target_dir)),
        ("target_glob", text(&rule.target_glob)),
        ("target_regex", text(&rule.target_regex)),
    ]
}

fn edit_rule(editor: &mut Editor<'_>, channel: &target::Channel<'_>, rule: &ScaleRule) {
    let Some(old) = channel.rule() else {
        let fields = fields(rule).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        return editor.set(&channel.object, &channel.path, "scale_rule", Json::Object(fields.collect()));
    };
    let path = [channel.path.clone(), vec![Segment::Key("scale_rule".to_owned())]].concat();
    let has = |name: &str| old.properties.iter().any(|property| property.name.as_str() == name);
    // The formula keeps its place if the dialect stays, and takes that of the old one if it changes.
    if rule.formula.dialect() == Dialect::ScaleFactor && has("complexity") {
        editor.rename(old, &path, "complexity", "scale_factor");
    } else if rule.formula.dialect() == Dialect::Complexity && has("scale_factor") {
        editor.rename(old, &path, "scale_factor", "complexity");
    }
    for (name, value) in fields(rule) {
        match value {
            Some(value) => editor.set(old, &path, name, value),
            None if is_idle(old, name) => {}
            None => editor.remove(old, &path, name),
        }
    }
}

/// Whether a field has no effect, such as `"target_glob": "*"`.
fn is_idle(rule: &jsonc_parser::ast::Object<'_>, name: &str) -> bool {
    let idle = match name {
        "target_dir" => ["", "."],
        "target_glob" => ["", "*"],
        "target_regex" => ["", ".*"],
        _ => return false,
    };
    let property = rule.properties.iter().rev().find(|property| property.name.as_str() == name);
    property.is_some_and(|property| match &property.value {
        jsonc_parser::ast::Value::StringLit(text) => idle.contains(&&*text.value),
        jsonc_parser::ast::Value::NullKeyword(_) => true,
        _ => false,
    })
}

fn edit_resources(editor: &mut Editor<'_>, target: &Target<'_>, amounts: [(&'static str, &Option<String>); 2]) {
    let wanted: Vec<(&str, &String)> =
        amounts.iter().filter_map(|(kind, amount)| Some((*kind, amount.as_ref()?))).collect();
    let memory = |amount: &str| json!({ "memory": amount });
    match target.resources() {
        None if wanted.is_empty() => {}
        None => {
            let fields = wanted.iter().map(|(kind, amount)| ((*kind).to_owned(), memory(amount))).collect();
            editor.set(&target.owner, &target.owner_path, "resources", Json::Object(fields));
        }
        Some(resources) => {
            let path = [target.owner_path.clone(), vec![Segment::Key("resources".to_owned())]].concat();
            for (kind, amount) in amounts {
                let inside = target::object(resources, kind);
                match (inside, amount) {
                    (Some(inside), amount) => {
                        let path = [path.clone(), vec![Segment::Key(kind.to_owned())]].concat();
                        match amount {
                            Some(amount) => editor.set(inside, &path, "memory", json!(amount)),
                            // The old minimum is not part of the new rule.
                            None => editor.remove(inside, &path, "memory"),
                        }
                    }
                    (None, Some(amount)) => editor.set(resources, &path, kind, memory(amount)),
                    (None, None) => {}
                }
            }
        }
    }
}

fn unknown(source: &Source, code: &'static str, message: String, place: Range<usize>, known: &[&str]) -> EditError {
    let known: Vec<String> = known.iter().map(|name| quote(name)).collect();
    let label =
        if known.is_empty() { "none defined".to_owned() } else { format!("expected one of {}", known.join(", ")) };
    source.flawed([Problem::error(code, message).at(place).label(label)]).into()
}

/// The name of a rule's type, for a note.
impl target::Channel<'_> {
    fn rule_type(&self) -> Option<RuleType> {
        let rule = self.rule()?;
        let property = rule.properties.iter().find(|property| property.name.as_str() == "type")?;
        property.value.as_string_lit()?.value.parse().ok()
    }
}
