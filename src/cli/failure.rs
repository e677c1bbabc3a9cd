//! Errors as users see them: rendered by miette, with an exit status.

use std::error::Error;

use highwater::calibrate::failure::{self, Category, Cause};
use highwater::model::escape::printable;
use highwater::model::layout;
use highwater::model::problem::{Flawed, Problem, Severity};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, SourceCode};

use super::excerpt::{self, Excerpt};
use super::exit::Exit;
use super::terminal;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    diagnostics: Vec<Rendered>,
}

impl Failure {
    /// An error with its chain of causes, or a message, and, if known, its remedy.
    pub(crate) fn new<'a>(exit: Exit, error: impl Into<Box<dyn Error + 'a>>, help: Option<String>) -> Self {
        Self { exit, diagnostics: vec![Rendered::chain(&*error.into(), help)] }
    }

    /// A host that cannot do what is wanted.
    pub(crate) fn host(error: impl Error) -> Self {
        Self::new(Exit::Host, &error, None)
    }

    /// A source and all of its problems.
    pub(crate) fn flawed(flawed: &Flawed) -> Self {
        Self { exit: Exit::Usage, diagnostics: shown(flawed) }
    }

    /// Changes the exit status.
    pub(crate) fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same failure from `run`, where 3 would be taken for the task's own status.
    pub(crate) fn own(self) -> Self {
        match self.exit {
            Exit::Host => self.with_exit(Exit::Task(125)),
            _ => self,
        }
    }

    /// An error of the library, with its category and remedy.
    pub(crate) fn from_library(error: impl Into<failure::Failure>) -> Self {
        error.into().into()
    }

    /// A failure of the library in `run`, whose statuses are those of `env` and `docker run`.
    pub(crate) fn of_run(failure: failure::Failure) -> Self {
        let exit = match failure.category {
            Category::System => Exit::Task(125),
            Category::NotExecutable => Exit::Task(126),
            Category::NotFound => Exit::Task(127),
            category => exit_of(category),
        };
        Self::from(failure).with_exit(exit)
    }

    /// Prints the failure on stderr as a warning.
    pub(crate) fn warn(mut self) {
        for diagnostic in &mut self.diagnostics {
            diagnostic.severity = Severity::Warning;
            terminal::say_styled(&render(diagnostic));
        }
    }

    /// Prints the failure on stderr and returns the exit status.
    pub(crate) fn report(self) -> Exit {
        for diagnostic in &self.diagnostics {
            terminal::say_styled(&render(diagnostic));
        }
        self.exit
    }
}

/// A failure that the library passes on, such as one of writing to stdout.
impl From<Failure> for failure::Failure {
    fn from(failure: Failure) -> Self {
        let category = match failure.exit {
            Exit::Usage => Category::Usage,
            Exit::TaskFailed => Category::TaskFailed,
            Exit::TooLittleData => Category::TooLittleData,
            Exit::Interrupted => Category::Interrupted,
            Exit::Done | Exit::CheckFailed | Exit::Host | Exit::Skip | Exit::Task(_) => Category::Host,
        };
        Self::new(category, Passed(failure), None)
    }
}

/// A failure as it was.
#[derive(Debug, thiserror::Error)]
#[error("failed")]
struct Passed(Failure);

impl From<failure::Failure> for Failure {
    fn from(failure: failure::Failure) -> Self {
        let exit = exit_of(failure.category);
        match failure.cause {
            Cause::Flawed(flawed) => Self { exit, diagnostics: shown(&flawed) },
            Cause::Error(error) => match error.downcast::<Passed>() {
                Ok(passed) => passed.0,
                Err(error) => Self::new(exit, &*error, failure.help),
            },
        }
    }
}

fn exit_of(category: Category) -> Exit {
    match category {
        Category::Usage => Exit::Usage,
        Category::NotFound | Category::NotExecutable | Category::TaskFailed => Exit::TaskFailed,
        Category::TooLittleData => Exit::TooLittleData,
        Category::Interrupted => Exit::Interrupted,
        _ => Exit::Host,
    }
}

/// Prints the problems of a source on stderr, errors and warnings alike.
pub(crate) fn report_problems(flawed: &Flawed) {
    for diagnostic in shown(flawed) {
        terminal::say_styled(&render(&diagnostic));
    }
}

fn shown(flawed: &Flawed) -> Vec<Rendered> {
    flawed.problems.iter().map(|problem| Rendered::problem(flawed, problem)).collect()
}

fn render(diagnostic: &Rendered) -> String {
    let theme = if terminal::has_colours() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(terminal::width_of_stderr())
        // A name such as `max-runs` stays whole.
        .with_word_splitter(textwrap::WordSplitter::NoHyphenation);
    match handler.render_report(&mut text, diagnostic) {
        Ok(()) => text,
        Err(std::fmt::Error) => diagnostic.message.clone(),
    }
}

/// Escapes the lines of a text so that they cannot affect a terminal.
fn harmless(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// The characters beside an excerpt: line number, frame, and marks of cut lines.
fn width_of_excerpts() -> usize {
    terminal::terminal_behind_stderr().map_or(excerpt::WIDTH, |columns| columns - 10)
}

/// A diagnostic for miette: one problem, or one chain of errors.
#[derive(Debug)]
struct Rendered {
    message: String,
    causes: Vec<String>,
    code: Option<&'static str>,
    severity: Severity,
    help: Option<String>,
    source: Option<Excerpt>,
    label: Option<String>,
}

impl Rendered {
    fn chain(error: &(dyn Error + '_), help: Option<String>) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        Self {
            message: harmless(&error.to_string()),
            causes: causes.map(|cause| harmless(&cause.to_string())).collect(),
            code: None,
            severity: Severity::Error,
            help: help.as_deref().map(harmless),
            source: None,
            label: None,
        }
    }

    fn problem(flawed: &Flawed, problem: &Problem) -> Self {
        let place = match flawed.line_column(problem) {
            Some((line, column)) => format!("{}:{line}:{column}", flawed.name),
            None => flawed.name.clone(),
        };
        let width = width_of_excerpts();
        let marked = problem.span.clone().and_then(|span| flawed.text.get(span)).unwrap_or_default();
        // The label has a mark before it and, on the left, the frame of the excerpt.
        let room = width.saturating_sub(excerpt::middle(marked, width) + 8).max(16);
        let label = problem.label.as_deref().map(|label| layout::wrapped(&harmless(label), "", "", room));
        let label = label.map(|label| label.trim_end().to_owned());
        let columns = label.iter().flat_map(|label| label.lines()).map(layout::columns).max().unwrap_or("here".len());
        Self {
            message: harmless(&format!("{place}: {}", problem.message)),
            causes: Vec::new(),
            code: Some(problem.code),
            severity: problem.severity,
            help: problem.help.as_deref().map(harmless),
            source: problem.span.as_ref().map(|span| Excerpt::new(flawed, span, columns, width)),
            label,
        }
    }
}

impl std::fmt::Display for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl Error for Rendered {}

impl Diagnostic for Rendered {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.code.map(|code| Box::new(code) as Box<dyn std::fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Warning => miette::Severity::Warning,
            Severity::Error => miette::Severity::Error,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn std::fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.source.as_ref()?.span.clone();
        let label = self.label.clone().unwrap_or_else(|| "here".to_owned());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(label), span))))
    }
}
