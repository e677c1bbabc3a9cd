//! Puts rules and resources into the text of a document and changes nothing else of it.
//!
//! Every edit is a piece of the text that is replaced, found by the bytes of the values there. Whatever stands between
//! them stays: order, indentation, line breaks, fields of other tools, Jinja. Whether the result says what it should is
//! not taken for granted: it is rendered and read again, and compared with what the old document says plus the change.

mod edit;
mod layout;
mod target;

use std::ops::Range;

use serde_json::{Value as Json, json};

use crate::model::fit::Documented;
use crate::model::problem::{Flawed, Problem};
use crate::model::rule::{Dialect, RuleType, ScaleRule};
use crate::model::spelling::quote;

use super::place::blocks_before;
use super::syntax;
use super::{Source, Variables};

use edit::{Edit, Editor, Segment};
use target::Target;

/// What came of putting a calibration into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The new text.
    pub text: String,
    /// What a person should know about it.
    pub notes: Vec<String>,
}

/// Why a calibration could not be put into a document.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PutError {
    /// The document is not as it should be, or gives no place for it.
    #[error(transparent)]
    Flawed(#[from] Flawed),
    /// The document would say something else than it should: its Jinja repeats or computes what would be changed.
    #[error("failed to change {name}: the value to be changed is repeated or computed by Jinja")]
    Templated {
        /// The document.
        name: String,
    },
}

/// What is put where.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The rules and the resources.
    pub documented: &'a Documented,
    /// The template, for a document with several.
    pub template: Option<&'a str>,
    /// The template that is meant where there are several and none is named.
    pub usual_template: Option<&'a str>,
    /// The channel of rules that name none, for a document with several.
    pub channel: Option<&'a str>,
    /// Whether the rules of other inputs, which would count too, are taken out.
    pub alone: bool,
}

impl Source {
    /// The dialect that a document writes its rules in; `None` where nothing tells.
    pub fn dialect(&self) -> Option<Dialect> {
        let json: Json = serde_json::from_str(self.json()).ok()?;
        dialect_of(&json, &["complexity"], &["scale_factor"])
            .or_else(|| dialect_of(&json, &["adjustable", "input"], &["api_version", "volume_source"]))
    }

    /// The text of the document with a calibration in it.
    ///
    /// # Errors
    /// There is no such template or channel, a value to be changed is made by Jinja, or the result would not say what it
    /// should.
    pub fn put(&self, variables: &Variables, change: &Change<'_>) -> Result<Put, PutError> {
        let root = syntax::parse(self.json()).map_err(|problem| self.flawed([problem]))?;
        let target = Target::find(self, &root, change)?;
        let mut editor = Editor::new(self.json());
        let mut notes = target.notes.clone();
        for (channel, rule) in &target.rules {
            if let Some(old) = channel.rule_type().filter(|old| *old != rule.applies_to) {
                notes.push(format!("changed the rule of {} from type `{old}` to `limit`", channel.name));
            }
            put_rule(&mut editor, channel, rule);
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
        put_resources(&mut editor, &target, amounts);
        let expected = editor.expected(serde_json::from_str(self.json()).unwrap_or_default());
        let text = self.edited(&editor.finish())?;
        let again = Source::render(self.name(), text.clone(), variables);
        let says: Option<Json> = again.ok().and_then(|source| serde_json::from_str(source.json()).ok());
        if says.as_ref() != Some(&expected) {
            return Err(PutError::Templated { name: self.name().to_owned() });
        }
        Ok(Put { text, notes })
    }

    /// The text of the file with these pieces of [`Self::json`] replaced.
    fn edited(&self, edits: &[Edit]) -> Result<String, PutError> {
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

    /// Whether what is put at a place of the file is there whenever its object is: not in an `{% if … %}` of its own.
    fn is_in_one_block(&self, place: &Range<usize>, opening: Option<usize>) -> bool {
        let Some(opening) = opening.filter(|_| self.is_rendered()) else { return true };
        let opening = self.place_of(opening..opening + 1);
        opening
            .is_some_and(|opening| blocks_before(self.text(), opening.start) == blocks_before(self.text(), place.start))
    }

    fn made_by_jinja(&self, span: Range<usize>) -> PutError {
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

/// The fields of a rule in the order people write them; `None` is a field that must not be there.
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

fn put_rule(editor: &mut Editor<'_>, channel: &target::Channel<'_>, rule: &ScaleRule) {
    let Some(old) = channel.rule() else {
        let fields = fields(rule).into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        return editor.set(&channel.object, &channel.path, "scale_rule", Json::Object(fields.collect()));
    };
    let path = [channel.path.clone(), vec![Segment::Key("scale_rule".to_owned())]].concat();
    let has = |name: &str| old.properties.iter().any(|property| property.name.as_str() == name);
    // The formula keeps its place where the dialect stays, and the place of the other one where it changes.
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

/// Whether a field says no more than none at all, such as `"target_glob": "*"`.
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

fn put_resources(editor: &mut Editor<'_>, target: &Target<'_>, amounts: [(&'static str, &Option<String>); 2]) {
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
                            // The old floor is no part of the new rule.
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

fn unknown(source: &Source, code: &'static str, message: String, place: Range<usize>, known: &[&str]) -> PutError {
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
