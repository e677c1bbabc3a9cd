//! Decodes file names to text like Python.

use std::borrow::Cow;

/// The character for the byte `0x80` of a name that is not UTF-8; those for the other bytes follow it.
///
/// Python's `surrogateescape` maps such bytes to the lone surrogates U+DC80 to U+DCFF: one character each, which is in
/// no class of letters, digits or spaces, and which no pattern in a JSON document can name. A Rust string cannot
/// contain surrogates, so the end of the last private-use plane, with the same properties, represents them.
const UNDECODABLE: u32 = 0x10_FF00;

/// The text of a name or path. Every byte that is not part of a UTF-8 character becomes one private-use character.
pub(super) fn decode(name: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(name) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(decode_bytewise(name)),
    }
}

fn decode_bytewise(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len() * 2);
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().copied().map(undecodable));
    }
    text
}

/// The character that represents a byte that is not part of a UTF-8 character.
pub(super) fn undecodable(byte: u8) -> char {
    char::from_u32(UNDECODABLE + u32::from(byte & 0x7f)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_undecodable_byte_is_one_character() {
        assert_eq!(decode(b"ct\xc3\xa9"), "cté");
        assert_eq!(decode(b"\xff.dcm").chars().count(), 5);
        // A truncated character, and a surrogate encoded as UTF-8: three bytes, three characters.
        assert_eq!(decode(b"\xe2\x82").chars().count(), 2);
        assert_eq!(decode(b"\xed\xb2\x80").chars().count(), 3);
    }
}
