//! Excerpts of a source around a problem, safe to print.
//!
//! A file can be a single line of a million characters and contain terminal escapes, so only part of the lines around a
//! problem is shown, with control characters replaced by pictures.

use std::ops::Range;

use highwater::model::escape::{is_unsafe, printable};
use highwater::model::problem::Flawed;
use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// Characters per line if the width of the terminal is unknown.
pub(crate) const WIDTH: usize = 160;
/// The width of what points from a span to its label.
const LABEL_MARK: usize = 4;
/// Lines per problem.
const HEIGHT: usize = 8;

/// Part of a source that stands in for all of it.
#[derive(Debug)]
pub(crate) struct Excerpt {
    name: String,
    text: String,
    /// The span of the problem in [`Self::text`].
    pub(crate) span: Range<usize>,
    /// The line in which the problem begins, from 0.
    line: usize,
    /// The column of the problem in the source, in characters.
    column: usize,
    /// Characters per line.
    width: usize,
}

impl Excerpt {
    /// Takes the lines around a span, `width` characters of each. `label` is the number of characters of the label beside
    /// the span.
    pub(crate) fn new(flawed: &Flawed, span: &Range<usize>, label: usize, width: usize) -> Self {
        let before = flawed.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let marked = flawed.text.get(span.clone()).unwrap_or_default();
        let height = marked.matches('\n').count();
        let end = if height < HEIGHT { span.end } else { span.start + marked.find('\n').unwrap_or(marked.len()) };
        let column = before[line_start..].chars().count();
        // Leave room for the label after the problem.
        let before = width * 3 / 8;
        let cut = if is_long(&flawed.text[line_start..], width) { column.saturating_sub(before) } else { 0 };
        let label_end = column + middle(marked, width) + LABEL_MARK + label;
        let cut = cut.max(label_end.saturating_sub(width)).min(column);
        let name = printable(&flawed.name);
        let mut excerpt = Self { name, text: String::new(), span: 0..0, line, column, width };
        let last = line + if height < HEIGHT { height } else { 0 } + 1;
        let mut at = 0;
        for (number, text) in flawed.text.split_inclusive('\n').enumerate().take_while(|(number, _)| *number <= last) {
            if number + 1 < line {
                excerpt.text.push('\n');
            } else {
                excerpt.push(text, at, if number == line { cut } else { 0 }, &(span.start..end));
            }
            at += text.len();
        }
        // The problem may be at the very end.
        excerpt.span.start = if span.start >= at { excerpt.text.len() } else { excerpt.span.start };
        excerpt.span.end = if end >= at { excerpt.text.len() } else { excerpt.span.end }.max(excerpt.span.start);
        excerpt
    }

    /// Appends a line that starts at a byte of the source, without its first `cut` characters and cut off at the width.
    fn push(&mut self, line: &str, start: usize, cut: usize, span: &Range<usize>) {
        if cut > 0 {
            self.text.push('…');
        }
        let body = line.trim_end_matches(['\n', '\r']);
        for (number, (at, char)) in body.char_indices().enumerate() {
            let is_shown = number >= cut && number < cut + self.width;
            self.note(start + at, span);
            if is_shown {
                self.text.push(picture(char));
            } else if number == cut + self.width {
                self.text.push('…');
            }
        }
        self.note(start + body.len(), span);
        if line.ends_with('\n') {
            self.text.push('\n');
        }
    }

    /// Moves an end of the span that is at this byte of the source to the end of the excerpt so far.
    fn note(&mut self, at: usize, span: &Range<usize>) {
        if at == span.start {
            self.span.start = self.text.len();
        }
        if at == span.end {
            self.span.end = self.text.len();
        }
    }
}

/// Where below a span its label begins: the middle of its first line, in characters from its start.
pub(crate) fn middle(marked: &str, width: usize) -> usize {
    marked.lines().next().map_or(0, |line| line.chars().count().min(width) / 2)
}

/// Whether the first line has more than `width` characters.
fn is_long(text: &str, width: usize) -> bool {
    text.lines().next().is_some_and(|line| line.chars().nth(width).is_some())
}

/// Replaces a control character by a printable one.
fn picture(char: char) -> char {
    match char {
        '\t' => char,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(char)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        _ if is_unsafe(char) => '\u{fffd}',
        _ => char,
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let read = self.text.read_span(span, lines_before, lines_after)?;
        // The caller wants the position alone, without context lines.
        let is_place = lines_before == 0 && lines_after == 0 && read.line() == self.line;
        let column = if is_place { self.column } else { read.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            read.data(),
            *read.span(),
            read.line(),
            column,
            read.line_count(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(text: &str, span: Range<usize>) -> Excerpt {
        wide(text, span, WIDTH)
    }

    fn wide(text: &str, span: Range<usize>, width: usize) -> Excerpt {
        Excerpt::new(&Flawed { name: "x".to_owned(), text: text.to_owned(), problems: Vec::new() }, &span, 0, width)
    }

    #[test]
    fn short_texts_stay_as_they_are() {
        let shown = excerpt("one\ntwo\nthree\nfour\n", 8..13);
        assert_eq!((shown.text.as_str(), &shown.text[shown.span.clone()]), ("\ntwo\nthree\nfour\n", "three"));
        let shown = excerpt("one", 3..3);
        assert_eq!((shown.text.as_str(), shown.span), ("one", 3..3));
        let shown = excerpt("", 0..0);
        assert_eq!((shown.text.as_str(), shown.span), ("", 0..0));
    }

    #[test]
    fn long_lines_are_cut_around_the_problem() {
        let text = format!("{}!needle!{}\n{}", "a".repeat(1000), "b".repeat(1000), "c".repeat(1000));
        let shown = excerpt(&text, 1001..1007);
        assert_eq!(&shown.text[shown.span.clone()], "needle");
        let widths: Vec<usize> = shown.text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [WIDTH + 2, WIDTH + 1]);
        let read = shown.read_span(&SourceSpan::from(shown.span.clone()), 0, 0).unwrap();
        assert_eq!((read.line(), read.column()), (0, 1001));
    }

    #[test]
    fn lines_are_cut_to_a_narrow_terminal() {
        let text = format!("{{\n{}!needle!{}\n{}", "a".repeat(50), "b".repeat(50), "c".repeat(50));
        let shown = wide(&text, 53..59, 40);
        assert_eq!(&shown.text[shown.span.clone()], "needle");
        let widths: Vec<usize> = shown.text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [1, 42, 41]);
        assert!(shown.text.contains(&format!("\n…{}!needle!", "a".repeat(14))), "{}", shown.text);
    }

    #[test]
    fn a_line_is_cut_for_a_label_that_has_no_room_beside_it() {
        let flawed = Flawed { name: "x".to_owned(), text: format!("{}!needle!", "a".repeat(25)), problems: Vec::new() };
        let shown = Excerpt::new(&flawed, &(26..32), 20, 40);
        assert_eq!(&shown.text[shown.span.clone()], "needle");
        // 13 characters before the label, and its mark.
        assert_eq!(shown.text, format!("…{}!needle!", "a".repeat(12)));
    }

    #[test]
    fn a_problem_longer_than_its_line_is_cut_too() {
        let shown = excerpt(&"x".repeat(1000), 10..900);
        assert_eq!(shown.span.start, 10);
        assert!(shown.text.get(shown.span.clone()).is_some() && shown.text.chars().count() == WIDTH + 1);
        let many = "{\n".repeat(100);
        assert_eq!(excerpt(&many, 0..many.len()).span, 0..1);
    }

    #[test]
    fn control_characters_are_pictures() {
        let shown = excerpt("a\u{1b}[31m\0\u{202e}ü\r\n", 1..2);
        assert_eq!(shown.text, "a␛[31m␀\u{fffd}ü\n");
        assert_eq!(&shown.text[shown.span], "␛");
    }
}
