//! Maps a rendered text back to its template.
//!
//! The template is rendered a second time with marks between its tags. If the output without the marks is the same as
//! before, every mark shows which byte of the template produced a byte of the output. If it differs, as when a filter
//! counts characters, there is no mapping.

use std::fmt::Write;
use std::ops::Range;

use crate::model::problem::Problem;

/// Begins a mark: a noncharacter, which does not occur in text.
const OPEN: char = '\u{fdd0}';
/// Ends a mark.
const CLOSE: char = '\u{fdd1}';

/// The maximum size of a document, rendered or not. Its parsed values take up to 170 times as much memory.
pub(super) const MOST_BYTES: u64 = 4 << 20;

/// The result of rendering.
#[derive(Clone, Debug)]
pub(super) struct Rendered {
    pub(super) text: String,
    /// Maps the rendered text back to the template; `None` if the mapping is ambiguous.
    pub(super) map: Option<Map>,
    /// What is suspicious; the spans point into the template.
    pub(super) warnings: Vec<Problem>,
}

/// A template with marks, and their meaning.
pub(super) struct Marked {
    pub(super) text: String,
    marks: Vec<Origin>,
    template_len: usize,
}

/// The origin of a part of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// The template from this byte on, byte by byte.
    Text(usize),
    /// A tag, such as `{{ env.HOME }}`.
    Tag(Range<usize>),
}

/// Maps bytes of the output to bytes of the template.
#[derive(Clone, Debug)]
pub(super) struct Map {
    /// In order, with the byte of the output where each begins.
    origins: Vec<(usize, Origin)>,
    template_len: usize,
}

/// The part of the template that produced a part of the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Range<usize>,
    /// Whether a tag produced at least a part of the output.
    pub(super) made_by_tag: bool,
}

impl Marked {
    pub(super) fn new(template: &str) -> Self {
        let text = String::with_capacity(template.len() + 64);
        let mut marked = Self { text, marks: Vec::new(), template_len: template.len() };
        if template.contains([OPEN, CLOSE]) {
            return marked;
        }
        let mut position = 0;
        let mut trims_behind = false;
        while let Some(tag) = next_tag(template, position) {
            let trims_before = template[tag.start + 2..].starts_with('-');
            let space = marked.text_piece(template, position..tag.start, trims_behind, trims_before);
            marked.mark(Origin::Tag(tag.clone()));
            marked.text.push_str(space);
            marked.text.push_str(&template[tag.clone()]);
            trims_behind = template[..tag.end - 2].ends_with('-');
            position = tag.end;
        }
        marked.text_piece(template, position..template.len(), trims_behind, false);
        marked
    }

    /// The text between two tags. White space that a tag trims has to stay next to that tag: returns what belongs after
    /// the mark of the next one.
    fn text_piece<'t>(&mut self, template: &'t str, piece: Range<usize>, trim_start: bool, trim_end: bool) -> &'t str {
        let raw = &template[piece.clone()];
        let lead = if trim_start { raw.len() - raw.trim_start().len() } else { 0 };
        let end = if trim_end { raw.trim_end().len().max(lead) } else { raw.len() };
        self.text.push_str(&raw[..lead]);
        self.mark(Origin::Text(piece.start + lead));
        self.text.push_str(&raw[lead..end]);
        &raw[end..]
    }

    fn mark(&mut self, origin: Origin) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{OPEN}{}{CLOSE}", self.marks.len());
        self.marks.push(origin);
    }

    /// Reads the marks in the rendered text; `None` if it otherwise differs from `expected`.
    pub(super) fn map(&self, rendered: &str, expected: &str) -> Option<Map> {
        let mut origins = Vec::new();
        let mut output = 0;
        let mut pieces = rendered.split(OPEN);
        let first = pieces.next()?;
        let mut same = expected.strip_prefix(first)?;
        output += first.len();
        for piece in pieces {
            let (number, text) = piece.split_once(CLOSE)?;
            let origin = self.marks.get(number.parse::<usize>().ok()?)?;
            origins.push((output, origin.clone()));
            same = same.strip_prefix(text)?;
            output += text.len();
        }
        (same.is_empty() && !origins.is_empty()).then_some(Map { origins, template_len: self.template_len })
    }
}

impl Map {
    /// The bytes of the template that produced these bytes of the output.
    pub(super) fn template(&self, output: Range<usize>) -> Place {
        let first = self.origin(output.start);
        let last = self.origin(output.end.saturating_sub(1).max(output.start));
        let start = match first {
            Some((at, Origin::Text(source))) => source + (output.start - at),
            Some((_, Origin::Tag(tag))) => tag.start,
            None => 0,
        };
        let end = match last {
            Some((at, Origin::Text(source))) => source + (output.end - at),
            Some((_, Origin::Tag(tag))) => tag.end,
            None => 0,
        };
        let made_by_tag = self.between(&output).any(|origin| matches!(origin, Origin::Tag(_)));
        let start = start.min(self.template_len);
        Place { span: start..end.clamp(start, self.template_len), made_by_tag }
    }

    fn index(&self, output: usize) -> Option<usize> {
        self.origins.partition_point(|(at, _)| *at <= output).checked_sub(1)
    }

    fn origin(&self, output: usize) -> Option<&(usize, Origin)> {
        self.origins.get(self.index(output)?)
    }

    /// The origins of all bytes of a part of the output.
    fn between(&self, output: &Range<usize>) -> impl Iterator<Item = &Origin> {
        let from = self.index(output.start).unwrap_or(0);
        let to = self.index(output.end.saturating_sub(1).max(output.start)).map_or(0, |index| index + 1);
        let ends = self.origins.iter().skip(1).map(|(at, _)| *at).chain([usize::MAX]);
        // A tag without output produced nothing.
        self.origins
            .iter()
            .zip(ends)
            .skip(from)
            .take(to.saturating_sub(from))
            .filter(|((at, _), end)| at < end)
            .map(|((_, origin), _)| origin)
    }
}

/// The statements such as `{% if … %}` that are open at a byte of a template, each by the byte where it begins.
pub(super) fn blocks_before(template: &str, at: usize) -> Vec<usize> {
    let mut open = Vec::new();
    let mut position = 0;
    while let Some(tag) = next_tag(template, position).filter(|tag| tag.start < at) {
        position = tag.end;
        let inside = template[tag.start + 2..tag.end - 2].trim_start_matches(['-', '+']).trim_start();
        let word = inside.split(|char: char| !char.is_alphanumeric() && char != '_').next().unwrap_or("");
        match word {
            _ if template.as_bytes()[tag.start + 1] != b'%' => {}
            "if" | "for" | "raw" | "macro" | "filter" | "with" | "call" | "autoescape" => open.push(tag.start),
            "set" if !inside.contains('=') => open.push(tag.start),
            // Each branch is a block of its own.
            "else" | "elif" => {
                open.pop();
                open.push(tag.start);
            }
            _ if word.starts_with("end") => drop(open.pop()),
            _ => {}
        }
    }
    open
}

/// The next `{{ … }}`, `{% … %}` or `{# … #}` at or after a byte; quotes inside may contain its end.
fn next_tag(template: &str, from: usize) -> Option<Range<usize>> {
    let bytes = template.as_bytes();
    let start = (from..bytes.len().saturating_sub(1))
        .find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))?;
    let close: &[u8] = match bytes[start + 1] {
        b'{' => b"}}",
        b'%' => b"%}",
        _ => b"#}",
    };
    let mut quote = None;
    let mut at = start + 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) if close != b"#}" => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(close) => return Some(start..at + 2),
            (Some(_) | None, _) => {}
        }
        at += 1;
    }
    None
}

#[cfg(feature = "templates")]
#[cfg(test)]
mod tests {
    use super::super::template::render;
    use super::super::variables::Variables;

    /// Renders, then finds `needle` in the output, and returns the part of the template that produced it.
    fn origin(template: &str, needle: &str) -> (String, bool) {
        let rendered = render(template, &Variables::with_env([("A".to_owned(), "aaa".to_owned())])).unwrap();
        let at = rendered.text.find(needle).unwrap();
        let place = rendered.map.expect("a way back").template(at..at + needle.len());
        (template[place.span].to_owned(), place.made_by_tag)
    }

    #[test]
    fn text_comes_from_the_same_text() {
        assert_eq!(origin("x {{ env.A }} ü needle {{ env.A }}", "needle"), ("needle".to_owned(), false));
        assert_eq!(
            origin("{% for i in [1, 2] %}{{ env.A }}x needle y{% endfor %}", "needle"),
            ("needle".into(), false)
        );
        assert_eq!(origin("{{ env.A }}needle", "needle"), ("needle".to_owned(), false));
    }

    #[test]
    fn what_a_tag_makes_comes_from_the_whole_tag() {
        assert_eq!(origin("x {{ env.A }} y", "aa"), ("{{ env.A }}".to_owned(), true));
        assert_eq!(origin("\"x{{ env.A }}y\"", "\"xaaay\""), ("\"x{{ env.A }}y\"".to_owned(), true));
        assert_eq!(origin("{{ \"}}\" ~ env.A }}z", "}}aaa"), ("{{ \"}}\" ~ env.A }}".to_owned(), true));
    }

    #[test]
    fn tags_that_trim_do_not_move_places() {
        assert_eq!(origin("a  {{- env.A -}}  needle", "needle"), ("needle".to_owned(), false));
        assert_eq!(origin("a\n  {%- if true -%}\n  b\n{% endif %} needle", "needle"), ("needle".to_owned(), false));
        assert_eq!(origin("{%- if true %}\n{#- why -#}\n needle {%- endif %}", "needle"), ("needle".to_owned(), false));
    }

    #[test]
    fn a_template_that_looks_at_its_own_text_has_no_way_back() {
        let template = "{% set x %}abc{% endset %}{{ x | length }}";
        let rendered = render(template, &Variables::default()).unwrap();
        assert_eq!(rendered.text, "3");
        assert!(rendered.map.is_none());
    }

    #[test]
    fn noncharacters_in_a_template_do_no_harm() {
        let rendered = render("\u{fdd0}0\u{fdd1}{{ 1 }}", &Variables::default()).unwrap();
        assert_eq!(rendered.text, "\u{fdd0}0\u{fdd1}1");
        assert!(rendered.map.is_none());
    }
}
