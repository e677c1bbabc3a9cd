//! Runs that deviate: from repeats of the same input where there are several, else from the need that the other inputs
//! describe.
//!
//! The need is described by a base plus growth, as most programs have it, and by the larger of the two, as a rule of the
//! Task API has it. Near the bend they differ: a run is ordinary if one of them describes it.

use std::collections::BTreeMap;

use crate::calibrate::curve::Curve;
use crate::model::fit::{Censoring, FittedRule, RunTable};
use crate::model::units::Bytes;
use crate::stats::outlier::{LIMIT, modified_z_scores};
use crate::stats::summary::median;

use super::result::Outlier;

/// Runs of a task differ by this much anyway; smaller residuals are not outliers.
const SMALLEST_SPREAD: f64 = 0.02;
/// The fewest repeats that show which of them deviates.
const FEWEST_REPEATS: usize = 3;

/// The outliers among the uncensored runs, with the farthest first; `typical` is a rule through the centre.
pub(super) fn outliers(table: &RunTable, predictor: usize, typical: &FittedRule) -> Vec<Outlier> {
    let mut inputs: BTreeMap<&[Bytes], Vec<(usize, f64)>> = BTreeMap::new();
    let uncensored = table.runs.iter().enumerate().filter(|(_, run)| run.censoring == Censoring::None);
    for (place, run) in uncensored.filter(|(_, run)| predictor < run.sizes.len()) {
        inputs.entry(&run.sizes).or_default().push((place, run.peak.0.max(1) as f64));
    }
    let usual = |runs: &[(usize, f64)]| median(&runs.iter().map(|(_, peak)| *peak).collect::<Vec<_>>());
    let points: Vec<(f64, f64)> =
        inputs.iter().filter_map(|(sizes, runs)| Some((sizes[predictor].0 as f64, usual(runs)?))).collect();
    let Some(need) = Curve::fit(&points) else { return Vec::new() };
    // Residuals from repeats and from the described need scatter differently.
    let mut residuals: [Vec<(Outlier, f64)>; 2] = Default::default();
    for (sizes, runs) in &inputs {
        let n = sizes[predictor];
        let is_repeated = runs.len() >= FEWEST_REPEATS;
        let described = [need.at(n.0 as f64), typical.limit(n).0 as f64];
        for (run, peak) in runs {
            let (peak, repeated) = (*peak, usual(runs).filter(|_| is_repeated));
            let residual = |typical: f64| (peak / typical.max(1.0)).ln();
            let nearer = |a: f64, b: f64| if residual(a).abs() <= residual(b).abs() { a } else { b };
            let typical = repeated.unwrap_or(nearer(described[0], described[1]));
            let (bytes, typical_bytes) = (Bytes(peak as u64), Bytes(typical as u64));
            let one = Outlier { run: *run, n, peak: bytes, typical: typical_bytes, score: f64::NAN };
            residuals[usize::from(is_repeated)].push((one, residual(typical)));
        }
    }
    let mut outliers: Vec<Outlier> = residuals
        .into_iter()
        .flat_map(|some| {
            let scores =
                modified_z_scores(&some.iter().map(|(_, residual)| *residual).collect::<Vec<_>>(), SMALLEST_SPREAD);
            some.into_iter().zip(scores).map(|((one, _), score)| Outlier { score, ..one })
        })
        .filter(|outlier| outlier.score.abs() > LIMIT)
        .collect();
    outliers.sort_by(|a, b| b.score.abs().total_cmp(&a.score.abs()));
    outliers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fit::{Form, SizedRun};

    fn table(runs: &[(u64, u64)]) -> RunTable {
        let run = |(n, peak): &(u64, u64)| SizedRun {
            sizes: vec![Bytes(*n)],
            peak: Bytes(*peak),
            censoring: Censoring::None,
            wall_seconds: None,
        };
        RunTable { predictors: vec!["sum".to_owned()], runs: runs.iter().map(run).collect() }
    }

    fn odd(runs: &[(u64, u64)]) -> Vec<usize> {
        // A constant rule describes none of them.
        let rule = FittedRule { form: Form::Max, base_bytes: Bytes(1), coefficient: 0.0, exponent: 0 };
        outliers(&table(runs), 0, &rule).iter().map(|outlier| outlier.run).collect()
    }

    #[test]
    fn a_base_plus_growth_has_no_outliers() {
        let runs: Vec<(u64, u64)> = [1, 2, 4, 8, 16, 32, 64, 128].map(|n| (n * 1000, 20_000 + n * 1000)).into();
        assert!(odd(&runs).is_empty());
    }

    #[test]
    fn the_larger_of_base_and_growth_has_none_either() {
        let runs: Vec<(u64, u64)> = [1, 2, 4, 8, 16, 32, 64, 128].map(|n| (n * 1000, (n * 1000).max(20_000))).into();
        let rule = FittedRule { form: Form::Max, base_bytes: Bytes(20_000), coefficient: 1.0, exponent: 1 };
        assert_eq!(outliers(&table(&runs), 0, &rule), []);
    }

    #[test]
    fn a_run_off_the_described_need_is_one() {
        let mut runs: Vec<(u64, u64)> = [1, 2, 4, 8, 16, 32, 64, 128].map(|n| (n * 1000, 20_000 + n * 1000)).into();
        runs[3].1 *= 2;
        assert_eq!(odd(&runs), [3]);
    }

    #[test]
    fn repeats_are_compared_with_each_other() {
        // The needs jump from input to input, as those of compressed images do, and repeats agree.
        let jumps = [10, 30, 15, 60, 20, 90];
        let mut runs: Vec<(u64, u64)> = jumps
            .into_iter()
            .zip(1..)
            .flat_map(|(need, n)| [1000, 1001, 999].map(|one| (n * 100, need * one)))
            .collect();
        assert!(odd(&runs).is_empty());
        runs[4].1 *= 2;
        assert_eq!(odd(&runs), [4]);
    }
}
