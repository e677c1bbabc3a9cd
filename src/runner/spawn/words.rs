//! The strings of a command in one block of memory, as they are passed from process to process.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

/// The purpose of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runner) enum Group {
    /// A path to try for the program.
    Candidates,
    Arguments,
    /// `NAME=VALUE`.
    Environment,
    /// At most one.
    WorkingDirectory,
    /// The list of the CPUs that the process may use, such as `0-3,8`; at most one.
    Cpus,
}

/// Zero-terminated strings, in the order of their groups.
#[derive(Debug, Default)]
pub(in crate::runner) struct Words {
    bytes: Vec<u8>,
    counts: [u32; Self::GROUPS],
}

/// A string contains a zero byte, so it cannot be passed to a program.
#[derive(Debug)]
pub(in crate::runner) struct ZeroByte;

impl Words {
    pub(in crate::runner) const GROUPS: usize = 5;

    /// Appends a string. Groups must be added in order.
    pub(in crate::runner) fn push(&mut self, group: Group, text: &OsStr) -> Result<(), ZeroByte> {
        if text.as_bytes().contains(&0) {
            return Err(ZeroByte);
        }
        debug_assert!(self.counts.iter().skip(group as usize + 1).all(|count| *count == 0), "{group:?}");
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.counts[group as usize] += 1;
        Ok(())
    }

    pub(in crate::runner) fn from_parts(bytes: Vec<u8>, counts: [u32; Self::GROUPS]) -> Self {
        Self { bytes, counts }
    }

    pub(in crate::runner) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::runner) fn counts(&self) -> [u32; Self::GROUPS] {
        self.counts
    }

    /// The strings of each group.
    pub(in crate::runner) fn groups(&self) -> [Vec<&CStr>; Self::GROUPS] {
        let mut rest = self.bytes.split_inclusive(|byte| *byte == 0);
        let mut next = || rest.next().and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok());
        self.counts.map(|count| (0..count).map_while(|_| next()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_in_their_groups() {
        let mut words = Words::default();
        for (group, text) in [
            (Group::Candidates, "/bin/true"),
            (Group::Arguments, "true"),
            (Group::Arguments, ""),
            (Group::WorkingDirectory, "/"),
            (Group::Cpus, "0-3"),
        ] {
            words.push(group, OsStr::new(text)).unwrap();
        }
        let words = Words::from_parts(words.bytes().to_vec(), words.counts());
        let expected: [&[&CStr]; 5] = [&[c"/bin/true"], &[c"true", c""], &[], &[c"/"], &[c"0-3"]];
        assert_eq!(words.groups().each_ref().map(Vec::as_slice), expected);
    }

    #[test]
    fn a_string_with_a_zero_byte_is_refused() {
        assert!(Words::default().push(Group::Arguments, OsStr::new("a\0b")).is_err());
    }
}
