//! Matches a segment of a glob with a name.

use super::super::text;

/// A compiled segment of a glob; common forms are matched without looking at single characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamePattern {
    /// `*`.
    Any,
    /// A name without wildcards.
    Literal(Vec<u8>),
    /// `head*tail`, where either may be empty.
    Around { head: Vec<u8>, tail: Vec<u8> },
    /// Everything else.
    Tokens(Vec<Token>),
}

/// A token of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Character(char),
    /// `?`: any one character.
    One,
    /// `*`: any number of characters.
    Many,
    /// `[…]`: any one character in (or, negated, outside of) the ranges.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl NamePattern {
    pub(super) fn compile(segment: &str) -> Self {
        let tokens = tokens(segment);
        let text = |tokens: &[Token]| -> Option<Vec<u8>> {
            let characters = tokens.iter().map(|token| match token {
                Token::Character(character) => Some(*character),
                Token::One | Token::Many | Token::Class { .. } => None,
            });
            characters.collect::<Option<String>>().map(String::into_bytes)
        };
        let mut around = tokens.splitn(2, |token| *token == Token::Many).map(text);
        match (around.next().flatten(), around.next()) {
            (Some(name), None) => Self::Literal(name),
            (Some(head), Some(Some(tail))) if head.is_empty() && tail.is_empty() => Self::Any,
            (Some(head), Some(Some(tail))) => Self::Around { head, tail },
            (_, Some(None)) | (None, _) => Self::Tokens(tokens),
        }
    }

    #[cfg(test)]
    pub(super) fn is_any(&self) -> bool {
        *self == Self::Any
    }

    /// The equivalent regex.
    pub(super) fn to_regex(&self) -> String {
        let escape = |bytes: &[u8]| regex::escape(&text::decode(bytes));
        match self {
            Self::Any => "[^/]+".to_owned(),
            Self::Literal(literal) => escape(literal),
            Self::Around { head, tail } => format!("{}[^/]*{}", escape(head), escape(tail)),
            Self::Tokens(tokens) => tokens.iter().map(Token::to_regex).collect(),
        }
    }

    /// Whether the whole name matches. Comparing bytes is sufficient: no UTF-8 character begins within another.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(literal) => name == literal,
            Self::Around { head, tail } => {
                name.len() >= head.len() + tail.len() && ends_with(name, tail) && starts_with(name, head)
            }
            Self::Tokens(tokens) => matches_tokens(tokens, &text::decode(name)),
        }
    }
}

/// A loop is faster than a call for a few bytes.
#[inline]
fn ends_with(name: &[u8], tail: &[u8]) -> bool {
    name.iter().rev().zip(tail.iter().rev()).all(|(one, other)| one == other)
}

#[inline]
fn starts_with(name: &[u8], head: &[u8]) -> bool {
    name.iter().zip(head).all(|(one, other)| one == other)
}

/// Matches with a single backtracking point, the last `*`: no name takes more than tokens × characters steps.
fn matches_tokens(tokens: &[Token], name: &str) -> bool {
    let (mut tokens_left, mut name_left) = (tokens, name.chars());
    let mut last_star: Option<(&[Token], std::str::Chars<'_>)> = None;
    loop {
        if let [Token::Many, rest @ ..] = tokens_left {
            last_star = Some((rest, name_left.clone()));
            tokens_left = rest;
            continue;
        }
        match (tokens_left, name_left.next()) {
            ([], None) => return true,
            ([token, rest @ ..], Some(character)) if token.matches(character) => tokens_left = rest,
            // The name is exhausted: a longer `*` would leave even less of it.
            (_, None) => return false,
            (_, Some(_)) => match &mut last_star {
                Some((after, from)) => {
                    from.next();
                    (tokens_left, name_left) = (after, from.clone());
                }
                None => return false,
            },
        }
    }
}

impl Token {
    fn to_regex(&self) -> String {
        match self {
            Self::Character(character) => regex::escape(character.encode_utf8(&mut [0; 4])),
            Self::One => "[^/]".to_owned(),
            Self::Many => "[^/]*".to_owned(),
            Self::Class { negated, ranges } => {
                let code = |character: char| format!(r"\x{{{:X}}}", u32::from(character));
                let members = ranges.iter().filter(|(first, last)| first <= last);
                let members: String = members.map(|&(first, last)| format!("{}-{}", code(first), code(last))).collect();
                match (members.as_str(), negated) {
                    ("", true) => "[^/]".to_owned(),
                    ("", false) => r"[^\s\S]".to_owned(),
                    (members, true) => format!("[^/{members}]"),
                    (members, false) => format!("[{members}]"),
                }
            }
        }
    }

    fn matches(&self, character: char) -> bool {
        match self {
            Self::Character(expected) => character == *expected,
            Self::One => true,
            Self::Many => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(first, last)| (first..=last).contains(&character)) != *negated
            }
        }
    }
}

fn tokens(segment: &str) -> Vec<Token> {
    let characters: Vec<char> = segment.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&character) = characters.get(at) {
        at += 1;
        match character {
            '*' if tokens.last() == Some(&Token::Many) => {}
            '*' => tokens.push(Token::Many),
            '?' => tokens.push(Token::One),
            '[' => match class(&characters[at..]) {
                Some((class, length)) => {
                    tokens.push(class);
                    at += length;
                }
                None => tokens.push(Token::Character('[')),
            },
            _ => tokens.push(Token::Character(character)),
        }
    }
    tokens
}

/// Parses a class after its `[`; also returns the number of characters it takes. `None` if it is not closed.
///
/// As in `fnmatch`: `]` at the beginning is a member, only `!` negates, `-` at either end is a member, and a reversed
/// range is empty.
fn class(characters: &[char]) -> Option<(Token, usize)> {
    let negated = characters.first() == Some(&'!');
    let start = usize::from(negated);
    let end = start + 1 + characters.get(start + 1..)?.iter().position(|&character| character == ']')?;
    let mut members = &characters[start..end];
    let mut ranges = Vec::new();
    while let [first, rest @ ..] = members {
        match rest {
            ['-', last, rest @ ..] => {
                ranges.push((*first, *last));
                members = rest;
            }
            _ => {
                ranges.push((*first, *first));
                members = rest;
            }
        }
    }
    Some((Token::Class { negated, ranges }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: impl AsRef<[u8]>) -> bool {
        NamePattern::compile(pattern).matches(name.as_ref())
    }

    #[test]
    fn common_forms_are_recognised() {
        assert_eq!(NamePattern::compile("*"), NamePattern::Any);
        assert_eq!(NamePattern::compile("a.dcm"), NamePattern::Literal(b"a.dcm".to_vec()));
        assert_eq!(NamePattern::compile("*.dcm"), NamePattern::Around { head: Vec::new(), tail: b".dcm".to_vec() });
        assert_eq!(NamePattern::compile("IM_*"), NamePattern::Around { head: b"IM_".to_vec(), tail: Vec::new() });
        assert!(matches!(NamePattern::compile("a*b*c"), NamePattern::Tokens(_)));
    }

    #[test]
    fn head_and_tail_do_not_overlap() {
        assert!(!matches("aba*aba", "aba"));
        assert!(!matches("aba*aba", "ababa"));
        assert!(matches("aba*aba", "abaaba"));
    }

    #[test]
    fn wildcards_match_characters_not_bytes() {
        assert!(matches("?.dcm", "é.dcm"));
        assert!(!matches("??.dcm", "é.dcm"));
        assert!(matches("?.dcm", b"\xff.dcm"));
        assert!(matches("[!a].dcm", b"\xff.dcm"));
        assert!(matches("*", b"\xff"));
        assert!(matches("[à-ÿ]*", "été"));
        assert!(matches("a?b", "a\nb"));
    }

    #[test]
    fn classes_are_those_of_fnmatch() {
        assert!(matches("[]a]", "]") && matches("[]a]", "a"));
        assert!(matches("[!]a]", "b") && !matches("[!]a]", "]"));
        assert!(matches("[^a]", "^") && matches("[^a]", "a") && !matches("[^a]", "b"));
        assert!(matches("[a-]", "-") && matches("[-a]", "-"));
        assert!(matches("[a-c-e]", "b") && matches("[a-c-e]", "-") && !matches("[a-c-e]", "d"));
        assert!(!matches("[b-a]", "a") && !matches("[b-a]", "b"));
        assert!(matches("[!b-a]", "a"));
        assert!(matches("a[", "a[") && matches("[!", "[!") && matches("[]", "[]"));
        assert!(matches(r"\*", r"\x"));
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(matches(&"a*".repeat(40), "a".repeat(250)));
        assert!(!matches(&format!("{}c", "a*".repeat(40)), "a".repeat(250)));
    }
}
