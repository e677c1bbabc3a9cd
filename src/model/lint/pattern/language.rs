//! Decides whether any path matches a regular expression.

use std::collections::HashSet;
use std::convert::Infallible;

use regex_automata::dfa::{Automaton, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ast::{self, ClassSetBinaryOp, ClassSetItem, Visitor};
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Hir, HirKind, Look};

/// No automaton larger than this is built: the answer is undecided then.
const SIZE: usize = 1 << 20;

/// Whether the whole of `regex` can match the path of some file; `None` if undecided.
///
/// The expression is compiled to an automaton that is run on all relative paths at once. Expressions that cannot be
/// compiled (look-around, back-references, syntax that Python has but Rust does not) are undecided, as are those with
/// different meanings in Python and Rust: so `Some(false)` is reliable.
pub(super) fn matches_some_path(regex: &str) -> Option<bool> {
    let ast = ast::parse::Parser::new().parse(regex).ok()?;
    if ast::visit(&ast, SetsInSets::default()).ok()? {
        return None;
    }
    let hir = Translator::new().translate(regex, &ast).ok()?;
    let exact = automaton(&hir)?;
    let without_boundaries = automaton(&replaced(&hir, is_word, Hir::empty()))?;
    reaches_a_match(&exact, &without_boundaries)
}

/// The automaton of all strings that match as a whole; it quits if a Unicode word boundary is next to non-ASCII
/// characters.
fn automaton(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    // In Python `$` also matches before a final newline.
    let hir = replaced(hir, |look| look == Look::End, Hir::look(Look::EndLF));
    let whole = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().nfa_size_limit(Some(SIZE)))
        .build_from_hir(&whole)
        .ok()?;
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .unicode_word_boundary(true)
        .dfa_size_limit(Some(SIZE))
        .determinize_size_limit(Some(SIZE));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

/// The same expression with a replacement for some of its assertions.
fn replaced(hir: &Hir, which: fn(Look) -> bool, by: Hir) -> Hir {
    let inner = |hir: &Hir| replaced(hir, which, by.clone());
    match hir.kind() {
        HirKind::Look(look) if which(*look) => by,
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
        HirKind::Repetition(repetition) => {
            let mut repetition = repetition.clone();
            repetition.sub = Box::new(inner(&repetition.sub));
            Hir::repetition(repetition)
        }
        HirKind::Capture(capture) => inner(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(inner).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(inner).collect()),
    }
}

/// Whether it is `\b` or a similar assertion.
fn is_word(look: Look) -> bool {
    !matches!(look, Look::Start | Look::End | Look::StartLF | Look::EndLF | Look::StartCRLF | Look::EndCRLF)
}

/// Detects nested brackets and set operators: in Rust they have a meaning, in Python they are plain characters.
#[derive(Default)]
struct SetsInSets(bool);

impl Visitor for SetsInSets {
    type Output = bool;
    type Err = Infallible;

    fn finish(self) -> Result<bool, Infallible> {
        Ok(self.0)
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Infallible> {
        self.0 |= matches!(item, ClassSetItem::Bracketed(_) | ClassSetItem::Ascii(_));
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), Infallible> {
        self.0 = true;
        Ok(())
    }
}

/// The state after reading a part of a relative path.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Path {
    /// At the beginning of a name.
    Slash,
    /// In a name that is `.` so far.
    Dot,
    /// In a name that is `..` so far.
    DotDot,
    /// In a name that may end here.
    Name,
}

impl Path {
    /// The state after one more byte; `None` if no path continues like this.
    fn then(self, byte: u8) -> Option<Self> {
        match (byte, self) {
            (0, _) | (b'/', Self::Slash | Self::Dot | Self::DotDot) => None,
            (b'/', Self::Name) => Some(Self::Slash),
            (b'.', Self::Slash) => Some(Self::Dot),
            (b'.', Self::Dot) => Some(Self::DotDot),
            (_, Self::Slash | Self::Dot | Self::DotDot | Self::Name) => Some(Self::Name),
        }
    }
}

/// Visits all states that some path leads to. If the exact automaton quits, the more permissive one continues alone;
/// what it accepts then is undecided.
fn reaches_a_match<A: Automaton>(exact: &A, more: &A) -> Option<bool> {
    let config = start::Config::new().anchored(Anchored::Yes);
    let begin = (exact.start_state(&config).ok(), more.start_state(&config).ok()?, Path::Slash);
    let ends = |dfa: &A, state: StateID| dfa.is_match_state(dfa.next_eoi_state(state));
    let mut seen: HashSet<(Option<StateID>, StateID, Path)> = HashSet::from([begin]);
    let mut open = vec![begin];
    while let Some((state, with_more, path)) = open.pop() {
        if path == Path::Name && ends(more, with_more) {
            match state {
                Some(state) if ends(exact, state) => return Some(true),
                Some(_) => {}
                None => return None,
            }
        }
        for byte in 0..=u8::MAX {
            let Some(path) = path.then(byte) else { continue };
            let with_more = more.next_state(with_more, byte);
            let state = state.map(|state| exact.next_state(state, byte));
            if more.is_dead_state(with_more) || state.is_some_and(|state| exact.is_dead_state(state)) {
                continue;
            }
            let next = (state.filter(|state| !exact.is_quit_state(*state)), with_more, path);
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::matches_some_path;

    #[test]
    fn ordinary_patterns_match_some_path() {
        for regex in
            [".*", "", ".*\\.dcm", "^ct/.*$", "a|b", "\\..*", "(?i).*DCM", "\\w+/\\d{4}", ".", "[^/]+", "x*", "a$|b"]
        {
            // The empty string is not a path.
            assert_eq!(matches_some_path(regex), Some(!regex.is_empty()), "{regex}");
        }
    }

    #[test]
    fn contradictions_match_no_path() {
        let never = [
            ".+^a",
            "a$b",
            "a\\bb",
            "[^\\s\\S]",
            "a[^\\s\\S]|$b",
            "/.*",
            "^/data/.*",
            ".*/",
            "\\./.*",
            "a//b",
            "\\.\\./.*",
            "a\\x00b",
            "(?:a$){2}",
            "\\.",
            "/",
            "x{0}",
            "\\Ba",
            ".*\\.dcm$.",
        ];
        for regex in never {
            // A `.` after `$` is not a newline.
            assert_eq!(matches_some_path(regex), Some(false), "{regex}");
        }
    }

    #[test]
    fn what_cannot_be_decided_stays_open() {
        for regex in ["(?=a)b", "(a)\\1", "[a&&b]", "[a[b]]", "(", "\\Z", "(\\w{1,50}){50}", ".*a\\bb"] {
            assert_eq!(matches_some_path(regex), None, "{regex}");
        }
    }

    #[test]
    fn pythons_dollar_matches_before_a_last_newline() {
        assert_eq!(matches_some_path("a$\\n"), Some(true));
    }
}
