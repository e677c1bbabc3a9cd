//! The byte order mark that some editors and spreadsheets put before UTF-8. It is not part of the text.

/// Strips the mark from a string.
pub fn strip(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Strips the mark from bytes.
pub fn strip_bytes(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}
