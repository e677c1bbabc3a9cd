//! Runs whose runtime limits its own memory: the peak follows that limit.

use std::collections::{BTreeMap, BTreeSet};

use crate::calibrate::fit::Warning;
use crate::model::observation::Observation;
use crate::model::runtime::RuntimeLimit;
use crate::model::units::Bytes;

/// The most settings that a warning has.
const MOST: usize = 5;

/// The limits of runtimes in the runs of a task.
#[derive(Debug, Default)]
pub(super) struct RuntimeLimits {
    runs: usize,
    /// What sets them, in words; a few of them.
    settings: BTreeSet<String>,
}

impl RuntimeLimits {
    pub(super) fn add(&mut self, observation: &Observation) {
        let mut limits = observation.runtime_limits().peekable();
        self.runs += usize::from(limits.peek().is_some());
        limits.for_each(|limit| self.note(limit.source()));
    }

    pub(super) fn join(&mut self, other: Self) {
        self.runs += other.runs;
        other.settings.into_iter().for_each(|setting| self.note(setting));
    }

    fn note(&mut self, setting: String) {
        if self.settings.len() < MOST {
            self.settings.insert(setting);
        }
    }

    /// A warning, if there are any; `parameter` is n.
    pub(super) fn warning(&self, parameter: Option<&str>) -> Option<Warning> {
        let settings = self.settings.iter().cloned().collect();
        let parameter = parameter.map(str::to_owned);
        (self.runs > 0).then_some(Warning::RuntimeLimit { runs: self.runs, settings, parameter })
    }
}

/// The value of a parameter that sets the limit of a runtime, as the runtime reads it: 64m in `-Xmx64m` is 64 MiB, but
/// 64 thousandths of a byte as a quantity.
pub(super) fn amount(observation: &Observation, value: &str) -> Option<Bytes> {
    let sets = |limit: &&RuntimeLimit| {
        // A variable is named after its value: `-Xmx64m in JAVA_TOOL_OPTIONS`.
        let setting = limit.setting.as_deref().and_then(|setting| setting.split_whitespace().next());
        let before = setting.and_then(|setting| setting.strip_suffix(value));
        before.is_some_and(|before| before.ends_with(|last: char| !last.is_ascii_digit()))
    };
    // A plain number means the same in any unit, and another parameter may have it by chance.
    observation.runtime_limits().find(sets)?.bytes.filter(|_| value.ends_with(|last: char| last.is_ascii_alphabetic()))
}

/// The values of all parameters that set the limit of a runtime.
pub(super) fn amounts(observation: &Observation, parameters: &BTreeMap<String, String>) -> BTreeMap<String, Bytes> {
    let amount = |(name, value): (&String, &String)| Some((name.clone(), amount(observation, value)?));
    parameters.iter().filter_map(amount).collect()
}
