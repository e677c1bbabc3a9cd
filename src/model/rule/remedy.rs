//! Suggests what to write instead of a string that is not a rule.

use super::intent::{Intent, intent};
use super::parse;
use super::token::{Piece, Token};

/// The remedy if there is no better one.
pub(super) const SHAPE: &str = "a rule is a coefficient and a power of n, such as `n`, `2*n` or `1.5*n**2`";

/// The remedy for a problem with this code.
pub(super) fn remedy(code: &str, tokens: &[Token<'_>]) -> String {
    if let Some(rule) = respelled(tokens, "") {
        return format!("write `{rule}` instead");
    }
    if code == "rule-number-behind-n" {
        return "write `2*n` for a multiple or `n**2` for a power".to_owned();
    }
    if code == "rule-without-n"
        && tokens.iter().any(|token| matches!(token.piece, Piece::Number(_)))
        && let Some(rule) = respelled(tokens, "*n").or_else(|| respelled(tokens, "n"))
    {
        return format!(
            "write `{rule}` for a multiple of the input, or put a fixed amount into resources.limits.memory"
        );
    }
    if let Some(remedy) = intent(tokens).and_then(rewritten) {
        return remedy;
    }
    if tokens.iter().any(|token| matches!(token.piece, Piece::Name("log" | "ln" | "sqrt" | "exp" | "pow"))) {
        return "exponents must be integers: use the next larger one, with a measured coefficient".to_owned();
    }
    SHAPE.to_owned()
}

/// The text with every operator spelled correctly and nothing between the parts, if that is a rule.
fn respelled(tokens: &[Token<'_>], ending: &str) -> Option<String> {
    let mut rule = String::new();
    let mut after_number = false;
    for token in tokens {
        let spelling = match &token.piece {
            Piece::Space => continue,
            // Two adjacent numbers are not one.
            Piece::Number(_) if after_number => return None,
            Piece::Number(_) => token.text,
            Piece::N => "n",
            Piece::Times => "*",
            Piece::Power => "**",
            Piece::Plus => "+",
            Piece::Minus => "-",
            Piece::Superscript(digits) => {
                rule.push_str("**");
                digits
            }
            Piece::Other if token.text.chars().all(is_stray) => "",
            Piece::Other
            | Piece::Divide
            | Piece::Open
            | Piece::Close
            | Piece::Comma
            | Piece::Amount(_)
            | Piece::Name(_) => return None,
        };
        rule.push_str(spelling);
        after_number = matches!(token.piece, Piece::Number(_));
    }
    rule.push_str(ending);
    let rule = rule.replace("***", "**").replace("**+", "**");
    parse::power(&rule).map(|_| rule)
}

/// Whether a character is there by accident: delimiters and terminators of other languages, and invisible ones.
fn is_stray(char: char) -> bool {
    matches!(char, '"' | '\'' | '`' | ';' | '$' | '=' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}')
        || char.is_control()
}

/// The equivalent rule, as far as there is one, and where the rest of it belongs.
fn rewritten(intent: Intent) -> Option<String> {
    const TAKEN: &str = "the task gets the larger of the two, not the sum";
    let valid = |rule: Option<String>| rule.filter(|rule| parse::power(rule).is_some());
    let (rule, largest) = (valid(intent.rule), valid(intent.largest));
    match (rule, largest, intent.floor) {
        (Some(rule), _, Some(floor)) => {
            Some(format!("write `{rule}` instead and put `{floor}` into resources.limits.memory: {TAKEN}"))
        }
        (Some(rule), _, None) if intent.steeper => {
            Some(format!("write `{rule}` instead, which is never less, or a lower power with a larger coefficient"))
        }
        (Some(rule), _, None) if intent.rounded => Some(format!("write `{rule}` instead, which is rounded up")),
        (Some(rule), _, None) => Some(format!("write `{rule}` instead")),
        (None, Some(largest), _) => {
            Some(format!("keep the fastest-growing power, `{largest}`, with a coefficient that covers the others"))
        }
        (None, None, Some(floor)) => Some(format!(
            "put a fixed amount such as `{floor}` into resources.limits.memory and remove the rule; write a multiple \
             of the input as `2*n`"
        )),
        (None, None, None) => None,
    }
}
