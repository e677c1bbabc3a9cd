//! Globs with the semantics of Python's `Path.rglob` (3.12, POSIX), on names as the kernel returns them.
//!
//! The `glob` crate differs in important details: it rejects names that are not UTF-8, `[` without `]` and `[a`; and a
//! pattern of several segments would need a path per file. Here a directory carries which segments come next, so that a
//! file costs one comparison of its name.

mod name;

use std::ops::Range;

use crate::model::problem::Problem;

use name::NamePattern;

/// The most segments of a glob: as many as a [`Places`] has bits, without the first `**`.
const MOST_SEGMENTS: usize = 63;

/// A compiled glob.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    /// Begins with `**`, which `rglob` prepends.
    segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
enum Segment {
    /// `**`: any number of directories, including none.
    Directories,
    /// A single name.
    Name(NamePattern),
}

/// The segments that could match next, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Places(u64);

impl Glob {
    /// Parses a pattern. Every error has a location.
    pub(super) fn compile(text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        if text.starts_with('/') {
            problems.push(
                Problem::error("glob-absolute", "the glob is an absolute path")
                    .at(0..1)
                    .label("starts at the root directory")
                    .help("remove the first `/`: globs are relative to the channel and match at every depth"),
            );
        }
        let mut segments = vec![Segment::Directories];
        for (span, segment) in segments_of(text) {
            match segment {
                "**" if matches!(segments.last(), Some(Segment::Directories)) => {}
                "**" => segments.push(Segment::Directories),
                ".." => problems.push(leads_upwards(span)),
                _ => match segment.find("**") {
                    Some(at) => problems.push(half_recursive(span.start + at..span.start + at + 2)),
                    None => segments.push(Segment::Name(NamePattern::compile(segment))),
                },
            }
        }
        if matches_directories_only(text) {
            segments.push(Segment::Directories);
        }
        if segments.len() > MOST_SEGMENTS + 1 {
            problems.push(
                Problem::error("glob-too-long", format!("the glob has {} segments", segments.len() - 1))
                    .at(0..text.len())
                    .label(format!("at most {MOST_SEGMENTS}")),
            );
        }
        if problems.is_empty() { Ok(Self { segments }) } else { Err(problems) }
    }

    /// Suspicious parts of a pattern that can be compiled.
    pub(super) fn warnings(text: &str) -> Vec<Problem> {
        let mut warnings = Vec::new();
        if matches_directories_only(text) {
            warnings.push(
                Problem::warning("glob-without-files", "the glob matches only directories, so no file counts")
                    .at(0..text.len())
                    .label("cannot match any file")
                    .help(
                        "write `*` for every file at every depth, or `ct/*` for the files directly in a directory `ct`",
                    ),
            );
        }
        if let Some((open, close)) = text.find('{').and_then(|open| Some((open, open + text[open..].find('}')?))) {
            warnings.push(
                Problem::warning("glob-braces", "braces are literal characters in a glob")
                    .at(open..close + 1)
                    .label("matches only names with braces")
                    .help(r"use target_regex for alternatives, such as `.*\.(dcm|nii)`"),
            );
        }
        warnings
    }

    /// The equivalent regex for the whole path of a file, to compare the glob with a `target_regex`. Files are matched
    /// by [`Self::enter`] and [`Self::matches`]: they compare one name, where a regex reads the whole path.
    pub(super) fn to_regex(&self) -> String {
        let last = self.segments.len() - 1;
        let segment = |(index, segment): (usize, &Segment)| match segment {
            Segment::Directories => "(?:[^/]+/)*".to_owned(),
            Segment::Name(name) if index == last => name.to_regex(),
            Segment::Name(name) => name.to_regex() + "/",
        };
        self.segments.iter().enumerate().map(segment).collect()
    }

    /// Whether no file can match, whatever its path.
    pub(crate) fn is_barren(&self) -> bool {
        matches!(self.segments.last(), None | Some(Segment::Directories))
    }

    /// Whether the directory of a file is irrelevant.
    pub(crate) fn is_one_name(&self) -> bool {
        matches!(self.segments.as_slice(), [Segment::Directories, Segment::Name(_)])
    }

    /// Whether every file matches.
    #[cfg(test)]
    pub(super) fn is_everything(&self) -> bool {
        matches!(self.segments.as_slice(), [Segment::Directories, Segment::Name(name)] if name.is_any())
    }

    /// The places in the directory that the glob is relative to.
    pub(crate) fn start(&self) -> Places {
        self.with_skipped(1)
    }

    /// The places in a subdirectory of a directory with these places.
    pub(crate) fn enter(&self, places: Places, directory: &[u8]) -> Places {
        let mut entered = 0;
        for (bit, segment) in self.at(places) {
            match segment {
                Segment::Directories => entered |= bit,
                Segment::Name(name) if name.matches(directory) => entered |= bit << 1,
                Segment::Name(_) => {}
            }
        }
        self.with_skipped(entered)
    }

    /// The places in a directory that is reached through a symbolic link: only a name enters it, `**` does not. `None`
    /// if nothing does.
    pub(crate) fn enter_link(&self, places: Places, link: &[u8]) -> Option<Places> {
        // The last name is that of a file.
        let file = 1 << (self.segments.len() - 1);
        let mut entered = 0;
        for (bit, segment) in self.at(places).filter(|(bit, _)| *bit != file) {
            if matches!(segment, Segment::Name(name) if name.matches(link)) {
                entered |= bit << 1;
            }
        }
        (entered != 0).then(|| self.with_skipped(entered))
    }

    /// Whether a file in a directory with these places matches.
    pub(crate) fn matches(&self, places: Places, file: &[u8]) -> bool {
        let last = self.segments.len() - 1;
        match &self.segments[last] {
            Segment::Name(name) => places.0 >> last & 1 == 1 && name.matches(file),
            Segment::Directories => false,
        }
    }

    fn at(&self, places: Places) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments
            .iter()
            .enumerate()
            .map(|(index, segment)| (1 << index, segment))
            .filter(move |(bit, _)| places.0 & bit != 0)
    }

    /// Adds what comes after every `**`, because it may match no directory at all.
    fn with_skipped(&self, places: u64) -> Places {
        let mut all = places;
        for (index, segment) in self.segments.iter().enumerate() {
            if matches!(segment, Segment::Directories) && all >> index & 1 == 1 && index + 1 < self.segments.len() {
                all |= 1 << (index + 1);
            }
        }
        Places(all)
    }
}

/// The segments of a pattern with their locations; empty ones and `.` are skipped.
fn segments_of(text: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut start = 0;
    text.split('/').filter_map(move |segment| {
        let span = start..start + segment.len();
        start = span.end + 1;
        (!matches!(segment, "" | ".")).then_some((span, segment))
    })
}

/// `**` or `/` at the end matches directories, as does a pattern without segments.
fn matches_directories_only(text: &str) -> bool {
    text.ends_with('/') || segments_of(text).last().is_none_or(|(_, segment)| segment == "**")
}

fn leads_upwards(span: Range<usize>) -> Problem {
    Problem::error("glob-upwards", "the glob leads out of its directory")
        .at(span)
        .label("`..` is not allowed here")
        .help("choose another target_dir instead")
}

fn half_recursive(span: Range<usize>) -> Problem {
    Problem::error("glob-recursive", "`**` is next to other characters")
        .at(span)
        .label("must be its own segment")
        .help("globs match at every depth: `*.dcm` finds every `.dcm`, `ct/**/*.dcm` those below a directory `ct`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        let glob = Glob::compile(glob).unwrap();
        let (directories, file) = path.rsplit_once('/').unwrap_or(("", path));
        let places = directories
            .split('/')
            .filter(|name| !name.is_empty())
            .fold(glob.start(), |places, name| glob.enter(places, name.as_bytes()));
        glob.matches(places, file.as_bytes())
    }

    #[test]
    fn a_name_matches_at_every_depth() {
        for path in ["a.dcm", "ct/a.dcm", "p1/ct/a.dcm", "p1/ct/.dcm"] {
            assert!(matches("*.dcm", path), "{path}");
        }
        assert!(!matches("*.dcm", "a.DCM"));
        assert!(!matches("*.dcm", "a.dcm/b"));
    }

    #[test]
    fn a_segment_before_it_names_the_parent() {
        assert!(matches("ct/*.dcm", "ct/a.dcm"));
        assert!(matches("ct/*.dcm", "p1/ct/a.dcm"));
        assert!(!matches("ct/*.dcm", "p1/ct/1/a.dcm"));
        assert!(!matches("ct/*.dcm", "a.dcm"));
        assert!(matches("./ct//*.dcm", "ct/a.dcm"));
    }

    #[test]
    fn a_name_enters_a_link_but_two_stars_do_not() {
        let enters = |glob: &str, link: &str| {
            let glob = Glob::compile(glob).unwrap();
            glob.enter_link(glob.start(), link.as_bytes()).is_some_and(|places| glob.matches(places, b"a.dcm"))
        };
        assert!(enters("ct/*.dcm", "ct"));
        assert!(enters("c*/**/*.dcm", "ct"));
        assert!(!enters("ct/*.dcm", "mr"));
        assert!(!enters("*.dcm", "a.dcm"));
        assert!(!enters("**/*.dcm", "ct"));
        let longest = Glob::compile(&"a/".repeat(63)).unwrap_or_else(|_| Glob::compile(&"a/".repeat(62)).unwrap());
        assert!(longest.enter_link(Places(u64::MAX), b"a").is_some());
    }

    #[test]
    fn two_stars_are_any_number_of_folders() {
        for path in ["ct/a", "ct/1/a", "p/ct/1/2/a"] {
            assert!(matches("ct/**/*", path), "{path}");
        }
        assert!(!matches("ct/**/*", "mr/1/a"));
        assert!(matches("a/**/b/**/c", "a/b/x/b/y/c"));
        assert!(matches("**/**/c", "c"));
        assert!(!matches("**", "c"));
        assert!(!matches("ct/**", "ct/c"));
    }

    #[test]
    fn what_asks_for_folders_finds_no_file_and_is_warned_about() {
        for glob in ["", ".", "**", "*/", "ct/**", "*.dcm/", "./"] {
            assert!(Glob::compile(glob).unwrap().is_barren(), "{glob:?}");
            assert_eq!(Glob::warnings(glob)[0].code, "glob-without-files", "{glob:?}");
        }
        assert!(Glob::warnings("**/*").is_empty());
        assert!(Glob::compile("**/*").unwrap().is_everything());
    }

    #[test]
    fn errors_have_their_place() {
        let problems = |glob| {
            let problems = Glob::compile(glob).unwrap_err();
            problems.into_iter().map(|problem| (problem.code, problem.span.unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(problems("/data/*"), [("glob-absolute", 0..1)]);
        assert_eq!(problems("a/../b/x**"), [("glob-upwards", 2..4), ("glob-recursive", 8..10)]);
        assert_eq!(problems("***"), [("glob-recursive", 0..2)]);
        assert_eq!(problems(&"a/".repeat(70))[0].0, "glob-too-long");
    }
}
