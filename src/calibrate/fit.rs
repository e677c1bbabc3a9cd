//! Fits a rule to recorded runs.
//!
//! The platform gives a task max(base, a · n^k), so that is what is fitted, not a regression line. Candidates combine
//! every predictor, every exponent from 0 to 3 and three kinds of curve ([`Shape`]). Each is fitted repeatedly without
//! a fifth of the sizes, and without the largest ones, and then predicts what was held out; the candidate and margin
//! with the lowest cost there win. The cost is waste (unused reserved memory times time; a failed try wastes its whole
//! limit and is retried with twice as much) plus a price for every failure.
//!
//! Censored runs are not points: one that reached its limit and went on shows neither more nor less need, and one that
//! was killed for memory only pushes the rule up.

mod backtest;
mod calibration;
mod choose;
mod csv;
mod described;
mod evaluate;
mod group;
mod headroom;
mod holdout;
mod joint;
mod oracle;
mod outliers;
mod platform;
mod points;
mod reach;
mod records;
mod resource;
mod result;
mod shape;
mod waste;
mod workflow;
mod write;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::calibrate::curve;
use crate::model::fit::{Censoring, FittedRule, Form, RunTable};
use crate::model::units::Bytes;
use crate::stats::trend::{kendall_score, slope};

use choose::{Candidate, Choice, choose, exponents, representatives};
use described::Described;
use holdout::{Care, HeldOutPrediction};
use points::{Point, Points};
use shape::Curve;

pub use self::backtest::{Backtest, backtest, backtest_by};
pub use self::calibration::{Calibration, CalibrationOptions, ForSize, calibrate};
pub use self::csv::parse as parse_csv;
pub use self::evaluate::{Evaluation, Order, Protocol, TaskScore, evaluate};
pub use self::group::{Declared, Group, SkippedRuns};
pub use self::headroom::Headroom;
pub use self::joint::{fit_group, fit_single};
pub use self::oracle::oracle;
pub use self::platform::{KUBERNETES_MARGIN, Target, whole_factor};
pub use self::reach::Reach;
pub(super) use self::reach::{FARTHEST, enough_up_to};
pub(super) use self::records::cores;
pub use self::records::{Groups, Metric, PredictorError, groups as group_records};
pub use self::resource::{ResourceAmount, ResourceFit, ResourceHeldOut, ResourceInputs, ResourceRule, fit_resource};
pub use self::result::{Evidence, Fit, HeldOut, Inputs, MoreSizes, Need, OtherChannel, Outlier, Warning};
pub use self::shape::Shape;
pub use self::waste::waste;
pub use self::workflow::calibrate_workflow;
pub use self::write::{check_document, write_rule};

/// Fewer distinct inputs than this are not enough evidence.
pub const FEWEST_INPUTS: usize = 3;
/// The fewest sizes that show how the need grows: with eight, no program that sorts, indexes or grows linearly exceeded
/// its rule; with five, about half of them did.
const ENOUGH_SIZES: usize = 8;
/// A rule that grows has to cost this share less on held-out inputs than a constant; otherwise the simpler one is
/// better.
const GROWTH_MUST_GAIN: f64 = 0.05;
/// A range of sizes below this factor is narrow.
const NARROW: f64 = 2.0;
/// A gap between two sizes is wide above this factor.
const WIDE_GAP: f64 = 8.0;
/// Forms that describe the runs about equally well differ inside of it if their needs differ by this factor.
const FORMS_DIFFER: f64 = 1.25;
/// Coefficients are rounded up to this many significant digits.
const DIGITS: i32 = 6;
/// The objective of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// As little waste as possible; a run may occasionally fail and be retried.
    #[default]
    Waste,
    /// Hardly any failures, and then as little waste as possible.
    Safe,
}

impl Objective {
    /// The default share of runs that may fail.
    pub const fn default_failures(self) -> f64 {
        match self {
            Self::Waste => 0.05,
            Self::Safe => 0.01,
        }
    }

    fn care(self, failures: f64) -> Care {
        // A price instead of a bound: a bound would be the same for tasks where a failure saves much and where it saves
        // nothing. A budget of 5 % prices a failure like three runs, 1 % like fifteen. On traces of three real
        // workflows (48 tasks, 20 runs known of each) that makes 3.4 % and 1.0 % of the further runs fail.
        let failure_price = 0.15 / failures.max(1e-4);
        match self {
            // Twenty runs seldom show how much the next may need: safety mainly means to expect more than was seen.
            Self::Waste => Care { failure_price, widening: 0.05, jitter: 0.003 },
            Self::Safe => Care { failure_price, widening: 0.7, jitter: 0.004 },
        }
    }
}

/// Options of a fit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FitOptions {
    /// How the consumer combines base and growth.
    pub form: Form,
    /// The objective of the rule.
    pub objective: Objective,
    /// The share of runs that may fail.
    pub failures: f64,
    /// The highest exponent that the consumer can compute.
    pub max_exponent: u32,
}

impl FitOptions {
    /// The defaults: a maximum, exponents up to 3, the objective's own failure budget.
    pub const fn new(objective: Objective) -> Self {
        Self { form: Form::Max, objective, failures: objective.default_failures(), max_exponent: 3 }
    }
}

impl Default for FitOptions {
    fn default() -> Self {
        Self::new(Objective::Waste)
    }
}

/// Why the runs are not enough for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLittle {
    /// There are no runs.
    #[error("not enough data: there are no runs")]
    NoRuns,
    /// No peak is uncensored.
    #[error("not enough data: all {runs} runs are censored, so their peaks do not show the need")]
    OnlyCensored {
        /// Number of runs.
        runs: usize,
    },
    /// One or two distinct inputs do not show how the need depends on the input.
    #[error("not enough data: found {found} of {FEWEST_INPUTS} input sizes that differ by more than 1 %")]
    FewInputs {
        /// Number of distinct sizes.
        found: usize,
    },
}

/// Fits a rule to the runs.
///
/// # Errors
/// If the evidence is insufficient: no runs, only censored ones, or fewer than [`FEWEST_INPUTS`] distinct sizes.
pub fn fit(table: &RunTable, options: &FitOptions) -> Result<Fit, TooLittle> {
    let by_predictor: Vec<Points> =
        (0..table.predictors.len()).map(|place| Points::by_predictor(table, place)).collect();
    let most = by_predictor.iter().map(Points::distinct_sizes).max().unwrap_or(0);
    if table.runs.is_empty() {
        return Err(TooLittle::NoRuns);
    }
    if most == 0 {
        return Err(TooLittle::OnlyCensored { runs: table.runs.len() });
    }
    if most < FEWEST_INPUTS {
        return Err(TooLittle::FewInputs { found: most });
    }
    let choice = choose(&by_predictor, &exponents(options), options).ok_or(TooLittle::FewInputs { found: most })?;
    let described = described::describe(&by_predictor, options, &choice);
    Ok(assemble(table, options, &by_predictor, &choice, described.as_ref()))
}

fn coordinates(points: &[Point]) -> Vec<(f64, f64)> {
    points.iter().map(|point| (point.n, point.peak)).collect()
}

fn assemble(
    table: &RunTable,
    options: &FitOptions,
    by_predictor: &[Points],
    choice: &Choice,
    described: Option<&Described>,
) -> Fit {
    let best = described.map_or(&choice.best, |described| &described.best);
    let Candidate { predictor, power, shape, margin, .. } = *best;
    let points = &by_predictor[predictor];
    let some = representatives(&points.uncensored);
    let covering = described.and_then(|described| described.covering(&some, options));
    let predictions = match described {
        Some(described) => described.predictions(points, options),
        None => best.predictions.clone(),
    };
    let fitted = |shape: Shape, points: &[Point]| {
        let exponent = power as u32;
        let floor = (Curve { form: options.form, base: highest(points), slope: 0.0 }, exponent, 0.0);
        holdout::whole(shape, options.form, power, points).map_or(floor, |(curve, largest)| (curve, exponent, largest))
    };
    let (curve, exponent, largest) = covering.unwrap_or_else(|| match shape {
        Shape::Envelope => fitted(shape, &points.uncensored),
        Shape::LeastWaste | Shape::Centre => fitted(shape, &some),
    });
    let evidence = Evidence {
        slope: slope(&coordinates(&points.uncensored)),
        rank_score: kendall_score(&coordinates(&points.uncensored)),
        growth_gain: described.map(|described| described.growth_gain).or(choice.growth_gain),
    };
    let fitted_exponent = exponent;
    let can_grow = options.max_exponent > 0;
    let (curve, exponent, largest) = match (curve, exponent, largest) {
        curve if can_grow => reach::beyond(curve, points, &evidence),
        curve => curve,
    };
    let rule = rounded(curve.times(margin.factor), exponent, largest);
    let before = rule;
    let (rule, raised_by) = above(rule, &points.killed, points);
    let by_kills = rule;
    // A sampled peak is satisfied by at least as much.
    let sampled: Vec<Point> =
        points.sampled.iter().map(|point| Point { peak: (point.peak - 1.0).max(0.0), ..*point }).collect();
    let (rule, _) = above(rule, &sampled, points);
    // With this objective, a run that was measured must not fail.
    let shown: Vec<Point> =
        points.uncensored.iter().map(|point| Point { peak: (point.peak - 1.0).max(0.0), ..*point }).collect();
    let rule = match options.objective {
        Objective::Safe => above(rule, &shown, points).0,
        Objective::Waste => rule,
    };
    // Kills raise what the rule gives to held-out inputs, too.
    let raised =
        |n: f64| by_kills.limit(Bytes(n as u64)).0.max(1) as f64 / before.limit(Bytes(n as u64)).0.max(1) as f64;
    let predictions: Vec<HeldOutPrediction> = predictions
        .into_iter()
        .map(|one| HeldOutPrediction { limit: one.limit * raised(some[one.place].n), ..one })
        .collect();
    let typical = match covering {
        Some((curve, exponent, largest)) => rounded(curve, exponent, largest),
        None => {
            let (centre, exponent, largest) = fitted(Shape::Centre, &some);
            rounded(centre, exponent, largest)
        }
    };
    let inputs = inputs(table, points);
    let headroom = headroom::headroom(&rule, fitted_exponent, points, &predictions, margin.factor);
    let held_out = held_out(&predictions, margin.factor, points, points::is_timed(table));
    let mut warnings = warnings(table, points, &inputs, &headroom, raised_by);
    let (expected_per_1000, asked_per_1000) = (held_out.failures_per_1000, 1000.0 * options.failures);
    let more = expected_per_1000 > asked_per_1000;
    warnings.extend(more.then_some(Warning::MoreFailures { expected_per_1000, asked_per_1000 }));
    let together = choice.rises_with.filter(|_| rule.exponent > 0 && described.is_none());
    warnings.extend(together.map(|other| Warning::RiseTogether {
        chosen: table.predictors[predictor].clone(),
        other: table.predictors[other].clone(),
    }));
    let request = typical.at_most(rule);
    Fit {
        rule,
        request,
        need: described.and_then(|described| described.in_words(&points.uncensored)),
        enough_for: reach::reach(&rule, &request, described, points, &evidence),
        lower_bound: false,
        predictor: table.predictors[predictor].clone(),
        other_channels: Vec::new(),
        shape,
        margin: margin.factor,
        inputs,
        held_out,
        evidence,
        outliers: outliers::outliers(table, predictor, &typical),
        warnings,
        headroom,
    }
}

fn highest(points: &[Point]) -> f64 {
    points.iter().map(|point| point.peak).fold(0.0, f64::max)
}

/// The curve over n itself, in whole bytes and with a readable coefficient, never lower than before.
fn rounded(curve: Curve, exponent: u32, largest: f64) -> FittedRule {
    let coefficient = if exponent == 0 || largest <= 0.0 {
        0.0
    } else {
        round_up(curve.slope / largest.powi(exponent.cast_signed()))
    };
    let exponent = if coefficient > 0.0 { exponent } else { 0 };
    FittedRule { form: curve.form, base_bytes: Bytes(curve.base.ceil() as u64), coefficient, exponent }
}

fn round_up(number: f64) -> f64 {
    if !number.is_normal() {
        return 0.0;
    }
    // Through a string, so that the printed value is the one used.
    let digits = usize::try_from(DIGITS - 1).unwrap_or(0);
    let nearest = |number: f64| format!("{number:.digits$e}").parse().unwrap_or(number);
    let rounded: f64 = nearest(number);
    if rounded >= number { rounded } else { nearest(number * (1.0 + 10_f64.powi(1 - DIGITS))) }
}

/// Raises the rule above every bound, in the cheaper of two ways.
fn above(rule: FittedRule, bounds: &[Point], points: &Points) -> (FittedRule, Option<Bytes>) {
    let mut raised = (rule, None);
    for kill in bounds {
        let (n, bound) = (Bytes(kill.n as u64), Bytes(kill.peak as u64));
        if raised.0.limit(n) > bound {
            continue;
        }
        let missing = Bytes(bound.0 + 1).saturating_sub(raised.0.limit(n));
        let higher = match rule.form {
            Form::Max => Bytes(bound.0 + 1),
            Form::Sum => raised.0.base_bytes.saturating_add(missing),
        };
        let with_base = FittedRule { base_bytes: higher, ..raised.0 };
        let steeper = match rule.form {
            Form::Max => round_up((kill.peak + 1.0) / kill.n.powi(rule.exponent.cast_signed())),
            Form::Sum => rule.coefficient.max(round_up(
                (kill.peak + 1.0 - raised.0.base_bytes.0 as f64) / kill.n.powi(rule.exponent.cast_signed()),
            )),
        };
        let with_slope = FittedRule { coefficient: steeper, ..raised.0 };
        let total = |rule: &FittedRule| -> f64 {
            points.uncensored.iter().map(|p| waste(rule.limit(Bytes(p.n as u64)).0 as f64, p.peak, p.wall)).sum()
        };
        let can_steepen = rule.exponent > 0 && with_slope.limit(n) > bound;
        let steepen = can_steepen && total(&with_slope) < total(&with_base);
        raised = (if steepen { with_slope } else { with_base }, Some(bound));
    }
    raised
}

fn inputs(table: &RunTable, points: &Points) -> Inputs {
    let with = |censoring| table.runs.iter().filter(|run| run.censoring == censoring).count();
    let size = |point: Option<&Point>| Bytes(point.map_or(0, |point| point.n as u64));
    Inputs {
        runs: table.runs.len(),
        distinct: points.uncensored.len(),
        smallest: size(points.uncensored.first()),
        largest: size(points.uncensored.last()),
        median: size(points.uncensored.get(points.uncensored.len() / 2)),
        limit_reached: with(Censoring::LimitReached),
        oom_killed: with(Censoring::OomKilled),
        sampled: with(Censoring::LowerBound),
    }
}

fn held_out(predictions: &[HeldOutPrediction], margin: f64, points: &Points, timed: bool) -> HeldOut {
    held_out_of(predictions, margin, points.uncensored.iter().map(|point| (point.peak, point.wall)), timed)
}

/// Scores predictions for held-out points; `recorded` are peaks and times of all runs.
fn held_out_of(
    predictions: &[HeldOutPrediction],
    margin: f64,
    recorded: impl Iterator<Item = (f64, f64)>,
    timed: bool,
) -> HeldOut {
    let ratios: Vec<f64> = predictions.iter().map(|one| one.limit * margin / one.peak).collect();
    let wasted: f64 = predictions.iter().map(|one| waste(one.limit * margin, one.peak, one.wall)).sum();
    let needed: f64 = predictions.iter().map(|one| one.peak * one.wall).sum();
    let count = ratios.len().max(1) as f64;
    let waste_share = wasted / needed.max(f64::MIN_POSITIVE);
    let recorded: f64 = recorded.map(|(peak, wall)| peak * wall).sum();
    HeldOut {
        waste_share,
        waste_gbh: timed.then_some(waste_share * recorded / backtest::GIGABYTE_HOUR),
        failures_per_1000: 1000.0 * expected_failures(predictions, margin),
        mean_ratio: ratios.iter().sum::<f64>() / count,
        smallest_ratio: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        largest_ratio: ratios.iter().copied().fold(0.0, f64::max),
    }
}

/// The share of further runs that fails if this margin is put on the predictions.
///
/// Of N exchangeable inputs, the next exceeds the highest with probability 1/(N + 1). If the rule leaves room above the
/// highest, that probability falls with the room, relative to how far the higher half of the needs is spread.
fn expected_failures(predictions: &[HeldOutPrediction], margin: f64) -> f64 {
    // The largest inputs are held out more often than others, so each input counts once.
    let mut by_input: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    let mut smallest = f64::INFINITY;
    for one in predictions {
        let ratio = one.limit * margin / one.peak;
        let (failed, all) = by_input.entry(one.place).or_default();
        *failed += f64::from(u8::from(ratio < 1.0));
        *all += 1.0;
        smallest = smallest.min(ratio);
    }
    let inputs = by_input.len() as f64;
    let failed: f64 = by_input.values().map(|(failed, all)| failed / all).sum();
    let room = smallest.ln().clamp(0.0, 100.0);
    // Few inputs hardly show the spread: it is probably wider, and a power of the room is more careful than an
    // exponential.
    let spread = holdout::upper_spread(predictions).max(1e-3) * inputs / (inputs - 3.0).max(1.0);
    let degrees = (inputs / 2.0).max(1.0);
    let beyond = 0.5 * (1.0 + room / (spread * degrees)).powf(-degrees);
    (failed + beyond) / (inputs + 1.0)
}

/// Which sizes to measure next, if there are few: those in the widest gap.
fn more_sizes(points: &Points) -> Option<MoreSizes> {
    let sizes: Vec<f64> = points.sizes().into_iter().map(|n| n.max(1.0)).collect();
    let (first, last) = (*sizes.first()?, *sizes.last()?);
    let widest = sizes.windows(2).map(|pair| (pair[0], pair[1])).max_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    // One gap stands out if it is half of the range, as a ratio.
    let stands_out = |gap: &(f64, f64)| (gap.1 / gap.0).powi(2) > last / first;
    let (from, to) = widest.filter(stands_out).unwrap_or((first, last));
    let sizes = ENOUGH_SIZES.checked_sub(sizes.len()).filter(|sizes| *sizes > 0)?;
    Some(MoreSizes { sizes, from: Bytes(from as u64), to: Bytes(to as u64) })
}

/// The widest gap between sizes, if the need inside it depends on the form that is assumed.
fn wide_gap(points: &Points) -> Option<Warning> {
    let sizes = points.sizes();
    let gaps = sizes.windows(2).map(|pair| (pair[0].max(1.0), pair[1]));
    let (from, to) = gaps.max_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)))?;
    if to / from <= WIDE_GAP {
        return None;
    }
    let middle = (from * to).sqrt();
    let needs: Vec<f64> =
        curve::Curve::plausible(&coordinates(&points.uncensored)).iter().map(|curve| curve.at(middle)).collect();
    let (least, most) = needs.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), n| (least.min(*n), most.max(*n)));
    let factor = most / least.max(1.0);
    (factor > FORMS_DIFFER).then_some(Warning::WideGap { from: Bytes(from as u64), to: Bytes(to as u64), factor })
}

fn warnings(
    table: &RunTable,
    points: &Points,
    inputs: &Inputs,
    headroom: &Headroom,
    raised_by: Option<Bytes>,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if let Some(factor) = inputs.largest.ratio(inputs.smallest)
        && factor < NARROW
    {
        warnings.push(Warning::NarrowRange { factor });
    }
    warnings.extend(
        more_sizes(points)
            .map(|measure| Warning::FewInputs { more_needed: headroom.more_needed, measure: Some(measure) }),
    );
    warnings.extend(wide_gap(points));
    if !points::is_timed(table) {
        warnings.push(Warning::Untimed);
    }
    warnings.extend(raised_by.map(|bound| Warning::RaisedByKills { bound }));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fit::SizedRun;

    fn table(sizes: &[[u64; 2]], peak: impl Fn(&[u64; 2]) -> u64) -> RunTable {
        let run = |sizes: &[u64; 2]| SizedRun {
            sizes: sizes.map(|mib| Bytes(mib << 20)).to_vec(),
            peak: Bytes(peak(sizes)),
            censoring: Censoring::None,
            wall_seconds: Some(1.0),
        };
        RunTable { predictors: vec!["sum".into(), "largest".into()], runs: sizes.iter().map(run).collect() }
    }

    #[test]
    fn a_lower_bound_never_lowers_a_rule() {
        let sizes: Vec<[u64; 2]> = (1..=12).map(|n| [n * 40, n * 7 % 11 + 1]).collect();
        let exact = table(&sizes, |[sum, _]| (64 << 20).max(sum * (3 << 20)));
        let bound = |size: u64, peak: u64, wall_seconds| SizedRun {
            sizes: vec![Bytes(size << 20), Bytes::MIB],
            peak: Bytes(peak << 20),
            censoring: Censoring::LowerBound,
            wall_seconds,
        };
        for (size, peak, wall) in [
            (1, 1, None),
            (40, 1, Some(9.0)),
            (480, 1, Some(1e6)),
            (240, 720, Some(1.0)),
            (1, 900, None),
            (900, 1, None),
        ] {
            let mut more = exact.clone();
            more.runs.extend(vec![bound(size, peak, wall); 30]);
            for options in [FitOptions::new(Objective::Waste), FitOptions::new(Objective::Safe)] {
                let (without, with) = (fit(&exact, &options).unwrap(), fit(&more, &options).unwrap());
                for n in [1, 40, 120, 480, 900, 4000].map(Bytes::mib) {
                    assert!(
                        with.rule.limit(n) >= without.rule.limit(n),
                        "{size} {peak}: {with:?} is below {without:?}"
                    );
                    assert!(with.request.limit(n) >= without.request.limit(n));
                }
                assert!(with.rule.limit(Bytes::mib(size)) >= Bytes::mib(peak));
                // A lower bound neither shows that the input fits nor counts as a success on held-out inputs.
                assert_eq!((&with.headroom.inputs, &with.held_out), (&without.headroom.inputs, &without.held_out));
            }
        }
    }

    #[test]
    fn a_form_that_is_guessed_across_a_gap_is_a_warning() {
        let gap = |sizes: &[u64]| {
            let sizes: Vec<[u64; 2]> = sizes.iter().map(|n| [*n, *n]).collect();
            let fit = fit(&table(&sizes, |[n, _]| (500 << 20) + (n << 19)), &FitOptions::default()).unwrap();
            fit.warnings.into_iter().find_map(|warning| match warning {
                Warning::WideGap { from, to, .. } => Some((from.0 >> 20, to.0 >> 20)),
                _ => None,
            })
        };
        let (small, large) = ([10, 11, 12, 13, 14], [10_000, 11_000, 12_000, 13_000, 14_000]);
        assert_eq!(gap(&[small, large].concat()), Some((14, 10_000)));
        assert_eq!(gap(&[10, 100, 1000, 10_000, 20_000]), None, "these sizes show the form");
        assert_eq!(gap(&[10_000, 12_000, 14_000, 60_000]), None, "a gap of 4 times is usual");
    }

    #[test]
    fn near_equal_sizes_are_too_little_data() {
        let sizes = [[1000, 1000], [1001, 1001], [1005, 1005], [2000, 2000], [2010, 2010]];
        let too_little = fit(&table(&sizes, |[n, _]| n << 20), &FitOptions::default()).unwrap_err();
        assert_eq!(too_little, TooLittle::FewInputs { found: 2 });
    }

    #[test]
    fn a_measure_that_rises_with_the_usual_one_is_not_chosen_but_told() {
        // Each input has the files of the one before, and a larger one.
        let mut sizes: Vec<[u64; 2]> = Vec::new();
        for largest in 3..=12 {
            let before = sizes.last().map_or(0, |[sum, _]| *sum);
            sizes.push([before + largest, largest]);
        }
        let fitted = |sizes: &[[u64; 2]], peak: fn(&[u64; 2]) -> u64| {
            let fit = fit(&table(sizes, peak), &FitOptions::default()).unwrap();
            let told = fit.warnings.iter().any(|warning| matches!(warning, Warning::RiseTogether { .. }));
            (fit.predictor, told)
        };
        // 8 MiB + 3.6 times the sum looks like a square of the largest.
        assert_eq!(fitted(&sizes, |[sum, _]| (8 << 20) + sum * (36 << 20) / 10), ("sum".into(), false));
        assert_eq!(fitted(&sizes, |[_, largest]| largest << 24).0, "sum");
        // An input with many small files shows that only the largest counts.
        sizes.extend([[90, 3], [80, 4], [85, 6]]);
        assert_eq!(fitted(&sizes, |[_, largest]| largest << 24), ("largest".into(), false));
    }
}
