//! Problems in a text that a user wrote, with their locations.

use std::ops::Range;

/// The severity of a problem.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth attention; the text is usable.
    Warning,
    /// The text cannot be used.
    Error,
}

/// A problem of a text, with its location, its reason and, if known, its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A stable name for scripts, such as `unknown-field`.
    pub code: &'static str,
    /// Whether the text is unusable or merely suspicious.
    pub severity: Severity,
    /// What was found: a lower-case sentence without a full stop.
    pub message: String,
    /// The bytes of the text that it is about.
    pub span: Option<Range<usize>>,
    /// A label for the marked bytes: usually what was expected there.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// An error, without location and remedy yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), span: None, label: None, help: None }
    }

    /// A warning, without location and remedy yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Sets the location.
    #[must_use]
    pub fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }

    /// Sets the label of the marked bytes.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A text with its name and all of its problems.
///
/// `Display` shows only the number of problems; the caller renders them one by one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {}", self.summary())]
pub struct Flawed {
    /// The origin of the text: a path, or a description such as `the --set option`.
    pub name: String,
    /// The text that the spans of [`Self::problems`] point into.
    pub text: String,
    /// In the order of their location.
    pub problems: Vec<Problem>,
}

impl Flawed {
    /// Sorts the problems by their location; those without one come last.
    pub fn new(name: impl Into<String>, text: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.span.as_ref().map_or((usize::MAX, 0), |span| (span.start, span.end)));
        Self { name: name.into(), text: text.into(), problems }
    }

    fn summary(&self) -> String {
        match self.problems.as_slice() {
            [only] => only.message.clone(),
            many => format!("{} problems", many.len()),
        }
    }

    /// The line and column of a problem, both counted from 1, the column in characters.
    pub fn line_column(&self, problem: &Problem) -> Option<(usize, usize)> {
        line_column(&self.text, problem.span.as_ref()?.start)
    }
}

/// The line and column of a byte of `text`, both counted from 1, the column in characters.
///
/// `None` if `offset` is outside of the text or inside a character.
pub fn line_column(text: &str, offset: usize) -> Option<(usize, usize)> {
    let before = text.get(..offset)?;
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some((line, text[start..offset].chars().count() + 1))
}

/// An error and its sources, on one line.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(line_column("ä\nbüc", 0), Some((1, 1)));
        assert_eq!(line_column("ä\nbüc", 6), Some((2, 3)));
        assert_eq!(line_column("ä", 1), None);
    }
}
