//! Decides whether regexes are disjoint: runs their automata in lockstep, which reach a common match or never do.

use std::collections::HashSet;

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::{Anchored, Input};

/// With more combinations of states than this, the result is undecided.
const MOST_STATES: usize = 20_000;

/// The memory for the states of each automaton.
const CACHE: usize = 4 << 20;

/// Whether no string matches all of the patterns as a whole; `None` if undecided. A pattern with a word boundary next to
/// a character beyond ASCII counts as matching: whether it does depends on which characters are letters.
pub(super) fn are_disjoint(patterns: &[&str]) -> Option<bool> {
    let mut walkers = patterns.iter().map(|pattern| Walker::new(pattern)).collect::<Option<Vec<_>>>()?;
    let bytes = distinct_bytes(&walkers);
    let start = walkers.iter_mut().map(Walker::start).collect::<Option<Vec<_>>>()?;
    let mut seen = HashSet::from([start.clone()]);
    let mut left = vec![start];
    while let Some(states) = left.pop() {
        if Walker::all_end(&mut walkers, &states)? {
            return Some(false);
        }
        for &byte in &bytes {
            let Some(next) = Walker::all_step(&mut walkers, &states, byte)? else { continue };
            if seen.len() == MOST_STATES {
                return None;
            }
            if seen.insert(next.clone()) {
                left.push(next);
            }
        }
    }
    Some(true)
}

/// One byte of each class that no automaton distinguishes.
fn distinct_bytes(walkers: &[Walker]) -> Vec<u8> {
    let differs = |byte: u8| {
        walkers.iter().any(|walker| {
            let classes = walker.automaton.byte_classes();
            classes.get(byte) != classes.get(byte - 1)
        })
    };
    (1..=u8::MAX).filter(|&byte| byte == 1 || differs(byte)).collect()
}

/// The state of an automaton, unless it gave up.
type State = Option<LazyStateID>;

/// A lazily computed automaton.
struct Walker {
    automaton: DFA,
    cache: Cache,
}

impl Walker {
    fn new(pattern: &str) -> Option<Self> {
        // State ids are valid only as long as the cache is not cleared.
        let config = Config::new().cache_capacity(CACHE).minimum_cache_clear_count(Some(0)).unicode_word_boundary(true);
        let automaton = DFA::builder().configure(config).build(&format!(r"\A(?:{pattern})\z")).ok()?;
        let cache = automaton.create_cache();
        Some(Self { automaton, cache })
    }

    fn start(&mut self) -> Option<State> {
        let input = Input::new("").anchored(Anchored::Yes);
        self.automaton.start_state_forward(&mut self.cache, &input).ok().map(Some)
    }

    /// The states after one more byte, that of an automaton that gave up being `None`; the inner `None` if one is dead.
    fn all_step(walkers: &mut [Self], states: &[State], byte: u8) -> Option<Option<Vec<State>>> {
        let mut next = Vec::with_capacity(states.len());
        for (walker, &state) in walkers.iter_mut().zip(states) {
            let Some(state) = state else {
                next.push(None);
                continue;
            };
            let state = walker.automaton.next_state(&mut walker.cache, state, byte).ok()?;
            if state.is_dead() {
                return Some(None);
            }
            next.push((!state.is_quit()).then_some(state));
        }
        Some(Some(next))
    }

    /// Whether all of them match the input so far.
    fn all_end(walkers: &mut [Self], states: &[State]) -> Option<bool> {
        for (walker, &state) in walkers.iter_mut().zip(states) {
            let Some(state) = state else { continue };
            let end = walker.automaton.next_eoi_state(&mut walker.cache, state).ok()?;
            if !end.is_match() {
                return Some(false);
            }
        }
        Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_with_a_common_text_are_not_disjoint() {
        assert_eq!(are_disjoint(&["a*b", ".{3}"]), Some(false));
        assert_eq!(are_disjoint(&["a*", "b*"]), Some(false), "the empty text");
        assert_eq!(are_disjoint(&[r"\w+\.dcm", ".*é.*"]), Some(false));
    }

    #[test]
    fn patterns_without_one_are() {
        assert_eq!(are_disjoint(&["a+", "b+"]), Some(true));
        assert_eq!(are_disjoint(&["a$b"]), Some(true));
        assert_eq!(are_disjoint(&[".*a", ".*b"]), Some(true));
        assert_eq!(are_disjoint(&["(?:aa)+", "a(?:aa)*"]), Some(true));
    }

    #[test]
    fn a_boundary_is_decided_in_ascii_and_matches_beyond_it() {
        assert_eq!(are_disjoint(&[r"a\bb", "ab"]), Some(true));
        assert_eq!(are_disjoint(&[r"a\b-", "a-"]), Some(false));
        assert_eq!(are_disjoint(&[r"é\bb", "éb"]), Some(false));
    }

    #[test]
    fn what_takes_too_long_is_not_known() {
        assert_eq!(are_disjoint(&["[ab]*a[ab]{16}", "[ab]*b[ab]{15}a", "[ab]*c"]), None);
    }
}
