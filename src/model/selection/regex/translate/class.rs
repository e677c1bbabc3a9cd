//! `[…]`.

use crate::model::problem::Problem;

use super::escape::Escaped;
use super::{Flags, Piece, Reader, literal, wrong};

impl Reader<'_> {
    /// Parses a class from its `[` on.
    pub(super) fn class(&mut self, flags: Flags) -> Result<Piece, Problem> {
        let start = self.at;
        self.next();
        let negated = self.take("^");
        let mut members = String::new();
        let mut is_first = true;
        loop {
            if !is_first && self.take("]") {
                break;
            }
            is_first = false;
            let member_at = self.at;
            let first = self.member(start, flags)?;
            // `-` before the `]` is literal.
            if !self.rest().starts_with('-') || self.rest().starts_with("-]") {
                members.push_str(&first.text());
                continue;
            }
            self.next();
            let last = self.member(start, flags)?;
            let span = member_at..self.at;
            match (first, last) {
                (Escaped::Character(first), Escaped::Character(last)) if first <= last => {
                    members.push_str(&format!("{}-{}", literal(first), literal(last)));
                }
                (Escaped::Character(_), Escaped::Character(_)) => {
                    return Err(wrong("bad character range", span, "the first character is after the last"));
                }
                (Escaped::Set(_), _) | (_, Escaped::Set(_)) => {
                    return Err(wrong("bad character range", span, "a range needs single characters at both ends")
                        .help("write a literal `-` last"));
                }
            }
        }
        Ok(Piece::single(format!("[{}{members}]", if negated { "^" } else { "" })))
    }

    fn member(&mut self, class: usize, flags: Flags) -> Result<Escaped, Problem> {
        match self.peek() {
            None => Err(wrong("unterminated character set", class..class + 1, "never closed")
                .help(r"write a literal bracket as `\[`")),
            Some('\\') => self.escape_in_class(flags),
            Some(other) => {
                self.next();
                Ok(Escaped::Character(other))
            }
        }
    }
}
