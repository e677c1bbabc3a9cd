//! The text of a document, before and after rendering.

use std::ops::Range;

use crate::model::located::within;
use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::quote;

use super::place::{self, Place, Rendered};
use super::template;
use super::variables::Variables;

/// The text of a document, rendered if it is a template, with a mapping between both.
///
/// Spans of [`Problem`]s and of everything read from the document point into [`Self::json`]; [`Self::flawed`] maps them
/// to the file.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    rendered: Option<Rendered>,
}

impl Source {
    /// The maximum size of a document, rendered or not. Its parsed values take up to 170 times as much memory.
    pub const MOST_BYTES: u64 = place::MOST_BYTES;

    /// A source that is plain JSON.
    pub fn plain(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), rendered: None }
    }

    /// Whether a text contains Jinja and has to be rendered.
    pub fn is_template(text: &str) -> bool {
        template::is_template(text)
    }

    /// Renders a text that contains Jinja; uses any other text unchanged.
    ///
    /// Rendering may use any amount of memory: [`resolve::render`](crate::calibrate::resolve::render) bounds it, for
    /// untrusted texts.
    ///
    /// # Errors
    /// If the Jinja is invalid or uses undefined variables.
    pub fn render(name: impl Into<String>, text: impl Into<String>, variables: &Variables) -> Result<Self, Flawed> {
        let plain = Self::plain(name, text);
        if !Self::is_template(&plain.text) {
            return Ok(plain);
        }
        match template::render(&plain.text, variables) {
            Ok(rendered) => Ok(Self { rendered: Some(rendered), ..plain }),
            Err(problems) => Err(Flawed::new(plain.name, plain.text, problems)),
        }
    }

    /// The origin of the text: a path, or a description.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text to parse: the rendered one if it is a template.
    pub fn json(&self) -> &str {
        self.rendered.as_ref().map_or(&self.text, |rendered| &rendered.text)
    }

    /// The text of the file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Maps a span of [`Self::json`] to the file, byte by byte; an empty span to the byte before it. `None` if Jinja
    /// produced a part of it, or is between it and its context.
    pub(super) fn place_of(&self, span: Range<usize>) -> Option<Range<usize>> {
        let Some(rendered) = &self.rendered else { return Some(span) };
        let map = rendered.map.as_ref()?;
        let looked_at = if span.is_empty() { span.start.checked_sub(1)?..span.end } else { span.clone() };
        let place = map.template(looked_at.clone());
        if span.is_empty() && place.made_by_tag {
            // The end of a tag is a valid location, too.
            return Some(place.span.end..place.span.end);
        }
        let same = self.text.get(place.span.clone()) == rendered.text.get(looked_at);
        let found = if span.is_empty() { place.span.end..place.span.end } else { place.span };
        (same && !place.made_by_tag).then_some(found)
    }

    /// Whether it was a template.
    pub fn is_rendered(&self) -> bool {
        self.rendered.is_some()
    }

    /// Moves a problem whose span points into the content of a value to the location of that value in [`Self::json`].
    pub fn within(&self, place: &Range<usize>, problem: Problem) -> Problem {
        within(self.json(), place, problem)
    }

    /// Maps problems whose spans point into [`Self::json`] to the file. If a template has no mapping, they refer to the
    /// rendered text, and the name says so. The warnings of the template are added.
    pub fn flawed(&self, problems: impl IntoIterator<Item = Problem>) -> Flawed {
        let problems = problems.into_iter();
        let of_template = self.rendered.iter().flat_map(|rendered| rendered.warnings.iter().cloned());
        match &self.rendered {
            None => Flawed::new(&self.name, &self.text, problems.collect()),
            Some(Rendered { text, map: None, .. }) => {
                let of_template = of_template.map(|problem| Problem { span: None, ..problem });
                Flawed::new(format!("{}, rendered", self.name), text, problems.chain(of_template).collect())
            }
            Some(Rendered { text, map: Some(map), .. }) => {
                let moved = problems.map(|problem| match problem.span.clone() {
                    None => problem,
                    Some(span) => {
                        let Place { span: place, made_by_tag } = map.template(span.clone());
                        let (tag, output) = (self.text.get(place.clone()), text.get(span));
                        let problem = problem.at(place);
                        match (made_by_tag, tag, output) {
                            (true, Some(tag), Some(output)) => made_by(tag, output, problem),
                            (_, _, _) => problem,
                        }
                    }
                });
                Flawed::new(&self.name, &self.text, moved.chain(of_template).collect())
            }
        }
    }
}

/// A problem with the output of Jinja: it shows the output, and its remedy is about the template.
fn made_by(tag: &str, output: &str, problem: Problem) -> Problem {
    let rendered = format!("rendered as {}", quote(output));
    let label = match &problem.label {
        Some(label) => format!("{label}; {rendered}"),
        None => rendered,
    };
    let is_a_tag = tag.starts_with("{{") && tag.ends_with("}}");
    let problem = match problem.code {
        "not-json" => problem.help("the value may contain quotes: write {{ … | tojson }} without quotes around it"),
        "wrong-type" if is_a_tag && problem.help.is_some() => problem.help(format!("write \"{tag}\"")),
        _ => problem,
    };
    problem.label(label)
}
