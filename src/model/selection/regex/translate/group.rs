//! Groups in parentheses, and references to them.

use std::ops::Range;

use crate::model::problem::Problem;

use super::{Flags, Group, MOST_DEPTH, Piece, PieceKind, Reader, Width, wrong};

const KNOWN_FLAGS: &str = "Python knows `a`, `i`, `m`, `s`, `u` and `x`";

impl Reader<'_> {
    /// Parses a group from its `(` on; `None` for a comment or for flags, which match nothing themselves.
    pub(super) fn group(&mut self, flags: &mut Flags, may_set_flags: bool) -> Result<Option<Piece>, Problem> {
        let start = self.at;
        self.next();
        if !self.take("?") {
            return self.capture(start, None, *flags).map(Some);
        }
        let after = self.at;
        let piece = match self.next() {
            Some(':') => self.enclosed(start, "(?:", *flags)?,
            Some('P') => self.named(start, *flags)?,
            Some('#') => return self.comment(start).map(|()| None),
            Some('=') => self.look_ahead(true, start, *flags)?,
            Some('!') => self.look_ahead(false, start, *flags)?,
            Some('>') => {
                let open = if self.backtracks() { "(?>" } else { "(?:" };
                self.enclosed(start, open, *flags)?
            }
            Some('<') => match self.next() {
                Some('=') => self.look_behind("(?<=", start, *flags)?,
                Some('!') => self.look_behind("(?<!", start, *flags)?,
                _ => {
                    return Err(wrong("unknown extension", start..after + 1, "Python expects `(?<=` or `(?<!`")
                        .help("a named group is written `(?P<name>…)`"));
                }
            },
            Some('(') => self.conditional(start, *flags)?,
            Some('a'..='z' | 'A'..='Z' | '-') => {
                self.at = after;
                return self.flags(start, flags, may_set_flags);
            }
            Some(_) | None => {
                return Err(wrong("unknown extension", start..self.at, "unknown in Python"));
            }
        };
        Ok(Some(piece))
    }

    fn comment(&mut self, start: usize) -> Result<(), Problem> {
        self.take_while(usize::MAX, |next| next != ')');
        if self.take(")") { Ok(()) } else { Err(unclosed("missing ), unterminated comment", start)) }
    }

    /// Parses the inside of a group and its `)`.
    fn inside(&mut self, start: usize, mut flags: Flags) -> Result<Piece, Problem> {
        self.descend(start)?;
        let body = self.alternatives(&mut flags)?;
        self.depth -= 1;
        if self.take(")") { Ok(body) } else { Err(unclosed("missing ), unterminated subpattern", start)) }
    }

    fn descend(&mut self, start: usize) -> Result<(), Problem> {
        self.depth += 1;
        if self.depth <= MOST_DEPTH {
            return Ok(());
        }
        let label = format!("at most {MOST_DEPTH} levels");
        Err(wrong("the groups are nested too deeply", start..start + 1, label))
    }

    fn enclosed(&mut self, start: usize, open: &str, flags: Flags) -> Result<Piece, Problem> {
        let body = self.inside(start, flags)?;
        Ok(Piece::several(format!("{open}{})", body.text), body.width))
    }

    fn capture(&mut self, start: usize, name: Option<String>, flags: Flags) -> Result<Piece, Problem> {
        let index = self.groups.len();
        self.groups.push(Group { name, width: None });
        let piece = self.enclosed(start, "(", flags)?;
        self.groups[index].width = Some(piece.width);
        Ok(piece)
    }

    fn look_ahead(&mut self, is_wanted: bool, start: usize, flags: Flags) -> Result<Piece, Problem> {
        let piece = self.enclosed(start, if is_wanted { "(?=" } else { "(?!" }, flags)?;
        let piece = self.looking(piece);
        let is_kept = !piece.text.is_empty();
        Ok(if is_kept { Piece { kind: PieceKind::Ahead { is_wanted }, ..piece } } else { piece })
    }

    fn look_behind(&mut self, open: &str, start: usize, flags: Flags) -> Result<Piece, Problem> {
        let piece = self.enclosed(start, open, flags)?;
        if piece.width.least != piece.width.most {
            let label = "matches strings of different lengths";
            return Err(wrong("look-behind requires fixed-width pattern", start..self.at, label)
                .help("split it into alternatives of one length each: `(?:(?<=a)|(?<=bc))`"));
        }
        Ok(self.looking(piece))
    }

    fn looking(&mut self, piece: Piece) -> Piece {
        Piece::several(if self.backtracks() { piece.text } else { String::new() }, Width::NONE)
    }

    /// Parses `<name>…)` or `=name)` after `(?P`.
    fn named(&mut self, start: usize, flags: Flags) -> Result<Piece, Problem> {
        if self.take("<") {
            let (name, span) = self.name(start, '>')?;
            if self.number_of(&name).is_some() {
                return Err(wrong(format!("redefinition of group name `{name}`"), span, "already used"));
            }
            return self.capture(start, Some(name), flags);
        }
        if !self.take("=") {
            return Err(wrong("unknown extension", start..self.at, "Python expects `(?P<name>…)` or `(?P=name)`"));
        }
        let (name, span) = self.name(start, ')')?;
        match self.number_of(&name) {
            Some(number) => self.refer(number, span),
            None => Err(unknown_name(&name, span)),
        }
    }

    fn number_of(&self, name: &str) -> Option<usize> {
        Some(self.groups.iter().position(|group| group.name.as_deref() == Some(name))? + 1)
    }

    /// Parses a group's name with its terminator.
    fn name(&mut self, start: usize, close: char) -> Result<(String, Range<usize>), Problem> {
        let begin = self.at;
        let name = self.take_while(usize::MAX, |next| next != close).to_owned();
        let span = begin..self.at;
        if self.next() != Some(close) {
            return Err(unclosed(&format!("missing {close}, unterminated name"), start));
        }
        let mut characters = name.chars();
        let is_identifier = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && characters.all(|next| next.is_alphanumeric() || next == '_');
        if is_identifier {
            Ok((name, span))
        } else if name.is_empty() {
            Err(wrong("missing group name", start..self.at, "a name is expected here"))
        } else {
            Err(wrong("bad character in group name", span, "expected letters, digits and `_`, a letter first"))
        }
    }

    /// A back-reference to a group by its number.
    pub(super) fn refer(&mut self, number: usize, span: Range<usize>) -> Result<Piece, Problem> {
        let text = if self.backtracks() { format!(r"(?:\{number})") } else { "(?s:.*)".to_owned() };
        match number.checked_sub(1).and_then(|index| self.groups.get(index)) {
            None => Err(wrong("invalid group reference", span, "no such group before this")),
            Some(Group { width: None, .. }) => {
                Err(wrong("cannot refer to an open group", span, "this group is not closed yet"))
            }
            Some(Group { width: Some(width), .. }) => Ok(Piece::several(text, *width)),
        }
    }

    /// Parses `1)yes|no)` after `(?(`.
    fn conditional(&mut self, start: usize, flags: Flags) -> Result<Piece, Problem> {
        let begin = self.at;
        let digits = self.take_while(usize::MAX, |next| next.is_ascii_digit());
        let number = if !digits.is_empty() && self.take(")") {
            digits.parse().unwrap_or(usize::MAX)
        } else {
            self.at = begin;
            let (name, span) = self.name(start, ')')?;
            self.number_of(&name).ok_or_else(|| unknown_name(&name, span))?
        };
        self.conditions.push((number, begin..self.at - 1));
        let mut inner = flags;
        self.descend(start)?;
        let yes = self.sequence(&mut inner, false)?;
        let no = if self.take("|") { self.sequence(&mut inner, false)? } else { Piece::several("", Width::NONE) };
        self.depth -= 1;
        if self.rest().starts_with('|') {
            let span = self.at..self.at + 1;
            return Err(wrong("conditional backref with more than two branches", span, "a third one"));
        }
        if !self.take(")") {
            return Err(unclosed("missing ), unterminated subpattern", start));
        }
        let width = yes.width.or(no.width);
        let condition = if self.backtracks() { format!("({number})") } else { ":".to_owned() };
        Ok(Piece::several(format!("(?{condition}(?:{})|(?:{}))", yes.text, no.text), width))
    }

    /// Checks, at the end, that every condition refers to an existing group: Python allows later ones.
    pub(super) fn check_conditions(&self) -> Result<(), Problem> {
        match self.conditions.iter().find(|(number, _)| !(1..=self.groups.len()).contains(number)) {
            Some((_, span)) => Err(wrong("invalid group reference", span.clone(), "no such group")),
            None => Ok(()),
        }
    }

    /// Parses `i)`, which applies from here on, or `i-s:…)`.
    fn flags(&mut self, start: usize, flags: &mut Flags, may_set: bool) -> Result<Option<Piece>, Problem> {
        let mut changed = *flags;
        let on = self.letters(start, &mut changed, true)?;
        let off = self.take("-");
        if off && self.letters(start, &mut changed, false)?.is_empty() {
            return Err(wrong("missing flag", start..self.at, "a letter is expected after `-`"));
        }
        match self.next() {
            Some(')') if !off && may_set => {
                *flags = changed;
                Ok(None)
            }
            Some(')') if !off => {
                Err(wrong("global flags not at the start of the expression", start..self.at, "too late")
                    .help(format!("write them first, or for a part only: `(?{on}:…)`")))
            }
            Some(':') => {
                let open = match (flags.ignore_case, changed.ignore_case) {
                    (false, true) => "(?i:",
                    (true, false) => "(?-i:",
                    (false, false) | (true, true) => "(?:",
                };
                self.enclosed(start, open, changed).map(Some)
            }
            Some(_) | None => Err(wrong("unknown flag", start..self.at, KNOWN_FLAGS)),
        }
    }

    fn letters(&mut self, start: usize, flags: &mut Flags, on: bool) -> Result<String, Problem> {
        let letters = self.take_while(usize::MAX, |next| next.is_ascii_alphabetic()).to_owned();
        for letter in letters.chars() {
            match letter {
                'i' => flags.ignore_case = on,
                'm' => flags.multi_line = on,
                's' => flags.dot_all = on,
                'x' => flags.verbose = on,
                'a' | 'u' if on => flags.ascii = letter == 'a',
                'L' => {
                    return Err(wrong("cannot use 'L' flag with a str pattern", start..self.at, "for bytes only"));
                }
                _ => return Err(wrong(format!("unknown flag `{letter}`"), start..self.at, KNOWN_FLAGS)),
            }
        }
        Ok(letters)
    }
}

fn unknown_name(name: &str, span: Range<usize>) -> Problem {
    wrong(format!("unknown group name `{name}`"), span, "no earlier group has this name")
}

fn unclosed(message: &str, start: usize) -> Problem {
    wrong(message, start..start + 1, "never closed").help(r"write a literal parenthesis as `\(`")
}
