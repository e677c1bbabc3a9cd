//! What fitting finds: the rule, what speaks for it, and what a person should know about it.

use serde::Serialize;

use super::{Also, Headroom, Shape};
use crate::model::fit::FittedRule;
use crate::model::units::Bytes;
use crate::stats::trend::Slope;

/// The rule that the runs call for, and what speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// What to give, the margin included.
    #[serde(flatten)]
    pub rule: FittedRule,
    /// What the median run needs.
    pub request: FittedRule,
    /// Whether it was fitted to lower bounds, because too few peaks are exact: it may be too low, and how it does on held-out
    /// inputs only says how it does on what was seen of their peaks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// What n is.
    pub predictor: String,
    /// What other channels call for: the largest of all counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
    /// The kind of curve that foretold held-out runs best.
    pub shape: Shape,
    /// What the curve was multiplied with; below 1 where failures now and then are cheaper.
    pub margin: f64,
    /// What it was fitted to.
    pub inputs: Inputs,
    /// How it did on inputs that it had not seen.
    pub held_out: HeldOut,
    /// What speaks for or against growth.
    pub evidence: Evidence,
    /// How sure it is that the next input fits.
    pub headroom: Headroom,
    /// Runs far from where the others are. They were fitted like all others.
    pub outliers: Vec<Outlier>,
    /// What a person should know about this rule.
    pub warnings: Vec<Warning>,
}

/// What a rule was fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// Recorded runs, the censored ones among them.
    pub runs: usize,
    /// Distinct inputs of runs whose peak is their need: those that differ in any size.
    pub distinct: usize,
    /// The smallest of these sizes.
    pub smallest: Bytes,
    /// The largest of these sizes.
    pub largest: Bytes,
    /// The one in the middle.
    pub median: Bytes,
    /// Runs that reached their limit and went on: not used.
    pub limit_reached: usize,
    /// Runs that were killed for memory: they only push the rule up.
    pub oom_killed: usize,
    /// Runs whose peak is a lower bound: they only push the rule up, unless the rule is a lower bound itself.
    pub sampled: usize,
}

/// How a rule does on inputs it was not fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Memory reserved for nothing, as a share of the memory needed.
    pub waste_share: f64,
    /// The same of all recorded runs, in GB·h; `None` where times are unknown.
    pub waste_gbh: Option<f64>,
    /// Of 1000 runs, so many failed at first.
    pub failures_per_1000: f64,
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// The smallest limit / peak: how far the worst failure was off.
    pub smallest_ratio: f64,
    /// The largest limit / peak.
    pub largest_ratio: f64,
}

/// What speaks for or against a rule that grows with the input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Bytes of memory for each byte of input, with a 95 % interval; `None` where all inputs have one size.
    pub slope: Option<Slope>,
    /// Kendall's rank correlation of sizes and peaks, as a standard normal score.
    pub rank_score: f64,
    /// How much less than the best floor the best growing rule costs on held-out inputs: a share, negative where it
    /// costs more. `None` where no growing rule could be looked at.
    pub growth_gain: Option<f64>,
}

/// A run far from where the others are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// Its place in the table.
    pub run: usize,
    /// The size of its input.
    pub n: Bytes,
    /// Its peak.
    pub peak: Bytes,
    /// What a typical run of this size needs.
    pub typical: Bytes,
    /// How far it is off, in robust standard deviations.
    pub score: f64,
}

/// What a person should know about a rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Warning {
    /// The sizes hardly differ: whatever the rule says about others is extrapolated.
    NarrowRange {
        /// The largest size in units of the smallest.
        factor: f64,
    },
    /// A more usual measure of the inputs is larger wherever the chosen one is: only the form of the curve tells them apart.
    RiseTogether {
        /// What n is in the rule.
        chosen: String,
        /// What it could be as well.
        usual: String,
    },
    /// Some sizes were asked for that lie outside of those measured.
    Extrapolated {
        /// The size that is farthest out.
        n: Bytes,
        /// How many times the largest size it is; below 1 how much of the smallest.
        factor: f64,
    },
    /// The times of some runs are unknown: every run counts the same.
    Untimed,
    /// Runs killed for memory lie above what the others call for; the rule was raised.
    RaisedByKills {
        /// The bound that decided.
        bound: Bytes,
    },
    /// Peaks were sampled, not counted by the kernel: they may be too low.
    Sampled {
        /// So many.
        runs: usize,
        /// Whether the rule was fitted to them for lack of exact ones, and is a lower bound; else they only push it up.
        as_points: bool,
    },
    /// The inputs were made up from others: repeated, cut or generated.
    Synthetic {
        /// Of so many runs.
        runs: usize,
    },
    /// The runs are of several images.
    SeveralImages {
        /// Of so many.
        images: usize,
    },
    /// A few runs say little about the next.
    FewInputs {
        /// How many more distinct inputs it takes for 95 % of further inputs with 95 % confidence.
        more_needed: usize,
    },
}

impl Fit {
    /// What a run with these sizes, one for each predictor of the table, is given; n of the rule is the one at `place`.
    pub fn limit_of(&self, place: usize, sizes: &[Bytes]) -> Bytes {
        let n = |place: usize| sizes.get(place).copied().unwrap_or_default();
        let others = self.also.iter().map(|also| also.limit(n(also.place)));
        others.fold(self.rule.limit(n(place)), Bytes::max)
    }

    /// How far a size lies outside of those measured: above 1 the multiple of the largest, below 1 the part of the
    /// smallest. `None` inside.
    pub fn extrapolation(&self, n: Bytes) -> Option<f64> {
        if n > self.inputs.largest {
            Some(n.ratio(self.inputs.largest).unwrap_or(f64::INFINITY))
        } else if n < self.inputs.smallest {
            n.ratio(self.inputs.smallest)
        } else {
            None
        }
    }

    /// The warning that these sizes call for, if they leave those measured.
    pub fn extrapolated(&self, sizes: impl IntoIterator<Item = Bytes>) -> Option<Warning> {
        let off = |factor: f64| if factor > 1.0 { factor } else { 1.0 / factor.max(f64::MIN_POSITIVE) };
        sizes
            .into_iter()
            .filter_map(|n| self.extrapolation(n).map(|factor| (n, factor)))
            .max_by(|a, b| off(a.1).total_cmp(&off(b.1)))
            .map(|(n, factor)| Warning::Extrapolated { n, factor })
    }
}
