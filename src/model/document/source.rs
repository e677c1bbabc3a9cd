//! The text of a document, before and after rendering.

use std::ops::Range;

use crate::model::problem::{Flawed, Problem};
use crate::model::spelling::quote;

use super::place::Place;
use super::reader::within;
use super::template::{self, Rendered};
use super::variables::Variables;

/// The text of a document, rendered where it is a template, that knows the places of both.
///
/// Spans of [`Problem`]s and of everything read from the document point into [`Self::json`]; [`Self::flawed`] turns
/// them into places of the file.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    rendered: Option<Rendered>,
}

impl Source {
    /// A document has at most this many bytes, rendered or not. Read into values it takes up to 170 times as much memory.
    pub const MOST_BYTES: u64 = 4 << 20;

    /// A text that is JSON as it stands.
    pub fn plain(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), rendered: None }
    }

    /// Whether a text is rendered: it holds Jinja.
    pub fn is_template(text: &str) -> bool {
        template::is_template(text)
    }

    /// A text that is rendered where it holds Jinja; else it is taken byte by byte.
    ///
    /// Rendering may take any amount of memory: [`resolve::render`](crate::calibrate::resolve::render) bounds it, for
    /// texts that somebody else wrote.
    ///
    /// # Errors
    /// The Jinja is wrong, or uses variables that are not defined.
    pub fn render(name: impl Into<String>, text: impl Into<String>, variables: &Variables) -> Result<Self, Flawed> {
        let plain = Self::plain(name, text);
        if !Self::is_template(&plain.text) {
            return Ok(plain);
        }
        match template::render(&plain.text, variables) {
            Ok(rendered) => Ok(Self { rendered: Some(rendered), ..plain }),
            Err(problems) => Err(Flawed { name: plain.name, text: plain.text, problems: sorted(problems) }),
        }
    }

    /// Where the text came from: a path, or words.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text to read: the rendered one where it is a template.
    pub fn json(&self) -> &str {
        self.rendered.as_ref().map_or(&self.text, |rendered| &rendered.text)
    }

    /// The text as it stands in the file.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The piece of the file that a piece of [`Self::json`] is, byte by byte; of an empty piece the place of the byte
    /// before it. `None` where Jinja made some of it, or stands between it and what it belongs to.
    pub(super) fn place_of(&self, span: Range<usize>) -> Option<Range<usize>> {
        let Some(rendered) = &self.rendered else { return Some(span) };
        let map = rendered.map.as_ref()?;
        let looked_at = if span.is_empty() { span.start.checked_sub(1)?..span.end } else { span.clone() };
        let place = map.template(looked_at.clone());
        if span.is_empty() && place.made_by_tag {
            // Behind a tag is a place, too.
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

    /// Moves a problem whose span points into the text of a value to the place of that value in [`Self::json`].
    pub fn within(&self, place: &Range<usize>, problem: Problem) -> Problem {
        within(self.json(), place, problem)
    }

    /// Problems whose spans point into [`Self::json`], as problems of the file. Where a template gives no way back,
    /// they stay with the rendered text, and the name says so.
    pub fn flawed(&self, problems: impl IntoIterator<Item = Problem>) -> Flawed {
        let problems = problems.into_iter();
        match &self.rendered {
            None => Flawed { name: self.name.clone(), text: self.text.clone(), problems: sorted(problems.collect()) },
            Some(Rendered { text, map: None }) => Flawed {
                name: format!("{}, rendered", self.name),
                text: text.clone(),
                problems: sorted(problems.collect()),
            },
            Some(Rendered { text, map: Some(map) }) => {
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
                Flawed { name: self.name.clone(), text: self.text.clone(), problems: sorted(moved.collect()) }
            }
        }
    }
}

/// A problem with what Jinja made: it shows the output, and its remedy is about the template.
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

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    // What has no place comes last.
    problems.sort_by_key(|problem| problem.span.as_ref().map_or((usize::MAX, 0), |span| (span.start, span.end)));
    problems
}
