//! Messages on stderr, and what the terminal is like.

use std::io::{self, IsTerminal, Write};

use highwater::model::{escape, layout};

/// Prints a message on stderr, wrapped between words to the width of a terminal. Errors are ignored: there is nowhere to
/// report them.
pub(crate) fn say(text: &str) {
    let text = escape::lines(text);
    match terminal_behind_stderr() {
        Some(width) => say_styled(&text.split('\n').map(|line| fitting(line, width)).collect::<Vec<_>>().join("\n")),
        None => say_styled(&text),
    }
}

/// Wraps a line that is too long. One that begins with blanks is part of something laid out, or a command to copy.
fn fitting(line: &str, width: usize) -> String {
    if line.starts_with(' ') || layout::columns(line) <= width {
        return line.to_owned();
    }
    layout::wrapped(line, "", "  ", width).trim_end().to_owned()
}

/// Prints lines on stderr as they are, such as those of a difference.
pub(crate) fn say_lines(text: &str) {
    say_styled(&escape::lines(text));
}

/// Prints a styled message, in which names have already been escaped.
pub(crate) fn say_styled(text: &str) {
    let text = escape::without_commands(text.trim_end_matches('\n'));
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The width of the terminal on stderr; 100 if it is not a terminal, so that files look the same everywhere.
pub(crate) fn width_of_stderr() -> usize {
    terminal_behind_stderr().unwrap_or(100)
}

/// The width of the terminal on stderr, or `None` if it is not a terminal.
pub(crate) fn terminal_behind_stderr() -> Option<usize> {
    terminal_size::terminal_size_of(io::stderr()).map(|(width, _)| usize::from(width.0).max(40))
}

/// The width of the terminal on stdout, or `None` if it is not a terminal.
pub(crate) fn width_of_stdout() -> Option<u16> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.max(40))
}

/// Whether stderr shows colours: it is a terminal, and `NO_COLOR` is unset or empty.
pub(crate) fn has_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|asked| asked.is_empty())
}
