//! The result as text.

use std::fmt::Write as _;
use std::path::Path;

use highwater::model::layout;
use highwater::model::rule::Mode;
use highwater::model::units::Bytes;
use highwater::tree::{Bucket, Excluded, File, Histogram, Item, Reason, Totals};

use super::Report;
use crate::cli::table::printable;

/// The longest bar of the histogram, in characters.
const BAR: u64 = 24;

/// Paths listed for each reason.
const NAMED: usize = 10;

pub(super) fn render(shown: &Report<'_>, width: Option<u16>) -> String {
    let Some(totals) = shown.survey.totals.first() else { return String::new() };
    let has_items = shown.mode.is_none_or(|mode| mode == Mode::MaxItemSum);
    let mut sections = vec![heading(shown, totals), ns(shown.mode, totals, width)];
    if totals.files > 0 && shown.mode != Some(Mode::MaxItemSum) {
        sections.push(histogram(&totals.histogram, width));
    }
    if has_items && totals.items > 0 {
        sections.push(items(totals, width));
    }
    if let Some(listing) = shown.listing.filter(|listing| !listing.is_empty()) {
        sections.push(files(listing, width));
    }
    if !shown.survey.excluded.is_empty() {
        sections.push(left_out(&shown.survey.excluded));
    }
    sections.iter().map(|section| section.trim_end()).collect::<Vec<_>>().join("\n\n") + "\n"
}

fn heading(shown: &Report<'_>, totals: &Totals) -> String {
    let selection = shown.selection;
    let files = if shown.mode == Some(Mode::MaxItemSum) { totals.item_files } else { totals.files };
    let mut text = format!("{}: {}", name(&shown.survey.root), counted(files, "file"));
    if selection.target_glob() != "*" {
        let _ = write!(text, " matching the glob {}", printable(selection.target_glob()));
    }
    if selection.target_regex() != ".*" {
        let and = if selection.target_glob() == "*" { "matching" } else { "and" };
        let _ = write!(text, " {and} the regex {}", printable(selection.target_regex()));
    }
    if !selection.target_dir().is_empty() {
        let dir = printable(selection.target_dir());
        let _ = match shown.mode {
            Some(Mode::Sum | Mode::MaxFileSize) => write!(text, ", below {dir}"),
            Some(Mode::MaxItemSum) => write!(text, ", below {dir} of each item"),
            None => write!(text, ", below {dir}; {} below {dir} of each item", totals.item_files),
        };
    }
    text
}

/// The value of n in each mode, and the file or item that determines it.
fn ns(asked: Option<Mode>, totals: &Totals, width: Option<u16>) -> String {
    let mut rows = Vec::new();
    for mode in [Mode::Sum, Mode::MaxFileSize, Mode::MaxItemSum] {
        if asked.is_some_and(|asked| asked != mode) {
            continue;
        }
        let of = match mode {
            Mode::Sum => counted(totals.files, "file"),
            Mode::MaxFileSize => totals.largest_file.as_ref().map_or("no file".to_owned(), |file| name(&file.path)),
            Mode::MaxItemSum => {
                totals.largest_item().map_or("no item with a file that counts".to_owned(), |item| name(&item.name))
            }
        };
        let n = totals.n(mode);
        rows.push(vec![mode.name().to_owned(), n.0.to_string(), rounded(n), of]);
    }
    table(&["mode", "n in bytes", "", "of"], &rows, &[1, 2], width)
}

fn histogram(histogram: &Histogram, width: Option<u16>) -> String {
    let most = histogram.buckets.iter().map(|bucket| bucket.files).max().unwrap_or(0).max(1);
    let mut rows = Vec::new();
    for bucket in &histogram.buckets {
        let bar = "█".repeat(usize::try_from(bucket.files.saturating_mul(BAR) / most).unwrap_or(0));
        let bar = if bar.is_empty() { "▏".to_owned() } else { bar };
        rows.push(vec![range(bucket), bucket.files.to_string(), bar, bucket.sum.0.to_string(), rounded(bucket.sum)]);
    }
    table(&["size", "files", "", "bytes", ""], &rows, &[1, 3, 4], width)
}

fn range(bucket: &Bucket) -> String {
    match bucket.below {
        Some(Bytes(1)) => "empty".to_owned(),
        Some(below) => format!("{} to {below}", bucket.from),
        None => format!("{} and more", bucket.from),
    }
}

fn items(totals: &Totals, width: Option<u16>) -> String {
    let mut text = counted(totals.items, "item");
    if totals.empty_items > 0 {
        let _ = write!(text, ", {} without a file that counts", totals.empty_items);
    }
    if totals.largest_items.is_empty() {
        return text;
    }
    let row = |item: &Item| vec![name(&item.name), item.files.to_string(), item.sum.0.to_string(), rounded(item.sum)];
    let rows: Vec<Vec<String>> = totals.largest_items.iter().map(row).collect();
    let _ = write!(text, "\n{}", table(&["largest items", "files", "bytes", ""], &rows, &[1, 2, 3], width));
    text
}

fn files(listing: &[File], width: Option<u16>) -> String {
    let rows: Vec<Vec<String>> = listing.iter().map(|file| vec![file.size.0.to_string(), name(&file.path)]).collect();
    table(&["bytes", "file"], &rows, &[0], width)
}

/// What was skipped, problems first.
pub(super) fn left_out(left_out: &Excluded) -> String {
    let mut text = String::from("skipped:");
    let is_harmless = |(reason, _): &(&Reason, &u64)| !reason.is_trouble();
    let mut counts: Vec<_> = left_out.counts.iter().collect();
    counts.sort_by_key(is_harmless);
    for (&reason, &count) in counts {
        let _ = write!(text, "\n  {}: {count}", meaning(reason));
        let named: Vec<_> = left_out.named.iter().filter(|exclusion| exclusion.reason == reason).take(NAMED).collect();
        for exclusion in &named {
            let path = if exclusion.path == Path::new("") { ".".to_owned() } else { name(&exclusion.path) };
            let _ = write!(text, "\n    {path}");
        }
        let more = count - named.len() as u64;
        if more > 0 {
            let _ = write!(text, "\n    and {more} more");
        }
    }
    text
}

fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::Unreadable => "permission denied",
        Reason::Vanished => "vanished while being read",
        Reason::Outside => "symbolic links leading out of the channel",
        Reason::TooManyOpenFiles => "not opened: too many open files",
        Reason::Failed => "failed to read",
        Reason::LinkedFolder => "symbolic links to directories, not entered",
        Reason::DanglingLink => "symbolic links to nothing",
        Reason::Special => "FIFOs, sockets or devices",
        Reason::OtherFileSystem => "on another file system",
    }
}

/// Without a known width, a row is one line.
fn table(header: &[&str], rows: &[Vec<String>], right: &[usize], width: Option<u16>) -> String {
    let width = width.map_or(usize::MAX, |width| usize::from(width) - 1);
    let text = layout::table(header, rows, right, 2, width);
    text.lines().map(|line| format!("{}\n", format!(" {line}").trim_end())).collect()
}

/// The amount in a readable unit, unless that equals the number.
fn rounded(amount: Bytes) -> String {
    if amount.0 < 1024 { String::new() } else { amount.to_string() }
}

fn counted(count: u64, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

fn name(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
