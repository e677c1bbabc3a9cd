//! Regexes with the semantics of Python's `re.fullmatch`, on paths as the kernel returns them.

mod disjoint;
mod translate;

use crate::model::problem::Problem;

use super::text;
use translate::{Purpose, Translation, translate};

/// The backtracking limit of a regex with look-around on one path.
const MOST_STEPS: usize = 1_000_000;

/// A compiled regex that has to match a whole path.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// `.*` and equivalents: every path without a newline.
    OneLine,
    /// `.*` followed by these characters, none of which is a slash: only the name matters.
    OneLineEnding(Vec<u8>),
    /// Everything else needs the decoded path.
    Engine(Engine),
    /// The same, if word boundaries make a difference beyond ASCII.
    Words { ascii: Engine, any: Engine },
}

#[derive(Clone, Debug)]
enum Engine {
    Linear(regex::Regex),
    /// What the beginning of a path has to match, or must not; then what the whole path has to match.
    Ahead(Vec<(bool, regex::Regex)>, regex::Regex),
    Backtracking(fancy_regex::Regex),
}

/// The input that a pattern needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// The name of the file, and that no directory above it has a newline in its name.
    Name,
    /// The whole path.
    Path,
}

/// The engine reached its backtracking limit on a path.
pub(crate) type GaveUp = Box<dyn std::error::Error + Send + Sync>;

impl Pattern {
    /// Parses a Python regex. The error has a location.
    pub(super) fn compile(text: &str) -> Result<Self, Problem> {
        if let Some(ending) = one_line_ending(text) {
            return Ok(Self(if ending.is_empty() { Kind::OneLine } else { Kind::OneLineEnding(ending.into_bytes()) }));
        }
        let translation = translate(text, Purpose::Ascii)?;
        if !translation.has_boundaries {
            return Ok(Self(Kind::Engine(Engine::compile(text, &translation)?)));
        }
        let any = translate(text, Purpose::AnyText)?;
        Ok(Self(Kind::Words { ascii: Engine::compile(text, &translation)?, any: Engine::compile(text, &any)? }))
    }

    /// The input that it needs.
    pub(crate) fn needs(&self) -> Needs {
        match self.0 {
            Kind::OneLine | Kind::OneLineEnding(_) => Needs::Name,
            Kind::Engine(_) | Kind::Words { .. } => Needs::Path,
        }
    }

    /// Whether it matches a path, or only the name if that is all it [`needs`](Self::needs).
    pub(crate) fn matches(&self, path: &[u8]) -> Result<bool, GaveUp> {
        match &self.0 {
            Kind::OneLine => Ok(!path.contains(&b'\n')),
            Kind::OneLineEnding(ending) => {
                Ok(path.ends_with(ending) && !path[..path.len() - ending.len()].contains(&b'\n'))
            }
            Kind::Engine(engine) => engine.matches(&text::decode(path)),
            Kind::Words { ascii, .. } if path.is_ascii() => ascii.matches(&text::decode(path)),
            Kind::Words { any, .. } => any.matches(&text::decode(path)),
        }
    }
}

/// Whether a regex matches no path at all; `false` if undecided.
pub(super) fn never_matches(text: &str) -> bool {
    is_impossible(text, None)
}

/// Whether no file can match a regex and a glob, given as a regex; `false` if undecided.
pub(super) fn exclude_each_other(text: &str, glob: &str) -> bool {
    is_impossible(text, Some(glob))
}

fn is_impossible(text: &str, glob: Option<&str>) -> bool {
    /// A relative path: names other than `.` and `..`, separated by single slashes.
    const PATH: &str = r"(?x) NAME (?: / NAME )*";
    const NAME: &str = r"(?: [^/.\x00] [^/\x00]* | \. [^/.\x00] [^/\x00]* | \.\. [^/\x00]+ )";
    if one_line_ending(text).is_some_and(|ending| ending.is_empty()) {
        return false;
    }
    let Ok(superset) = translate(text, Purpose::Superset) else { return false };
    // Without boundaries it matches more. With them, it is decided as far as a path is ASCII.
    let ascii = if superset.has_boundaries { translate(text, Purpose::Ascii).ok() } else { None };
    let ascii = ascii.filter(|translation| !translation.needs_backtracking).map(|translation| translation.pattern);
    let path = PATH.replace("NAME", NAME);
    let patterns = [Some(superset.pattern.as_str()), ascii.as_deref(), Some(&path), glob].into_iter().flatten();
    disjoint::are_disjoint(&patterns.collect::<Vec<_>>()) == Some(true)
}

impl Engine {
    fn compile(text: &str, translation: &Translation) -> Result<Self, Problem> {
        let whole = format!(r"\A(?:{})\z", translation.pattern);
        if translation.needs_backtracking {
            let built = fancy_regex::RegexBuilder::new(&whole).backtrack_limit(MOST_STEPS).build();
            return built.map(Self::Backtracking).map_err(|error| refused(text, &error));
        }
        let linear = |pattern: &str| regex::RegexBuilder::new(pattern).nest_limit(1000).build();
        let ahead =
            translation.ahead.iter().map(|look| Ok((look.is_wanted, linear(&format!(r"\A(?:{})", look.pattern))?)));
        let built = linear(&whole).and_then(|whole| Ok((ahead.collect::<Result<Vec<_>, _>>()?, whole)));
        match built {
            Ok((ahead, whole)) if ahead.is_empty() => Ok(Self::Linear(whole)),
            Ok((ahead, whole)) => Ok(Self::Ahead(ahead, whole)),
            Err(error) => Err(refused(text, &error)),
        }
    }

    fn matches(&self, path: &str) -> Result<bool, GaveUp> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(path)),
            Self::Ahead(looks, whole) => {
                Ok(looks.iter().all(|(is_wanted, look)| look.is_match(path) == *is_wanted) && whole.is_match(path))
            }
            Self::Backtracking(regex) => Ok(regex.is_match(path)?),
        }
    }
}

/// An engine rejects what Python accepts: the only known cause is its size.
fn refused(text: &str, error: &dyn std::error::Error) -> Problem {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Problem::error("regex-unsupported", format!("the regex cannot be compiled: {cause}")).at(0..text.len())
}

/// The literal characters after `.*`, if there is nothing else: a path is not needed then.
fn one_line_ending(text: &str) -> Option<String> {
    if text == ".+" {
        return Some(String::new());
    }
    let mut ending = String::new();
    let mut rest = text.strip_prefix(".*")?.chars();
    while let Some(next) = rest.next() {
        ending.push(match next {
            '\\' => rest.next().filter(|escaped| escaped.is_ascii_punctuation() && *escaped != '/')?,
            '$' if rest.as_str().is_empty() => break,
            next if next.is_alphanumeric() || matches!(next, '-' | '_' | ' ' | ',' | '=' | '%' | '@') => next,
            _ => return None,
        });
    }
    Some(ending)
}

#[cfg(test)]
mod tests {
    use super::never_matches;

    #[test]
    fn ordinary_patterns_match_some_path() {
        let ordinary = [
            ".*",
            ".*\\.dcm",
            "^ct/.*$",
            "a|b",
            "\\..*",
            "(?i).*DCM",
            "\\w+/\\d{4}",
            ".",
            "[^/]+",
            "x*",
            "a$|b",
            "a$\\n",
            "\\.\\.\\.",
            ".*a\\bb",
            "(?=a).b",
            "(a)\\1",
            "[a[b]]",
        ];
        for regex in ordinary {
            assert!(!never_matches(regex), "{regex}");
        }
    }

    #[test]
    fn contradictions_match_no_path() {
        let never = [
            "",
            ".+^a",
            "a$b",
            "a\\bb",
            "[^\\s\\S]",
            "a[^\\s\\S]|$b",
            "/.*",
            "^/data/.*",
            ".*/",
            "\\./.*",
            "a//b",
            "\\.\\./.*",
            "a\\x00b",
            "(?:a$){2}",
            "\\.",
            "/",
            "x{0}",
            "\\Ba",
            ".*\\.dcm$.",
        ];
        for regex in never {
            assert!(never_matches(regex), "{regex}");
        }
    }
}
