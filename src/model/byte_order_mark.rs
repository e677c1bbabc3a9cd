//! The byte order mark that some editors and spreadsheets put before UTF-8. It is no part of the text.

/// The text without the mark.
pub fn strip(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The bytes of a text without the mark.
pub fn strip_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
