//! What to warn of.

use crate::model::fit::Censoring;
use crate::report::model::{Found, Run, Warning};

/// Adds the warnings of a run: those that differ in their numbers alone are one.
pub(super) fn warn(warnings: &mut Vec<(String, Warning)>, run: &Run) {
    for text in &run.warnings {
        let kind: String = text.chars().filter(|char| !char.is_ascii_digit() && *char != '.').collect();
        match warnings.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, warning)) => warning.runs += 1,
            None => warnings.push((kind, Warning { text: text.clone(), runs: 1 })),
        }
    }
}

/// Which runs to warn of, and what to say.
pub(super) type Caution = (fn(&Run) -> bool, &'static str);

pub(super) const WARNINGS: [Caution; 6] = [
    (|run| run.censoring == Censoring::OomKilled, "killed for memory: the need is more than the peak"),
    (
        |run| run.censoring == Censoring::LimitReached,
        "reached a limit: the peak is not the need, and no rule was fitted to it",
    ),
    (
        |run| !run.outcome.succeeded() && run.censoring == Censoring::None,
        "failed for another reason than memory: the peak is not the need",
    ),
    (|run| run.lower_bound, "measured as a lower bound: the task may use more than was seen"),
    (|run| run.peak.is_none(), "without a peak"),
    (|run| run.synthetic, "on inputs made up from the data at hand"),
];

pub(super) fn warnings(counts: [usize; 6], of_runs: Vec<(String, Warning)>, found: Option<&Found>) -> Vec<Warning> {
    let of_all = |text: String| Warning { text, runs: 0 };
    let mut all: Vec<Warning> = found.iter().flat_map(|found| &found.warnings).cloned().map(of_all).collect();
    let counted = counts.into_iter().zip(WARNINGS).filter(|(runs, _)| *runs > 0);
    all.extend(counted.map(|(runs, (_, text))| Warning { text: text.to_owned(), runs }));
    all.extend(of_runs.into_iter().map(|(_, warning)| warning));
    all
}
