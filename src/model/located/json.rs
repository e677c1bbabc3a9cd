//! Parses JSON, and reports what was expected if it is invalid.

use std::ops::Range;

use jsonc_parser::ast::{ObjectProp, ObjectPropName, Value as Node};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, ParseStringErrorKind, parse_to_ast};

use super::{Data, Field, Value};
use crate::model::problem::Problem;
use crate::model::spelling::quote;

/// Only what RFC 8259 allows.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses JSON into the syntax tree that edits need.
///
/// # Errors
/// The first syntax error.
pub(crate) fn parse(text: &str) -> Result<Node<'_>, Problem> {
    if text.trim().is_empty() {
        let help = "expected a JSON object: { … }";
        return Err(Problem::error("empty", "the file is empty").help(help));
    }
    let value = match parse_to_ast(text, &CollectOptions::default(), &STRICT) {
        Ok(result) => result.value,
        Err(error) => return Err(refused(text, &error)),
    };
    // The parser above accepts control characters in strings and exotic white space.
    if let Some(problem) = foreign(text) {
        return Err(problem);
    }
    value.ok_or_else(|| not_json("the file contains no JSON value").at(0..0))
}

/// The value of a node.
pub(crate) fn value(node: Node<'_>) -> Value<'_> {
    let span = span(&node);
    let data = match node {
        Node::StringLit(literal) => Data::String(literal.value),
        Node::NumberLit(literal) => Data::Number(literal.value.into()),
        Node::BooleanLit(literal) => Data::Boolean(literal.value),
        Node::Object(object) => Data::Object(object.properties.into_iter().map(field).collect()),
        Node::Array(array) => Data::Array(array.elements.into_iter().map(value).collect()),
        Node::NullKeyword(_) => Data::Null,
    };
    Value { data, span }
}

fn field(property: ObjectProp<'_>) -> Field<'_> {
    let key = span(&property.name);
    let name = match property.name {
        ObjectPropName::String(literal) => literal.value,
        ObjectPropName::Word(word) => word.value.into(),
    };
    Field { name, key, value: value(property.value) }
}

/// The bytes of a node.
pub(crate) fn span(node: &impl Ranged) -> Range<usize> {
    let range = node.range();
    range.start..range.end
}

fn not_json(message: impl Into<String>) -> Problem {
    Problem::error("not-json", message)
}

/// The message, label and help for a syntax error.
fn refused(text: &str, error: &ParseError) -> Problem {
    use ParseErrorKind as Kind;
    let span = error.range().start..error.range().end.max(error.range().start);
    let found = found(text, span.start);
    let at = |problem: Problem, label: &str| problem.at(span.clone()).label(label);
    match error.kind() {
        Kind::ExpectedComma => at(
            not_json(format!("invalid JSON: missing comma before {}", next_found(text, span.end))),
            "expected `,` here",
        ),
        Kind::TrailingCommasNotAllowed => {
            at(not_json("invalid JSON: comma after the last element"), "expected no comma").help("remove the comma")
        }
        Kind::CommentsNotAllowed => {
            at(not_json("invalid JSON: comment"), "expected no comment").help("remove it, or use Jinja: {# … #}")
        }
        Kind::ExpectedColonAfterObjectKey => at(not_json(format!("invalid JSON: {found} after a key")), "expected `:`"),
        Kind::ExpectedObjectValue => at(not_json(format!("invalid JSON: {found} after `:`")), "expected a value"),
        Kind::ExpectedStringObjectProperty | Kind::UnexpectedTokenInObject => {
            at(not_json(format!("invalid JSON: {found} in an object")), "expected a key in double quotes, or `}`")
        }
        Kind::SingleQuotedStringsNotAllowed => {
            at(not_json("invalid JSON: string in single quotes"), "expected double quotes")
                .help("write \"…\" instead of '…'")
        }
        Kind::UnterminatedObject => at(not_json("invalid JSON: unclosed object"), "expected `}` before the end"),
        Kind::UnterminatedArray => at(not_json("invalid JSON: unclosed array"), "expected `]` before the end"),
        Kind::MultipleRootJsonValues => {
            at(not_json(format!("invalid JSON: {found} after the end of the value")), "expected the end of the file")
        }
        Kind::NestingDepthExceeded => at(not_json("nested more than 500 levels deep"), "too deep"),
        Kind::String(kind) => string(kind, text, span.start),
        Kind::HexadecimalNumbersNotAllowed
        | Kind::UnaryPlusNumbersNotAllowed
        | Kind::BareDecimalPointNumbersNotAllowed
        | Kind::NonFiniteNumbersNotAllowed
        | Kind::ExpectedDigit
        | Kind::ExpectedDigitFollowingNegativeSign
        | Kind::ExpectedPlusMinusOrDigitInNumberLiteral => {
            at(not_json(format!("invalid JSON: {found} is not a number")), "expected digits, such as 5, -1 or 0.5")
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken => {
            let problem = at(not_json(format!("invalid JSON: found {found}")), "expected a value");
            match word(text, span.start) {
                "True" => problem.help("write `true`"),
                "False" => problem.help("write `false`"),
                "None" | "nil" | "undefined" => problem.help("write `null`"),
                _ => problem.help("strings must be double-quoted"),
            }
        }
        Kind::UnexpectedCloseBrace
        | Kind::UnexpectedCloseBracket
        | Kind::UnexpectedColon
        | Kind::UnexpectedComma
        | Kind::UnterminatedCommentBlock
        | Kind::Custom(_) => at(not_json(format!("invalid JSON: found {found}")), "expected a value"),
    }
}

fn string(kind: &ParseStringErrorKind, text: &str, at: usize) -> Problem {
    use ParseStringErrorKind as Kind;
    let escape = at..(at + 2).min(text.len());
    let escape = if text.is_char_boundary(escape.end) { escape } else { at..at + 1 };
    match kind {
        Kind::UnterminatedStringLiteral => {
            let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
            not_json("invalid JSON: unclosed string").at(at..end).label("expected `\"` at its end")
        }
        Kind::InvalidUnicodeEscapeSequence(_) | Kind::ExpectedFourHexDigits => {
            not_json("invalid JSON: escape of an invalid character")
                .at(escape)
                .label("expected \\u and four hex digits")
        }
        Kind::InvalidEscape
        | Kind::InvalidEscapeInSingleQuoteString
        | Kind::InvalidEscapeInDoubleQuoteString
        | Kind::ExpectedTwoHexDigits => {
            let shown = quote(&text[escape.clone()]);
            not_json(format!("invalid JSON: unknown escape {shown}"))
                .at(escape)
                .label("expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")
                .help("write a literal backslash, as in a regex, as `\\\\`")
        }
    }
}

/// The first character that JSON does not allow at its position in an otherwise valid text.
fn foreign(text: &str) -> Option<Problem> {
    let mut in_text = false;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => in_text = !in_text,
            '\\' if in_text => drop(chars.next()),
            '\n' | '\r' | '\t' | ' '..='\x7f' if !in_text => {}
            '\x20'.. if in_text => {}
            _ => {
                let message = format!("invalid JSON: unescaped character U+{:04X}", u32::from(char));
                let problem = not_json(message).at(at..at + char.len_utf8());
                return Some(match in_text {
                    true => problem.label("expected an escape, such as \\n or \\t"),
                    false => problem.label("expected a space, or nothing"),
                });
            }
        }
    }
    None
}

/// The word or character at a byte, in back-ticks.
fn found(text: &str, at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default();
    match (word(text, at), rest.chars().next()) {
        ("", None) => "the end of the file".to_owned(),
        ("", Some('"')) => quote(rest[1..].split_inclusive('"').next().map_or(rest, |text| &rest[..text.len() + 1])),
        ("", Some(char)) => quote(&char.to_string()),
        (word, _) => quote(word),
    }
}

fn next_found(text: &str, at: usize) -> String {
    let rest = text.get(at..).unwrap_or_default();
    found(text, at + rest.len() - rest.trim_start().len())
}

fn word(text: &str, at: usize) -> &str {
    let rest = text.get(at..).unwrap_or_default();
    let length =
        rest.find(|char: char| !char.is_alphanumeric() && !matches!(char, '_' | '+' | '-' | '.')).unwrap_or(rest.len());
    &rest[..length]
}

/// The bytes of a string literal in the file that produce these bytes of its content.
///
/// The literal includes its quotes; an escape produces one character from several bytes.
pub(super) fn within_literal(literal: &str, content: Range<usize>) -> Range<usize> {
    let mut made = 0;
    let mut at = 1;
    let mut start = None;
    let bytes = literal.as_bytes();
    while at + 1 < literal.len() {
        if made >= content.start && start.is_none() {
            start = Some(at);
        }
        if made >= content.end {
            break;
        }
        let (read, gives) = match bytes[at] {
            b'\\' if bytes.get(at + 1) == Some(&b'u') => unicode_escape(literal, at),
            b'\\' => (2, 1),
            _ => {
                let width = literal[at..].chars().next().map_or(1, char::len_utf8);
                (width, width)
            }
        };
        at += read;
        made += gives;
    }
    let end = at.min(literal.len());
    start.unwrap_or(end)..end
}

/// The length in bytes of a `\u` escape, and of the character that it stands for.
fn unicode_escape(literal: &str, at: usize) -> (usize, usize) {
    let unit = |at: usize| literal.get(at + 2..at + 6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match unit(at) {
        // The first half of a surrogate pair: the second follows, because parsing succeeded.
        Some(0xd800..=0xdbff) => (12, 4),
        Some(code) => (6, char::from_u32(code).map_or(1, char::len_utf8)),
        None => (6, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        let problem = parse(text).unwrap_err();
        let marked = problem.span.map(|span| text[span].to_owned());
        format!("{} · {:?} · {}", problem.message, marked.unwrap_or_default(), problem.label.unwrap_or_default())
    }

    #[test]
    fn what_is_not_json_says_what_was_expected() {
        for (text, expected) in [
            ("", "the file is empty · \"\" · "),
            (" \n", "the file is empty · \"\" · "),
            ("{\"a\" 1}", "invalid JSON: `1` after a key · \"1\" · expected `:`"),
            ("{\"a\":1 \"b\":2}", "invalid JSON: missing comma before `\"b\"` · \"\" · expected `,` here"),
            ("[1 2]", "invalid JSON: missing comma before `2` · \"\" · expected `,` here"),
            ("[1,]", "invalid JSON: comma after the last element · \",\" · expected no comma"),
            ("{\"a\":}", "invalid JSON: found `}` · \"}\" · expected a value"),
            ("{a:1}", "invalid JSON: `a` in an object · \"a\" · expected a key in double quotes, or `}`"),
            ("{'a':1}", "invalid JSON: string in single quotes · \"'\" · expected double quotes"),
            ("[True]", "invalid JSON: found `True` · \"True\" · expected a value"),
            ("[NaN]", "invalid JSON: found `NaN` · \"NaN\" · expected a value"),
            ("[.5]", "invalid JSON: `.5` is not a number · \".\" · expected digits, such as 5, -1 or 0.5"),
            ("{} x", "invalid JSON: `x` after the end of the value · \"x\" · expected the end of the file"),
            ("{\"a\": [1", "invalid JSON: unclosed array · \"[1\" · expected `]` before the end"),
            ("[\"ab\n", "invalid JSON: unclosed string · \"\\\"ab\" · expected `\"` at its end"),
            (
                "[\"\\d\"]",
                "invalid JSON: unknown escape `\\d` · \"\\\\d\" · expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \
                 \\u",
            ),
            ("[1] // why", "invalid JSON: comment · \"// why\" · expected no comment"),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn control_characters_in_a_text_are_not_json() {
        assert_eq!(
            refusal("[\"a\\\"\tb\"]"),
            "invalid JSON: unescaped character U+0009 · \"\\t\" · expected an escape, such as \\n or \\t"
        );
        assert!(refusal("[1,\u{a0}2]").ends_with("expected a space, or nothing"));
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
        assert!(refusal(&"[".repeat(1_000_000)).starts_with("nested more than 500 levels deep"));
        assert!(parse(&format!("{}{}", "[".repeat(400), "]".repeat(400))).is_ok());
    }

    #[test]
    fn a_place_in_a_text_is_a_place_in_its_literal() {
        let literal = r#""a\n\u00e4\ud83d\ude00\"z""#;
        let content: String = serde_json::from_str(literal).unwrap();
        let marked = |piece: &str| {
            let at = content.find(piece).unwrap();
            &literal[within_literal(literal, at..at + piece.len())]
        };
        assert_eq!(marked("a"), "a");
        assert_eq!(marked("\n"), r"\n");
        assert_eq!(marked("ä"), r"\u00e4");
        assert_eq!(marked("😀\""), r#"\ud83d\ude00\""#);
        assert_eq!(marked("z"), "z");
        assert_eq!(within_literal(literal, content.len()..content.len()), literal.len() - 1..literal.len() - 1);
    }
}
