//! Escapes that begin with a backslash.

use crate::model::problem::Problem;

use super::super::super::text;
use super::{Flags, Piece, Purpose, Reader, literal, wrong};

/// The meaning of an escape, inside or outside of a class.
pub(super) enum Escaped {
    Character(char),
    /// Several characters, written for use in a class.
    Set(&'static str),
}

impl Escaped {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Character(character) => literal(*character),
            Self::Set(set) => (*set).to_owned(),
        }
    }
}

/// Python's `str.isalnum` and `_`.
const WORD: &str = r"[\p{L}\p{N}_]";
const NOT_WORD: &str = r"[^\p{L}\p{N}_]";

/// The set of a class escape such as `\d`.
fn set(letter: char, flags: Flags) -> Option<&'static str> {
    Some(match (letter, flags.ascii) {
        ('d', false) => r"\p{Nd}",
        ('D', false) => r"\P{Nd}",
        ('d', true) => "[0-9]",
        ('D', true) => "[^0-9]",
        ('w', false) => WORD,
        ('W', false) => NOT_WORD,
        ('w', true) => "[0-9A-Za-z_]",
        ('W', true) => "[^0-9A-Za-z_]",
        // For Python the four separators U+001C to U+001F are spaces.
        ('s', false) => r"[\s\x{1C}-\x{1F}]",
        ('S', false) => r"[^\s\x{1C}-\x{1F}]",
        ('s', true) => r"[\x{20}\t\n\r\x{B}\x{C}]",
        ('S', true) => r"[^\x{20}\t\n\r\x{B}\x{C}]",
        _ => return None,
    })
}

impl Reader<'_> {
    /// Parses an escape outside of a class, from its backslash on.
    pub(super) fn escape(&mut self, flags: Flags) -> Result<Piece, Problem> {
        let start = self.at;
        match self.rest().chars().nth(1) {
            Some('A') => Ok(self.place(r"\A")),
            Some('Z') => Ok(self.place(r"\z")),
            Some('b') => Ok(self.boundary(true, flags)),
            Some('B') => Ok(self.boundary(false, flags)),
            Some('1'..='9') => self.back_reference(start),
            _ => self.common_escape(flags).map(|escaped| Piece::single(escaped.text())),
        }
    }

    /// Parses an escape in a class, from its backslash on.
    pub(super) fn escape_in_class(&mut self, flags: Flags) -> Result<Escaped, Problem> {
        if self.take(r"\b") {
            return Ok(Escaped::Character('\x08'));
        }
        let start = self.at;
        let octal = self.rest()[1..].chars().take(3).take_while(|digit| matches!(digit, '0'..='7')).count();
        if octal > 0 {
            self.at += 1;
            let digits = self.take_while(octal, |_| true);
            return self.numbered(start, digits, 8);
        }
        self.common_escape(flags)
    }

    fn place(&mut self, text: &str) -> Piece {
        self.at += 2;
        Piece::place(text)
    }

    fn boundary(&mut self, is_boundary: bool, flags: Flags) -> Piece {
        self.has_boundaries = true;
        match self.purpose {
            Purpose::Ascii => return self.place(if is_boundary { r"\b" } else { r"\B" }),
            Purpose::Superset => return self.place(""),
            Purpose::AnyText => self.backtracking += 1,
        }
        let word = if flags.ascii { "[0-9A-Za-z_]" } else { WORD };
        let (after_word, else_after) = if is_boundary { ("!", "=") } else { ("=", "!") };
        self.place(&format!("(?:(?<={word})(?{after_word}{word})|(?<!{word})(?{else_after}{word}))"))
    }

    /// Parses `\1`, or `\123` if three octal digits name a character.
    fn back_reference(&mut self, start: usize) -> Result<Piece, Problem> {
        self.at += 1;
        let digits = self.take_while(3, |next| next.is_ascii_digit());
        if digits.len() == 3 && digits.bytes().all(|digit| digit < b'8') {
            return self.numbered(start, digits, 8).map(|character| Piece::single(character.text()));
        }
        let digits = &digits[..digits.len().min(2)];
        self.at = start + 1 + digits.len();
        let span = start..self.at;
        let number = digits.parse().unwrap_or(usize::MAX);
        self.refer(number, span)
    }

    fn common_escape(&mut self, flags: Flags) -> Result<Escaped, Problem> {
        let start = self.at;
        self.next();
        let Some(letter) = self.next() else {
            return Err(wrong("bad escape (end of pattern)", start..self.at, "nothing follows it")
                .help(r"write a literal backslash as `\\`"));
        };
        if let Some(set) = set(letter, flags) {
            return Ok(Escaped::Set(set));
        }
        Ok(Escaped::Character(match letter {
            'a' => '\x07',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0' => {
                self.at -= 1;
                let digits = self.take_while(3, |digit| matches!(digit, '0'..='7'));
                return self.numbered(start, digits, 8);
            }
            'x' => return self.hexadecimal(start, 2),
            'u' => return self.hexadecimal(start, 4),
            'U' => return self.hexadecimal(start, 8),
            other if other.is_ascii_alphanumeric() => return Err(self.bad_escape(start, other)),
            other => other,
        }))
    }

    fn bad_escape(&self, start: usize, letter: char) -> Problem {
        let problem = wrong("bad escape", start..self.at, "unknown in Python");
        match letter {
            'N' => problem.label("named characters are not supported").help(r"write the number, such as `\u00e9`"),
            'z' => problem.help(r"write `\Z` for the end"),
            'p' | 'P' => problem.help(r"Python's `re` has no Unicode properties: use `\w`, `\d` or `[…]`"),
            _ => problem.help(format!("write the letter as `{letter}`")),
        }
    }

    fn hexadecimal(&mut self, start: usize, expected: usize) -> Result<Escaped, Problem> {
        let digits = self.take_while(expected, |digit| digit.is_ascii_hexdigit());
        if digits.len() < expected {
            return Err(wrong("incomplete escape", start..self.at, format!("needs {expected} hexadecimal digits")));
        }
        self.numbered(start, digits, 16)
    }

    /// The character with a given code.
    fn numbered(&mut self, start: usize, digits: &str, radix: u32) -> Result<Escaped, Problem> {
        let span = start..self.at;
        let number = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
        if radix == 8 && number > 0o377 {
            return Err(wrong("octal escape value outside of range 0-0o377", span, "too large"));
        }
        // Python decodes a byte that is not UTF-8 to this.
        if let Ok(byte @ 0x80..) = u8::try_from(number.wrapping_sub(0xdc00)) {
            return Ok(Escaped::Character(text::undecodable(byte)));
        }
        match char::from_u32(number) {
            Some(character) => Ok(Escaped::Character(character)),
            None => Err(wrong("no such character", span, "no file name can contain this")),
        }
    }
}
