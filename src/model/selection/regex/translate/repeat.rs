//! `*`, `+`, `?` and `{…}`.

use std::ops::Range;

use crate::model::problem::Problem;

use super::{Piece, PieceKind, Reader, Width, wrong};

impl Reader<'_> {
    /// Parses `*`, `+`, `?` or `{…}` with its suffix; `None`, without consuming anything, for a literal `{`.
    pub(super) fn quantifier(&mut self) -> Result<Option<Quantifier>, Problem> {
        let start = self.at;
        let (least, most) = match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => match self.counted()? {
                Some(counts) => counts,
                None => {
                    self.at = start;
                    return Ok(None);
                }
            },
        };
        let span = start..self.at;
        let suffix = if self.take("?") {
            "?"
        } else if self.take("+") && self.backtracks() {
            "+"
        } else {
            ""
        };
        Ok(Some(Quantifier { least, most, suffix, span }))
    }

    /// Parses the rest of `{m}`, `{m,}`, `{,n}` or `{m,n}`.
    fn counted(&mut self) -> Result<Option<(usize, Option<usize>)>, Problem> {
        let start = self.at - 1;
        if self.peek() == Some('}') {
            return Ok(None);
        }
        let least = self.take_while(usize::MAX, |next| next.is_ascii_digit());
        let most = if self.take(",") { self.take_while(usize::MAX, |next| next.is_ascii_digit()) } else { least };
        if !self.take("}") {
            return Ok(None);
        }
        let span = start..self.at;
        let number = |digits: &str| match digits.parse::<u32>() {
            Ok(number) if number < u32::MAX => Ok(number as usize),
            Ok(_) | Err(_) => Err(wrong("the repetition number is too large", span.clone(), "too large")),
        };
        let least = if least.is_empty() { 0 } else { number(least)? };
        let most = if most.is_empty() { None } else { Some(number(most)?) };
        match most {
            Some(most) if most < least => {
                Err(wrong("min repeat greater than max repeat", span, "the first number is larger than the second"))
            }
            most => Ok(Some((least, most))),
        }
    }

    pub(super) fn repeat(&mut self, piece: Option<Piece>, quantifier: Quantifier) -> Result<Piece, Problem> {
        let piece = match piece {
            None | Some(Piece { kind: PieceKind::Place, .. }) => {
                return Err(wrong("nothing to repeat", quantifier.span, "nothing before it")
                    .help("a regex is not a glob: write `.*` for any characters, `\\*` for a literal `*`"));
            }
            Some(Piece { kind: PieceKind::Repeated, .. }) => {
                return Err(wrong("multiple repeat", quantifier.span, "already repeated"));
            }
            Some(piece) => piece,
        };
        let text = if piece.width == Width::NONE {
            repeat_nothing(&piece.text, &quantifier)
        } else {
            let atom = if piece.kind == PieceKind::Single { piece.text } else { format!("(?:{})", piece.text) };
            let counts = quantifier.counts();
            match quantifier.suffix {
                // `{2,3}+` is not possessive in all engines; an atomic group always is.
                "+" => format!("(?>{atom}{counts})"),
                suffix => format!("{atom}{counts}{suffix}"),
            }
        };
        let width = piece.width.times(quantifier.least, quantifier.most.unwrap_or(usize::MAX));
        Ok(Piece { text, width, kind: PieceKind::Repeated })
    }
}

/// A quantifier, as written.
pub(super) struct Quantifier {
    least: usize,
    most: Option<usize>,
    suffix: &'static str,
    span: Range<usize>,
}

impl Quantifier {
    fn counts(&self) -> String {
        match (self.least, self.most) {
            (0, None) => "*".to_owned(),
            (1, None) => "+".to_owned(),
            (0, Some(1)) => "?".to_owned(),
            (least, None) => format!("{{{least},}}"),
            (least, Some(most)) => format!("{{{least},{most}}}"),
        }
    }
}

/// A piece that matches the empty string occurs once or not at all; the engines reject repeating it.
fn repeat_nothing(piece: &str, quantifier: &Quantifier) -> String {
    match (quantifier.least, quantifier.most, quantifier.suffix) {
        (_, Some(0), _) => String::new(),
        (0, _, "?") => format!("(?:|{piece})"),
        (0, _, "+") => format!("(?>{piece}|)"),
        (0, ..) => format!("(?:{piece}|)"),
        (1.., ..) => format!("(?:{piece})"),
    }
}
