//! Tasks whose runtime limits its own memory, as a JVM does: what records, `fit`, `report` and `floor` say.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

use crate::fit_records::{Records, run, run_with};

/// A directory with a stand-in for Java.
fn with_java() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let java = folder.path().join("java");
    std::fs::write(&java, "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(&java, PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// highwater in this directory, with these variables and no others of runtimes.
fn highwater(folder: &Path, arguments: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    for name in ["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "JAVA_OPTS", "GOMEMLIMIT", "NODE_OPTIONS"] {
        command.env_remove(name);
    }
    let output = command.args(arguments).envs(env.iter().copied()).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The limits of runtimes in the records of this file.
fn recorded(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_runtimes = |record: Value| {
        let warnings = record["warnings"].as_array().cloned().unwrap_or_default();
        warnings.into_iter().filter(|warning| warning["code"] == "runtime-limit")
    };
    records.flat_map(of_runtimes).collect()
}

#[test]
fn a_record_has_the_limits_of_command_and_environment() {
    let folder = with_java();
    let limits = |arguments: &[&str], env: &[(&str, &str)]| {
        let record = folder.path().join("runs.jsonl");
        let _ = std::fs::remove_file(&record);
        let all = [&["run", "--quiet", "--record", "runs.jsonl"], arguments].concat();
        let (status, _, stderr) = highwater(folder.path(), &all, env);
        assert_eq!(status, Some(0), "{stderr}");
        recorded(&record)
    };
    let limit = |runtime: &str, setting: &str, mib: u64| json!({"code": "runtime-limit", "runtime": runtime, "setting": setting, "bytes": mib << 20});
    assert_eq!(limits(&["--", "./java", "-Xmx64m", "A"], &[]), [limit("java", "-Xmx64m", 64)]);
    let option = [("JAVA_TOOL_OPTIONS", "-Xmx96m")];
    assert_eq!(limits(&["--", "./java", "A"], &option), [limit("java", "-Xmx96m in JAVA_TOOL_OPTIONS", 96)]);
    assert_eq!(
        limits(&["--env", "GOMEMLIMIT=32MiB", "--", "true"], &[("NODE_OPTIONS", "--max-old-space-size=8")]),
        [limit("go", "GOMEMLIMIT=32MiB", 32), limit("node", "--max-old-space-size=8 in NODE_OPTIONS", 8)]
    );
    assert!(limits(&["--", "true"], &[]).is_empty());
    let [default] = limits(&["--", "./java", "A"], &[]).try_into().unwrap();
    assert_eq!((&default["runtime"], &default["setting"]), (&json!("java"), &Value::Null));
}

#[test]
fn a_heap_is_a_parameter_of_a_sweep() {
    let folder = with_java();
    let sweep = ["sweep", "--quiet", "--into", "records", "-P", "heap=512k,64m,1g", "--", "./java", "-Xmx{heap}", "A"];
    let (status, _, stderr) = highwater(folder.path(), &sweep, &[]);
    assert_eq!(status, Some(0), "{stderr}");
    let recorded = recorded(&folder.path().join("records/observations.jsonl"));
    let mut bytes: Vec<u64> = recorded.iter().filter_map(|limit| limit["bytes"].as_u64()).collect();
    bytes.sort_unstable();
    assert_eq!(bytes, [512 << 10, 64 << 20, 1 << 30]);
}

/// The run with this limit of a runtime.
fn limited(mut run: Value, setting: &str, bytes: u64) -> Value {
    run["schema_version"] = json!(2);
    run["warnings"] = json!([{"code": "runtime-limit", "runtime": "java", "setting": setting, "bytes": bytes}]);
    run
}

/// The warning of a fit about runtimes.
fn warning(fit: &Value) -> &Value {
    let warnings = fit["warnings"].as_array().unwrap();
    warnings.iter().find(|warning| warning["kind"] == "runtime-limit").unwrap_or_else(|| panic!("{fit}"))
}

#[test]
fn a_fit_over_inputs_says_that_the_peak_follows_the_limit_of_the_runtime() {
    let peaks = (1..=10_u64).map(|n| limited(run(n << 20, (90 << 20) + (n << 10)), "-Xmx64m", 64 << 20));
    let records = Records::new(peaks.clone());
    let expected = json!({"kind": "runtime-limit", "runs": 10, "settings": ["-Xmx64m"]});
    assert_eq!(warning(&records.json(&[])), &expected);
    let says = |records: &Records, arguments: &[&str], words: &str| {
        let (status, stdout, stderr) = records.highwater(arguments);
        let text = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(status == 0 && text.contains(words), "{words:?} is missing: {stdout}{stderr}");
    };
    let follows =
        "(-Xmx64m), and the peak may follow that limit rather than the input: the rule is for this setting alone";
    says(&records, &["fit", "runs.jsonl"], follows);
    says(&records, &["report", "runs.jsonl", "--format", "markdown"], follows);
    says(&records, &["report", "runs.jsonl"], "-Xmx64m limits the heap of Java to 64 MiB");
    let mixed = records.and([limited(run(11 << 20, 99 << 20), "-Xmx80m", 80 << 20)]);
    says(&mixed, &["fit", "runs.jsonl"], "a rule for runs with different settings is a mixture");
}

#[test]
fn a_fit_over_a_heap_reads_it_as_the_runtime_does() {
    let heaps = [("512k", 1 << 19), ("64m", 64 << 20), ("96m", 96 << 20), ("256m", 256 << 20), ("1g", 1 << 30_u64)];
    let runs = heaps.map(|(heap, bytes)| {
        let run = run_with(json!({"heap": heap}), (40 << 20) + bytes);
        limited(run, &format!("-Xmx{heap}"), bytes)
    });
    let records = Records::new(runs);
    for arguments in [&[][..], &["--predictor", "heap"]] {
        let fit = records.json(arguments);
        assert_eq!(fit["predictor"], "parameter heap");
        let (base, slope) = (&fit["request"]["base_bytes"], &fit["request"]["coefficient"]);
        let is_near = |value: &Value, expected: f64| (value.as_f64().unwrap() / expected - 1.0).abs() < 0.05;
        assert!(is_near(base, 41_943_040.0) && is_near(slope, 1.0), "{fit}");
        let limits = warning(&fit);
        assert_eq!((&limits["parameter"], &limits["runs"]), (&json!("heap"), &json!(5)));
    }
}

#[test]
fn floor_says_which_heap_belongs_to_it() {
    let folder = with_java();
    let floor = ["floor", "--quiet", "--precision", "20%", "--confirm", "1"];
    let command = ["--", "./java", "-Xmx64m", "A"];
    let (status, stdout, stderr) = highwater(folder.path(), &[&floor[..], &command].concat(), &[]);
    if status == Some(3) {
        return crate::harness::skip("limits cannot be enforced here");
    }
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stdout.contains("with      -Xmx64m limits the heap of Java to 64 MiB"), "{stdout}");
    let json = [&floor[..], &["--format", "json"], &command].concat();
    let (_, stdout, _) = highwater(folder.path(), &json, &[]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["runtime_limits"], json!([{"runtime": "java", "setting": "-Xmx64m", "bytes": 64 << 20}]));
    let (_, stdout, _) = highwater(folder.path(), &[&floor[..], &["--", "./java", "A"]].concat(), &[]);
    assert!(stdout.contains("by default to about") && stdout.contains("a share of the memory limit"), "{stdout}");
}
