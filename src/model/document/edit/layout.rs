//! The layout of a document, so that new parts look like existing ones.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged;
use serde_json::Value as Json;

/// The white space of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The line ending.
    pub(super) line_end: &'static str,
    /// One level of indentation.
    unit: String,
    /// Between a name and its value.
    colon: String,
    /// Between two fields on the same line.
    comma: String,
    /// Inside the braces of an object on one line.
    pad: String,
    /// Whether nested objects are on one line.
    inline: bool,
}

impl Layout {
    pub(super) fn detect(text: &str) -> Self {
        let mut hints = LayoutHints::default();
        if let Ok(value) = crate::model::located::json::parse(text) {
            hints.look(text, &value, None);
        }
        Self {
            line_end: if text.contains("\r\n") { "\r\n" } else { "\n" },
            unit: hints.unit.unwrap_or_else(|| "  ".to_owned()),
            colon: hints.colon.unwrap_or_else(|| ": ".to_owned()),
            comma: hints.comma.unwrap_or_else(|| ", ".to_owned()),
            pad: hints.pad.unwrap_or_default(),
            inline: hints.inline_objects > hints.open_objects,
        }
    }

    /// The text of new fields of an object, without the separator from existing ones.
    pub(super) fn fields(&self, place: &Place, fields: &[(String, Json)]) -> String {
        let separator = match place {
            Place::Line => format!(",{}", self.comma.trim_start_matches(',')),
            Place::Lines { indent } => format!(",{}{indent}", self.line_end),
        };
        let fields = fields
            .iter()
            .map(|(name, value)| format!("{}{}{}", Json::from(name.as_str()), self.colon, self.value(place, value)));
        fields.collect::<Vec<_>>().join(&separator)
    }

    /// The text of a value.
    pub(super) fn value(&self, place: &Place, value: &Json) -> String {
        let Json::Object(inner) = value else { return value.to_string() };
        let inner: Vec<(String, Json)> = inner.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        match place {
            Place::Lines { indent } if !self.inline => {
                let inside = Place::Lines { indent: format!("{indent}{}", self.unit) };
                let Place::Lines { indent: deeper } = &inside else { return String::new() };
                let end = self.line_end;
                format!("{{{end}{deeper}{}{end}{indent}}}", self.fields(&inside, &inner))
            }
            Place::Lines { .. } | Place::Line => {
                format!("{{{pad}{}{pad}}}", self.fields(&Place::Line, &inner), pad = self.pad)
            }
        }
    }

    /// The same layout for siblings of an object on one line.
    pub(super) fn beside_inline(&self) -> Self {
        Self { inline: true, ..self.clone() }
    }

    /// The fields of an object that has none yet.
    pub(super) fn filled(&self, fields: &[(String, Json)]) -> String {
        format!("{{{pad}{}{pad}}}", self.fields(&Place::Line, fields), pad = self.pad)
    }

    pub(super) fn comma(&self) -> &str {
        &self.comma
    }
}

/// The placement of the fields of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All on one line.
    Line,
    /// Each on its own line.
    Lines {
        /// Their indentation.
        indent: String,
    },
}

impl Place {
    /// The placement of the fields of this object; `None` if it has none.
    pub(super) fn detect(text: &str, object: &Object<'_>) -> Option<Self> {
        let first = object.properties.first()?;
        let before = &text[object.range.start + 1..first.range.start];
        Some(match before.rfind('\n') {
            Some(at) => Self::Lines { indent: before[at + 1..].to_owned() },
            None => Self::Line,
        })
    }
}

/// Whether an object contains others, and the first of them is on one line.
pub(super) fn holds_inline(text: &str, object: &Object<'_>) -> bool {
    let inner = object.properties.iter().filter_map(|property| property.value.as_object());
    let mut places = inner.filter_map(|inner| Place::detect(text, inner));
    places.next() == Some(Place::Line)
}

/// Common properties of the objects of a document: the first of each kind decides.
#[derive(Default)]
struct LayoutHints {
    unit: Option<String>,
    colon: Option<String>,
    comma: Option<String>,
    pad: Option<String>,
    inline_objects: usize,
    open_objects: usize,
}

impl LayoutHints {
    fn look(&mut self, text: &str, value: &Value<'_>, outer: Option<&str>) {
        match value {
            Value::Object(object) => self.object(text, object, outer),
            Value::Array(array) => array.elements.iter().for_each(|element| self.look(text, element, outer)),
            Value::StringLit(_) | Value::NumberLit(_) | Value::BooleanLit(_) | Value::NullKeyword(_) => {}
        }
    }

    fn object(&mut self, text: &str, object: &Object<'_>, outer: Option<&str>) {
        let place = Place::detect(text, object);
        for property in &object.properties {
            let between = &text[property.name.range().end..property.value.range().start];
            self.colon.get_or_insert_with(|| between.to_owned());
        }
        match &place {
            Some(Place::Lines { indent }) => {
                // The outermost object determines the indentation; arrays add a level.
                if let Some(step) = indent.strip_prefix(outer.unwrap_or_default()).filter(|step| !step.is_empty()) {
                    self.unit.get_or_insert_with(|| step.to_owned());
                }
                self.open_objects += usize::from(outer.is_some());
            }
            Some(Place::Line) => {
                self.inline_objects += usize::from(outer.is_some() && holds_fields_only(object));
                if let [first, second, ..] = object.properties.as_slice() {
                    self.comma.get_or_insert_with(|| text[first.range.end..second.range.start].to_owned());
                    self.pad.get_or_insert_with(|| text[object.range.start + 1..first.range.start].to_owned());
                }
            }
            None => {}
        }
        let indent = match &place {
            Some(Place::Lines { indent }) => Some(indent.as_str()),
            Some(Place::Line) | None => outer,
        };
        object.properties.iter().for_each(|property| self.look(text, &property.value, indent.or(Some(""))));
    }
}

/// Whether an object contains neither objects nor arrays, like a rule.
fn holds_fields_only(object: &Object<'_>) -> bool {
    object.properties.iter().all(|property| !matches!(property.value, Value::Object(_) | Value::Array(_)))
}
