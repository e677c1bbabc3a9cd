//! Edits the text of a document, and computes its expected content.

use std::ops::Range;

use jsonc_parser::ast::{Object, ObjectProp};
use jsonc_parser::common::Ranged;
use serde_json::Value as Json;

use super::layout::{Layout, Place, holds_inline};

/// A step of a path to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

/// A replacement of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) span: Range<usize>,
    pub(super) new: String,
    /// The opening brace of the object that gets new fields.
    pub(super) opening: Option<usize>,
}

/// Collects edits of a text.
pub(super) struct Editor<'t> {
    text: &'t str,
    layout: Layout,
    edits: Vec<Edit>,
    /// New fields by the opening brace of their object: they are inserted together.
    new: Vec<New>,
    /// The changes, by the path to their object: `None` removes a field.
    changes: Vec<(Vec<Segment>, String, Option<Json>)>,
    /// Renamed fields, by the opening brace of their object.
    renamed: Vec<(usize, String, String)>,
}

/// New fields of an object.
struct New {
    opening: usize,
    /// The bytes between its opening brace and its first field, the end of its last one, and the placement of its
    /// fields.
    last_end: Option<usize>,
    whole: Range<usize>,
    place: Option<Place>,
    /// Whether sibling objects are on one line.
    inline: bool,
    fields: Vec<(String, Json)>,
}

impl<'t> Editor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let layout = Layout::detect(text);
        Self { text, layout, edits: Vec::new(), new: Vec::new(), changes: Vec::new(), renamed: Vec::new() }
    }

    fn find<'o, 'a>(&self, object: &'o Object<'a>, name: &str) -> Option<(usize, &'o ObjectProp<'a>)> {
        let renamed = self.renamed.iter().find(|(at, _, new)| *at == object.range.start && new == name);
        let name = renamed.map_or(name, |(_, old, _)| old.as_str());
        object.properties.iter().enumerate().rev().find(|(_, property)| property.name.as_str() == name)
    }

    /// Sets a field: replaces its value, or adds a field after the last one.
    pub(super) fn set(&mut self, object: &Object<'_>, path: &[Segment], name: &str, value: Json) {
        self.changes.push((path.to_vec(), name.to_owned(), Some(value.clone())));
        if let Some((_, property)) = self.find(object, name) {
            let range = property.value.range();
            let old = self.text[range.start..range.end].to_owned();
            // The same value may be written differently.
            if serde_json::from_str::<Json>(&old).ok().as_ref() != Some(&value) {
                let place = Place::detect(self.text, object).unwrap_or(Place::Line);
                self.replace(range.start..range.end, self.layout.value(&place, &value));
            }
            return;
        }
        let opening = object.range.start;
        if let Some(new) = self.new.iter_mut().find(|new| new.opening == opening) {
            return new.fields.push((name.to_owned(), value));
        }
        self.new.push(New {
            opening,
            last_end: object.properties.last().map(|property| property.range.end),
            whole: object.range.start..object.range.end,
            place: Place::detect(self.text, object),
            inline: holds_inline(self.text, object),
            fields: vec![(name.to_owned(), value)],
        });
    }

    /// Renames a field.
    pub(super) fn rename(&mut self, object: &Object<'_>, path: &[Segment], old: &str, new: &str) {
        let Some((_, property)) = self.find(object, old) else { return };
        let range = property.name.range();
        self.replace(range.start..range.end, Json::from(new).to_string());
        self.changes.push((path.to_vec(), old.to_owned(), None));
        self.renamed.push((object.range.start, old.to_owned(), new.to_owned()));
    }

    /// Removes a field with its comma.
    pub(super) fn remove(&mut self, object: &Object<'_>, path: &[Segment], name: &str) {
        let gone = self.renamed.iter().any(|(at, old, _)| *at == object.range.start && old == name);
        let Some((place, property)) = self.find(object, name).filter(|_| !gone) else { return };
        self.changes.push((path.to_vec(), name.to_owned(), None));
        let before = place.checked_sub(1).and_then(|place| object.properties.get(place));
        let span = match (before, object.properties.get(place + 1)) {
            (Some(before), _) => before.range.end..property.range.end,
            (None, Some(next)) => property.range.start..next.range.start,
            (None, None) => object.range.start + 1..object.range.end - 1,
        };
        // Adjacent removals are merged.
        match self.edits.iter_mut().find(|edit| edit.new.is_empty() && edit.span.end == span.start) {
            Some(edit) => edit.span.end = span.end,
            None => self.replace(span, String::new()),
        }
    }

    fn replace(&mut self, span: Range<usize>, new: String) {
        self.edits.push(Edit { span, new, opening: None });
    }

    /// The expected content of a document after the edits.
    pub(super) fn expected(&self, mut json: Json) -> Json {
        for (path, name, value) in &self.changes {
            let mut at = Some(&mut json);
            for segment in path {
                at = at.and_then(|value| match segment {
                    Segment::Key(name) => value.get_mut(name.as_str()),
                    Segment::Index(place) => value.get_mut(*place),
                });
            }
            let Some(fields) = at.and_then(Json::as_object_mut) else { continue };
            match value {
                Some(value) => drop(fields.insert(name.clone(), value.clone())),
                None => drop(fields.shift_remove(name)),
            }
        }
        json
    }

    /// All edits, without overlaps.
    pub(super) fn finish(mut self) -> Vec<Edit> {
        for new in &self.new {
            let edit = match (&new.place, new.last_end) {
                (Some(place), Some(end)) => {
                    let separator = match place {
                        Place::Line => self.layout.comma().to_owned(),
                        Place::Lines { indent } => format!(",{}{indent}", self.layout.line_end),
                    };
                    let layout = if new.inline { self.layout.beside_inline() } else { self.layout.clone() };
                    let fields = format!("{separator}{}", layout.fields(place, &new.fields));
                    Edit { span: end..end, new: fields, opening: Some(new.opening) }
                }
                (_, _) => Edit { span: new.whole.clone(), new: self.layout.filled(&new.fields), opening: None },
            };
            self.edits.push(edit);
        }
        self.edits
    }
}
