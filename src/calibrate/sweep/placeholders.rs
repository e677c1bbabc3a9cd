//! Placeholders in a command that each run fills in: `{input}`, `{output}` and the names of parameters.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The values of the placeholders.
#[derive(Debug)]
pub(super) struct Placeholders<'a> {
    pub(super) input: Option<&'a Path>,
    pub(super) output: &'a Path,
    pub(super) parameters: &'a BTreeMap<String, String>,
}

impl Placeholders<'_> {
    /// Fills in all placeholders of a word. Other braces stay, because they mean something to a shell.
    pub(super) fn fill(&self, word: &OsStr) -> OsString {
        self.fill_with(word, |value, filled| filled.extend_from_slice(value))
    }

    /// Fills in a line for the shell, quoting every value.
    pub(super) fn fill_quoted(&self, line: &str) -> OsString {
        self.fill_with(OsStr::new(line), |value, filled| {
            filled.push(b'\'');
            for byte in value {
                match byte {
                    b'\'' => filled.extend_from_slice(b"'\\''"),
                    byte => filled.push(*byte),
                }
            }
            filled.push(b'\'');
        })
    }

    fn fill_with(&self, word: &OsStr, push: impl Fn(&[u8], &mut Vec<u8>)) -> OsString {
        let mut rest = word.as_bytes();
        let mut filled = Vec::with_capacity(rest.len());
        while let Some(start) = rest.iter().position(|byte| *byte == b'{') {
            let (before, behind) = rest.split_at(start);
            filled.extend_from_slice(before);
            let end = behind.iter().position(|byte| *byte == b'}');
            match end.and_then(|end| Some((end, self.value(&behind[1..end])?))) {
                Some((end, value)) => {
                    push(value, &mut filled);
                    rest = &behind[end + 1..];
                }
                None => {
                    filled.push(b'{');
                    rest = &behind[1..];
                }
            }
        }
        filled.extend_from_slice(rest);
        OsString::from_vec(filled)
    }

    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        match name {
            b"input" => self.input.map(|path| path.as_os_str().as_bytes()),
            b"output" => Some(self.output.as_os_str().as_bytes()),
            name => self.parameters.get(std::str::from_utf8(name).ok()?).map(|value| value.as_bytes()),
        }
    }
}

/// Whether a command has this placeholder.
pub(super) fn has(words: &[OsString], name: &str) -> bool {
    let place = format!("{{{name}}}");
    words.iter().any(|word| word.as_bytes().windows(place.len()).any(|part| part == place.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_places_are_filled_and_others_left_alone() {
        let parameters = BTreeMap::from([("N".to_owned(), "it's 4".to_owned())]);
        let places =
            Placeholders { input: Some(Path::new("/in put")), output: Path::new("/out"), parameters: &parameters };
        let fill = |word: &str| places.fill(OsStr::new(word)).into_string().unwrap();
        assert_eq!(fill("--in={input}/a:{output}"), "--in=/in put/a:/out");
        assert_eq!(fill("{N}{N}{M}{}{input"), "it's 4it's 4{M}{}{input");
        assert_eq!(fill("awk '{print}' {{input}}"), "awk '{print}' {/in put}");
        let quoted = places.fill_quoted("rm {input}; echo {N}").into_string().unwrap();
        assert_eq!(quoted, "rm '/in put'; echo 'it'\\''s 4'");
        assert!(has(&["a{N}".into()], "N") && !has(&["aN".into()], "N"));
    }
}
