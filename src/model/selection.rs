//! Selects the files of a channel that count: compiles `target_dir`, `target_glob` and `target_regex`, and matches
//! paths. Reading a channel is for `tree`.

mod glob;
mod regex;
mod text;

use std::error::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::problem::{Flawed, Problem};
use super::spelling::quote;

pub(crate) use glob::Places;
pub(crate) use regex::{GaveUp, Needs};

use glob::Glob;
use regex::Pattern;

/// The most flaws of a field to report: each segment of a path can have one.
const MOST_FLAWS: usize = 20;

/// The files of a channel that a scale rule counts: its `target_dir`, `target_glob` and `target_regex`, compiled.
///
/// Regular files below `channel/target_dir`, at any depth, whose path matches the glob like in Python's `Path.rglob`
/// and whose path relative to `channel/target_dir` matches the regex as a whole.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The components of `target_dir`.
    pub(crate) dir: Vec<Box<[u8]>>,
    pub(crate) glob: Glob,
    pub(crate) pattern: Pattern,
    /// Whether to sum up the items, too.
    pub(crate) items: bool,
    dir_text: String,
    glob_text: String,
    regex_text: String,
}

impl Selection {
    /// Compiles the fields of a rule; `None` means the default of the contract for an absent field: the channel itself,
    /// `*` and `.*`.
    ///
    /// # Errors
    /// All problems of the three fields, with their locations.
    pub fn compile(
        target_dir: Option<&str>,
        target_glob: Option<&str>,
        target_regex: Option<&str>,
    ) -> Result<Self, SelectionError> {
        let (dir_text, glob_text, regex_text) =
            (target_dir.unwrap_or(""), target_glob.unwrap_or("*"), target_regex.unwrap_or(".*"));
        let mut flaws = Vec::new();
        let mut blame = |field: Field, text: &str, problems: Vec<Problem>| {
            let told = problems.into_iter().take(MOST_FLAWS);
            flaws.extend(told.map(|problem| Flaw { field, text: text.to_owned(), problem }));
        };
        let dir = components(dir_text).map_err(|problems| blame(Field::Dir, dir_text, problems));
        let glob = Glob::compile(glob_text).map_err(|problems| blame(Field::Glob, glob_text, problems));
        let pattern = Pattern::compile(regex_text).map_err(|problem| blame(Field::Regex, regex_text, vec![problem]));
        match (dir, glob, pattern) {
            (Ok(dir), Ok(glob), Ok(pattern)) => Ok(Self {
                dir_text: dir.join("/"),
                dir: dir.into_iter().map(|component| component.as_bytes().into()).collect(),
                glob,
                pattern,
                items: true,
                glob_text: glob_text.to_owned(),
                regex_text: regex_text.to_owned(),
            }),
            _ => Err(SelectionError { flaws }),
        }
    }

    /// The same selection without the sums of the items, for a rule that does not need them: with a `target_dir`, the
    /// same directory of every item need not be read.
    #[must_use]
    pub fn without_items(mut self) -> Self {
        self.items = false;
        self
    }

    /// The directory relative to the channel, with single slashes and without a trailing one; empty for the channel
    /// itself.
    pub fn target_dir(&self) -> &str {
        &self.dir_text
    }

    /// The glob as written, or `*`.
    pub fn target_glob(&self) -> &str {
        &self.glob_text
    }

    /// The regex as written, or `.*`.
    pub fn target_regex(&self) -> &str {
        &self.regex_text
    }

    /// Whether a file counts, given its path relative to the channel's `target_dir`.
    ///
    /// # Errors
    /// If the regex exceeds its backtracking limit.
    pub fn matches(&self, path: &Path) -> Result<bool, Box<dyn Error + Send + Sync>> {
        let path = path.as_os_str().as_bytes();
        let (directories, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let entered = directories.split(|&byte| byte == b'/').filter(|directory| !directory.is_empty());
        let places = entered.fold(self.glob.start(), |places, directory| self.glob.enter(places, directory));
        Ok(self.glob.matches(places, name) && self.pattern.matches(path)?)
    }

    /// Suspicious patterns, independent of files: a glob that matches only directories, a glob and a regex that exclude
    /// each other. A regex that matches nothing by itself is reported by [`Self::hopeless_regex`].
    pub fn warnings(&self) -> Vec<Flaw> {
        let glob = Glob::warnings(&self.glob_text).into_iter();
        let mut flaws: Vec<Flaw> =
            glob.map(|problem| Flaw { field: Field::Glob, text: self.glob_text.clone(), problem }).collect();
        let is_open = !self.glob.is_barren() && !regex::never_matches(&self.regex_text);
        if is_open && regex::exclude_each_other(&self.regex_text, &self.glob.to_regex()) {
            flaws.push(self.of_regex(excludes(&self.regex_text, &self.glob_text)));
        }
        flaws
    }

    /// Reports a regex that no path can match, if that can be decided.
    pub fn hopeless_regex(&self) -> Option<Flaw> {
        never_matches(&self.regex_text).map(|problem| self.of_regex(problem))
    }

    fn of_regex(&self, problem: Problem) -> Flaw {
        Flaw { field: Field::Regex, text: self.regex_text.clone(), problem }
    }

    /// Whether only the name of a file matters, not its directory.
    pub(crate) fn is_about_names(&self) -> bool {
        self.glob.is_one_name() && self.pattern.needs() == Needs::Name
    }
}

/// The warning about a `target_regex` that no path can match; `None` if one can, or if that cannot be decided.
pub(super) fn never_matches(regex: &str) -> Option<Problem> {
    if !regex::never_matches(regex) {
        return None;
    }
    let help = if regex.trim_start_matches(['^', '(']).starts_with('/') {
        "remove the first `/`: paths are relative to the channel or target_dir"
    } else {
        "the regex must match whole paths such as `p1/ct/a.dcm`"
    };
    let message = format!("no path can match the regex {}, so no file counts", quote(regex));
    Some(Problem::warning("regex-never-matches", message).at(0..regex.len()).label("cannot match any file").help(help))
}

fn excludes(regex: &str, glob: &str) -> Problem {
    Problem::warning("patterns-exclude-each-other", "no file can match both the regex and the glob, so no file counts")
        .at(0..regex.len())
        .label(format!("never matches what the glob {} matches", quote(glob)))
        .help("both must match: the glob at any depth below the directory, the regex the whole path relative to it")
}

/// The components of a `target_dir` that stays in the channel.
fn components(text: &str) -> Result<Vec<&str>, Vec<Problem>> {
    let mut problems = Vec::new();
    if text.starts_with('/') {
        problems.push(
            Problem::error("dir-absolute", "target_dir leads out of the channel")
                .at(0..1)
                .label("starts at the root directory")
                .help("remove the first `/`: target_dir is relative to the channel"),
        );
    }
    let mut start = 0;
    let mut components = Vec::new();
    for component in text.split('/') {
        let span = start..start + component.len();
        start = span.end + 1;
        match component {
            "" | "." => {}
            // By name: a component that is a symbolic link is not followed for it.
            ".." if components.pop().is_some() => {}
            ".." => problems.push(
                Problem::error("dir-upwards", "target_dir leads out of the channel")
                    .at(span)
                    .label("leads above the channel")
                    .help("give a directory inside the channel, or choose another host_path"),
            ),
            name if name.contains('\0') => problems.push(
                Problem::error("dir-nul", "target_dir contains a NUL character")
                    .at(span)
                    .label("not allowed in a name"),
            ),
            name => components.push(name),
        }
    }
    if problems.is_empty() { Ok(components) } else { Err(problems) }
}

/// A field of a scale rule that selects files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `target_dir`.
    Dir,
    /// `target_glob`.
    Glob,
    /// `target_regex`.
    Regex,
}

impl Field {
    /// The name of the field in a document.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dir => "target_dir",
            Self::Glob => "target_glob",
            Self::Regex => "target_regex",
        }
    }
}

/// A flaw of a field; the span of the problem points into [`Self::text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The field.
    pub field: Field,
    /// The value of the field.
    pub text: String,
    /// The problem.
    pub problem: Problem,
}

/// Why a [`Selection`] could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.summary())]
pub struct SelectionError {
    /// All flaws, field by field.
    pub flaws: Vec<Flaw>,
}

impl SelectionError {
    fn summary(&self) -> String {
        match self.flaws.as_slice() {
            [only] => format!("{}: {}", only.field.name(), only.problem.message),
            many => format!("{} problems in target_dir, target_glob and target_regex", many.len()),
        }
    }

    /// The same, one entry per field, for display with locations.
    pub fn flawed(&self) -> Vec<Flawed> {
        let mut texts: Vec<Flawed> = Vec::new();
        for flaw in &self.flaws {
            match texts.iter_mut().find(|text| text.name == flaw.field.name()) {
                Some(text) => text.problems.push(flaw.problem.clone()),
                None => texts.push(Flawed {
                    name: flaw.field.name().to_owned(),
                    text: flaw.text.clone(),
                    problems: vec![flaw.problem.clone()],
                }),
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_wrong_everywhere_is_told_of_a_few_times() {
        let (dir, glob) = ("../".repeat(100_000), "x**/".repeat(100_000));
        let error = Selection::compile(Some(&dir), Some(&glob), None).unwrap_err();
        let spans: Vec<_> = error.flaws.iter().filter_map(|flaw| flaw.problem.span.clone()).collect();
        assert_eq!((spans.len(), &spans[0], &spans[MOST_FLAWS]), (2 * MOST_FLAWS, &(0..2), &(1..3)));
    }
}
