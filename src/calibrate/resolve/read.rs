//! Reads documents from files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::model::byte_order_mark;
use crate::model::document::{Document, Schema, Source, Variables};
use crate::model::operator::{Operator, OperatorPath};
use crate::model::problem::{Flawed, Problem};
use crate::model::registry::Registry;
use crate::model::rule_file::RuleFile;
use crate::model::spelling::{nearest, quote};
use crate::model::task::{ProcessingContainer, TaskSpec};
use crate::model::units::Bytes;

use super::render::render;

/// The most names of a directory to search for the one that was meant.
const MOST_NAMES: usize = 1000;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file does not exist.
    #[error("file not found: {}", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// A file beside it with a similar name.
        meant: Option<PathBuf>,
    },
    /// It is a directory.
    #[error("{} is a directory, expected a file", path.display())]
    Folder {
        /// The path.
        path: PathBuf,
        /// A document in it.
        meant: Option<PathBuf>,
    },
    /// It is larger than any document.
    #[error("{} is larger than {} MiB, the limit for a document", path.display(), Source::MOST_BYTES >> 20)]
    TooLarge {
        /// The path.
        path: PathBuf,
    },
    /// The kernel could not read it.
    #[error("failed to read {}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The system error.
        #[source]
        source: io::Error,
    },
    /// Its content is invalid.
    #[error(transparent)]
    Flawed(#[from] Flawed),
}

impl ReadError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Missing { meant: Some(meant), .. } => Some(format!("did you mean {}?", meant.display())),
            Self::Folder { meant: Some(meant), .. } => Some(format!("did you mean {}?", meant.display())),
            Self::Missing { path, .. } if path.is_relative() => {
                std::env::current_dir().ok().map(|dir| format!("relative to the current directory, {}", dir.display()))
            }
            Self::Missing { .. } | Self::Folder { .. } | Self::TooLarge { .. } | Self::Unreadable { .. } => None,
            Self::Flawed(_) => None,
        }
    }
}

/// Reads a task.json; `-` is stdin.
///
/// # Errors
/// If it cannot be read or is invalid.
pub fn task(path: &Path, variables: &Variables) -> Result<Document<TaskSpec>, ReadError> {
    Ok(Document::task(expected(Schema::Task, source(path, variables)?)?)?)
}

/// Reads a processing-container.json; `-` is stdin.
///
/// # Errors
/// If it cannot be read or is invalid.
pub fn processing_container(path: &Path, variables: &Variables) -> Result<Document<ProcessingContainer>, ReadError> {
    let source = expected(Schema::ProcessingContainer, source(path, variables)?)?;
    Ok(Document::processing_container(source)?)
}

/// Returns the source, unless its fields show that it is the other kind of document, which is a common mistake.
fn expected(schema: Schema, source: Source) -> Result<Source, Flawed> {
    let Some(found) = Schema::detect(&source).filter(|found| *found != schema) else { return Ok(source) };
    let (label, help) = match schema {
        Schema::Task => {
            ("expected \"taskTemplate\"", "give a task.json here, and this file with --processing-container")
        }
        Schema::ProcessingContainer => {
            ("expected \"templates\"", "give the processing-container.json of the task's image here")
        }
    };
    let message = format!("this is a {}, not a {}", found.name(), schema.name());
    Err(source.flawed([Problem::error("other-document", message).at(0..1).label(label).help(help)]))
}

/// Reads a file, and renders it if it is a template; `-` is stdin.
///
/// # Errors
/// If it cannot be read, is not valid UTF-8, or its Jinja is invalid.
pub fn source(path: &Path, variables: &Variables) -> Result<Source, ReadError> {
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    let text = text(&name, &bytes(path)?)?;
    if !Source::is_template(&text) {
        return Ok(Source::plain(name, text));
    }
    let mut variables = variables.clone();
    if name != "stdin" {
        dotenv(&path.with_file_name(".env"), &mut variables)?;
    }
    Ok(render(name, text, &variables)?)
}

/// Reads an operator from its Python file.
///
/// # Errors
/// If the file cannot be read, is not Python, or has no such operator or several.
pub fn operator(operator: &OperatorPath) -> Result<Operator, ReadError> {
    let name = operator.path.display().to_string();
    let text = text(&name, &bytes(&operator.path)?)?;
    Ok(Operator::parse(name, text, operator.name.as_deref())?)
}

/// The limit that a file gives, for a registry to this task unless the file is named with another one.
///
/// # Errors
/// If the file cannot be read, or does not have the limit.
pub fn limit(file: &RuleFile, task: &str) -> Result<Bytes, ReadError> {
    match file {
        RuleFile::Operator(path) => Ok(operator(path)?.memory()?.limit),
        RuleFile::Registry { path, name } => Ok(registry(path)?.memory(name.as_deref().unwrap_or(task))?),
    }
}

/// Reads PLATO's registry of task types.
///
/// # Errors
/// If the file cannot be read, or is not a registry that the platform could use.
pub fn registry(path: &Path) -> Result<Registry, ReadError> {
    let name = path.display().to_string();
    let text = text(&name, &bytes(path)?)?;
    Ok(Registry::read(&name, &text)?)
}

/// Adds what a `.env` file sets, if there is one, to `env`.
fn dotenv(path: &Path, variables: &mut Variables) -> Result<(), ReadError> {
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing { .. } | ReadError::Folder { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let text = text(&path.display().to_string(), &bytes)?;
    for (number, line) in dotenvy::from_read_iter(text.as_bytes()).enumerate() {
        // Without the text, which may be a secret.
        let (name, value) = line.map_err(|error| {
            let message = match line_of(&text, &error) {
                Some(line) => format!("line {line} is not NAME=VALUE"),
                None => format!("variable {} of the file is invalid", number + 1),
            };
            let problem = Problem::error("env-file", message).help("write NAME=VALUE, and quote values with spaces");
            Flawed::new(path.display().to_string(), String::new(), vec![problem])
        })?;
        variables.add_env(name, value);
    }
    Ok(())
}

/// The line, from 1, at which the variable that cannot be read begins.
fn line_of(text: &str, error: &dotenvy::Error) -> Option<usize> {
    let dotenvy::Error::LineParse(read, _) = error else { return None };
    let first = read.lines().next()?.trim();
    Some(text.lines().position(|line| line.trim() == first)? + 1)
}

fn bytes(path: &Path) -> Result<Vec<u8>, ReadError> {
    let unreadable = |source| ReadError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(Source::MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ReadError::Missing { path: path.to_owned(), meant: sibling(path) });
            }
            Err(error) => return Err(unreadable(error)),
        };
        if file.metadata().map_err(unreadable)?.is_dir() {
            let inside = ["task.json", "processing-container.json"].map(|name| path.join(name));
            let meant = inside.into_iter().find(|path| path.is_file());
            return Err(ReadError::Folder { path: path.to_owned(), meant });
        }
        file.take(Source::MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > Source::MOST_BYTES {
        return Err(ReadError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// The file in the same directory that was probably meant.
fn sibling(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = directory.read_dir().ok()?.take(MOST_NAMES).filter_map(Result::ok);
    // Neither directories nor dangling links, which may be what was requested.
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let meant = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(path.with_file_name(meant))
}

fn text(name: &str, bytes: &[u8]) -> Result<String, Flawed> {
    String::from_utf8(byte_order_mark::strip_bytes(bytes).to_vec()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        let utf16 = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let shown = text[at..].chars().next().map_or(0, char::len_utf8);
        let message = format!("the byte {} is not UTF-8", quote(&format!("0x{byte:02X}")));
        let problem = Problem::error("not-utf8", message).at(at..at + shown).label("expected UTF-8");
        let help = if utf16 { "this looks like UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
        Flawed { name: name.to_owned(), text, problems: vec![problem.help(help)] }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_no_text() {
        assert_eq!(text("x", b"\xef\xbb\xbf{}").unwrap(), "{}");
    }

    #[test]
    fn what_is_not_utf8_has_a_place() {
        let flawed = text("x", b"{\n\"a\xe4\"}").unwrap_err();
        assert_eq!(flawed.line_column(&flawed.problems[0]), Some((2, 3)));
        assert_eq!(flawed.problems[0].message, "the byte `0xE4` is not UTF-8");
        let utf16 = text("x", b"\xff\xfe{\0}\0").unwrap_err();
        assert_eq!(utf16.problems[0].help.as_deref(), Some("this looks like UTF-16: save it as UTF-8"));
    }

    #[test]
    fn a_missing_file_may_have_a_sibling() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("task.json"), "{}").unwrap();
        let error = bytes(&directory.path().join("tasks.json")).unwrap_err();
        assert!(error.help().unwrap().ends_with("/task.json?"), "{error:?}");
        let error = bytes(directory.path()).unwrap_err();
        assert!(matches!(error, ReadError::Folder { meant: Some(_), .. }), "{error:?}");
    }
}
