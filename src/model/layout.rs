//! Lays out text for terminals by the width that it takes there.

use textwrap::core::display_width;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};

/// Wraps text between its words: the first line after `first`, the others after `rest`, no longer than `width` columns
/// unless a word is. Every line ends with a line break.
pub fn wrapped(text: &str, first: &str, rest: &str, width: usize) -> String {
    if text.is_empty() {
        return format!("{}\n", first.trim_end());
    }
    let options = Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    textwrap::wrap(text, options).iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The number of columns that a line takes.
pub fn columns(line: &str) -> usize {
    display_width(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_broken_at_the_width_below_each_other() {
        let text = "not reachable: a-name-that-is-too-long no such file";
        assert_eq!(
            wrapped(text, "engines  ", "         ", 24),
            "engines  not reachable:\n         a-name-that-is-too-long\n         no such file\n"
        );
        assert_eq!(wrapped("", "engines  ", "", 24), "engines\n");
    }

    #[test]
    fn wide_characters_take_two_columns() {
        assert_eq!((columns("é"), columns("肺")), (1, 2));
        assert_eq!(wrapped("肺肺肺 肺肺 a", "", "", 10), "肺肺肺\n肺肺 a\n");
    }
}
