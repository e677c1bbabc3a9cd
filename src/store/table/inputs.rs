//! The columns of channels: the sizes that a scale rule can count.
//!
//! | column | contains |
//! | --- | --- |
//! | `input_bytes.CHANNEL.sum`, `.max_file_size`, `.max_item_sum` | the sizes by the modes of a scale rule |
//! | `input_files.CHANNEL`, `input_items.CHANNEL` | the number of files and items |
//! | `input_largest_file.CHANNEL`, `input_largest_item.CHANNEL` | the largest file and the largest item |
//! | `extension_bytes.CHANNEL[*.EXT].sum`, `extension_files.CHANNEL[*.EXT]`, … | the same for the files with one extension |
//!
//! In channel names, `%` is written as `%25` and `[` as `%5B`.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::escape::csv_text;
use crate::model::observation::InputSizes;
use crate::model::prediction::{Named, Sizes};
use crate::model::units::Bytes;

/// The name of a file that has a size but no name.
pub(super) const UNNAMED: &str = "?";

/// A column of a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Column {
    channel: String,
    extension: Option<String>,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Sum,
    LargestFileBytes,
    LargestItemBytes,
    Files,
    Items,
    LargestFile,
    LargestItem,
}

const PARTS: [(Part, &str, &str); 7] = [
    (Part::Sum, "bytes.", ".sum"),
    (Part::LargestFileBytes, "bytes.", ".max_file_size"),
    (Part::LargestItemBytes, "bytes.", ".max_item_sum"),
    (Part::Files, "files.", ""),
    (Part::Items, "items.", ""),
    (Part::LargestFile, "largest_file.", ""),
    (Part::LargestItem, "largest_item.", ""),
];

/// The channels and extensions of records; channels in order of appearance.
#[derive(Default)]
pub(super) struct Channels(Vec<(String, BTreeSet<String>)>);

impl Channels {
    pub(super) fn add<'a>(&mut self, channel: &str, extensions: impl Iterator<Item = &'a str>) {
        let known = self.0.iter().position(|(name, _)| *name == channel);
        let place = known.unwrap_or_else(|| {
            self.0.push((channel.to_owned(), BTreeSet::new()));
            self.0.len() - 1
        });
        for extension in extensions {
            if !self.0[place].1.contains(extension) {
                self.0[place].1.insert(extension.to_owned());
            }
        }
    }

    /// The columns of each channel, followed by those of its extensions in alphabetical order.
    pub(super) fn columns(self) -> Vec<Column> {
        let groups = self.0.into_iter().flat_map(|(channel, extensions)| {
            let each = std::iter::once(None).chain(extensions.into_iter().map(Some));
            each.map(|extension| (channel.clone(), extension)).collect::<Vec<_>>()
        });
        let column = |(channel, extension): (String, Option<String>)| {
            PARTS.map(|(part, _, _)| Column { channel: channel.clone(), extension: extension.clone(), part })
        };
        groups.flat_map(column).collect()
    }
}

impl Column {
    pub(super) fn name(&self) -> String {
        let (kind, mode) =
            PARTS.iter().find(|(part, ..)| *part == self.part).map_or(("", ""), |(_, kind, mode)| (kind, mode));
        let channel = self.channel.replace('%', "%25").replace('[', "%5B");
        match &self.extension {
            None => format!("input_{kind}{channel}{mode}"),
            Some(extension) => format!("extension_{kind}{channel}[*.{extension}]{mode}"),
        }
    }

    /// Parses the name of a column; `None` if it is not the column of a channel.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (rest, extended) = match (name.strip_prefix("input_"), name.strip_prefix("extension_")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return None,
        };
        let (part, inner) = PARTS.iter().find_map(|(part, kind, mode)| {
            Some((*part, rest.strip_prefix(kind)?.strip_suffix(mode)?)).filter(|(_, inner)| !inner.is_empty())
        })?;
        let (channel, extension) = match extended {
            false => (inner, None),
            true => {
                inner.strip_suffix(']')?.split_once("[*.").map(|(channel, rest)| (channel, Some(rest.to_owned())))?
            }
        };
        Some(Self { channel: channel.replace("%5B", "[").replace("%25", "%"), extension, part })
    }

    pub(super) fn cell(&self, inputs: &[InputSizes]) -> String {
        let channel = inputs.iter().find(|input| input.channel == self.channel);
        let sizes = channel.and_then(|channel| match &self.extension {
            None => Some(&channel.all),
            Some(extension) => channel.by_extension.get(extension),
        });
        let Some(sizes) = sizes else { return String::new() };
        let bytes = |named: &Option<Named>| named.as_ref().map_or(Bytes::ZERO, |named| named.bytes).0.to_string();
        let path = |named: &Option<Named>| named.as_ref().map(|named| named.path.clone()).unwrap_or_default();
        match self.part {
            Part::Sum => sizes.sum.0.to_string(),
            Part::LargestFileBytes => bytes(&sizes.largest_file),
            Part::LargestItemBytes => bytes(&sizes.largest_item),
            Part::Files => sizes.files.to_string(),
            Part::Items => sizes.items.to_string(),
            Part::LargestFile => path(&sizes.largest_file),
            Part::LargestItem => path(&sizes.largest_item),
        }
    }
}

/// The inputs of a row being read, in the order of the columns.
#[derive(Default)]
pub(super) struct Row {
    inputs: Vec<InputSizes>,
    /// The names of the largest file and item, which come after their sizes.
    sizes: Vec<(Column, Bytes)>,
}

impl Row {
    /// Adds the value of a cell.
    ///
    /// # Errors
    /// The value is invalid; the error says what was expected.
    pub(super) fn put(&mut self, column: &Column, cell: &str) -> Result<(), String> {
        if cell.is_empty() {
            return Ok(());
        }
        let number = || cell.trim().parse::<u64>().map_err(|_| "an integer".to_owned());
        match column.part {
            Part::Sum => self.sizes_mut(column).sum = Bytes(number()?),
            Part::Files => self.sizes_mut(column).files = number()?,
            Part::Items => self.sizes_mut(column).items = number()?,
            Part::LargestFileBytes | Part::LargestItemBytes => self.sizes.push((column.clone(), Bytes(number()?))),
            Part::LargestFile => {
                self.sizes_mut(column).largest_file =
                    Some(Named { path: csv_text(cell).into_owned(), bytes: Bytes::ZERO });
            }
            Part::LargestItem => {
                self.sizes_mut(column).largest_item =
                    Some(Named { path: csv_text(cell).into_owned(), bytes: Bytes::ZERO });
            }
        }
        Ok(())
    }

    fn sizes_mut(&mut self, column: &Column) -> &mut Sizes {
        let known = self.inputs.iter().position(|input| input.channel == column.channel);
        let place = known.unwrap_or_else(|| {
            let channel = column.channel.clone();
            self.inputs.push(InputSizes { channel, all: Sizes::default(), by_extension: BTreeMap::new() });
            self.inputs.len() - 1
        });
        let input = &mut self.inputs[place];
        match &column.extension {
            None => &mut input.all,
            Some(extension) => input.by_extension.entry(extension.clone()).or_default(),
        }
    }

    /// All inputs. Sizes without names come from a table that has no names.
    pub(super) fn finish(mut self) -> Vec<InputSizes> {
        for (column, bytes) in std::mem::take(&mut self.sizes) {
            let sizes = self.sizes_mut(&column);
            let items = column.part == Part::LargestItemBytes;
            let largest = if items { &mut sizes.largest_item } else { &mut sizes.largest_file };
            match largest {
                Some(named) => named.bytes = bytes,
                None if bytes > Bytes::ZERO => *largest = Some(Named { path: UNNAMED.to_owned(), bytes }),
                None => {}
            }
        }
        self.inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for channel in ["scans", "a.b", "x.sum", "[*.gz]", "100%", "%5B"] {
            for extension in [None, Some("gz".to_owned()), Some("nii.gz".to_owned()), Some("odd]".to_owned())] {
                for (part, ..) in PARTS {
                    let column = Column { channel: channel.to_owned(), extension: extension.clone(), part };
                    assert_eq!(Column::named(&column.name()), Some(column.clone()), "{}", column.name());
                }
            }
        }
        assert_eq!(Column::named("input_bytes"), None);
        assert_eq!(Column::named("peak_bytes"), None);
    }
}
