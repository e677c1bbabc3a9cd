//! `highwater demo`: a sweep, the rule fitted to it, and the truth.

use assert_cmd::Command;
use serde_json::Value;

fn highwater(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.args(arguments).env_remove("HIGHWATER_LOG").output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_fitted_rule_agrees_with_the_formula_of_the_workload() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("records");
    let (status, stdout, stderr) = highwater(&["demo", "--keep", kept.to_str().unwrap()]);
    assert_eq!(status, 0, "{stderr}");
    if !stdout.contains("The peaks are exact") {
        crate::harness::skip("no peak is exact here");
        return;
    }
    assert!(stdout.contains("True rule: max(24 MiB, 3*n).\nThey agree"), "{stdout}");
    let last: Vec<&str> = stdout.lines().rev().take(2).collect();
    assert_eq!(last[0], format!("Report: {}", kept.join("report.html").display()));
    assert!(last[1].starts_with("The rule in use, max(32 MiB, 3.5*n)"), "{}", last[1]);
    assert!(std::fs::read_to_string(kept.join("report.html")).unwrap().contains("<h1"));
    let (status, stdout, stderr) = highwater(&["fit", kept.to_str().unwrap(), "--format", "json"]);
    assert_eq!(status, 0, "{stderr}");
    let fit: Value = crate::harness::only_element(stdout);
    assert_eq!((&fit["exponent"], &fit["inputs"]["runs"]), (&Value::from(1), &Value::from(9)));
    assert!((3.0..3.45).contains(&fit["coefficient"].as_f64().unwrap()), "{fit}");
    assert_eq!(fit["declared"]["failures"], 0);
}

#[test]
fn where_there_is_no_place_for_the_inputs_that_is_told() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = demo.arg("demo").env("TMPDIR", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("failed to create a directory for the inputs in /nonexistent"), "{said}");
    assert!(said.contains("TMPDIR"), "{said}");
}
