//! Difficult directories: permissions, links, special files, depth, numbers and change.

mod limits;
mod links;
mod permissions;
mod surprises;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use highwater::model::selection::Selection;
use highwater::tree::{Options, Reason, Survey, TreeError, survey};

fn everything() -> Selection {
    Selection::compile(None, None, None).unwrap()
}

fn below(dir: &str) -> Selection {
    Selection::compile(Some(dir), None, None).unwrap()
}

fn threads(threads: usize) -> Options<'static> {
    Options { threads: NonZeroUsize::new(threads), ..Options::default() }
}

fn survey_of(channel: &Path, selection: &Selection, options: &Options<'_>) -> Result<Survey, TreeError> {
    survey(channel, std::slice::from_ref(selection), options)
}

/// Files, sum, largest file, largest item.
fn numbers(survey: &Survey) -> [u64; 4] {
    let totals = &survey.totals[0];
    let largest_file = totals.largest_file.as_ref().map_or(0, |file| file.size.0);
    [totals.files, totals.sum.0, largest_file, totals.largest_item().map_or(0, |item| item.sum.0)]
}

fn left_out(survey: &Survey) -> Vec<(PathBuf, Reason)> {
    survey.excluded.named.iter().map(|exclusion| (exclusion.path.clone(), exclusion.reason)).collect()
}
