//! The identity of cells, independent of when and where they are run.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::model::observation::RunnerKind;
use crate::model::task::TaskDigest;
use crate::model::units::Bytes;

/// Digits of a key: 64 bits, enough for a directory of records and short enough to type.
const DIGITS: usize = 16;

/// What all cells of a plan share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The digest of the task's behaviour.
    pub task: TaskDigest,
    /// The digest of the image's configuration, if it runs in a container.
    pub image_id: Option<String>,
    /// Further conditions.
    pub conditions: Conditions,
}

/// Conditions that affect a peak beside task, input and parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// How the task is run.
    pub runner: RunnerKind,
    /// The memory limit.
    pub limit: Option<Bytes>,
    /// What is done to the page cache before a run, if anything: its name on the command line.
    pub cache: Option<String>,
    /// How the task may use its input, if not only for reading: its name on the command line.
    pub input_access: Option<String>,
    /// The options of the container, if it has other resources than the engine gives by itself.
    pub options: Vec<String>,
}

impl Identity {
    /// The key of the cell with the case of this name, these inputs (a channel and the digest of its contents each) and
    /// these parameters.
    pub fn key(&self, case: &str, inputs: &[(&str, &str)], parameters: &BTreeMap<String, String>) -> String {
        self.digest("highwater cell 2", Some(case), inputs, parameters)
    }

    /// The key of a cell by the former definition, when only names and sizes of its files counted: each input is a
    /// channel and the digest of its listing. Existing plans and records keep it for ever.
    pub fn older_key(&self, inputs: &[(&str, &str)], parameters: &BTreeMap<String, String>) -> String {
        self.digest("highwater cell 1", None, inputs, parameters)
    }

    fn digest(
        &self,
        version: &str,
        case: Option<&str>,
        inputs: &[(&str, &str)],
        parameters: &BTreeMap<String, String>,
    ) -> String {
        let Conditions { runner, limit, cache, input_access, options } = &self.conditions;
        let mut conditions = vec![json!(runner), json!(limit), json!(cache)];
        // Older keys do not include these.
        conditions.extend(input_access.as_ref().map(|access| json!({"input_access": access})));
        conditions.extend((!options.is_empty()).then(|| json!({"options": options})));
        let inputs: Vec<Value> = inputs.iter().map(|(channel, digest)| json!([channel, digest])).collect();
        let mut what = vec![
            json!(version),
            json!(self.task),
            json!(self.image_id),
            json!(inputs),
            json!(parameters),
            json!(conditions),
        ];
        what.extend(case.map(|case| json!(case)));
        digits(Value::from(what).to_string().as_bytes(), DIGITS)
    }
}

/// The digest of the files of an input: their relative paths and sizes, in any order. Their contents are not read.
pub fn digest_of_listing<'a>(files: impl IntoIterator<Item = (&'a [u8], Bytes)>) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    let mut hash = Sha256::new();
    for (path, size) in files {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        hash.update(size.0.to_le_bytes());
    }
    hexadecimal(&hash.finalize(), 32)
}

/// The digest of the files of an input: their relative paths, their sizes and the digests of their contents, in any
/// order.
pub fn digest_of_contents<'a>(files: impl IntoIterator<Item = (&'a [u8], Bytes, &'a [u8])>) -> String {
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_unstable();
    let mut hash = Sha256::new();
    for (path, size, content) in files {
        for part in [path, &size.0.to_le_bytes(), content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hexadecimal(&hash.finalize(), 32)
}

fn digits(text: &[u8], count: usize) -> String {
    hexadecimal(&Sha256::digest(text), count)
}

fn hexadecimal(bytes: &[u8], count: usize) -> String {
    bytes.iter().take(count / 2).fold(String::with_capacity(count), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::Task;

    fn identity() -> Identity {
        Identity {
            task: Task::bare(vec!["sort".to_owned()]).digest(),
            image_id: None,
            conditions: Conditions {
                runner: RunnerKind::Process,
                limit: None,
                cache: None,
                input_access: None,
                options: Vec::new(),
            },
        }
    }

    #[test]
    fn the_key_is_the_same_for_ever() {
        let parameters = BTreeMap::from([("THREADS".to_owned(), "2".to_owned())]);
        assert_eq!(identity().older_key(&[("input", "abc")], &parameters), "0d026d2efd21fa48");
        assert_eq!(identity().key("a", &[("input", "abc")], &parameters), "a9eadc0203abd15f");
    }

    #[test]
    fn everything_that_a_peak_depends_on_is_in_the_key() {
        let plain = identity().key("", &[], &BTreeMap::new());
        let mut other = identity();
        other.conditions.limit = Some(Bytes::mib(64));
        assert_ne!(other.key("", &[], &BTreeMap::new()), plain);
        let mut other = identity();
        other.image_id = Some("sha256:1".to_owned());
        assert_ne!(other.key("", &[], &BTreeMap::new()), plain);
        let mut other = identity();
        other.conditions.options = vec!["--cpus=2".to_owned()];
        assert_ne!(other.key("", &[], &BTreeMap::new()), plain);
        assert_ne!(identity().key("", &[("a", "")], &BTreeMap::new()), plain);
        assert_ne!(identity().key("a", &[], &BTreeMap::new()), plain);
    }

    #[test]
    fn a_listing_is_told_apart_by_names_and_sizes_and_not_by_order() {
        let digest =
            |files: &[(&str, u64)]| digest_of_listing(files.iter().map(|(name, size)| (name.as_bytes(), Bytes(*size))));
        assert_eq!(digest(&[("a", 1), ("b", 2)]), digest(&[("b", 2), ("a", 1)]));
        assert_ne!(digest(&[("a", 1), ("b", 2)]), digest(&[("a", 2), ("b", 1)]));
        assert_ne!(digest(&[("ab", 1)]), digest(&[("a", 1)]));
    }
}
