//! The warnings of a report.

use crate::model::fit::Censoring;
use crate::report::model::{Found, Run, Warning};

/// Adds the warnings of a run; warnings that differ only in numbers are merged.
pub(super) fn warn(warnings: &mut Vec<(String, Warning)>, run: &Run) {
    for text in &run.warnings {
        let kind: String = text.chars().filter(|char| !char.is_ascii_digit() && *char != '.').collect();
        match warnings.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, warning)) => warning.runs += 1,
            None => warnings.push((kind, Warning { text: text.clone(), runs: 1 })),
        }
    }
}

/// Which runs to warn about, and how.
pub(super) type Caution = (fn(&Run) -> bool, &'static str);

pub(super) const WARNINGS: [Caution; 6] = [
    (|run| run.censoring == Censoring::OomKilled, "out of memory: the task needs more than the peak"),
    (|run| run.censoring == Censoring::LimitReached, "censored: reached a limit, not used for the fit"),
    (
        |run| !run.outcome.succeeded() && run.censoring == Censoring::None,
        "failed for a reason other than memory: the peak does not show the need",
    ),
    (|run| run.lower_bound, "lower bound: the task may use more memory than was measured"),
    (|run| run.peak.is_none(), "no peak"),
    (|run| run.synthetic, "synthetic input, derived from the given data"),
];

pub(super) fn warnings(counts: [usize; 6], of_runs: Vec<(String, Warning)>, found: Option<&Found>) -> Vec<Warning> {
    let of_all = |text: String| Warning { text, runs: 0 };
    let mut all: Vec<Warning> = found.iter().flat_map(|found| &found.warnings).cloned().map(of_all).collect();
    let counted = counts.into_iter().zip(WARNINGS).filter(|(runs, _)| *runs > 0);
    all.extend(counted.map(|(runs, (_, text))| Warning { text: text.to_owned(), runs }));
    all.extend(of_runs.into_iter().map(|(_, warning)| warning));
    all
}
