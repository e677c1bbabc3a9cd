//! Suggestions for misspelled names and confusable characters, and quoting of what was found.

/// The most characters to quote.
const QUOTED_CHARS: usize = 40;

/// The known name that `name` is probably a misspelling of.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(name);
    let (distance, nearest) = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&folded, &fold(known)), known))
        .min_by_key(|(distance, _)| *distance)?;
    // Up to a third of the letters may be wrong, but at least one has to be right.
    (distance <= nearest.chars().count().max(3) / 3 && distance < folded.chars().count()).then_some(nearest)
}

/// Normalises case, and treats hyphens, underscores and spaces as equal.
fn fold(name: &str) -> String {
    name.chars().take(100).map(|char| if matches!(char, '-' | ' ') { '_' } else { char.to_ascii_lowercase() }).collect()
}

/// Puts a string between back-ticks: truncated if it is long, with invisible characters escaped.
pub fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    for char in text.chars().take(QUOTED_CHARS) {
        if matches!(char, '\'' | '"' | '\\') {
            quoted.push(char);
        } else {
            quoted.extend(char.escape_debug());
        }
    }
    if text.chars().nth(QUOTED_CHARS).is_some() {
        quoted.push('…');
    }
    quoted.push('`');
    quoted
}

/// The zeros of the non-ASCII decimal digits that keyboards and documents offer.
const FOREIGN_ZEROS: [char; 12] = [
    '\u{660}', '\u{6f0}', '\u{966}', '\u{9e6}', '\u{a66}', '\u{ae6}', '\u{be6}', '\u{c66}', '\u{ce6}', '\u{e50}',
    '\u{1040}', '\u{ff10}',
];

/// The ASCII digit with the same value as a decimal digit of another script.
pub(super) fn ascii_digit(char: char) -> Option<char> {
    FOREIGN_ZEROS.iter().find_map(|&zero| {
        let value = u32::from(char).checked_sub(u32::from(zero))?;
        char::from_digit(value, 10)
    })
}

/// The ASCII digit of a superscript.
pub(super) fn superscript_digit(char: char) -> Option<char> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().zip('0'..='9').find_map(|(superscript, digit)| (superscript == char).then_some(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_find_their_name() {
        let modes = ["sum", "max_file_size", "max_item_sum"];
        assert_eq!(nearest("max-file-size", modes), Some("max_file_size"));
        assert_eq!(nearest("max_filesize", modes), Some("max_file_size"));
        assert_eq!(nearest("SUM", modes), Some("sum"));
        assert_eq!(nearest("usm", modes), Some("sum"));
        assert_eq!(nearest("average", modes), None);
        assert_eq!(nearest("", modes), None);
        assert_eq!((nearest("C", ["B"]), nearest("SED", ["SEED"])), (None, Some("SEED")));
    }

    #[test]
    fn quotes_are_short_and_printable() {
        assert_eq!(quote("2 * n"), "`2 * n`");
        assert_eq!(quote("n\n'\u{feff}ä"), "`n\\n'\\u{feff}ä`");
        assert_eq!(quote(&"9".repeat(500)).chars().count(), QUOTED_CHARS + 3);
    }

    #[test]
    fn digits_of_other_scripts_have_their_value() {
        assert_eq!(
            "٣३３²".chars().map(|char| ascii_digit(char).or(superscript_digit(char))).collect::<Option<String>>(),
            Some("3332".to_owned())
        );
        assert_eq!(ascii_digit('7'), None);
        assert_eq!(ascii_digit('x'), None);
    }
}
