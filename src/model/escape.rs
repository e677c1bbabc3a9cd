//! Escapes untrusted text for display: names of tasks, cases, files, channels and parameters may contain anything.
//!
//! | context | risk | function |
//! | --- | --- | --- |
//! | terminals, logs | control characters move the cursor, hide text, change titles | [`printable`], [`lines`] |
//! | logs of GitHub Actions | a line that begins with `::` or contains `##[` is a command | [`lines`], [`json`], [`csv_cell`] |
//! | commands of GitHub Actions | line ends, `:` and `,` end a message or a property | [`workflow_message`], [`workflow_property`] |
//! | Markdown | tables, links, HTML | [`markdown`] |
//! | HTML, SVG, XML | tags and attributes | [`html`] |
//! | OpenMetrics | quotes end a label | [`label`] |
//! | CSV | spreadsheets evaluate cells that begin with `=`, `+`, `-` or `@` | [`csv_cell`], undone by [`csv_text`] |

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

/// Whether a character has an effect instead of being visible: control characters, those that change the direction of
/// text, and noncharacters.
pub fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(char, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}')
}

/// A string on one line, with unsafe characters escaped, such as `\u{1b}`.
pub fn printable(text: &str) -> String {
    spelled(text, is_unsafe).replace("##[", "#\\u{23}[")
}

/// A string of several lines, with unsafe characters escaped; none of its lines is a command of a CI system.
pub fn lines(text: &str) -> String {
    without_commands(&spelled(text, |char| is_unsafe(char) && !matches!(char, '\n' | '\t')))
}

/// The same string with `:` and `#` escaped if GitHub Actions would interpret a line as a command.
pub fn without_commands(text: &str) -> String {
    let text = text.replace("##[", "#\\u{23}[");
    if !text.contains("::") {
        return text;
    }
    let defused = |line: &str| {
        let start = line.len() - line.trim_start().len();
        match line[start..].strip_prefix("::") {
            Some(rest) => format!("{}\\u{{3a}}:{rest}", &line[..start]),
            None => line.to_owned(),
        }
    };
    text.split('\n').map(defused).collect::<Vec<_>>().join("\n")
}

fn spelled(text: &str, is_unsafe: impl Fn(char) -> bool) -> String {
    let mut spelled = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unsafe(char) { spelled.extend(char.escape_default()) } else { spelled.push(char) }
    }
    spelled
}

/// JSON text with unsafe characters escaped: the same value.
pub fn json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for char in json.replace("##[", "#\\u0023[").chars() {
        if is_unsafe(char) && char != '\n' {
            let mut units = [0; 2];
            char.encode_utf16(&mut units).iter().for_each(|unit| {
                let _ = write!(safe, "\\u{unit:04x}");
            });
        } else {
            safe.push(char);
        }
    }
    safe
}

/// Writes JSON that a serializer produces piece by piece, with unsafe characters escaped like [`json()`]. `flush`
/// writes the last line.
#[derive(Debug)]
pub struct JsonWriter<W> {
    out: W,
    line: Vec<u8>,
}

impl<W: io::Write> JsonWriter<W> {
    /// Writes to `out`.
    pub const fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }

    fn write_line(&mut self) -> io::Result<()> {
        // Serializers never break a line within a string.
        let line =
            std::str::from_utf8(&self.line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.out.write_all(json(line).as_bytes())?;
        self.line.clear();
        Ok(())
    }
}

impl<W: io::Write> io::Write for JsonWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.line.extend_from_slice(&bytes[..=end]);
                self.write_line()?;
                Ok(end + 1)
            }
            None => {
                self.line.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_line()?;
        self.out.flush()
    }
}

/// A string on one line that stays plain text in Markdown, also in a table cell.
pub fn markdown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\r' | '\t' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '@' => safe.extend(['\\', char]),
            _ if is_unsafe(char) => {
                safe.push('\\');
                safe.extend(char.escape_default());
            }
            _ => safe.push(char),
        }
    }
    safe
}

/// A string that stays plain text in content and attributes of HTML and XML; line breaks and tabs are kept.
pub fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(char),
            _ if is_unsafe(char) => safe.extend(char.escape_default()),
            _ => safe.push(char),
        }
    }
    safe.replace("##[", "#&#35;[")
}

/// The message of a command of GitHub Actions; its line breaks are preserved.
pub fn workflow_message(text: &str) -> String {
    text.replace('%', "%25").split('\n').map(printable).collect::<Vec<_>>().join("%0A")
}

/// A property of a command of GitHub Actions, such as its title.
pub fn workflow_property(text: &str) -> String {
    workflow_message(text).replace(':', "%3A").replace(',', "%2C")
}

/// The value of a label in OpenMetrics.
pub fn label(text: &str) -> String {
    let escaped = |line: &str| printable(line).replace('\\', "\\\\").replace('"', "\\\"");
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\\n")
}

/// Characters that make spreadsheets evaluate a cell.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// A CSV cell that spreadsheets do not evaluate and terminals do not interpret: prefixed by `'` if it looks like a
/// formula, unless it is a number; a JSON string if it contains control characters or a command of a CI system.
/// [`csv_text`] undoes it.
pub fn csv_cell(text: &str) -> Cow<'_, str> {
    let is_command = text.trim_start().starts_with("::") || text.contains("##[");
    if is_command || text.contains(is_unsafe) || as_json_string(text).is_some() {
        // A string always has a JSON form.
        return Cow::Owned(json(&serde_json::to_string(text).unwrap_or_default()));
    }
    if is_guarded(text) && !text.parse().is_ok_and(f64::is_finite) {
        return Cow::Owned(format!("'{text}"));
    }
    Cow::Borrowed(text)
}

/// Undoes [`csv_cell`].
pub fn csv_text(cell: &str) -> Cow<'_, str> {
    match (as_json_string(cell), cell.strip_prefix('\'')) {
        (Some(text), _) => Cow::Owned(text),
        (None, Some(text)) if is_guarded(text) => Cow::Borrowed(text),
        (None, _) => Cow::Borrowed(cell),
    }
}

/// Whether a string looks like a formula, perhaps after quotes, one of which [`csv_text`] would remove.
fn is_guarded(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(FORMULA)
}

fn as_json_string(text: &str) -> Option<String> {
    text.starts_with('"').then(|| serde_json::from_str(text).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_something_to_a_terminal_is_spelled_out() {
        assert_eq!(printable("a\u{1b}[31m\tb\u{202e}\u{9b}ü"), r"a\u{1b}[31m\tb\u{202e}\u{9b}ü");
        assert_eq!(lines("a\n\tb\r\u{7}"), "a\n\tb\\r\\u{7}");
    }

    #[test]
    fn no_line_is_a_command_of_github_actions() {
        let text = "::error::a\n  ::warning::b\n a ::notice::c\n##[error]d";
        assert_eq!(lines(text), "\\u{3a}:error::a\n  \\u{3a}:warning::b\n a ::notice::c\n#\\u{23}[error]d");
        assert_eq!(workflow_property("50%: a,\nb\u{1b}"), "50%25%3A a%2C%0Ab\\u{1b}");
    }

    #[test]
    fn formulas_are_guarded_and_numbers_are_not() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("@a", "'@a"),
            ("-x", "'-x"),
            ("-1.5", "-1.5"),
            ("'=1", "''=1"),
            ("'a", "'a"),
            ("a=1", "a=1"),
            ("\t=1", r#""\t=1""#),
            ("a\u{1b}", r#""a\u001b""#),
            ("::error::a", r#""::error::a""#),
            ("\"a\"", r#""\"a\"""#),
        ] {
            assert_eq!(csv_cell(text), cell);
            assert_eq!(csv_text(cell), text);
        }
    }

    /// Strings in which characters with a special meaning are frequent.
    fn hostile() -> impl Strategy<Value = String> {
        let char = prop_oneof![
            prop::sample::select(
                "=+-@'\":#[]\\,|<>&\n\r\t\u{1b}\u{7f}\u{9b}\u{202e}\u{2028} 1a".chars().collect::<Vec<_>>()
            ),
            any::<char>(),
        ];
        prop::collection::vec(char, 0..12).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_cell_gives_its_text_back_and_is_no_formula(text in hostile()) {
            let cell = csv_cell(&text);
            prop_assert!(!cell.contains(is_unsafe));
            prop_assert!(!cell.starts_with(FORMULA) || cell.parse::<f64>().is_ok());
            let back = csv_text(&cell).into_owned();
            prop_assert_eq!(back, text);
        }

        #[test]
        fn json_stays_the_same_value(text in hostile()) {
            let safe = json(&serde_json::to_string_pretty(&[&text]).unwrap());
            prop_assert!(!safe.contains(|char| is_unsafe(char) && char != '\n') && !safe.contains("##["));
            prop_assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [text]);
        }

        #[test]
        fn nothing_unsafe_is_left(text in hostile()) {
            for safe in [printable(&text), markdown(&text), label(&text), workflow_message(&text)] {
                prop_assert!(!safe.contains(is_unsafe), "{:?}", safe);
            }
            let page = html(&text);
            prop_assert!(!page.contains(['<', '>', '"', '\'']), "{:?}", page);
            prop_assert!(!page.contains(|char| is_unsafe(char) && !matches!(char, '\n' | '\t')), "{:?}", page);
        }
    }
}
