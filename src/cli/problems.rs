//! Problems as JSON.

use highwater::model::problem::{Flawed, Problem, Severity, line_column};
use schemars::JsonSchema;
use serde::Serialize;

/// A problem and its position.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(crate) struct Located {
    /// The name of the source.
    file: String,
    /// Counted from 1; `null` if the problem concerns the whole file.
    line: Option<usize>,
    /// Counted from 1, in characters.
    column: Option<usize>,
    end_line: Option<usize>,
    end_column: Option<usize>,
    severity: Severity,
    code: &'static str,
    message: String,
    /// The label of the position: usually what was expected.
    label: Option<String>,
    help: Option<String>,
}

impl Located {
    /// A problem that concerns a whole file.
    pub(crate) fn of_file(file: &str, problem: Problem) -> Self {
        Self::new(file, None, None, problem)
    }

    /// All problems of a source.
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

/// For example `2 errors, 1 warning`, or `None` if there are none.
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
