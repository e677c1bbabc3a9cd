//! Input cases: directories, subsets of their items, repeated items, and plain bytes.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::observation::InputSizes;
use crate::model::plan::{Count, InputSource, Pick, PickError, PlanInput, Unit, grown, picked};
use crate::model::units::Bytes;
use crate::tree::{Listing, Options, TreeError, list};

/// The file name of generated and cut files.
const FILE: &str = "input.bin";

/// The directories of a channel: one for all cases, or one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputDirectories {
    /// The channel.
    pub channel: String,
    /// The directories; at least one.
    pub directories: Vec<PathBuf>,
}

/// How to vary the directories of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variation {
    /// A number of its items.
    Items(Count),
    /// Its items, repeated or reduced by a factor.
    Grow(f64),
    /// A file of this many bytes.
    Size(Bytes),
}

/// An input case.
#[derive(Clone, Debug, PartialEq)]
pub struct InputCase {
    /// Its description.
    pub name: String,
    /// The name of its directories, if the user named several. Cases with different names are different, even if their
    /// directories have the same contents.
    pub named: String,
    /// Whether it is synthetic: derived from the given data.
    pub synthetic: bool,
    /// The contents of its channels.
    pub inputs: Vec<CaseInput>,
}

/// The content of a channel of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseInput {
    /// The channel.
    pub channel: String,
    /// What it is made of.
    pub source: InputSource,
    /// The files that it has, or will have when it is staged.
    pub listing: Arc<Listing>,
}

impl CaseInput {
    /// Its entry in the plan.
    pub fn planned(&self) -> PlanInput {
        let Self { channel, listing, .. } = self;
        PlanInput {
            channel: channel.clone(),
            files: listing.files.len() as u64,
            bytes: listing.bytes(),
            items: listing.items.len() as u64,
        }
    }

    /// Its entry in a record.
    pub fn sizes(&self) -> Result<InputSizes, TreeError> {
        Ok(InputSizes {
            channel: self.channel.clone(),
            all: self.listing.sizes(None)?,
            by_extension: self.listing.by_extension(),
        })
    }
}

/// Why there are no cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// Channels have different numbers of directories.
    #[error("the channel {first} has {first_count} directories, but the channel {other} has {other_count}")]
    Uneven {
        /// One channel.
        first: String,
        /// The number of its directories.
        first_count: usize,
        /// Another one.
        other: String,
        /// The number of its directories.
        other_count: usize,
    },
    /// A directory cannot be read.
    #[error("failed to read the channel {channel}")]
    Unreadable {
        /// The channel.
        channel: String,
        /// The reason.
        #[source]
        source: TreeError,
    },
    /// No channel has items.
    #[error("the channel {channel} has no items: {path} has no subdirectories (files below it: {files})")]
    NoItems {
        /// The channel.
        channel: String,
        /// Its directory.
        path: PathBuf,
        /// The number of its files.
        files: usize,
    },
    /// There are too few items.
    #[error("the channel {channel} has too few items in {path}")]
    TooFew {
        /// The channel.
        channel: String,
        /// Its directory.
        path: PathBuf,
        /// The number of items.
        #[source]
        source: PickError,
    },
    /// Sizes of files are requested, but the directory to take the bytes from has none.
    #[error("no data in {path}: it has no files, or only empty ones")]
    NoBytes {
        /// The directory.
        path: PathBuf,
    },
}

/// All cases: each row of directories with each variation, or unchanged if there is none.
///
/// # Errors
/// If directories cannot be read, have no items or too few, or do not match.
pub fn cases(
    inputs: &[InputDirectories],
    variations: &[Variation],
    pick: Pick,
    options: &Options<'_>,
) -> Result<Vec<InputCase>, CaseError> {
    wanted_cases(inputs, variations, pick, options, None)
}

/// The cases with these names, or all. Of other cases no directory is listed, and no file is read.
pub(super) fn wanted_cases(
    inputs: &[InputDirectories],
    variations: &[Variation],
    pick: Pick,
    options: &Options<'_>,
    wanted: Option<&HashSet<&str>>,
) -> Result<Vec<InputCase>, CaseError> {
    let rows = rows(inputs)?;
    let mut known: HashMap<PathBuf, Arc<Listing>> = HashMap::new();
    let mut cases = Vec::new();
    for row in 0..rows {
        let name = (rows > 1).then(|| row_name(inputs, row));
        if let (Some(wanted), Some(name)) = (wanted, &name) {
            let is_of_row =
                |case: &&str| case.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(", "));
            if !wanted.iter().any(is_of_row) {
                continue;
            }
        }
        let mut channels = Vec::new();
        for InputDirectories { channel, directories: folders } in inputs {
            let Some(path) = folders.get(row).or(folders.last()) else { continue };
            let listing = match known.get(path) {
                Some(listing) => Arc::clone(listing),
                None => {
                    let followed = Options { outside: true, ..*options };
                    let listing = list(path, &followed).and_then(|mut listing| {
                        if wanted.is_none() {
                            listing.read_contents(path)?;
                        }
                        Ok(listing)
                    });
                    let listing =
                        listing.map_err(|source| CaseError::Unreadable { channel: channel.clone(), source })?;
                    let listing = Arc::new(listing);
                    known.insert(path.clone(), Arc::clone(&listing));
                    listing
                }
            };
            channels.push(Whole { channel, path, listing });
        }
        let mut row = Row { name, channels, pick };
        let mut of_row = row.all(variations)?;
        if let Some(wanted) = wanted {
            let is_wanted = |case: &InputCase| wanted.contains(case.name.as_str());
            row.read_contents_of(of_row.iter().filter(|case| is_wanted(case)))?;
            of_row = row.all(variations)?;
            of_row.retain(is_wanted);
        }
        cases.extend(of_row);
    }
    Ok(cases)
}

fn rows(inputs: &[InputDirectories]) -> Result<usize, CaseError> {
    let several = |inputs: &&InputDirectories| inputs.directories.len() > 1;
    let Some(first) = inputs.iter().find(several) else { return Ok(1) };
    match inputs.iter().filter(several).find(|other| other.directories.len() != first.directories.len()) {
        Some(other) => Err(CaseError::Uneven {
            first: first.channel.clone(),
            first_count: first.directories.len(),
            other: other.channel.clone(),
            other_count: other.directories.len(),
        }),
        None => Ok(first.directories.len()),
    }
}

/// The last part of the directory's path that distinguishes it from the others.
fn row_name(inputs: &[InputDirectories], row: usize) -> String {
    let Some(folders) = inputs.iter().map(|inputs| &inputs.directories).find(|folders| folders.len() > 1) else {
        return String::new();
    };
    let last = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let path = &folders[row];
    match last(path) {
        Some(name) if folders.iter().filter(|other| last(other).as_ref() == Some(&name)).count() == 1 => name,
        _ => path.display().to_string(),
    }
}

/// A channel with an unchanged directory.
struct Whole<'a> {
    channel: &'a str,
    path: &'a Path,
    listing: Arc<Listing>,
}

impl Whole<'_> {
    fn input(&self, source: InputSource, listing: Arc<Listing>) -> CaseInput {
        CaseInput { channel: self.channel.to_owned(), source, listing }
    }

    fn whole(&self) -> CaseInput {
        self.input(InputSource::Directory(self.path.to_owned()), Arc::clone(&self.listing))
    }

    /// The given units, and everything beside the items.
    fn units(&self, mut units: Vec<Unit>) -> CaseInput {
        units.extend(self.listing.loose().into_iter().map(Unit::same));
        let listing = self.listing.staged(&units);
        if listing == *self.listing {
            return self.whole();
        }
        self.input(InputSource::Units { root: self.path.to_owned(), units }, Arc::new(listing))
    }
}

/// A directory for each channel.
struct Row<'a> {
    name: Option<String>,
    channels: Vec<Whole<'a>>,
    pick: Pick,
}

impl Row<'_> {
    /// Its cases: each variation, or unchanged.
    fn all(&self, variations: &[Variation]) -> Result<Vec<InputCase>, CaseError> {
        if variations.is_empty() {
            return Ok(vec![self.whole()]);
        }
        variations.iter().map(|variation| self.varied(*variation)).collect()
    }

    /// Reads the contents of the files that these cases have.
    fn read_contents_of<'c>(&mut self, cases: impl Iterator<Item = &'c InputCase> + Clone) -> Result<(), CaseError> {
        for (number, channel) in self.channels.iter_mut().enumerate() {
            let mut units = Some(HashSet::new());
            for input in cases.clone().filter_map(|case| case.inputs.get(number)) {
                match &input.source {
                    InputSource::Units { units: of_case, .. } => {
                        units
                            .iter_mut()
                            .for_each(|units| units.extend(of_case.iter().map(|unit| unit.name.as_os_str())));
                    }
                    InputSource::Directory(_) | InputSource::Bytes { .. } => units = None,
                }
            }
            let mut listing = Listing::clone(&channel.listing);
            let read = match &units {
                Some(units) => listing.read_contents_of(channel.path, units),
                None => listing.read_contents(channel.path),
            };
            read.map_err(|source| CaseError::Unreadable { channel: channel.channel.to_owned(), source })?;
            channel.listing = Arc::new(listing);
        }
        Ok(())
    }

    fn named(&self, variation: Option<String>) -> String {
        let parts: Vec<String> = self.name.iter().cloned().chain(variation).collect();
        if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
    }

    fn whole(&self) -> InputCase {
        let inputs: Vec<CaseInput> = self.channels.iter().map(Whole::whole).collect();
        let name = if inputs.is_empty() { String::new() } else { self.named(None) };
        self.case(name, false, inputs)
    }

    fn case(&self, name: String, synthetic: bool, inputs: Vec<CaseInput>) -> InputCase {
        InputCase { name, named: self.name.clone().unwrap_or_default(), synthetic, inputs }
    }

    fn varied(&self, variation: Variation) -> Result<InputCase, CaseError> {
        match variation {
            Variation::Size(size) => self.sized(size),
            Variation::Items(count) => {
                let leader = self.leader()?;
                let items = leader.listing.items_with_sizes();
                let names = picked(&items, count, self.pick).map_err(|source| CaseError::TooFew {
                    channel: leader.channel.to_owned(),
                    path: leader.path.to_owned(),
                    source,
                })?;
                let word = if names.len() == 1 { "item" } else { "items" };
                let name = format!("{} {word}", names.len());
                let units: Vec<Unit> = names.into_iter().map(Unit::same).collect();
                Ok(self.of_units(name, false, &units))
            }
            Variation::Grow(times) => {
                let leader = self.leader()?;
                let items = leader.listing.items_with_sizes();
                let units = grown(&items, times, self.pick);
                let synthetic = units.len() > items.len();
                Ok(self.of_units(format!("{times} times"), synthetic, &units))
            }
        }
    }

    /// The channel whose items are counted: the first one with items.
    fn leader(&self) -> Result<&Whole<'_>, CaseError> {
        let found = self.channels.iter().find(|channel| !channel.listing.items.is_empty());
        found.ok_or_else(|| {
            let first = self.channels.first();
            CaseError::NoItems {
                channel: first.map(|first| first.channel.to_owned()).unwrap_or_default(),
                path: first.map(|first| first.path.to_owned()).unwrap_or_default(),
                files: first.map_or(0, |first| first.listing.files.len()),
            }
        })
    }

    /// Channels that have all of these items are reduced to them; the others stay whole.
    fn of_units(&self, variation: String, synthetic: bool, units: &[Unit]) -> InputCase {
        let input = |channel: &Whole<'_>| {
            if units.iter().all(|unit| channel.listing.items.contains(&unit.name)) {
                channel.units(units.to_vec())
            } else {
                channel.whole()
            }
        };
        self.case(self.named(Some(variation)), synthetic, self.channels.iter().map(input).collect())
    }

    /// A file of bytes, cut from the first channel if there is one.
    fn sized(&self, size: Bytes) -> Result<InputCase, CaseError> {
        let mut listing = Listing::of_file(FILE, size);
        let (channel, from) = match self.channels.first() {
            Some(first) => {
                let files = first.listing.files.iter().filter(|(_, size)| **size > Bytes::ZERO);
                let from: Vec<PathBuf> = files.map(|(path, _)| first.path.join(path)).collect();
                if from.is_empty() {
                    return Err(CaseError::NoBytes { path: first.path.to_owned() });
                }
                listing.cut_from(&first.listing);
                (first.channel, from)
            }
            None => ("input", Vec::new()),
        };
        let source = InputSource::Bytes { size, from };
        let input = CaseInput { channel: channel.to_owned(), source, listing: Arc::new(listing) };
        Ok(self.case(self.named(Some(size.to_string())), true, vec![input]))
    }
}
