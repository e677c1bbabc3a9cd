//! What the annotations of a run say: its task, the sizes of its inputs, and its parameters.
//!
//! | annotation | is |
//! | --- | --- |
//! | `highwater/task` | the name of the task |
//! | `highwater/input.CHANNEL` | the total size of an input, in bytes or as `12Mi` |
//! | `highwater/max_file_size.CHANNEL`, `highwater/max_item_sum.CHANNEL` | its other sizes by the modes of a scale rule |
//! | `highwater/files.CHANNEL`, `highwater/items.CHANNEL` | the number of its files and items |
//! | `highwater/parameter.NAME` | a parameter |

use std::collections::BTreeMap;

use crate::model::observation::InputSizes;
use crate::model::prediction::{Named, Sizes};
use crate::model::scalar::amount;
use crate::model::units::Bytes;

/// What the annotations begin with.
pub(super) const PREFIX: &str = "highwater/";
/// The name of a file or an item whose size is known and whose name is not.
const UNNAMED: &str = "?";
/// The most characters of a value that a message repeats.
const MOST_REPEATED: usize = 40;

/// What the annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) task: Option<String>,
    /// By channel.
    pub(super) inputs: Vec<InputSizes>,
    pub(super) parameters: BTreeMap<String, String>,
    /// What cannot be used: what, where, and what is expected.
    pub(super) problems: Vec<String>,
}

impl Described {
    /// Reads annotations without their prefix.
    pub(super) fn read<'a>(annotations: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut described = Self::default();
        let mut channels: BTreeMap<&str, (Sizes, bool)> = BTreeMap::new();
        for (key, value) in annotations {
            let (kind, name) = key.split_once('.').unwrap_or((key, ""));
            let result = match (kind, name) {
                ("task", "") if !value.is_empty() => {
                    described.task = Some(value.to_owned());
                    Ok(())
                }
                ("task", "") => Err("a name"),
                ("parameter", name) if !name.is_empty() => {
                    described.parameters.insert(name.to_owned(), value.to_owned());
                    Ok(())
                }
                (kind, name) if KINDS.contains(&kind) && !name.is_empty() => {
                    put(channels.entry(name).or_default(), kind, value)
                }
                _ => Err("one of the documented names"),
            };
            if let Err(expected) = result {
                let found: String = value.chars().take(MOST_REPEATED).collect();
                described.problems.push(format!("{PREFIX}{key}: found `{found}`, expected {expected}"));
            }
        }
        for (channel, (sizes, has_sum)) in channels {
            let sum = format!("{PREFIX}input.{channel}: ");
            if has_sum {
                described.inputs.push(InputSizes::new(channel, sizes));
            } else if !described.problems.iter().any(|problem| problem.starts_with(&sum)) {
                described.problems.push(format!("{sum}not found, expected the total size of the input"));
            }
        }
        described
    }
}

const KINDS: [&str; 5] = ["input", "max_file_size", "max_item_sum", "files", "items"];

/// Takes the size of a channel; says what is expected if it is none.
fn put((sizes, has_sum): &mut (Sizes, bool), kind: &str, value: &str) -> Result<(), &'static str> {
    let bytes = || amount(value).map_err(|_| "a size, such as 12345 or 12Mi");
    let number = || value.trim().parse().map_err(|_| "a whole number");
    let named = |bytes: Bytes| Some(Named { path: UNNAMED.to_owned(), bytes });
    match kind {
        "input" => (sizes.sum, *has_sum) = (bytes()?, true),
        "max_file_size" => sizes.largest_file = named(bytes()?),
        "max_item_sum" => sizes.largest_item = named(bytes()?),
        "files" => sizes.files = number()?,
        _ => sizes.items = number()?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Described {
        Described::read(annotations.iter().copied())
    }

    #[test]
    fn task_sizes_and_parameters_are_read() {
        let described = read(&[
            ("input.scans.ct", "12Mi"),
            ("items.scans.ct", "3"),
            ("max_item_sum.scans.ct", "5Mi"),
            ("parameter.level", "high"),
            ("task", "segment"),
        ]);
        assert_eq!((described.task.as_deref(), described.problems.as_slice()), (Some("segment"), [].as_slice()));
        assert_eq!(described.parameters, BTreeMap::from([("level".to_owned(), "high".to_owned())]));
        let [input] = described.inputs.as_slice() else { panic!("{described:?}") };
        assert_eq!((input.channel.as_str(), input.all.sum, input.all.items), ("scans.ct", Bytes(12 << 20), 3));
        assert_eq!(input.all.largest_item.as_ref().map(|item| item.bytes), Some(Bytes(5 << 20)));
    }

    #[test]
    fn what_cannot_be_used_is_named_and_the_rest_is_kept() {
        let described = read(&[
            ("input.a", "1"),
            ("input.b", "12 parsecs"),
            ("input.c", "-1"),
            ("files.a", "1.5"),
            ("files.d", "1"),
            ("input.", "1"),
            ("inputs.a", "1"),
            ("task", ""),
        ]);
        assert_eq!(described.inputs.iter().map(|input| input.channel.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(described.problems.len(), 7, "{:#?}", described.problems);
        let expected = "highwater/input.b: found `12 parsecs`, expected a size, such as 12345 or 12Mi";
        assert!(described.problems.iter().any(|problem| problem == expected), "{:#?}", described.problems);
    }

    #[test]
    fn a_long_value_is_not_repeated_as_a_whole() {
        let problems = read(&[("input.a", &"9".repeat(5000))]).problems;
        assert!(problems[0].len() < 150, "{problems:?}");
    }
}
