//! Rules planted into synthetic runs are recovered, and predictions for further runs hold.

use fastrand::Rng;
use highwater::calibrate::fit::{Fit, FitOptions, Objective, fit};
use highwater::model::fit::{Censoring, Form, RunTable, SizedRun};
use highwater::model::units::Bytes;

const SEEDS: u64 = 100;
const MIB: f64 = 1048576.0;

/// The need of a task, and the noise of single runs.
struct Planted {
    base: f64,
    coefficient: f64,
    exponent: i32,
    noise: fn(&mut Rng) -> f64,
    runs: usize,
    /// Whether sizes by another predictor, which are less or not informative, precede the right ones.
    decoy: bool,
    /// The limit of all runs.
    limit: f64,
}

impl Planted {
    fn new(base: f64, coefficient: f64, exponent: i32) -> Self {
        Self { base, coefficient, exponent, noise: two_percent, runs: 28, decoy: true, limit: f64::INFINITY }
    }

    /// The need of an input without noise.
    fn need(&self, n: f64) -> f64 {
        self.base.max(self.coefficient * n.powi(self.exponent))
    }

    /// Runs of inputs between 10 MiB and 10 GiB, with the sizes by two predictors of which the second is the right one.
    ///
    /// The other one is correlated with it, as the largest file is with the sum, or independent, as another channel is.
    fn table(&self, rng: &mut Rng) -> RunTable {
        let related = rng.bool();
        let runs = (0..self.runs).map(|_| {
            let n = size(rng);
            let peak = self.need(n) * (1.0 + (self.noise)(rng));
            let decoy = if related { n * log_uniform(rng, 0.2, 5.0) } else { size(rng) };
            SizedRun {
                sizes: [decoy, n].into_iter().skip(usize::from(!self.decoy)).map(|size| Bytes(size as u64)).collect(),
                peak: Bytes(peak.min(self.limit) as u64),
                censoring: if peak < self.limit { Censoring::None } else { Censoring::LimitReached },
                wall_seconds: Some(10.0 + rng.f64() * n / MIB),
            }
        });
        let runs = runs.collect();
        let names = ["input_bytes.other", "input_bytes.sum"].into_iter().skip(usize::from(!self.decoy));
        RunTable { predictors: names.map(str::to_owned).collect(), runs }
    }

    /// The number of 100 seeds for which `found` holds.
    fn recovered(&self, found: impl Fn(&Fit) -> bool) -> usize {
        let seeds = (0..SEEDS).filter(|seed| {
            let table = self.table(&mut Rng::with_seed(*seed));
            fit(&table, &FitOptions::default()).is_ok_and(|fit| found(&fit))
        });
        seeds.count()
    }

    /// Whether exponent and predictor are the planted ones, and the typical need is within 5 % everywhere.
    fn is_found(&self, fit: &Fit) -> bool {
        let typical = [20.0, 200.0, 2000.0, 8000.0].map(|size| {
            let n = size * MIB;
            fit.request.limit(Bytes(n as u64)).0 as f64 / self.need(n)
        });
        fit.rule.exponent.cast_signed() == self.exponent
            && (self.exponent == 0 || fit.predictor == "input_bytes.sum")
            && typical.iter().all(|ratio| (0.95..=1.05).contains(ratio))
    }

    /// Whether the coefficient of the limit, including the margin, is at most 5 % off.
    fn has_coefficient(&self, fit: &Fit) -> bool {
        (fit.rule.coefficient / self.coefficient - 1.0).abs() <= 0.05
    }
}

fn size(rng: &mut Rng) -> f64 {
    log_uniform(rng, 10.0, 10240.0) * MIB
}

fn log_uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(rng.f64())
}

/// Evenly spread between -2 % and 2 %.
fn two_percent(rng: &mut Rng) -> f64 {
    0.04 * rng.f64() - 0.02
}

/// Usually little, occasionally much more: exponential with a mean of 3 %.
fn skewed(rng: &mut Rng) -> f64 {
    -0.03 * (1.0 - rng.f64()).ln()
}

#[test]
fn a_floor_alone_is_found() {
    let planted = Planted::new(700.0 * MIB, 0.0, 0);
    let found = planted.recovered(|fit| planted.is_found(fit) && fit.rule.limit(Bytes(1 << 40)) == fit.rule.base_bytes);
    assert!(found >= 95, "{found} of {SEEDS}");
}

#[test]
fn growth_alone_is_found() {
    let planted = Planted::new(0.0, 1.7, 1);
    let found = planted.recovered(|fit| planted.is_found(fit) && planted.has_coefficient(fit));
    assert!(found >= 95, "{found} of {SEEDS}");
}

#[test]
fn a_floor_that_growth_leaves_is_found() {
    let planted = Planted::new(600.0 * MIB, 1.7, 1);
    let found = planted.recovered(|fit| {
        let floor = fit.rule.base_bytes.0 as f64 / planted.base;
        planted.is_found(fit) && planted.has_coefficient(fit) && (floor - 1.0).abs() <= 0.05
    });
    assert!(found >= 95, "{found} of {SEEDS}");
}

#[test]
fn quadratic_growth_is_found() {
    let planted = Planted::new(300.0 * MIB, 1.2e-9, 2);
    let found = planted.recovered(|fit| planted.is_found(fit) && planted.has_coefficient(fit));
    assert!(found >= 95, "{found} of {SEEDS}");
}

#[test]
fn skewed_noise_does_not_hide_the_rule() {
    let planted = Planted { noise: skewed, decoy: false, ..Planted::new(600.0 * MIB, 1.7, 1) };
    let found = planted.recovered(|fit| planted.is_found(fit));
    assert!(found >= 95, "{found} of {SEEDS}");
}

#[test]
fn a_limit_that_half_of_the_runs_reach_does_not_hide_the_rule() {
    // Half of the inputs are larger than 320 MiB.
    let planted = Planted { limit: 1.7 * 320.0 * MIB, runs: 36, decoy: false, ..Planted::new(60.0 * MIB, 1.7, 1) };
    let found = planted.recovered(|fit| {
        planted.is_found(fit) && planted.has_coefficient(fit) && (9..=27).contains(&fit.inputs.limit_reached)
    });
    assert!(found >= 95, "{found} of {SEEDS}");
}

#[test]
fn a_sum_is_found_where_it_is_asked_for() {
    let mut options = FitOptions::default();
    options.form = Form::Sum;
    let found = (0..SEEDS).filter(|seed| {
        let mut rng = Rng::with_seed(*seed);
        let planted = Planted { decoy: false, ..Planted::new(0.0, 1.5, 1) };
        let mut table = planted.table(&mut rng);
        for run in &mut table.runs {
            run.peak = run.peak.saturating_add(Bytes::mib(500));
        }
        fit(&table, &options).is_ok_and(|fit| {
            fit.predictor == "input_bytes.sum"
                && fit.rule.exponent == 1
                && (fit.request.coefficient / 1.5 - 1.0).abs() <= 0.05
                && (fit.request.base_bytes.0 as f64 / (500.0 * MIB) - 1.0).abs() <= 0.05
        })
    });
    let found = found.count();
    assert!(found >= 95, "{found} of {SEEDS}");
}

/// The share of further runs of the task that the rule covers.
fn covered(planted: &Planted, fit: &Fit, rng: &mut Rng) -> f64 {
    let tries = 1000;
    let fits = (0..tries).filter(|_| {
        let n = size(rng);
        fit.rule.limit(Bytes(n as u64)).0 as f64 >= planted.need(n) * (1.0 + (planted.noise)(rng))
    });
    fits.count() as f64 / f64::from(tries)
}

#[test]
fn the_promised_content_is_kept_with_the_promised_confidence() {
    // Far from normal: the promise must not depend on the shape of the noise.
    let wild: fn(&mut Rng) -> f64 = |rng| 0.1 * ((1.0 - rng.f64()).powf(-0.5) - 1.0);
    for (objective, noise) in
        [(Objective::Waste, skewed as fn(&mut Rng) -> f64), (Objective::Waste, wild), (Objective::Safe, skewed)]
    {
        let planted = Planted { noise, decoy: false, ..Planted::new(600.0 * MIB, 1.7, 1) };
        let kept = (0..60).filter(|seed| {
            let mut rng = Rng::with_seed(1000 + seed);
            let table = planted.table(&mut rng);
            let fit = fit(&table, &FitOptions::new(objective)).unwrap();
            // A thousand tries do not measure the share more precisely than this.
            covered(&planted, &fit, &mut rng) >= fit.headroom.content - 0.01
        });
        let kept = kept.count();
        assert!(kept >= 57, "{objective:?}: {kept} of 60");
    }
}

#[test]
fn conformal_factors_cover_the_next_input() {
    let planted = Planted { noise: skewed, decoy: false, ..Planted::new(600.0 * MIB, 1.7, 1) };
    let mut share = 0.0;
    for seed in 0..100 {
        let mut rng = Rng::with_seed(2000 + seed);
        let mut fit = fit(&planted.table(&mut rng), &FitOptions::default()).unwrap();
        let factor = fit.headroom.conformal[0].factor.unwrap();
        fit.rule.coefficient *= factor;
        fit.rule.base_bytes = Bytes((fit.rule.base_bytes.0 as f64 * factor) as u64);
        share += covered(&planted, &fit, &mut rng) / 100.0;
    }
    assert!(share >= 0.90, "{share}");
}
