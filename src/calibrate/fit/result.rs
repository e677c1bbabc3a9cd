//! The result of a fit: the rule, its evidence, and warnings about it.

use std::fmt;

use serde::Serialize;

use super::{Headroom, Reach, Shape};
use crate::model::fit::{FittedRule, Form, Growth};
use crate::model::units::Bytes;
use crate::stats::trend::Slope;

/// The steepest plausible rule, in bytes of memory per byte of input. Even compressed text rarely expands this much.
const STEEPEST: f64 = 1000.0;

/// A fitted rule, and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// The rule for the limit, including the margin.
    #[serde(flatten)]
    pub rule: FittedRule,
    /// The rule for the need of the median run.
    pub request: FittedRule,
    /// Whether it was fitted to lower bounds, because too few peaks are exact: it may be too low, and its performance
    /// on held-out inputs refers only to the observed part of their peaks.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// The predictor, n.
    pub predictor: String,
    /// Parts for other channels: the maximum of all parts counts.
    #[serde(rename = "also", skip_serializing_if = "Vec::is_empty")]
    pub other_channels: Vec<OtherChannel>,
    /// The shape with the best prediction of held-out runs.
    pub shape: Shape,
    /// The need as base plus growth, where that describes held-out inputs clearly better than the rule does: the rule
    /// covers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub need: Option<Need>,
    /// The sizes up to which limit and request are enough; `None` if that is not known.
    pub enough_for: Option<Reach>,
    /// The factor on the curve; below 1 if occasional failures are cheaper.
    pub margin: f64,
    /// The data it was fitted to.
    pub inputs: Inputs,
    /// Its performance on held-out inputs.
    pub held_out: HeldOut,
    /// Evidence for and against growth.
    pub evidence: Evidence,
    /// The probability that the next input fits.
    pub headroom: Headroom,
    /// Runs that deviate from the others. They were fitted nevertheless.
    pub outliers: Vec<Outlier>,
    /// Warnings about this rule.
    pub warnings: Vec<Warning>,
}

/// What the runs need: base + coefficient · n^exponent, without a margin.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Need {
    /// The constant part.
    pub base_bytes: Bytes,
    /// The factor of n^exponent, which is in bytes.
    pub coefficient: f64,
    /// The exponent of n; sorting, for example, has one between 1 and 1.25.
    pub exponent: f64,
}

impl Need {
    /// The same as a rule, which has only whole exponents.
    pub fn rule(&self) -> Option<FittedRule> {
        let exponent = (1..=3).find(|exponent| f64::from(*exponent) == self.exponent)?;
        Some(FittedRule { form: Form::Sum, base_bytes: self.base_bytes, coefficient: self.coefficient, exponent })
    }
}

impl fmt::Display for Need {
    /// For people: `14 MiB + 3.02*n`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base_bytes, coefficient, exponent } = self;
        let digits = (2.0 - coefficient.abs().log10().floor()).clamp(0.0, 30.0) as usize;
        write!(f, "{base_bytes} + {coefficient:.digits$}*n")?;
        if *exponent == 1.0 { Ok(()) } else { write!(f, "**{exponent}") }
    }
}

/// The part of a rule for another channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OtherChannel {
    /// The predictor, n.
    pub predictor: String,
    /// Its index in the table.
    #[serde(skip)]
    pub place: usize,
    /// The factor of n^exponent, including the margin.
    pub coefficient: f64,
    /// The exponent of n.
    pub exponent: u32,
    /// The factor for the need of the median run.
    pub request_coefficient: f64,
    /// The largest n measured.
    pub largest: Bytes,
}

impl OtherChannel {
    /// The limit of this part alone for an input of `n` bytes.
    pub fn limit(&self, n: Bytes) -> Bytes {
        part(self.coefficient, self.exponent).limit(n)
    }

    /// This part in the `complexity` dialect.
    pub fn complexity(&self) -> String {
        Growth::complexity_of(self.coefficient, self.exponent)
    }
}

/// The rule of a part alone.
fn part(coefficient: f64, exponent: u32) -> FittedRule {
    FittedRule { form: Form::Max, base_bytes: Bytes::ZERO, coefficient, exponent }
}

/// The data a rule was fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Inputs {
    /// Number of recorded runs, including censored ones.
    pub runs: usize,
    /// Number of distinct inputs of uncensored runs: those that differ in any size.
    pub distinct: usize,
    /// The smallest of these sizes.
    pub smallest: Bytes,
    /// The largest of these sizes.
    pub largest: Bytes,
    /// The median of these sizes.
    pub median: Bytes,
    /// Number of runs that reached their limit and went on: not used.
    pub limit_reached: usize,
    /// Number of runs that were killed for memory: they only push the rule up.
    pub oom_killed: usize,
    /// Number of runs whose peak is a lower bound: they only push the rule up, unless the rule is a lower bound itself.
    pub sampled: usize,
}

/// The performance of a rule on held-out inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeldOut {
    /// Unused reserved memory as a share of the memory needed.
    pub waste_share: f64,
    /// The same over all recorded runs, in GB·h; `None` if times are unknown.
    pub waste_gbh: Option<f64>,
    /// Failures on the first try per 1000 further runs, as far as the held-out inputs show: even if none of them failed,
    /// the next input may.
    pub failures_per_1000: f64,
    /// The mean of limit / peak.
    pub mean_ratio: f64,
    /// The smallest limit / peak: the worst failure, if below 1.
    pub smallest_ratio: f64,
    /// The largest limit / peak.
    pub largest_ratio: f64,
}

/// Evidence for and against a rule that grows with the input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// Bytes of memory per byte of input, with a 95 % interval; `None` if all inputs have the same size.
    pub slope: Option<Slope>,
    /// Kendall's rank correlation of sizes and peaks, as a standard normal score.
    pub rank_score: f64,
    /// By which share the best growing rule costs less than the best constant on held-out inputs, negative if it costs
    /// more. `None` if there was no growing rule to compare.
    pub growth_gain: Option<f64>,
}

/// A run that deviates from the others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outlier {
    /// Its index in the table.
    pub run: usize,
    /// The size of its input.
    pub n: Bytes,
    /// Its peak.
    pub peak: Bytes,
    /// The need of a typical run of this size.
    pub typical: Bytes,
    /// Its deviation, in robust standard deviations.
    pub score: f64,
}

/// A warning about a rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Warning {
    /// The sizes hardly differ: for other sizes the rule extrapolates.
    NarrowRange {
        /// The largest size divided by the smallest.
        factor: f64,
    },
    /// Another predictor is larger wherever that of the rule is and would fit better: no run shows which one counts.
    RiseTogether {
        /// The predictor of the rule.
        chosen: String,
        /// The other candidate.
        other: String,
    },
    /// Some requested sizes are outside of those measured.
    Extrapolated {
        /// The size that is farthest outside.
        n: Bytes,
        /// Its ratio to the largest size; below 1 to the smallest.
        factor: f64,
    },
    /// The times of some runs are unknown: all runs have the same weight.
    Untimed,
    /// The rule was raised, because runs killed for memory needed more than it gives.
    RaisedByKills {
        /// The bound that was decisive.
        bound: Bytes,
    },
    /// Peaks were sampled, not counted by the kernel: they may be too low.
    Sampled {
        /// Number of runs.
        runs: usize,
        /// Whether the rule was fitted to them for lack of exact ones and is a lower bound; otherwise they only push it
        /// up.
        as_points: bool,
    },
    /// Runs peaked above other runs of the same cell by page cache, and are not fitted.
    PageCache {
        /// Number of runs.
        runs: usize,
        /// The most that one of them peaked above the others.
        most: Bytes,
    },
    /// The inputs are synthetic: repeated, cut or generated from others.
    Synthetic {
        /// Number of runs.
        runs: usize,
    },
    /// The times of some runs are disturbed by others that were on the same CPUs. Not said of memory.
    TimesDisturbed {
        /// Number of these runs.
        runs: usize,
        /// Number of all runs.
        of: usize,
    },
    /// The runs use several images.
    SeveralImages {
        /// Number of images.
        images: usize,
    },
    /// The runtime of the task limits its own memory, so that the peak follows that limit rather than the input.
    RuntimeLimit {
        /// Number of runs.
        runs: usize,
        /// The options and variables that set the limit, as given, or the default; at most five.
        settings: Vec<String>,
        /// The parameter that is n, if one is.
        #[serde(skip_serializing_if = "Option::is_none")]
        parameter: Option<String>,
    },
    /// A few runs are weak evidence about the next.
    FewInputs {
        /// How many more distinct inputs 95 % of further inputs with 95 % confidence requires.
        more_needed: usize,
        /// Which sizes would tell most; `None` if there are enough of them.
        #[serde(skip_serializing_if = "Option::is_none")]
        measure: Option<MoreSizes>,
    },
    /// No input was measured between two sizes, and the forms that describe the others differ there.
    WideGap {
        /// The size below the gap.
        from: Bytes,
        /// The size above it.
        to: Bytes,
        /// The largest of their needs in the middle of the gap, divided by the smallest.
        factor: f64,
    },
    /// A run that was made once had far more page cache than all others: it was probably a cold start.
    ColdStart {
        /// Its record, counted from 1.
        record: u64,
        /// Its page cache.
        file: Bytes,
        /// The most page cache of any other run.
        others: Bytes,
    },
    /// The expected failure rate exceeds the requested one.
    MoreFailures {
        /// Failures per 1000 further runs.
        expected_per_1000: f64,
        /// The requested rate, per 1000 runs.
        asked_per_1000: f64,
    },
    /// The rule is implausibly steep, so the memory probably does not depend on this n.
    Steep {
        /// Bytes of memory per byte of the largest input.
        ratio: f64,
    },
    /// The limit is not known to be enough for a requested size.
    NotEnough {
        /// The requested size.
        n: Bytes,
        /// The size up to which the limit is enough.
        enough_for: Bytes,
    },
}

/// Sizes to measure next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MoreSizes {
    /// How many.
    pub sizes: usize,
    /// Above this size …
    pub from: Bytes,
    /// … and below this one.
    pub to: Bytes,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NarrowRange { factor } => {
                write!(f, "the largest input is only {factor:.2} times the smallest; other sizes are extrapolated")
            }
            Self::RiseTogether { chosen, other } => write!(
                f,
                "{other} grows along with {chosen} from input to input and may be the actual cause: measure inputs in \
                 which they differ before relying on the rule"
            ),
            Self::Extrapolated { n, factor } if *factor > 1.0 => {
                write!(f, "{n} is {factor:.1} times the largest measured input; the result is extrapolated")
            }
            Self::Extrapolated { n, factor } => {
                write!(
                    f,
                    "{n} is only {:.0} % of the smallest measured input; the result is extrapolated",
                    100.0 * factor
                )
            }
            Self::Untimed => f.write_str("some runs have no wall time; all runs are weighted equally"),
            Self::RaisedByKills { bound } => {
                write!(f, "a run with {bound} ran out of memory; the rule was raised above that")
            }
            Self::Sampled { runs, as_points: true } => {
                write!(
                    f,
                    "the peaks of {runs} runs are lower bounds and too few are exact; the rule is a lower bound, too"
                )
            }
            Self::Sampled { runs, as_points: false } => {
                write!(f, "the peaks of {runs} runs are lower bounds; they can only raise the rule")
            }
            Self::PageCache { runs, most } => {
                let are = if *runs == 1 { "1 run is" } else { &format!("{runs} runs are") };
                write!(
                    f,
                    "{are} not fitted: up to {most} more than repeats of the same input, all of it page cache of a cold \
                     start, which the kernel can reclaim"
                )
            }
            Self::Synthetic { runs } => {
                write!(f, "the inputs of {runs} runs are synthetic; real inputs of that size may need more or less")
            }
            Self::TimesDisturbed { runs, of } => write!(
                f,
                "{runs} of {of} times are disturbed: other runs were on the same CPUs; repeat the sweep with --pin or \
                 --jobs 1"
            ),
            Self::SeveralImages { images } => {
                write!(f, "the runs used {images} different images, whose needs may differ")
            }
            Self::RuntimeLimit { runs, settings, parameter } => runtime_limit(f, *runs, settings, parameter.as_deref()),
            Self::FewInputs { measure: Some(MoreSizes { sizes, from, to }), .. } => {
                let plural = if *sizes == 1 { "" } else { "s" };
                write!(
                    f,
                    "few sizes: measure {sizes} more size{plural} between {from} and {to} before relying on the rule"
                )
            }
            Self::FewInputs { more_needed, measure: None } => {
                write!(f, "measure {more_needed} more inputs before relying on the rule for 95 % of all runs")
            }
            Self::WideGap { from, to, factor } => write!(
                f,
                "no size between {from} and {to} was measured, and the forms that describe the other sizes differ by up to \
                 {factor:.1} times there: measure one or two sizes in between"
            ),
            Self::ColdStart { record, file, others } => write!(
                f,
                "record {record} has {file} of page cache, the others {others} at most: it was probably a cold start, and \
                 is fitted as if that was needed; run it again (-r 2), or sweep with --cache warm"
            ),
            Self::MoreFailures { expected_per_1000, asked_per_1000 } => write!(
                f,
                "about {expected_per_1000:.0} of 1000 further runs are expected to fail at first, more than the \
                 {asked_per_1000:.0} that --failures allows; measuring more inputs can lower that"
            ),
            Self::Steep { ratio } => write!(
                f,
                "the rule needs {ratio:.0} bytes of memory per byte of input: n is hardly the cause; choose it with \
                 --predictor, --mode or --glob"
            ),
            Self::NotEnough { n, enough_for } => {
                write!(f, "the limit is known to be enough for inputs up to {enough_for}, not for {n}")
            }
        }
    }
}

fn runtime_limit(f: &mut fmt::Formatter<'_>, runs: usize, settings: &[String], parameter: Option<&str>) -> fmt::Result {
    let in_runs = if runs == 1 { "in 1 run" } else { &format!("in {runs} runs") };
    let more = if settings.len() > 4 { ", …" } else { "" };
    let some: Vec<&str> = settings.iter().take(4).map(String::as_str).collect();
    write!(f, "the runtime limits its own memory {in_runs} ({}{more}), ", some.join(", "))?;
    match parameter {
        Some(name) => {
            write!(f, "and the peak may follow that limit: where {name} sets it, change {name} and the memory limit together")
        }
        None if settings.len() > 1 => f.write_str(
            "and the peak may follow that limit rather than the input: a rule for runs with different settings is a mixture; \
             fit each by itself",
        ),
        None => f.write_str(
            "and the peak may follow that limit rather than the input: the rule is for this setting alone; `highwater floor` \
             finds the smallest memory limit for it, `highwater sweep -P` compares settings",
        ),
    }
}

impl Fit {
    /// The limit for a run with these sizes, one for each predictor of the table; n of the rule is the one at `place`.
    pub fn limit_of(&self, place: usize, sizes: &[Bytes]) -> Bytes {
        let n = |place: usize| sizes.get(place).copied().unwrap_or_default();
        let others = self.other_channels.iter().map(|part| part.limit(n(part.place)));
        others.fold(self.rule.limit(n(place)), Bytes::max)
    }

    /// How far a size is outside of those measured: its ratio to the largest if above 1, to the smallest if below 1.
    /// `None` if inside.
    pub fn extrapolation(&self, n: Bytes) -> Option<f64> {
        if n > self.inputs.largest {
            Some(n.ratio(self.inputs.largest).unwrap_or(f64::INFINITY))
        } else if n < self.inputs.smallest {
            n.ratio(self.inputs.smallest)
        } else {
            None
        }
    }

    /// The warning that the rule is too steep to be true, if it is.
    pub fn steep(&self) -> Option<Warning> {
        let growth = FittedRule { base_bytes: Bytes::ZERO, ..self.rule }.limit(self.inputs.largest);
        let ratio = growth.ratio(self.inputs.largest).filter(|ratio| self.rule.exponent > 0 && *ratio > STEEPEST)?;
        Some(Warning::Steep { ratio })
    }

    /// The warning for these sizes, if the limit is not known to be enough for the largest of them.
    pub fn not_enough(&self, sizes: impl IntoIterator<Item = Bytes>) -> Option<Warning> {
        let reach = self.enough_for.filter(|reach| !reach.all_judged)?;
        let n = sizes.into_iter().max().filter(|n| *n > reach.limit)?;
        Some(Warning::NotEnough { n, enough_for: reach.limit })
    }

    /// The warning for these sizes, if any is outside of those measured.
    pub fn extrapolated(&self, sizes: impl IntoIterator<Item = Bytes>) -> Option<Warning> {
        let off = |factor: f64| if factor > 1.0 { factor } else { 1.0 / factor.max(f64::MIN_POSITIVE) };
        sizes
            .into_iter()
            .filter_map(|n| self.extrapolation(n).map(|factor| (n, factor)))
            .max_by(|a, b| off(a.1).total_cmp(&off(b.1)))
            .map(|(n, factor)| Warning::Extrapolated { n, factor })
    }
}
