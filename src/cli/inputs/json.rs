//! The result as JSON.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use highwater::model::rule::Mode;
use highwater::model::units::Bytes;
use highwater::tree::{Bucket, Excluded, Exclusion, File, Item, Reason};
use serde::Serialize;

use super::Report;

/// The stable form; any change but an addition raises `schema_version`.
#[derive(Serialize)]
struct Inputs<'a> {
    schema_version: u32,
    #[serde(flatten)]
    channel: Name,
    target_dir: &'a str,
    target_glob: &'a str,
    target_regex: &'a str,
    mode: Option<Mode>,
    files: u64,
    n_bytes: serde_json::Map<String, serde_json::Value>,
    largest_file: Option<Sized>,
    items: Option<Items>,
    histogram: Vec<Bar>,
    left_out: Rest,
    folders_read: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    listing: Option<Vec<Sized>>,
}

/// A name under a given key, and its bytes in hexadecimal if it is not UTF-8.
struct Name {
    key: &'static str,
    text: String,
    hex: Option<String>,
}

#[derive(Serialize)]
struct Sized {
    #[serde(flatten)]
    path: Name,
    bytes: Bytes,
}

#[derive(Serialize)]
struct Items {
    count: u64,
    empty: u64,
    files: u64,
    largest: Vec<Summed>,
}

#[derive(Serialize)]
struct Summed {
    #[serde(flatten)]
    name: Name,
    files: u64,
    bytes: Bytes,
}

#[derive(Serialize)]
struct Bar {
    from_bytes: Bytes,
    below_bytes: Option<Bytes>,
    files: u64,
    bytes: Bytes,
}

#[derive(Serialize)]
struct Rest {
    complete: bool,
    counts: BTreeMap<Reason, u64>,
    named: Vec<Missed>,
}

#[derive(Serialize)]
struct Missed {
    #[serde(flatten)]
    path: Name,
    reason: Reason,
}

pub(super) fn render(shown: &Report<'_>) -> Result<String, serde_json::Error> {
    let Some(totals) = shown.survey.totals.first() else { return Ok(String::new()) };
    let modes = [Mode::Sum, Mode::MaxFileSize, Mode::MaxItemSum].into_iter();
    let has_items = shown.mode.is_none_or(|mode| mode == Mode::MaxItemSum);
    let inputs = Inputs {
        schema_version: 1,
        channel: Name::new("channel", &shown.survey.root),
        target_dir: shown.selection.target_dir(),
        target_glob: shown.selection.target_glob(),
        target_regex: shown.selection.target_regex(),
        mode: shown.mode,
        files: totals.files,
        n_bytes: modes
            .filter(|mode| shown.mode.is_none_or(|asked| asked == *mode))
            .map(|mode| (mode.name().to_owned(), totals.n(mode).0.into()))
            .collect(),
        largest_file: totals.largest_file.as_ref().map(Sized::from),
        items: has_items.then(|| Items {
            count: totals.items,
            empty: totals.empty_items,
            files: totals.item_files,
            largest: totals.largest_items.iter().map(Summed::from).collect(),
        }),
        histogram: totals.histogram.buckets.iter().map(Bar::from).collect(),
        left_out: Rest::from(&shown.survey.excluded),
        folders_read: shown.survey.directories,
        listing: shown.listing.map(|listing| listing.iter().map(Sized::from).collect()),
    };
    serde_json::to_string_pretty(&inputs).map(|json| json + "\n")
}

impl Name {
    fn new(key: &'static str, path: &Path) -> Self {
        let bytes = path.as_os_str().as_bytes();
        let hex = path.to_str().is_none().then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect());
        Self { key, text: path.to_string_lossy().into_owned(), hex }
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.key, &self.text)?;
        if let Some(hex) = &self.hex {
            map.serialize_entry(&format!("{}_hex", self.key), hex)?;
        }
        map.end()
    }
}

impl From<&File> for Sized {
    fn from(file: &File) -> Self {
        Self { path: Name::new("path", &file.path), bytes: file.size }
    }
}

impl From<&Item> for Summed {
    fn from(item: &Item) -> Self {
        Self { name: Name::new("name", &item.name), files: item.files, bytes: item.sum }
    }
}

impl From<&Bucket> for Bar {
    fn from(bucket: &Bucket) -> Self {
        Self { from_bytes: bucket.from, below_bytes: bucket.below, files: bucket.files, bytes: bucket.sum }
    }
}

impl From<&Excluded> for Rest {
    fn from(left_out: &Excluded) -> Self {
        let missed =
            |exclusion: &Exclusion| Missed { path: Name::new("path", &exclusion.path), reason: exclusion.reason };
        Self {
            complete: left_out.troubles() == 0,
            counts: left_out.counts.clone(),
            named: left_out.named.iter().map(missed).collect(),
        }
    }
}
