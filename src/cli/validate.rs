//! `highwater validate`: reports every problem of the given documents.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use highwater::calibrate::resolve::{
    LookupError, Origin, ProcessingContainers, ReadError, ResolveError, operator, registry, resolve, source,
};
use highwater::model::document::{Document, Schema, Source, Variables};
use highwater::model::lint::Platform;
use highwater::model::operator::{OperatorMemory, OperatorPath};
use highwater::model::problem::{Flawed, Problem, Severity};
use highwater::model::registry::Registry;
use highwater::model::task::{ProcessingContainer, TaskSpec, TemplateRef};
use serde::Serialize;

use super::exit::Exit;
use super::failure::{self, Failure};
use super::output::OutputArg;
use super::problems::{Located, count};
use super::run::Format;
use super::table::printable;
use super::task::{Deny, TargetArg, TemplateArgs};

const EXAMPLES: &str = "\
Examples:
  highwater validate task.json processing-container.json
  highwater validate --schema task my-task.json
  highwater validate --set registry=localhost:5000 task.json
  highwater validate --deny warnings --format json *.json > problems.json

Exit status: 0 all files can be used, 2 one cannot.";

/// Check task.json and processing-container.json files and report everything that is wrong with them.
///
/// Also checks operators of Kaapana in Python files and PLATO's registry of task types in XML: that their memory can be
/// read, and changed by `fit --write`.
///
/// Each problem comes with file, line and column, what was found, what was expected, and what to do about it. Both
/// dialects are accepted, and files that mix them: `complexity` and `scale_factor`, `input` and `volume_source`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct ValidateArgs {
    /// Files to check; `-` for stdin. With one processing-container.json among them, tasks are checked against the
    /// templates that they name.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Schema of the files; `auto` recognizes it by their fields, then by their names.
    #[arg(long, value_enum, default_value_t = SchemaArg::Auto)]
    schema: SchemaArg,
    /// Platform that will run the tasks; some warnings concern only one.
    #[arg(long, value_enum, default_value_t = TargetArg::Both)]
    target: TargetArg,
    /// Fail on warnings, too.
    #[arg(long, value_enum, value_name = "WHAT")]
    deny: Option<Deny>,
    #[command(flatten)]
    template: TemplateArgs,
    /// Output format: lines and explained problems, or JSON on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    output: OutputArg,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SchemaArg {
    Auto,
    Task,
    #[value(alias = "pc")]
    ProcessingContainer,
}

/// The result for one file.
struct Checked {
    name: String,
    schema: Option<Schema>,
    content: Content,
    result: Result<Option<Flawed>, ReadError>,
}

/// The content of a valid file.
enum Content {
    Task(Box<Document<TaskSpec>>),
    Container(Box<Document<ProcessingContainer>>),
    Operator(OperatorMemory),
    Registry(Registry),
    Invalid,
}

/// The only processing container of the files, for all of their tasks.
struct Only<'a>(&'a Document<ProcessingContainer>);

impl ProcessingContainers for Only<'_> {
    fn of_image(&self, _: &str) -> Result<Document<ProcessingContainer>, LookupError> {
        Ok(self.0.clone())
    }
}

pub(crate) fn run(args: &ValidateArgs) -> Result<Exit, Failure> {
    args.output.check()?;
    let variables = args.template.variables()?;
    let mut checked: Vec<Checked> =
        args.files.iter().map(|path| check(path, args.schema, args.target.platform(), &variables)).collect();
    join(&mut checked)?;
    match args.format {
        Format::Table => report(&checked, &args.output)?,
        Format::Json => {
            let files: Vec<CheckedFile<'_>> = checked.iter().map(|checked| checked.to_json(args.deny)).collect();
            args.output.json(&files)?;
        }
    }
    Ok(if checked.iter().all(|checked| checked.is_valid(args.deny)) { Exit::Done } else { Exit::Usage })
}

/// Checks tasks against the templates they name, if all of these are in one processing container of the files.
fn join(checked: &mut [Checked]) -> Result<(), Failure> {
    let containers = checked.iter().filter_map(|file| match &file.content {
        Content::Container(document) => Some(document.clone()),
        Content::Task(_) | Content::Operator(_) | Content::Registry(_) | Content::Invalid => None,
    });
    let Ok([mut container]) = <[_; 1]>::try_from(containers.collect::<Vec<_>>()) else { return Ok(()) };
    let base = std::env::current_dir().map_err(Failure::host)?;
    for file in checked.iter_mut() {
        let Content::Task(task) = &mut file.content else { continue };
        if let TemplateRef::Inline(_) = task.content.template {
            continue;
        }
        file.result = match resolve(task, &Only(&container), &base) {
            Ok(resolution) => {
                for note in resolution.notes.iter().filter(|note| !note.seen.is_about_data()) {
                    let warnings = match note.origin {
                        Origin::Task => &mut task.warnings,
                        Origin::ProcessingContainer => &mut container.warnings,
                    };
                    let problem = note.problem();
                    if !warnings.contains(&problem) {
                        warnings.push(problem);
                    }
                }
                Ok(task.flawed())
            }
            Err(ResolveError::UnknownTemplate(flawed)) => Err(ReadError::Flawed(flawed)),
            Err(error) => return Err(Failure::from_library(error)),
        };
    }
    for file in checked.iter_mut().filter(|file| matches!(file.content, Content::Container(_))) {
        file.result = Ok(container.flawed());
    }
    Ok(())
}

fn check(path: &Path, schema: SchemaArg, platform: Platform, variables: &Variables) -> Checked {
    let name = path.display().to_string();
    if Registry::is_at(path) && schema == SchemaArg::Auto {
        return check_registry(name, path);
    }
    if let Some(path) = OperatorPath::from_path(path).filter(|_| schema == SchemaArg::Auto) {
        return check_operator(name, &path);
    }
    let source = match source(path, variables) {
        Ok(source) => source,
        Err(error) => return Checked { name, schema: None, content: Content::Invalid, result: Err(error) },
    };
    let schema = match schema {
        SchemaArg::Task => Some(Schema::Task),
        SchemaArg::ProcessingContainer => Some(Schema::ProcessingContainer),
        SchemaArg::Auto => Schema::detect(&source).or_else(|| by_name(path)),
    };
    let read = match schema {
        Some(Schema::Task) => Document::task(source).map(|mut document| {
            document.warnings.extend(document.lint(platform));
            (document.flawed(), Content::Task(Box::new(document)))
        }),
        Some(Schema::ProcessingContainer) => Document::processing_container(source).map(|mut document| {
            document.warnings.extend(document.lint(platform));
            (document.flawed(), Content::Container(Box::new(document)))
        }),
        None => Err(unknown(&source)),
    };
    match read {
        Ok((flawed, content)) => Checked { name, schema, content, result: Ok(flawed) },
        Err(flawed) => Checked { name, schema, content: Content::Invalid, result: Err(ReadError::Flawed(flawed)) },
    }
}

fn check_operator(name: String, path: &OperatorPath) -> Checked {
    let read = operator(path).map(|operator| (operator.memory(), operator.lint()));
    let (content, result) = match read {
        Ok((Ok(memory), flawed)) => (Content::Operator(memory), Ok(flawed)),
        // The platform can use it, but its memory is not known.
        Ok((Err(_), Some(flawed))) => (Content::Invalid, Ok(Some(flawed))),
        Ok((Err(flawed), None)) => (Content::Invalid, Err(flawed.into())),
        Err(error) => (Content::Invalid, Err(error)),
    };
    Checked { name, schema: None, content, result }
}

fn check_registry(name: String, path: &Path) -> Checked {
    let (content, result) = match registry(path) {
        Ok(registry) => {
            let flawed = registry.lint();
            (Content::Registry(registry), Ok(flawed))
        }
        Err(error) => (Content::Invalid, Err(error)),
    };
    Checked { name, schema: None, content, result }
}

fn by_name(path: &Path) -> Option<Schema> {
    let name = path.file_name()?.to_str()?;
    if name.contains("processing-container") || name.contains("processing_container") {
        Some(Schema::ProcessingContainer)
    } else if name.contains("task") {
        Some(Schema::Task)
    } else {
        None
    }
}

/// The problems of a file that is neither document, or not JSON at all.
fn unknown(source: &Source) -> Flawed {
    match Document::task(source.clone()) {
        Err(flawed) if flawed.problems.iter().any(|problem| matches!(problem.code, "not-json" | "empty")) => flawed,
        Ok(_) | Err(_) => {
            let problem = Problem::error("unknown-schema", "found neither a task nor a processing container");
            let label = "expected \"taskTemplate\" for a task, \"templates\" for a processing container";
            let help = "select the schema with --schema task or --schema processing-container";
            source.flawed([problem.at(0..source.json().trim_end().len().min(1)).label(label).help(help)])
        }
    }
}

impl Checked {
    fn problems(&self) -> &[Problem] {
        match &self.result {
            Ok(Some(flawed)) | Err(ReadError::Flawed(flawed)) => &flawed.problems,
            Ok(None) | Err(_) => &[],
        }
    }

    fn is_valid(&self, deny: Option<Deny>) -> bool {
        let denied = match deny {
            Some(Deny::Warnings) => Severity::Warning,
            None => Severity::Error,
        };
        self.result.is_ok() && self.problems().iter().all(|problem| problem.severity < denied)
    }

    fn to_json(&self, deny: Option<Deny>) -> CheckedFile<'_> {
        let problems = match &self.result {
            Ok(None) => Vec::new(),
            Ok(Some(flawed)) | Err(ReadError::Flawed(flawed)) => Located::all(flawed),
            Err(error) => {
                let problem = Problem::error("unreadable", error.to_string());
                vec![Located::of_file(&self.name, Problem { help: error.help(), ..problem })]
            }
        };
        CheckedFile { file: &self.name, schema: self.schema, valid: self.is_valid(deny), problems }
    }
}

/// A file in the JSON output.
#[derive(Serialize)]
struct CheckedFile<'a> {
    file: &'a str,
    /// `null` if unknown.
    schema: Option<Schema>,
    valid: bool,
    problems: Vec<Located>,
}

fn report(checked: &[Checked], output: &OutputArg) -> Result<(), Failure> {
    let mut lines = String::new();
    for file in checked {
        match &file.result {
            Ok(None) => {}
            Ok(Some(flawed)) => failure::report_problems(flawed),
            Err(ReadError::Flawed(flawed)) => failure::report_problems(flawed),
            Err(error) => drop(Failure::new(Exit::Usage, error, error.help()).report()),
        }
        let verdict = match (&file.result, count(file.problems().iter())) {
            (Err(_), None) => "cannot be read".to_owned(),
            (Ok(_) | Err(_), Some(count)) => count,
            (Ok(_), None) => "ok".to_owned(),
        };
        let schema = match (&file.content, file.schema) {
            (Content::Operator(OperatorMemory { request, limit }), _) => {
                format!(" (operator: request {request}, limit {limit})")
            }
            (Content::Registry(registry), _) => {
                let memory =
                    registry.containers().iter().map(|container| format!("{} {}", container.name, container.memory));
                format!(" (registry: {})", printable(&memory.collect::<Vec<_>>().join(", ")))
            }
            (_, Some(schema)) => format!(" ({})", schema.name()),
            (_, None) => String::new(),
        };
        lines.push_str(&format!("{}: {verdict}{schema}\n", printable(&file.name)));
    }
    output.text(&lines)
}
