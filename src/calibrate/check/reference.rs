//! What the runs of a check are compared with.

use crate::model::check::report::Against;

/// What runs are compared with.
#[derive(Clone, Copy)]
pub(super) enum Reference<'a> {
    Baseline,
    /// A baseline that was just made from these runs.
    SameRuns,
    Revision(&'a Against),
}

impl Reference<'_> {
    /// Its name for users.
    pub(super) fn name(self) -> String {
        match self {
            Self::Baseline | Self::SameRuns => "the baseline".to_owned(),
            Self::Revision(against) => against.name(),
        }
    }

    /// A remedy, and how to update the reference if that is what is wanted.
    pub(super) fn or_update(self, remedy: &str, condition: &str) -> String {
        match self {
            Self::Baseline | Self::SameRuns => {
                format!("{remedy}; {condition}commit a new baseline: `highwater check --update-baseline`")
            }
            Self::Revision(_) => remedy.to_owned(),
        }
    }
}
