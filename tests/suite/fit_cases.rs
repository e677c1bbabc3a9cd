//! Small inputs on which rules went wrong once: larger inputs than were measured, few sizes, and files without weight.

use std::path::PathBuf;

use assert_cmd::Command;
use serde_json::Value;

const MIB: f64 = 1_048_576.0;

fn fitted(case: &str, arguments: &[&str]) -> Value {
    let case = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases").join(case);
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.arg("fit").arg(case).args(arguments).args(["--format", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    crate::harness::only_element(&output.stdout)
}

/// The limit for an input of n bytes.
fn limit(fit: &Value, n: f64) -> f64 {
    let number = |name: &str| fit[name].as_f64().unwrap();
    number("base_bytes").max(number("coefficient") * n.powf(number("exponent")))
}

/// The limits for larger inputs than the largest measured, as ratios to what they need.
fn beyond(fit: &Value, need: impl Fn(f64) -> f64) -> [f64; 4] {
    let largest = fit["inputs"]["largest"].as_f64().unwrap();
    [1.25, 1.5, 2.0, 4.0].map(|far| limit(fit, far * largest) / need(far * largest))
}

fn all_enough(ratios: [f64; 4], most: f64) -> bool {
    ratios.iter().all(|ratio| (1.0..most).contains(ratio))
}

#[test]
fn a_clone_that_needs_a_byte_per_byte_on_a_base_gets_it_beyond_the_largest_input() {
    let fit = fitted("git8.csv", &[]);
    let ratios = beyond(&fit, |n| 3.6 * MIB + n);
    assert!(all_enough(ratios, 1.7), "{ratios:?}");
    assert!((0.9..1.1).contains(&fit["need"]["coefficient"].as_f64().unwrap()), "{fit}");
}

#[test]
fn four_sizes_of_an_import_show_its_growth() {
    let fit = fitted("sq4.csv", &[]);
    let ratios = beyond(&fit, |n| 3.9 * MIB + 2.63 * n);
    assert!(all_enough(ratios, 1.7), "{ratios:?}");
}

#[test]
fn a_square_is_covered_by_a_square() {
    let fit = fitted("quadratic.csv", &[]);
    assert_eq!(fit["exponent"], 2);
    let ratios = beyond(&fit, |n| 40e6 + 0.02e-6 * n * n);
    assert!(all_enough(ratios, 1.7), "{ratios:?}");
}

#[test]
fn slow_growth_on_a_large_base_is_enough_beyond_the_largest_input() {
    let fit = fitted("intercept.csv", &[]);
    let ratios = beyond(&fit, |n| 800e6 + 0.3 * n);
    assert!(ratios.iter().all(|ratio| *ratio >= 1.0), "{ratios:?}");
}

#[test]
fn n_is_what_makes_up_the_input() {
    for arguments in [&["--objective", "safe"][..], &["--failures", "1%"], &["--failures", "10%"], &[]] {
        let fit = fitted("metadata-driver.jsonl", arguments);
        let measure = &fit["measure"];
        assert!(measure["target_glob"].is_null() || measure["target_glob"] == "*.npy", "{measure}");
        let volume = 38e6;
        assert!(limit(&fit, volume) > 2.9 * volume, "{fit}");
    }
}

#[test]
fn n_can_be_chosen_by_hand() {
    let fit = fitted("metadata-driver.jsonl", &["--predictor", "scans", "--mode", "max_file_size", "--glob", "*.npy"]);
    assert_eq!(fit["measure"]["target_glob"], "*.npy");
    assert_eq!(fit["measure"]["mode"], "max_file_size");
}

#[test]
fn sizes_that_are_not_recorded_are_told() {
    let case = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases/metadata-driver.jsonl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.arg("fit").arg(case).args(["--glob", "*.nrrd"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no size of the input by this --mode, --glob and --regex"), "{stderr}");
}

#[test]
fn a_rule_that_no_program_needs_is_not_written() {
    let rows: String = (1..=10u64).map(|n| format!("{n},{}\n", (n + 1) * 2_000_000)).collect();
    let emitted = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        let table = format!("input_bytes,peak_bytes\n{rows}");
        let output =
            command.args(["fit", "-", "--emit", "nextflow"]).args(arguments).write_stdin(table).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, stderr) = emitted(&[]);
    assert_eq!(status, 2, "{stderr}");
    assert!(stderr.contains("n is hardly the cause"), "{stderr}");
    assert_eq!(emitted(&["--force"]).0, 0);
}

#[test]
fn a_limit_is_not_called_enough_for_inputs_that_needed_more() {
    let rows: String = (1..=13u64)
        .map(|n| format!("{},{}\n", n * 1_000_000, if n == 13 { 400_000_000 } else { 50_000_000 }))
        .collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let table = format!("input_bytes,peak_bytes\n{rows}");
    let output = command.args(["fit", "-", "--format", "json"]).write_stdin(table).output().unwrap();
    let fit: Value = crate::harness::only_element(&output.stdout);
    assert!(limit(&fit, 13e6) >= 400e6 || fit["enough_for"]["limit"].as_u64().unwrap() < 13_000_000, "{fit}");
}

#[test]
fn the_safe_objective_covers_a_single_spike() {
    let rows: String =
        (1..=20u64).map(|n| format!("{},{}\n", n * 1_000_000, if n == 9 { 90 } else { 20 } * 1_000_000)).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let table = format!("input_bytes,peak_bytes\n{rows}");
    let output =
        command.args(["fit", "-", "--objective", "safe", "--format", "json"]).write_stdin(table).output().unwrap();
    let fit: Value = crate::harness::only_element(&output.stdout);
    assert!(limit(&fit, 9e6) >= 90e6, "{fit}");
}
