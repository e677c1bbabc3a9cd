//! Unbalanced quotes in tables of delimited values.

use crate::model::problem::Problem;

/// The state of reading a value.
enum State {
    Begin,
    Plain,
    /// After a quote that opened here.
    Quoted(usize),
    /// After a second quote: it closes, or is the first of two that stand for one.
    Closed(usize),
}

/// Reports a quote that is never closed, because it swallows all further rows. A quote is only special at the start of
/// a field.
pub fn unclosed(text: &str, delimiter: u8) -> Option<Problem> {
    let mut state = State::Begin;
    for (offset, byte) in text.bytes().enumerate() {
        state = match (state, byte) {
            (State::Quoted(opened), b'"') => State::Closed(opened),
            (State::Quoted(opened), _) | (State::Closed(opened), b'"') => State::Quoted(opened),
            (State::Begin, b'"') => State::Quoted(offset),
            (_, b'\r' | b'\n') => State::Begin,
            (_, byte) if byte == delimiter => State::Begin,
            (State::Begin | State::Plain | State::Closed(_), _) => State::Plain,
        };
    }
    let State::Quoted(opened) = state else { return None };
    let problem = Problem::error("unclosed-quote", "unclosed quote").at(opened..opened + 1).label("opened here");
    Some(problem.help("close the quote; write a quote inside quotes twice"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_quotes_that_open_a_value_are_to_be_closed() {
        let place = |text| unclosed(text, b',').and_then(|problem| problem.span).map(|span| span.start);
        assert_eq!(["", "a\"b,c\n", "\"a\n\"\"b\",c\n", "\"a\"b\",c\n"].map(place), [None; 4]);
        assert_eq!(["\"", "a,\"b\n1,2\n", "a\n\"\"\"b"].map(place), [Some(0), Some(2), Some(2)]);
    }
}
