//! All files of a channel by name, and what subsets of them would count without being staged.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::contents::{self, ContentDigest};
use super::error::TreeError;
use super::options::{Counted, Options};
use super::walk::survey;
use crate::model::plan::{Unit, digest_of_contents, digest_of_listing};
use crate::model::prediction::{Named, Sizes};
use crate::model::selection::Selection;
use crate::model::units::Bytes;

/// The most extensions to distinguish: more are numbers in names.
const MOST_EXTENSIONS: usize = 24;
/// Longer ones are parts of names.
const LONGEST_EXTENSION: usize = 12;
/// Extensions of compressed files, which follow the one of the content.
const COMPRESSIONS: [&str; 5] = ["gz", "bz2", "xz", "zst", "lz4"];

/// The files of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The names of its items: the direct subdirectories.
    pub items: BTreeSet<OsString>,
    /// Its files by their relative paths, with their sizes.
    pub files: BTreeMap<PathBuf, Bytes>,
    /// The digests of its files whose contents were read; see [`Listing::read_contents`].
    pub contents: BTreeMap<PathBuf, ContentDigest>,
}

/// Lists the files that [`survey`] counts in a channel without any patterns.
///
/// # Errors
/// As for [`survey`].
pub fn list(root: &Path, options: &Options<'_>) -> Result<Listing, TreeError> {
    // The patterns for everything are valid.
    let everything: Vec<Selection> =
        Selection::compile(None, None, None).into_iter().map(Selection::without_items).collect();
    let files = Mutex::new(BTreeMap::new());
    let counted = |file: Counted<'_>| {
        files.lock().unwrap_or_else(PoisonError::into_inner).insert(file.path.to_owned(), file.size);
    };
    survey(root, &everything, &Options { counted: Some(&counted), ..*options })?;
    let unreadable = |source| TreeError::Unreadable { path: root.to_owned(), source };
    let mut items = BTreeSet::new();
    for entry in std::fs::read_dir(root).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_type().map_err(unreadable)?.is_dir() {
            items.insert(entry.file_name());
        }
    }
    let files = files.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Listing { items, files, ..Listing::default() })
}

/// Lists an input that is given as files and directories. A single directory is the channel; otherwise each directory
/// is an item of it, and each file lies directly in it.
///
/// # Errors
/// As for [`survey`].
pub fn list_paths(paths: &[PathBuf], options: &Options<'_>) -> Result<Listing, TreeError> {
    let mut all = Listing::default();
    for (index, path) in paths.iter().enumerate() {
        let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => TreeError::Missing { path: path.clone() },
            _ => TreeError::Unreadable { path: path.clone(), source },
        })?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let is_taken = all.items.contains(name) || all.files.contains_key(Path::new(name));
        let name = if is_taken { format!("{index}/{}", name.display()).into() } else { name.to_owned() };
        if metadata.is_file() {
            all.files.insert(name.into(), Bytes(metadata.len()));
        } else if metadata.is_dir() {
            // A workflow engine may stage directories as symbolic links.
            let path = path.canonicalize().map_err(|source| TreeError::Unreadable { path: path.clone(), source })?;
            let listing = list(&path, options)?;
            if paths.len() == 1 {
                return Ok(listing);
            }
            all.files.extend(listing.files.into_iter().map(|(file, size)| (Path::new(&name).join(file), size)));
            all.items.insert(name);
        }
    }
    Ok(all)
}

impl Listing {
    /// A single file.
    pub fn of_file(name: &str, size: Bytes) -> Self {
        Self { files: BTreeMap::from([(PathBuf::from(name), size)]), ..Self::default() }
    }

    /// Reads a few blocks of each file, so that [`Listing::digest_of_contents`] distinguishes files with the same name
    /// and size.
    ///
    /// # Errors
    /// If a file cannot be read. One that this user may not read is skipped.
    pub fn read_contents(&mut self, root: &Path) -> Result<(), TreeError> {
        self.contents = contents::read(root, &self.files)?;
        Ok(())
    }

    /// The same for the files of these units only.
    ///
    /// # Errors
    /// See [`Listing::read_contents`].
    pub fn read_contents_of(&mut self, root: &Path, units: &HashSet<&OsStr>) -> Result<(), TreeError> {
        let files = self.files.iter().filter(|(path, _)| unit_of(path).is_some_and(|unit| units.contains(unit)));
        self.contents = contents::read(root, &files.map(|(path, size)| (path.clone(), *size)).collect())?;
        Ok(())
    }

    /// Marks its files as cut from those of another listing.
    pub fn cut_from(&mut self, other: &Self) {
        let content: ContentDigest =
            Sha256::digest(other.digest_of_contents()).first_chunk().copied().unwrap_or_default();
        self.contents = self.files.keys().map(|path| (path.clone(), content)).collect();
    }

    /// Total size.
    pub fn bytes(&self) -> Bytes {
        self.files.values().copied().sum()
    }

    /// The items with their total sizes, by name.
    pub fn items_with_sizes(&self) -> Vec<(OsString, Bytes)> {
        let mut sums: BTreeMap<&OsStr, Bytes> = self.items.iter().map(|item| (item.as_os_str(), Bytes::ZERO)).collect();
        for (path, size) in &self.files {
            if let Some(sum) = unit_of(path).and_then(|unit| sums.get_mut(unit)) {
                *sum = sum.saturating_add(*size);
            }
        }
        sums.into_iter().map(|(name, sum)| (name.to_owned(), sum)).collect()
    }

    /// The names of the files that are in no item.
    pub fn loose(&self) -> Vec<OsString> {
        let direct = self.files.keys().filter(|path| path.components().count() == 1);
        direct.map(|path| path.as_os_str().to_owned()).collect()
    }

    /// The listing of the staged directory with these units.
    pub fn staged(&self, units: &[Unit]) -> Self {
        let mut staged = Self::default();
        for Unit { name, staged_as } in units {
            if self.items.contains(name) {
                staged.items.insert(staged_as.clone());
            }
            let below = self.files.range(PathBuf::from(name)..).take_while(|(path, _)| path.starts_with(name));
            for (original, size) in below {
                let rest = original.strip_prefix(name).unwrap_or(original);
                let path = if rest.as_os_str().is_empty() {
                    PathBuf::from(staged_as)
                } else {
                    Path::new(staged_as).join(rest)
                };
                if let Some(content) = self.contents.get(original) {
                    staged.contents.insert(path.clone(), *content);
                }
                staged.files.insert(path, *size);
            }
        }
        staged
    }

    /// The digest of the names and sizes of its files, and of the contents read.
    pub fn digest_of_contents(&self) -> String {
        digest_of_contents(self.files.iter().map(|(path, size)| {
            let content = self.contents.get(path).map(ContentDigest::as_slice).unwrap_or_default();
            (path.as_os_str().as_bytes(), *size, content)
        }))
    }

    /// The digest of the names and sizes of its files.
    pub fn digest(&self) -> String {
        digest_of_listing(self.files.iter().map(|(path, size)| (path.as_os_str().as_bytes(), *size)))
    }

    /// The sizes that a selection counts, as in [`survey`]; of all files without a selection.
    ///
    /// # Errors
    /// If the regex exceeds its backtracking limit.
    pub fn sizes(&self, selection: Option<&Selection>) -> Result<Sizes, TreeError> {
        let counts = |path: &Path| match selection {
            None => Ok(true),
            Some(selection) => {
                let Ok(rest) = path.strip_prefix(selection.target_dir()) else { return Ok(false) };
                let failed = |source| TreeError::Regex {
                    regex: selection.target_regex().to_owned(),
                    path: path.to_owned(),
                    source,
                };
                selection.matches(rest).map_err(failed)
            }
        };
        let mut sizes = Sizes { items: self.items.len() as u64, ..Sizes::default() };
        if selection.is_some_and(|selection| !selection.items) {
            sizes.items = 0;
        }
        let mut sums: BTreeMap<&OsStr, Bytes> = BTreeMap::new();
        for (path, size) in &self.files {
            if counts(path)? {
                sizes.files += 1;
                sizes.sum = sizes.sum.saturating_add(*size);
                larger(&mut sizes.largest_file, path.as_os_str(), *size);
            }
            if let Some((item, rest)) = in_item(path)
                && sizes.items > 0
                && counts(rest)?
            {
                let sum = sums.entry(item).or_default();
                *sum = sum.saturating_add(*size);
            }
        }
        for (item, sum) in sums {
            larger(&mut sizes.largest_item, item, sum);
        }
        Ok(sizes)
    }

    /// The sizes that a glob `*.EXTENSION` counts, for each extension present, in lower case.
    pub fn by_extension(&self) -> BTreeMap<String, Sizes> {
        let mut bytes: BTreeMap<&str, Bytes> = BTreeMap::new();
        for (path, size) in &self.files {
            if let Some(extension) = path.file_name().and_then(OsStr::to_str).and_then(extension) {
                let sum = bytes.entry(extension).or_default();
                *sum = sum.saturating_add(*size);
            }
        }
        let mut most: Vec<(&str, Bytes)> = bytes.into_iter().collect();
        most.sort_by_key(|(extension, sum)| (std::cmp::Reverse(*sum), *extension));
        let kept = most.into_iter().take(MOST_EXTENSIONS);
        kept.filter_map(|(extension, _)| Some((extension.to_owned(), self.with_extension(extension).sizes(None).ok()?)))
            .collect()
    }

    fn with_extension(&self, extension: &str) -> Self {
        let end = format!(".{extension}");
        let matches = |path: &Path| path.as_os_str().as_bytes().ends_with(end.as_bytes());
        let files = self.files.iter().filter(|(path, _)| matches(path));
        let files = files.map(|(path, size)| (path.clone(), *size)).collect();
        Self { items: self.items.clone(), files, ..Self::default() }
    }
}

/// Keeps the larger one; the first by name if both are equal.
fn larger(largest: &mut Option<Named>, name: &OsStr, bytes: Bytes) {
    if largest.as_ref().is_none_or(|largest| bytes > largest.bytes) {
        *largest = Some(Named { path: name.to_string_lossy().into_owned(), bytes });
    }
}

/// The direct child of the channel that contains a file.
fn unit_of(path: &Path) -> Option<&OsStr> {
    match path.components().next()? {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

/// The item that contains a file, and its path in the item.
fn in_item(path: &Path) -> Option<(&OsStr, &Path)> {
    let item = unit_of(path)?;
    let rest = path.strip_prefix(item).ok()?;
    (!rest.as_os_str().is_empty()).then_some((item, rest))
}

/// The extension of a name, with the one before it if it is that of a compression: `nii.gz`.
fn extension(name: &str) -> Option<&str> {
    let (before, last) = name.rsplit_once('.')?;
    let start = if COMPRESSIONS.contains(&last) {
        before.rfind('.').filter(|dot| *dot > 0 && is_extension(&before[dot + 1..])).unwrap_or(before.len())
    } else {
        before.len()
    };
    let extension = &name[start + 1..];
    (start > 0 && extension.split('.').all(is_extension)).then_some(extension)
}

fn is_extension(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (1..=LONGEST_EXTENSION).contains(&text.len()) && plain && text.bytes().any(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule::Mode;

    fn write(root: &Path, files: &[(&str, usize)]) {
        for (path, size) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; *size]).unwrap();
        }
    }

    const FILES: [(&str, usize); 6] =
        [("p1/a.nii.gz", 5), ("p1/ct/b.dcm", 7), ("p10/c.nii.gz", 11), ("notes.txt", 3), ("ct/x.dcm", 2), ("p1/.h", 1)];

    #[test]
    fn a_listing_counts_as_a_survey_does() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &FILES);
        std::fs::create_dir(directory.path().join("empty")).unwrap();
        let listing = list(directory.path(), &Options::default()).unwrap();
        let patterns = [
            (None, None, None),
            (None, Some("*.dcm"), None),
            (Some("ct"), None, None),
            (None, None, Some("p1/.*")),
            (None, None, Some("[^/]*")),
        ];
        for (dir, glob, regex) in patterns {
            let selection = Selection::compile(dir, glob, regex).unwrap();
            let totals =
                survey(directory.path(), std::slice::from_ref(&selection), &Options::default()).unwrap().totals;
            let sizes = listing.sizes(Some(&selection)).unwrap();
            for mode in [Mode::Sum, Mode::MaxFileSize, Mode::MaxItemSum] {
                assert_eq!(sizes.n(mode), totals[0].n(mode), "{dir:?} {glob:?} {regex:?} {mode:?}");
            }
            assert_eq!((sizes.files, sizes.items), (totals[0].files, totals[0].items));
        }
    }

    #[test]
    fn a_staged_part_has_the_files_under_their_new_names() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &FILES);
        let listing = list(directory.path(), &Options::default()).unwrap();
        assert_eq!(listing.loose(), ["notes.txt"]);
        let unit = |name: &str, staged_as: &str| Unit { name: name.into(), staged_as: staged_as.into() };
        let staged = listing.staged(&[unit("p1", "p1"), unit("p1", "p1~2"), unit("notes.txt", "notes.txt")]);
        let names: Vec<_> = staged.files.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["notes.txt", "p1/.h", "p1/a.nii.gz", "p1/ct/b.dcm", "p1~2/.h", "p1~2/a.nii.gz", "p1~2/ct/b.dcm"]
        );
        assert_eq!((staged.items.len(), staged.bytes()), (2, Bytes(29)));
        assert_ne!(staged.digest(), listing.digest());
    }

    #[test]
    fn extensions_are_those_of_data() {
        let all = [
            ("a.nii.gz", Some("nii.gz")),
            ("a.gz", Some("gz")),
            ("x.y.dcm", Some("dcm")),
            ("1.2.840.113", None),
            (".hidden", None),
            ("A.DCM", None),
            ("a.", None),
            ("no", None),
            (".a.gz", Some("gz")),
        ];
        for (name, expected) in all {
            assert_eq!(extension(name), expected, "{name}");
        }
    }

    #[test]
    fn several_paths_are_one_channel_even_if_their_names_are_alike() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &[("a/scan", 3), ("b/scan", 4), ("scan/ct", 5)]);
        let paths = ["a/scan", "b/scan", "scan"].map(|path| directory.path().join(path));
        let listing = list_paths(&paths, &Options::default()).unwrap();
        assert_eq!((listing.files.len(), listing.bytes()), (3, Bytes(12)));
        let missing = list_paths(&[directory.path().join("c")], &Options::default());
        assert!(matches!(missing, Err(TreeError::Missing { .. })), "{missing:?}");
    }

    #[test]
    fn each_extension_counts_what_its_glob_counts() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &FILES);
        let by_extension = list(directory.path(), &Options::default()).unwrap().by_extension();
        assert_eq!(by_extension.keys().collect::<Vec<_>>(), ["dcm", "nii.gz", "txt"]);
        assert_eq!((by_extension["dcm"].sum, by_extension["dcm"].items), (Bytes(9), 4 - 1));
    }
}
