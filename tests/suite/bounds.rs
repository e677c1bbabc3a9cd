//! Files from others lead to a result or one clear error, within bounds of time and memory.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use assert_cmd::Command;

/// More than any of these commands takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the program with at most 2 GB of address space.
fn bounded(arguments: &str) -> Output {
    let script = format!("ulimit -v 2000000; exec {} {arguments}", env!("CARGO_BIN_EXE_highwater"));
    Command::new("sh").args(["-c", &script]).timeout(PATIENCE).output().unwrap()
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name).display().to_string()
}

#[test]
fn a_template_that_grows_or_misses_something_is_refused() {
    for (file, code) in [("undefined-attribute", "template-undefined"), ("growing-string", "template-too-long")] {
        for command in ["validate", "predict"] {
            let output = bounded(&format!("{command} {}", fixture(&format!("tasks/bad/{file}.json"))));
            let stderr = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(2), "{command} {file}: {stderr}");
            assert!(stderr.contains(code), "{command} {file}: {stderr}");
        }
    }
}

#[test]
fn peaks_of_zero_are_judged() {
    let records = fixture("records/peaks-of-zero.jsonl");
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("baseline.json").display().to_string();
    let output = bounded(&format!("check --records {records} --baseline {baseline} --update-baseline"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = bounded(&format!("check --records {records} --baseline {baseline}"));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = bounded(&format!("check --records {records}"));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("the task has no baseline"));
    let report = String::from_utf8(bounded(&format!("report {records}")).stdout).unwrap();
    assert!(report.contains("MEASURED: segment peaked at 0 B"), "no limit is tight for nothing: {report}");
    let output = bounded(&format!("fit {records}"));
    assert_eq!(output.status.code(), Some(5), "{output:?}");
}

#[test]
fn a_baseline_without_an_end_is_replaced() {
    let records = fixture("records/peaks-of-zero.jsonl");
    let output = bounded(&format!("check --records {records} --baseline /dev/zero --update-baseline"));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("replacing this unusable baseline"), "{stderr}");
}

#[test]
fn a_line_without_an_end_is_no_record() {
    for command in ["show", "report", "export", "logs", "check --records"] {
        let output = bounded(&format!("{command} /dev/zero"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("/dev/zero:1: the line is larger than 64 MiB"), "{command}: {stderr}");
        assert_eq!(output.status.code(), Some(2), "{command}: {stderr}");
    }
}

#[test]
fn a_file_without_an_end_is_no_table_plan_or_document() {
    for command in ["fit /dev/zero", "backtest --rule 1*n /dev/zero", "import /dev/zero", "sweep --file /dev/zero"] {
        let output = bounded(command);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("a line is larger than 64 MiB"), "{command}: {stderr}");
        assert_eq!(output.status.code(), Some(2), "{command}: {stderr}");
    }
    for command in ["validate", "predict"] {
        let output = bounded(&format!("{command} /dev/zero"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("/dev/zero is larger than 4 MiB"), "{command}: {stderr}");
        assert_eq!(output.status.code(), Some(2), "{command}: {stderr}");
    }
}
