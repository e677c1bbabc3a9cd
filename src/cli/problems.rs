//! Problems as scripts read them.

use highwater::model::problem::{Flawed, Problem, Severity, line_column};
use schemars::JsonSchema;
use serde::Serialize;

/// A problem with its place.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Located {
    /// Where the text came from.
    file: String,
    /// Counted from 1; `null` where the problem is with the file as a whole.
    line: Option<usize>,
    /// Counted from 1, in characters.
    column: Option<usize>,
    end_line: Option<usize>,
    end_column: Option<usize>,
    severity: Severity,
    code: &'static str,
    message: String,
    /// What stands beside the place: usually what was expected.
    label: Option<String>,
    help: Option<String>,
}

impl Located {
    /// A problem that is not with the text of a file.
    pub(crate) fn of_file(file: &str, problem: Problem) -> Self {
        Self::new(file, None, None, problem)
    }

    /// All problems of a text.
    pub(crate) fn all(flawed: &Flawed) -> Vec<Self> {
        let place = |offset: Option<usize>| line_column(&flawed.text, offset?);
        let located = |problem: &Problem| {
            let (start, end) =
                (problem.span.as_ref().map(|span| span.start), problem.span.as_ref().map(|span| span.end));
            Self::new(&flawed.name, place(start), place(end), problem.clone())
        };
        flawed.problems.iter().map(located).collect()
    }

    fn new(file: &str, start: Option<(usize, usize)>, end: Option<(usize, usize)>, problem: Problem) -> Self {
        Self {
            file: file.to_owned(),
            line: start.map(|(line, _)| line),
            column: start.map(|(_, column)| column),
            end_line: end.map(|(line, _)| line),
            end_column: end.map(|(_, column)| column),
            severity: problem.severity,
            code: problem.code,
            message: problem.message,
            label: problem.label,
            help: problem.help,
        }
    }
}

/// `2 errors, 1 warning`, or `None` where there is nothing.
pub(crate) fn count<'a>(problems: impl Iterator<Item = &'a Problem>) -> Option<String> {
    let (mut errors, mut warnings) = (0, 0);
    for problem in problems {
        match problem.severity {
            Severity::Error => errors += 1,
            Severity::Warning => warnings += 1,
        }
    }
    let plural = |count: usize, noun: &str| match count {
        0 => None,
        1 => Some(format!("1 {noun}")),
        many => Some(format!("{many} {noun}s")),
    };
    let parts: Vec<String> = [plural(errors, "error"), plural(warnings, "warning")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
