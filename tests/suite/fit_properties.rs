//! Properties of every fit.

use highwater::calibrate::fit::{FitOptions, Objective, TooLittle, fit, whole_factor};
use highwater::model::fit::{Censoring, Form, RunTable, SizedRun};
use highwater::model::units::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

fn run(n: u64, peak: u64, censoring: Censoring) -> SizedRun {
    SizedRun { sizes: vec![Bytes(n)], peak: Bytes(peak), censoring, wall_seconds: Some(1.0) }
}

fn table(runs: Vec<SizedRun>) -> RunTable {
    RunTable { predictors: vec!["input_bytes".to_owned()], runs }
}

fn line(count: u64) -> Vec<SizedRun> {
    (1..=count).map(|i| run(i * 1_000_000, i * 2_000_000, Censoring::None)).collect()
}

#[test]
fn without_evidence_there_is_no_number() {
    let options = FitOptions::default();
    assert_eq!(fit(&table(vec![]), &options), Err(TooLittle::NoRuns));
    assert_eq!(fit(&table(line(2)), &options), Err(TooLittle::FewInputs { found: 2 }));
    let repeats = (0..20).map(|i| run(1 + i % 2, 100 + i, Censoring::None)).collect();
    assert_eq!(fit(&table(repeats), &options), Err(TooLittle::FewInputs { found: 2 }));
    let reached = (1..20).map(|n| run(n, 100, Censoring::LimitReached)).collect();
    assert_eq!(fit(&table(reached), &options), Err(TooLittle::OnlyCensored { runs: 19 }));
    assert!(fit(&table(line(3)), &options).is_ok());
}

#[test]
fn a_narrow_range_is_fitted_and_warned_about() {
    let runs = (0..20).map(|i| run(1_000_000 + i * 2000, 50_000_000 + i % 3, Censoring::None)).collect();
    let fit = fit(&table(runs), &FitOptions::default()).unwrap();
    assert_eq!(fit.rule.exponent, 0);
    let json = serde_json::to_value(&fit.warnings).unwrap();
    assert_eq!(json[0]["kind"], "narrow-range");
}

#[test]
fn sizes_outside_are_extrapolated_with_their_factor() {
    let fit = fit(&table(line(20)), &FitOptions::default()).unwrap();
    assert_eq!(fit.extrapolation(Bytes(40_000_000)), Some(2.0));
    assert_eq!(fit.extrapolation(Bytes(500_000)), Some(0.5));
    assert_eq!(fit.extrapolation(Bytes(20_000_000)), None);
    let sizes = [Bytes(900_000), Bytes(40_000_000), Bytes(5_000_000)];
    let warning = serde_json::to_value(fit.extrapolated(sizes)).unwrap();
    assert_eq!(warning["n"], 40_000_000);
}

#[test]
fn outliers_are_named_and_fitted_all_the_same() {
    let mut runs = line(20);
    runs[7].peak = Bytes(200_000_000);
    let options = FitOptions::new(Objective::Safe);
    let fit = fit(&table(runs), &options).unwrap();
    assert_eq!(fit.outliers.iter().map(|outlier| outlier.run).collect::<Vec<_>>(), [7]);
    assert_eq!(fit.inputs.distinct, 20);
}

#[test]
fn runs_that_reached_their_limit_pull_in_neither_direction() {
    let plain = fit(&table(line(20)), &FitOptions::default()).unwrap();
    let mut runs = line(20);
    runs.extend((21..40).map(|i| run(i * 1_000_000, 40_000_000, Censoring::LimitReached)));
    let censored = fit(&table(runs), &FitOptions::default()).unwrap();
    assert_eq!(censored.rule, plain.rule);
    assert_eq!(censored.inputs.limit_reached, 19);
}

fn some_runs() -> impl Strategy<Value = Vec<SizedRun>> {
    let one = (1u64..1 << 40, 1u64..1 << 40).prop_map(|(n, peak)| run(n, peak, Censoring::None));
    vec(one, 3..25)
}

fn some_options() -> impl Strategy<Value = FitOptions> {
    (any::<bool>(), any::<bool>()).prop_map(|(safe, sum)| {
        let mut options = FitOptions::new(if safe { Objective::Safe } else { Objective::Waste });
        options.form = if sum { Form::Sum } else { Form::Max };
        options
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_killed_run_never_lowers_the_rule(runs in some_runs(), options in some_options(), n in 1u64..1 << 41, bound in 1u64..1 << 41) {
        let Ok(without) = fit(&table(runs.clone()), &options) else { return Ok(()) };
        let mut with_kill = runs.clone();
        with_kill.push(run(n, bound, Censoring::OomKilled));
        let with = fit(&table(with_kill), &options).unwrap();
        prop_assert!(with.rule.limit(Bytes(n)) > Bytes(bound), "{} for {n}", with.rule);
        for run in &runs {
            prop_assert!(with.rule.limit(run.sizes[0]) >= without.rule.limit(run.sizes[0]));
        }
    }

    #[test]
    fn the_order_of_the_runs_does_not_matter(runs in some_runs(), options in some_options()) {
        let mut reversed = runs.clone();
        reversed.reverse();
        let rule = |runs| fit(&table(runs), &options).map(|fit| (fit.rule, fit.request));
        prop_assert_eq!(rule(runs), rule(reversed));
    }

    #[test]
    fn a_request_never_exceeds_its_limit(runs in some_runs(), options in some_options(), n in 0u64..1 << 42) {
        if let Ok(fit) = fit(&table(runs), &options) {
            prop_assert!(fit.request.limit(Bytes(n)) <= fit.rule.limit(Bytes(n)));
        }
    }

    #[test]
    fn a_whole_factor_gives_no_measured_size_less(runs in some_runs(), mut options in some_options()) {
        let table = table(runs);
        options.max_exponent = 1;
        if let Ok(fit) = fit(&table, &options) {
            let whole = whole_factor(&fit.rule, &table, 0);
            prop_assert_eq!(whole.coefficient.fract(), 0.0);
            prop_assert!(whole.exponent <= 1);
            for run in &table.runs {
                prop_assert!(whole.limit(run.sizes[0]) >= fit.rule.limit(run.sizes[0]));
            }
        }
    }

    #[test]
    fn the_rule_reads_back_from_its_text(runs in some_runs(), options in some_options()) {
        if let Ok(fit) = fit(&table(runs), &options) {
            let read: highwater::model::fit::FittedRule = fit.rule.to_string().parse().unwrap();
            prop_assert_eq!(read.limit(Bytes(123_456_789)), fit.rule.limit(Bytes(123_456_789)));
        }
    }
}
