//! Diagnoses a string that is not a rule: all problems with their locations, and what to write instead.

use std::ops::Range;

use super::remedy::{SHAPE, remedy};
use super::token::{Piece, Token, tokens};
use crate::model::problem::Problem;
use crate::model::spelling::quote;

/// Longer strings are not analysed.
const LONGEST: usize = 500;

/// All problems of a string that the grammar rejected; at least one, in the order of their location.
pub(super) fn diagnose(text: &str) -> Vec<Problem> {
    if text.trim().is_empty() {
        let problem = Problem::error("rule-empty", "the rule is empty").at(0..text.len());
        return vec![problem.label("expected a power of n").help(format!("{SHAPE}; remove it for no rule"))];
    }
    if text.len() > LONGEST {
        let message = format!("{} is not a rule, and is {} bytes long", quote(text), text.len());
        return vec![Problem::error("rule-too-long", message).at(0..text.len()).help(SHAPE)];
    }
    let tokens = tokens(text);
    let mut problems: Vec<Problem> = shape(&tokens, text.len()).into_iter().collect();
    // Problems inside of a larger one are not reported.
    let misshapen = problems.first().and_then(|problem| problem.span.clone()).unwrap_or(0..0);
    let apart = |token: &&Token<'_>| !(misshapen.start <= token.span.start && token.span.end <= misshapen.end);
    problems.extend(tokens.iter().filter(apart).filter_map(spelling));
    let is_bracket = |token: &&Token<'_>| matches!(token.piece, Piece::Open | Piece::Close);
    problems.extend(extent(tokens.iter().filter(apart).filter(is_bracket)).map(|span| {
        problem("rule-parenthesis", span, "parentheses in a rule", "expected only a coefficient and a power of n")
    }));
    let is_space = |token: &&Token<'_>| token.piece == Piece::Space;
    problems.extend(
        extent(tokens.iter().filter(apart).filter(is_space))
            .map(|span| problem("rule-space", span, "white space in a rule", "expected nothing between its parts")),
    );
    if problems.is_empty() {
        problems.push(Problem::error("rule-invalid", format!("{} is not a scale rule", quote(text))).at(0..text.len()));
    }
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
    advise(&mut problems, &tokens);
    problems
}

/// Adds the remedy to the problem that it is for: that of the shape, else the first.
fn advise(problems: &mut [Problem], tokens: &[Token<'_>]) {
    let misshapen = ["rule-sum", "rule-without-n", "rule-product", "rule-exponent", "rule-unit"];
    let index = problems.iter().position(|problem| misshapen.contains(&problem.code)).unwrap_or(0);
    if let Some(problem) = problems.get_mut(index).filter(|problem| problem.help.is_none()) {
        problem.help = Some(remedy(problem.code, tokens));
    }
}

/// From the first to the last of some tokens.
fn extent<'a>(mut tokens: impl Iterator<Item = &'a Token<'a>>) -> Option<Range<usize>> {
    let first = &tokens.next()?.span;
    Some(first.start..tokens.last().map_or(first.end, |last| last.span.end))
}

fn problem(code: &'static str, span: Range<usize>, message: impl Into<String>, label: &str) -> Problem {
    Problem::error(code, message).at(span).label(label)
}

/// The problem of a single token.
fn spelling(token: &Token<'_>) -> Option<Problem> {
    let found = quote(token.text);
    let at = |code, message: String, label: &str| Some(problem(code, token.span.clone(), message, label));
    match &token.piece {
        Piece::Number(_) => number(token),
        Piece::N if token.text != "n" => at("rule-name", format!("{found} is not `n`"), "expected a lowercase `n`"),
        Piece::Times if token.text != "*" => at("rule-operator", format!("{found} is not `*`"), "expected `*`"),
        Piece::Power if token.text != "**" => at("rule-operator", format!("{found} is not a power"), "expected `**`"),
        Piece::Plus if token.text != "+" => at("rule-operator", format!("{found} is not `+`"), "expected `+`"),
        Piece::Minus if token.text != "-" => at("rule-operator", format!("{found} is not `-`"), "expected `-`"),
        Piece::Superscript(digits) => {
            at("rule-operator", format!("{found} is not a power"), &format!("expected `**{digits}`"))
        }
        Piece::Divide => {
            at("rule-division", "division in a rule".to_owned(), "expected a coefficient before n, such as `.5*`")
        }
        Piece::Name(_) => {
            at("rule-name", format!("unknown name {found} in a rule"), "expected `n`, the size of the channel")
        }
        Piece::Comma | Piece::Other => {
            at("rule-character", format!("unexpected {found} in a rule"), "expected nothing here")
        }
        Piece::N
        | Piece::Times
        | Piece::Power
        | Piece::Plus
        | Piece::Minus
        | Piece::Open
        | Piece::Close
        | Piece::Amount(_)
        | Piece::Space => None,
    }
}

fn number(token: &Token<'_>) -> Option<Problem> {
    let at = |message: String, label| Some(problem("rule-number", token.span.clone(), message, label));
    let found = quote(token.text);
    if !token.text.is_ascii() {
        return at(format!("{found} has digits other than 0 to 9"), "expected ASCII digits");
    }
    if token.text.contains(['e', 'E']) {
        return at(format!("{found} is in exponent notation"), "expected all digits");
    }
    if token.text.contains([',', '_', '\'']) {
        let problem = at(format!("{found} is not a plain number"), "expected digits and at most one `.`")?;
        return Some(match token.text.split_once(',') {
            Some((thousands, rest)) if token.piece == Piece::Number(None) && !rest.contains([',', '.']) => {
                problem.help(format!("write `{thousands}{rest}` or `{thousands}.{rest}`"))
            }
            _ => problem,
        });
    }
    match token.text.matches('.').count() {
        0 => None,
        1 if token.text.ends_with('.') => at(format!("{found} has no digit after its point"), "expected a digit"),
        1 => None,
        _ => at(format!("{found} has more than one point"), "expected digits and at most one `.`"),
    }
}

/// The first token that is not where the pattern allows it.
fn shape(tokens: &[Token<'_>], end: usize) -> Option<Problem> {
    let pieces: Vec<&Token<'_>> = tokens.iter().filter(|token| token.piece != Piece::Space).collect();
    let is = |index: usize, wanted: fn(&Piece<'_>) -> bool| pieces.get(index).is_some_and(|token| wanted(&token.piece));
    let mut at = 0;
    at += usize::from(is(at, |piece| matches!(piece, Piece::Plus | Piece::Minus)));
    at += usize::from(is(at, |piece| matches!(piece, Piece::Number(_))));
    at += usize::from(is(at, |piece| matches!(piece, Piece::Times)));
    if !is(at, |piece| matches!(piece, Piece::N)) {
        return before_n(&pieces, at, end);
    }
    at += 1;
    let mut with_power = true;
    if is(at, |piece| matches!(piece, Piece::Superscript(_))) {
        at += 1;
    } else if is(at, |piece| matches!(piece, Piece::Power)) {
        at += 1;
        if let Some(problem) = exponent(&pieces, at, end) {
            return Some(problem);
        }
        at += 1;
    } else {
        with_power = false;
    }
    after_n(&pieces, at, with_power, end)
}

/// The problem where n is expected.
fn before_n(pieces: &[&Token<'_>], at: usize, end: usize) -> Option<Problem> {
    let has_n = pieces.iter().any(|token| token.piece == Piece::N);
    let is_sign = |token: &&&Token<'_>| matches!(token.piece, Piece::Plus | Piece::Minus);
    let without_n = || Some(problem("rule-without-n", 0..end, "the rule has no n", "expected `n` in it"));
    let sum = || Some(problem("rule-sum", 0..end, "addition or subtraction in a rule", "expected a single power of n"));
    let Some(token) = pieces.get(at) else { return without_n() };
    let before = at.checked_sub(1).and_then(|at| pieces.get(at));
    let span = token.span.clone();
    match &token.piece {
        Piece::Amount(_) if !has_n => without_n(),
        Piece::Amount(_) if pieces[at..].iter().any(|token| is_sign(&token)) => sum(),
        Piece::Amount(quantity) => {
            let help = format!(
                "n and the result are in bytes, and the coefficient is a plain number; put a fixed amount such as \
                 `{quantity}` into resources.limits.memory"
            );
            Some(problem("rule-unit", span, "unit in a coefficient", "expected a plain number").help(help))
        }
        Piece::Number(_) => {
            let start = if before.is_some_and(|before| before.piece == Piece::Times) { 0 } else { span.start };
            let label = "expected a single number";
            Some(problem("rule-product", start..span.end, "more than one coefficient", label))
        }
        Piece::Plus | Piece::Minus if has_n && before.is_some_and(|before| !is_sign(&before)) => sum(),
        Piece::Plus | Piece::Minus => {
            Some(problem("rule-sign", span, "more than one sign", "expected a number or `n`"))
        }
        Piece::Times => Some(problem("rule-operator", span, "one `*` too many", "expected `n`")),
        Piece::Power | Piece::Superscript(_) => {
            Some(problem("rule-power", span, "power of something other than n", "expected `n` before it"))
        }
        Piece::N
        | Piece::Divide
        | Piece::Open
        | Piece::Close
        | Piece::Comma
        | Piece::Name(_)
        | Piece::Space
        | Piece::Other => None,
    }
}

/// The problem where the exponent is expected.
fn exponent(pieces: &[&Token<'_>], at: usize, end: usize) -> Option<Problem> {
    let exponent = |span, message| Some(problem("rule-exponent", span, message, "expected digits, such as `2`"));
    let Some(token) = pieces.get(at) else {
        let power = pieces.last().map_or(end, |power| power.span.start);
        return exponent(power..end, "the exponent is missing");
    };
    let span = token.span.clone();
    match &token.piece {
        Piece::Number(_) if token.text.contains(['.', ',']) => exponent(span, "the exponent is not an integer"),
        Piece::Number(_) => None,
        Piece::Minus | Piece::Plus => exponent(span, "sign in an exponent"),
        Piece::N
        | Piece::Times
        | Piece::Power
        | Piece::Superscript(_)
        | Piece::Divide
        | Piece::Open
        | Piece::Close
        | Piece::Comma
        | Piece::Amount(_)
        | Piece::Name(_)
        | Piece::Space
        | Piece::Other => exponent(span, "the exponent is not a number"),
    }
}

/// The problem after a complete rule.
fn after_n(pieces: &[&Token<'_>], at: usize, with_power: bool, end: usize) -> Option<Problem> {
    let (rule, token) = (pieces.get(at.checked_sub(1)?)?, pieces.get(at)?);
    let behind = rule.span.end..end;
    let factor = pieces.get(at + 1).map(|token| &token.piece);
    let product = |message, label| Some(problem("rule-product", behind.clone(), message, label));
    match (&token.piece, factor) {
        (Piece::Plus | Piece::Minus, _) => {
            let label = "expected the end of the rule";
            Some(problem("rule-sum", behind, "addition or subtraction in a rule", label))
        }
        (Piece::Times, Some(Piece::N)) | (Piece::N, _) => {
            product("more than one n", "expected `**` and an exponent for a power of n")
        }
        (Piece::Times, Some(Piece::Number(_) | Piece::Amount(_))) => {
            product("the coefficient is after n", "expected it before the `n`")
        }
        (Piece::Times, Some(Piece::Open | Piece::Name(_))) => {
            product("more than one power of n", "expected the end of the rule")
        }
        (Piece::Times, _) => {
            let label = "expected the end of the rule";
            Some(problem("rule-operator", token.span.clone(), "one `*` too many", label))
        }
        (Piece::Number(_), _) if !with_power => {
            let label = "expected `**` before an exponent, or the coefficient before the `n`";
            Some(problem("rule-number-behind-n", token.span.clone(), "number directly after n", label))
        }
        (Piece::Number(_) | Piece::Amount(_) | Piece::Power | Piece::Superscript(_), _) => {
            product("unexpected text after the rule", "expected the end of the rule")
        }
        (
            Piece::Divide | Piece::Open | Piece::Close | Piece::Comma | Piece::Name(_) | Piece::Space | Piece::Other,
            _,
        ) => None,
    }
}
