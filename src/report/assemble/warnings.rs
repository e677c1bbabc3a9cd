//! The warnings of a report.

use crate::model::fit::Censoring;
use crate::model::observation::{Cache, Observation, WarningKind};
use crate::report::model::{Found, Run, Warning};

/// A note in a record; those of one kind are merged.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Note {
    Cache(Cache),
    Warning(WarningKind),
}

/// Adds the notes in the record of a run; those that differ only in amounts and names are merged.
pub(super) fn warn(warnings: &mut Vec<(Note, Warning)>, observation: &Observation) {
    let cache = observation.cache.map(|cache| (Note::Cache(cache), cache.to_string()));
    let others = observation.warnings.iter().map(|warning| (Note::Warning(warning.kind()), warning.to_string()));
    for (note, text) in cache.into_iter().chain(others) {
        // Schema version 1 had only the text.
        match warnings.iter_mut().find(|(known, warning)| *known == note || warning.text == text) {
            Some((_, warning)) => warning.runs += 1,
            None => warnings.push((note, Warning { text, runs: 1 })),
        }
    }
}

/// Which runs to warn about, and how.
pub(super) type Caution = (fn(&Run) -> bool, &'static str);

pub(super) const WARNINGS: [Caution; 6] = [
    (|run| run.censoring == Censoring::OomKilled, "out of memory: the task needs more than the peak"),
    (|run| run.censoring == Censoring::LimitReached, "censored: reached a limit, not used for the fit"),
    (
        |run| run.outcome.has_failed() && run.censoring == Censoring::None,
        "failed for a reason other than memory: the peak does not show the need",
    ),
    (|run| run.lower_bound, "lower bound: the task may use more memory than was measured"),
    (|run| run.peak.is_none(), "no peak"),
    (|run| run.synthetic, "synthetic input, derived from the given data"),
];

pub(super) fn warnings(counts: [usize; 6], of_runs: Vec<(Note, Warning)>, found: Option<&Found>) -> Vec<Warning> {
    let of_all = |text: String| Warning { text, runs: 0 };
    let mut all: Vec<Warning> = found.iter().flat_map(|found| &found.warnings).cloned().map(of_all).collect();
    let counted = counts.into_iter().zip(WARNINGS).filter(|(runs, _)| *runs > 0);
    all.extend(counted.map(|(runs, (_, text))| Warning { text: text.to_owned(), runs }));
    all.extend(of_runs.into_iter().map(|(_, warning)| warning));
    all
}
