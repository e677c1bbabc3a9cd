//! Translates Python regexes for the engines used here.
//!
//! Follows Python's own parser (3.12): what it rejects is rejected, with the location; what has another meaning in the
//! engines is written so that it has the same meaning.
//!
//! | Python | written as |
//! | --- | --- |
//! | `\w`, `\s` and their opposites | the same sets of characters, spelled out: marks are not letters, `²` is one |
//! | `\Z`, and `$` where it ends the pattern | `\z` |
//! | any other `$` | look-ahead for the end or the last newline |
//! | `(?P<name>…)`, `(?P=name)`, `(?(name)…)` | by number |
//! | `(?#…)`, `(?x)`, `(?a)`, `(?s)`, `(?m)` | resolved here |
//! | `[a[b&&c]`, `a{`, `{,3}` | with literal characters escaped |
//! | `\udc80` to `\udcff` | the character that represents a byte that is not UTF-8 |
//!
//! Two things are left to the engines: which letters `(?i)` treats as equal beyond ASCII, and `\N{…}`, which is
//! rejected.

mod class;
mod escape;
mod group;
mod repeat;

use std::ops::Range;

use crate::model::problem::Problem;

/// The deepest nesting of groups.
const MOST_DEPTH: usize = 100;

/// A regex for the engines, without anchors around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Translation {
    pub(super) pattern: String,
    /// Further patterns that have to match, or must not, from the first character on: look-ahead at the beginning of
    /// the regex, if nothing else in it needs backtracking.
    pub(super) ahead: Vec<Ahead>,
    /// Whether it needs look-around, back-references or atomic groups.
    pub(super) needs_backtracking: bool,
    /// Whether it contains `\b` or `\B`, whose translation depends on [`Purpose`].
    pub(super) has_boundaries: bool,
}

/// A look-ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ahead {
    pub(super) is_wanted: bool,
    pub(super) pattern: String,
}

/// The purpose of a translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Matching ASCII text: `\b` stays unchanged, which is fast.
    Ascii,
    /// Matching any text: `\b` becomes look-around, because the engines' own uses other letters than Python's.
    AnyText,
    /// A superset of what matches: look-around and boundaries are dropped, references match any text.
    Superset,
}

/// Translates a Python regex, or reports what Python would reject.
pub(super) fn translate(text: &str, purpose: Purpose) -> Result<Translation, Problem> {
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
        purpose,
        groups: Vec::new(),
        conditions: Vec::new(),
        leading: None,
        has_branches: false,
        backtracking: 0,
        has_boundaries: false,
    };
    let mut flags = Flags::default();
    let body = reader.alternatives(&mut flags)?;
    if reader.at < text.len() {
        return Err(wrong("unbalanced parenthesis", reader.at..reader.at + 1, "no group is open here"));
    }
    reader.check_conditions()?;
    let cased = |text: String| if flags.ignore_case { format!("(?i:{text})") } else { text };
    let leading = reader.leading.take().filter(|leading| {
        let is_all = reader.backtracking == leading.ahead.len();
        is_all && !reader.has_branches && purpose != Purpose::Superset
    });
    let needs_backtracking = leading.is_none() && reader.backtracking > 0;
    let (pattern, ahead) = match leading {
        Some(Leading { ahead, rest }) => (rest, ahead),
        None => (body.text, Vec::new()),
    };
    let cased_ahead = |look: Ahead| Ahead { pattern: cased(look.pattern), ..look };
    Ok(Translation {
        pattern: cased(pattern),
        ahead: ahead.into_iter().map(cased_ahead).collect(),
        needs_backtracking,
        has_boundaries: reader.has_boundaries,
    })
}

/// The state of parsing one regex.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    purpose: Purpose,
    groups: Vec<Group>,
    /// The groups that `(?(…)` refers to.
    conditions: Vec<(usize, Range<usize>)>,
    leading: Option<Leading>,
    /// Whether there are alternatives outside of groups.
    has_branches: bool,
    /// Number of pieces that need backtracking.
    backtracking: usize,
    has_boundaries: bool,
}

/// The look-ahead at the beginning, and what follows it.
struct Leading {
    ahead: Vec<Ahead>,
    rest: String,
}

/// A capturing group.
struct Group {
    name: Option<String>,
    /// `None` while it is open.
    width: Option<Width>,
}

/// The flags in effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
    verbose: bool,
    ascii: bool,
}

/// The fewest and the most characters that something can match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Width {
    least: usize,
    most: usize,
}

impl Width {
    const NONE: Self = Self { least: 0, most: 0 };
    const ONE: Self = Self { least: 1, most: 1 };

    fn then(self, next: Self) -> Self {
        Self { least: self.least.saturating_add(next.least), most: self.most.saturating_add(next.most) }
    }

    fn or(self, other: Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most) }
    }

    fn times(self, least: usize, most: usize) -> Self {
        Self { least: self.least.saturating_mul(least), most: self.most.saturating_mul(most) }
    }
}

/// A translated part.
struct Piece {
    text: String,
    width: Width,
    kind: PieceKind,
}

/// How a piece can be continued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PieceKind {
    /// A single character or class: a quantifier can follow directly.
    Single,
    /// More than one.
    Several,
    /// An assertion such as `^`: Python does not repeat it.
    Place,
    /// Already repeated.
    Repeated,
    /// Look-ahead for what must, or must not, follow.
    Ahead { is_wanted: bool },
}

impl Piece {
    fn single(text: impl Into<String>) -> Self {
        Self { text: text.into(), width: Width::ONE, kind: PieceKind::Single }
    }

    fn place(text: impl Into<String>) -> Self {
        Self { text: text.into(), width: Width::NONE, kind: PieceKind::Place }
    }

    /// The look-ahead, if it is one.
    fn ahead(&self) -> Option<Ahead> {
        let PieceKind::Ahead { is_wanted } = self.kind else { return None };
        let pattern = self.text.get(3..self.text.len() - 1)?.to_owned();
        Some(Ahead { is_wanted, pattern })
    }

    fn several(text: impl Into<String>, width: Width) -> Self {
        Self { text: text.into(), width, kind: PieceKind::Several }
    }
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, expected: &str) -> bool {
        let found = self.rest().starts_with(expected);
        if found {
            self.at += expected.len();
        }
        found
    }

    /// Takes characters while they satisfy `accept`, at most `most`.
    fn take_while(&mut self, most: usize, accept: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.char_indices().take(most).find(|&(_, next)| !accept(next)).map(|(end, _)| end);
        let end = end.unwrap_or_else(|| rest.char_indices().nth(most).map_or(rest.len(), |(end, _)| end));
        self.at += end;
        &rest[..end]
    }

    /// Records that something needs backtracking; `false` if it has to be written without.
    fn backtracks(&mut self) -> bool {
        let backtracks = self.purpose != Purpose::Superset;
        self.backtracking += usize::from(backtracks);
        backtracks
    }

    /// Parses until the end or an unopened `)`.
    fn alternatives(&mut self, flags: &mut Flags) -> Result<Piece, Problem> {
        let mut all = self.sequence(flags, true)?;
        while self.take("|") {
            self.has_branches |= self.depth == 0;
            let next = self.sequence(flags, false)?;
            all = Piece::several(format!("{}|{}", all.text, next.text), all.width.or(next.width));
        }
        Ok(all)
    }

    fn sequence(&mut self, flags: &mut Flags, first: bool) -> Result<Piece, Problem> {
        let mut pieces: Vec<Piece> = Vec::new();
        loop {
            if flags.verbose {
                self.skip_blanks();
            }
            match self.peek() {
                None | Some('|' | ')') => break,
                Some('*' | '+' | '?' | '{') => {
                    if let Some(quantifier) = self.quantifier()? {
                        let repeated = self.repeat(pieces.pop(), quantifier)?;
                        pieces.push(repeated);
                        continue;
                    }
                    self.next();
                    pieces.push(Piece::single(literal('{')));
                }
                Some('(') => {
                    let may_set_flags = self.depth == 0 && first && pieces.is_empty();
                    pieces.extend(self.group(flags, may_set_flags)?);
                }
                Some('[') => pieces.push(self.class(*flags)?),
                Some('\\') => pieces.push(self.escape(*flags)?),
                Some('.') => {
                    self.next();
                    pieces.push(Piece::single(if flags.dot_all { "(?s:.)" } else { "." }));
                }
                Some('^') => {
                    self.next();
                    pieces.push(Piece::place(if flags.multi_line { "(?m:^)" } else { r"\A" }));
                }
                Some('$') => {
                    self.next();
                    pieces.push(self.end_of_text(*flags));
                }
                Some(other) => {
                    self.next();
                    pieces.push(Piece::single(literal(other)));
                }
            }
        }
        if self.depth == 0 && first {
            self.leading = leading(&pieces);
        }
        let width = pieces.iter().fold(Width::NONE, |width, piece| width.then(piece.width));
        Ok(Piece::several(pieces.iter().map(|piece| piece.text.as_str()).collect::<String>(), width))
    }

    /// `$`: the end, or before a final newline.
    fn end_of_text(&mut self, flags: Flags) -> Piece {
        let rest = self.rest();
        let is_last = rest.bytes().all(|byte| byte == b')') || (self.depth == 0 && rest.starts_with('|'));
        if flags.multi_line {
            Piece::place("(?m:$)")
        } else if is_last {
            // The match has to end at the end of the text anyway.
            Piece::place(r"\z")
        } else {
            Piece::place(if self.backtracks() { r"(?=\n?\z)" } else { "(?m:$)" })
        }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(usize::MAX, |next| matches!(next, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'));
            if !self.take("#") {
                return;
            }
            self.take_while(usize::MAX, |next| next != '\n');
        }
    }
}

/// Splits the look-ahead off the beginning of a regex, if there is any.
fn leading(pieces: &[Piece]) -> Option<Leading> {
    let is_leading = |piece: &&Piece| matches!(piece.kind, PieceKind::Ahead { .. }) || piece.text == r"\A";
    let count = pieces.iter().take_while(is_leading).count();
    let ahead: Vec<Ahead> = pieces[..count].iter().filter_map(Piece::ahead).collect();
    let rest = pieces[count..].iter().map(|piece| piece.text.as_str()).collect();
    (!ahead.is_empty()).then_some(Leading { ahead, rest })
}

/// A literal character, inside or outside of a class.
fn literal(character: char) -> String {
    if character.is_ascii_alphanumeric() || matches!(character, '_' | '/') || !character.is_ascii() {
        character.to_string()
    } else {
        format!(r"\x{{{:X}}}", u32::from(character))
    }
}

fn wrong(message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Problem {
    Problem::error("regex-syntax", message).at(span).label(label)
}
